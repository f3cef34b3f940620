//! Points in time, and the only code that reads the clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Maximum distance by which a stored past time may be ahead of the clock: more than a wrong time zone causes.
pub const AHEAD_MAX: Duration = Duration::from_hours(24);

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, which is the default.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates a timestamp from milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Creates a timestamp from whole seconds since the epoch, as in JWT claims; saturates.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Returns the milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Returns this time plus `span`; saturates.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Returns the time from `earlier` to this; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whether this time, stored as one of the past, is too far in the future: it was written while the clock was far
    /// ahead, and the clock has been corrected since.
    ///
    /// Such records follow one rule. Everything that grants access (sessions, one-time tokens, replaced secrets) is
    /// void, and so is a mail with its contents; a wait for such a time ends at once; a last use is overwritten by the
    /// next. Anything that is ahead by less lives longer by that much.
    #[must_use]
    pub fn is_ahead(self, now: Self) -> bool {
        now.plus(AHEAD_MAX) < self
    }

    /// Parses an RFC 3339 text such as `2030-01-31T12:00:00Z`; `None` if it is invalid.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos() / 1_000_000)
            .ok()
            .map(Self)
    }

    /// Formats as RFC 3339 in UTC with milliseconds, such as `2030-01-31T12:00:00.000Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let mut text = Vec::new();
        self.push_rfc3339(&mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Appends the text of [`to_rfc3339`](Self::to_rfc3339).
    pub fn push_rfc3339(self, text: &mut Vec<u8>) {
        let at = OffsetDateTime::from_unix_timestamp(self.secs());
        let Some(at) = at.ok().filter(|at| 0 <= at.year()) else {
            text.extend_from_slice(b"out of range");
            return;
        };
        // `Rfc3339` of the crate omits trailing zeros, and texts of different lengths do not sort by time. Formatted by
        // hand, since every access record has such a text.
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let millis = self.0.rem_euclid(1000);
        let small = |number| u8::try_from(number).unwrap_or_default();
        let digits = |number: u8| [b'0' + number / 10, b'0' + number % 10];
        text.extend_from_slice(&digits(small(i64::from(year / 100))));
        for (number, end) in [
            (small(i64::from(year % 100)), b'-'),
            (month.into(), b'-'),
            (day, b'T'),
            (hour, b':'),
            (minute, b':'),
            (second, b'.'),
            (small(millis / 10), digits(small(millis % 10))[1]),
        ] {
            let [tens, ones] = digits(number);
            text.extend_from_slice(&[tens, ones, end]);
        }
        text.push(b'Z');
    }
}

/// A source of time. Passed as an argument wherever time matters, so that tests can supply their own.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Returns the wall clock: for expiry, issue and stored times only.
    fn now(&self) -> Timestamp;
    /// Returns the monotonic time since some fixed start: for limits, timeouts and durations.
    fn elapsed(&self) -> Duration;
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Creates a clock whose `elapsed` counts from now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock for tests that moves only when it is set.
#[derive(Debug)]
pub struct ManualClock {
    start: i64,
    millis: AtomicI64,
    set_forward: AtomicI64,
}

impl ManualClock {
    /// Creates a clock that shows `at`.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self {
            start: at.0,
            millis: AtomicI64::new(at.0),
            set_forward: AtomicI64::new(0),
        }
    }

    /// Moves the wall clock forward by `millis`, or back if it is negative.
    pub fn set_forward(&self, millis: i64) {
        self.set_forward.fetch_add(millis, Ordering::SeqCst);
    }

    /// Moves both clocks forward by `span`.
    pub fn advance(&self, span: Duration) {
        self.millis.fetch_add(
            i64::try_from(span.as_millis()).unwrap_or(i64::MAX),
            Ordering::SeqCst,
        );
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let set_forward = self.set_forward.load(Ordering::SeqCst);
        Timestamp(
            self.millis
                .load(Ordering::SeqCst)
                .saturating_add(set_forward),
        )
    }

    fn elapsed(&self) -> Duration {
        Timestamp(self.millis.load(Ordering::SeqCst)).since(Timestamp(self.start))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc3339_goes_there_and_back() {
        let at = Timestamp::parse_rfc3339("2030-01-31T13:00:00.250+01:00").unwrap();
        assert_eq!(at.to_rfc3339(), "2030-01-31T12:00:00.250Z");
        assert_eq!(Timestamp::parse_rfc3339(&at.to_rfc3339()), Some(at));
        assert_eq!(Timestamp::parse_rfc3339("2030-01-31"), None);
    }

    #[test]
    fn every_time_has_as_many_digits() {
        for millis in [0, 1, 20, 300, 4000, 951_782_400_000, 1_893_456_000_999] {
            let text = Timestamp::from_millis(millis).to_rfc3339();
            assert_eq!(text.len(), "1970-01-01T00:00:00.000Z".len(), "{text}");
        }
        let leap_day = Timestamp::from_millis(951_782_400_007);
        assert_eq!(leap_day.to_rfc3339(), "2000-02-29T00:00:00.007Z");
    }

    proptest! {
        #[test]
        fn a_time_is_formatted_as_its_parts(millis in -62_167_219_200_000_i64..253_402_300_800_000) {
            let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
            let ((year, month, day), (hour, minute, second, _)) = (at.to_calendar_date(), at.to_hms_milli());
            let wanted = format!(
                "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
                u8::from(month),
                at.millisecond(),
            );
            prop_assert_eq!(Timestamp::from_millis(millis).to_rfc3339(), wanted);
        }
    }

    #[test]
    fn a_time_outside_the_years_of_four_digits_has_no_text() {
        for millis in [i64::MIN, -62_167_219_200_001, 253_402_300_800_000, i64::MAX] {
            assert_eq!(Timestamp::from_millis(millis).to_rfc3339(), "out of range");
        }
    }

    #[test]
    fn a_span_backwards_is_zero() {
        let (early, late) = (Timestamp::from_secs(1), Timestamp::from_secs(3));
        assert_eq!(late.since(early), Duration::from_secs(2));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
