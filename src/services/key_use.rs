//! The rate and the last use of each API key.
//!
//! These outlive configurations. A request changes two numbers of its key; the times go through a bounded queue to a
//! task that stores them, so that no request waits for the store.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::mpsc;

use crate::model::bucket::Bucket;
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;

/// Maximum number of keys whose rates are counted, by most recent use. Some 100 bytes each.
const KEYS_MAX: u64 = 100_000;
/// Maximum number of queued times; one that does not fit is noted at a later use.
const NOTES_MAX: usize = 4096;
/// Minimum interval between two noted times of one key.
const NOTE_EVERY_MS: i64 = 60_000;

/// The id of a key and the time of a use.
pub type KeyUseRecord = (KeyId, Timestamp);

/// The uses of all keys.
pub struct KeyUse {
    keys: Cache<KeyId, Arc<KeyUsage>>,
    notes: mpsc::Sender<KeyUseRecord>,
    unread: Mutex<Option<mpsc::Receiver<KeyUseRecord>>>,
}

/// The counters of one key.
#[derive(Debug)]
pub(crate) struct KeyUsage {
    pub(crate) id: KeyId,
    pub(crate) bucket: Bucket,
    noted: AtomicI64,
}

impl KeyUse {
    /// Creates an empty set of uses.
    #[must_use]
    pub fn new() -> Self {
        let (notes, unread) = mpsc::channel(NOTES_MAX);
        Self {
            keys: Cache::builder()
                .max_capacity(KEYS_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            notes,
            unread: Mutex::new(Some(unread)),
        }
    }

    /// Returns the queue of times, for the only task that stores them; `None` if it was taken before.
    #[must_use]
    pub fn take_notes(&self) -> Option<mpsc::Receiver<KeyUseRecord>> {
        self.unread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Returns the counters of a key.
    pub(crate) fn state(&self, id: KeyId) -> Arc<KeyUsage> {
        // Nothing is read for a new entry, so nothing in it can be stale.
        let fresh = || {
            Arc::new(KeyUsage {
                id,
                bucket: Bucket::default(),
                noted: AtomicI64::new(i64::MIN),
            })
        };
        self.keys.entry(id).or_insert_with(fresh).into_value()
    }

    /// Notes a use, unless one was noted less than a minute ago.
    pub(crate) fn note(&self, state: &KeyUsage, now: Timestamp) {
        let noted = state.noted.load(Ordering::Relaxed);
        if now.millis() < noted.saturating_add(NOTE_EVERY_MS) {
            return;
        }
        let exchanged =
            state
                .noted
                .compare_exchange(noted, now.millis(), Ordering::Relaxed, Ordering::Relaxed);
        if exchanged.is_ok() && self.notes.try_send((state.id, now)).is_err() {
            state.noted.store(noted, Ordering::Relaxed);
        }
    }
}

impl Default for KeyUse {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyUse")
            .field("keys", &self.keys.entry_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> KeyId {
        KeyId::parse(text).unwrap()
    }

    #[test]
    fn a_use_is_noted_once_a_minute_for_each_key() {
        let uses = KeyUse::new();
        let mut notes = uses.take_notes().unwrap();
        assert!(uses.take_notes().is_none());
        let at = |millis| Timestamp::from_millis(1_000_000_i64 + millis);
        for millis in [0, 1, 59_999, 60_000, 60_001] {
            uses.note(&uses.state(id("aaaaaaaa")), at(millis));
        }
        uses.note(&uses.state(id("bbbbbbbb")), at(2));
        let mut seen = Vec::new();
        while let Ok(note) = notes.try_recv() {
            seen.push(note);
        }
        let expected = [
            (id("aaaaaaaa"), at(0)),
            (id("aaaaaaaa"), at(60_000)),
            (id("bbbbbbbb"), at(2)),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_finds_no_room_is_noted_later() {
        let uses = KeyUse::new();
        let notes = uses.take_notes().unwrap();
        for number in 0..NOTES_MAX {
            uses.note(
                &uses.state(id(&format!("{number:08}"))),
                Timestamp::from_secs(9),
            );
        }
        let late = uses.state(id("zzzzzzzz"));
        uses.note(&late, Timestamp::from_secs(9));
        assert_eq!(notes.len(), NOTES_MAX);
        assert_eq!(late.noted.load(Ordering::Relaxed), i64::MIN);
    }
}
