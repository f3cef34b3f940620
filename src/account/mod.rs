//! Floor 5: the life cycle of accounts, without HTTP.
//!
//! Each file is one use case: input, outcome, steps in order. A refusal has a stable code. A failure ([`AccountError`])
//! is answered with 503 and leaves nothing half done. [`halt::Halt`] is either of them. Every outcome of a change
//! writes an audit event.

pub mod admin;
pub mod api_keys;
pub mod call;
pub mod guess;
pub mod halt;
pub mod import;
pub mod key_terms;
pub mod login;
mod login_notice;
pub mod logout;
mod mail_limit;
pub mod me;
pub mod members;
pub mod operator;
pub mod page;
pub mod password;
pub mod password_rules;
pub mod refresh;
pub mod register;
pub mod reset;
pub mod roles;
pub mod sessions;
pub mod settings;
#[cfg(test)]
pub(crate) mod test_kit;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AccountSettings, Config, PublicUrl};
use crate::crypto::password::HashError;
use crate::crypto::ring::SignError;
use crate::mail::Mail;
use crate::model::access::{Invalid, Scope};
use crate::model::account::{Account, AccountStatus, EmailAddress, Username};
use crate::model::clock::Timestamp;
use crate::model::id::MailId;
use crate::model::identity::{Identity, Principal};
use crate::model::mail::QueuedMail;
use crate::model::route::Upstream;
use crate::role_source::SourceDown;
use crate::services::Services;
use crate::store::error::StoreError;
use crate::telemetry::log::with_causes;
use crate::telemetry::output::Unrecorded;

/// How long delivery of a mail without a token is attempted: three days, as mail servers do.
const NOTICE_LIFE: Duration = Duration::from_hours(72);

/// The use cases of accounts: one method each, in the files of this module.
#[derive(Debug)]
pub struct Accounts {
    config: Arc<Config>,
    services: Arc<Services>,
    /// URL of the service for each resource name; see [`resource_map`].
    resources: BTreeMap<String, String>,
}

