//! Expiry, and what happens when the wall clock is set.
//!
//! Limits, pauses and timeouts use the monotonic clock, so setting the wall clock does not affect them. Stored times
//! use the wall clock; a record stored while it was ahead does not live longer for that (`Timestamp::is_ahead`).

use std::sync::Arc;
use std::time::Duration;

use crate::model::clock::Clock;
use crate::snapshot::Services;

/// Interval of comparing the two clocks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A wall clock that moves by more than this against the monotonic one was set; less is ordinary clock adjustment.
const JUMP_MIN_MS: i64 = 10_000;
/// Minimum interval of log lines about a clock that keeps jumping.
const LOG_EVERY: Duration = Duration::from_mins(1);
/// Interval of removing expired records.
const PURGE_EVERY: Duration = Duration::from_mins(10);

/// Removes expired records periodically, and logs jumps of the wall clock.
pub(super) async fn watch_clock(services: Arc<Services>) {
    let mut watch = ClockWatch::new(services.clock.as_ref());
    let mut next_purge = Duration::ZERO;
    loop {
        let jump = watch.look(services.clock.as_ref());
        while let Some(jump_ms) = watch.due(services.clock.as_ref()) {
            warn_of_jump(jump_ms);
        }
        let elapsed = services.clock.elapsed();
        if 0 < jump {
            // The jump may be a mistake that is corrected soon, and removed records do not come back.
            next_purge = elapsed + PURGE_EVERY;
        }
        if jump < 0 {
            // Identities verified by the previous time are verified again, and waiting mails are due.
            services.store.generations().touch_all();
            next_purge = elapsed;
        }
        if next_purge <= elapsed {
            purge(&services).await;
            next_purge = elapsed + PURGE_EVERY;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn warn_of_jump(jump_ms: i64) {
    let direction = if jump_ms < 0 { "back" } else { "forward" };
    tracing::warn!(
        direction,
        seconds = jump_ms.unsigned_abs() / 1000,
        "the wall clock was changed, or the machine was suspended: expiry of stored records follows the new time; rate limits are not affected"
    );
}

async fn purge(services: &Services) {
    match services.store.purge(services.clock.now()).await {
        Ok(0) => {}
        Ok(removed) => tracing::debug!(removed, "removed expired records"),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot remove expired records"
        ),
    }
}

/// Compares the wall clock with the monotonic one.
struct ClockWatch {
    /// How far the wall clock is ahead, in milliseconds.
    ahead: i64,
    back: Direction,
    forward: Direction,
}

/// Jumps of the clock in one direction. Each direction is logged separately: a jump corrected within a minute is two
/// lines.
#[derive(Default)]
struct Direction {
    /// Milliseconds not logged yet.
    unlogged: i64,
    logged_at: Option<Duration>,
}

impl Direction {
    fn due(&mut self, now: Duration) -> Option<i64> {
        let is_early = self.logged_at.is_some_and(|at| now < at + LOG_EVERY);
        if self.unlogged == 0 || is_early {
            return None;
        }
        self.logged_at = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

impl ClockWatch {
    fn new(clock: &dyn Clock) -> Self {
        Self {
            ahead: ahead(clock),
            back: Direction::default(),
            forward: Direction::default(),
        }
    }

    /// Returns by how many milliseconds the wall clock was set since the last call; 0 if it was not.
    fn look(&mut self, clock: &dyn Clock) -> i64 {
        let now = ahead(clock);
        let moved = now.saturating_sub(self.ahead);
        self.ahead = now;
        if moved.saturating_abs() <= JUMP_MIN_MS {
            return 0;
        }
        let direction = if moved < 0 {
            &mut self.back
        } else {
            &mut self.forward
        };
        direction.unlogged = direction.unlogged.saturating_add(moved);
        moved
    }

    /// Returns the jump to log now, if any.
    fn due(&mut self, clock: &dyn Clock) -> Option<i64> {
        let now = clock.elapsed();
        self.forward.due(now).or_else(|| self.back.due(now))
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
    fn a_jump_is_told_at_once_and_what_goes_on_once_a_minute() {
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let mut watch = ClockWatch::new(&clock);
        // Seconds that pass; seconds by which the clock is set; what is logged.
        let cases = [
            (1, 0, None),
            (1, 10, None),
            (1, 3600, Some(3600)),
            (1, 0, None),
            (1, -7200, Some(-7200)),
            (1, 3600, None),
            (1, 600, None),
            (60, 60, Some(4260)),
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
