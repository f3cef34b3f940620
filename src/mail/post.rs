//! State that outlives a configuration of `[mail]`: the key of the outbox, and the queue and the state of the delivery.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use lettre::message::Mailbox;
use tokio::sync::{mpsc, oneshot};

use crate::config::MailSettings;
use crate::crypto::key_file::KeyFileError;
use crate::crypto::seal::SealKey;
use crate::crypto::token;
use crate::mail::letter::OutgoingMessage;
use crate::mail::template::Templates;
use crate::mail::transport::{self, Transport};
use crate::mail::{Mail, MailError, Mailer, message};
use crate::model::account::EmailAddress;
use crate::model::clock::{Clock, Timestamp};
use crate::model::id::MailId;
use crate::model::key_file::KeyFile;
use crate::model::mail::QueuedMail;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::output::Output;

/// Capacity of the queue to the delivery. A full one is no loss, since the delivery reads the whole outbox.
const CALLS_MAX: usize = 1024;
/// Maximum number of waiting mails: a few days without a mail server, but no full disk.
const QUEUED_MAX: i64 = 100_000;
/// Maximum time that a caller waits for the first attempt of a mail that stays on this machine.
const FIRST_TRY_MAX: Duration = Duration::from_secs(2);

/// A message to the delivery.
#[derive(Debug)]
pub enum PostCall {
    /// A mail is in the outbox.
    Posted {
        /// The mail.
        id: MailId,
        /// Dropped after the first attempt, for which a caller waits.
        tried: Option<oneshot::Sender<()>>,
    },
    /// The transport has changed.
    Changed,
    /// Finish the deliveries in progress, and end.
    End,
}

/// State that the delivery shares with the mailers of all configurations.
pub struct Post {
    key: SealKey,
    /// The clock of the timestamps of mails.
    pub(in crate::mail) clock: Arc<dyn Clock>,
    pub(in crate::mail) metrics: Arc<Metrics>,
    /// Standard output, for the transport `stdout`.
    output: Arc<Output>,
    transport: ArcSwapOption<Arc<dyn Transport>>,
    is_reached: AtomicBool,
    calls: mpsc::Sender<PostCall>,
    /// Present until the delivery takes it.
    heard: Mutex<Option<mpsc::Receiver<PostCall>>>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Post(..)")
    }
}

impl Post {
    /// Opens the key in `keys`, and creates it with mode 0600 if it is missing. Without a directory it lives as long as the
    /// process.
    ///
    /// # Errors
    /// An error if the file cannot be read or written, or is not a key.
    pub fn open(
        keys: Option<&Path>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        output: Arc<Output>,
    ) -> Result<Arc<Self>, KeyFileError> {
        let (calls, heard) = mpsc::channel(CALLS_MAX);
        Ok(Arc::new(Self {
            key: SealKey::open(keys, KeyFile::Mail.name())?,
            clock,
            metrics,
            output,
            transport: ArcSwapOption::empty(),
            is_reached: AtomicBool::new(true),
            calls,
            heard: Mutex::new(Some(heard)),
        }))
    }

    /// Builds the mailer of a configuration. The first one is adopted at once.
    ///
    /// # Errors
    /// Every problem that [`check`] finds.
    pub fn mailer(
        self: &Arc<Self>,
        settings: &MailSettings,
        public_url: &str,
    ) -> Result<Arc<dyn Mailer>, MailError> {
        let mailer = PostMailer {
            from: sender(settings)?,
            templates: Templates::new(settings, public_url).map_err(MailError::new)?,
            transport: transport::build(&settings.transport, &self.clock, &self.output)?,
            post: Arc::clone(self),
        };
        if self.transport.load().is_none() {
            mailer.adopt();
        }
        Ok(Arc::new(mailer))
    }

    /// The current transport; `None` before the first mailer.
    #[must_use]
    pub fn transport(&self) -> Option<Arc<dyn Transport>> {
        self.transport.load().as_deref().cloned()
    }

    /// Opens a mail of the outbox; `None`: it was sealed with another key.
    #[must_use]
    pub fn open_mail(&self, mail: &QueuedMail) -> Option<OutgoingMessage> {
        OutgoingMessage::open(&self.key, &mail.id, &mail.sealed)
    }

