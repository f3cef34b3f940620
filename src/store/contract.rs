//! The operations of the store, the same for every engine: each method is one read or one transaction.

use async_trait::async_trait;

use crate::limit::{CounterChange, KeptCounter, KeptKey};
use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::{
    Account, Digest, EmailAddress, OneTimeToken, PasswordHash, PersonName, Session, SessionUse,
    Username,
};
use crate::model::api_key::ApiKey;
use crate::model::clock::Timestamp;
use crate::model::id::{AccountId, KeyId, MailId, SessionId, SettingsId, UserId};
use crate::model::mail::{DueMails, QueuedMail};
use crate::store::engine::{Engine, EngineExt as _, decode_counters, encode_counters};
use crate::store::intents::{
    accounts, import, keys, mails, members, old_hashes, passwords, people, purge, sessions,
    settings,
};
use crate::store::{
    AccountChange, Creation, Guarded, IdentityChange, ImportConflict, ImportStep, ImportedPerson,
    KeyChange, MembershipChange, NewPassword, RefreshRotation, Result, Rotation, layout, reads,
};

/// Records that one slice of a purge reads: less than a millisecond of a reader's or the writer's time.
const PURGE_SLICE: usize = 200;

/// Accounts, sessions, API keys, one-time tokens, memberships, and the outbox of mails.
///
/// Reads return `Ok(None)` for a missing record. "Taken" means taken by an active or disabled account; pending ones
/// reserve neither name nor address. All methods are safe to call from any task and do not block the calling thread.
#[async_trait]
pub trait Store: Engine {
    /// Returns the account of a uid, whatever its status.
    async fn account(&self, uid: &UserId) -> Result<Option<Account>> {
        self.load(layout::account(uid)).await
    }

    /// Returns the account of a record id, whatever its status.
    async fn account_by_id(&self, id: &AccountId) -> Result<Option<Account>> {
        self.read(reads::account_by(layout::account_id(id))).await
    }

    /// Returns the active or disabled account of a name.
    async fn account_by_username(&self, username: &Username) -> Result<Option<Account>> {
        self.read(reads::account_by(layout::username(username)))
            .await
    }

    /// Returns the active or disabled account of an address, compared without ASCII case.
    async fn account_by_identity(&self, identity: &EmailAddress) -> Result<Option<Account>> {
        self.read(reads::account_by(layout::folded(identity))).await
    }

    /// Whether an active or disabled account has this name, or a removed one had it.
    async fn username_taken(&self, username: &Username) -> Result<bool> {
        Ok(self.load(layout::username(username)).await?.is_some())
    }

    /// Whether an active or disabled account has this address in its normalized form.
    async fn identity_taken(&self, identity: &EmailAddress) -> Result<bool> {
        Ok(self.load(layout::normalized(identity)).await?.is_some())
    }

    /// Returns the active or disabled account that has this address in its normalized form: to notify its owner, at the
    /// stored address, of a registration with it. Never for logging in.
    async fn identity_owner(&self, identity: &EmailAddress) -> Result<Option<Account>> {
        self.read(reads::account_by(layout::normalized(identity)))
            .await
    }

    /// Returns accounts in the order of their record ids, those after `after`, at most `limit`.
    async fn accounts(&self, after: Option<&AccountId>, limit: usize) -> Result<Vec<Account>> {
        let after = after.cloned();
        self.read(move |records| reads::accounts(records, after.as_ref(), limit))
            .await
    }

    /// Returns a session that has not been ended; it may have expired.
    async fn session(&self, id: &SessionId) -> Result<Option<Session>> {
        self.load(layout::session(id)).await
    }

    /// Returns all sessions of a uid that have not been ended.
    async fn sessions_of(&self, uid: &UserId) -> Result<Vec<Session>> {
        let uid = uid.clone();
        self.read(move |records| reads::sessions_of(records, &uid))
            .await
    }

    /// Returns an API key that has not been revoked; it may have expired.
    async fn api_key(&self, id: &KeyId) -> Result<Option<ApiKey>> {
        self.load(layout::api_key(*id)).await
    }

