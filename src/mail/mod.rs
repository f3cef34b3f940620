//! Floor 3: messages to people.
//!
//! A mail is rendered and sealed here, waits in the store's outbox, and goes out by a [`transport::Transport`]. What takes
//! it from the outbox is [`delivery`]: an answer never waits for a mail server.

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

/// What a mail is about; each is a template.
#[derive(Clone, Debug)]
pub enum Mail {
    /// Confirm a registration: set the first password.
    ConfirmNew {
        /// One-time token of the link.
        token: Secret,
    },
    /// An administrator has made an account: set the first password.
    Invitation {
        /// One-time token of the link.
        token: Secret,
        /// What the account is called.
        username: String,
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
    /// Somebody has logged in, and it may not have been the owner.
    NewLogin {
        /// Whose account.
        username: String,
        /// From which client network.
        network: String,
        /// After so many failed passwords in a row; 0: too few to tell.
        failures: u32,
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

/// A mail that cannot be sent. Its cause holds no address and no token.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a mail")]
pub struct MailError {
    /// What is in the way.
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
    fn because(why: impl Into<String>) -> Self {
        Self {
            source: why.into().into(),
        }
    }
}

/// Makes mails for the outbox.
#[async_trait]
pub trait Mailer: Send + Sync + std::fmt::Debug + 'static {
    /// Renders a mail and seals it. Whoever calls writes it into the outbox, best in the transaction that makes it true,
    /// and then says so by [`Mailer::posted`].
    ///
    /// # Errors
    /// [`MailError`] when the address is none that a mail can carry, or too many mails wait.
    fn seal(
        &self,
        to: &EmailAddress,
        mail: &Mail,
        expires: Timestamp,
    ) -> Result<QueuedMail, MailError>;

    /// Says that a mail is in the outbox now. Returns at once where mails leave the machine; where they stay on it, once
    /// it has been tried, and after 2 s at the latest.
    async fn posted(&self, id: &MailId);

    /// From now on what waits goes out the way of this mailer: another configuration counts.
    fn adopt(&self) {}
}
