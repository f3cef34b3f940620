//! Takes a table apart key by key: what is wrong is noted with its place, and what nobody took is unknown.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::base::Base;
use crate::config::document::{Node, Table, Value};
use crate::config::keys;
use crate::config::problem::{Origin, Place, Problems, unreadable};

/// Reads one table. Every method that takes a key notes what is wrong with it and gives `None` then, as it does for a
/// key that is not there: the caller goes on with the default, and nothing comes of it, since a problem was noted.
pub(super) struct Reader<'a> {
    /// Its name in the list of keys, such as `route[]`.
    section: String,
    /// Its name for people, such as `route[2]`.
    place: Place,
    entries: BTreeMap<String, Node>,
    origins: BTreeMap<String, Origin>,
    problems: &'a Problems,
    base: &'a Base,
}

impl<'a> Reader<'a> {
    pub(super) fn root(table: Table, problems: &'a Problems, base: &'a Base) -> Self {
        Self::new(String::new(), String::new(), table, (problems, base))
    }

    fn new(
        section: String,
        name: String,
        table: Table,
        (problems, base): (&'a Problems, &'a Base),
    ) -> Self {
        let origins = table
            .entries
            .iter()
            .map(|(key, node)| (key.clone(), node.origin.clone()))
            .collect();
        Self {
            section,
            place: Place::new(name, table.origin),
            entries: table.entries,
            origins,
            problems,
            base,
        }
    }

    /// Notes what is wrong with the table as a whole.
    pub(super) fn add_here(&self, expected: impl Into<String>) {
        self.problems.add(&self.place, expected);
    }

    /// Whether a key is written, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// Where a key stands, or would stand.
    pub(super) fn place(&self, key: &str) -> Place {
        let origin = self.origins.get(key).unwrap_or(&self.place.origin);
        Place::new(keys::join(&self.place.key, key), origin.clone())
    }

    /// Notes what is wrong with a key.
    pub(super) fn add(&self, key: &str, expected: impl Into<String>) {
        self.problems.add(&self.place(key), expected);
    }

    /// Notes what an operator should know about a key.
    pub(super) fn warn(&self, key: &str, expected: impl Into<String>) {
        self.problems.warn(&self.place(key), expected);
    }

