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

/// Removes what has expired, now and then, and logs how far the clock is set.
pub(super) async fn keep_time(services: Services) {
    let mut watch = Watch::new(services.clock.as_ref());
    let mut next_purge = Duration::ZERO;
    loop {
        let jump = watch.look(services.clock.as_ref());
        while let Some(jump_ms) = watch.due(services.clock.as_ref()) {
            tell(jump_ms);
        }
        let elapsed = services.clock.elapsed();
        if 0 < jump {
            // It may be a mistake that is put right soon, and what is removed does not come back.
            next_purge = elapsed + PURGE_EVERY;
        }
        if jump < 0 {
            // Whoever was verified by the clock of then is looked at again, and mails that wait are due.
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
    back: Direction,
    forward: Direction,
}

/// How far the clock was set in one direction. Each is told by itself: what is put right within a minute is two lines.
#[derive(Default)]
struct Direction {
    /// What has not been told.
    untold: i64,
    told_at: Option<Duration>,
}

impl Direction {
    fn due(&mut self, now: Duration) -> Option<i64> {
        let is_early = self.told_at.is_some_and(|told| now < told + TELL_EVERY);
        if self.untold == 0 || is_early {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Watch {
    fn new(clock: &dyn Clock) -> Self {
        Self {
            ahead: ahead(clock),
            back: Direction::default(),
            forward: Direction::default(),
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
        let direction = if moved < 0 {
            &mut self.back
        } else {
            &mut self.forward
        };
        direction.untold = direction.untold.saturating_add(moved);
        moved
    }

    /// What is to be told now.
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
        let mut watch = Watch::new(&clock);
        // After how many seconds; by how much it is set; what is told.
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