    /// Returns all API keys of a uid, in the order of their ids.
    async fn api_keys_of(&self, uid: &UserId) -> Result<Vec<ApiKey>> {
        let uid = uid.clone();
        self.read(move |records| reads::api_keys_of(records, &uid))
            .await
    }

    /// Returns all memberships of a uid, sorted.
    async fn memberships_of(&self, uid: &UserId) -> Result<Vec<Membership>> {
        let uid = uid.clone();
        self.read(move |records| reads::memberships_of(records, &uid))
            .await
    }

    /// Returns the level of one membership.
    async fn membership(
        &self,
        uid: &UserId,
        resource: &Name,
        id: &ResourceId,
    ) -> Result<Option<Name>> {
        self.load(layout::membership(uid, resource, id)).await
    }

    /// Returns the members of one resource with their levels, in the order of uids, those after `after`, at most
    /// `limit`.
    async fn members_of(
        &self,
        resource: &Name,
        id: &ResourceId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Name)>> {
        let (resource, id, after) = (resource.clone(), id.clone(), after.cloned());
        self.read(move |records| {
            reads::members_of(records, (&resource, &id), after.as_ref(), limit)
        })
        .await
    }

    /// Returns a one-time token that has not been consumed; it may have expired.
    async fn one_time_token(&self, digest: &Digest) -> Result<Option<OneTimeToken>> {
        self.load(layout::token(digest)).await
    }

    /// Returns the networks that an account is known to log in from, oldest first, at most 16.
    async fn networks_of(&self, uid: &UserId) -> Result<Vec<Digest>> {
        Ok(self.load(layout::networks(uid)).await?.unwrap_or_default())
    }

    /// Returns the settings document of an account, or the shared one, as JSON text.
    async fn settings(&self, id: Option<&SettingsId>) -> Result<Option<String>> {
        self.load(layout::settings(id)).await
    }

    /// Returns the highest number of rounds of an account's old password hash, `$5$…`; 0: no account has one.
    async fn old_hash_rounds_max(&self) -> Result<u32> {
        self.read(old_hashes::rounds_max).await
    }

    /// Returns mails of the outbox that are due at `now`, those that have waited longest first, at most `limit`.
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<DueMails> {
        self.read(move |records| reads::due_mails(records, now, limit))
            .await
    }

    /// Returns the number of mails in the outbox. Reads each of them.
    async fn mail_count(&self) -> Result<usize> {
        self.read(reads::mail_count).await
    }

    /// Writes a pending account with its confirm token and the mail that carries it. If `pending_max` is set and
    /// reached by the number of pending accounts, returns `false` and writes nothing.
    async fn register(
        &self,
        account: Account,
        token: OneTimeToken,
        mail: Option<QueuedMail>,
        pending_max: Option<u64>,
    ) -> Result<bool> {
        self.write(move |tx| accounts::register(tx, &account, &token, mail.as_ref(), pending_max))
            .await
    }

    /// Writes a reset token for an active account, or a confirm token for a pending one, with the mail that carries it;
    /// returns `false` and writes nothing if the account's status does not fit. A token that changes the address, which
    /// also needs an active account, replaces the previous one. Of more than [`TOKENS_MAX`](super::bounds::TOKENS_MAX)
    /// tokens of an account, the ones that would expire first are voided.
    async fn put_token(&self, token: OneTimeToken, mail: Option<QueuedMail>) -> Result<bool> {
        self.write(move |tx| accounts::put_token_of_account(tx, &token, mail.as_ref()))
            .await
    }

    /// Adds a mail to the outbox.
    async fn put_mail(&self, mail: QueuedMail) -> Result<()> {
        self.write(move |tx| mails::put(tx, &mail)).await
    }

    /// Counts a failed attempt to send a mail and schedules the next; returns `false` if the mail is no longer in the
    /// outbox.
    async fn postpone_mail(
        &self,
        id: &MailId,
        next_try: Timestamp,
        was_refused: bool,
    ) -> Result<bool> {
        let id = id.clone();
        self.write(move |tx| mails::postpone(tx, &id, next_try, was_refused))
            .await
    }

