//! Floor 2: messages to people.

mod file;
mod message;
mod outbox;
mod stdout;
mod template;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lettre::message::Mailbox;

use crate::config::{MailSettings, MailTransport};
use crate::mail::file::MailFiles;
use crate::mail::outbox::Outbox;
use crate::mail::template::Templates;
use crate::model::account::EmailAddress;
use crate::model::clock::{Clock, SystemClock};
use crate::model::secret::Secret;

/// What a mail is about; each is a template.
#[derive(Clone, Debug)]
pub enum Mail {
    /// Confirm a registration: set the first password.
    ConfirmNew {
        /// One-time token of the link.
        token: Secret,
    },
    /// Somebody registered with an address that has an account.
    IdentityTaken,
    /// The address is free, the name is not: ask for another.
    UsernameTaken {
        /// The name that was asked for.
        username: String,
    },
    /// Reset a password.
    PasswordReset {
        /// One-time token of the link.
        token: Secret,
        /// Whose account.
        username: String,
    },
    /// The password was changed.
    PasswordChanged {
        /// Whose account.
        username: String,
    },
    /// To a new address: the token that makes it count.
    ChangeIdentity {
        /// One-time token of the link.
        token: Secret,
        /// Whose account.
        username: String,
    },
    /// To the address that counts: another one was asked for.
    IdentityChanging {
        /// Whose account.
        username: String,
    },
    /// To the address that counted: another one does now.
    IdentityChanged {
        /// Whose account.
        username: String,
    },
}

/// A mail that did not leave. Its cause holds no address and no token.
#[derive(Debug, thiserror::Error)]
#[error("cannot hand a mail to its transport")]
pub struct MailError {
    /// The system's words.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl MailError {
    fn new(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            source: Box::new(source),
        }
    }

    /// An error in our own words, where the library's might hold an address.
    fn because(why: &'static str) -> Self {
        Self { source: why.into() }
    }
}

/// Hands messages over.
#[async_trait]
pub trait Mailer: Send + Sync + std::fmt::Debug + 'static {
    /// Renders a mail and hands it to the transport; returns once it has it.
    async fn send(&self, to: &EmailAddress, mail: Mail) -> Result<(), MailError>;
}

/// Builds the mailer that the configuration asks for.
///
/// Files and standard output are written by a thread of their own behind a queue of 256 messages: a full queue is an
/// error of `send`.
///
/// # Errors
/// When the sender is no mailbox, the directory cannot be made, or the system gives no thread.
pub fn mailer(settings: &MailSettings, public_url: &str) -> Result<Arc<dyn Mailer>, MailError> {
    build(settings, public_url, Arc::new(SystemClock::new()))
}

fn build(
    settings: &MailSettings,
    public_url: &str,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Mailer>, MailError> {
    let from = settings.from.parse();
    let from: Mailbox = from.map_err(|_| MailError::because("the sender is no mailbox"))?;
    let templates = Templates::new(public_url, &settings.confirm_link, &settings.reset_link);
    let outbox = match &settings.transport {
        MailTransport::File(directory) => {
            let mut files =
                MailFiles::open(directory, Arc::clone(&clock)).map_err(MailError::new)?;
            Outbox::start(move |message| files.write(message))
        }
        MailTransport::Stdout => {
            Outbox::start(|message| stdout::write(&mut std::io::stdout().lock(), message))
        }
    };
    Ok(Arc::new(LocalMailer {
        from,
        templates: templates.map_err(MailError::new)?,
        outbox: outbox.map_err(MailError::new)?,
        clock,
    }))
}

/// Renders mails and gives them to a transport of this machine.
struct LocalMailer {
    from: Mailbox,
    templates: Templates,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for LocalMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalMailer(..)")
    }
}