    /// Takes the queue of the delivery; `None`: another delivery has it.
    #[must_use]
    pub fn listen(&self) -> Option<mpsc::Receiver<PostCall>> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Ends the delivery after the attempts in progress.
    pub async fn end(&self) {
        // Without a delivery no attempt is in progress.
        let _ = self.calls.send(PostCall::End).await;
    }

    /// Whether the last attempt or probe succeeded.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Acquire)
    }

    /// Records whether an attempt or probe succeeded, and gives whether that has changed.
    pub fn note_reached(&self, is_reached: bool) -> bool {
        self.is_reached.swap(is_reached, Ordering::AcqRel) != is_reached
    }

    /// Replaces the transport.
    #[cfg(test)]
    pub(crate) fn adopt_for_test(&self, transport: Arc<dyn Transport>) {
        self.transport.store(Some(Arc::new(transport)));
    }

    fn call(&self, call: PostCall) {
        // With the channel full, the delivery is about to read the outbox anyway.
        let _ = self.calls.try_send(call);
    }
}

/// Returns the problems of the settings, each with its key and the expected value. Creates and sends nothing.
#[must_use]
pub fn check(settings: &MailSettings, public_url: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if sender(settings).is_err() {
        let expected = "a sender address for mails, such as Doorward <door@example.org>";
        found.push(("mail.from", expected.to_owned()));
    }
    if let Err(error) = Templates::new(settings, public_url) {
        found.push(("mail.templates", error.expected));
    }
    found.extend(transport::check(&settings.transport));
    found
}

fn sender(settings: &MailSettings) -> Result<Mailbox, MailError> {
    let from = settings.from.parse();
    from.map_err(|_| MailError::because("the sender is not a mailbox"))
}

/// A mailer for one configuration.
struct PostMailer {
    from: Mailbox,
    templates: Templates,
    transport: Arc<dyn Transport>,
    post: Arc<Post>,
}

impl fmt::Debug for PostMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostMailer(..)")
    }
}

#[async_trait]
impl Mailer for PostMailer {
    fn seal(
        &self,
        to: &EmailAddress,
        mail: &Mail,
        expires: Timestamp,
    ) -> Result<QueuedMail, MailError> {
        if QUEUED_MAX <= self.post.metrics.mails_queued().get() {
            return Err(MailError::because("too many mails are queued"));
        }
        let now = self.post.clock.now();
        let text = self.templates.render(mail).map_err(MailError::new)?;
        let letter = message::build(&self.from, to, &text, now).map_err(MailError::because)?;
        let id = token::draw_mail_id();
        let sealed = letter.seal(&self.post.key, &id);
        Ok(QueuedMail {
            id,
            sealed: sealed.ok_or_else(|| MailError::because("it cannot be encrypted"))?,
            created: now,
            expires,
            next_try: now,
            attempts: 0,
            refusals: 0,
        })
    }

    async fn posted(&self, id: &MailId) {
        self.post.metrics.mails_queued().inc();
        let (tried, answer) = oneshot::channel();
        let tried = self.transport.is_local().then_some(tried);
        let is_awaited = tried.is_some();
        let id = id.clone();
        self.post.call(PostCall::Posted { id, tried });
        if is_awaited {
            // Attempted or not, it is in the outbox.
            let _ = tokio::time::timeout(FIRST_TRY_MAX, answer).await;
        }
    }