/// A failure to carry out a use case, answered with 503. Nothing was changed, unless the store cannot know whether it
/// was.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// An operation of the store failed.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The hashing pool is full.
    #[error("cannot hash a password at the moment")]
    Busy(#[from] HashError),
    /// A role source did not answer, and its last answer is too old or must not be used.
    #[error("cannot read roles")]
    RoleSource(#[from] SourceDown),
    /// No access token could be signed.
    #[error("cannot sign an access token")]
    Sign(#[from] SignError),
    /// The audit trail is required but cannot be written.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
    /// There is no room for a counter that a limit requires.
    #[error("cannot count against a limit")]
    Uncounted,
}

/// The author of a change to something that belongs to more than one account.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// The operator at the machine, with the rights of an administrator.
    Operator,
    /// A caller, with the rights verified for this request.
    Caller(&'a Identity),
}

impl Accounts {
    /// Creates the use cases of a configuration.
    #[must_use]
    pub fn new(config: Arc<Config>, services: Arc<Services>) -> Self {
        Self {
            resources: resource_map(&config.listen.public_url, &config.upstreams),
            config,
            services,
        }
    }

    /// Returns the URL of the service for each resource name, as login and `me` show it.
    #[must_use]
    pub fn resources(&self) -> &BTreeMap<String, String> {
        &self.resources
    }

    /// Returns the account settings of this configuration.
    #[must_use]
    pub fn settings(&self) -> &AccountSettings {
        &self.config.account
    }

    /// Returns the active or disabled account with this username or e-mail address, ignoring white space around it. A
    /// text that is neither matches no account.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn account_named(&self, text: &str) -> Result<Option<Account>, AccountError> {
        let text = text.trim();
        let found = if text.contains('@') {
            match EmailAddress::parse(text) {
                Ok(identity) => self.services.store.account_by_identity(&identity).await?,
                Err(Invalid(_)) => None,
            }
        } else {
            match Username::parse(text) {
                Ok(username) => self.services.store.account_by_username(&username).await?,
                Err(Invalid(_)) => None,
            }
        };
        Ok(found)
    }

    /// Puts a mail into the outbox after the change that it reports has been made. A lost mail does not fail the
    /// change; it is logged, because only the operator can act on it.
    async fn send(&self, to: &EmailAddress, mail: Mail) {
        if let Err(error) = self.post(to, &mail).await {
            let cause = with_causes(&error);
            tracing::error!(cause, "a mail could not be put into the outbox and is lost");
        }
    }

    /// Returns the scopes of a login, separated by spaces.
    #[must_use]
    pub fn login_scopes(&self) -> String {
        let scopes = self.config.roles.login_scopes().map(Scope::as_str);
        let scopes: Vec<_> = scopes.collect();
        scopes.join(" ")
    }

    /// Puts a mail into the outbox. Its delivery neither delays nor changes the response, which would reveal who has an
    /// account.
    async fn post(&self, to: &EmailAddress, mail: &Mail) -> Result<(), AccountError> {
        let Some(queued) = self.seal(to, mail, self.services.clock.now()) else {
            return Ok(());
        };
        let id = queued.id.clone();
        self.services.store.put_mail(queued).await?;
        self.services.mailer.posted(&id).await;
        Ok(())
    }

    /// Seals a mail for the outbox. A mail that cannot be sealed, for example for an address that mails cannot carry,
    /// does not change the response either. `now` is the time at which the life of its token began.
    fn seal(&self, to: &EmailAddress, mail: &Mail, now: Timestamp) -> Option<QueuedMail> {
        let life = match mail {
            Mail::ConfirmNew { .. } | Mail::Invitation { .. } | Mail::ChangeIdentity { .. } => {
                self.config.account.confirm_ttl
            }
            Mail::PasswordReset { .. } => self.config.account.reset_ttl,
            Mail::IdentityTaken
            | Mail::UsernameTaken { .. }
            | Mail::PasswordChanged { .. }
            | Mail::NewLogin { .. }
            | Mail::IdentityChanging { .. }
            | Mail::IdentityChanged { .. } => NOTICE_LIFE,
        };
        let sealed = self.services.mailer.seal(to, mail, now.plus(life));
        sealed
            .inspect_err(|error| {
                let cause = error.source.to_string();
                tracing::error!(cause, "a mail could not be created and is lost");
            })
            .ok()
    }

    /// Notifies the mailer that a mail is in the outbox, if there is one.
    async fn posted(&self, id: Option<MailId>) {
        if let Some(id) = id {
            self.services.mailer.posted(&id).await;
        }
    }
}

impl Actor<'_> {
    /// Whether the actor may access every membership and account.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        match self {
            Self::Operator => true,
            Self::Caller(identity) => is_administrator(identity),
        }
    }
}

/// Whether a caller may use administration. This requires `is_admin` of an account of this gateway, never a claim or
/// the name of a role. An API key also needs `auth:admin`, and a password that must change rules it out.
#[must_use]
pub fn is_administrator(identity: &Identity) -> bool {
    match &identity.principal {
        Principal::Own { account, session } => {
            account.is_admin
                && account.status == AccountStatus::Active
                && !account.password_must_change
                && (session.is_some() || identity.has_scope(Scope::ADMIN))
        }
        Principal::Foreign { .. } => false,
    }
}

/// Maps each resource name to the URL of its service, composed of `public_url` and the upstream's `public_path`. If two
/// upstreams announce the same resource, the first one counts.
#[must_use]
pub fn resource_map(public_url: &PublicUrl, upstreams: &[Upstream]) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for upstream in upstreams {
        for resource in &upstream.resources {
            map.entry(resource.as_str().to_owned())
                .or_insert_with(|| format!("{}{}", public_url.text, upstream.public_path));
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Name;

    #[test]
    fn the_resource_map_joins_public_url_and_path() {
        let public_url = PublicUrl {
            text: "https://door.example".to_owned(),
            scheme: "https".to_owned(),
            authority: "door.example".to_owned(),
            is_loopback: false,
        };
        let upstream = |name: &str, resource: &str, path: &str| Upstream {
            name: name.to_owned(),
            addresses: Vec::new(),
            resources: vec![Name::parse(resource).unwrap()],
            public_path: path.to_owned(),
            case_sensitive: false,
            keepalive_timeout: std::time::Duration::from_mins(1),
        };
        let map = resource_map(
            &public_url,
            &[
                upstream("a", "list", "/l"),
                upstream("b", "list", "/other"),
                upstream("c", "event", ""),
            ],
        );
        assert_eq!(map.get("list").unwrap(), "https://door.example/l");
        assert_eq!(map.get("event").unwrap(), "https://door.example");
    }
}
