//! The one place that writes to the terminal.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Writes a line to standard output; a reader that went away is no trouble of ours.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Standard output, for what has a form of its own.
pub(super) fn stream() -> impl Write {
    io::BufWriter::new(io::stdout().lock())
}

/// Writes an error with its causes to standard error.
pub(super) fn problem(error: &anyhow::Error) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "doorward: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(err, "  because {cause}");
    }
}

/// Writes an error as [`problem`] does, and gives up after a second: a reader that has stopped must not hold up the end
/// of a gateway.
pub(super) fn last_words(error: anyhow::Error) {
    let (ended, end) = mpsc::channel::<()>();
    let spawned = thread::Builder::new().spawn(move || {
        problem(&error);
        drop(ended);
    });
    if spawned.is_ok() {
        // Nothing is ever sent: the wait ends with the thread's channel, or in time.
        let _ = end.recv_timeout(LAST_WORDS_MAX);
    }
}

/// Writes a note to standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Shows what a command gave: an object as `name: value` lines, a list as one compact line each.
pub(super) fn value(value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, field) in fields {
                line(&format!("{name}: {}", plain(field)));
            }
        }
        Value::Array(items) => {
            for item in items {
                line(&match item {
                    Value::Object(fields) => fields
                        .iter()
                        .map(|(name, field)| format!("{name}={}", plain(field)))
                        .collect::<Vec<_>>()
                        .join("  "),
                    other => plain(other),
                });
            }
        }
        other => line(&plain(other)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