#[async_trait]
impl Mailer for LocalMailer {
    async fn send(&self, to: &EmailAddress, mail: Mail) -> Result<(), MailError> {
        let text = self.templates.render(&mail).map_err(MailError::new)?;
        let message =
            message::build(&self.from, to, &text, self.clock.now()).map_err(MailError::because)?;
        self.outbox.deliver(message).await.map_err(MailError::new)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{MailLimits, MailTransport};
    use crate::model::clock::{ManualClock, Timestamp};

    fn settings(directory: &Path) -> MailSettings {
        MailSettings {
            transport: MailTransport::File(directory.to_owned()),
            from: "Doorward <noreply@localhost>".to_owned(),
            confirm_link: "{public_url}/auth/confirm?token={token}".to_owned(),
            reset_link: "{public_url}/auth/reset?token={token}".to_owned(),
            limits: MailLimits {
                per_address_per_hour: 3,
                per_network_per_hour: 10,
            },
        }
    }

    fn token() -> Secret {
        Secret::new("q0Zt_-".repeat(7) + "A")
    }

    /// Sends with a clock that stands at 2030-01-31T12:00:00Z and reads what came.
    fn sent(public_url: &str, to: &str, mail: Mail) -> Result<String, MailError> {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::parse_rfc3339("2030-01-31T12:00:00Z").unwrap());
        let mailer = build(&settings(directory.path()), public_url, Arc::new(clock)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let to = EmailAddress::parse(to).unwrap();
        runtime.block_on(mailer.send(&to, mail))?;
        let mut entries = std::fs::read_dir(directory.path()).unwrap();
        let path = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none());
        Ok(std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn the_link_stands_on_a_line_of_its_own_as_it_is() {
        for (public_url, encoding) in [
            ("http://127.0.0.1:8080", "7bit"),
            (
                "https://a-rather-long-name-of-a-host.in-some-department.example.org:8443",
                "7bit",
            ),
            ("https://t\u{fc}r.example", "8bit"),
        ] {
            let text = sent(
                public_url,
                "anna@example.org",
                Mail::ConfirmNew { token: token() },
            );
            let text = text.unwrap();
            let link = format!("{public_url}/auth/confirm?token={}", token().expose());
            assert!(text.lines().any(|line| line == link), "{text}");
            let header = format!("Content-Transfer-Encoding: {encoding}");
            assert!(text.lines().any(|line| line == header), "{text}");
        }
    }

    #[test]
    fn a_message_has_the_headers_that_it_needs() {
        let mail = Mail::PasswordReset {
            token: token(),
            username: "anna".to_owned(),
        };
        let text = sent("http://door.test", "Anna.B+x@Example.org", mail).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap();
        for line in [
            "From: Doorward <noreply@localhost>",
            "To: Anna.B+x@Example.org",
            "Subject: Set a new password",
            "Date: Thu, 31 Jan 2030 12:00:00 +0000",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.lines().any(|found| found == line), "{line}: {head}");
        }
        assert!(
            head.contains("\nMessage-ID: <") && head.contains("@localhost>"),
            "{head}"
        );
        assert!(body.contains("\"anna\""));
        assert!(!text.contains('\r'));
    }

    #[test]
    fn odd_addresses_are_an_error_or_a_mail_but_no_panic() {
        for (address, is_sent) in [
            ("a@b", true),
            ("anna@localhost", true),
            ("anna@[127.0.0.1]", false),
            ("J\u{fc}rgen@t\u{fc}r.example", true),
            ("..@-", false),
            ("anna@b..c", false),
            ("an:na@example.org", false),
            ("anna@exa[mple", false),
            ("'@'", false),
        ] {
            let outcome = sent("http://door.test", address, Mail::IdentityTaken);
            assert_eq!(outcome.is_ok(), is_sent, "{address}");
            if let Err(error) = outcome {
                assert!(!format!("{error:?}").contains(address), "{error:?}");
            }
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut wrong = settings(directory.path());
        wrong.from = "nobody".to_owned();
        assert!(mailer(&wrong, "http://door.test").is_err());
        let file = directory.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(mailer(&settings(&file), "http://door.test").is_err());
    }
}