    /// Removes a mail from the outbox; returns `false` if it is not there.
    async fn remove_mail(&self, id: &MailId) -> Result<bool> {
        let id = id.clone();
        self.write(move |tx| mails::remove(tx, &id)).await
    }

    /// Writes an account that is active from the start (or pending, with a token written later).
    async fn create_account(&self, account: Account) -> Result<Creation> {
        self.write(move |tx| accounts::create(tx, &account)).await
    }

    /// Consumes a one-time token that has not expired at `now` and sets the password.
    ///
    /// Confirm: the account must be pending and its name and address not taken; it becomes active. Reset: the account
    /// must be active; `password_must_change` is cleared. Both void every other token of the account, end its sessions
    /// and advance its generation. `None`: the token is unknown, used or expired, or its account does not fit; a
    /// confirm token whose name or address has been taken in the meantime is void.
    async fn set_password_by_token(
        &self,
        digest: &Digest,
        password: NewPassword,
        now: Timestamp,
    ) -> Result<Option<Account>> {
        let digest = *digest;
        self.write(move |tx| passwords::set_by_token(tx, &digest, password, now))
            .await
    }

    /// Sets a new password of an active account whose standing is still `standing`, ends its sessions except `keep`,
    /// voids its one-time tokens, clears `password_must_change` and advances the generation.
    async fn change_password(
        &self,
        uid: &UserId,
        standing: u64,
        password: NewPassword,
        keep: Option<&SessionId>,
    ) -> Result<Guarded<Account>> {
        let (uid, keep) = (uid.clone(), keep.cloned());
        self.write(move |tx| passwords::change(tx, &uid, standing, password, keep.as_ref()))
            .await
    }

    /// Applies an administrator's changes to an account and advances its generation; disabling ends its sessions and
    /// voids its one-time tokens. `None`: no such account.
    async fn update_account(&self, uid: &UserId, change: AccountChange) -> Result<Option<Account>> {
        let uid = uid.clone();
        self.write(move |tx| accounts::update(tx, &uid, change))
            .await
    }

    /// Changes the display name of an active account. `None`: no such account.
    async fn rename(&self, uid: &UserId, name: PersonName) -> Result<Option<Account>> {
        let uid = uid.clone();
        self.write(move |tx| people::rename(tx, &uid, name)).await
    }

    /// Consumes a token of [`Purpose::ChangeIdentity`](crate::model::account::Purpose) that has not expired at `now`:
    /// its address becomes the account's, and every other token of the account is voided.
    async fn change_identity(&self, digest: &Digest, now: Timestamp) -> Result<IdentityChange> {
        let digest = *digest;
        self.write(move |tx| people::change_identity(tx, &digest, now))
            .await
    }

    /// Removes an account permanently, with its password, sessions, keys, memberships, tokens and settings. Its uid is
    /// never reused, nor is its name if it was ever active; its address is free. `None`: no such account.
    async fn remove_account(&self, uid: &UserId) -> Result<Option<Account>> {
        let uid = uid.clone();
        self.write(move |tx| people::remove(tx, &uid)).await
    }

    /// Writes the settings document of an active account, or with `None` the shared one; `false`: the account is not
    /// active.
    async fn put_settings(&self, uid: Option<&UserId>, document: String) -> Result<bool> {
        let uid = uid.cloned();
        self.write(move |tx| settings::put(tx, uid.as_ref(), &document))
            .await
    }

    /// Stages people to import: they do not exist as accounts yet, but their names, addresses and ids are taken. A
    /// person with a conflict is left out, and so is a key whose id conflicts. Returns the conflicts with each person's
    /// place.
    ///
    /// The caller ensures that only one import runs at a time, and that nothing is staged before the first call.
    async fn stage_import(
        &self,
        people: Vec<ImportedPerson>,
    ) -> Result<Vec<(usize, ImportConflict)>> {
        self.write(move |tx| import::stage(tx, people)).await
    }

