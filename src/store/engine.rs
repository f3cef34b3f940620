//! Between the trait and the engines that keep bytes: each method of [`Store`] is one read or one transaction.

use std::fmt;

use async_trait::async_trait;

use crate::limit::{Change, Kept, KeptKey};
use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::{
    Account, Digest, EmailAddress, OneTimeToken, PasswordHash, Session, SessionUse, Username,
};
use crate::model::api_key::ApiKey;
use crate::model::clock::Timestamp;
use crate::model::id::{AccountId, KeyId, MailId, SessionId, SettingsId, UserId};
use crate::model::mail::{DueMails, QueuedMail};
use crate::store::error::StoreError;
use crate::store::generations::Generations;
use crate::store::intents::{
    accounts, import, keys, mails, members, old_hashes, passwords, people, purge, sessions,
    settings,
};
use crate::store::transaction::{Changes, Entry, Records, Transaction};
use crate::store::{
    AccountChange, Creation, Guarded, IdentityChange, ImportConflict, ImportStep, ImportedPerson,
    KeyChange, MembershipChange, NewPassword, RefreshRotation, Rotation, Store, layout, reads,
    record,
};

/// How many records one slice of a purge looks at: below a millisecond of a reader's or the writer's time.
const PURGE_SLICE: usize = 200;

/// Runs reads and transactions on records.
pub(crate) trait Engine: Send + Sync + fmt::Debug + 'static {
    /// The generations that [`Engine::write`] moves.
    fn generations(&self) -> &Generations;

    /// Looks at the records as last committed.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Records) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;

    /// Runs an intent alone; if it succeeds writes what it changed, all or nothing, makes it durable, moves the
    /// generations of the uids it touched, and only then answers. Does so even if the caller goes away meanwhile.
    fn write<T: Send + 'static>(
        &self,
        intent: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;

    /// All that stands beside the records.
    fn side(&self) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;

    /// Writes beside the records: what no promise rests on, neither counted nor synced.
    fn put_side(&self, changes: Changes) -> impl Future<Output = Result<(), StoreError>> + Send;
}

#[async_trait]
impl<E: Engine> Store for E {
    fn generations(&self) -> &Generations {
        Engine::generations(self)
    }

    async fn account(&self, uid: &UserId) -> Result<Option<Account>, StoreError> {
        let key = layout::account(uid);
        self.read(move |records| records.load(&key)).await
    }

    async fn account_by_id(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        let index = layout::account_id(id);
        self.read(move |records| reads::account_by(records, &index))
            .await
    }

    async fn account_by_username(
        &self,
        username: &Username,
    ) -> Result<Option<Account>, StoreError> {
        let index = layout::username(username);
        self.read(move |records| reads::account_by(records, &index))
            .await
    }

    async fn account_by_identity(
        &self,
        identity: &EmailAddress,
    ) -> Result<Option<Account>, StoreError> {
        let index = layout::folded(identity);
        self.read(move |records| reads::account_by(records, &index))
            .await
    }

    async fn username_taken(&self, username: &Username) -> Result<bool, StoreError> {
        let username = username.clone();
        self.read(move |records| reads::username_taken(records, &username))
            .await
    }

    async fn identity_taken(&self, identity: &EmailAddress) -> Result<bool, StoreError> {
        let identity = identity.clone();
        self.read(move |records| reads::identity_taken(records, &identity))
            .await
    }

    async fn identity_owner(&self, identity: &EmailAddress) -> Result<Option<Account>, StoreError> {
        let index = layout::normalized(identity);
        self.read(move |records| reads::account_by(records, &index))
            .await
    }

    async fn accounts(
        &self,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        let after = after.cloned();
        self.read(move |records| reads::accounts(records, after.as_ref(), limit))
            .await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        let key = layout::session(id);
        self.read(move |records| records.load(&key)).await
    }

    async fn sessions_of(&self, uid: &UserId) -> Result<Vec<Session>, StoreError> {
        let uid = uid.clone();
        self.read(move |records| reads::sessions_of(records, &uid))
            .await
    }

    async fn api_key(&self, id: &KeyId) -> Result<Option<ApiKey>, StoreError> {
        let key = layout::api_key(*id);
        self.read(move |records| records.load(&key)).await
    }

    async fn api_keys_of(&self, uid: &UserId) -> Result<Vec<ApiKey>, StoreError> {
        let uid = uid.clone();
        self.read(move |records| reads::api_keys_of(records, &uid))
            .await
    }

    async fn memberships_of(&self, uid: &UserId) -> Result<Vec<Membership>, StoreError> {
        let uid = uid.clone();
        self.read(move |records| reads::memberships_of(records, &uid))
            .await
    }

    async fn membership(
        &self,
        uid: &UserId,
        resource: &Name,
        id: &ResourceId,
    ) -> Result<Option<Name>, StoreError> {
        let key = layout::membership(uid, resource, id);
        self.read(move |records| records.load(&key)).await
    }

