//! Reads a table key by key, and reports every problem with its place. A key that is not read is unknown.

use std::collections::BTreeMap;

use crate::config::base::Base;
use crate::config::document::{ConfigNode, Table, Value};
use crate::config::forms;
use crate::config::keys::{self, ConfigKey, Form, ReadContext, Section, ValueKind};
use crate::config::problem::{ConfigProblems, ValueOrigin, ValuePlace, unreadable};

/// State that all readers of a configuration share.
#[derive(Clone, Copy)]
struct ReaderShared<'a> {
    problems: &'a ConfigProblems,
    base: &'a Base,
    root: &'static Section,
}

/// A reader of one table. Every method that reads a key reports an invalid value and returns `None`, as it does for a
/// missing key. The caller continues with the default, which is never used, since the problem makes the whole
/// configuration invalid.
pub(super) struct SectionReader<'a> {
    section: &'static Section,
    /// The name in reports, such as `route[2]`.
    place: ValuePlace,
    entries: BTreeMap<String, ConfigNode>,
    origins: BTreeMap<String, ValueOrigin>,
    shared: ReaderShared<'a>,
}

impl<'a> SectionReader<'a> {
    pub(super) fn root(
        table: Table,
        root: &'static Section,
        problems: &'a ConfigProblems,
        base: &'a Base,
    ) -> Self {
        let shared = ReaderShared {
            problems,
            base,
            root,
        };
        Self::new(root, String::new(), table, shared)
    }

    fn new(
        section: &'static Section,
        name: String,
        table: Table,
        shared: ReaderShared<'a>,
    ) -> Self {
        let origins = table
            .entries
            .iter()
            .map(|(key, node)| (key.clone(), node.origin.clone()))
            .collect();
        Self {
            section,
            place: ValuePlace::new(name, table.origin),
            entries: table.entries,
            origins,
            shared,
        }
    }

    /// Reports a problem of the table as a whole.
    pub(super) fn add_here(&self, expected: impl Into<String>) {
        self.shared.problems.add(&self.place, expected);
    }

    /// Whether a key is written, valid or not.
    pub(super) fn has(&self, key: impl AsRef<str>) -> bool {
        self.origins.contains_key(key.as_ref())
    }

    /// Returns the place of a key, whether it is written or not.
    pub(super) fn place(&self, key: impl AsRef<str>) -> ValuePlace {
        let key = key.as_ref();
        let origin = self.origins.get(key).unwrap_or(&self.place.origin);
        ValuePlace::new(keys::join(&self.place.key, key), origin.clone())
    }

    /// Reports a problem of a key.
    pub(super) fn add(&self, key: impl AsRef<str>, expected: impl Into<String>) {
        self.shared.problems.add(&self.place(key), expected);
    }

    /// Reports a warning about a key.
    pub(super) fn warn(&self, key: impl AsRef<str>, expected: impl Into<String>) {
        self.shared.problems.warn(&self.place(key), expected);
    }

