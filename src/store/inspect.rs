//! Decodes a record according to its key, for checks and exports.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::model::access::{Name, ResourceId};
use crate::model::account::{Account, Digest, OneTimeToken, Session};
use crate::model::api_key::ApiKey;
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, UserId};
use crate::model::key_file::KeyMark;
use crate::model::mail::QueuedMail;
use crate::store::Result;
use crate::store::layout::{self, parse_part};
use crate::store::record::{self, decode_entry};
use crate::store::staged::Staged;

/// A decoded record.
pub(crate) enum InspectedRecord {
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
    /// The id of a settings document, and the document.
    Settings(String, String),
    Mail(Box<QueuedMail>),
    /// The uid of a removed account.
    Removed(UserId),
    /// The name of a key file, and its fingerprint record.
    KeyMark(String, KeyMark),
    /// When the store was created.
    Made(Timestamp),
    /// The staged people are committed for import.
    Import,
    /// A piece of a staged person.
    Staged(Box<Staged>),
    /// An index entry or a count of other records.
    Derived,
}

/// Verifies checksum and version, and decodes the record according to its key.
///
/// # Errors
/// `StoreError::Damaged`, also for an unknown kind; `StoreError::Newer`.
pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<InspectedRecord> {
    let (&kind, rest) = key.split_first().ok_or_else(|| layout::damaged(key))?;
    Ok(match kind {
        layout::ACCOUNT => InspectedRecord::Account(decode_entry(key, value)?),
        layout::SESSION => InspectedRecord::Session(decode_entry(key, value)?),
        layout::API_KEY => InspectedRecord::ApiKey(decode_entry(key, value)?),
        layout::TOKEN => InspectedRecord::Token(decode_entry(key, value)?),
        layout::MAIL => InspectedRecord::Mail(decode_entry(key, value)?),
        layout::API_KEY_USED => {
            let id = parse_part(key, rest, KeyId::parse)?;
            InspectedRecord::ApiKeyUsed(id, decode_entry(key, value)?)
        }
        layout::SETTINGS => {
            let id = parse_part(key, rest, str::parse)?;
            InspectedRecord::Settings(id, decode_entry(key, value)?)
        }
        layout::REMOVED => {
            decode_entry::<()>(key, value)?;
            InspectedRecord::Removed(parse_part(key, rest, UserId::parse)?)
        }
        layout::KEY_MARK => {
            let name = parse_part(key, rest, str::parse)?;
            InspectedRecord::KeyMark(name, decode_entry(key, value)?)
        }
        layout::MADE => InspectedRecord::Made(decode_entry(key, value)?),
        layout::IMPORT => {
            decode_entry::<()>(key, value)?;
            InspectedRecord::Import
        }
        layout::STAGED => InspectedRecord::Staged(decode_entry(key, value)?),
        layout::MEMBERSHIP => {
            let level = decode_entry(key, value)?;
            let mut parts = rest.split(|byte| *byte == 0);
            let mut next = || parts.next().unwrap_or_default();
            InspectedRecord::Membership {
                uid: parse_part(key, next(), UserId::parse)?,
                resource: parse_part(key, next(), Name::parse)?,
                id: parse_part(key, next(), ResourceId::parse)?,
                level,
            }
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
        // Digests under a key that never leaves the store: of no use in an export.
        layout::NETWORKS => derived::<Vec<Digest>>(key, value)?,
        layout::READY | layout::MEMBERSHIP_COUNT | layout::MEMBER_COUNT | layout::PENDING_COUNT => {
            derived::<u64>(key, value)?
        }
        layout::OLD_HASHES => derived::<BTreeMap<u32, u64>>(key, value)?,
        _ => {
            record::check(key, value)?;
            return Err(layout::damaged(key));
        }
    })
}

fn derived<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<InspectedRecord> {
    decode_entry::<T>(key, value).map(|_| InspectedRecord::Derived)
}
