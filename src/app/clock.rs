//! What time takes away, and what becomes of it when the clock is set.
//!
//! Limits, pauses and time-outs go by the monotonic clock, and no setting of the wall clock moves them. What is stored goes by
//! the wall clock; what was stored while that was ahead does not live on for it (`Timestamp::is_ahead`).

use std::time::Duration;

use crate::model::clock::Clock;
use crate::snapshot::Services;

/// How often the two clocks are compared.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A wall clock that moves by more than this against the monotonic one has been set; less is what clocks are kept right by.
const JUMP_MIN_MS: i64 = 10_000;
/// A clock that jumps on is mentioned this often.
const TELL_EVERY: Duration = Duration::from_mins(1);
/// How often what has expired is removed.
const PURGE_EVERY: Duration = Duration::from_mins(10);

/// Removes what has expired, now and then and at once when the clock is set, and logs how far it was set.
pub(super) async fn keep_time(services: Services) {
    let mut watch = Watch::new(services.clock.as_ref());
    let mut next_purge = Duration::ZERO;
    loop {
        let jump = watch.look(services.clock.as_ref());
        if let Some(jump_ms) = watch.due(services.clock.as_ref()) {
            tell(jump_ms);
        }
        if jump < 0 {
            // Whoever was verified by the clock of then is looked at again.
            services.store.generations().touch_all();
        }
        let elapsed = services.clock.elapsed();
        if jump != 0 || next_purge <= elapsed {
            purge(&services).await;
            next_purge = elapsed + PURGE_EVERY;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn tell(jump_ms: i64) {
    let direction = if jump_ms < 0 { "back" } else { "forward" };
    tracing::warn!(
        direction,
        seconds = jump_ms.unsigned_abs() / 1000,
        "the wall clock was set, or the machine has slept: what is stored is judged by the new time, limits by none"
    );
}

async fn purge(services: &Services) {
    match services.store.purge(services.clock.now()).await {
        Ok(0) => {}
        Ok(removed) => tracing::debug!(removed, "removed what has expired"),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot remove what has expired"
        ),
    }
}

/// Compares the wall clock with the monotonic one.
struct Watch {
    /// By how much the wall clock is ahead, in milliseconds.
    ahead: i64,
    /// What has not been told.
    untold: i64,
    told_at: Option<Duration>,
}

impl Watch {
    fn new(clock: &dyn Clock) -> Self {
        Self {
            ahead: ahead(clock),
            untold: 0,
            told_at: None,
        }
    }

    /// By how many milliseconds the wall clock was set since the last look; 0: it was not.
    fn look(&mut self, clock: &dyn Clock) -> i64 {
        let now = ahead(clock);
        let moved = now.saturating_sub(self.ahead);
        self.ahead = now;
        if moved.saturating_abs() <= JUMP_MIN_MS {
            return 0;
        }
        self.untold = self.untold.saturating_add(moved);
        moved
    }

    /// What is to be told now.
    fn due(&mut self, clock: &dyn Clock) -> Option<i64> {
        let now = clock.elapsed();
        let is_early = self.told_at.is_some_and(|told| now < told + TELL_EVERY);
        if self.untold == 0 || is_early {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

fn ahead(clock: &dyn Clock) -> i64 {
    let elapsed = i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX);
    clock.now().millis().saturating_sub(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::{ManualClock, Timestamp};

    #[test]
    fn a_jump_is_told_once_and_what_goes_on_once_a_minute() {
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let mut watch = Watch::new(&clock);
        // After how many seconds; by how much it is set; what is told.
        let cases = [
            (1, 0, None),
            (1, 10, None),
            (1, 3600, Some(3600)),
            (1, 0, None),
            (1, -7200, None),
            (1, 3600, None),
            (60, 60, Some(-3540)),
            (600, 0, None),
            (1, -315_360_000, Some(-315_360_000)),
        ];
        for (pass_s, set_s, told) in cases {
            clock.advance(Duration::from_secs(pass_s));
            clock.set_forward(set_s * 1000);
            let jump = watch.look(&clock);
            assert_eq!(jump, if set_s == 10 { 0 } else { set_s * 1000 }, "{set_s}");
            assert_eq!(watch.due(&clock), told.map(|s: i64| s * 1000), "{set_s}");
        }
    }
}
