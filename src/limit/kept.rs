//! Persistence of counters across a restart: exported as wall-clock times, imported as ages.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::limit::cell::{ClockMicros, CounterCell, micros};
use crate::limit::pardons::CounterEpochs;
use crate::limit::{Counters, Keeping, SWEEP, StoredCounter};
use crate::model::account::Digest;
use crate::model::clock::{Clock, Timestamp};

/// Maximum number of keys per set of counters: some 60 MB if all are in use. A hashing thread verifies no more than
/// 40,000 passwords in ten minutes, each counted under seven keys at most.
const KEYS_MAX: usize = 300_000;

/// Maximum number of changes per export: below 10 ms of one thread.
const CHANGES_MAX: usize = 5000;

/// A counter as stored: with wall-clock times, and spans in milliseconds.
pub type KeptCounter = CounterCell<Timestamp, u64>;

/// The key of a stored counter: one byte for its set, then the counter's key.
pub type KeptKey = Vec<u8>;

/// A stored counter to write, or to remove if `None`.
pub type CounterChange = (KeptKey, Option<KeptCounter>);

/// The counters of a gateway. They outlive a configuration, which supplies the rules.
///
/// Each set has its own capacity, so that filling one with mails blocks no logins.
#[derive(Debug)]
pub struct CounterSets {
    /// Failed passwords.
    pub logins: Counters,
    /// Mails caused by callers without an identity.
    pub mails: Counters,
    /// Coordinates the storing of both sets.
    pub keeping: Keeping,
    /// Names and accounts pardoned by an operator.
    pub pardons: CounterEpochs,
}

impl CounterSets {
    /// Creates empty sets.
    #[must_use]
    pub fn new(clock: &Arc<dyn Clock>) -> Self {
        Self::with_room(clock, KEYS_MAX)
    }

    /// Creates empty sets with room for `keys_max` keys each.
    #[must_use]
    pub fn with_room(clock: &Arc<dyn Clock>, keys_max: usize) -> Self {
        Self {
            logins: Counters::new(Arc::clone(clock), keys_max),
            mails: Counters::new(Arc::clone(clock), keys_max),
            keeping: Keeping::default(),
            pardons: CounterEpochs::new(),
        }
    }

    fn sets(&self) -> [(u8, &Counters); 2] {
        [(b'l', &self.logins), (b'm', &self.mails)]
    }

    /// Returns some of the changes since the last call; empty if nothing has changed.
    #[must_use]
    pub fn changes(&self) -> Vec<CounterChange> {
        let of = |(set, counters): (u8, &Counters)| {
            let changes = counters.changes(CHANGES_MAX).into_iter();
            let placed = move |(key, kept): (Digest, _)| ([&[set], &key.0[..]].concat(), kept);
            changes.map(placed).collect::<Vec<_>>()
        };
        self.sets().into_iter().flat_map(of).collect()
    }

    /// Returns changes that could not be stored, so that they are exported again.
    pub fn not_kept(&self, changes: &[CounterChange]) {
        for (set, counters) in self.sets() {
            counters.not_kept(changes.iter().filter_map(|(key, _)| key_in(set, key)));
        }
    }

    /// Imports what was stored before a restart.
    pub fn restore(&self, kept: Vec<(KeptKey, KeptCounter)>) {
        for (place, kept) in kept {
            for (set, counters) in self.sets() {
                if let Some(key) = key_in(set, &place) {
                    counters.restore(key, &kept);
                }
            }
        }
    }
}

fn key_in(set: u8, place: &[u8]) -> Option<Digest> {
    let key = place.strip_prefix(&[set])?;
    key.try_into().ok().map(Digest)
}

impl Counters {
    /// Returns at most `count` counters that have changed since they were last exported.
    fn changes(&self, count: usize) -> Vec<(Digest, Option<KeptCounter>)> {
        let (now, wall) = (self.shared.now(), self.shared.clock.now());
        let mut state = self.shared.lock();
        state.sweep(now, count.max(SWEEP));
        let keys: Vec<Digest> = state.changed.iter().take(count).copied().collect();
        let export = |key| {
            state.changed.remove(&key);
            let kept = state.cells.get_mut(&key).map(|stored| {
                stored.is_kept = true;
                keep(&stored.cell, now, wall)
            });
            (key, kept)
        };
        keys.into_iter().map(export).collect()
    }

    /// Counters that are gone meanwhile are skipped: at worst, they are imported once more, with their age.
    fn not_kept(&self, keys: impl Iterator<Item = Digest>) {
        let mut state = self.shared.lock();
        for key in keys {
            if state.cells.contains_key(&key) {
                state.changed.insert(key);
            }
        }
    }

    fn restore(&self, key: Digest, kept: &KeptCounter) {
        let (now, wall) = (self.shared.now(), self.shared.clock.now());
        let cell = take_back(kept, now, wall);
        let end = cell.end();
        let mut state = self.shared.lock();
        if end <= now || self.keys_max <= state.cells.len() {
            state.changed.insert(key);
            return;
        }
        let stored = StoredCounter {
            cell,
            under_way: 0,
            is_kept: true,
        };
        state.cells.insert(key, stored);
        state.due.push(Reverse((end, key)));
    }
}

fn keep(cell: &CounterCell, now: ClockMicros, wall: Timestamp) -> KeptCounter {
    // Rounded up to the next millisecond, like hits counted at the end of their slice: none expires early.
    let at = |at: ClockMicros| {
        Timestamp::from_millis(wall.millis().saturating_sub((now - at).div_euclid(1000)))
    };
    cell.convert(at, |span| u64::try_from(span / 1000).unwrap_or(0))
}

/// Imports a counter. If the wall clock was set back, ages are too small at worst, never negative: no limit lasts
/// longer than its rule says.
fn take_back(kept: &KeptCounter, now: ClockMicros, wall: Timestamp) -> CounterCell {
    let span = |ms| micros(Duration::from_millis(ms)).min(ClockMicros::MAX / 1024);
    kept.convert(|at| now - micros(wall.since(at)), span)
}
