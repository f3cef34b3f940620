//! The lookups of each read.
//!
//! A read may run beside a write and see its indexes before or after it, so an entry whose record was just removed is
//! not damage here: the census finds lost records.

use serde::de::DeserializeOwned;

use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::{Account, AccountStatus, Digest, Session};
use crate::model::api_key::ApiKey;
use crate::model::clock::{AHEAD_MAX, Timestamp};
use crate::model::id::{AccountId, KeyId, MailId, SessionId, UserId};
use crate::model::key_file::{KeyFile, KeyMarks};
use crate::model::mail::DueMails;
use crate::store::layout::{self, Prefix, RecordKey, damaged, parse_part};
use crate::store::{RecordEntry, Records, Result, record};

/// Whether an account of this status reserves its name and address.
pub(crate) fn reserves(status: AccountStatus) -> bool {
    status != AccountStatus::Pending
}

/// Returns the fingerprint records of the key files.
pub(crate) fn key_marks(records: &dyn Records) -> Result<KeyMarks> {
    let mut marks = KeyMarks::new();
    for file in KeyFile::ALL {
        if let Some(mark) = records.load(&layout::key_mark(file))? {
            marks.insert(file, mark);
        }
    }
    Ok(marks)
}

/// Returns the account that an index entry points to.
pub(crate) fn account_by(
    index: RecordKey<UserId>,
) -> impl FnOnce(&dyn Records) -> Result<Option<Account>> {
    move |records| match records.load(&index)? {
        Some(uid) => records.load(&layout::account(&uid)),
        None => Ok(None),
    }
}

pub(crate) fn accounts(
    records: &dyn Records,
    after: Option<&AccountId>,
    limit: usize,
) -> Result<Vec<Account>> {
    let prefix = Prefix::kind(layout::ACCOUNT_ID);
    let after = after.map(layout::account_id);
    let entries = records.scan(prefix.bytes(), after.as_ref().map(RecordKey::bytes), limit)?;
    let mut accounts = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let id = parse_part(&key, prefix.rest(&key), AccountId::parse)?;
        let uid = record::decode(&layout::account_id(&id), &value)?;
        accounts.extend(records.load(&layout::account(&uid))?);
    }
    Ok(accounts)
}

pub(crate) fn session_ids(records: &dyn Records, uid: &UserId) -> Result<Vec<SessionId>> {
    ids(records, layout::SESSION_OF, uid, SessionId::parse)
}

pub(crate) fn sessions_of(records: &dyn Records, uid: &UserId) -> Result<Vec<Session>> {
    let ids = session_ids(records, uid)?;
    load_all(records, ids.iter().map(layout::session))
}

pub(crate) fn key_ids(records: &dyn Records, uid: &UserId) -> Result<Vec<KeyId>> {
    ids(records, layout::API_KEY_OF, uid, KeyId::parse)
}

pub(crate) fn api_keys_of(records: &dyn Records, uid: &UserId) -> Result<Vec<ApiKey>> {
    let ids = key_ids(records, uid)?;
    load_all(records, ids.into_iter().map(layout::api_key))
}

/// Returns the ids at the end of the keys of a kind and a uid.
fn ids<T, E>(
    records: &dyn Records,
    kind: u8,
    uid: &UserId,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>> {
    let prefix = Prefix::of_uid(kind, uid);
    let names = records.names(&prefix)?;
    let id = |name: &Vec<u8>| parse_part(prefix.bytes(), name, &parse);
    names.iter().map(id).collect()
}

/// Returns the records under these keys, without missing ones.
pub(crate) fn load_all<T: DeserializeOwned>(
    records: &dyn Records,
    keys: impl Iterator<Item = RecordKey<T>>,
) -> Result<Vec<T>> {
    keys.filter_map(|key| records.load(&key).transpose())
        .collect()
}

pub(crate) fn token_digests(records: &dyn Records, uid: &UserId) -> Result<Vec<Digest>> {
    let prefix = Prefix::of_uid(layout::TOKEN_OF, uid);
    let names = records.names(&prefix)?;
    let digest = |name: Vec<u8>| {
        let bytes = name.try_into();
        bytes.map(Digest).map_err(|_| damaged(prefix.bytes()))
    };
    names.into_iter().map(digest).collect()
}

pub(crate) fn memberships_of(records: &dyn Records, uid: &UserId) -> Result<Vec<Membership>> {
    let prefix = Prefix::of_uid(layout::MEMBERSHIP, uid);
    let entries = records.scan(prefix.bytes(), None, usize::MAX)?;
    let membership = |(key, value): &RecordEntry| {
        let (resource, id) = two_parts(key, &prefix)?;
        let resource = Name::parse(resource).map_err(|_| damaged(key))?;
        let id = ResourceId::parse(id).map_err(|_| damaged(key))?;
        let level = record::decode(&layout::membership(uid, &resource, &id), value)?;
        Ok(Membership {
            resource,
            id,
            level,
        })
    };
    // Keys are already in the order of resource and id.
    entries.iter().map(membership).collect()
}

pub(crate) fn members_of(
    records: &dyn Records,
    (resource, id): (&Name, &ResourceId),
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<(UserId, Name)>> {
    let prefix = layout::members_of(resource, id);
    let after = after.map(|uid| layout::member(resource, id, uid));
    let entries = records.scan(prefix.bytes(), after.as_ref().map(RecordKey::bytes), limit)?;
    let member = |(key, value): &RecordEntry| {
        let uid = parse_part(key, prefix.rest(key), UserId::parse)?;
        let level = record::decode(&layout::member(resource, id, &uid), value)?;
        Ok((uid, level))
    };
    entries.iter().map(member).collect()
}

pub(crate) fn due_mails(records: &dyn Records, now: Timestamp, limit: usize) -> Result<DueMails> {
    let prefix = Prefix::kind(layout::MAIL_DUE);
    let entries = records.scan(prefix.bytes(), None, limit.saturating_add(1))?;
    let mut due = DueMails::default();
    for (key, _) in entries {
        let (millis, id) = two_parts(&key, &prefix)?;
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

/// Returns at most `limit` mails whose next attempt is ahead (`Timestamp::is_ahead`).
pub(crate) fn mails_ahead(
    records: &dyn Records,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<MailId>> {
    let prefix = Prefix::kind(layout::MAIL_DUE);
    let after = layout::mails_due_at(now.plus(AHEAD_MAX));
    let entries = records.scan(prefix.bytes(), Some(after.bytes()), limit)?;
    let id = |(key, _): &RecordEntry| {
        let (_, id) = two_parts(key, &prefix)?;
        MailId::parse(id).map_err(|_| damaged(key))
    };
    entries.iter().map(id).collect()
}

pub(crate) fn mail_count(records: &dyn Records) -> Result<usize> {
    Ok(records.names(&Prefix::kind(layout::MAIL_DUE))?.len())
}

/// Splits a key into the two parts after a prefix.
fn two_parts<'a>(key: &'a [u8], prefix: &Prefix) -> Result<(&'a str, &'a str)> {
    parse_part(key, prefix.rest(key), |text| {
        text.split_once('\0').ok_or(())
    })
}
