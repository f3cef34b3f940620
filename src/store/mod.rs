//! Floor 3: records at rest.
//!
//! The trait speaks in whole intents, each one transaction: an engine does all of it or nothing, and answers only once
//! it is durable. After the commit and before the answer the engine moves the generation of every uid whose rights may
//! have changed ([`generations`]), on its own thread, so that a caller who goes away leaves no stale cache behind.

pub mod backup;
pub mod bounds;
pub mod cached;
mod engine;
pub mod error;
#[cfg(test)]
pub(crate) mod faulty;
pub mod generations;
mod inspect;
mod intents;
pub mod key_files;
mod layout;
pub mod memory;
#[cfg(test)]
mod model_check;
mod reads;
mod record;
pub mod sled;
mod transaction;
pub mod uses;

use std::time::Duration;

use async_trait::async_trait;

use crate::limit::{Change, Kept, KeptKey};
use crate::model::access::{Membership, Name, ResourceId, Role};
use crate::model::account::{
    Account, AccountStatus, Digest, EmailAddress, OneTimeToken, PasswordHash, Session, SessionUse,
    Username,
};
use crate::model::api_key::{ApiKey, KeyTerms};
use crate::model::clock::Timestamp;
use crate::model::id::{AccountId, KeyId, MailId, SessionId, SettingsId, UserId};
use crate::model::mail::{DueMails, QueuedMail};
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

/// What changes about an API key; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// All of its terms from now on.
    pub terms: Option<KeyTerms>,
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

