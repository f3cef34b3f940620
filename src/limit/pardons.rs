//! What was counted before an operator vouched for a name or an account counts no more, from whatever network it came.
//!
//! A counter's key stands for a name together with a network, and the networks are not listed anywhere. So a pardon does
//! not remove counters: it becomes a part of the keys that are made after it, and the old ones pass with their window.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

use crate::model::account::Digest;

/// Pardons that are remembered; only operators give any.
const PARDONS_MAX: u64 = 10_000;

/// The pardons since the start, by the key of what was pardoned.
pub struct Pardons {
    given: Cache<Digest, u64>,
    next: AtomicU64,
}

impl Pardons {
    pub(super) fn new() -> Self {
        Self {
            given: Cache::new(PARDONS_MAX),
            next: AtomicU64::new(1),
        }
    }

    /// Pardons what this key stands for.
    pub fn give(&self, key: Digest) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.given.insert(key, number);
    }

    /// The number of the last pardon, as a part of keys; empty: there was none.
    #[must_use]
    pub fn part(&self, key: &Digest) -> String {
        let number = self.given.get(key);
        number.map_or_else(String::new, |number| number.to_string())
    }
}

impl fmt::Debug for Pardons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pardons").finish_non_exhaustive()
    }
}
