//! Responses without a known end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

/// Responses of these types are streams from their first byte on.
const STREAM_TYPES: [&str; 3] = [
    "application/grpc",
    "multipart/x-mixed-replace",
    "text/event-stream",
];
/// Age of the request from which a response without a length is a stream.
const STREAM_AGE: Duration = Duration::from_secs(10);
const NEVER: u64 = u64::MAX;

/// The time from which the response in progress counts as a stream: a drain ends it before other requests.
#[derive(Debug)]
pub struct OpenEnded {
    from_ms: AtomicU64,
}

impl Default for OpenEnded {
    fn default() -> Self {
        Self {
            from_ms: AtomicU64::new(NEVER),
        }
    }
}

impl OpenEnded {
    /// Sets the time of the monotonic clock from which the response counts as a stream; `None`: never.
    pub fn note(&self, from: Option<Duration>) {
        let from = from.and_then(|it| u64::try_from(it.as_millis()).ok());
        self.from_ms.store(from.unwrap_or(NEVER), Ordering::Release);
    }

    /// Whether a stream is in progress at this time of the monotonic clock.
    #[must_use]
    pub fn is_stream(&self, now: Duration) -> bool {
        u128::from(self.from_ms.load(Ordering::Acquire)) <= now.as_millis()
    }
}

/// Returns the age of the request at which this response counts as a stream; `None`: its end is known, or there is no
/// body.
#[must_use]
pub fn stream_age(headers: &HeaderMap) -> Option<Duration> {
    if headers.contains_key(CONTENT_LENGTH) {
        return None;
    }
    let kind = headers.get(CONTENT_TYPE);
    let kind = kind.map_or_else(Vec::new, |it| it.as_bytes().to_ascii_lowercase());
    let is_stream = STREAM_TYPES
        .iter()
        .any(|it| kind.starts_with(it.as_bytes()));
    is_stream.then_some(Duration::ZERO).or(Some(STREAM_AGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_an_end_is_no_stream_and_other_answers_are_by_type_or_age() {
        for (fields, age_s) in [
            (&[("content-length", "5")][..], None),
            (
                &[
                    ("content-length", "5"),
                    ("content-type", "text/event-stream"),
                ],
                None,
            ),
            (
                &[("content-type", "text/event-stream; charset=utf-8")],
                Some(0),
            ),
            (&[("content-type", "Application/grpc+proto")], Some(0)),
            (&[("content-type", "text/html")], Some(10)),
            (&[], Some(10)),
        ] {
            let fields_of = |(name, value): &(&'static str, &'static str)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            };
            let age = stream_age(&fields.iter().map(fields_of).collect());
            assert_eq!(age.map(|it| it.as_secs()), age_s, "{fields:?}");
        }
    }

    #[test]
    fn a_stream_is_one_from_its_time_on_until_the_next_request() {
        let open_ended = OpenEnded::default();
        let at = Duration::from_millis;
        assert!(!open_ended.is_stream(at(u64::MAX - 1)));
        open_ended.note(Some(at(5)));
        assert!(!open_ended.is_stream(at(4)) && open_ended.is_stream(at(5)));
        open_ended.note(None);
        assert!(!open_ended.is_stream(at(5)));
    }
}
