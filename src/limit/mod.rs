//! Floor 1: rate limiters, counted by key.
//!
//! A key is a digest, so that a counter reveals nothing; only its creator knows what it is for. Hits inside their
//! window are never evicted: if there is no room, a new key is refused rather than let through uncounted. An attempt in
//! flight holds a place until its outcome is known, and does not count as a failure before. Times are those of the
//! monotonic clock; for a restart they are exported and imported as wall-clock times (`Counters::changes`,
//! `Counters::restore`).

mod cell;
pub mod deadline;
mod keeping;
mod kept;
pub mod pardons;
pub mod places;
pub mod single_flight;
mod ticket;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

pub use crate::limit::keeping::Keeping;
pub use crate::limit::kept::{CounterChange, CounterSets, KeptCounter, KeptKey};
pub use crate::limit::ticket::Ticket;

use crate::limit::cell::{ClockMicros, CounterCell, micros};
use crate::model::account::Digest;
use crate::model::clock::Clock;

/// Maximum number of expired keys swept per call: some microseconds.
const SWEEP: usize = 64;
/// Maximum number of tasks waiting for places held by others. Each settled ticket wakes all of them.
const WAITING_MAX: usize = 256;

/// The limit that applies to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitRule {
    /// At most `max` hits in any span of `window`.
    Window {
        /// Maximum number of hits.
        max: u32,
        /// Length of the window.
        window: Duration,
    },
    /// The first `free` failures in a row without a pause; then a pause after each, doubled from 1 s up to `pause_max`.
    Row {
        /// Number of failures without a pause.
        free: u32,
        /// The longest pause.
        pause_max: Duration,
    },
}

impl LimitRule {
    /// Returns the number of hits without a wait, and the window or the longest pause.
    pub(in crate::limit) const fn bounds(self) -> (u32, Duration) {
        match self {
            Self::Window { max, window } => (max, window),
            Self::Row { free, pause_max } => (free, pause_max),
        }
    }
}

/// The effect of a success on a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSuccess {
    /// Everything counted under the key is forgotten.
    Clear,
    /// Only this attempt is not counted.
    GiveBack,
}

/// A counter under which an attempt is counted, and its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterClaim {
    /// The counter.
    pub key: Digest,
    /// The limit.
    pub rule: LimitRule,
    /// Name of the rule as shown to callers.
    pub policy: &'static str,
    /// Whether the caller must not learn that this counter is full: see [`TakeOutcome::Taken`].
    pub is_silent: bool,
    /// The effect of a success.
    pub on_success: OnSuccess,
}

/// A rule without room, as shown to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReachedLimit {
    /// Name of the rule.
    pub policy: &'static str,
    /// The number of hits it allows.
    pub quota: u32,
    /// The window of the quota.
    pub window: Duration,
    /// Time until there is room again; above zero.
    pub wait: Duration,
}

/// Outcome of [`Counters::take`].
#[derive(Debug)]
#[must_use]
pub enum TakeOutcome {
    /// The attempt holds a place under every counter.
    Taken {
        /// To be settled when the outcome is known. Dropping it counts as a failure.
        ticket: Ticket,
        /// A silent counter is full: do not perform the attempt, but answer as if it had failed. Silent counters do not
        /// count it.
        is_silently_limited: bool,
    },
    /// Attempts in flight hold the last places: whether one is left is known once they are settled.
    Busy,
    /// A counter is full; nothing was counted.
    Over(ReachedLimit),
    /// There is no room for another key; nothing was counted.
    Full,
}

/// Counters by key, in bounded memory.
pub struct Counters {
    keys_max: usize,
    shared: Arc<SharedCounters>,
}

/// State shared by the counters and their tickets.
struct SharedCounters {
    clock: Arc<dyn Clock>,
    /// Held for some microseconds, never across an await.
    state: Mutex<CounterState>,
    /// Wakes the tasks waiting for places.
    settled: Notify,
    /// Limits the number of waiting tasks.
    waiting: Semaphore,
}

