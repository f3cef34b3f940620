//! Floor 4: the account's life, without HTTP.
//!
//! One use case a file: input, outcome, steps in order. A refusal has a stable code; what must not happen
//! ([`AccountError`]) is answered with 503 and nothing is half done; [`halt::Halt`] is either. Every outcome writes an
//! audit event.

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

use crate::config::{
    AccountSettings, MailLimits, PublicUrl, RoleSettings, SessionSettings, Tokens,
};
use crate::crypto::password::{HashError, PasswordPool};
use crate::crypto::ring::SignError;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::TokenKeys;
use crate::limit::CounterSets;
use crate::mail::{Mail, Mailer};
use crate::model::access::{Invalid, Scope};
use crate::model::account::{Account, AccountStatus, EmailAddress, Username};
use crate::model::clock::{Clock, Timestamp};
use crate::model::id::MailId;
use crate::model::identity::{Identity, Principal};
use crate::model::mail::QueuedMail;
use crate::model::route::Upstream;
use crate::role_source::{RoleSources, SourceDown};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::telemetry::log::with_causes;
use crate::telemetry::output::{Output, Unrecorded};

/// How long the delivery of a mail without a token is tried: three days, as mail servers do.
const NOTICE_LIFE: Duration = Duration::from_hours(72);

/// What the use cases share, as the snapshot hands it over.
#[derive(Debug)]
pub struct AccountsParts {
    /// Records at rest.
    pub store: Arc<dyn Store>,
    /// The hashing pool.
    pub passwords: Arc<PasswordPool>,
    /// Keys of digests and refresh tokens.
    pub token_keys: Arc<TokenKeys>,
    /// Signing keys.
    pub signing: Arc<SigningKeys>,
    /// Mail.
    pub mailer: Arc<dyn Mailer>,
    /// What is counted against limits.
    pub counters: Arc<CounterSets>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `[account]`
    pub account: AccountSettings,
    /// Mails that strangers can cause.
    pub mail_limits: MailLimits,
    /// `[tokens]`
    pub tokens: Tokens,
    /// `[session]`
    pub sessions: SessionSettings,
    /// `[roles]`
    pub roles: RoleSettings,
    /// Roles that other services give.
    pub role_sources: Arc<RoleSources>,
    /// Resource name to URL of the service that serves it; see [`resource_map`].
    pub resources: BTreeMap<String, String>,
    /// Where audit events are written.
    pub output: Arc<Output>,
}

/// The account's life: one method per use case, in the files of this module.
#[derive(Debug)]
pub struct Accounts {
    parts: AccountsParts,
    /// What an access token of a login carries: every declared scope except the gateway's own.
    login_scope: String,
}

/// A use case that could not be carried through. Nothing was done; the caller answers 503.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The store did not do what it was asked.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The hashing pool is full.
    #[error("cannot hash a password now")]
    Busy(#[from] HashError),
    /// A role source did not answer, and its last answer is too old or may not be taken.
    #[error("cannot read roles")]
    RoleSource(#[from] SourceDown),
    /// No access token could be signed.
    #[error("cannot sign an access token")]
    Sign(#[from] SignError),
    /// The audit trail is required, and cannot be written.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
    /// There is no room to count what must not go uncounted.
    #[error("cannot count against a limit")]
    Uncounted,
}

/// Who changes something that belongs to more than one account.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// The operator at the machine: may do what an administrator may.
    Operator,
    /// A caller, with the rights verified for this request.
    Caller(&'a Identity),
}

impl Accounts {
    /// Puts the use cases on their parts.
    #[must_use]
    pub fn new(parts: AccountsParts) -> Self {
        let scopes: Vec<&str> = parts
            .roles
            .scopes
            .iter()
            .filter(|scope| !scope.is_own())
            .map(Scope::as_str)
            .collect();
        let login_scope = scopes.join(" ");
        Self { parts, login_scope }
    }

    /// Resource name to URL of the service that serves it, as login and `me` tell it.
    #[must_use]
    pub fn resources(&self) -> &BTreeMap<String, String> {
        &self.parts.resources
    }

    /// The account settings that this configuration has.
    #[must_use]
    pub fn settings(&self) -> &AccountSettings {
        &self.parts.account
    }

    /// The active or disabled account that a person means by a name or an e-mail address, white space around it cut; a text
    /// that can be neither is nobody's.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn account_named(&self, text: &str) -> Result<Option<Account>, AccountError> {
        let store = &self.parts.store;
        let text = text.trim();
        let found = if text.contains('@') {
            match EmailAddress::parse(text) {
                Ok(identity) => store.account_by_identity(&identity).await?,
                Err(Invalid(_)) => None,
            }
        } else {
            match Username::parse(text) {
                Ok(username) => store.account_by_username(&username).await?,
                Err(Invalid(_)) => None,
            }
        };
        Ok(found)
    }

    /// Puts a mail into the outbox, where nothing hangs on it: the change that it tells of is made. If it is lost it is
    /// the operator who must act.
    async fn send(&self, to: &EmailAddress, mail: Mail) {
        if let Err(error) = self.post(to, &mail).await {
            let cause = with_causes(&error);
            tracing::error!(cause, "a mail did not get into the outbox and is lost");
        }
    }

    /// What a login carries: every declared scope except the gateway's own, with a space between two.
    #[must_use]
    pub fn login_scopes(&self) -> &str {
        &self.login_scope
    }

    /// Puts a mail into the outbox. Its delivery neither delays nor changes an answer: that would tell who has an account.
    async fn post(&self, to: &EmailAddress, mail: &Mail) -> Result<(), AccountError> {
        let Some(queued) = self.seal(to, mail, self.parts.clock.now()) else {
            return Ok(());
        };
        let id = queued.id.clone();
        self.parts.store.put_mail(queued).await?;
        self.parts.mailer.posted(&id).await;
        Ok(())
    }

    /// Makes a mail for the outbox. One that cannot be made, to an address that mails cannot carry for example, changes no
    /// answer either. `now`: when the life of the token in it began.
    fn seal(&self, to: &EmailAddress, mail: &Mail, now: Timestamp) -> Option<QueuedMail> {
        let life = match mail {
            Mail::ConfirmNew { .. } | Mail::Invitation { .. } | Mail::ChangeIdentity { .. } => {
                self.parts.account.confirm_ttl
            }
            Mail::PasswordReset { .. } => self.parts.account.reset_ttl,
            Mail::IdentityTaken
            | Mail::UsernameTaken { .. }
            | Mail::PasswordChanged { .. }
            | Mail::NewLogin { .. }
            | Mail::IdentityChanging { .. }
            | Mail::IdentityChanged { .. } => NOTICE_LIFE,
        };
        let sealed = self.parts.mailer.seal(to, mail, now.plus(life));
        sealed
            .inspect_err(|error| {
                let cause = error.source.to_string();
                tracing::error!(cause, "a mail was not made and is lost");
            })
            .ok()
    }

    /// Says that a mail is in the outbox now, if there is one.
    async fn posted(&self, id: Option<MailId>) {
        if let Some(id) = id {
            self.parts.mailer.posted(&id).await;
        }
    }
}

impl Actor<'_> {
    /// Whether every membership and account is open to them.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        match self {
            Self::Operator => true,
            Self::Caller(identity) => is_administrator(identity),
        }
    }
}

/// Whether administration is open to a caller: only by `is_admin` of an account of ours, never by a claim or a role's
/// name; an API key needs `auth:admin` besides, and nobody passes before an owed change of password.
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

/// Resource name to the URL of the service that serves it: `public_url` and the upstream's `public_path`. Where two
/// upstreams announce the same resource the first one counts.
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
