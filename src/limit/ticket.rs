//! A place held under some counters until the outcome is known.

use std::fmt;
use std::sync::{Arc, MutexGuard};

use crate::limit::{CounterClaim, CounterState, OnSuccess, SharedCounters, split_silent};

/// The places that one [`crate::limit::Counters::take`] holds.
#[must_use]
pub struct Ticket {
    /// Empty once settled.
    pub(super) claims: Vec<CounterClaim>,
    pub(super) shared: Arc<SharedCounters>,
}

impl Ticket {
    /// Settles the attempt as a success. Returns `false` if a silent counter has become full: the attempt counts as
    /// failed and its result must not be used.
    #[must_use]
    pub fn succeeded(mut self) -> bool {
        let claims = std::mem::take(&mut self.claims);
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let (open, silent) = split_silent(&claims);
        let has_succeeded = state.limit(&silent, now).is_none();
        if has_succeeded {
            let is_cleared = |it: &&CounterClaim| it.on_success == OnSuccess::Clear;
            for claim in claims.iter().filter(is_cleared) {
                state.clear(&claim.key);
            }
        } else {
            for claim in &open {
                state.hit(claim, now);
            }
        }
        self.release(state, &claims);
        has_succeeded
    }

    /// Settles the attempt as not made: nothing is counted.
    pub fn give_back(mut self) {
        let claims = std::mem::take(&mut self.claims);
        let state = self.shared.lock();
        self.release(state, &claims);
    }

    /// Settles the attempt as a failure and counts it, even if another success has cleared the counter meanwhile.
    pub fn failed(self) {
        drop(self);
    }

    fn release(&self, mut state: MutexGuard<'_, CounterState>, claims: &[CounterClaim]) {
        for claim in claims {
            state.release(&claim.key);
        }
        drop(state);
        self.shared.settled.notify_waiters();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let claims = std::mem::take(&mut self.claims);
        if claims.is_empty() {
            return;
        }
        let now = self.shared.now();
        let mut state = self.shared.lock();
        for claim in &claims {
            state.hit(claim, now);
        }
        self.release(state, &claims);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}
