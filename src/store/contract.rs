//! What the store can do, whichever engine keeps its bytes: each method is one read or one transaction.

use async_trait::async_trait;

use crate::limit::{Change, Kept, KeptKey};
use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::{
    Account, ApiKey, Digest, EmailAddress, OneTimeToken, PasswordHash, Session, SessionUse,
    Username,
};
use crate::model::clock::Timestamp;
use crate::model::id::{AccountId, KeyId, MailId, SessionId, SettingsId, UserId};
use crate::model::mail::{DueMails, QueuedMail};
use crate::store::engine::{Engine, EngineExt as _, decode_counters, encode_counters};
use crate::store::error::Result;
use crate::store::intents::{
    accounts, import, keys, mails, members, old_hashes, passwords, people, purge, sessions,
    settings,
};
use crate::store::{
    AccountChange, Creation, Guarded, IdentityChange, ImportConflict, ImportStep, ImportedPerson,
    KeyChange, MembershipChange, NewPassword, RefreshRotation, Rotation, layout, reads,
};

/// How many records one slice of a purge looks at: below a millisecond of a reader's or the writer's time.
const PURGE_SLICE: usize = 200;

/// Accounts, sessions, API keys, one-time tokens, memberships, and the outbox of mails.
///
/// Reads give `Ok(None)` for what is not there. "Taken" means: by an active or disabled account; pending ones reserve
/// neither name nor address. All of it is safe to call from any task; nothing blocks the caller's thread.
#[async_trait]
pub trait Store: Engine {
    /// The account of a uid, whatever its status.
    async fn account(&self, uid: &UserId) -> Result<Option<Account>> {
        self.load(layout::account(uid)).await
    }

    /// The account of a record id, whatever its status.
    async fn account_by_id(&self, id: &AccountId) -> Result<Option<Account>> {
        self.read(reads::account_by(layout::account_id(id))).await
    }

    /// The active or disabled account of a name.
    async fn account_by_username(&self, username: &Username) -> Result<Option<Account>> {
        self.read(reads::account_by(layout::username(username)))
            .await
    }

    /// The active or disabled account of an address, compared without ASCII case.
    async fn account_by_identity(&self, identity: &EmailAddress) -> Result<Option<Account>> {
        self.read(reads::account_by(layout::folded(identity))).await
    }

    /// Whether an active or disabled account has this name, or one that was removed had it.
    async fn username_taken(&self, username: &Username) -> Result<bool> {
        Ok(self.load(layout::username(username)).await?.is_some())
    }

    /// Whether an active or disabled account has this address in its normalized form.
    async fn identity_taken(&self, identity: &EmailAddress) -> Result<bool> {
        Ok(self.load(layout::normalized(identity)).await?.is_some())
    }

    /// The active or disabled account that has this address in its normalized form: to tell its owner, at the stored
    /// address, that somebody registers with it. Never for logging in.
    async fn identity_owner(&self, identity: &EmailAddress) -> Result<Option<Account>> {
        self.read(reads::account_by(layout::normalized(identity)))
            .await
    }

    /// Accounts in the order of their record ids, those after `after`, at most `limit`.
    async fn accounts(&self, after: Option<&AccountId>, limit: usize) -> Result<Vec<Account>> {
        let after = after.cloned();
        self.read(move |records| reads::accounts(records, after.as_ref(), limit))
            .await
    }

    /// A session that has not been ended; it may have expired.
    async fn session(&self, id: &SessionId) -> Result<Option<Session>> {
        self.load(layout::session(id)).await
    }

    /// All sessions of a uid that have not been ended.
    async fn sessions_of(&self, uid: &UserId) -> Result<Vec<Session>> {
        let uid = uid.clone();
        self.read(move |records| reads::sessions_of(records, &uid))
            .await
    }

    /// An API key that has not been revoked; it may have expired.
    async fn api_key(&self, id: &KeyId) -> Result<Option<ApiKey>> {
        self.load(layout::api_key(*id)).await
    }

    /// All API keys of a uid, in the order of their ids.
    async fn api_keys_of(&self, uid: &UserId) -> Result<Vec<ApiKey>> {
        let uid = uid.clone();
        self.read(move |records| reads::api_keys_of(records, &uid))
            .await
    }

    /// All memberships of a uid, sorted.
    async fn memberships_of(&self, uid: &UserId) -> Result<Vec<Membership>> {
        let uid = uid.clone();
        self.read(move |records| reads::memberships_of(records, &uid))
            .await
    }

    /// The level of one membership.
    async fn membership(
        &self,
        uid: &UserId,
        resource: &Name,
        id: &ResourceId,
    ) -> Result<Option<Name>> {
        self.load(layout::membership(uid, resource, id)).await
    }

    /// Members of one resource with their levels, in the order of uids, those after `after`, at most `limit`.
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

    /// A one-time token that has not been consumed; it may have expired.
    async fn one_time_token(&self, digest: &Digest) -> Result<Option<OneTimeToken>> {
        self.load(layout::token(digest)).await
    }

