//! The state of one counter, as pure functions of time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limit::LimitRule;

/// Microseconds since the clock's start; times before a restart are negative.
pub(super) type ClockMicros = i64;

/// The largest quota whose hits are stored one by one. A larger one is counted in slices of the window, at most about
/// half as many, so that no quota makes a cell large.
const EXACT_MAX: u32 = 128;
const SLICES: ClockMicros = 64;

/// The first pause of a row of failures; each further failure doubles it.
const PAUSE_FIRST: ClockMicros = 1_000_000;
/// A row is remembered after its last failure for one longest pause per failure, at most this many. Waiting until it is
/// forgotten is thus no faster than bearing the pauses.
const ROW_PAUSES_MAX: u32 = 100;

/// What was counted under one key, with times `T` and spans `S`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CounterCell<T = ClockMicros, S = ClockMicros> {
    /// Hits in a sliding window.
    Window {
        /// The time and the number of hits, oldest first.
        hits: Vec<(T, u32)>,
        /// How long each hit counts.
        #[serde(rename = "window_ms")]
        window: S,
    },
    /// Consecutive failures.
    Row {
        /// Number of failures.
        count: u32,
        /// Time of the last failure.
        last: T,
        /// The longest pause.
        #[serde(rename = "pause_max_ms")]
        pause_max: S,
    },
}

impl<T: Copy, S: Copy> CounterCell<T, S> {
    /// Returns the same counter with its times and spans converted.
    pub(super) fn convert<U, V>(
        &self,
        at: impl Fn(T) -> U,
        span: impl Fn(S) -> V,
    ) -> CounterCell<U, V> {
        match self {
            Self::Window { hits, window } => CounterCell::Window {
                hits: hits.iter().map(|(hit, count)| (at(*hit), *count)).collect(),
                window: span(*window),
            },
            Self::Row {
                count,
                last,
                pause_max,
            } => CounterCell::Row {
                count: *count,
                last: at(*last),
                pause_max: span(*pause_max),
            },
        }
    }
}

impl CounterCell {
    /// Creates the cell of a key without hits.
    pub(super) fn new(rule: LimitRule) -> Self {
        match rule {
            LimitRule::Window { window, .. } => Self::Window {
                hits: Vec::new(),
                window: micros(window),
            },
            LimitRule::Row { pause_max, .. } => Self::Row {
                count: 0,
                last: 0,
                pause_max: micros(pause_max),
            },
        }
    }

    /// Returns when the cell expires.
    pub(super) fn end(&self) -> ClockMicros {
        match self {
            Self::Window { hits, window } => {
                hits.last().map_or(ClockMicros::MIN, |(at, _)| at + window)
            }
            Self::Row { count: 0, .. } => ClockMicros::MIN,
            Self::Row {
                count,
                last,
                pause_max,
            } => last + pause_max * ClockMicros::from((*count).min(ROW_PAUSES_MAX)),
        }
    }

    /// Returns how long the rule requires the next attempt to wait; zero if it need not. A key never changes its kind of
    /// rule.
    pub(super) fn wait(&self, rule: LimitRule, now: ClockMicros) -> ClockMicros {
        let (quota, span) = rule.bounds();
        let span = micros(span);
        match self {
            Self::Window { hits, .. } => {
                let live = || hits.iter().filter(|(at, _)| now < at + span);
                let mut count: u64 = live().map(|(_, hits)| u64::from(*hits)).sum();
                for (at, hits) in live() {
                    if count < u64::from(quota) {
                        return 0;
                    }
                    count -= u64::from(*hits);
                    if count < u64::from(quota) {
                        return at + span - now;
                    }
                }
                0
            }
            Self::Row { count, last, .. } => {
                let Some(above) = count.checked_sub(quota) else {
                    return 0;
                };
                let pause = PAUSE_FIRST << above.min(32);
                (last + pause.min(span) - now).max(0)
            }
        }
    }

    /// Counts one hit.
    pub(super) fn hit(&mut self, rule: LimitRule, now: ClockMicros) {
        let (quota, span) = rule.bounds();
        match self {
            Self::Window { hits, window } => {
                *window = micros(span);
                hits.retain(|(at, _)| now < at + *window);
                let last = hits.last().map_or(ClockMicros::MIN, |(at, _)| *at);
                if quota <= EXACT_MAX {
                    hits.push((now.max(last), 1));
                    return;
                }
                // Counted at the end of its slice, so that no hit leaves the window early.
                let slice = (*window / SLICES).max(1);
                let at = last.max((now.div_euclid(slice) + 1) * slice);
                match hits.last_mut() {
                    Some((last, count)) if *last == at => *count = count.saturating_add(1),
                    _ => hits.push((at, 1)),
                }
            }
            Self::Row {
                count,
                last,
                pause_max,
            } => {
                *pause_max = micros(span);
                *count = count.saturating_add(1);
                *last = now;
            }
        }
    }