/// Accounts, sessions, API keys, one-time tokens, memberships, and the outbox of mails.
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
    /// Whether an active or disabled account has this name, or one that was removed had it.
    async fn username_taken(&self, username: &Username) -> Result<bool, StoreError>;
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
    /// The level of one membership.
    async fn membership(
        &self,
        uid: &UserId,
        resource: &Name,
        id: &ResourceId,
    ) -> Result<Option<Name>, StoreError>;
    /// Members of one resource with their levels, in the order of uids, those after `after`, at most `limit`.
    async fn members_of(
        &self,
        resource: &Name,
        id: &ResourceId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Name)>, StoreError>;
    /// A one-time token that has not been consumed; it may have expired.
    async fn one_time_token(&self, digest: &Digest) -> Result<Option<OneTimeToken>, StoreError>;
    /// The networks that an account is known to log in from, oldest first, at most 16.
    async fn networks_of(&self, uid: &UserId) -> Result<Vec<Digest>, StoreError>;
    /// The settings document of an account, or the shared one, as JSON text.
    async fn settings(&self, id: Option<&SettingsId>) -> Result<Option<String>, StoreError>;
    /// The most rounds of an account's old password hash, `$5$…`; 0: no account has one.
    async fn old_hash_rounds_max(&self) -> Result<u32, StoreError>;

    /// Mails of the outbox that are due at `now`, those that have waited longest first, at most `limit`.
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<DueMails, StoreError>;
    /// How many mails are in the outbox. Looks at each of them.
    async fn mail_count(&self) -> Result<usize, StoreError>;

    /// Writes a pending account together with its confirm token and the mail that carries it, if there are fewer than
    /// `pending_max` pending accounts, where that is given; `false`: there are not, and nothing was written.
    async fn register(
        &self,
        account: Account,
        token: OneTimeToken,
        mail: Option<QueuedMail>,
        pending_max: Option<u64>,
    ) -> Result<bool, StoreError>;
    /// Writes a reset token if its account is active, or a confirm token if it is pending, together with the mail that
    /// carries it; `false`: the account is not, and nothing was written. A token that changes the address, of an active
    /// account too, takes the place of the one before; of more than [`bounds::TOKENS_MAX`] tokens of an account the one
    /// that would expire first is void.
    async fn put_token(
        &self,
        token: OneTimeToken,
        mail: Option<QueuedMail>,
    ) -> Result<bool, StoreError>;
    /// Puts a mail into the outbox.
    async fn put_mail(&self, mail: QueuedMail) -> Result<(), StoreError>;
    /// Counts an attempt in vain and says when the next may be; `false`: there is no such mail any more.
    async fn postpone_mail(
        &self,
        id: &MailId,
        next_try: Timestamp,
        was_refused: bool,
    ) -> Result<bool, StoreError>;
    /// Takes a mail out of the outbox; `false`: there is none.
    async fn remove_mail(&self, id: &MailId) -> Result<bool, StoreError>;
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
    /// Gives an active account another display name. `None`: no such account.
    async fn rename(&self, uid: &UserId, name: String) -> Result<Option<Account>, StoreError>;
    /// Consumes a token of [`Purpose::ChangeIdentity`](crate::model::account::Purpose) that has not expired at `now`:
    /// its address becomes the account's, every other token of the account is void.
    async fn change_identity(
        &self,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<IdentityChange, StoreError>;
    /// Removes an account for ever, with its password, sessions, keys, memberships, tokens and settings. Its uid is
    /// never given out again, nor is its name if it was ever active; its address is free. `None`: no such account.
    async fn remove_account(&self, uid: &UserId) -> Result<Option<Account>, StoreError>;
    /// Writes the settings document of an active account, or with `None` the shared one; `false`: it is not active.
    async fn put_settings(
        &self,
        uid: Option<&UserId>,
        document: String,
    ) -> Result<bool, StoreError>;
    /// Stages people who come from elsewhere: they are nobody yet, and their names, addresses and ids are taken. Whom
    /// something stands in the way of is left out, and a key of whose id that is so; what does, by the person's place.
    ///
    /// One import at a time is for the caller to see to, and that nothing is staged before the first call.
    async fn stage_import(
        &self,
        people: Vec<ImportedPerson>,
    ) -> Result<Vec<(usize, ImportConflict)>, StoreError>;
    /// Says that all who are staged count: they will be there, whatever happens from now on.
    async fn commit_import(&self) -> Result<(), StoreError>;
    /// Writes some of those who are staged, or takes some back where they do not count. To be called until it is over, also
    /// after a start and after a failure; each call is a transaction of its own that holds nobody up.
    async fn step_import(&self) -> Result<ImportStep, StoreError>;
    /// Writes a session, and `rehash` if given, if the account is active and its standing still is `standing`.
    /// Moves the generation only where the account has [`bounds::SESSIONS_MAX`] sessions: then the one that was not used
    /// for the longest time ends, those that have expired first.
    async fn create_session(
        &self,
        session: Session,
        standing: u64,
        rehash: Option<PasswordHash>,
    ) -> Result<Guarded<()>, StoreError>;
    /// Adds to the networks that an active account is known to log in from, and writes the mail that tells of it; the
    /// oldest goes when there are more than 16. `false`: it is known already, or the account is not active, and nothing
    /// was written. Moves no generation.
    async fn remember_network(
        &self,
        uid: &UserId,
        network: Digest,
        mail: Option<QueuedMail>,
    ) -> Result<bool, StoreError>;
    /// Spends a refresh token and makes its one successor current; see [`Rotation`]. `now` becomes `last_seen`,
    /// `idle_end` replaces the session's own. A session that is not live at `now`, or whose account is not active, is
    /// unknown.
    async fn rotate_refresh(&self, rotation: RefreshRotation) -> Result<Rotation, StoreError>;
    /// Writes down uses of session cookies: `last_seen` and `idle_end` of each session that is live at its use, has a
    /// cookie and was not seen later. Moves no generation and voids nothing that is cached: no right comes of it.
    async fn note_session_uses(&self, uses: Vec<SessionUse>) -> Result<(), StoreError>;
    /// Ends one session of a uid and moves the account's generation; `false`: there is none.
    async fn end_session(&self, uid: &UserId, id: &SessionId) -> Result<bool, StoreError>;
    /// Ends all sessions of a uid except `keep`, moves the generation if there was one; how many there were.
    async fn end_sessions(
        &self,
        uid: &UserId,
        keep: Option<&SessionId>,
    ) -> Result<usize, StoreError>;
    /// Writes an API key, if its owner is active, its standing still is `standing` and the key id is free; `false`: the
    /// owner has [`bounds::KEYS_MAX`] keys, and nothing was written.
    async fn create_api_key(&self, key: ApiKey, standing: u64)
    -> Result<Guarded<bool>, StoreError>;
    /// Changes an API key of a uid, if its owner is active and its standing still is `standing`, and moves its
    /// generation.
    /// `None`: there is no such key.
    async fn update_api_key(
        &self,
        uid: &UserId,
        id: &KeyId,
        standing: u64,
        change: KeyChange,
    ) -> Result<Guarded<Option<ApiKey>>, StoreError>;
    /// Notes when API keys were used: beside their records, one time for each and none more often than once a minute. A
    /// key that is gone is passed over. Moves no generation.
    async fn note_keys_used(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError>;
    /// When API keys were used last, in the order of `ids`; `None`: that is not known.
    async fn keys_used(&self, ids: &[KeyId]) -> Result<Vec<Option<Timestamp>>, StoreError>;
    /// Ends an API key of a uid and moves the account's generation; `false`: there is none.
    async fn revoke_api_key(&self, uid: &UserId, id: &KeyId) -> Result<bool, StoreError>;
    /// Sets a membership if the level there is `expected` and there is room for one more, and moves the generation.
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
    /// stay. How many records went. Mails that wait for a moment that is ahead ([`Timestamp::is_ahead`]) are due then. Works in
    /// slices, each a transaction of its own, so that it holds nobody up.
    async fn purge(&self, now: Timestamp) -> Result<usize, StoreError>;
    /// Whether the engine can write: it writes and syncs a record of its own.
    async fn ready(&self) -> Result<(), StoreError>;

    /// All counters that are kept, in no order. They stand beside the records and no census counts them: a power cut may
    /// take what was kept last, and one that is damaged is left out.
    async fn counters(&self) -> Result<Vec<(KeptKey, Kept)>, StoreError>;
    /// Keeps counters, or removes them. They outlive the process, but are not synced one by one.
    async fn keep_counters(&self, changes: &[Change]) -> Result<(), StoreError>;
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
