//! Floor 2: records at rest.
//!
//! The trait speaks in whole intents, each one transaction: an engine does all of it or nothing, and answers only once
//! it is durable. After the commit and before the answer the engine moves the generation of every uid whose rights may
//! have changed ([`generations`]), on its own thread, so that a caller who goes away leaves no stale cache behind.

pub mod cached;
mod engine;
pub mod error;
pub mod generations;
mod intents;
mod layout;
pub mod memory;
mod reads;
mod record;
pub mod sled;
mod transaction;

use std::time::Duration;

use async_trait::async_trait;

use crate::model::access::{Membership, Name, ResourceId, Role};
use crate::model::account::{
    Account, AccountStatus, ApiKey, Digest, EmailAddress, OneTimeToken, PasswordHash, Session,
    Username,
};
use crate::model::clock::Timestamp;
use crate::model::id::{AccountId, KeyId, SessionId, UserId};
use crate::store::error::StoreError;
use crate::store::generations::Generations;

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
}

/// The new password that an intent sets, and what goes with it.
#[derive(Clone, Debug)]
pub struct NewPassword {
    /// The hash.
    pub hash: PasswordHash,
    /// End the account's API keys too.
    pub revoke_keys: bool,
}

/// Accounts, sessions, API keys, one-time tokens and memberships.
///
/// Reads give `Ok(None)` for what is not there. "Taken" means: by an active or disabled account; pending ones reserve
/// neither name nor address. All of it is safe to call from any task; nothing blocks the caller's thread.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// The generations that this engine moves.
    fn generations(&self) -> &Generations;

    /// The account of a uid, whatever its status.
    async fn account(&self, uid: &UserId) -> Result<Option<Account>, StoreError>;
    /// The account of a record id, whatever its status.
    async fn account_by_id(&self, id: &AccountId) -> Result<Option<Account>, StoreError>;
    /// The active or disabled account of a name.
    async fn account_by_username(&self, username: &Username)
    -> Result<Option<Account>, StoreError>;
    /// The active or disabled account of an address, compared without ASCII case.
    async fn account_by_identity(
        &self,
        identity: &EmailAddress,
    ) -> Result<Option<Account>, StoreError>;
    /// Whether an active or disabled account has this address in its normalized form.
    async fn identity_taken(&self, identity: &EmailAddress) -> Result<bool, StoreError>;
    /// The active or disabled account that has this address in its normalized form: to tell its owner, at the stored
    /// address, that somebody registers with it. Never for logging in.
    async fn identity_owner(&self, identity: &EmailAddress) -> Result<Option<Account>, StoreError>;
    /// Accounts in the order of their record ids, those after `after`, at most `limit`.
    async fn accounts(
        &self,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError>;
    /// A session that has not been ended; it may have expired.
    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError>;
    /// All sessions of a uid that have not been ended.
    async fn sessions_of(&self, uid: &UserId) -> Result<Vec<Session>, StoreError>;
    /// An API key that has not been revoked; it may have expired.
    async fn api_key(&self, id: &KeyId) -> Result<Option<ApiKey>, StoreError>;
    /// All API keys of a uid, in the order of their ids.
    async fn api_keys_of(&self, uid: &UserId) -> Result<Vec<ApiKey>, StoreError>;
    /// All memberships of a uid, sorted.
    async fn memberships_of(&self, uid: &UserId) -> Result<Vec<Membership>, StoreError>;
    /// All members of one resource with their levels, in the order of uids.
    async fn members_of(
        &self,
        resource: &Name,
        id: &ResourceId,
    ) -> Result<Vec<(UserId, Name)>, StoreError>;
    /// A one-time token that has not been consumed; it may have expired.
    async fn one_time_token(&self, digest: &Digest) -> Result<Option<OneTimeToken>, StoreError>;

    /// Writes a pending account together with its confirm token.
    async fn register(&self, account: Account, token: OneTimeToken) -> Result<(), StoreError>;
    /// Writes a reset token if its account is active, or a confirm token if it is pending; `false`: it is not.
    async fn put_token(&self, token: OneTimeToken) -> Result<bool, StoreError>;
    /// Writes an account that is active from the start (or pending, with a token put beside it later).
    async fn create_account(&self, account: Account) -> Result<Creation, StoreError>;
    /// Consumes a one-time token that has not expired at `now` and sets the password.
    ///
    /// Confirm: the account must be pending and its name and address not taken; it becomes active. Reset: the account
    /// must be active; `password_must_change` is cleared. Both void every other token of the account, end its
    /// sessions and move its generation. `None`: the token is unknown, used, expired, or its account does not fit; a
    /// confirm token whose name or address has been taken meanwhile is void.
    async fn set_password_by_token(
        &self,
        digest: &Digest,
        password: NewPassword,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError>;
    /// Sets another password of an active account whose standing is still `standing`, ends its sessions except
    /// `keep`, voids its one-time tokens, clears `password_must_change`, moves the generation.
    async fn change_password(
        &self,
        uid: &UserId,
        standing: u64,
        password: NewPassword,
        keep: Option<&SessionId>,
    ) -> Result<Guarded<Account>, StoreError>;
    /// Changes an account as an administrator does and moves its generation; disabling ends its sessions and voids its
    /// one-time tokens. `None`: no such account.
    async fn update_account(
        &self,
        uid: &UserId,
        change: AccountChange,
    ) -> Result<Option<Account>, StoreError>;
    /// Writes a session, and `rehash` if given, if the account is active and its standing still is `standing`.
    /// Moves no generation.
    async fn create_session(
        &self,
        session: Session,
        standing: u64,
        rehash: Option<PasswordHash>,
    ) -> Result<Guarded<()>, StoreError>;
    /// Spends a refresh token and makes its one successor current; see [`Rotation`]. `now` becomes `last_seen`,
    /// `idle_end` replaces the session's own. A session that is not live at `now`, or whose account is not active, is
    /// unknown.
    async fn rotate_refresh(&self, rotation: RefreshRotation) -> Result<Rotation, StoreError>;
    /// Ends one session of a uid and moves the account's generation; `false`: there is none.
    async fn end_session(&self, uid: &UserId, id: &SessionId) -> Result<bool, StoreError>;
    /// Ends all sessions of a uid except `keep`, moves the generation if there was one; how many there were.
    async fn end_sessions(
        &self,
        uid: &UserId,
        keep: Option<&SessionId>,
    ) -> Result<usize, StoreError>;
    /// Writes an API key, if its owner is active, its standing still is `standing` and the key id is free.
    async fn create_api_key(&self, key: ApiKey, standing: u64) -> Result<Guarded<()>, StoreError>;
    /// Ends an API key of a uid and moves the account's generation; `false`: there is none.
    async fn revoke_api_key(&self, uid: &UserId, id: &KeyId) -> Result<bool, StoreError>;
    /// Sets a membership if the level there is `expected`, and moves the generation.
    async fn set_membership(
        &self,
        uid: &UserId,
        membership: Membership,
        expected: Option<&Name>,
    ) -> Result<MembershipChange, StoreError>;
    /// Ends a membership if the level there is `expected`, and moves the generation; of a disabled account too, which
    /// would have it again otherwise.
    async fn end_membership(
        &self,
        uid: &UserId,
        resource: &Name,
        id: &ResourceId,
        expected: &Name,
    ) -> Result<MembershipChange, StoreError>;
    /// Removes what has expired at `now`: sessions, one-time tokens, and pending accounts that have none left. API keys
    /// stay. How many records went. Works in slices, each a transaction of its own, so that it holds nobody up.
    async fn purge(&self, now: Timestamp) -> Result<usize, StoreError>;
    /// Whether the engine can write: it writes and syncs a record of its own.
    async fn ready(&self) -> Result<(), StoreError>;
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
