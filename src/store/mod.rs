//! Floor 3: records at rest.
//!
//! The trait speaks in whole intents, each one transaction: an engine does all of it or nothing, and answers only once
//! it is durable. After the commit and before the answer the engine moves the generation of every uid whose rights may
//! have changed ([`generations`]), on its own thread, so that a caller who goes away leaves no stale cache behind.

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

use ipnet::IpNet;

pub use crate::store::contract::Store;

use crate::model::access::{Membership, Name, Role, Scope};
use crate::model::account::{
    Account, AccountStatus, ApiKey, Digest, EmailAddress, PasswordHash, Session,
};
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, SessionId, UserId};

/// Outcome of an intent that carries the account's [standing](Account::standing), as read before slow work such as hashing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Guarded<T> {
    /// Done.
    Done(T),
    /// The account has changed since, or is gone or not active: nothing was written.
    Stale,
}

/// Outcome of [`Store::create_account`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Creation {
    /// Written.
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
    /// The presented token was current and is now spent; the successor is current.
    Rotated(Session),
    /// The presented token is the newest spent one, within the grace: the successor, made before, stays current.
    Repeated(Session),
    /// The presented token was spent before that: the session has been ended.
    Reused(Session),
    /// No such session, ended, or not one of its tokens.
    Unknown,
}

/// Outcome of a change that names the level it believes to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum MembershipChange {
    /// Written.
    Done,
    /// The level there is another one: nothing was written.
    Conflict {
        /// The level that is there.
        found: Option<Name>,
    },
    /// There is no account of that uid, or none that is active where a membership is to be set: nothing was written.
    NoAccount,
    /// The account has as many memberships as one may have ([`bounds::MEMBERSHIPS_MAX`]), or the resource as many members
    /// ([`bounds::MEMBERS_MAX`]): nothing was written.
    Full,
}

/// Outcome of [`Store::change_identity`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum IdentityChange {
    /// The new address counts.
    Done {
        /// As it stands now.
        account: Account,
        /// The address it had.
        before: EmailAddress,
    },
    /// Another account has the new address meanwhile: the token is void.
    Taken,
    /// Unknown, used or expired, of another purpose, or its account is not active.
    Invalid,
}

/// An account that comes from elsewhere, active or disabled, and what is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedPerson {
    /// A number of its own in the import, by which conflicts name it; people come in the order of these.
    pub place: usize,
    /// The record.
    pub account: Account,
    /// Its keys, each with the account's uid.
    pub keys: Vec<ApiKey>,
    /// Its memberships, no two of the same resource and id.
    pub memberships: Vec<Membership>,
}

/// What stands in the way of a person, or of a key, in an import: an account here, or somebody who is staged already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportConflict {
    /// There is, or was, an account of that uid or record id.
    Uid,
    /// Another account has, or had, the name.
    Username,
    /// Another account has the address, in its normalized form.
    Identity,
    /// There is a key of that id.
    KeyId(KeyId),
    /// Somebody staged has the record id.
    StagedAccountId,
    /// Somebody staged has the name.
    StagedUsername,
    /// Somebody staged has the address, in its normalized form.
    StagedIdentity,
    /// A staged key has the id.
    StagedKeyId(KeyId),
}

/// What [`Store::step_import`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ImportStep {
    /// These accounts are there now, with all that is their own.
    Written(Vec<UserId>),
    /// So many people who were staged, and do not count, are gone.
    TakenBack(usize),
    /// Nothing is staged.
    Over,
}

/// What an administrator changes; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// Active or disabled; a pending account stays pending.
    pub status: Option<AccountStatus>,
    /// Administrator or not.
    pub is_admin: Option<bool>,
    /// Global roles, replacing those there; kept sorted.
    pub roles: Option<Vec<Role>>,
    /// The next login has the single role `pwchange`.
    pub password_must_change: Option<bool>,
    /// Whether its API keys are refused: all it has now.
    pub keys_suspended: Option<bool>,
}

/// What changes about an API key; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// What its owner calls it.
    pub name: Option<String>,
    /// What it may be used for; sorted.
    pub scopes: Option<Vec<Scope>>,
    /// When it ends; `Some(None)`: never.
    pub expires: Option<Option<Timestamp>>,
    /// Networks that it may come from; empty: all.
    pub allow_from: Option<Vec<IpNet>>,
    /// Requests in a minute; `Some(None)`: no limit.
    pub rate_per_minute: Option<Option<u32>>,
    /// The resource roles that it is limited to; `Some(None)`: all of its owner's.
    pub resources: Option<Option<Vec<Membership>>>,
    /// Another secret.
    pub secret: Option<NewSecret>,
    /// Whether it is refused.
    pub suspended: Option<bool>,
}

/// The secret that replaces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSecret {
    /// Of the new one.
    pub digest: Digest,
    /// Until when the old one is good beside it; `None`: no longer. One older still is void.
    pub overlap_until: Option<Timestamp>,
}

/// The new password that an intent sets, and what goes with it.
#[derive(Clone, Debug)]
pub struct NewPassword {
    /// The hash.
    pub hash: PasswordHash,
    /// End the account's API keys too.
    pub revoke_keys: bool,
}

/// What [`Store::rotate_refresh`] is given.
#[derive(Clone, Debug)]
pub struct RefreshRotation {
    /// Whose family.
    pub session: SessionId,
    /// Digest of the token that was presented.
    pub presented: Digest,
    /// Digest of its one successor.
    pub successor: Digest,
    /// Now.
    pub now: Timestamp,
    /// How long the newest spent token may come again.
    pub grace: Duration,
    /// When the session ends if it is not used again.
    pub idle_end: Timestamp,
}
