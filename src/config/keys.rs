//! What a configuration key is: declared once, with its name, form, default, meaning and whether it needs a restart.
//!
//! Each section declares its keys by [`keys!`]. What is read from the file and from the environment, what is said of an
//! unknown key, what a reload puts off and what `config/doorward.toml` must show all follow from there.

use crate::config::Config;
use crate::config::base::Base;
use crate::config::document::Value;
use crate::config::problem::{Origin, Place, Problems};

/// What a key takes, as far as an environment variable needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text: a variable is taken as it stands.
    Text,
    /// A whole number, or `true` or `false`.
    Scalar,
    /// A list of texts; a variable may hold one item as it stands.
    Texts,
    /// `true`, `false` or a list of texts; a variable may hold one item as it stands.
    FlagOrTexts,
    /// A text or a table: a variable is a table if it reads so.
    TextOrTable,
    /// A table, or a list of tables: a variable holds inline TOML.
    Tables,
}

/// Where a value stands, and what reading it needs.
pub(super) struct Spot<'a> {
    pub(super) place: Place,
    pub(super) problems: &'a Problems,
    pub(super) base: &'a Base,
}

impl Spot<'_> {
    /// Notes what is wrong with the value.
    pub(super) fn add(&self, expected: impl Into<String>) {
        self.problems.add(&self.place, expected);
    }

    /// Where an item of a list stands.
    pub(super) fn item(&self, index: usize, origin: Origin) -> Place {
        Place::new(format!("{}[{index}]", self.place.key), origin)
    }
}

/// What a key takes, as far as its type does not matter.
pub(super) trait Shaped {
    /// How an environment variable is read.
    fn kind(&self) -> Kind;

    /// The section whose keys a table has.
    fn inner(&self) -> Option<&'static Section>;

    /// What would be right: for a list, what each of its items is.
    fn expected(&self) -> &'static str;
}

/// What a key takes: its type, its limits, and what is said of anything else. `config::forms` has them all.
pub(super) trait Form<V>: Shaped {
    /// Reads a value and notes what is wrong with it.
    fn read(&self, value: Value, spot: &Spot<'_>) -> Option<V>;
}

/// Sets one setting back to its old value; tells whether it was another.
pub(super) type Keep = fn(&mut Config, &Config) -> bool;

/// A key of a section. `D` is its default, `()` where the section says what holds without it.
pub(super) struct Key<V: 'static, D = ()> {
    pub(super) form: &'static dyn Form<V>,
    pub(super) default: D,
    pub(super) row: Row,
}

/// A key of whatever type, as the list of its section has it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) shape: &'static dyn Shaped,
    /// What stands above it in `config/doorward.toml`.
    pub(super) doc: &'static [&'static str],
    /// `None`: a new value counts from the reload on.
    pub(super) keep: Option<Keep>,
}

impl<V, D> AsRef<str> for Key<V, D> {
    fn as_ref(&self) -> &str {
        self.row.name
    }
}

/// The keys of a table.
pub(super) struct Section {
    /// Such as `listen` and `route[].require`; `[]` marks a list of tables.
    pub(super) name: &'static str,
    pub(super) keys: &'static [&'static Row],
    /// The rest of its keys, where other files read them.
    pub(super) parts: &'static [&'static Self],
    /// Keys that a later release has: an operator should not look for a slip of the pen there.
    pub(super) later: &'static [&'static str],
}

/// Declares the keys of a section: a type that has each of them as a constant of its name, and all of them as `SECTION`.
///
/// ```text
/// keys! { pub(super) StoreKeys = "store", later ["url"]; {
///     /// How many backups are kept.
///     backup_keep: usize = number(1..=1000) => 7;
///     /// How long a write may take.
///     write_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(5), restart store.write_timeout;
/// }}
/// ```
///
/// The comment stands above the key in `config/doorward.toml`, word for word; a key without one shares the comment of the
/// key before it. Then come the type of the value and its form, after `=>` its default, and after `restart` the field of
/// `Config` that a reload leaves alone. A file that reads only some keys of a section declares these, and the section's own
/// declaration names them after `and`. Keys of a later release are named after `later`.
macro_rules! keys {
    ($vis:vis $type:ident = $section:literal $(, later $later:tt)? $(, and [$($part:ident),+])?; {$(
        $(#[doc = $doc:literal])*
        $key:ident: $value:ty = $form:expr $(=> $default:expr)? $(, restart $($setting:ident).+)?;
    )*}) => {
        #[doc = concat!("The keys of `", $section, "`.")]
        $vis enum $type {}

        #[expect(non_upper_case_globals, reason = "a key is named as operators write it")]
        impl $type {
            $(pub(in crate::config) const $key: $crate::config::keys::Key<
                $value $(, $crate::config::keys::keys!(@default $default, $value))?
            > = $crate::config::keys::Key {
                form: &$form,
                default: ($(|| $default)?),
                row: $crate::config::keys::Row {
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

/// What is said of a key or value of a later release.
pub(super) const NOT_IN_RELEASE: &str = "to find it left out: it is not in this release";

/// Joins a section and a key to the name an operator knows: `listen.address`.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

impl Section {
    /// Its keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Row> {
        let parts = self.parts.iter().flat_map(|part| part.keys);
        self.keys.iter().chain(parts).copied()
    }

    /// The key of this name, if there is one.
    pub(super) fn find(&self, key: &str) -> Option<&'static Row> {
        self.keys().find(|known| known.name == key)
    }

    /// This section and all below it, from the top down.
    pub(super) fn all(&'static self) -> Vec<&'static Self> {
        let below = self.keys().filter_map(|row| row.shape.inner());
        std::iter::once(self)
            .chain(below.flat_map(Self::all))
            .collect()
    }

    /// What is said of an unknown key: whether it comes later, or which one was meant. `root`: the section of them all.
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

/// The name that may be meant by a misspelled one.
fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names
        .map(|name| (strsim::damerau_levenshtein(name, found), name))
        .min()?;
    (distance <= 1 + name.len() / 4).then_some(name)
}

/// What is said of a name that is none of those declared: which there are, and which may be meant. `what`: what all of
/// them are.
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

/// Most declared names that are shown.
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
