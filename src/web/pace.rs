//! Response times that reveal nothing.

use std::time::Duration;

use crate::model::clock::Clock;

/// Responses leave at whole multiples of this after their request arrived. It is longer than a disk write plus a mail
/// handover, so normally all leave at the first multiple; under load the steps still hide any smaller difference.
const STEP: Duration = Duration::from_millis(100);

/// Waits for the next step after `started`, a reading of the same clock's [`Clock::elapsed`].
pub(in crate::web) async fn even_out(clock: &dyn Clock, started: Duration) {
    let took = clock.elapsed().saturating_sub(started);
    tokio::time::sleep(rest(took)).await;
}

/// Returns the time left until the next whole step.
fn rest(took: Duration) -> Duration {
    let into_step = took.as_micros() % STEP.as_micros();
    STEP.saturating_sub(Duration::from_micros(u64::try_from(into_step).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_at_whole_steps() {
        let cases = [(0, 100), (1, 99), (99, 1), (100, 100), (250, 50)];
        for (took, left) in cases {
            let took = Duration::from_millis(took);
            assert_eq!(rest(took), Duration::from_millis(left), "{took:?}");
        }
    }
}
