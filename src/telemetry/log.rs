//! The program's own log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::telemetry::audit::{self, AuditLines};
use crate::telemetry::output::{Output, Stream};

pub use crate::telemetry::causes::with_causes;

/// Why there is no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor a level followed by filters.
    #[error("the log level is not a filter such as info,doorward=debug")]
    Level,
    /// This process already has a log.
    #[error("a log is installed already")]
    Installed,
}

/// Installs the subscriber: lines on standard error in UTC, Pingora's `log` lines included; audit events as JSON. None of
/// them makes its caller wait. Warnings and errors that come again within a second are counted ([`Output::report_folded`]).
///
/// `level` is the value of `log.level`. Pingora's crates and sled are limited to `warn`, and audit events pass at every
/// level but `off`, unless filters in `level` name their targets.
///
/// # Errors
/// [`LogError::Level`] for an invalid filter, [`LogError::Installed`] on the second call.
pub fn init(level: &str, output: &Arc<Output>) -> Result<(), LogError> {
    let is_terminal = std::io::stderr().is_terminal();
    subscriber(level, output, is_terminal)?
        .try_init()
        .map_err(|_| LogError::Installed)
}

/// Installs a panic hook that reports panics as lines of the log, at every level: the standard library's report would
/// wait for the reader of standard error, on the thread that panicked.
pub fn report_panics(output: Arc<Output>) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let place = panic.location().map_or("nowhere", |it| it.file());
        let line = panic.location().map_or(0, std::panic::Location::line);
        let words = panic.payload_as_str().unwrap_or("no message");
        let time = output.now().to_rfc3339();
        let mut text = format!(
            "{time} ERROR doorward: thread {thread:?} panicked at {place}:{line}: {}\n",
            words.escape_debug()
        );
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            text.push_str(&backtrace.to_string());
            text.push('\n');
        }
        output.line(Stream::Log, text.into_bytes());
    }));
}

/// Whether audit events pass at this level, a value of `log.level`.
#[must_use]
pub fn lets_audit_pass(level: &str) -> bool {
    filter(level).is_ok_and(|filter| filter.would_enable(audit::TARGET, &tracing::Level::INFO))
}

/// A writer of one line of the log, which the subscriber writes in one call.
struct LogLine(Arc<Output>);

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.line(Stream::Log, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Holds back lines that are counted instead of written.
struct FoldRepeats(Arc<Output>);

impl<S: Subscriber> Filter<S> for FoldRepeats {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        // The levels are ordered by how much they let pass.
        if Level::WARN < *event.metadata().level() {
            return true;
        }
        let (is_written, line) = self.0.folds.admit(event);
        if let Some(line) = line {
            self.0.line(Stream::Log, line.into_bytes());
        }
        is_written
    }
}

/// The subscriber that [`init`] installs.
pub(in crate::telemetry) fn subscriber(
    level: &str,
    output: &Arc<Output>,
    ansi: bool,
) -> Result<impl Subscriber + Send + Sync + 'static, LogError> {
    let is_audit = |metadata: &Metadata<'_>| metadata.target() == audit::TARGET;
    let log = Arc::clone(output);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || LogLine(Arc::clone(&log)))
        .with_ansi(ansi)
        // A line that cannot be formatted would be reported on standard error, bypassing the writer.
        .log_internal_errors(false)
        .with_filter(FoldRepeats(Arc::clone(output)))
        .with_filter(filter_fn(move |metadata| !is_audit(metadata)))
        .with_filter(filter(level)?);
    let events = AuditLines(Arc::clone(output))
        .with_filter(filter_fn(is_audit))
        .with_filter(filter(level)?);
    Ok(Registry::default().with(lines).with(events))
}

/// Parses a level, preceded by defaults for some targets: later directives replace earlier ones.
fn filter(level: &str) -> Result<Targets, LogError> {
    let before = match level.split(',').next() {
        Some("off") => "",
        // Pingora and sled must not log below the level of the gateway itself.
        Some("error") => "audit=info,",
        // Below `warn`, sled logs whole records: addresses, hashes, digests.
        _ => "audit=info,pingora=warn,sled=warn,",
    };
    format!("{before}{level}")
        .parse()
        .map_err(|_| LogError::Level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::test_kit::Lines;

    /// Returns the lines of the log and those of the audit trail.
    fn logged(level: &str, events: impl FnOnce()) -> (String, String) {
        let lines = Lines::default();
        let output = lines.output();
        let subscriber = subscriber(level, &output, false).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        output.close();
        let text = lines.text();
        let (trail, log): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with('{'));
        (log.join("\n"), trail.join("\n"))
    }

    #[test]
    fn levels_hold_for_each_target() {
        let events = || {
            tracing::debug!("ours debug");
            tracing::info!("ours info");
            tracing::error!("ours error");
            tracing::info!(target: "pingora_core::protocols", "pingora info");
            tracing::warn!(target: "pingora_proxy", "pingora warn");
            tracing::info!(target: "audit", "audit");
            tracing::trace!(target: "sled::tree", "sled trace");
            tracing::warn!(target: "sled::pagecache", "sled warn");
        };
        let cases: [(&str, &[&str]); 7] = [
            (
                "info",
                &[
                    "ours info",
                    "ours error",
                    "pingora warn",
                    "sled warn",
                    "audit",
                ],
            ),
            (
                "trace",
                &[
                    "ours debug",
                    "ours info",
                    "ours error",
                    "pingora warn",
                    "sled warn",
                    "audit",
                ],
            ),
            ("error", &["ours error", "audit"]),
            ("off", &[]),
            ("off,audit=info", &["audit"]),
            (
                "info,pingora_core=info",
                &[
                    "ours info",
                    "ours error",
                    "pingora info",
                    "pingora warn",
                    "sled warn",
                    "audit",
                ],
            ),
            ("warn,audit=off,pingora=error,sled=off", &["ours error"]),
        ];
        for (level, expected) in cases {
            let (text, trail) = logged(level, events);
            let mut found: Vec<_> = text
                .lines()
                .map(|line| line.rsplit(": ").next().unwrap())
                .collect();
            found.extend(trail.lines().map(|_| "audit"));
            assert_eq!(found, expected, "{level}\n{text}\n{trail}");
        }
    }

    #[test]
    fn a_line_is_plain_in_utc_and_its_fields_are_escaped() {
        let (text, _) = logged("info", || {
            tracing::info!(account.name = "a\nforged \u{1b}[31m", "login refused");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.split(' ').next().unwrap().ends_with('Z'), "{text}");
    }

    #[test]
    fn audit_events_pass_unless_the_level_keeps_them() {
        let cases = [
            ("info", true),
            ("error", true),
            ("off", false),
            ("off,audit=info", true),
            ("info,audit=off", false),
            ("info,audit=warn", false),
        ];
        for (level, passes) in cases {
            assert_eq!(lets_audit_pass(level), passes, "{level}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        assert_eq!(filter("info,a=loud").err(), Some(LogError::Level));
    }
}