#[derive(Default)]
struct CounterState {
    cells: HashMap<Digest, StoredCounter>,
    /// When to check whether a cell has expired; at least one entry for each cell without attempts in flight.
    due: BinaryHeap<Reverse<(ClockMicros, Digest)>>,
    /// The keys that have changed since they were last exported.
    changed: HashSet<Digest>,
}

struct StoredCounter {
    cell: CounterCell,
    /// Number of attempts in flight that hold a place here.
    under_way: u32,
    /// Whether the cell was exported, so that its removal must be exported too.
    is_kept: bool,
}

impl Counters {
    /// Creates empty counters for at most `keys_max` keys, about 200 bytes each.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, keys_max: usize) -> Self {
        Self {
            keys_max,
            shared: Arc::new(SharedCounters {
                clock,
                state: Mutex::default(),
                settled: Notify::new(),
                waiting: Semaphore::new(WAITING_MAX),
            }),
        }
    }

    /// Returns the rule among `claims` that has no room and requires the longest wait. Counts nothing, and ignores
    /// attempts in flight.
    #[must_use]
    pub fn limit(&self, claims: &[CounterClaim]) -> Option<ReachedLimit> {
        let now = self.shared.now();
        self.shared.lock().limit(claims, now)
    }

    /// Returns how many hits a key has now.
    #[must_use]
    pub fn count(&self, key: &Digest) -> u32 {
        let now = self.shared.now();
        let state = self.shared.lock();
        let stored = state.cells.get(key);
        stored.map_or(0, |stored| stored.cell.count(now))
    }

    /// Holds a place under every key at once, or under none.
    ///
    /// A silent counter makes no caller wait: attempts in flight are checked against it when they are settled
    /// ([`Ticket::succeeded`]), so that no delay reveals which keys belong together.
    pub fn take(&self, claims: &[CounterClaim]) -> TakeOutcome {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        state.sweep(now, SWEEP);
        let (open, silent) = split_silent(claims);
        if let Some(limit) = state.limit(&open, now) {
            return TakeOutcome::Over(limit);
        }
        if open.iter().any(|claim| state.is_held(claim, now)) {
            return TakeOutcome::Busy;
        }
        let is_silently_limited = state.limit(&silent, now).is_some();
        let claims = if is_silently_limited {
            open
        } else {
            claims.to_vec()
        };
        if !state.has_room(&claims, self.keys_max) {
            return TakeOutcome::Full;
        }
        for claim in &claims {
            state.hold(claim);
        }
        let shared = Arc::clone(&self.shared);
        TakeOutcome::Taken {
            ticket: Ticket { claims, shared },
            is_silently_limited,
        }
    }

    /// Like [`Counters::take`], but waits up to `wait_max` for places held by others; returns [`TakeOutcome::Busy`] after
    /// that, or if too many tasks wait.
    pub async fn take_in_turn(&self, claims: &[CounterClaim], wait_max: Duration) -> TakeOutcome {
        match self.take(claims) {
            TakeOutcome::Busy => {}
            other => return other,
        }
        let Ok(_place) = self.shared.waiting.try_acquire() else {
            return TakeOutcome::Busy;
        };
        let turn = async {
            loop {
                // Registered before the attempt, so that a ticket settled in between wakes this task.
                let settled = self.shared.settled.notified();
                match self.take(claims) {
                    TakeOutcome::Busy => settled.await,
                    other => return other,
                }
            }
        };
        let taken = tokio::time::timeout(wait_max, turn).await;
        taken.unwrap_or(TakeOutcome::Busy)
    }

    /// Forgets everything counted under these keys.
    pub fn forget(&self, keys: &[Digest]) {
        let mut state = self.shared.lock();
        for key in keys {
            state.clear(key);
        }
    }
}

/// Splits claims into those that may be shown to callers, and silent ones.
fn split_silent(claims: &[CounterClaim]) -> (Vec<CounterClaim>, Vec<CounterClaim>) {
    claims.iter().copied().partition(|claim| !claim.is_silent)
}

