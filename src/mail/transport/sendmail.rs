//! The transport `sendmail`: a program that reads a mail from its standard input.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::mail::OutgoingMessage;
use crate::mail::transport::{DeliveryError, Transport, is_program};

/// Maximum time of the program for one mail, which it only puts into a queue.
const RUN_MAX: Duration = Duration::from_mins(1);
/// The only environment variable of the program, since the others may hold secrets.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The exit code of `sysexits.h` for a recipient that does not exist.
const EX_NOUSER: i32 = 67;

/// Calls a program with the arguments of sendmail: `-i -f SENDER -- RECIPIENT`.
#[derive(Debug)]
pub(in crate::mail) struct Sendmail(pub(super) PathBuf);

impl Sendmail {
    async fn run(&self, letter: &OutgoingMessage) -> io::Result<ExitStatus> {
        let mut child = Command::new(&self.0)
            // With `-i` a line with a dot is not the end. After the dashes nothing is an option.
            .args(["-i", "-f", &letter.from, "--", &letter.to])
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ends the program on a timeout or at shutdown.
            .kill_on_drop(true)
            .spawn()?;
        let fed = match child.stdin.take() {
            Some(mut stdin) => {
                let fed = stdin.write_all(letter.message.as_bytes()).await;
                // Closed, since the end of the input ends the mail.
                drop(stdin);
                fed
            }
            None => Err(io::Error::other("it has no standard input")),
        };
        let status = child.wait().await?;
        // A program that has not read the whole mail has not accepted it, whatever its exit code is.
        if status.success() {
            fed?;
        }
        Ok(status)
    }
}

#[async_trait]
impl Transport for Sendmail {
    async fn deliver(&self, letter: &OutgoingMessage) -> Result<(), DeliveryError> {
        match tokio::time::timeout(RUN_MAX, self.run(letter)).await {
            Err(_) => Err(DeliveryError::Failed(format!(
                "the program did not end within {} s",
                RUN_MAX.as_secs()
            ))),
            Ok(Err(error)) => Err(DeliveryError::unreachable(error)),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) if status.code() == Some(EX_NOUSER) => {
                Err(DeliveryError::Refused(status.to_string()))
            }
            Ok(Ok(status)) => Err(DeliveryError::Failed(status.to_string())),
        }
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        is_program(&self.0).map_err(DeliveryError::unreachable)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use zeroize::Zeroizing;

    use super::*;

    /// Creates a program with these shell lines, in its own directory.
    fn program(dir: &Path, lines: &str) -> Sendmail {
        let path = dir.join("sendmail");
        // A file open for writing cannot be executed, and a parallel test that forks meanwhile keeps it open for a
        // moment: `deliver` retries.
        std::fs::write(dir.join("new"), format!("#!/bin/sh\n{lines}\n")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(dir.join("new"), mode).unwrap();
        std::fs::copy(dir.join("new"), &path).unwrap();
        Sendmail(path)
    }

    fn letter() -> OutgoingMessage {
        OutgoingMessage {
            from: "door@example.org".to_owned(),
            to: "-oQ@example.org".to_owned(),
            message: Zeroizing::new("To: a\n\n.\nend\n".to_owned()),
        }
    }

    async fn deliver(sendmail: &Sendmail) -> Result<(), DeliveryError> {
        // A parallel fork may hold the program open for writing for a moment.
        loop {
            match sendmail.deliver(&letter()).await {
                Err(DeliveryError::Unreachable(why)) if why.contains("busy") => {}
                outcome => return outcome,
            }
        }
    }

    #[tokio::test]
    async fn the_program_gets_sender_recipient_and_the_whole_mail() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "cd \"$(dirname \"$0\")\"; printf '%s\\n' \"$@\" >args; cat >mail; env >env";
        let sendmail = program(dir.path(), lines);
        sendmail.probe().await.unwrap();
        deliver(&sendmail).await.unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(
            read("args"),
            "-i\n-f\ndoor@example.org\n--\n-oQ@example.org\n"
        );
        assert_eq!(read("mail"), "To: a\n\n.\nend\n");
        assert!(!read("env").contains("CARGO"), "{}", read("env"));
    }

    #[tokio::test]
    async fn the_exit_code_decides_what_becomes_of_the_mail() {
        let dir = tempfile::tempdir().unwrap();
        for (lines, is_refused) in [
            ("cat >/dev/null; exit 75", false),
            ("exit 1", false),
            ("kill -9 $$", false),
            ("cat >/dev/null; exit 67", true),
        ] {
            let error = deliver(&program(dir.path(), lines)).await.unwrap_err();
            match error {
                DeliveryError::Refused(_) => assert!(is_refused, "{lines}"),
                DeliveryError::Failed(_) => assert!(!is_refused, "{lines}"),
                DeliveryError::Unreachable(_) => panic!("{lines}"),
            }
        }
        let missing = Sendmail(dir.path().join("missing"));
        let error = missing.deliver(&letter()).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unreachable(_)));
        assert!(missing.probe().await.is_err());
    }
}
