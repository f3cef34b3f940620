//! Floor 3: mails to people.
//!
//! A mail is rendered and sealed here, waits in the store's outbox, and is sent by a [`transport::Transport`]. The
//! [`delivery`] takes it from the outbox, so an answer never waits for a mail server.

pub mod delivery;
mod letter;
mod message;
pub mod post;
mod template;
pub mod transport;

use async_trait::async_trait;

pub use crate::mail::letter::OutgoingMessage;
pub use crate::mail::post::check;
use crate::model::account::EmailAddress;
use crate::model::clock::Timestamp;
use crate::model::id::MailId;
use crate::model::mail::QueuedMail;
use crate::model::secret::Secret;

/// The purpose of a mail. Each has a template.
#[derive(Clone, Debug)]
pub enum Mail {
    /// A registration is to be confirmed by setting the first password.
    ConfirmNew {
        /// One-time token of the link.
        token: Secret,
    },
    /// An administrator created the account, whose first password is to be set.
    Invitation {
        /// One-time token of the link.
        token: Secret,
        /// Username of the account.
        username: String,
    },
    /// A registration used an address that has an account.
    IdentityTaken,
    /// A registration used a free address but a name that is taken.
    UsernameTaken {
        /// The name of the registration.
        username: String,
    },
    /// A password is to be reset.
    PasswordReset {
        /// One-time token of the link.
        token: Secret,
        /// Username of the account.
        username: String,
    },
    /// The password was changed.
    PasswordChanged {
        /// Username of the account.
        username: String,
    },
    /// A login may not have been the owner's.
    NewLogin {
        /// Username of the account.
        username: String,
        /// The client network of the login.
        network: String,
        /// Number of failed passwords in a row before it; 0: too few to mention.
        failures: u32,
    },
    /// To a new address, with the token that confirms it.
    ChangeIdentity {
        /// One-time token of the link.
        token: Secret,
        /// Username of the account.
        username: String,
    },
    /// To the current address, after a change was requested.
    IdentityChanging {
        /// Username of the account.
        username: String,
    },
    /// To the previous address, after the change.
    IdentityChanged {
        /// Username of the account.
        username: String,
    },
}

/// The error of a mail that cannot be sent. It contains no address and no token.
#[derive(Debug, thiserror::Error)]
#[error("cannot create a mail")]
pub struct MailError {
    /// The description of the problem.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl MailError {
    fn new(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            source: Box::new(source),
        }
    }

    /// An error without the library's text, which might contain an address.
    fn because(why: impl Into<String>) -> Self {
        Self {
            source: why.into().into(),
        }
    }
}

/// Creates mails for the outbox.
#[async_trait]
pub trait Mailer: Send + Sync + std::fmt::Debug + 'static {
    /// Renders and seals a mail. The caller writes it to the outbox, preferably in the transaction that the mail reports,
    /// and then calls [`Mailer::posted`].
    ///
    /// # Errors
    /// [`MailError`] if no mail can have the address, or too many mails wait.
    fn seal(
        &self,
        to: &EmailAddress,
        mail: &Mail,
        expires: Timestamp,
    ) -> Result<QueuedMail, MailError>;

    /// Notifies the delivery of a mail in the outbox. Returns at once if mails leave the machine. If they stay on it, waits
    /// for the first attempt, at most 2 s.
    async fn posted(&self, id: &MailId);

    /// Makes the delivery use the transport of this mailer, after a new configuration is applied.
    fn adopt(&self) {}
}
