//! Pardons: hits counted before an operator vouched for a name or an account no longer count, from whatever network
//! they came.
//!
//! A counter's key combines a name with a network, and the networks are not listed anywhere. A pardon therefore does
//! not remove counters: it becomes a part of the keys created after it, and the old counters expire with their window.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

use crate::model::account::Digest;

/// Maximum number of remembered pardons; only operators create them.
const PARDONS_MAX: u64 = 10_000;

/// The pardons since the start, by the key that was pardoned.
pub struct CounterEpochs {
    given: Cache<Digest, u64>,
    next: AtomicU64,
}

impl CounterEpochs {
    pub(super) fn new() -> Self {
        Self {
            given: Cache::new(PARDONS_MAX),
            next: AtomicU64::new(1),
        }
    }

    /// Pardons whatever this key identifies.
    pub fn give(&self, key: Digest) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.given.insert(key, number);
    }

    /// Returns the number of the last pardon, as a part of keys; empty if there was none.
    #[must_use]
    pub fn part(&self, key: &Digest) -> String {
        let number = self.given.get(key);
        number.map_or_else(String::new, |number| number.to_string())
    }
}

impl fmt::Debug for CounterEpochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pardons").finish_non_exhaustive()
    }
}
