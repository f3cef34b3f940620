//! Stored records of accounts, sessions, API keys and one-time tokens.

use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::model::access::{Invalid, Role};
use crate::model::clock::Timestamp;
pub use crate::model::email::EmailAddress;
use crate::model::field::{CheckedField, InvalidField};
use crate::model::id::{AccountId, SessionId, SettingsId, UserId};
use crate::model::text::{printed_field, text_conversions};

/// An account's login name: 2 to 64 of `[a-z0-9._-]`, starting with a letter or digit, never `u-…`; upper case is
/// folded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(Arc<str>);

impl Username {
    /// Folds ASCII upper case, then checks the rule.
    ///
    /// # Errors
    /// [`Invalid`] for a text that breaks the rule.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let folded = text.to_ascii_lowercase();
        let fits = (2..=64).contains(&folded.len())
            && folded.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
            })
            && folded.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !folded.starts_with(UserId::PREFIX);
        if fits {
            Ok(Self(folded.into()))
        } else {
            Err(Invalid("username"))
        }
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_conversions!(Username, Invalid);

/// A username as typed: white space around it is trimmed.
impl CheckedField for Username {
    type Sent = String;

    const RULE: InvalidField = InvalidField {
        field: "username",
        expected: "2 to 64 of a-z 0-9 . _ -, starting with a letter or digit, but not with u-",
    };

    fn check(text: String) -> Option<Self> {
        Self::parse(text.trim()).ok()
    }

    fn schema() -> Schema {
        let pattern = r"^[ \t\r\n]*(?![Uu]-)[A-Za-z0-9][A-Za-z0-9._-]{1,63}[ \t\r\n]*$";
        json_schema!({ "type": "string", "pattern": pattern })
    }
}

printed_field! {
    /// A person's display name.
    PersonName, 1..=128, InvalidField {
        field: "name",
        expected: "1 to 128 characters, none of them a control character",
    }
}

/// An Argon2id string with its parameters (PHC form), or an imported SHA-crypt string. `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps a PHC string made by `crypto::password`.
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(phc)
    }

    /// Returns the PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the rounds of an imported `$5$…` hash (SHA-256-crypt); `None` for any other kind.
    ///
    /// Source: <https://www.akkadia.org/drepper/SHA-crypt.txt>; 5,000 rounds apply when none are named.
    #[must_use]
    pub fn sha_crypt_rounds(&self) -> Option<u32> {
        let rest = self.0.strip_prefix("$5$")?;
        match rest.strip_prefix("rounds=") {
            Some(named) => named.split_once('$')?.0.parse().ok(),
            None => Some(5000),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// The 32-byte digest that the store keeps of a random token: SHA-256 or HMAC-SHA-256.
///
/// `crypto` compares digests in constant time; `Eq` is only for use as a map key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// The state of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountStatus {
    /// Registered, without a password; reserves neither name nor address.
    Pending,
    /// May log in.
    Active,
    /// Cannot log in until an administrator enables it.
    Disabled,
}

/// The status that an administrator sets.
impl CheckedField for AccountStatus {
    type Sent = String;

    const RULE: InvalidField = InvalidField {
        field: "status",
        expected: "active or disabled",
    };

    fn check(text: String) -> Option<Self> {
        match text.as_str() {
            "active" => Some(Self::Active),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": [Self::Active, Self::Disabled] })
    }
}

/// The stored record of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user's stable id.
    pub uid: UserId,
    /// The record's id.
    pub account_id: AccountId,
    /// The login name; kept for ever once the account has been active.
    pub username: Username,
    /// The primary address.
    pub identity: EmailAddress,
    /// The person's display name.
    pub name: PersonName,
    /// Pending, active or disabled.
    pub status: AccountStatus,
    /// Whether the account has the role `admin` and access to administration; nothing else grants either.
    pub is_admin: bool,
    /// Global roles besides `user` and `admin`, sorted.
    pub roles: Vec<Role>,
    /// The id of the settings document that a login returns.
    pub settings_id: SettingsId,
    /// Whether a login has only the role `pwchange` until the password is changed.
    pub password_must_change: bool,
    /// `None` while pending.
    pub password: Option<PasswordHash>,
    /// Number of revocations: changes of password, status, role, level, scope or key, and ended sessions. Logins do not
    /// change it.
    pub generation: u64,
    /// The part of `generation` that does not concern the account itself: changes of a membership's level, and sessions
    /// replaced by a newer one.
    #[serde(default)]
    pub level_changes: u64,
    /// Time of registration.
    pub created: Timestamp,
}

impl Account {
    /// Returns the global roles, sorted and distinct: `user`, the roles assigned by administrators, and `admin` if
    /// `as_admin`.
    #[must_use]
    pub fn global_roles(&self, as_admin: bool) -> Vec<Role> {
        let own = std::iter::once(Role::USER).chain(as_admin.then_some(Role::ADMIN));
        let mut roles: Vec<_> = own
            .filter_map(|text| Role::parse(text).ok())
            .chain(self.roles.iter().cloned())
            .collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// Returns the generation without changes of levels, which a write after a slow check compares.
    ///
    /// Neither a login nor a new password or key depends on a level, since levels are read for each request. Levels are
    /// also set by others: the manager of one resource could otherwise block an account's logins by setting its level
    /// over and over.
    #[must_use]
    pub const fn standing(&self) -> u64 {
        self.generation.saturating_sub(self.level_changes)
    }
}

/// An account as administrators and the operator see it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Account", description = "")]
pub struct ShownAccount {
    account_id: String,
    uid: String,
    username: String,
    identity: String,
    #[schemars(with = "String")]
    name: PersonName,
    #[schemars(schema_with = "status_schema")]
    status: AccountStatus,
    is_admin: bool,
    #[schemars(with = "Vec<String>")]
    roles: Vec<Role>,
    settings_id: String,
    password_must_change: bool,
    #[schemars(extend("format" = "date-time"))]
    created: String,
}

fn status_schema(_: &mut SchemaGenerator) -> Schema {
    use AccountStatus::{Active, Disabled, Pending};
    json_schema!({ "type": "string", "enum": [Pending, Active, Disabled] })
}

impl From<Account> for ShownAccount {
    fn from(account: Account) -> Self {
        Self {
            account_id: account.account_id.into(),
            uid: account.uid.into(),
            username: account.username.into(),
            identity: account.identity.into(),
            name: account.name,
            status: account.status,
            is_admin: account.is_admin,
            roles: account.roles,
            settings_id: account.settings_id.into(),
            password_must_change: account.password_must_change,
            created: account.created.to_rfc3339(),
        }
    }
}

/// A login and the family of refresh tokens that it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Claim `sid`.
    pub id: SessionId,
    /// The account's uid.
    pub uid: UserId,
    /// Time of the login.
    pub created: Timestamp,
    /// Last use of a refresh token; for a session cookie, some use within the last minute of use.
    pub last_seen: Timestamp,
    /// The client network of the login, as text.
    pub from: String,
    /// The session ends at this time if it is not used before.
    pub idle_end: Timestamp,
    /// The session ends at this time even if it is used.
    pub absolute_end: Timestamp,
    /// Digest of the current refresh token.
    pub refresh: Digest,
    /// Digests of used refresh tokens, newest last, at most 8; the newest is accepted again within the grace period.
    pub spent: Vec<Digest>,
    /// Time of the last rotation.
    pub rotated: Timestamp,
    /// The session cookies; `None` if the login did not use the form, so that no cookie authenticates the session.
    #[serde(default)]
    pub cookies: Option<CookieDigests>,
}

/// Digests of a session's cookies. Each is accepted only from its own cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieDigests {
    /// For the cookie of the gateway's own host.
    pub own: Digest,
    /// For the cookie of the subdomains, if there is one.
    pub domain: Option<Digest>,
}

