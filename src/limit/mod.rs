//! Floor 1: how often something may happen, counted by key.
//!
//! A key is a digest, so that nothing can be read from a counter; what it stands for is known to whoever makes it. What
//! is inside its window is never evicted: when there is no room, a new key is refused rather than let through uncounted.
//! What is under way holds a place until it is known how it turned out, and is no failure before.
//! Times are the monotonic clock's; for a restart they are handed out and taken back as times of the wall clock
//! (`Counters::changes`, `Counters::restore`).

mod cell;
mod keeping;
mod kept;
pub mod pardons;
pub mod places;
mod ticket;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

pub use crate::limit::keeping::Keeping;
pub use crate::limit::kept::{Change, CounterSets, Kept, KeptKey};
pub use crate::limit::ticket::Ticket;

use crate::limit::cell::{Cell, Micros, micros};
use crate::model::account::Digest;
use crate::model::clock::Clock;

/// How many keys that say nothing any more one call removes at most: some microseconds.
const SWEEP: usize = 64;
/// How many wait at once for places that others hold. Each settled one wakes all of them.
const WAITING_MAX: usize = 256;

/// What is allowed under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// At most `max` in any span of `window`.
    Window {
        /// How many.
        max: u32,
        /// In which time.
        window: Duration,
    },
    /// The first `free` in a row as fast as they come; after each further one a pause, from 1 s doubled up to
    /// `pause_max`.
    Row {
        /// How many.
        free: u32,
        /// The longest pause.
        pause_max: Duration,
    },
}

/// What becomes of a counter when the thing that was counted turns out well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSuccess {
    /// All that was counted under the key is forgotten.
    Clear,
    /// Only this one is.
    GiveBack,
}

/// A counter that something counts under, and its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The counter.
    pub key: Digest,
    /// What is allowed.
    pub rule: Rule,
    /// What the rule is called towards callers.
    pub policy: &'static str,
    /// The caller must not learn that this counter is full: see [`Take::Taken`].
    pub is_silent: bool,
    /// What a success does to it.
    pub on_success: OnSuccess,
}

/// A rule that has no room left, as callers may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Which one.
    pub policy: &'static str,
    /// How many it allows.
    pub quota: u32,
    /// In which time.
    pub window: Duration,
    /// When there is room again; above zero.
    pub wait: Duration,
}

/// Outcome of [`Counters::take`].
#[derive(Debug)]
#[must_use]
pub enum Take {
    /// It holds a place under every counter.
    Taken {
        /// To be settled when it is known how it turned out. One that is dropped has failed.
        ticket: Ticket,
        /// A silent counter is full: do not do it, only answer as if it had failed. The silent ones do not count it.
        is_shadowed: bool,
    },
    /// Others that are under way hold the last places: whether one is left is known once they are settled.
    Busy,
    /// A counter is full: nothing was counted.
    Over(Limit),
    /// There is no room for another key: nothing was counted.
    Full,
}

/// Counters by key, in bounded memory.
pub struct Counters {
    keys_max: usize,
    shared: Arc<Shared>,
}

/// What tickets go back to.
struct Shared {
    clock: Arc<dyn Clock>,
    /// Never held across an await; some microseconds.
    state: Mutex<State>,
    /// Wakes those who wait for places.
    settled: Notify,
    /// Places to wait in.
    waiting: Semaphore,
}

#[derive(Default)]
struct State {
    cells: HashMap<Digest, Stored>,
    /// When to look whether a cell can go; at least one entry for each cell that nothing under way holds.
    due: BinaryHeap<Reverse<(Micros, Digest)>>,
    /// What has changed since it was last handed out.
    changed: HashSet<Digest>,
}

struct Stored {
    cell: Cell,
    /// How many hold a place here.
    under_way: u32,
    /// It has been handed out, so its end must be too.
    is_kept: bool,
}

