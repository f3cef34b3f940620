//! The program's own log.

use std::error::Error;
use std::io::IsTerminal;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::model::clock::SystemClock;
use crate::telemetry::audit::{self, AuditLines};

/// Why there is no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor a level followed by filters.
    #[error("the log level is no filter such as info,doorward=debug")]
    Level,
    /// This process has a log already.
    #[error("a log is installed already")]
    Installed,
}

/// An error and everything below it in one line, for texts that have no place for a chain.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text.push_str(": ");
        text.push_str(&below.to_string());
        cause = below.source();
    }
    text
}

/// Where audit events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutput {
    /// Standard output, beside the access records: the gateway.
    Stdout,
    /// Standard error: a command, whose standard output is its answer.
    Stderr,
}

/// Installs the subscriber: lines on standard error in UTC, Pingora's `log` lines included; audit events as JSON.
///
/// `level` is what `log.level` takes. Pingora's crates and sled are held at `warn`, and audit events pass at every level
/// but `off`, unless filters in `level` name their targets.
///
/// # Errors
/// [`LogError::Level`] for a text that is no filter, [`LogError::Installed`] at the second call.
pub fn init(level: &str, audit: AuditOutput) -> Result<(), LogError> {
    let is_terminal = std::io::stderr().is_terminal();
    let installed = match audit {
        AuditOutput::Stdout => {
            subscriber(level, std::io::stderr, is_terminal, std::io::stdout)?.try_init()
        }
        AuditOutput::Stderr => {
            subscriber(level, std::io::stderr, is_terminal, std::io::stderr)?.try_init()
        }
    };
    installed.map_err(|_| LogError::Installed)
}

fn subscriber<W, A>(
    level: &str,
    writer: W,
    ansi: bool,
    audit: A,
) -> Result<impl Subscriber + Send + Sync + 'static, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    A: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let is_audit = |metadata: &Metadata<'_>| metadata.target() == audit::TARGET;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(ansi)
        // A line that cannot be written would be reported on standard error, which panics when that is closed.
        .log_internal_errors(false)
        .with_filter(filter_fn(move |metadata| !is_audit(metadata)))
        .with_filter(filter(level)?);
    let events = AuditLines::onto(audit, SystemClock::new())
        .with_filter(filter_fn(is_audit))
        .with_filter(filter(level)?);
    Ok(Registry::default().with(lines).with(events))
}

/// Reads a level, with defaults for some targets before it: later directives replace earlier ones.
fn filter(level: &str) -> Result<Targets, LogError> {
    let before = match level.split(',').next() {
        Some("off") => "",
        // Nothing may be told of Pingora that would not be told of ourselves.
        Some("error") => "audit=info,",
        // Nor of sled, which writes whole records out below that: addresses, hashes, digests.
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

    /// What stands in the log, and what in the audit trail.
    fn logged(level: &str, events: impl FnOnce()) -> (String, String) {
        let (lines, trail) = (Lines::default(), Lines::default());
        let (writer, audit) = (lines.clone(), trail.clone());
        let subscriber =
            subscriber(level, move || writer.clone(), false, move || audit.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        (lines.text(), trail.text())
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
    fn what_is_no_filter_is_refused() {
        assert_eq!(filter("info,a=loud").err(), Some(LogError::Level));
    }
}