    /// The networks that an account is known to log in from, oldest first, at most 16.
    async fn networks_of(&self, uid: &UserId) -> Result<Vec<Digest>> {
        Ok(self.load(layout::networks(uid)).await?.unwrap_or_default())
    }

    /// The settings document of an account, or the shared one, as JSON text.
    async fn settings(&self, id: Option<&SettingsId>) -> Result<Option<String>> {
        self.load(layout::settings(id)).await
    }

    /// The most rounds of an account's old password hash, `$5$…`; 0: no account has one.
    async fn old_hash_rounds_max(&self) -> Result<u32> {
        self.read(old_hashes::rounds_max).await
    }

    /// Mails of the outbox that are due at `now`, those that have waited longest first, at most `limit`.
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<DueMails> {
        self.read(move |records| reads::due_mails(records, now, limit))
            .await
    }

    /// How many mails are in the outbox. Looks at each of them.
    async fn mail_count(&self) -> Result<usize> {
        self.read(reads::mail_count).await
    }

    /// Writes a pending account together with its confirm token and the mail that carries it, if there are fewer than
    /// `pending_max` pending accounts, where that is given; `false`: there are not, and nothing was written.
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

    /// Writes a reset token if its account is active, or a confirm token if it is pending, together with the mail that
    /// carries it; `false`: the account is not, and nothing was written. A token that changes the address, of an active
    /// account too, takes the place of the one before; of more than [`TOKENS_MAX`](super::bounds::TOKENS_MAX) tokens of an
    /// account the one that would expire first is void.
    async fn put_token(&self, token: OneTimeToken, mail: Option<QueuedMail>) -> Result<bool> {
        self.write(move |tx| accounts::put_token_of_account(tx, &token, mail.as_ref()))
            .await
    }

    /// Puts a mail into the outbox.
    async fn put_mail(&self, mail: QueuedMail) -> Result<()> {
        self.write(move |tx| mails::put(tx, &mail)).await
    }

    /// Counts an attempt in vain and says when the next may be; `false`: there is no such mail any more.
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

    /// Takes a mail out of the outbox; `false`: there is none.
    async fn remove_mail(&self, id: &MailId) -> Result<bool> {
        let id = id.clone();
        self.write(move |tx| mails::remove(tx, &id)).await
    }