impl Counters {
    /// None yet. Keeps at most `keys_max` keys, about 200 bytes each.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, keys_max: usize) -> Self {
        Self {
            keys_max,
            shared: Arc::new(Shared {
                clock,
                state: Mutex::default(),
                settled: Notify::new(),
                waiting: Semaphore::new(WAITING_MAX),
            }),
        }
    }

    /// The rule among `claims` that has no room and wants the longest wait. Counts nothing, and does not look at what is
    /// under way.
    #[must_use]
    pub fn limit(&self, claims: &[Claim]) -> Option<Limit> {
        let now = self.shared.now();
        self.lock().limit(claims, now)
    }

    /// How many are counted under a key now.
    #[must_use]
    pub fn count(&self, key: &Digest) -> u32 {
        let now = self.shared.now();
        let state = self.lock();
        state
            .cells
            .get(key)
            .map_or(0, |stored| stored.cell.count(now))
    }

    /// Holds a place under every key at once, or under none.
    ///
    /// A silent counter holds nobody up: what is under way there is judged when it is settled ([`Ticket::succeeded`]), so
    /// that no wait tells which keys stand for the same.
    pub fn take(&self, claims: &[Claim]) -> Take {
        let now = self.shared.now();
        let mut state = self.lock();
        state.sweep(now, SWEEP);
        let (told, silent) = parted(claims);
        if let Some(limit) = state.limit(&told, now) {
            return Take::Over(limit);
        }
        if told.iter().any(|claim| state.is_held(claim, now)) {
            return Take::Busy;
        }
        let is_shadowed = state.limit(&silent, now).is_some();
        let claims = if is_shadowed { told } else { claims.to_vec() };
        if !state.has_room(&claims, self.keys_max) {
            return Take::Full;
        }
        for claim in &claims {
            state.hold(claim);
        }
        Take::Taken {
            ticket: Ticket::new(claims, Arc::clone(&self.shared)),
            is_shadowed,
        }
    }

    /// As [`Counters::take`], but waits for places that others hold, at most `wait_max`; then, or if too many wait, it is
    /// [`Take::Busy`].
    pub async fn take_in_turn(&self, claims: &[Claim], wait_max: Duration) -> Take {
        match self.take(claims) {
            Take::Busy => {}
            other => return other,
        }
        let Ok(_place) = self.shared.waiting.try_acquire() else {
            return Take::Busy;
        };
        let turn = async {
            loop {
                // Before the look: what is settled between the two wakes this one.
                let settled = self.shared.settled.notified();
                match self.take(claims) {
                    Take::Busy => settled.await,
                    other => return other,
                }
            }
        };
        let taken = tokio::time::timeout(wait_max, turn).await;
        taken.unwrap_or(Take::Busy)
    }

    /// Forgets all that was counted under these keys.
    pub fn forget(&self, keys: &[Digest]) {
        let mut state = self.lock();
        for key in keys {
            state.clear(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

/// Those that callers may be told of, and the others.
fn parted(claims: &[Claim]) -> (Vec<Claim>, Vec<Claim>) {
    claims.iter().copied().partition(|claim| !claim.is_silent)
}

impl Shared {
    fn now(&self) -> Micros {
        micros(self.clock.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters")
            .field("keys", &self.lock().cells.len())
            .field("keys_max", &self.keys_max)
            .finish_non_exhaustive()
    }
}

impl State {
    fn limit(&self, claims: &[Claim], now: Micros) -> Option<Limit> {
        let waits = claims.iter().filter_map(|claim| {
            let wait = self.cells.get(&claim.key)?.cell.wait(claim.rule, now);
            (0 < wait).then_some((wait, claim))
        });
        let (wait, claim) = waits.max_by_key(|(wait, _)| *wait)?;
        let (quota, window) = match claim.rule {
            Rule::Window { max, window } => (max, window),
            Rule::Row { free, pause_max } => (free, pause_max),
        };
        Some(Limit {
            policy: claim.policy,
            quota,
            window,
            wait: Duration::from_micros(wait.unsigned_abs()),
        })
    }

    /// Whether those under way hold the last places of a counter, so that it is not known yet whether it is full.
    fn is_held(&self, claim: &Claim, now: Micros) -> bool {
        let places = match claim.rule {
            Rule::Window { max, .. } => max,
            Rule::Row { free, .. } => free,
        };
        self.cells.get(&claim.key).is_some_and(|stored| {
            let counted = stored.cell.count(now);
            0 < stored.under_way && places <= counted.saturating_add(stored.under_way)
        })
    }

    fn has_room(&self, claims: &[Claim], keys_max: usize) -> bool {
        let is_new = |claim: &&Claim| !self.cells.contains_key(&claim.key);
        self.cells.len() + claims.iter().filter(is_new).count() <= keys_max
    }

    fn hold(&mut self, claim: &Claim) {
        let stored = self.cells.entry(claim.key).or_insert_with(|| Stored {
            cell: Cell::new(claim.rule),
            under_way: 0,
            is_kept: false,
        });
        stored.under_way = stored.under_way.saturating_add(1);
    }

    /// Counts one of those that hold a place.
    fn hit(&mut self, claim: &Claim, now: Micros) {
        if let Some(stored) = self.cells.get_mut(&claim.key) {
            stored.cell.hit(claim.rule, now);
            self.changed.insert(claim.key);
        }
    }

    /// Gives one place up.
    fn release(&mut self, key: &Digest) {
        let Some(stored) = self.cells.get_mut(key) else {
            return;
        };
        stored.under_way = stored.under_way.saturating_sub(1);
        if 0 < stored.under_way {
            return;
        }
        let end = stored.cell.end();
        if end == Micros::MIN {
            self.remove(*key);
        } else {
            self.due.push(Reverse((end, *key)));
            self.tidy();
        }
    }

    /// Forgets what was counted under a key; places that are held stay so.
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

    /// Entries of cells that are gone, and several of one cell, must not pile up.
    fn tidy(&mut self) {
        if 2 * self.cells.len() + 1024 < self.due.len() {
            let due = self.cells.iter();
            self.due = due
                .map(|(key, stored)| Reverse((stored.cell.end(), *key)))
                .collect();
        }
    }

    /// Removes what says nothing any more, at most `count` of it.
    fn sweep(&mut self, now: Micros, count: usize) {
        for _ in 0..count {
            let key = match self.due.peek() {
                Some(Reverse((end, key))) if *end <= now => *key,
                _ => return,
            };
            self.due.pop();
            let Some(stored) = self.cells.get(&key) else {
                continue;
            };
            if 0 < stored.under_way {
                // Whoever gives its last place up has it looked at again.
                continue;
            }
            let end = stored.cell.end();
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
