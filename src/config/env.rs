//! Environment variables that override the file: `DOORWARD__LISTEN__ADDRESS=…` sets `listen.address`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::config::document::{self, ConfigNode, Table, Value};
use crate::config::keys::{self, Section, ValueKind};
use crate::config::problem::{ConfigProblems, ValueOrigin, ValuePlace};

const PREFIX: &str = "DOORWARD__";

/// The part of the environment that belongs to the configuration. Its `Debug` shows names of variables, never their
/// values.
///
/// A variable is named `DOORWARD__` and the key in upper case with `__` for each dot. Tables in lists are numbered:
/// `DOORWARD__UPSTREAM__0__ADDRESSES`. A text is written without quotes, a number or `true` or `false` as in TOML, a
/// list as TOML (`["a", "b"]`) or as its only item without quotes, and `require` as a word or an inline table.
#[derive(Clone, Default)]
pub struct EnvOverlay {
    variables: BTreeMap<String, OsString>,
    /// The directory in which systemd keeps the credentials of this service.
    pub(super) credentials: Option<PathBuf>,
    /// The first of the state directories that systemd made for this service.
    pub(super) state_directory: Option<PathBuf>,
}

impl fmt::Debug for EnvOverlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// A step into the tree: a key, and the number of the table if the key holds a list of them.
type PathStep<'a> = (&'a str, Option<usize>);

impl EnvOverlay {
    /// Reads the environment of this process. Nothing else in the crate does.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    pub fn from_process() -> Self {
        Self::from_pairs(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))),
        )
    }

    /// Reads pairs of name and value, and ignores names that are not the gateway's.
    #[must_use]
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<OsString>,
    {
        let mut overlay = Self::default();
        for (name, value) in pairs {
            let name = name.into();
            if name.starts_with(PREFIX) {
                overlay.variables.insert(name, value.into());
            } else if name == "CREDENTIALS_DIRECTORY" {
                overlay.credentials = Some(value.into().into());
            } else if name == "STATE_DIRECTORY" {
                overlay.state_directory = first_absolute(&value.into());
            }
        }
        overlay
    }

    /// Sets the value of every variable in the document, whose keys are those of `section`.
    pub(super) fn apply(
        &self,
        root: &mut Table,
        section: &'static Section,
        problems: &ConfigProblems,
    ) {
        let mut variables: Vec<_> = self
            .variables
            .iter()
            .filter_map(|(name, value)| Some((lower_path(name.strip_prefix(PREFIX)?), name, value)))
            .collect();
        // Items are appended in order, so number 9 must come before number 10.
        variables.sort_by_cached_key(|(path, ..)| {
            path.iter()
                .map(|part| (part.parse::<usize>().unwrap_or(0), part.clone()))
                .collect::<Vec<_>>()
        });
        for (path, name, value) in variables {
            let origin = ValueOrigin::Variable(name.as_str().into());
            let place = ValuePlace::new(name.as_str(), ValueOrigin::Default);
            let parts: Vec<_> = path.iter().map(String::as_str).collect();
            let Some((steps, key, kind)) = resolve(&parts, section) else {
                problems.add(&place, unknown(&parts, section));
                continue;
            };
            let Some(text) = value.to_str() else {
                problems.add(&place, "a value in UTF-8");
                continue;
            };
            match walk(root, &steps, &origin) {
                Some(table) => {
                    table
                        .entries
                        .insert(key.to_owned(), value_of(text, kind, &origin));
                }
                None => problems.add(
                    &place,
                    "the number of an existing table, or the next number",
                ),
            }
        }
    }
}

fn first_absolute(paths: &OsStr) -> Option<PathBuf> {
    let first = paths.as_bytes().split(|b| *b == b':').next()?;
    let path = PathBuf::from(OsStr::from_bytes(first));
    path.is_absolute().then_some(path)
}

fn lower_path(name: &str) -> Vec<String> {
    name.split("__").map(str::to_ascii_lowercase).collect()
}