    /// Forgets all hits.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Window { hits, .. } => hits.clear(),
            Self::Row { count, .. } => *count = 0,
        }
    }

    /// Returns the number of hits that count at `now`.
    pub(super) fn count(&self, now: ClockMicros) -> u32 {
        match self {
            Self::Window { hits, window } => {
                let live = hits.iter().filter(|(at, _)| now < at + window);
                live.fold(0, |sum, (_, hits)| sum.saturating_add(*hits))
            }
            Self::Row { count, .. } if now < self.end() => *count,
            Self::Row { .. } => 0,
        }
    }
}

/// Converts a duration; saturates after 292,000 years.
pub(super) fn micros(span: Duration) -> ClockMicros {
    ClockMicros::try_from(span.as_micros()).unwrap_or(ClockMicros::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: ClockMicros = 1_000_000;

    fn window(max: u32, secs: u64) -> LimitRule {
        LimitRule::Window {
            max,
            window: Duration::from_secs(secs),
        }
    }

    fn row(free: u32) -> LimitRule {
        LimitRule::Row {
            free,
            pause_max: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_window_slides() {
        let rule = window(3, 10);
        let mut cell = CounterCell::new(rule);
        // The time of each attempt and its wait; attempts that need not wait are counted.
        let cases = [
            (0, 0),
            (1, 0),
            (2, 0),
            (2, 8),
            (9, 1),
            (10, 0),
            (10, 1),
            (11, 0),
            (11, 1),
            (12, 0),
            (12, 8),
            (30, 0),
        ];
        for (at, wait) in cases {
            assert_eq!(cell.wait(rule, at * S), wait * S, "at {at} s");
            if wait == 0 {
                cell.hit(rule, at * S);
            }
        }
        assert_eq!(cell.end(), 40 * S);
    }

    #[test]
    fn a_smaller_quota_counts_from_the_next_on() {
        let mut cell = CounterCell::new(window(5, 10));
        for second in 0..5 {
            cell.hit(window(5, 10), second * S);
        }
        assert_eq!(cell.wait(window(5, 10), 5 * S), 5 * S);
        assert_eq!(cell.wait(window(2, 10), 5 * S), 8 * S);
        assert_eq!(cell.wait(window(6, 10), 5 * S), 0);
        assert_eq!(cell.wait(window(5, 5), 5 * S), 0);
    }

    #[test]
    fn a_large_quota_stays_small_and_frees_nothing_early() {
        let rule = window(100_000, 3600);
        let mut cell = CounterCell::new(rule);
        for number in 0..100_000 {
            assert_eq!(cell.wait(rule, number * 10_000), 0, "{number}");
            cell.hit(rule, number * 10_000);
        }
        let CounterCell::Window { hits, .. } = &cell else {
            panic!("no window")
        };
        assert!(hits.len() <= 66, "{}", hits.len());
        let wait = cell.wait(rule, 1000 * S);
        assert!((2600 * S..=2660 * S).contains(&wait), "{wait}");
    }

    #[test]
    fn what_is_cleared_was_never_there() {
        for rule in [window(3, 10), window(1000, 10), row(3)] {
            let mut cell = CounterCell::new(rule);
            cell.hit(rule, 0);
            cell.hit(rule, 0);
            assert_eq!(cell.count(0), 2, "{rule:?}");
            assert_ne!(cell.end(), ClockMicros::MIN);
            cell.clear();
            assert_eq!(
                (cell.count(0), cell.end()),
                (0, ClockMicros::MIN),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn a_row_pauses_longer_and_longer_up_to_its_limit() {
        let rule = row(3);
        let mut cell = CounterCell::new(rule);
        let mut now = 0;
        for pause in [0, 0, 0, 1, 2, 4, 8, 10, 10] {
            assert_eq!(cell.wait(rule, now), pause * S, "{cell:?}");
            now += pause * S;
            assert_eq!(cell.wait(rule, now), 0);
            cell.hit(rule, now);
        }
        assert_eq!(cell.end(), 35 * S + 9 * 10 * S);
    }
}
