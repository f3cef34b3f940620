//! The stored form of a record: `version (1) | CRC-32, little endian (4) | JSON`.
//!
//! The checksum covers version, key and JSON, so a record found under another key is rejected as well. Its position is
//! the same in every version; it is checked first, so that a damaged version byte is reported as damage.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::layout::{self, RecordKey};
use crate::store::{Result, StoreError};

/// The version written here, and the newest one that can be read.
const VERSION: u8 = 1;

/// Longest record in bytes. sled stores values near its segment size (512 KiB) in files of their own, which syncing the
/// one data file would not cover.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Encodes a record for its key.
pub(crate) fn encode<T: Serialize>(key: &RecordKey<T>, value: &T) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(value).map_err(StoreError::cannot_write)?;
    if RECORD_BYTES_MAX < body.len() {
        return Err(StoreError::TooLong {
            tree: key.tree(),
            max: RECORD_BYTES_MAX,
        });
    }
    Ok(seal(VERSION, key.bytes(), &body))
}

/// Decodes a record if it passes [`check`].
pub(crate) fn decode<T: DeserializeOwned>(key: &RecordKey<T>, bytes: &[u8]) -> Result<T> {
    let body = check(key.bytes(), bytes)?;
    serde_json::from_slice(body).map_err(|_| layout::damaged(key.bytes()))
}

/// Decodes an entry as the type its reader expects.
pub(crate) fn decode_entry<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T> {
    decode(&RecordKey::whole(key.to_vec()), bytes)
}

/// Verifies the checksum, then the version; returns the JSON.
pub(crate) fn check<'a>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8]> {
    let damaged = || layout::damaged(key);
    let (&version, rest) = bytes.split_first().ok_or_else(damaged)?;
    let (sum, body) = rest.split_first_chunk().ok_or_else(damaged)?;
    if u32::from_le_bytes(*sum) != checksum(version, key, body) {
        return Err(damaged());
    }
    match version {
        0 => Err(damaged()),
        1..=VERSION => Ok(body),
        found => Err(StoreError::Newer {
            found,
            known: VERSION,
        }),
    }
}

fn seal(version: u8, key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(version);
    bytes.extend_from_slice(&checksum(version, key, body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn checksum(version: u8, key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::access::Name;
    use crate::model::account::{Account, Digest, OneTimeToken, Session};
    use crate::model::api_key::ApiKey;
    use crate::model::clock::Timestamp;
    use crate::model::id::UserId;
    use crate::model::key_file::KeyMark;
    use crate::model::mail::QueuedMail;
    use crate::store::inspect;
    use crate::store::staged::Staged;

    fn key(uid: &str) -> RecordKey<Name> {
        let uid = UserId::parse(uid).unwrap();
        let [resource, id] = ["list", "42"];
        layout::member(
            &Name::parse(resource).unwrap(),
            &crate::model::access::ResourceId::parse(id).unwrap(),
            &uid,
        )
    }

    #[test]
    fn records_come_back_as_they_were() {
        let (key, level) = (key("u-abcdefgh"), Name::parse("member").unwrap());
        let bytes = encode(&key, &level).unwrap();
        assert_eq!(decode(&key, &bytes).unwrap(), level);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let (key, level) = (key("u-abcdefgh"), Name::parse("member").unwrap());
        let whole = encode(&key, &level).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let outcome = decode(&key, &bytes);
            assert!(
                matches!(outcome, Err(StoreError::Damaged { tree: "members" })),
                "bit {bit}"
            );
        }
        for length in 0..whole.len() {
            assert!(decode(&key, &whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_record_under_another_key_is_damage() {
        let bytes = encode(&key("u-abcdefgh"), &Name::parse("member").unwrap()).unwrap();
        assert!(decode(&key("u-abcdefgi"), &bytes).is_err());
    }

    #[test]
    fn a_newer_version_is_not_guessed_at() {
        let key = key("u-abcdefgh");
        let outcome = decode(&key, &seal(VERSION + 1, key.bytes(), b"\"member\""));
        assert!(matches!(
            outcome,
            Err(StoreError::Newer { found: 2, known: 1 })
        ));
    }

    #[test]
    fn a_record_beyond_the_limit_is_not_written() {
        let account = RecordKey::<String>::raw(layout::ACCOUNT, b"x");
        let outcome = encode(&account, &"x".repeat(RECORD_BYTES_MAX));
        assert!(matches!(outcome, Err(StoreError::TooLong { .. })));
    }

    /// Checks that a record which can be read is written as one that reads the same.
    fn assert_reads_back<T: Serialize + DeserializeOwned>(key: &[u8], sealed: &[u8]) -> bool {
        let key = RecordKey::<T>::raw(key[0], &key[1..]);
        let Ok(record) = decode(&key, sealed) else {
            return false;
        };
        let written = encode(&key, &record).unwrap();
        let again = encode(&key, &decode(&key, &written).unwrap()).unwrap();
        assert_eq!(written, again);
        true
    }

    /// Records that are read encode to the same bytes again; what an inspection accepts, a reader accepts; and bytes
    /// that pass are those that are written. An input is a key, a line feed, and the JSON of a record.
    #[test]
    fn fuzz_record() {
        doorward_fuzz::check("record", |bytes| {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                return;
            };
            let (key, body) = (&bytes[..end], &bytes[end + 1..]);
            let label = layout::label(key);
            assert!(label.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            if let Ok(rest) = check(key, body) {
                assert_eq!(seal(VERSION, key, rest), body);
            }
            let Some(kind) = key.first() else {
                return;
            };
            let sealed = seal(VERSION, key, body);
            assert_eq!(check(key, &sealed).unwrap(), body);
            let is_read = match *kind {
                layout::ACCOUNT => assert_reads_back::<Account>(key, &sealed),
                layout::SESSION => assert_reads_back::<Session>(key, &sealed),
                layout::API_KEY => assert_reads_back::<ApiKey>(key, &sealed),
                layout::API_KEY_USED | layout::MADE => assert_reads_back::<Timestamp>(key, &sealed),
                layout::TOKEN => assert_reads_back::<OneTimeToken>(key, &sealed),
                layout::MAIL => assert_reads_back::<QueuedMail>(key, &sealed),
                layout::KEY_MARK => assert_reads_back::<KeyMark>(key, &sealed),
                layout::STAGED => assert_reads_back::<Staged>(key, &sealed),
                layout::SETTINGS => assert_reads_back::<String>(key, &sealed),
                layout::MEMBERSHIP | layout::MEMBER => assert_reads_back::<Name>(key, &sealed),
                layout::NETWORKS => assert_reads_back::<Vec<Digest>>(key, &sealed),
                layout::OLD_HASHES => assert_reads_back::<BTreeMap<u32, u64>>(key, &sealed),
                layout::ACCOUNT_ID | layout::USERNAME | layout::FOLDED => {
                    assert_reads_back::<UserId>(key, &sealed)
                }
                layout::PENDING_COUNT => assert_reads_back::<u64>(key, &sealed),
                layout::REMOVED | layout::IMPORT => assert_reads_back::<()>(key, &sealed),
                _ => return drop(inspect::read(key, &sealed)),
            };
            let is_inspected = inspect::read(key, &sealed).is_ok();
            // The inspection checks the parts of these keys as well.
            let is_key_read = matches!(
                *kind,
                layout::API_KEY_USED
                    | layout::SETTINGS
                    | layout::REMOVED
                    | layout::KEY_MARK
                    | layout::MEMBERSHIP
            );
            assert!(is_inspected == is_read || is_key_read && !is_inspected);
        });
    }
}