/// Finds the key that a variable names; `None` if there is none.
fn resolve<'a>(
    parts: &[&'a str],
    mut section: &'static Section,
) -> Option<(Vec<PathStep<'a>>, &'a str, ValueKind)> {
    let mut steps = Vec::new();
    let mut rest = parts;
    loop {
        let (key, after) = rest.split_first()?;
        let declared = section.find(key)?;
        if after.is_empty() {
            return Some((steps, key, declared.shape.kind()));
        }
        section = declared.shape.inner()?;
        let is_list = section.name.ends_with("[]");
        let (numbers, after) = after.split_at(usize::from(is_list));
        let number = numbers.first().map(|number| number.parse());
        steps.push((*key, number.transpose().ok()?));
        rest = after;
    }
}

/// Returns the expectation to report for a variable without a key.
fn unknown(parts: &[&str], root: &'static Section) -> String {
    let (key, before) = parts.split_last().unwrap_or((&"", &[]));
    let name = before.iter().fold(String::new(), |name, part| {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            format!("{name}[]")
        } else {
            keys::join(&name, part)
        }
    });
    match root.all().into_iter().find(|section| section.name == name) {
        Some(section) => section.unknown(key, root),
        None => root.unknown(parts.first().unwrap_or(&""), root),
    }
}

/// Finds the table that holds the key, and creates missing tables on the way; `None` if a number skips an item.
fn walk<'t>(
    root: &'t mut Table,
    steps: &[PathStep<'_>],
    origin: &ValueOrigin,
) -> Option<&'t mut Table> {
    let mut table = root;
    for (key, number) in steps {
        let mut node = entry(table, key, origin);
        if let Some(number) = number {
            if !matches!(node.value, Value::List(_)) {
                node.value = Value::List(Vec::new());
            }
            let Value::List(items) = &mut node.value else {
                return None;
            };
            if *number == items.len() {
                items.push(empty(origin));
            }
            node = items.get_mut(*number)?;
        }
        if !matches!(node.value, Value::Table(_)) {
            *node = empty(origin);
        }
        let Value::Table(next) = &mut node.value else {
            return None;
        };
        table = next;
    }
    Some(table)
}

fn entry<'t>(table: &'t mut Table, key: &str, origin: &ValueOrigin) -> &'t mut ConfigNode {
    table
        .entries
        .entry(key.to_owned())
        .or_insert_with(|| empty(origin))
}

fn empty(origin: &ValueOrigin) -> ConfigNode {
    ConfigNode {
        origin: origin.clone(),
        value: Value::Table(Table::empty(origin.clone())),
    }
}

