//! Counters that decide whether a cached value may still be used.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::id::UserId;

/// Number of counters: uids share them by hash, which costs an occasional needless reload but never a stale hit.
const SLOTS: usize = 4096;

/// One counter per uid (shared by hash), advanced by the store after each commit that touches the uid.
///
/// A reader takes the stamp of a uid *before* it reads the store and keeps it with what it caches; a cache hit requires
/// an unchanged stamp. So no slow read can bring back what was revoked in the meantime.
#[derive(Debug)]
pub struct Generations {
    slots: Vec<AtomicU64>,
    hasher: RandomState,
}

/// The slot of a counter and the value read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    slot: u16,
    value: u64,
}

impl Generations {
    /// Creates all counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Returns the current stamp of a uid.
    #[must_use]
    pub fn stamp(&self, uid: &UserId) -> Stamp {
        let slot = self.slot(uid);
        Stamp {
            slot,
            value: self.value(slot),
        }
    }

    /// Whether the uid has not been touched since the stamp was taken.
    #[must_use]
    pub fn is_current(&self, stamp: Stamp) -> bool {
        self.value(stamp.slot) == stamp.value
    }

    /// Voids every stamp of a uid: called by engines, after the commit and before the answer.
    pub fn touch(&self, uid: &UserId) {
        if let Some(counter) = self.slots.get(usize::from(self.slot(uid))) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Voids every existing stamp, after a store was reopened.
    pub fn touch_all(&self) {
        for counter in &self.slots {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn slot(&self, uid: &UserId) -> u16 {
        // The remainder is below 4,096.
        u16::try_from(self.hasher.hash_one(uid.as_str()) % SLOTS as u64).unwrap_or_default()
    }

    fn value(&self, slot: u16) -> u64 {
        self.slots
            .get(usize::from(slot))
            .map_or(0, |counter| counter.load(Ordering::SeqCst))
    }
}

impl Default for Generations {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_voids_the_stamps_of_that_uid() {
        let generations = Generations::new();
        let uid = UserId::parse("u-abcdefgh").unwrap();
        let before = generations.stamp(&uid);
        assert!(generations.is_current(before));
        generations.touch(&uid);
        assert!(!generations.is_current(before));
        assert!(generations.is_current(generations.stamp(&uid)));
    }
}