    /// Where problems go, for what hangs on several tables.
    pub(super) const fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// How many problems there are so far, here and elsewhere.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.count()
    }

    /// Takes a value as written.
    pub(super) fn node(&mut self, key: &str) -> Option<Node> {
        debug_assert!(
            keys::kind(&self.section, key).is_some(),
            "{} is not in the list of keys",
            keys::join(&self.section, key)
        );
        self.entries.remove(key)
    }

    /// Takes a text that `parse` makes something of.
    pub(super) fn text<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let parsed = match self.node(key)?.value {
            Value::Text(text) => parse(&text),
            _ => None,
        };
        if parsed.is_none() {
            self.add(key, expected);
        }
        parsed
    }

    /// Takes a path; a relative one begins where those of this configuration do.
    pub(super) fn path(&mut self, key: &str, expected: &str) -> Option<PathBuf> {
        let base = self.base;
        self.text(key, expected, |text| is_path(text).then(|| base.join(text)))
    }

    /// As [`Reader::path`], where an empty text means none.
    pub(super) fn optional_path(&mut self, key: &str, expected: &str) -> Option<PathBuf> {
        let base = self.base;
        let path = self.text(key, expected, |text| match text {
            "" => Some(None),
            text => is_path(text).then(|| Some(base.join(text))),
        });
        path.flatten()
    }

    /// Where relative paths begin.
    pub(super) const fn base(&self) -> &'a Base {
        self.base
    }

    /// Notes a file that cannot be opened or read.
    pub(super) fn add_unreadable(&self, key: &str, error: &std::io::Error) {
        let hint = match error.kind() {
            ErrorKind::NotFound => self.base.hint(),
            _ => String::new(),
        };
        self.add(key, unreadable("a file that can be read", error, &hint));
    }

    /// As [`Reader::text`], but the key must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.add(key, expected);
        }
        self.text(key, expected, parse)
    }

    /// Takes one word of a closed list. `later`: words of a later release.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        words: &[(&str, T)],
        later: &[&str],
    ) -> Option<T> {
        let Value::Text(text) = self.node(key)?.value else {
            self.add(key, one_of(words));
            return None;
        };
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let note = if later.contains(&text.as_str()) {
                "; the value is not in this release"
            } else {
                ""
            };
            self.add(key, format!("{}{note}", one_of(words)));
        }
        found.map(|(_, value)| *value)
    }

    /// Takes a whole number within limits.
    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let number = match self.node(key)?.value {
            Value::Integer(number) => u64::try_from(number).ok().filter(|n| range.contains(n)),
            _ => None,
        };
        if number.is_none() {
            let (low, high) = range.into_inner();
            self.add(key, format!("a whole number from {low} to {high}"));
        }
        number
    }

    /// As [`Reader::number`], for counts in memory.
    pub(super) fn count(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<usize> {
        usize::try_from(self.number(key, range)?).ok()
    }

    /// Takes whole seconds.
    pub(super) fn seconds(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Duration> {
        self.number(key, range).map(Duration::from_secs)
    }

    /// Takes whole milliseconds.
    pub(super) fn millis(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Duration> {
        self.number(key, range).map(Duration::from_millis)
    }

    /// Takes `true` or `false`.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let Value::Flag(flag) = self.node(key)?.value else {
            self.add(key, "true or false");
            return None;
        };
        Some(flag)
    }

    /// Takes a list of texts, no two of which may mean the same; each wrong one is noted. `expected` says what one is.
    pub(super) fn texts<T: PartialEq>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.items(key, expected, |text| parse(text).ok_or(expected.to_owned()))
    }

    /// As [`Reader::texts`], but a list that is written and empty is noted: it could mean none as well as all.
    pub(super) fn some_texts<T: PartialEq>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.some_items(key, expected, |text| parse(text).ok_or(expected.to_owned()))
    }

    /// As [`Reader::some_texts`], but the key must be there.
    pub(super) fn required_texts<T: PartialEq>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        if !self.has(key) {
            self.add(key, format!("a list of at least one, each {expected}"));
        }
        self.some_texts(key, expected, parse)
    }

    /// As [`Reader::some_texts`], but one text may stand for a list of one.
    pub(super) fn text_or_texts<T: PartialEq>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        if let Some(node) = self.entries.get(key)
            && matches!(node.value, Value::Text(_))
        {
            return self.text(key, expected, parse).map(|value| vec![value]);
        }
        self.some_texts(key, expected, parse)
    }

    /// As [`Reader::texts`], but `true` stands for a list of its own, and `false` for the empty one.
    pub(super) fn flag_or_texts<T: PartialEq + Clone>(
        &mut self,
        key: &str,
        expected: &str,
        on: &[T],
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let flag = match self.entries.get(key)?.value {
            Value::Flag(flag) => Some(flag),
            Value::List(_) => None,
            _ => {
                self.node(key);
                self.add(key, format!("true, false or a list, each item {expected}"));
                return None;
            }
        };
        let Some(flag) = flag else {
            return self.texts(key, expected, parse);
        };
        self.node(key);
        Some(if flag { on.to_vec() } else { Vec::new() })
    }

    /// As [`Reader::some_texts`], with a word for each way in which an item can be wrong.
    pub(super) fn some_items<T: PartialEq>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items = self.items(key, expected, parse)?;
        if items.is_empty() {
            self.add(
                key,
                format!("at least one item, {expected}, or the key left out"),
            );
            return None;
        }
        Some(items)
    }

    fn items<T: PartialEq>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Value::List(items) = self.node(key)?.value else {
            self.add(key, format!("a list, each item {expected}"));
            return None;
        };
        let before = self.problem_count();
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let parsed = match &item.value {
                Value::Text(text) => parse(text),
                _ => Err(expected.to_owned()),
            };
            let name = format!("{}[{index}]", keys::join(&self.place.key, key));
            let place = Place::new(name, item.origin);
            match parsed {
                Ok(value) if values.contains(&value) => {
                    self.problems.add(&place, "no two items alike");
                }
                Ok(value) => values.push(value),
                Err(expected) => self.problems.add(&place, expected),
            }
        }
        (self.problem_count() == before).then_some(values)
    }

    /// Takes a table; one that is not written is empty.
    pub(super) fn table(&mut self, key: &str) -> Reader<'a> {
        let table = match self.node(key).map(|node| node.value) {
            None => Table::empty(Origin::Default),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.add(key, "a table");
                Table::empty(Origin::Default)
            }
        };
        self.inner(key, table)
    }

    /// Makes a reader of a table that was found under a key.
    pub(super) fn inner(&self, key: &str, table: Table) -> Reader<'a> {
        Reader::new(
            keys::join(&self.section, key),
            keys::join(&self.place.key, key),
            table,
            (self.problems, self.base),
        )
    }

    /// Takes a list of tables; one that is not written is empty.
    pub(super) fn tables(&mut self, key: &str) -> Vec<Reader<'a>> {
        let items = match self.node(key).map(|node| node.value) {
            None => Vec::new(),
            Some(Value::List(items)) => items,
            Some(_) => {
                self.add(key, format!("tables, each begun by [[{key}]]"));
                Vec::new()
            }
        };
        let mut readers = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{}[{index}]", keys::join(&self.place.key, key));
            match item.value {
                Value::Table(mut table) => {
                    table.origin = item.origin;
                    let section = format!("{}[]", keys::join(&self.section, key));
                    let shared = (self.problems, self.base);
                    readers.push(Reader::new(section, name, table, shared));
                }
                _ => self.problems.add(&Place::new(name, item.origin), "a table"),
            }
        }
        readers
    }

    /// Notes every key that was not taken.
    pub(super) fn finish(self) {
        for (key, node) in &self.entries {
            debug_assert!(
                keys::kind(&self.section, key).is_none(),
                "{} is known and nobody reads it",
                keys::join(&self.section, key)
            );
            let shown: String = key.escape_debug().take(64).collect();
            let place = Place::new(keys::join(&self.place.key, &shown), node.origin.clone());
            self.problems.add(&place, keys::unknown(&self.section, key));
        }
    }
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect();
    match words.as_slice() {
        [single] => single.clone(),
        _ => format!("one of {}", words.join(", ")),
    }
}

