//! Floor 3: records at rest.
//!
//! Each method of the trait is a whole intent and runs as one transaction: an engine applies all of it or nothing, and
//! answers only once it is durable. After the commit and before the answer the engine advances the generation of every
//! uid whose rights may have changed ([`generations`]). It does so on its own thread, so a cancelled call leaves no
//! stale cache entry behind.

pub mod backup;
pub mod bounds;
pub mod cached;
mod contract;
pub(crate) mod engine;
pub mod error;
#[cfg(test)]
pub(crate) mod faulty;
pub mod generations;
mod inspect;
mod intents;
pub mod key_files;
mod key_findings;
mod layout;
pub mod memory;
#[cfg(test)]
mod model_check;
mod reads;
mod record;
pub mod sled;
mod staged;
#[cfg(test)]
mod test_kit;
mod transaction;
pub mod uses;

use std::time::Duration;

pub use crate::store::contract::Store;
pub(crate) use crate::store::error::{Result, StoreError};
pub(crate) use crate::store::transaction::{Changes, RecordEntry, Records, Transaction};

use crate::model::access::{Membership, Name, Role};
use crate::model::account::{Account, AccountStatus, Digest, EmailAddress, PasswordHash, Session};
use crate::model::api_key::{ApiKey, KeyTerms};
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, SessionId, UserId};

/// Outcome of an intent that carries the account's [standing](Account::standing), read before slow work such as
/// hashing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Guarded<T> {
    /// Done.
    Done(T),
    /// The account has changed since, is gone or is not active: nothing was written.
    Stale,
}

/// Outcome of [`Store::create_account`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Creation {
    /// The account was written.
    Created,
    /// Another active or disabled account has the name: nothing was written.
    UsernameTaken,
    /// Another active or disabled account has the address, in its normalized form: nothing was written.
    IdentityTaken,
}

/// Outcome of [`Store::rotate_refresh`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Rotation {
    /// The presented token was current and is now spent; its successor is current.
    Rotated(Session),
    /// The presented token is the most recently spent one, within the grace period: its existing successor stays
    /// current.
    Repeated(Session),
    /// The presented token was spent earlier: the session has been ended.
    Reused(Session),
    /// The session does not exist, has ended or never had this token.
    Unknown,
}

/// Outcome of a membership change that names the level it expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum MembershipChange {
    /// The change was written.
    Done,
    /// The stored level differs from the expected one: nothing was written.
    Conflict {
        /// The stored level.
        found: Option<Name>,
    },
    /// No account has this uid, or it is not active and a membership was to be set: nothing was written.
    NoAccount,
    /// The account already has the maximum number of memberships ([`bounds::MEMBERSHIPS_MAX`]), or the resource the
    /// maximum number of members ([`bounds::MEMBERS_MAX`]): nothing was written.
    Full,
}

/// Outcome of [`Store::change_identity`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum IdentityChange {
    /// The account has the new address.
    Done {
        /// The account after the change.
        account: Account,
        /// The previous address.
        before: EmailAddress,
    },
    /// Another account has taken the new address in the meantime: the token is void.
    Taken,
    /// The token is unknown, used, expired or for another purpose, or its account is not active.
    Invalid,
}

/// An account to import, active or disabled, with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedPerson {
    /// Number unique within the import, by which conflicts refer to this person; people are in ascending order of it.
    pub place: usize,
    /// The account record.
    pub account: Account,
    /// Its API keys, each with the account's uid.
    pub keys: Vec<ApiKey>,
    /// Its memberships, at most one for each resource and id.
    pub memberships: Vec<Membership>,
}

/// A conflict that excludes a person or an API key from an import: with the store, or with someone staged earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportConflict {
    /// The uid or record id is or was in use by an account.
    Uid,
    /// The name is or was in use by another account.
    Username,
    /// The address, in its normalized form, is in use by another account.
    Identity,
    /// The API key id is in use.
    KeyId(KeyId),
    /// The record id belongs to a staged person.
    StagedAccountId,
    /// The name belongs to a staged person.
    StagedUsername,
    /// The address, in its normalized form, belongs to a staged person.
    StagedIdentity,
    /// The id belongs to a staged API key.
    StagedKeyId(KeyId),
}

/// Outcome of [`Store::step_import`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ImportStep {
    /// These accounts have been written, with everything that belongs to them.
    Written(Vec<UserId>),
    /// This many staged people of an uncommitted import have been removed.
    TakenBack(usize),
    /// Nothing is staged any more.
    Over,
}

/// Changes by an administrator; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// Active or disabled; a pending account stays pending.
    pub status: Option<AccountStatus>,
    /// Whether the account is an administrator.
    pub is_admin: Option<bool>,
    /// Global roles that replace the present ones; kept sorted.
    pub roles: Option<Vec<Role>>,
    /// Whether the next login gets only the role `pwchange`.
    pub password_must_change: Option<bool>,
    /// Whether all API keys that the account has now are suspended.
    pub keys_suspended: Option<bool>,
}

/// Changes to an API key; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// All of its terms from now on.
    pub terms: Option<KeyTerms>,
    /// A new secret.
    pub secret: Option<NewSecret>,
    /// Whether it is suspended.
    pub suspended: Option<bool>,
}

/// A secret that replaces the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSecret {
    /// Digest of the new secret.
    pub digest: Digest,
    /// Until when the previous secret is also accepted; `None`: it is void at once. Older secrets are void in any case.
    pub overlap_until: Option<Timestamp>,
}

/// The new password that an intent sets, with its consequences.
#[derive(Clone, Debug)]
pub struct NewPassword {
    /// The hash.
    pub hash: PasswordHash,
    /// Whether to revoke the account's API keys as well.
    pub revoke_keys: bool,
}

/// Arguments of [`Store::rotate_refresh`].
#[derive(Clone, Debug)]
pub struct RefreshRotation {
    /// The session that the token belongs to.
    pub session: SessionId,
    /// Digest of the presented token.
    pub presented: Digest,
    /// Digest of its only successor.
    pub successor: Digest,
    /// The current time.
    pub now: Timestamp,
    /// How long the most recently spent token is accepted again.
    pub grace: Duration,
    /// When the session expires unless it is used again.
    pub idle_end: Timestamp,
}