impl SharedCounters {
    fn now(&self) -> ClockMicros {
        micros(self.clock.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, CounterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters")
            .field("keys", &self.shared.lock().cells.len())
            .field("keys_max", &self.keys_max)
            .finish_non_exhaustive()
    }
}

impl CounterState {
    fn limit(&self, claims: &[CounterClaim], now: ClockMicros) -> Option<ReachedLimit> {
        let waits = claims.iter().filter_map(|claim| {
            let wait = self.cells.get(&claim.key)?.cell.wait(claim.rule, now);
            (0 < wait).then_some((wait, claim))
        });
        let (wait, claim) = waits.max_by_key(|(wait, _)| *wait)?;
        let (quota, window) = claim.rule.bounds();
        Some(ReachedLimit {
            policy: claim.policy,
            quota,
            window,
            wait: Duration::from_micros(wait.unsigned_abs()),
        })
    }

    /// Whether attempts in flight hold the last places of a counter, so that it is not known yet whether it is full.
    fn is_held(&self, claim: &CounterClaim, now: ClockMicros) -> bool {
        let (places, _) = claim.rule.bounds();
        self.cells.get(&claim.key).is_some_and(|stored| {
            let counted = stored.cell.count(now);
            0 < stored.under_way && places <= counted.saturating_add(stored.under_way)
        })
    }

    fn has_room(&self, claims: &[CounterClaim], keys_max: usize) -> bool {
        let is_new = |claim: &&CounterClaim| !self.cells.contains_key(&claim.key);
        self.cells.len() + claims.iter().filter(is_new).count() <= keys_max
    }

    fn hold(&mut self, claim: &CounterClaim) {
        let stored = self
            .cells
            .entry(claim.key)
            .or_insert_with(|| StoredCounter {
                cell: CounterCell::new(claim.rule),
                under_way: 0,
                is_kept: false,
            });
        stored.under_way = stored.under_way.saturating_add(1);
    }

    /// Counts a hit for an attempt that holds a place.
    fn hit(&mut self, claim: &CounterClaim, now: ClockMicros) {
        if let Some(stored) = self.cells.get_mut(&claim.key) {
            stored.cell.hit(claim.rule, now);
            self.changed.insert(claim.key);
        }
    }

    /// Releases one place.
    fn release(&mut self, key: &Digest) {
        let Some(stored) = self.cells.get_mut(key) else {
            return;
        };
        stored.under_way = stored.under_way.saturating_sub(1);
        if 0 < stored.under_way {
            return;
        }
        let end = stored.cell.end();
        if end == ClockMicros::MIN {
            self.remove(*key);
        } else {
            self.due.push(Reverse((end, *key)));
            self.tidy();
        }
    }

    /// Forgets what was counted under a key; held places remain.
    fn clear(&mut self, key: &Digest) {
        match self.cells.get_mut(key) {
            Some(stored) if 0 < stored.under_way => {
                stored.cell.clear();
                self.changed.insert(*key);
            }
            _ => self.remove(*key),
        }
    }

    fn remove(&mut self, key: Digest) {
        let Some(stored) = self.cells.remove(&key) else {
            return;
        };
        if stored.is_kept {
            self.changed.insert(key);
        } else {
            self.changed.remove(&key);
        }
        self.tidy();
    }

    /// Keeps entries of removed cells, and several entries of one cell, from accumulating.
    fn tidy(&mut self) {
        if 2 * self.cells.len() + 1024 < self.due.len() {
            let due = |(key, stored): (&Digest, &StoredCounter)| Reverse((stored.cell.end(), *key));
            self.due = self.cells.iter().map(due).collect();
        }
    }

    /// Removes at most `count` expired cells.
    fn sweep(&mut self, now: ClockMicros, count: usize) {
        for _ in 0..count {
            let first = self.due.peek().filter(|Reverse((end, _))| *end <= now);
            let Some(Reverse((_, key))) = first.copied() else {
                return;
            };
            self.due.pop();
            // Releasing the last place of a key in use schedules the next check.
            let stored = self.cells.get(&key).filter(|it| it.under_way == 0);
            let Some(end) = stored.map(|it| it.cell.end()) else {
                continue;
            };
            if end <= now {
                self.remove(key);
            } else {
                self.due.push(Reverse((end, key)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