    async fn members_of(
        &self,
        resource: &Name,
        id: &ResourceId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Name)>, StoreError> {
        let (resource, id, after) = (resource.clone(), id.clone(), after.cloned());
        self.read(move |records| {
            reads::members_of(records, (&resource, &id), after.as_ref(), limit)
        })
        .await
    }

    async fn one_time_token(&self, digest: &Digest) -> Result<Option<OneTimeToken>, StoreError> {
        let key = layout::token(digest);
        self.read(move |records| records.load(&key)).await
    }

    async fn networks_of(&self, uid: &UserId) -> Result<Vec<Digest>, StoreError> {
        let key = layout::networks(uid);
        self.read(move |records| Ok(records.load(&key)?.unwrap_or_default()))
            .await
    }

    async fn settings(&self, id: Option<&SettingsId>) -> Result<Option<String>, StoreError> {
        let key = layout::settings(id);
        self.read(move |records| records.load(&key)).await
    }

    async fn old_hash_rounds_max(&self) -> Result<u32, StoreError> {
        self.read(old_hashes::rounds_max).await
    }

    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<DueMails, StoreError> {
        self.read(move |records| reads::due_mails(records, now, limit))
            .await
    }

    async fn mail_count(&self) -> Result<usize, StoreError> {
        self.read(|records| reads::mail_count(records)).await
    }

    async fn register(
        &self,
        account: Account,
        token: OneTimeToken,
        mail: Option<QueuedMail>,
        pending_max: Option<u64>,
    ) -> Result<bool, StoreError> {
        self.write(move |tx| accounts::register(tx, &account, &token, mail.as_ref(), pending_max))
            .await
    }

    async fn put_token(
        &self,
        token: OneTimeToken,
        mail: Option<QueuedMail>,
    ) -> Result<bool, StoreError> {
        self.write(move |tx| accounts::put_token_of_account(tx, &token, mail.as_ref()))
            .await
    }

    async fn put_mail(&self, mail: QueuedMail) -> Result<(), StoreError> {
        self.write(move |tx| mails::put(tx, &mail)).await
    }

