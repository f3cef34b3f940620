//! A real mail server, aiosmtpd, which handles mails as the test specifies.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use crate::harness::gateway::Gateway;
use crate::harness::mailbox::{Mail, parse};
use crate::harness::tools::{harness_file, python};
use crate::harness::{free_port, wait_for};

/// The encryption of the server's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    None,
    Starttls,
    Required,
}

impl Tls {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Starttls => "starttls",
            Self::Required => "required",
        }
    }
}

/// A mail that the server accepted.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) mail: Mail,
    pub(crate) was_encrypted: bool,
    pub(crate) login: Option<String>,
}

/// A mail server that ends when it is dropped.
pub(crate) struct MailServer {
    dir: tempfile::TempDir,
    port: u16,
    tls: Tls,
    running: Mutex<Option<Child>>,
}

impl MailServer {
    /// Prepares everything except the process. The certificate is for 127.0.0.1, issued by the authority in `ca`.
    pub(crate) fn prepare(tls: Tls) -> Self {
        let server = Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
            tls,
            running: Mutex::new(None),
        };
        server.mode("accept");
        if tls != Tls::None {
            let made = script()
                .arg("certificates")
                .arg(server.dir.path())
                .status()
                .unwrap();
            assert!(made.success());
            server.identity("server");
        }
        server
    }

    pub(crate) fn start(tls: Tls) -> Self {
        let server = Self::prepare(tls);
        server.run();
        server
    }

    /// Sets how the server handles mails from now on.
    pub(crate) fn mode(&self, word: &str) {
        // Renamed, so that no reader sees half a word.
        let new = self.dir.path().join("mode.new");
        std::fs::write(&new, word).unwrap();
        std::fs::rename(new, self.dir.path().join("mode")).unwrap();
    }

    /// Sets the certificate that the server uses from its next start.
    pub(crate) fn identity(&self, name: &str) {
        let from = self.dir.path().join(format!("{name}.pem"));
        std::fs::copy(from, self.dir.path().join("identity.pem")).unwrap();
    }

    /// Sets the login that the server requires from its next start.
    pub(crate) fn login(&self, name: &str, password: &str) {
        std::fs::write(self.dir.path().join("login"), format!("{name} {password}")).unwrap();
    }

    /// Returns the file of an authority: `ca`, the server's own, or `other`.
    pub(crate) fn authority(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.pem"))
    }

    pub(crate) fn run(&self) {
        let log = self.dir.path().join("log");
        let mut child = script()
            .stderr(std::fs::File::create(&log).unwrap())
            .arg("serve")
            .arg(self.dir.path())
            .arg(self.port.to_string())
            .arg(self.tls.word())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let said = || std::fs::read_to_string(&log).unwrap();
        assert_eq!(
            line,
            "ready\n",
            "the mail server does not start: {}",
            said()
        );
        *self.running.lock().unwrap() = Some(child);
    }

    pub(crate) fn stop(&self) {
        if let Some(mut child) = self.running.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Returns the lines of `[mail]` for this server.
    pub(crate) fn config(&self, more: &str) -> String {
        let (port, tls) = (self.port, self.tls.word());
        let ca = match self.tls {
            Tls::None => String::new(),
            _ => format!("ca_file = \"{}\"", self.authority("ca").display()),
        };
        format!(
            "[mail]\ntransport = \"smtp\"\nsmtp_host = \"127.0.0.1\"\nsmtp_port = {port}\nsmtp_tls = \"{tls}\"\n\
             from = \"Door <door@example.org>\"\n{ca}\n{more}\n"
        )
    }

    /// Returns all mails accepted so far.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        let text = std::fs::read_to_string(self.dir.path().join("mails")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(taken).collect()
    }

    /// Waits until this number of mails has been accepted.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Taken> {
        wait_for(&format!("{count} mails at the server"), || {
            Some(self.taken()).filter(|taken| count <= taken.len())
        })
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn taken(line: &str) -> Taken {
    let json: Value = serde_json::from_str(line).unwrap();
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    Taken {
        from: text("from"),
        to: json["to"][0].as_str().unwrap().to_owned(),
        mail: parse(&text("data")),
        was_encrypted: json["tls"].as_bool().unwrap(),
        login: json["login"].as_str().map(str::to_owned),
    }
}

/// Returns a command that runs the server's program.
fn script() -> Command {
    let mut command = Command::new(python("python"));
    command.arg(harness_file("smtp_server.py"));
    command
}

impl Gateway {
    /// Returns the value of a metric.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let answer = self.admin_get("/metrics");
        let text = answer.text();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Returns the parts reported as degraded.
    pub(crate) fn degraded(&self) -> Vec<String> {
        let json = self.admin_get("/readyz").json();
        let names = json["degraded"].as_array().unwrap().iter();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }
}
