//! The unchecked file: TOML with the line of each value.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use crate::config::problem::{ConfigProblems, ValueOrigin, ValuePlace};

/// An unchecked value. It is not `Debug`, since it may be a secret.
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<ConfigNode>),
    Table(Table),
    /// A float, a date, or an integer beyond 64 bits, which no key accepts.
    Other,
}

/// A value and its origin.
pub(super) struct ConfigNode {
    pub(super) origin: ValueOrigin,
    pub(super) value: Value,
}

/// A table and its origin.
pub(super) struct Table {
    pub(super) origin: ValueOrigin,
    pub(super) entries: BTreeMap<String, ConfigNode>,
}

impl Table {
    pub(super) fn empty(origin: ValueOrigin) -> Self {
        Self {
            origin,
            entries: BTreeMap::new(),
        }
    }
}

/// Parses a document. Syntax errors are reported by line and column, and never with the text around them, which may be
/// a secret.
pub(super) fn parse(text: &str, problems: &ConfigProblems) -> Table {
    let lines = Lines::of(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let (line, column) = lines.position(error.span().map_or(0, |span| span.start));
        let place = ValuePlace::new(format!("column {column}"), ValueOrigin::Line(line));
        problems.add(
            &place,
            "TOML, such as key = \"text\", with each key once in its table",
        );
    }
    table(document.into_inner(), ValueOrigin::Default, &|byte| {
        ValueOrigin::Line(lines.position(byte).0)
    })
}

/// Parses the value of an environment variable; `None` if it is not TOML.
pub(super) fn parse_value(text: &str, origin: &ValueOrigin) -> Option<ConfigNode> {
    let parsed = DeValue::parse(text).ok()?;
    // Line numbers within an environment variable are useless.
    Some(node(parsed.into_inner(), origin.clone(), &|_| {
        origin.clone()
    }))
}

/// Returns the origin of the value that starts at a byte.
type OriginOf<'a> = &'a dyn Fn(usize) -> ValueOrigin;

fn table(entries: DeTable<'_>, origin: ValueOrigin, origin_of: OriginOf<'_>) -> Table {
    let entries = entries
        .into_iter()
        .map(|(key, value)| {
            let node = node(value.into_inner(), origin_of(key.span().start), origin_of);
            (key.into_inner().into_owned(), node)
        })
        .collect();
    Table { origin, entries }
}

fn node(value: DeValue<'_>, origin: ValueOrigin, origin_of: OriginOf<'_>) -> ConfigNode {
    let value = match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other, Value::Integer),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| {
                    let origin = origin_of(item.span().start);
                    node(item.into_inner(), origin, origin_of)
                })
                .collect(),
        ),
        DeValue::Table(entries) => Value::Table(table(entries, origin.clone(), origin_of)),
        DeValue::Float(_) | DeValue::Datetime(_) => Value::Other,
    };
    ConfigNode { origin, value }
}

/// The byte offsets at which the lines of a text start.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            starts: std::iter::once(0).chain(after_breaks).collect(),
        }
    }

    /// Returns the line and column of a byte, both from 1. The column counts bytes.
    fn position(&self, byte: usize) -> (usize, usize) {
        let line = self
            .starts
            .partition_point(|start| *start <= byte)
            .saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        (line + 1, byte.saturating_sub(start) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syntax_error_has_line_and_column_and_no_text() {
        let problems = ConfigProblems::default();
        parse(
            "[listen]\naddress = hunter2\n\n[store\nengine = \"sled\"\n",
            &problems,
        );
        let error = problems.finish(()).unwrap_err();
        let lines: Vec<_> = error.problems.iter().map(|p| p.line).collect();
        assert!(
            lines.contains(&Some(2)) && lines.contains(&Some(4)),
            "{error}"
        );
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("column 11 (line 2): expected TOML"),
            "{error}"
        );
    }

    #[test]
    fn values_know_their_lines() {
        let problems = ConfigProblems::default();
        let root = parse(
            "[a]\nx = 1\n[[b]]\ny = [\n  1,\n  2,\n]\n[[b]]\n",
            &problems,
        );
        assert_eq!(problems.count(), 0);
        let line = |node: &ConfigNode| node.origin.clone();
        assert_eq!(line(root.entries.get("a").unwrap()), ValueOrigin::Line(1));
        let Value::List(items) = &root.entries.get("b").unwrap().value else {
            panic!("b is a list");
        };
        assert_eq!(line(items.first().unwrap()), ValueOrigin::Line(3));
        assert_eq!(line(items.get(1).unwrap()), ValueOrigin::Line(8));
        let Value::Table(first) = &items.first().unwrap().value else {
            panic!("its items are tables");
        };
        let Value::List(numbers) = &first.entries.get("y").unwrap().value else {
            panic!("y is a list");
        };
        assert_eq!(line(numbers.get(1).unwrap()), ValueOrigin::Line(6));
    }

    #[test]
    fn a_deep_document_is_refused_not_followed() {
        let problems = ConfigProblems::default();
        parse(&format!("x = {}", "[".repeat(100_000)), &problems);
        assert_ne!(problems.count(), 0);
    }
}
