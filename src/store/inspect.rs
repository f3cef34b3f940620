//! A record taken apart by its key: what checks and exports look at.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::model::access::{Name, ResourceId};
use crate::model::account::{Account, Digest, OneTimeToken, Session};
use crate::model::api_key::ApiKey;
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, UserId};
use crate::model::key_file::KeyMark;
use crate::model::mail::QueuedMail;
use crate::store::error::StoreError;
use crate::store::intents::import::Staged;
use crate::store::layout::{self, Key};
use crate::store::record;

/// What stands under a key.
pub(crate) enum Record {
    Account(Box<Account>),
    Session(Box<Session>),
    ApiKey(Box<ApiKey>),
    ApiKeyUsed(KeyId, Timestamp),
    Token(Box<OneTimeToken>),
    Membership {
        uid: UserId,
        resource: Name,
        id: ResourceId,
        level: Name,
    },
    /// A settings document and its name.
    Settings(String, String),
    Mail(Box<QueuedMail>),
    /// The uid of an account that was removed.
    Removed(UserId),
    /// The name of a key file, and what it is known by.
    KeyMark(String, KeyMark),
    /// When the store was made.
    Made(Timestamp),
    /// What is staged will be imported.
    Import,
    /// A piece of a person who is to be imported.
    Staged(Box<Staged>),
    /// What is written beside the above to find it again, or to count it.
    Derived,
}

/// Compares checksum and version, and reads the record as what its key says it is.
///
/// # Errors
/// [`StoreError::Damaged`], also for a kind that is not known here; [`StoreError::Newer`].
pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<Record, StoreError> {
    let (&kind, rest) = key.split_first().ok_or_else(|| layout::damaged(key))?;
    let damaged = || layout::damaged(key);
    let record = match kind {
        layout::ACCOUNT => Record::Account(decode(key, value)?),
        layout::SESSION => Record::Session(decode(key, value)?),
        layout::API_KEY => Record::ApiKey(decode(key, value)?),
        layout::TOKEN => Record::Token(decode(key, value)?),
        layout::MAIL => Record::Mail(decode(key, value)?),
        layout::API_KEY_USED => {
            let id = KeyId::parse(text(rest).ok_or_else(damaged)?).map_err(|_| damaged())?;
            Record::ApiKeyUsed(id, decode(key, value)?)
        }
        layout::SETTINGS => {
            let id = text(rest).ok_or_else(damaged)?.to_owned();
            Record::Settings(id, decode(key, value)?)
        }
        layout::REMOVED => {
            decode::<()>(key, value)?;
            Record::Removed(uid(rest).ok_or_else(damaged)?)
        }
        layout::KEY_MARK => {
            let name = text(rest).ok_or_else(damaged)?.to_owned();
            Record::KeyMark(name, decode(key, value)?)
        }
        layout::MADE => Record::Made(decode(key, value)?),
        layout::IMPORT => {
            decode::<()>(key, value)?;
            Record::Import
        }
        layout::STAGED => Record::Staged(decode(key, value)?),
        layout::MEMBERSHIP => {
            let level = decode(key, value)?;
            membership(rest, level).ok_or_else(damaged)?
        }
        layout::ACCOUNT_ID
        | layout::USERNAME
        | layout::FOLDED
        | layout::NORMALIZED
        | layout::CLAIM => derived::<UserId>(key, value)?,
        layout::SESSION_OF | layout::API_KEY_OF | layout::TOKEN_OF | layout::MAIL_DUE => {
            derived::<()>(key, value)?
        }
        layout::MEMBER => derived::<Name>(key, value)?,
        // Digests under a key that stays here: nothing that an export could tell.
        layout::NETWORKS => derived::<Vec<Digest>>(key, value)?,
        layout::READY | layout::MEMBERSHIP_COUNT | layout::MEMBER_COUNT | layout::PENDING_COUNT => {
            derived::<u64>(key, value)?
        }
        layout::OLD_HASHES => derived::<BTreeMap<u32, u64>>(key, value)?,
        _ => {
            record::check(key, value)?;
            return Err(damaged());
        }
    };
    Ok(record)
}

fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    let (&kind, rest) = key.split_first().ok_or_else(|| layout::damaged(key))?;
    record::decode(&Key::raw(kind, rest), value)
}

fn derived<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<Record, StoreError> {
    decode::<T>(key, value).map(|_| Record::Derived)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn uid(bytes: &[u8]) -> Option<UserId> {
    UserId::parse(text(bytes)?).ok()
}

fn membership(rest: &[u8], level: Name) -> Option<Record> {
    let mut parts = rest.split(|byte| *byte == 0);
    let (uid, resource, id) = (uid(parts.next()?)?, parts.next()?, parts.next()?);
    Some(Record::Membership {
        uid,
        resource: Name::parse(text(resource)?).ok()?,
        id: ResourceId::parse(text(id)?).ok()?,
        level,
    })
}