fn value_of(text: &str, kind: ValueKind, origin: &ValueOrigin) -> ConfigNode {
    let as_text = || ConfigNode {
        origin: origin.clone(),
        value: Value::Text(text.to_owned()),
    };
    let parsed = || document::parse_value(text, origin);
    match kind {
        ValueKind::Text => as_text(),
        ValueKind::Scalar | ValueKind::Tables => parsed().unwrap_or_else(as_text),
        ValueKind::TextOrTable => parsed()
            .filter(|node| matches!(node.value, Value::Table(_)))
            .unwrap_or_else(as_text),
        ValueKind::Texts | ValueKind::FlagOrTexts => parsed()
            .filter(|node| match node.value {
                Value::List(_) => true,
                Value::Flag(_) => kind == ValueKind::FlagOrTexts,
                _ => false,
            })
            .unwrap_or_else(|| ConfigNode {
                origin: origin.clone(),
                value: Value::List(vec![as_text()]),
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RootKeys;

    /// Formats a tree on one line, for comparison.
    fn show(node: &ConfigNode) -> String {
        match &node.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(show).collect();
                format!("[{}]", items.join(","))
            }
            Value::Table(table) => {
                let entries: Vec<_> = table
                    .entries
                    .iter()
                    .map(|(key, node)| format!("{key}={}", show(node)))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
            Value::Other => "other".to_owned(),
        }
    }

    fn overlaid(text: &str, pairs: &[(&str, &str)]) -> Result<String, String> {
        let problems = ConfigProblems::default();
        let mut root = document::parse(text, &problems);
        EnvOverlay::from_pairs(pairs.iter().copied()).apply(
            &mut root,
            &RootKeys::SECTION,
            &problems,
        );
        let shown = show(&ConfigNode {
            origin: ValueOrigin::Default,
            value: Value::Table(root),
        });
        problems
            .finish(())
            .map(|_| shown)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn variables_set_keys_in_the_type_that_the_key_wants() {
        let cases = [
            (
                "DOORWARD__LISTEN__ADDRESS",
                "1.2.3.4:5",
                "{listen={address=[\"1.2.3.4:5\"]}}",
            ),
            (
                "DOORWARD__LISTEN__ADDRESS",
                "['a','b']",
                "{listen={address=[\"a\",\"b\"]}}",
            ),
            (
                "DOORWARD__LISTEN__ADMIN_TOKEN",
                "12345",
                "{listen={admin_token=\"12345\"}}",
            ),
            ("DOORWARD__LISTEN__WORKERS", "3", "{listen={workers=3}}"),
            (
                "DOORWARD__LISTEN__WORKERS",
                "three",
                "{listen={workers=\"three\"}}",
            ),
            ("DOORWARD__LOG__ACCESS", "false", "{log={access=false}}"),
            (
                "DOORWARD__ROUTE__0__REQUIRE",
                "public",
                "{route=[{require=\"public\"}]}",
            ),
            (
                "DOORWARD__ROUTE__0__REQUIRE",
                "{ any_role = ['a'] }",
                "{route=[{require={any_role=[\"a\"]}}]}",
            ),
            (
                "DOORWARD__ROUTE__0__IDENTITY_HEADERS__UID",
                "Remote-User",
                "{route=[{identity_headers={uid=\"Remote-User\"}}]}",
            ),
            (
                "DOORWARD__UPSTREAM",
                "[{name='a'}]",
                "{upstream=[{name=\"a\"}]}",
            ),
            ("OTHER", "x", "{}"),
        ];
        for (name, value, shown) in cases {
            assert_eq!(
                overlaid("", &[(name, value)]),
                Ok(shown.to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_leaves_the_rest() {
        assert_eq!(
            overlaid(
                "[[upstream]]\nname = 'a'\naddresses = ['x']\n",
                &[
                    ("DOORWARD__UPSTREAM__1__NAME", "b"),
                    ("DOORWARD__UPSTREAM__0__ADDRESSES", "y"),
                ]
            ),
            Ok("{upstream=[{addresses=[\"y\"],name=\"a\"},{name=\"b\"}]}".to_owned())
        );
    }

    #[test]
    fn variables_that_name_no_key_are_noted_without_their_value() {
        let cases = [
            (
                "DOORWARD__LISTEN__ADRESS",
                "a known key; did you mean `address`?",
            ),
            (
                "DOORWARD__LISTN__ADDRESS",
                "a known key; did you mean `listen`?",
            ),
            ("DOORWARD__STORE__URL", keys::NOT_IN_RELEASE),
            (
                "DOORWARD__ROUTE__X__PATH",
                "a known key; did you mean `route`?",
            ),
            (
                "DOORWARD__ROUTE__7__PATH",
                "the number of an existing table, or the next number",
            ),
        ];
        for (name, said) in cases {
            let error = overlaid("", &[(name, "hunter2")]).unwrap_err();
            assert_eq!(error, format!("{name}: expected {said}"));
        }
    }

    #[test]
    fn debug_names_variables_only() {
        let overlay = EnvOverlay::from_pairs([("DOORWARD__LISTEN__ADMIN_TOKEN", "hunter2")]);
        assert_eq!(
            format!("{overlay:?}"),
            "{\"DOORWARD__LISTEN__ADMIN_TOKEN\"}"
        );
    }
}