    /// Commits the import: all staged people will be written, whatever happens from now on.
    async fn commit_import(&self) -> Result<()> {
        self.write(import::commit).await
    }

    /// Writes some of the staged people, or removes some if the import was not committed. To be called until it returns
    /// [`ImportStep::Over`], also after a start and after a failure; each call is one short transaction.
    async fn step_import(&self) -> Result<ImportStep> {
        let (pieces, counts) = self.read(import::look).await?;
        if !pieces.is_empty() {
            return self.write(move |tx| import::step(tx, &pieces)).await;
        }
        if counts {
            self.write(import::end).await?;
        }
        Ok(ImportStep::Over)
    }

    /// Writes a session, and `rehash` if present, if the account is active and its standing is still `standing`.
    /// Advances the generation only where the account has [`SESSIONS_MAX`](super::bounds::SESSIONS_MAX) sessions: then
    /// the least recently used one ends, expired ones first.
    async fn create_session(
        &self,
        session: Session,
        standing: u64,
        rehash: Option<PasswordHash>,
    ) -> Result<Guarded<()>> {
        self.write(move |tx| sessions::create(tx, session, standing, rehash))
            .await
    }

    /// Adds to the networks that an active account is known to log in from, and writes the mail that reports it; of
    /// more than 16 networks the oldest is dropped. Returns `false` and writes nothing if the network is already known
    /// or the account is not active. Does not change the generation.
    async fn remember_network(
        &self,
        uid: &UserId,
        network: Digest,
        mail: Option<QueuedMail>,
    ) -> Result<bool> {
        let uid = uid.clone();
        self.write(move |tx| sessions::remember_network(tx, &uid, network, mail.as_ref()))
            .await
    }

    /// Spends a refresh token and makes its one successor current; see [`Rotation`]. `now` becomes `last_seen`,
    /// `idle_end` replaces the session's own. A session that is not live at `now`, or whose account is not active, is
    /// unknown.
    async fn rotate_refresh(&self, rotation: RefreshRotation) -> Result<Rotation> {
        self.write(move |tx| sessions::rotate(tx, &rotation)).await
    }

    /// Records uses of session cookies: `last_seen` and `idle_end` of each session that is live at its use, has a
    /// cookie and was not seen later. Does not change the generation or void anything cached, since no right depends on
    /// it.
    async fn note_session_uses(&self, uses: Vec<SessionUse>) -> Result<()> {
        self.write(move |tx| sessions::note_uses(tx, &uses)).await
    }

    /// Ends one session of a uid and advances the account's generation; `false`: there is no such session.
    async fn end_session(&self, uid: &UserId, id: &SessionId) -> Result<bool> {
        let (uid, id) = (uid.clone(), id.clone());
        self.write(move |tx| sessions::end(tx, &uid, &id)).await
    }

    /// Ends all sessions of a uid except `keep` and advances the generation if there were any; returns their number.
    async fn end_sessions(&self, uid: &UserId, keep: Option<&SessionId>) -> Result<usize> {
        let (uid, keep) = (uid.clone(), keep.cloned());
        self.write(move |tx| sessions::end_all(tx, &uid, keep.as_ref()))
            .await
    }

    /// Writes an API key, if its owner is active with a standing that is still `standing` and the key id is free;
    /// `false`: the owner has [`KEYS_MAX`](super::bounds::KEYS_MAX) keys, and nothing was written.
    async fn create_api_key(&self, key: ApiKey, standing: u64) -> Result<Guarded<bool>> {
        self.write(move |tx| keys::create(tx, &key, standing)).await
    }

    /// Changes an API key of a uid, if its owner is active and its standing is still `standing`, and advances the
    /// account's generation. `None`: there is no such key.
    async fn update_api_key(
        &self,
        uid: &UserId,
        id: &KeyId,
        standing: u64,
        change: KeyChange,
    ) -> Result<Guarded<Option<ApiKey>>> {
        let (uid, id) = (uid.clone(), *id);
        self.write(move |tx| keys::update(tx, &uid, id, standing, change))
            .await
    }