    /// Writes an account that is active from the start (or pending, with a token put beside it later).
    async fn create_account(&self, account: Account) -> Result<Creation> {
        self.write(move |tx| accounts::create(tx, &account)).await
    }

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
    ) -> Result<Option<Account>> {
        let digest = *digest;
        self.write(move |tx| passwords::set_by_token(tx, &digest, password, now))
            .await
    }

    /// Sets another password of an active account whose standing is still `standing`, ends its sessions except
    /// `keep`, voids its one-time tokens, clears `password_must_change`, moves the generation.
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

    /// Changes an account as an administrator does and moves its generation; disabling ends its sessions and voids its
    /// one-time tokens. `None`: no such account.
    async fn update_account(&self, uid: &UserId, change: AccountChange) -> Result<Option<Account>> {
        let uid = uid.clone();
        self.write(move |tx| accounts::update(tx, &uid, change))
            .await
    }

    /// Gives an active account another display name. `None`: no such account.
    async fn rename(&self, uid: &UserId, name: String) -> Result<Option<Account>> {
        let uid = uid.clone();
        self.write(move |tx| people::rename(tx, &uid, name)).await
    }

    /// Consumes a token of [`Purpose::ChangeIdentity`](crate::model::account::Purpose) that has not expired at `now`:
    /// its address becomes the account's, every other token of the account is void.
    async fn change_identity(&self, digest: &Digest, now: Timestamp) -> Result<IdentityChange> {
        let digest = *digest;
        self.write(move |tx| people::change_identity(tx, &digest, now))
            .await
    }

    /// Removes an account for ever, with its password, sessions, keys, memberships, tokens and settings. Its uid is
    /// never given out again, nor is its name if it was ever active; its address is free. `None`: no such account.
    async fn remove_account(&self, uid: &UserId) -> Result<Option<Account>> {
        let uid = uid.clone();
        self.write(move |tx| people::remove(tx, &uid)).await
    }

    /// Writes the settings document of an active account, or with `None` the shared one; `false`: it is not active.
    async fn put_settings(&self, uid: Option<&UserId>, document: String) -> Result<bool> {
        let uid = uid.cloned();
        self.write(move |tx| settings::put(tx, uid.as_ref(), &document))
            .await
    }

    /// Stages people who come from elsewhere: they are nobody yet, and their names, addresses and ids are taken. Whom
    /// something stands in the way of is left out, and a key of whose id that is so; what does, by the person's place.
    ///
    /// One import at a time is for the caller to see to, and that nothing is staged before the first call.
    async fn stage_import(
        &self,
        people: Vec<ImportedPerson>,
    ) -> Result<Vec<(usize, ImportConflict)>> {
        self.write(move |tx| import::stage(tx, people)).await
    }

    /// Says that all who are staged count: they will be there, whatever happens from now on.
    async fn commit_import(&self) -> Result<()> {
        self.write(import::commit).await
    }

    /// Writes some of those who are staged, or takes some back where they do not count. To be called until it is over, also
    /// after a start and after a failure; each call is a transaction of its own that holds nobody up.
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

    /// Writes a session, and `rehash` if given, if the account is active and its standing still is `standing`.
    /// Moves the generation only where the account has [`SESSIONS_MAX`](super::bounds::SESSIONS_MAX) sessions: then the one
    /// that was not used for the longest time ends, those that have expired first.
    async fn create_session(
        &self,
        session: Session,
        standing: u64,
        rehash: Option<PasswordHash>,
    ) -> Result<Guarded<()>> {
        self.write(move |tx| sessions::create(tx, session, standing, rehash))
            .await
    }

    /// Adds to the networks that an active account is known to log in from, and writes the mail that tells of it; the
    /// oldest goes when there are more than 16. `false`: it is known already, or the account is not active, and nothing
    /// was written. Moves no generation.
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

    /// Writes down uses of session cookies: `last_seen` and `idle_end` of each session that is live at its use, has a
    /// cookie and was not seen later. Moves no generation and voids nothing that is cached: no right comes of it.
    async fn note_session_uses(&self, uses: Vec<SessionUse>) -> Result<()> {
        self.write(move |tx| sessions::note_uses(tx, &uses)).await
    }

    /// Ends one session of a uid and moves the account's generation; `false`: there is none.
    async fn end_session(&self, uid: &UserId, id: &SessionId) -> Result<bool> {
        let (uid, id) = (uid.clone(), id.clone());
        self.write(move |tx| sessions::end(tx, &uid, &id)).await
    }

    /// Ends all sessions of a uid except `keep`, moves the generation if there was one; how many there were.
    async fn end_sessions(&self, uid: &UserId, keep: Option<&SessionId>) -> Result<usize> {
        let (uid, keep) = (uid.clone(), keep.cloned());
        self.write(move |tx| sessions::end_all(tx, &uid, keep.as_ref()))
            .await
    }

    /// Writes an API key, if its owner is active, its standing still is `standing` and the key id is free; `false`: the
    /// owner has [`KEYS_MAX`](super::bounds::KEYS_MAX) keys, and nothing was written.
    async fn create_api_key(&self, key: ApiKey, standing: u64) -> Result<Guarded<bool>> {
        self.write(move |tx| keys::create(tx, &key, standing)).await
    }

    /// Changes an API key of a uid, if its owner is active and its standing still is `standing`, and moves its
    /// generation.
    /// `None`: there is no such key.
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

    /// Notes when API keys were used: beside their records, one time for each and none more often than once a minute. A
    /// key that is gone is passed over. Moves no generation.
    async fn note_keys_used(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<()> {
        self.write(move |tx| keys::note_used(tx, &uses)).await
    }

    /// When API keys were used last, in the order of `ids`; `None`: that is not known.
    async fn keys_used(&self, ids: &[KeyId]) -> Result<Vec<Option<Timestamp>>> {
        let ids = ids.to_vec();
        self.read(move |records| {
            let used = ids
                .iter()
                .map(|id| records.load(&layout::api_key_used(*id)));
            used.collect()
        })
        .await
    }

    /// Ends an API key of a uid and moves the account's generation; `false`: there is none.
    async fn revoke_api_key(&self, uid: &UserId, id: &KeyId) -> Result<bool> {
        let (uid, id) = (uid.clone(), *id);
        self.write(move |tx| keys::revoke(tx, &uid, id)).await
    }

    /// Sets a membership if the level there is `expected` and there is room for one more, and moves the generation.
    async fn set_membership(
        &self,
        uid: &UserId,
        membership: Membership,
        expected: Option<&Name>,
    ) -> Result<MembershipChange> {
        let (uid, expected) = (uid.clone(), expected.cloned());
        self.write(move |tx| members::set(tx, &uid, &membership, expected.as_ref()))
            .await
    }

    /// Ends a membership if the level there is `expected`, and moves the generation; of a disabled account too, which
    /// would have it again otherwise.
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

    /// Removes what has expired at `now`: sessions, one-time tokens, and pending accounts that have none left. API keys
    /// stay. How many records went. Mails that wait for a moment that is ahead ([`Timestamp::is_ahead`]) are due then. Works in
    /// slices, each a transaction of its own, so that it holds nobody up.
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

    /// Whether the engine can write: it writes and syncs a record of its own.
    async fn ready(&self) -> Result<()> {
        self.write(|tx| {
            let written: Option<u64> = tx.load(&layout::ready())?;
            tx.put(&layout::ready(), &written.unwrap_or(0).wrapping_add(1))
        })
        .await
    }

    /// All counters that are kept, in no order. They stand beside the records and no census counts them: a power cut may
    /// take what was kept last, and one that is damaged is left out.
    async fn counters(&self) -> Result<Vec<(KeptKey, Kept)>> {
        Ok(decode_counters(self.side().await?))
    }

    /// Keeps counters, or removes them. They outlive the process, but are not synced one by one.
    async fn keep_counters(&self, changes: &[Change]) -> Result<()> {
        self.put_side(encode_counters(changes)?).await
    }
}

impl<E: Engine> Store for E {}
