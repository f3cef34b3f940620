//! The schedule of fetches of keys.

use std::time::Duration;

use crate::crypto::random;

/// Default time after which a key set is fetched again, short enough for a revoked key to disappear soon.
const FRESH: Duration = Duration::from_mins(1);
/// Limits of the time that an issuer may ask for.
const FRESH_MIN: Duration = Duration::from_secs(30);
const FRESH_MAX: Duration = Duration::from_mins(5);
/// Pause after the first failed fetch. It doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The pause after a successful fetch. `max_age`: the time that the issuer asks for. `stale_max`: maximum age of a key set.
pub(in crate::issuer) fn refresh(max_age: Option<Duration>, stale_max: Duration) -> Duration {
    let fresh = max_age.unwrap_or(FRESH).clamp(FRESH_MIN, FRESH_MAX);
    fresh.min(stale_max / 2).mul_f64(0.9 + 0.2 * share())
}

/// The pause after this many failed fetches in a row.
pub(in crate::issuer) fn retry(failures: u32) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(RETRY_MAX).mul_f64(0.5 + 0.5 * share())
}

/// A uniform random number from 0 to 1, so that gateways that start together do not fetch together.
fn share() -> f64 {
    let mut bytes = [0; 2];
    random::fill(&mut bytes);
    f64::from(u16::from_ne_bytes(bytes)) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetches_keep_their_distance_and_are_not_all_alike() {
        let secs = Duration::from_secs;
        let day = secs(86_400);
        let cases = [
            (None, day, 54.0, 66.0),
            (Some(secs(0)), day, 27.0, 33.0),
            (Some(secs(120)), day, 108.0, 132.0),
            (Some(secs(86_400)), day, 270.0, 330.0),
            (None, secs(10), 4.5, 5.5),
        ];
        for (max_age, stale_max, low, high) in cases {
            let pauses: Vec<_> = (0..50).map(|_| refresh(max_age, stale_max)).collect();
            let fits = |pause: &Duration| (low..=high).contains(&pause.as_secs_f64());
            assert!(pauses.iter().all(fits), "{max_age:?}: {pauses:?}");
            assert!(pauses.windows(2).any(|p| p[0] != p[1]), "{pauses:?}");
        }
        for (failures, low, high) in [
            (1, 0.5, 1.0),
            (2, 1.0, 2.0),
            (5, 8.0, 16.0),
            (6, 15.0, 30.0),
            (u32::MAX, 15.0, 30.0),
        ] {
            let pause = retry(failures).as_secs_f64();
            assert!((low..=high).contains(&pause), "{failures}: {pause}");
        }
    }
}