    async fn postpone_mail(
        &self,
        id: &MailId,
        next_try: Timestamp,
        was_refused: bool,
    ) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(move |tx| mails::postpone(tx, &id, next_try, was_refused))
            .await
    }

    async fn remove_mail(&self, id: &MailId) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(move |tx| mails::remove(tx, &id)).await
    }

    async fn create_account(&self, account: Account) -> Result<Creation, StoreError> {
        self.write(move |tx| accounts::create(tx, &account)).await
    }

    async fn set_password_by_token(
        &self,
        digest: &Digest,
        password: NewPassword,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let digest = *digest;
        self.write(move |tx| passwords::set_by_token(tx, &digest, password, now))
            .await
    }

    async fn change_password(
        &self,
        uid: &UserId,
        standing: u64,
        password: NewPassword,
        keep: Option<&SessionId>,
    ) -> Result<Guarded<Account>, StoreError> {
        let (uid, keep) = (uid.clone(), keep.cloned());
        self.write(move |tx| passwords::change(tx, &uid, standing, password, keep.as_ref()))
            .await
    }

    async fn update_account(
        &self,
        uid: &UserId,
        change: AccountChange,
    ) -> Result<Option<Account>, StoreError> {
        let uid = uid.clone();
        self.write(move |tx| accounts::update(tx, &uid, change))
            .await
    }

    async fn rename(&self, uid: &UserId, name: String) -> Result<Option<Account>, StoreError> {
        let uid = uid.clone();
        self.write(move |tx| people::rename(tx, &uid, name)).await
    }

    async fn change_identity(
        &self,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<IdentityChange, StoreError> {
        let digest = *digest;
        self.write(move |tx| people::change_identity(tx, &digest, now))
            .await
    }

    async fn remove_account(&self, uid: &UserId) -> Result<Option<Account>, StoreError> {
        let uid = uid.clone();
        self.write(move |tx| people::remove(tx, &uid)).await
    }

    async fn put_settings(
        &self,
        uid: Option<&UserId>,
        document: String,
    ) -> Result<bool, StoreError> {
        let uid = uid.cloned();
        self.write(move |tx| settings::put(tx, uid.as_ref(), &document))
            .await
    }

    async fn stage_import(
        &self,
        people: Vec<ImportedPerson>,
    ) -> Result<Vec<(usize, ImportConflict)>, StoreError> {
        self.write(move |tx| import::stage(tx, people)).await
    }

    async fn commit_import(&self) -> Result<(), StoreError> {
        self.write(import::commit).await
    }

    async fn step_import(&self) -> Result<ImportStep, StoreError> {
        let (pieces, counts) = self.read(import::look).await?;
        if !pieces.is_empty() {
            return self.write(move |tx| import::step(tx, &pieces)).await;
        }
        if counts {
            self.write(import::end).await?;
        }
        Ok(ImportStep::Over)
    }

    async fn create_session(
        &self,
        session: Session,
        standing: u64,
        rehash: Option<PasswordHash>,
    ) -> Result<Guarded<()>, StoreError> {
        self.write(move |tx| sessions::create(tx, session, standing, rehash))
            .await
    }

    async fn remember_network(
        &self,
        uid: &UserId,
        network: Digest,
        mail: Option<QueuedMail>,
    ) -> Result<bool, StoreError> {
        let uid = uid.clone();
        self.write(move |tx| sessions::remember_network(tx, &uid, network, mail.as_ref()))
            .await
    }

    async fn rotate_refresh(&self, rotation: RefreshRotation) -> Result<Rotation, StoreError> {
        self.write(move |tx| sessions::rotate(tx, &rotation)).await
    }

    async fn note_session_uses(&self, uses: Vec<SessionUse>) -> Result<(), StoreError> {
        self.write(move |tx| sessions::note_uses(tx, &uses)).await
    }

    async fn end_session(&self, uid: &UserId, id: &SessionId) -> Result<bool, StoreError> {
        let (uid, id) = (uid.clone(), id.clone());
        self.write(move |tx| sessions::end(tx, &uid, &id)).await
    }

    async fn end_sessions(
        &self,
        uid: &UserId,
        keep: Option<&SessionId>,
    ) -> Result<usize, StoreError> {
        let (uid, keep) = (uid.clone(), keep.cloned());
        self.write(move |tx| sessions::end_all(tx, &uid, keep.as_ref()))
            .await
    }

    async fn create_api_key(
        &self,
        key: ApiKey,
        standing: u64,
    ) -> Result<Guarded<bool>, StoreError> {
        self.write(move |tx| keys::create(tx, &key, standing)).await
    }

    async fn update_api_key(
        &self,
        uid: &UserId,
        id: &KeyId,
        standing: u64,
        change: KeyChange,
    ) -> Result<Guarded<Option<ApiKey>>, StoreError> {
        let (uid, id) = (uid.clone(), *id);
        self.write(move |tx| keys::update(tx, &uid, id, standing, change))
            .await
    }

    async fn note_keys_used(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        self.write(move |tx| keys::note_used(tx, &uses)).await
    }

    async fn keys_used(&self, ids: &[KeyId]) -> Result<Vec<Option<Timestamp>>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |records| {
            let used = ids
                .iter()
                .map(|id| records.load(&layout::api_key_used(*id)));
            used.collect()
        })
        .await
    }

    async fn revoke_api_key(&self, uid: &UserId, id: &KeyId) -> Result<bool, StoreError> {
        let (uid, id) = (uid.clone(), *id);
        self.write(move |tx| keys::revoke(tx, &uid, id)).await
    }

    async fn set_membership(
        &self,
        uid: &UserId,
        membership: Membership,
        expected: Option<&Name>,
    ) -> Result<MembershipChange, StoreError> {
        let (uid, expected) = (uid.clone(), expected.cloned());
        self.write(move |tx| members::set(tx, &uid, &membership, expected.as_ref()))
            .await
    }

    async fn end_membership(
        &self,
        uid: &UserId,
        resource: &Name,
        id: &ResourceId,
        expected: &Name,
    ) -> Result<MembershipChange, StoreError> {
        let (uid, expected) = (uid.clone(), expected.clone());
        let (resource, id) = (resource.clone(), id.clone());
        self.write(move |tx| members::end(tx, &uid, &resource, &id, &expected))
            .await
    }

    async fn purge(&self, now: Timestamp) -> Result<usize, StoreError> {
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

    async fn ready(&self) -> Result<(), StoreError> {
        self.write(|tx| {
            let written: Option<u64> = tx.load(&layout::ready())?;
            tx.put(&layout::ready(), &written.unwrap_or(0).wrapping_add(1))
        })
        .await
    }

    async fn counters(&self) -> Result<Vec<(KeptKey, Kept)>, StoreError> {
        let mut counters = Vec::new();
        for (place, bytes) in self.side().await? {
            let key = place.get(1..).unwrap_or_default();
            match record::decode(&layout::counter(key), &bytes) {
                Ok(counter) => counters.push((key.to_vec(), counter)),
                // At worst somebody may guess five times more; nobody is kept out for it.
                Err(error) => tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "a counter is left out"
                ),
            }
        }
        Ok(counters)
    }

    async fn keep_counters(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut bytes = Changes::new();
        for (key, counter) in changes {
            let place = layout::counter(key);
            let counter = counter.as_ref();
            let counter = counter.map(|counter| record::encode(&place, counter));
            bytes.insert(place.bytes().to_vec(), counter.transpose()?);
        }
        self.put_side(bytes).await
    }
}