    /// Records when API keys were used: apart from the keys' own records, one time for each, at most once a minute.
    /// Missing keys are skipped. Does not change the generation.
    async fn note_keys_used(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<()> {
        self.write(move |tx| keys::note_used(tx, &uses)).await
    }

    /// Returns when API keys were last used, in the order of `ids`; `None`: unknown.
    async fn keys_used(&self, ids: &[KeyId]) -> Result<Vec<Option<Timestamp>>> {
        let ids = ids.to_vec();
        self.read(move |records| {
            let keys = ids.into_iter().map(layout::api_key_used);
            keys.map(|key| records.load(&key)).collect()
        })
        .await
    }

    /// Revokes an API key of a uid and advances the account's generation; `false`: there is no such key.
    async fn revoke_api_key(&self, uid: &UserId, id: &KeyId) -> Result<bool> {
        let (uid, id) = (uid.clone(), *id);
        self.write(move |tx| keys::revoke(tx, &uid, id)).await
    }

    /// Sets a membership if its stored level is `expected` and the limits allow it, and advances the generation.
    async fn set_membership(
        &self,
        uid: &UserId,
        membership: Membership,
        expected: Option<&Name>,
    ) -> Result<MembershipChange> {
        let (uid, expected) = (uid.clone(), expected.cloned());
        self.write(move |tx| {
            members::set(tx, &uid, &membership, expected.as_ref(), members::BOUNDS)
        })
        .await
    }

    /// Ends a membership if its stored level is `expected`, and advances the generation; also of a disabled account,
    /// which would otherwise regain it.
    async fn end_membership(
        &self,
        uid: &UserId,
        resource: &Name,
        id: &ResourceId,
        expected: &Name,
    ) -> Result<MembershipChange> {
        let (uid, expected) = (uid.clone(), expected.clone());
        let (resource, id) = (resource.clone(), id.clone());
        self.write(move |tx| members::end(tx, &uid, &resource, &id, &expected))
            .await
    }

    /// Removes what has expired at `now`: sessions, one-time tokens, and pending accounts without any token left. API
    /// keys stay. Returns the number of records removed. Also makes mails due now whose next attempt is implausibly far
    /// ahead ([`Timestamp::is_ahead`]). Works in slices, each a transaction of its own, so other writes are not
    /// delayed.
    async fn purge(&self, now: Timestamp) -> Result<usize> {
        let mut gone = 0;
        for kind in purge::KINDS {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let slice = self
                    .read(move |records| {
                        purge::look(records, kind, after.as_deref(), PURGE_SLICE, now)
                    })
                    .await?;
                if !slice.expired.is_empty() {
                    gone += self
                        .write(move |tx| purge::remove(tx, kind, &slice.expired, now))
                        .await?;
                }
                after = slice.next;
                if after.is_none() {
                    break;
                }
            }
        }
        mails::hasten_those_ahead(self, now).await?;
        Ok(gone)
    }

    /// Checks that the engine can write: writes and syncs a record for this purpose.
    async fn ready(&self) -> Result<()> {
        self.write(|tx| {
            let written: Option<u64> = tx.load(&layout::ready())?;
            tx.put(&layout::ready(), &written.unwrap_or(0).wrapping_add(1))
        })
        .await
    }

    /// Returns all stored counters, in no particular order. They are kept apart from the records and not included in
    /// any census: a power cut may lose the latest ones, and damaged ones are omitted.
    async fn counters(&self) -> Result<Vec<(KeptKey, KeptCounter)>> {
        Ok(decode_counters(self.side().await?))
    }

    /// Stores or removes counters. They outlive the process, but are not synced individually.
    async fn keep_counters(&self, changes: &[CounterChange]) -> Result<()> {
        self.put_side(encode_counters(changes)?).await
    }
}

impl<E: Engine> Store for E {}
