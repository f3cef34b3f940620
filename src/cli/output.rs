//! Where commands write to the terminal; only clap's own help goes past it.
//!
//! Whatever is printed passes through [`Screen`], which writes out the characters that a terminal would obey or hide, so
//! no command can forget it. What others have said stands in the lines of ours: a text that could be taken for more than
//! a value is quoted, and the contents of tokens are indented.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::printable::printable;

/// Lines on their way to a terminal: characters that it would obey, hide or reorder are written out. Inside of a JSON
/// text that changes nothing of what it means.
struct Screen<W: Write> {
    inner: W,
    /// What has come since the last line break.
    line: Vec<u8>,
}

impl<W: Write> Screen<W> {
    const fn new(inner: W) -> Self {
        Self {
            inner,
            line: Vec::new(),
        }
    }

    /// Writes one line: a line break in the text is written out like any other control character.
    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.inner, "{}", printable(text))
    }
}

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (head, tail) = rest.split_at(end);
            self.line.extend_from_slice(head);
            let line = std::mem::take(&mut self.line);
            self.line(&String::from_utf8_lossy(&line))?;
            rest = tail.strip_prefix(b"\n").unwrap_or(tail);
        }
        self.line.extend_from_slice(rest);
        Ok(bytes.len())
    }

    /// What stands behind the last line break waits for its own.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Standard output, for what is written line by line as it comes.
pub(super) fn stream() -> impl Write {
    Screen::new(io::BufWriter::new(io::stdout().lock()))
}

const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Writes a line to standard output; a reader that went away is no trouble of ours.
pub(super) fn line(text: &str) {
    let _ = Screen::new(io::stdout().lock()).line(text);
}

/// Writes a text of ours that has several lines to standard output. Tabs that indent a line stay, since a file of some
/// proxies is written so.
pub(super) fn lines(text: &str) {
    let mut out = io::stdout().lock();
    for line in text.lines() {
        let rest = line.trim_start_matches('\t');
        let tabs = line.get(..line.len() - rest.len()).unwrap_or_default();
        let _ = out.write_all(tabs.as_bytes());
        let _ = Screen::new(&mut out).line(rest);
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
    paragraph("", text);
}

/// Writes an error with its causes to standard error.
pub(super) fn problem(error: &anyhow::Error) {
    let mut begin = "doorward: ";
    for cause in error.chain() {
        paragraph(begin, &cause.to_string());
        begin = "  because ";
    }
}

/// Writes a text to standard error. Only its first line begins where lines of ours do: the others are indented, since a
/// text of others may have been quoted in it.
fn paragraph(begin: &str, text: &str) {
    let mut err = Screen::new(io::stderr().lock());
    for (index, line) in text.lines().enumerate() {
        let begin = if index == 0 { begin } else { "  " };
        let _ = err.line(format!("{begin}{line}").trim_end());
    }
}

/// Shows what a command gave: an object as `name: value` lines, a list as one compact line each.
pub(super) fn value(value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, field) in fields {
                line(&format!("{name}: {}", alone(field)));
            }
        }
        Value::Array(items) => {
            for item in items {
                line(&match item {
                    Value::Object(fields) => fields
                        .iter()
                        .map(|(name, field)| format!("{name}={}", in_line(field)))
                        .collect::<Vec<_>>()
                        .join("  "),
                    other => alone(other).into_owned(),
                });
            }
        }
        other => line(&alone(other)),
    }
}

/// Shows what others have said under names of their own, as the claims of a token: indented, and every text in quotes.
pub(super) fn claims(fields: &Map<String, Value>) {
    for (name, field) in fields {
        let name = if is_word(name) {
            Cow::Borrowed(name.as_str())
        } else {
            Cow::Owned(quoted(name))
        };
        line(&format!("  {name}: {field}"));
    }
}

/// A value that has the rest of a line to itself.
fn alone(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) if is_plain(text) => Cow::Borrowed(text),
        Value::String(text) => Cow::Owned(quoted(text)),
        Value::Null => Cow::Borrowed("-"),
        other => Cow::Owned(other.to_string()),
    }
}

/// A value with others behind it on the same line: a text with spaces could look like more of them.
fn in_line(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) if !is_word(text) => Cow::Owned(quoted(text)),
        other => alone(other),
    }
}

/// Whether a text stands for itself without quotes: it could be taken for nothing else, and nothing of it is written out.
fn is_plain(text: &str) -> bool {
    let is_special = text.is_empty() || text == "-" || text.starts_with('"');
    !is_special && text.trim() == text && matches!(printable(text), shown if shown == text)
}

/// Whether a text has nothing in it that separates or quotes.
fn is_word(text: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation();
    is_plain(text)
        && text
            .chars()
            .all(|c| fits(c) && !matches!(c, '"' | '\\' | '='))
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn screened(pieces: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out);
        for piece in pieces {
            screen.write_all(piece).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_stream_is_written_out_line_by_line_wherever_it_is_cut() {
        let whole = "{\"name\":\"J\u{fc}\u{9b}2J\u{202e}\"}\n{}\n".as_bytes();
        let shown = "{\"name\":\"J\u{fc}\\u009b2J\\u202e\"}\n{}\n";
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(screened(&[head, tail]), shown, "cut at {cut}");
        }
    }

    #[test]
    fn a_value_is_quoted_where_it_could_be_taken_for_more() {
        let cases = [
            ("anna", "anna", "anna"),
            ("Anna Bee", "Anna Bee", "\"Anna Bee\""),
            ("a@example.org", "a@example.org", "a@example.org"),
            (
                "x  is_admin=true",
                "x  is_admin=true",
                "\"x  is_admin=true\"",
            ),
            ("a=b", "a=b", "\"a=b\""),
            ("a\nuid: u-1", "\"a\\nuid: u-1\"", "\"a\\nuid: u-1\""),
            ("\"a\"", "\"\\\"a\\\"\"", "\"\\\"a\\\"\""),
            ("", "\"\"", "\"\""),
            ("-", "\"-\"", "\"-\""),
            (" a", "\" a\"", "\" a\""),
        ];
        for (text, by_itself, among_others) in cases {
            let value = json!(text);
            assert_eq!(alone(&value), by_itself, "{text:?}");
            assert_eq!(in_line(&value), among_others, "{text:?}");
        }
        // It is quoted, and what the quotes leave is written out on the way.
        assert_eq!(printable(&alone(&json!("a\u{202e}b"))), "\"a\\u202eb\"");
        assert_eq!(alone(&json!(null)), "-");
        assert_eq!(alone(&json!(["a b", 1])), "[\"a b\",1]");
    }
}