    /// Returns the collected problems, for checks that depend on several tables.
    pub(super) const fn problems(&self) -> &'a ConfigProblems {
        self.shared.problems
    }

    /// Returns the base of relative paths.
    pub(super) const fn base(&self) -> &'a Base {
        self.shared.base
    }

    /// Reads the value of a key, or its default.
    pub(super) fn get<V>(&mut self, key: &ConfigKey<V, fn() -> V>) -> V {
        self.take(key).unwrap_or_else(key.default)
    }

    /// Reads the value of a key, if it is written.
    pub(super) fn take<V, D>(&mut self, key: &ConfigKey<V, D>) -> Option<V> {
        self.take_as(key, key.form)
    }

    /// Reads the value of a key like [`SectionReader::take`], and reports a missing key.
    pub(super) fn required<V>(&mut self, key: &ConfigKey<V>) -> Option<V> {
        if !self.has(key) {
            let each = key.form.expected();
            match key.form.kind() {
                ValueKind::Texts => self.add(key, format!("a list of at least one, each {each}")),
                _ => self.add(key, each),
            }
        }
        self.take(key)
    }

    /// Reads the text of a key by a `parse` that depends on other keys.
    pub(super) fn text<T, D>(
        &mut self,
        key: &ConfigKey<String, D>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.take_as(key, &forms::text(key.form.expected(), parse))
    }

    /// Reads the value of a key in another form than the declared one, since the form depends on other keys.
    pub(super) fn take_as<V>(
        &mut self,
        key: impl AsRef<str>,
        form: &(impl Form<V> + ?Sized),
    ) -> Option<V> {
        let value = self.entries.remove(key.as_ref())?.value;
        let context = ReadContext {
            place: self.place(key),
            problems: self.shared.problems,
            base: self.shared.base,
        };
        form.read(value, &context)
    }

    /// Reports a file that cannot be read.
    pub(super) fn add_unreadable(&self, key: impl AsRef<str>, error: &std::io::Error) {
        let hint = self.shared.base.hint();
        self.add(key, unreadable("a file that can be read", error, &hint));
    }

    /// Reads all keys of a table by `read`, and reports the others. A missing table is empty.
    pub(super) fn section<T>(
        &mut self,
        key: &ConfigKey<Value>,
        read: impl FnOnce(&mut SectionReader<'a>) -> T,
    ) -> T {
        let mut table = self.table(key);
        let settings = read(&mut table);
        table.finish();
        settings
    }

    /// Reads a table. A missing one is empty.
    pub(super) fn table(&mut self, key: &ConfigKey<Value>) -> SectionReader<'a> {
        let table = match self.take(key) {
            None => Table::empty(ValueOrigin::Default),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.add(key, "a table");
                Table::empty(ValueOrigin::Default)
            }
        };
        self.inner(key, table)
    }

    /// Makes a reader for the table of a key.
    pub(super) fn inner(&self, key: &ConfigKey<Value>, table: Table) -> SectionReader<'a> {
        let name = keys::join(&self.place.key, key.row.name);
        let section = key.form.inner().unwrap_or(self.section);
        SectionReader::new(section, name, table, self.shared)
    }

    /// Reads a list of tables. A missing one is empty.
    pub(super) fn tables(&mut self, key: &ConfigKey<Value>) -> Vec<SectionReader<'a>> {
        let items = match self.take(key) {
            None => Vec::new(),
            Some(Value::List(items)) => items,
            Some(_) => {
                self.add(
                    key,
                    format!("tables, each starting with [[{}]]", key.row.name),
                );
                Vec::new()
            }
        };
        let section = key.form.inner().unwrap_or(self.section);
        let list = keys::join(&self.place.key, key.row.name);
        let read = |(index, item): (usize, ConfigNode)| {
            let name = format!("{list}[{index}]");
            if let Value::Table(table) = item.value {
                return Some(SectionReader::new(section, name, table, self.shared));
            }
            let place = ValuePlace::new(name, item.origin);
            self.shared.problems.add(&place, "a table");
            None
        };
        items.into_iter().enumerate().filter_map(read).collect()
    }

    /// Reports every key that has not been read.
    pub(super) fn finish(self) {
        for (key, node) in &self.entries {
            let shown: String = key.escape_debug().take(64).collect();
            let place = ValuePlace::new(keys::join(&self.place.key, &shown), node.origin.clone());
            let said = self.section.unknown(key, self.shared.root);
            self.shared.problems.add(&place, said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::LimitKeys;
    use crate::config::{RootKeys, document};

    fn read(text: &str, read: impl FnOnce(&mut SectionReader<'_>)) -> String {
        let problems = ConfigProblems::default();
        let base = Base::default();
        let mut root = SectionReader::root(
            document::parse(text, &problems),
            &RootKeys::SECTION,
            &problems,
            &base,
        );
        let mut limits = root.table(&RootKeys::limits);
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
            assert_eq!(limits.take(&LimitKeys::head_bytes_max), None);
            assert_eq!(limits.take(&LimitKeys::head_fields_max), None);
        });
        assert_eq!(
            said,
            "limits.head_bytes_max (line 2): expected a whole number from 1024 to 1048576"
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
