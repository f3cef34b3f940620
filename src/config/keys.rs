//! Declarations of configuration keys: each with its name, form, default, meaning, and whether it needs a restart.
//!
//! Each section declares its keys by [`keys!`] or `settings!`. The parsing of the file and of environment variables,
//! the hints for unknown keys, the report of a reload, and the check of `config/doorward.toml` all follow from the
//! declarations.

use crate::config::Config;
use crate::config::base::Base;
use crate::config::document::Value;
use crate::config::problem::{ConfigProblems, ValuePlace};

/// The type of a key's value, which decides how an environment variable is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// A text: the variable is the text.
    Text,
    /// A whole number, or `true` or `false`: the variable is TOML.
    Scalar,
    /// A list of texts: the variable is TOML, or the only item.
    Texts,
    /// `true`, `false` or a list of texts: the variable is TOML, or the only item.
    FlagOrTexts,
    /// A text or a table: the variable is a table if it parses as one.
    TextOrTable,
    /// A table, or a list of tables: the variable is inline TOML.
    Tables,
}

/// The place of a value, and what reading it needs.
pub(super) struct ReadContext<'a> {
    pub(super) place: ValuePlace,
    pub(super) problems: &'a ConfigProblems,
    pub(super) base: &'a Base,
}

/// The form of a key without its type.
pub(super) trait KeyShape {
    /// Returns the kind of the value, by which an environment variable is parsed.
    fn kind(&self) -> ValueKind;

    /// Returns the section of a table's keys.
    fn inner(&self) -> Option<&'static Section>;

    /// Returns the expectation to report; for a list, the expectation for each item.
    fn expected(&self) -> &'static str;
}

/// The form of a key: its type, its limits, and the expectation that is reported for anything else. All forms are in
/// `config::forms`.
pub(super) trait Form<V>: KeyShape {
    /// Parses a value, and reports an invalid one.
    fn read(&self, value: Value, context: &ReadContext<'_>) -> Option<V>;
}

/// Restores the old value of a setting; returns whether it had changed.
pub(super) type RestoreOldValue = fn(&mut Config, &Config) -> bool;

/// A key of a section. `D` is its default, or `()` if the section computes the default.
pub(super) struct ConfigKey<V: 'static, D = ()> {
    pub(super) form: &'static dyn Form<V>,
    pub(super) default: D,
    pub(super) row: KeyRow,
}

/// A key without its type, for the list of its section.
pub(super) struct KeyRow {
    pub(super) name: &'static str,
    pub(super) shape: &'static dyn KeyShape,
    /// The comment above it in `config/doorward.toml`.
    pub(super) doc: &'static [&'static str],
    /// Restores the old value; `None`: a reload applies a new one, unless the whole section needs a restart (`[store]`,
    /// `[log]`).
    pub(super) keep: Option<RestoreOldValue>,
}

impl<V, D> AsRef<str> for ConfigKey<V, D> {
    fn as_ref(&self) -> &str {
        self.row.name
    }
}

/// The keys of a table.
pub(super) struct Section {
    /// The name, such as `listen` or `route[].require`; `[]` marks a list of tables.
    pub(super) name: &'static str,
    pub(super) keys: &'static [&'static KeyRow],
    /// Other keys of the section, which other files read.
    pub(super) parts: &'static [&'static Self],
    /// Keys of a later release, which are not reported as misspelled.
    pub(super) later: &'static [&'static str],
}

