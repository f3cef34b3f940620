//! Floor 3: mails to people.
//!
//! A mail is rendered and sealed here, waits in the store's outbox, and leaves by a [`transport::Transport`]. The
//! [`delivery`] moves it there, so that no answer to a caller waits for a mail server.

pub mod delivery;
mod letter;
mod message;
pub mod post;
mod template;
pub mod transport;

use async_trait::async_trait;

pub use crate::mail::letter::Letter;
pub use crate::mail::post::check;
use crate::model::account::EmailAddress;
use crate::model::clock::Timestamp;
use crate::model::id::MailId;
use crate::model::mail::QueuedMail;
use crate::model::secret::Secret;

/// The subject of a mail; each variant is a template.
#[derive(Clone, Debug)]
pub enum Mail {
    /// Confirm a registration: set the first password.
    ConfirmNew {
        /// One-time token of the link.
        token: Secret,
    },
    /// An administrator has created an account: set the first password.
    Invitation {
        /// One-time token of the link.
        token: Secret,
        /// User name of the account.
        username: String,
    },
    /// A registration with an address that already has an account.
    IdentityTaken,
    /// The address is free, but the user name is not: choose another.
    UsernameTaken {
        /// The requested user name.
        username: String,
    },
    /// Reset a password.
    PasswordReset {
        /// One-time token of the link.
        token: Secret,
        /// User name of the account.
        username: String,
    },
    /// The password was changed.
    PasswordChanged {
        /// User name of the account.
        username: String,
    },
    /// A login that may not have been the owner's.
    NewLogin {
        /// User name of the account.
        username: String,
        /// The client network of the login.
        network: String,
        /// Number of failed passwords in a row before it; 0 if too few to mention.
        failures: u32,
    },
    /// To a new address: the token that confirms it.
    ChangeIdentity {
        /// One-time token of the link.
        token: Secret,
        /// User name of the account.
        username: String,
    },
    /// To the current address: a change was requested.
    IdentityChanging {
        /// User name of the account.
        username: String,
    },
    /// To the previous address: it was replaced.
    IdentityChanged {
        /// User name of the account.
        username: String,
    },
}

/// A mail that cannot be created. Its cause contains no address and no token.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a mail")]
pub struct MailError {
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl MailError {
    fn new(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            source: Box::new(source),
        }
    }

    /// Creates an error with a text of the gateway, where the library's might contain an address.
    fn because(why: impl Into<String>) -> Self {
        Self {
            source: why.into().into(),
        }
    }
}

/// Creates mails for the outbox.
#[async_trait]
pub trait Mailer: Send + Sync + std::fmt::Debug + 'static {
    /// Renders and seals a mail. The caller writes it to the outbox, preferably in the transaction that it reports on,
    /// and then calls [`Mailer::posted`].
    ///
    /// # Errors
    /// [`MailError`] if no mail can be sent to the address, or too many mails are waiting.
    fn seal(
        &self,
        to: &EmailAddress,
        mail: &Mail,
        expires: Timestamp,
    ) -> Result<QueuedMail, MailError>;

    /// Notifies the delivery of a mail in the outbox. If mails leave the machine, returns at once; otherwise after the
    /// first attempt, and after 2 s at the latest.
    async fn posted(&self, id: &MailId);

    /// Makes this mailer's transport the one for all waiting mails, after a change of the configuration.
    fn adopt(&self) {}
}