    fn adopt(&self) {
        let transport = Arc::clone(&self.transport);
        self.post.transport.store(Some(Arc::new(transport)));
        self.post.call(PostCall::Changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MailLimits, MailTransport};
    use crate::model::clock::ManualClock;
    use crate::model::secret::Secret;

    /// A clock fixed at 2030-01-31T12:00:00Z.
    fn clock() -> Arc<dyn Clock> {
        let now = Timestamp::parse_rfc3339("2030-01-31T12:00:00Z").unwrap();
        Arc::new(ManualClock::at(now))
    }

    fn settings(directory: &Path) -> MailSettings {
        MailSettings {
            transport: MailTransport::File(directory.to_owned()),
            from: "Doorward <noreply@localhost>".to_owned(),
            confirm_link: "{public_url}/auth/confirm?token={token}".to_owned(),
            reset_link: "{public_url}/auth/reset?token={token}".to_owned(),
            templates: None,
            limits: MailLimits {
                per_address_per_hour: 3,
                per_network_per_hour: 10,
                per_hour: 1000,
            },
        }
    }

    fn token() -> Secret {
        Secret::new("q0Zt_-".repeat(7) + "A")
    }

    fn post() -> Arc<Post> {
        Post::open(
            None,
            clock(),
            Arc::new(Metrics::new()),
            Output::to_nowhere(),
        )
        .unwrap()
    }

    /// Seals a mail, opens it, and passes it to the transport, which writes a file.
    fn sent(public_url: &str, to: &str, mail: &Mail) -> Result<String, MailError> {
        let directory = tempfile::tempdir().unwrap();
        let post = post();
        let mailer = post
            .mailer(&settings(directory.path()), public_url)
            .unwrap();
        let to = EmailAddress::parse(to).unwrap();
        let expires = clock().now().plus(Duration::from_mins(1));
        let queued = mailer.seal(&to, mail, expires)?;
        assert_eq!((queued.expires, queued.next_try), (expires, clock().now()));
        let letter = post.open_mail(&queued).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let transport = post.transport().unwrap();
        runtime.block_on(transport.deliver(&letter)).unwrap();
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
            let mail = Mail::ConfirmNew { token: token() };
            let text = sent(public_url, "anna@example.org", &mail).unwrap();
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
        let text = sent("http://door.test", "Anna.B+x@Example.org", &mail).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap();
        for line in [
            "From: Doorward <noreply@localhost>",
            "To: Anna.B+x@Example.org",
            "Subject: Set a new password",
            "Date: Thu, 31 Jan 2030 12:00:00 +0000",
            "MIME-Version: 1.0",
            "Content-Type: multipart/alternative;",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.lines().any(|found| found == line), "{line}: {head}");
        }
        assert!(
            head.contains("\nMessage-ID: <") && head.contains("@localhost>"),
            "{head}"
        );
        assert!(body.contains("\"anna\"") && body.contains("<b>anna</b>"));
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
            let outcome = sent("http://door.test", address, &Mail::IdentityTaken);
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
        wrong.from = "a@b c".to_owned();
        wrong.templates = Some(directory.path().join("missing"));
        wrong.transport = MailTransport::Sendmail(directory.path().to_owned());
        assert!(post().mailer(&wrong, "http://door.test").is_err());
        let keys: Vec<_> = check(&wrong, "http://door.test")
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(
            keys,
            ["mail.from", "mail.templates", "mail.sendmail_command"]
        );
        let file = directory.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let wrong = settings(&file);
        assert!(post().mailer(&wrong, "http://door.test").is_err());
        let right = settings(directory.path());
        assert_eq!(check(&right, "http://door.test"), []);
    }

    #[test]
    fn an_outbox_that_is_full_takes_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let post = post();
        let mailer = post
            .mailer(&settings(directory.path()), "http://door.test")
            .unwrap();
        let to = EmailAddress::parse("anna@example.org").unwrap();
        let seal = || mailer.seal(&to, &Mail::IdentityTaken, clock().now());
        post.metrics.mails_queued().set(QUEUED_MAX - 1);
        assert!(seal().is_ok());
        post.metrics.mails_queued().set(QUEUED_MAX);
        assert!(seal().is_err());
    }

    #[test]
    fn another_configuration_counts_once_it_is_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let post = post();
        let first = settings(directory.path());
        let second = MailSettings {
            transport: MailTransport::Sendmail("/bin/true".into()),
            ..settings(directory.path())
        };
        let is_local = || post.transport().unwrap().is_local();
        post.mailer(&first, "http://door.test").unwrap();
        let other = post.mailer(&second, "http://door.test").unwrap();
        assert!(is_local());
        other.adopt();
        assert!(!is_local());
    }
}