/// A use of a session cookie that is yet to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUse {
    /// The session's id.
    pub session: SessionId,
    /// Time of the use.
    pub at: Timestamp,
    /// The new end of the session if it is not used again.
    pub idle_end: Timestamp,
}

impl Session {
    /// Whether the session is live at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.idle_end && now < self.absolute_end && !self.created.is_ahead(now)
    }
}

/// What a one-time token may be used for. One never stands for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Sets the first password of a pending account.
    Confirm,
    /// Sets a new password of an active account.
    Reset,
    /// Changes an active account's address to the one the token was mailed to.
    ChangeIdentity,
}

impl Purpose {
    /// Whether a token of this purpose may act on an account of this status: each purpose has exactly one status.
    #[must_use]
    pub fn fits(self, status: AccountStatus) -> bool {
        match self {
            Self::Confirm => status == AccountStatus::Pending,
            Self::Reset | Self::ChangeIdentity => status == AccountStatus::Active,
        }
    }
}

/// The stored form of a mailed secret: bound to one account and one purpose, consumed once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeToken {
    /// SHA-256 of the token.
    pub digest: Digest,
    /// Its purpose.
    pub purpose: Purpose,
    /// The account's uid.
    pub uid: UserId,
    /// Time of creation; the epoch for older records, which do not have it.
    #[serde(default)]
    pub created: Timestamp,
    /// Refused from this time on.
    pub expires: Timestamp,
    /// The address it was mailed to, for [`Purpose::ChangeIdentity`] only, which makes it the account's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<EmailAddress>,
}

impl OneTimeToken {
    /// Whether the token is live at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires && !self.created.is_ahead(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_from_before_there_were_cookies_are_read() {
        let text = r#"{"id":"s-abcdefgh","uid":"u-abcdefgh","created":1,"last_seen":1,"from":"","idle_end":2,
            "absolute_end":3,"refresh":REFRESH,"spent":[],"rotated":1}"#;
        let text = text.replace("REFRESH", &format!("{:?}", [7; 32]));
        let session: Session = serde_json::from_str(&text).unwrap();
        assert_eq!(session.cookies, None);
    }

    #[test]
    fn usernames_fold_and_keep_their_rule() {
        assert_eq!(Username::parse("Anna.B").unwrap().as_str(), "anna.b");
        for bad in [
            "a",
            "",
            "-ab",
            ".ab",
            "u-abc",
            "U-abc",
            "a b",
            "a@b",
            "\u{e4}nna",
            &"x".repeat(65),
        ] {
            assert!(Username::parse(bad).is_err(), "{bad}");
        }
    }
}
