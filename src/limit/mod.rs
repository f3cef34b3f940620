//! Floor 1: how often something may happen, counted by key.
//!
//! A key is a digest, so that nothing can be read from a counter; what it stands for is known to whoever makes it. What
//! is inside its window is never evicted: when there is no room, a new key is refused rather than let through uncounted.
//! Times are the monotonic clock's; for a restart they are handed out and taken back as times of the wall clock
//! (`Counters::changes`, `Counters::restore`).

mod cell;
mod kept;
pub mod places;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use crate::limit::kept::{Change, CounterSets, Kept, KeptKey};

use crate::limit::cell::{Cell, Micros, micros};
use crate::model::account::Digest;
use crate::model::clock::Clock;

/// How many keys that say nothing any more one call removes at most: some microseconds.
const SWEEP: usize = 64;

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
    /// Counted.
    Taken {
        /// To be settled when it is known how it turned out. One that is dropped stays counted.
        ticket: Ticket,
        /// A silent counter is full: do not do it, only count and answer as if it had failed. The silent ones have not
        /// counted it.
        is_shadowed: bool,
    },
    /// A counter is full: nothing was counted.
    Over(Limit),
    /// There is no room for another key: nothing was counted.
    Full,
}

/// What one [`Counters::take`] has counted.
#[derive(Debug)]
#[must_use]
pub struct Ticket(Vec<Counted>);

#[derive(Debug)]
struct Counted {
    claim: Claim,
    at: Micros,
    /// When a row's last failure was before.
    before: Option<Micros>,
}

/// Counters by key, in bounded memory.
pub struct Counters {
    clock: Arc<dyn Clock>,
    keys_max: usize,
    /// Never held across an await; some microseconds.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cells: HashMap<Digest, Stored>,
    /// When to look whether a cell can go; at least one entry for each cell.
    due: BinaryHeap<Reverse<(Micros, Digest)>>,
    /// What has changed since it was last handed out.
    changed: HashSet<Digest>,
}

struct Stored {
    cell: Cell,
    /// It has been handed out, so its end must be too.
    is_kept: bool,
}

impl Counters {
    /// None yet. Keeps at most `keys_max` keys, about 200 bytes each.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, keys_max: usize) -> Self {
        Self {
            clock,
            keys_max,
            state: Mutex::default(),
        }
    }

    /// The rule among `claims` that has no room and wants the longest wait. Counts nothing.
    #[must_use]
    pub fn limit(&self, claims: &[Claim]) -> Option<Limit> {
        let now = self.now();
        self.lock().limit(claims, now)
    }

    /// How many are counted under a key now.
    #[must_use]
    pub fn count(&self, key: &Digest) -> u32 {
        let now = self.now();
        let state = self.lock();
        state
            .cells
            .get(key)
            .map_or(0, |stored| stored.cell.count(now))
    }

    /// Counts one under every key at once, or under none.
    pub fn take(&self, claims: &[Claim]) -> Take {
        let now = self.now();
        let mut state = self.lock();
        state.sweep(now, SWEEP);
        let told: Vec<Claim> = claims.iter().copied().filter(|c| !c.is_silent).collect();
        if let Some(limit) = state.limit(&told, now) {
            return Take::Over(limit);
        }
        let is_shadowed = state.limit(claims, now).is_some();
        let counted = if is_shadowed { &told } else { claims };
        let is_new = |claim: &&Claim| !state.cells.contains_key(&claim.key);
        if self.keys_max < state.cells.len() + counted.iter().filter(is_new).count() {
            return Take::Full;
        }
        let counted = counted.iter().map(|claim| state.count(*claim, now));
        Take::Taken {
            ticket: Ticket(counted.collect()),
            is_shadowed,
        }
    }

    /// It turned out well.
    pub fn succeeded(&self, ticket: Ticket) {
        let mut state = self.lock();
        for counted in ticket.0 {
            match counted.claim.on_success {
                OnSuccess::Clear => state.remove(counted.claim.key),
                OnSuccess::GiveBack => state.take_back(&counted),
            }
        }
    }

    /// It failed, and stays counted: even where another's success has cleared the counter meanwhile.
    pub fn failed(&self, ticket: Ticket) {
        let now = self.now();
        let mut state = self.lock();
        for counted in ticket.0 {
            let cell = state.cells.get(&counted.claim.key);
            if !cell.is_some_and(|stored| stored.cell.has(counted.at)) {
                let _ = state.count(counted.claim, now);
            }
        }
    }

    /// It did not take place.
    pub fn give_back(&self, ticket: Ticket) {
        let mut state = self.lock();
        for counted in ticket.0 {
            state.take_back(&counted);
        }
    }

    /// Forgets all that was counted under these keys.
    pub fn forget(&self, keys: &[Digest]) {
        let mut state = self.lock();
        for key in keys {
            state.remove(*key);
        }
    }

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

    fn count(&mut self, claim: Claim, now: Micros) -> Counted {
        let (stored, is_new) = match self.cells.entry(claim.key) {
            Entry::Occupied(entry) => (entry.into_mut(), false),
            Entry::Vacant(entry) => {
                let cell = Cell::new(claim.rule);
                let is_kept = false;
                (entry.insert(Stored { cell, is_kept }), true)
            }
        };
        let before = stored.cell.last();
        let at = stored.cell.hit(claim.rule, now);
        if is_new {
            self.due.push(Reverse((stored.cell.end(), claim.key)));
        }
        self.changed.insert(claim.key);
        Counted { claim, at, before }
    }

    fn take_back(&mut self, counted: &Counted) {
        let key = counted.claim.key;
        let Some(stored) = self.cells.get_mut(&key) else {
            return;
        };
        stored.cell.take_back(counted.at, counted.before);
        self.changed.insert(key);
        if stored.cell.end() == Micros::MIN {
            self.remove(key);
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
        // Logins that succeed leave entries of cells that are gone; they must not pile up.
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
