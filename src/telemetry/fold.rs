//! Folding of repeated warnings and errors: one line per second, and one line with the number of repeats.
//!
//! A fault that affects every request thus leaves the log readable, and displaces no other line from the queue. Lines
//! are distinguished by their place in the source and, up to a limit, by their fields; the request id is ignored.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use crate::model::clock::Clock;
use crate::telemetry::causes::with_causes;

/// Repeats within this time are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Maximum number of distinct lines written per place and window.
const VARIANTS_MAX: usize = 16;
/// Maximum number of places counted at once; the source has fewer.
const PLACES_MAX: usize = 1024;
/// Maximum length of the message kept for the line with the number, in bytes.
const MESSAGE_BYTES_MAX: usize = 200;

/// The lines written recently, and the number of folded ones.
#[derive(Debug)]
pub(in crate::telemetry) struct EventFolding {
    clock: Arc<dyn Clock>,
    /// Held for some microseconds, never across an await.
    places: Mutex<HashMap<EventSite, FoldedEvent>>,
}

/// The place in the source that a line comes from. Lines of the crate `log` share one callsite per level, and name
/// their place in fields.
type EventSite = (Identifier, u64);

#[derive(Debug)]
struct FoldedEvent {
    level: Level,
    target: String,
    message: String,
    since: Duration,
    /// Hashes of the lines written since.
    written: Vec<u64>,
    folded: u64,
}

impl EventFolding {
    /// Creates an empty state.
    pub(in crate::telemetry) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            places: Mutex::default(),
        }
    }

    /// Removes the counts that are due and returns them as lines; `is_end`: all of them.
    pub(in crate::telemetry) fn due(&self, is_end: bool) -> Vec<String> {
        let now = self.clock.elapsed();
        let mut lines = Vec::new();
        self.lock().retain(|_, fold| {
            let is_over = is_end || fold.since + WINDOW <= now;
            if is_over {
                lines.extend(fold.line(self.clock.as_ref()));
            }
            !is_over
        });
        lines
    }

    /// Whether an event is written, and the number that is due before it.
    pub(in crate::telemetry) fn admit(&self, event: &Event<'_>) -> (bool, Option<String>) {
        let metadata = event.metadata();
        let mut said = EventText::default();
        event.record(&mut said);
        let what = said.what.finish();
        let now = self.clock.elapsed();
        let mut places = self.lock();
        let has_room = places.len() < PLACES_MAX;
        match places.entry((metadata.callsite(), said.place.finish())) {
            Entry::Vacant(entry) => {
                if has_room {
                    entry.insert(FoldedEvent::new(metadata, said, now));
                }
                (true, None)
            }
            Entry::Occupied(mut entry) if entry.get().since + WINDOW <= now => {
                let line = entry.get().line(self.clock.as_ref());
                entry.insert(FoldedEvent::new(metadata, said, now));
                (true, line)
            }
            Entry::Occupied(mut entry) => {
                let fold = entry.get_mut();
                let is_new = !fold.written.contains(&what) && fold.written.len() < VARIANTS_MAX;
                if is_new {
                    fold.written.push(what);
                } else {
                    fold.folded = fold.folded.saturating_add(1);
                }
                (is_new, None)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EventSite, FoldedEvent>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FoldedEvent {
    fn new(metadata: &Metadata<'_>, said: EventText, since: Duration) -> Self {
        let target = said.target.unwrap_or_else(|| metadata.target().to_owned());
        Self {
            level: *metadata.level(),
            target,
            message: said.message.0,
            since,
            written: vec![said.what.finish()],
            folded: 0,
        }
    }

    /// Returns the line with the number, in the form of the log; `None` if nothing was folded.
    fn line(&self, clock: &dyn Clock) -> Option<String> {
        let time = clock.now().to_rfc3339();
        (0 < self.folded).then(|| {
            let (level, target, message) = (self.level, &self.target, &self.message);
            let folded = self.folded;
            format!("{time} {level:>5} {target}: {message} … and {folded} more like it\n")
        })
    }
}

/// The content of an event.
#[derive(Default)]
struct EventText {
    what: DefaultHasher,
    place: DefaultHasher,
    target: Option<String>,
    message: Message,
}

impl Visit for EventText {
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", with_causes(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // No writer here can fail.
        let _ = match field.name() {
            "request_id" | "request.id" => Ok(()),
            "log.target" => {
                self.target = Some(format!("{value:?}").trim_matches('"').to_owned());
                write!(Hashed(&mut self.place), "{value:?}")
            }
            "log.module_path" | "log.file" | "log.line" => {
                write!(Hashed(&mut self.place), "{value:?}")
            }
            "message" => write!(self.message, "{value:?}")
                .and_then(|()| write!(Hashed(&mut self.what), "{value:?}")),
            name => writeln!(Hashed(&mut self.what), "{name}={value:?}"),
        };
    }
}

/// A writer that hashes its input.
struct Hashed<'a>(&'a mut DefaultHasher);

impl Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// A writer that keeps the beginning of its input, with control characters escaped.
#[derive(Default)]
struct Message(String);

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if MESSAGE_BYTES_MAX <= self.0.len() {
                break;
            }
            if char.is_control() {
                self.0.extend(char.escape_debug());
            } else {
                self.0.push(char);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::{ManualClock, Timestamp};
    use crate::telemetry::log::subscriber;
    use crate::telemetry::output::{AuditOutput, Output};
    use crate::telemetry::test_kit::Lines;

    fn logged(events: impl FnOnce(&Output, &ManualClock)) -> String {
        let lines = Lines::default();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let output = Output::onto(
            Box::new(lines.clone()),
            None,
            AuditOutput::Stdout,
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let output = output.unwrap();
        let subscriber = subscriber("info", &output, false).unwrap();
        tracing::subscriber::with_default(subscriber, || events(&output, &clock));
        output.close();
        lines.text()
    }

    fn fail(request_id: usize, cause: &str) {
        tracing::error!(request_id, cause, "a request failed");
    }

    #[test]
    fn repeats_are_counted_once_a_second_and_none_is_missing() {
        let text = logged(|output, clock| {
            for second in 0..3 {
                for request in 0..1000 {
                    fail(request, "the store");
                }
                clock.advance(WINDOW);
                if second == 1 {
                    output.report_folded();
                }
            }
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        for (index, line) in lines.iter().enumerate() {
            assert!(
                line.contains(" ERROR doorward::telemetry::fold::tests: a request failed "),
                "{line}"
            );
            let is_number = line.ends_with("a request failed … and 999 more like it");
            assert_eq!(is_number, index % 2 == 1, "{text}");
        }
    }

    #[test]
    fn what_says_something_else_is_written_up_to_a_bound() {
        let text = logged(|_, _| {
            for number in 0..100 {
                fail(number, &format!("cause {number}"));
                fail(number, "cause 0");
                tracing::warn!("another place");
                tracing::info!("not counted");
            }
        });
        let count = |words: &str| text.matches(words).count();
        assert_eq!(count("cause="), VARIANTS_MAX, "{text}");
        assert_eq!(
            count("a request failed … and 184 more like it"),
            1,
            "{text}"
        );
        assert_eq!(count("another place"), 2, "{text}");
        assert_eq!(count("another place … and 99 more like it"), 1, "{text}");
        assert_eq!(count("not counted"), 100);
    }
}
