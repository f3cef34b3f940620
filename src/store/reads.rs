//! What each read looks up.
//!
//! A read may run beside a write and see its indices before or after it, so an entry whose record has just gone is no
//! damage here: what is lost at rest is found by the census.

use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::{Account, AccountStatus, Digest, EmailAddress, Session, Username};
use crate::model::api_key::ApiKey;
use crate::model::clock::{AHEAD_MAX, Timestamp};
use crate::model::id::{AccountId, KeyId, MailId, SessionId, UserId};
use crate::model::key_file::{KeyFile, KeyMarks};
use crate::model::mail::DueMails;
use crate::store::error::StoreError;
use crate::store::layout::{self, Key, damaged};
use crate::store::record;
use crate::store::transaction::Records;

/// Whether an account of this status reserves its name and address.
pub(crate) fn reserves(status: AccountStatus) -> bool {
    status != AccountStatus::Pending
}

/// What the key files are known by.
pub(crate) fn key_marks(records: &dyn Records) -> Result<KeyMarks, StoreError> {
    let mut marks = KeyMarks::new();
    for file in KeyFile::ALL {
        if let Some(mark) = records.load(&layout::key_mark(file))? {
            marks.insert(file, mark);
        }
    }
    Ok(marks)
}

pub(crate) fn account_by(
    records: &dyn Records,
    index: &Key<UserId>,
) -> Result<Option<Account>, StoreError> {
    match records.load(index)? {
        Some(uid) => records.load(&layout::account(&uid)),
        None => Ok(None),
    }
}

pub(crate) fn identity_taken(
    records: &dyn Records,
    identity: &EmailAddress,
) -> Result<bool, StoreError> {
    let found = records.load(&layout::normalized(identity))?;
    Ok(found.is_some())
}

pub(crate) fn username_taken(records: &dyn Records, name: &Username) -> Result<bool, StoreError> {
    let found = records.load(&layout::username(name))?;
    Ok(found.is_some())
}

pub(crate) fn accounts(
    records: &dyn Records,
    after: Option<&AccountId>,
    limit: usize,
) -> Result<Vec<Account>, StoreError> {
    let prefix = layout::account_ids();
    let after = after.map(layout::account_id);
    let entries = records.scan(prefix.bytes(), after.as_ref().map(Key::bytes), limit)?;
    let mut accounts = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let id = AccountId::parse(text(&key, prefix.rest(&key))?).map_err(|_| damaged(&key))?;
        let uid = record::decode(&layout::account_id(&id), &value)?;
        accounts.extend(records.load(&layout::account(&uid))?);
    }
    Ok(accounts)
}

pub(crate) fn session_ids(
    records: &dyn Records,
    uid: &UserId,
) -> Result<Vec<SessionId>, StoreError> {
    let prefix = layout::sessions_of(uid);
    let names = records.names(&prefix)?;
    names
        .iter()
        .map(|name| {
            SessionId::parse(text(prefix.bytes(), name)?).map_err(|_| damaged(prefix.bytes()))
        })
        .collect()
}

pub(crate) fn sessions_of(records: &dyn Records, uid: &UserId) -> Result<Vec<Session>, StoreError> {
    let mut sessions = Vec::new();
    for id in session_ids(records, uid)? {
        sessions.extend(records.load(&layout::session(&id))?);
    }
    Ok(sessions)
}

pub(crate) fn key_ids(records: &dyn Records, uid: &UserId) -> Result<Vec<KeyId>, StoreError> {
    let prefix = layout::api_keys_of(uid);
    let names = records.names(&prefix)?;
    names
        .iter()
        .map(|name| KeyId::parse(text(prefix.bytes(), name)?).map_err(|_| damaged(prefix.bytes())))
        .collect()
}

pub(crate) fn api_keys_of(records: &dyn Records, uid: &UserId) -> Result<Vec<ApiKey>, StoreError> {
    let mut keys = Vec::new();
    for id in key_ids(records, uid)? {
        keys.extend(records.load(&layout::api_key(id))?);
    }
    Ok(keys)
}

