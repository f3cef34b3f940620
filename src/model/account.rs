//! Records of the account's life: accounts, sessions, API keys, one-time tokens.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::access::{Invalid, Role};
use crate::model::clock::Timestamp;
pub use crate::model::email::EmailAddress;
use crate::model::id::{AccountId, SessionId, SettingsId, UserId};
use crate::model::text::text_conversions;

/// What an account is called: 2 to 64 of `[a-z0-9._-]`, first a letter or digit, never `u-…`; upper case is folded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(Arc<str>);

impl Username {
    /// Folds ASCII upper case, then checks the rule.
    ///
    /// # Errors
    /// [`Invalid`] for a text that breaks it.
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

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_conversions!(Username, Invalid);

/// An Argon2id string with its parameters (PHC form), or an imported SHA-crypt string. Its `Debug` tells nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes a PHC string as `crypto::password` makes it.
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The rounds that an old hash `$5$…` (SHA-256-crypt) says it has; `None`: it is of another kind.
    ///
    /// Source: <https://www.akkadia.org/drepper/SHA-crypt.txt>, where 5,000 rounds hold when none are named.
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

/// 32 bytes that stand for a random token at rest: a SHA-256 or HMAC-SHA-256 value.
///
/// Compared in constant time by `crypto`; equality here serves as a map key only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// Where an account stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountStatus {
    /// Registered, no password yet; reserves neither name nor address.
    Pending,
    /// May log in.
    Active,
    /// Only an administrator enables it again.
    Disabled,
}

/// What logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user's stable id.
    pub uid: UserId,
    /// The record's id.
    pub account_id: AccountId,
    /// Kept for ever once the account was active.
    pub username: Username,
    /// Primary address.
    pub identity: EmailAddress,
    /// What the person is called; any text of at most 128 characters without control characters.
    pub name: String,
    /// Pending, active or disabled.
    pub status: AccountStatus,
    /// Gives the role `admin` and opens administration; nothing else does.
    pub is_admin: bool,
    /// Global roles beside `user` and `admin`, sorted.
    pub roles: Vec<Role>,
    /// The settings document that login names.
    pub settings_id: SettingsId,
    /// A login has the single role `pwchange` until the password is changed.
    pub password_must_change: bool,
    /// `None` while pending.
    pub password: Option<PasswordHash>,
    /// Counts revocations: changed password, status, role, level, scope or key, end of sessions. Logins never move it.
    pub generation: u64,
    /// How many of those say nothing of the account itself: changes of a membership's level, and sessions that gave way to
    /// a newer one.
    #[serde(default)]
    pub level_changes: u64,
    /// When it was registered.
    pub created: Timestamp,
}

impl Account {
    /// Its global roles, sorted, no two alike: `user`, what administrators gave it, and with `as_admin` also `admin`.
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

    /// What a write that follows a slow check carries: the generation without the changes of levels.
    ///
    /// Neither a login nor a new password or key depends on a level, which is read for each request. And others set
    /// levels: whoever manages one resource could keep anybody from logging in by setting theirs over and over.
    #[must_use]
    pub const fn standing(&self) -> u64 {
        self.generation.saturating_sub(self.level_changes)
    }
}

/// One login and what came of it: the family of refresh tokens that began with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Claim `sid`.
    pub id: SessionId,
    /// Whose.
    pub uid: UserId,
    /// When the login was.
    pub created: Timestamp,
    /// When a refresh token was last used; for a session cookie some use within the last minute of use.
    pub last_seen: Timestamp,
    /// From which client network, as text.
    pub from: String,
    /// Unused until then, it ends.
    pub idle_end: Timestamp,
    /// It ends then, used or not.
    pub absolute_end: Timestamp,
    /// Digest of the refresh token that is current.
    pub refresh: Digest,
    /// Digests of refresh tokens already used, newest last, at most 8; the newest may be used again within the grace.
    pub spent: Vec<Digest>,
    /// When the last rotation was.
    pub rotated: Timestamp,
    /// The session cookies; `None`: the login was not by the form, and no cookie stands for it.
    #[serde(default)]
    pub cookies: Option<CookieDigests>,
}

/// Digests of the cookies that stand for one session. Each counts in its own place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieDigests {
    /// Of the cookie of the gateway's own host.
    pub own: Digest,
    /// Of the cookie for the subdomains, if there is one.
    pub domain: Option<Digest>,
}

/// A use of a session cookie, on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUse {
    /// Which session.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
    /// When the session ends now if it is not used again.
    pub idle_end: Timestamp,
}

impl Session {
    /// Whether it counts at `now`.
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
    /// Makes an active account's address the one that the token was mailed to.
    ChangeIdentity,
}

impl Purpose {
    /// Whether a token of this purpose may act on an account of this status: each purpose has its one status.
    #[must_use]
    pub fn fits(self, status: AccountStatus) -> bool {
        match self {
            Self::Confirm => status == AccountStatus::Pending,
            Self::Reset | Self::ChangeIdentity => status == AccountStatus::Active,
        }
    }
}

/// A secret that was mailed, at rest: bound to one account and one purpose, consumed once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeToken {
    /// SHA-256 of the token.
    pub digest: Digest,
    /// What for.
    pub purpose: Purpose,
    /// For which account.
    pub uid: UserId,
    /// When it was made; of older records it is not known, and long ago.
    #[serde(default)]
    pub created: Timestamp,
    /// Void from then on.
    pub expires: Timestamp,
    /// The address it was mailed to, where it makes that address count: [`Purpose::ChangeIdentity`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<EmailAddress>,
}

impl OneTimeToken {
    /// Whether it counts at `now`.
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
