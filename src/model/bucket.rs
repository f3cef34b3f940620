//! A token bucket in one atomic number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MINUTE_NS: u64 = 60_000_000_000;

/// A token bucket that refills evenly and holds one minute's worth.
///
/// The state is the time at which the bucket would be full again, so that taking a token is one compare-and-exchange
/// and an idle bucket needs no upkeep. Source: the generic cell rate algorithm, ITU-T I.371.
#[derive(Debug, Default)]
pub struct Bucket {
    /// In nanoseconds on the caller's clock.
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes one token at `now`, a reading of [`crate::model::clock::Clock::elapsed`].
    ///
    /// # Errors
    /// The time until a token is available, if there is none.
    pub fn take(&self, now: Duration, per_minute: u32) -> Result<(), Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let interval = MINUTE_NS / u64::from(per_minute.max(1));
        let room = interval.saturating_mul(u64::from(per_minute));
        let mut seen = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = seen.max(now).saturating_add(interval);
            let lack = (next - now).saturating_sub(room);
            if 0 < lack || per_minute == 0 {
                return Err(Duration::from_nanos(lack.max(1)));
            }
            match self.full_at.compare_exchange_weak(
                seen,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(other) => seen = other,
            }
        }
    }
}

/// Converts a wait to the value of `Retry-After`: whole seconds, rounded up, at least one.
#[must_use]
pub fn retry_after_s(wait: Duration) -> u32 {
    let secs = wait.as_millis().div_ceil(1000).max(1);
    u32::try_from(secs).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_at_once_then_one_by_one() {
        let bucket = Bucket::default();
        let at = Duration::from_millis;
        for _ in 0..6 {
            assert_eq!(bucket.take(at(5), 6), Ok(()));
        }
        assert_eq!(bucket.take(at(5), 6), Err(at(10_000)));
        assert_eq!(bucket.take(at(9_005), 6), Err(at(1_000)));
        assert_eq!(bucket.take(at(10_005), 6), Ok(()));
        assert!(bucket.take(at(10_005), 6).is_err());
        // Idle time refills the bucket up to a minute's worth.
        for _ in 0..6 {
            assert_eq!(bucket.take(at(900_000), 6), Ok(()));
        }
        assert!(bucket.take(at(900_000), 6).is_err());
        assert!(Bucket::default().take(at(0), 0).is_err());
    }

    #[test]
    fn many_at_once_get_no_more_than_there_is() {
        let bucket = Bucket::default();
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let takes = (0..100).filter(|_| bucket.take(Duration::ZERO, 100).is_ok());
                        takes.count()
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 100);
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        for (millis, secs) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            assert_eq!(
                retry_after_s(Duration::from_millis(millis)),
                secs,
                "{millis}"
            );
        }
    }
}