/// Declares the keys of a section: a type that has each of them as a constant of its name, and all of them as
/// `SECTION`.
///
/// ```text
/// keys! { pub(super) RouteKeys = "route[]", and [PassHeadersKeys]; {
///     /// Methods, in upper case, and hosts that the route matches.
///     methods: Vec<Method> = some_texts(METHOD, method) => Vec::new();
///     hosts: Vec<HostPattern> = some_texts(listen::HOST, host) => Vec::new();
///     upstream: String = raw_text(UPSTREAM);
/// }}
/// ```
///
/// The doc comment of a key is printed above it in `config/doorward.toml`. A key without one shares the comment of the
/// key before it. The type and the form of the value follow, after `=>` its default, and after `restart` the field of
/// `Config` that a reload does not change. A file that reads only some keys of a section declares these, and the
/// section's own declaration names them after `and`. Keys of a later release follow `later`.
macro_rules! keys {
    ($vis:vis $type:ident = $section:literal $(, later $later:tt)? $(, and [$($part:ident),+])?; {$(
        $(#[doc = $doc:literal])*
        $key:ident: $value:ty = $form:expr $(=> $default:expr)? $(, restart $($setting:ident).+)?;
    )*}) => {
        #[doc = concat!("The keys of `", $section, "`.")]
        $vis enum $type {}

        #[expect(non_upper_case_globals, reason = "a key is named as operators write it")]
        impl $type {
            $(pub(in crate::config) const $key: $crate::config::keys::ConfigKey<
                $value $(, $crate::config::keys::keys!(@default $default, $value))?
            > = $crate::config::keys::ConfigKey {
                form: &$form,
                default: ($(|| $default)?),
                row: $crate::config::keys::KeyRow {
                    name: stringify!($key),
                    shape: &$form as &'static dyn $crate::config::keys::Form<$value>,
                    doc: &[$($doc),*],
                    keep: $crate::config::keys::keys!(@keep $($($setting).+)?),
                },
            };)*

            pub(in crate::config) const SECTION: $crate::config::keys::Section =
                $crate::config::keys::Section {
                    name: $section,
                    keys: &[$(&Self::$key.row),*],
                    parts: &[$($(&$part::SECTION),+)?],
                    later: &$crate::config::keys::keys!(@later $($later)?),
                };
        }
    };
    (@default $default:expr, $value:ty) => { fn() -> $value };
    (@keep) => { None };
    (@keep $($setting:ident).+) => {
        Some(|new, old| {
            let is_other = new.$($setting).+ != old.$($setting).+;
            if is_other {
                new.$($setting).+.clone_from(&old.$($setting).+);
            }
            is_other
        })
    };
    (@later) => { [] };
    (@later $later:tt) => { $later };
}
pub(super) use keys;

/// The expectation that is reported for a key or value of a later release.
pub(super) const NOT_IN_RELEASE: &str = "no value: this key is not supported in this release";

/// Joins a section and a key to a full name such as `listen.address`.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

impl Section {
    /// Returns all keys, including those that other files read.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static KeyRow> {
        let parts = self.parts.iter().flat_map(|part| part.keys);
        self.keys.iter().chain(parts).copied()
    }

    /// Finds a key by its name.
    pub(super) fn find(&self, key: &str) -> Option<&'static KeyRow> {
        self.keys().find(|known| known.name == key)
    }

    /// Returns this section and all sections in it, outer ones first.
    pub(super) fn all(&'static self) -> Vec<&'static Self> {
        let below = self.keys().filter_map(|row| row.shape.inner());
        std::iter::once(self)
            .chain(below.flat_map(Self::all))
            .collect()
    }

    /// Returns the expectation to report for an unknown key, with the key that may be meant. `root`: the outermost
    /// section.
    pub(super) fn unknown(&self, key: &str, root: &'static Self) -> String {
        if self.later.contains(&key) {
            return NOT_IN_RELEASE.to_owned();
        }
        if let Some(name) = nearest(key, self.keys().map(|row| row.name)) {
            return format!("a known key; did you mean `{name}`?");
        }
        match root
            .all()
            .into_iter()
            .find(|other| other.find(key).is_some())
        {
            Some(other) => format!("a known key; did you mean `{}`?", join(other.name, key)),
            None => "a known key".to_owned(),
        }
    }
}

/// Returns the name that is most similar to a misspelled one, if any is similar.
fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names
        .map(|name| (strsim::damerau_levenshtein(name, found), name))
        .min()?;
    (distance <= 1 + name.len() / 4).then_some(name)
}

/// Returns the expectation to report for an undeclared name, with the declared names and the one that may be meant.
/// `what` describes all of them.
pub(super) fn undeclared<'a>(
    what: &str,
    found: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let mut shown: Vec<_> = names.clone().take(NAMES_SHOWN_MAX).collect();
    if shown.is_empty() {
        return format!("{what}; there is none");
    }
    if names.clone().count() != shown.len() {
        shown.push("…");
    }
    let meant = nearest(found, names).map(|name| format!("; did you mean `{name}`?"));
    format!("{what}: {}{}", shown.join(", "), meant.unwrap_or_default())
}

/// Maximum number of declared names that are shown.
const NAMES_SHOWN_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RootKeys;

    fn section(name: &str) -> &'static Section {
        let mut all = RootKeys::SECTION.all().into_iter();
        all.find(|section| section.name == name).unwrap()
    }

    #[test]
    fn slips_are_told_from_keys_that_come_later_and_from_misplaced_ones() {
        let cases = [
            ("listen", "adress", "a known key; did you mean `address`?"),
            ("listen", "tls", NOT_IN_RELEASE),
            ("", "routes", "a known key; did you mean `route`?"),
            (
                "limits",
                "trusted_proxies",
                "a known key; did you mean `listen.trusted_proxies`?",
            ),
            ("listen", "colour", "a known key"),
        ];
        for (name, key, said) in cases {
            let found = section(name).unknown(key, &RootKeys::SECTION);
            assert_eq!(found, said, "{name} {key}");
        }
    }

    #[test]
    fn no_key_is_both_here_and_later() {
        for section in RootKeys::SECTION.all() {
            for key in section.later {
                assert!(section.find(key).is_none(), "{} {key}", section.name);
            }
        }
    }
}
