//! Floor 2: messages to people.

use async_trait::async_trait;

use crate::config::MailSettings;
use crate::model::account::EmailAddress;
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
}

/// A mail that did not leave. Its cause holds no address and no token.
#[derive(Debug, thiserror::Error)]
#[error("cannot hand a mail to its transport")]
pub struct MailError {
    /// The system's words.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Hands messages over.
#[async_trait]
pub trait Mailer: Send + Sync + std::fmt::Debug + 'static {
    /// Renders a mail and hands it to the transport; returns once it has it.
    async fn send(&self, to: &EmailAddress, mail: Mail) -> Result<(), MailError>;
}

/// Builds the mailer that the configuration asks for.
///
/// # Errors
/// When the sender is no mailbox or the directory cannot be made.
pub fn mailer(
    _settings: &MailSettings,
    _public_url: &str,
) -> Result<std::sync::Arc<dyn Mailer>, MailError> {
    todo!()
}