/// Whether a text can be a path.
pub(super) fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

/// Whether a text has 1 to `max` bytes of visible ASCII.
pub(super) fn is_visible(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document;

    fn read(text: &str, read: impl FnOnce(&mut Reader<'_>)) -> String {
        let problems = Problems::default();
        let base = Base::default();
        let mut root = Reader::root(document::parse(text, &problems), &problems, &base);
        let mut limits = root.table("limits");
        read(&mut limits);
        limits.finish();
        root.finish();
        problems
            .finish(())
            .map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn a_wrong_value_is_noted_and_not_given() {
        let said = read("[limits]\nhead_bytes_max = \"secret\"\n", |limits| {
            assert_eq!(limits.number("head_bytes_max", 1..=9), None);
            assert_eq!(limits.number("head_fields_max", 1..=9), None);
        });
        assert_eq!(
            said,
            "limits.head_bytes_max (line 2): expected a whole number from 1 to 9"
        );
    }

    #[test]
    fn unknown_keys_are_noted_in_every_table_and_escaped() {
        let said = read("colour = 1\n[limits]\n\"a\\nb\" = 1\n", |_limits| {});
        assert_eq!(
            said,
            "colour (line 1): expected a known key\nlimits.a\\nb (line 3): expected a known key"
        );
    }

    #[test]
    fn a_section_that_is_no_table_is_noted() {
        assert_eq!(
            read("limits = 3", |_limits| {}),
            "limits (line 1): expected a table"
        );
    }
}