pub(crate) fn token_digests(
    records: &dyn Records,
    uid: &UserId,
) -> Result<Vec<Digest>, StoreError> {
    let prefix = layout::tokens_of(uid);
    let names = records.names(&prefix)?;
    names
        .iter()
        .map(|name| {
            let bytes = name.as_slice().try_into();
            bytes.map(Digest).map_err(|_| damaged(prefix.bytes()))
        })
        .collect()
}

pub(crate) fn memberships_of(
    records: &dyn Records,
    uid: &UserId,
) -> Result<Vec<Membership>, StoreError> {
    let prefix = layout::memberships_of(uid);
    let entries = records.scan(prefix.bytes(), None, usize::MAX)?;
    let mut memberships = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let rest = text(&key, prefix.rest(&key))?;
        let (resource, id) = rest.split_once('\0').ok_or_else(|| damaged(&key))?;
        let resource = Name::parse(resource).map_err(|_| damaged(&key))?;
        let id = ResourceId::parse(id).map_err(|_| damaged(&key))?;
        let level = record::decode(&layout::membership(uid, &resource, &id), &value)?;
        memberships.push(Membership {
            resource,
            id,
            level,
        });
    }
    // The order of keys is that of resource and id already.
    Ok(memberships)
}

pub(crate) fn members_of(
    records: &dyn Records,
    (resource, id): (&Name, &ResourceId),
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<(UserId, Name)>, StoreError> {
    let prefix = layout::members_of(resource, id);
    let after = after.map(|uid| layout::member(resource, id, uid));
    let entries = records.scan(prefix.bytes(), after.as_ref().map(Key::bytes), limit)?;
    let mut members = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let uid = UserId::parse(text(&key, prefix.rest(&key))?).map_err(|_| damaged(&key))?;
        let level = record::decode(&layout::member(resource, id, &uid), &value)?;
        members.push((uid, level));
    }
    Ok(members)
}

pub(crate) fn due_mails(
    records: &dyn Records,
    now: Timestamp,
    limit: usize,
) -> Result<DueMails, StoreError> {
    let prefix = layout::mails_due();
    let entries = records.scan(prefix.bytes(), None, limit.saturating_add(1))?;
    let mut due = DueMails::default();
    for (key, _) in entries {
        let rest = text(&key, prefix.rest(&key))?;
        let (millis, id) = rest.split_once('\0').ok_or_else(|| damaged(&key))?;
        let millis = millis.parse().map_err(|_| damaged(&key))?;
        let next_try = Timestamp::from_millis(millis);
        if now < next_try || limit <= due.mails.len() {
            due.next = Some(next_try);
            break;
        }
        let id = MailId::parse(id).map_err(|_| damaged(&key))?;
        due.mails.extend(records.load(&layout::mail(&id))?);
    }
    Ok(due)
}

/// At most `limit` mails that wait for a moment that is ahead (`Timestamp::is_ahead`).
pub(crate) fn mails_ahead(
    records: &dyn Records,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<MailId>, StoreError> {
    let prefix = layout::mails_due();
    let after = layout::mails_due_at(now.plus(AHEAD_MAX));
    let mut ids = Vec::new();
    for (key, _) in records.scan(prefix.bytes(), Some(after.bytes()), limit)? {
        let rest = text(&key, prefix.rest(&key))?;
        let (_, id) = rest.split_once('\0').ok_or_else(|| damaged(&key))?;
        ids.push(MailId::parse(id).map_err(|_| damaged(&key))?);
    }
    Ok(ids)
}

pub(crate) fn mail_count(records: &dyn Records) -> Result<usize, StoreError> {
    Ok(records.names(&layout::mails_due())?.len())
}

fn text<'a>(key: &[u8], part: &'a [u8]) -> Result<&'a str, StoreError> {
    std::str::from_utf8(part).map_err(|_| damaged(key))
}
