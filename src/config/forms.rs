//! The forms of values: what a key takes, and what is said of anything else.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::document::Value;
use crate::config::keys::{Form, Kind, Section, Spot};

/// A whole number within limits.
pub(super) struct Number<V> {
    low: u64,
    high: u64,
    of: fn(u64) -> Option<V>,
}

/// A whole number; every number within the range fits its type.
pub(super) const fn number<V: TryFrom<u64>>(range: RangeInclusive<u64>) -> Number<V> {
    within(range, |number| V::try_from(number).ok())
}

/// Whole seconds.
pub(super) const fn seconds(range: RangeInclusive<u64>) -> Number<Duration> {
    within(range, |number| Some(Duration::from_secs(number)))
}

/// Whole milliseconds.
pub(super) const fn millis(range: RangeInclusive<u64>) -> Number<Duration> {
    within(range, |number| Some(Duration::from_millis(number)))
}

const fn within<V>(range: RangeInclusive<u64>, of: fn(u64) -> Option<V>) -> Number<V> {
    let (low, high) = (*range.start(), *range.end());
    Number { low, high, of }
}

impl<V> Form<V> for Number<V> {
    fn kind(&self) -> Kind {
        Kind::Scalar
    }

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.low, self.high)
    }

    fn parse(&self, value: Value, _spot: &Spot<'_>) -> Option<V> {
        let Value::Integer(number) = value else {
            return None;
        };
        let number = u64::try_from(number).ok()?;
        (self.low..=self.high).contains(&number).then_some(())?;
        (self.of)(number)
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Form<bool> for Flag {
    fn kind(&self) -> Kind {
        Kind::Scalar
    }

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn parse(&self, value: Value, _spot: &Spot<'_>) -> Option<bool> {
        match value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }
}

/// One word of a closed list.
pub(super) struct Choice<V: 'static> {
    words: &'static [(&'static str, V)],
    /// Words of a later release.
    later: &'static [&'static str],
}

/// One word of a closed list. `later`: words of a later release.
pub(super) const fn choice<V>(
    words: &'static [(&'static str, V)],
    later: &'static [&'static str],
) -> Choice<V> {
    Choice { words, later }
}

impl<V: Copy> Form<V> for Choice<V> {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn expected(&self) -> String {
        let words = self.words.iter().map(|(word, _)| format!("\"{word}\""));
        format!("one of {}", words.collect::<Vec<_>>().join(", "))
    }

    fn parse(&self, value: Value, _spot: &Spot<'_>) -> Option<V> {
        let Value::Text(text) = value else {
            return None;
        };
        let found = self.words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value)
    }

    fn read(&self, value: Value, spot: &Spot<'_>) -> Option<V> {
        let is_later = matches!(&value, Value::Text(text) if self.later.contains(&text.as_str()));
        let found = self.parse(value, spot);
        if found.is_none() {
            let note = if is_later {
                "; the value is not in this release"
            } else {
                ""
            };
            spot.add(format!("{}{note}", self.expected()));
        }
        found
    }
}

/// A text that `parse` makes something of.
pub(super) struct Text<E, P> {
    expected: E,
    parse: P,
}

/// A text that `parse` makes something of.
pub(super) const fn text<E, P>(expected: E, parse: P) -> Text<E, P> {
    Text { expected, parse }
}

/// A text whose reading depends on more than itself, so that `parse` stands where it is read: [`Reader::text`].
///
/// [`Reader::text`]: crate::config::reader::Reader::text
pub(super) const fn told(expected: &'static str) -> Text<&'static str, fn(&str) -> Option<String>> {
    text(expected, |text| Some(text.to_owned()))
}

impl<V, E: AsRef<str>, P: Fn(&str) -> Option<V>> Form<V> for Text<E, P> {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn expected(&self) -> String {
        self.expected.as_ref().to_owned()
    }

    fn parse(&self, value: Value, _spot: &Spot<'_>) -> Option<V> {
        match value {
            Value::Text(text) => (self.parse)(&text),
            _ => None,
        }
    }
}

/// A path; a relative one begins where those of the configuration do.
pub(super) struct Path(pub(super) &'static str);

impl Form<PathBuf> for Path {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn expected(&self) -> String {
        self.0.to_owned()
    }

    fn parse(&self, value: Value, spot: &Spot<'_>) -> Option<PathBuf> {
        match value {
            Value::Text(text) if is_path(&text) => Some(spot.base.join(text)),
            _ => None,
        }
    }
}

/// As [`Path`], where an empty text means none.
pub(super) struct PathOrNone(pub(super) &'static str);

impl Form<Option<PathBuf>> for PathOrNone {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn expected(&self) -> String {
        self.0.to_owned()
    }

    fn parse(&self, value: Value, spot: &Spot<'_>) -> Option<Option<PathBuf>> {
        match value {
            Value::Text(text) if text.is_empty() => Some(None),
            value => Path(self.0).parse(value, spot).map(Some),
        }
    }
}

/// A list of texts, no two of which may mean the same; each wrong one is noted.
pub(super) struct Texts<E, P> {
    /// What one of them is.
    expected: E,
    parse: P,
    least: Least,
}

/// How short a list may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Least {
    /// Empty.
    None,
    /// One item: an empty list could mean none as well as all.
    One,
    /// One item, which may stand without the list.
    Alone,
}

/// A list of texts, which may be empty. `expected` says what one of them is; `parse` gives an `Option`, or a `Result` with
/// what would be right.
pub(super) const fn texts<E, P>(expected: E, parse: P) -> Texts<E, P> {
    let least = Least::None;
    Texts {
        expected,
        parse,
        least,
    }
}

/// As [`texts`], with at least one item.
pub(super) const fn some_texts<E, P>(expected: E, parse: P) -> Texts<E, P> {
    let least = Least::One;
    Texts {
        expected,
        parse,
        least,
    }
}

/// As [`some_texts`], but one text may stand for a list of one.
pub(super) const fn text_or_texts<E, P>(expected: E, parse: P) -> Texts<E, P> {
    let least = Least::Alone;
    Texts {
        expected,
        parse,
        least,
    }
}

/// What reading one item gives.
pub(super) trait Parsed<T> {
    /// The item, or what would be right.
    fn or_expected(self, expected: &str) -> Result<T, String>;
}

impl<T> Parsed<T> for Option<T> {
    fn or_expected(self, expected: &str) -> Result<T, String> {
        self.ok_or_else(|| expected.to_owned())
    }
}

impl<T> Parsed<T> for Result<T, String> {
    fn or_expected(self, _expected: &str) -> Self {
        self
    }
}

impl<T, R, E, P> Form<Vec<T>> for Texts<E, P>
where
    T: PartialEq,
    R: Parsed<T>,
    E: AsRef<str>,
    P: Fn(&str) -> R,
{
    fn kind(&self) -> Kind {
        Kind::Texts
    }

    fn expected(&self) -> String {
        format!("a list, each item {}", self.expected.as_ref())
    }

    fn expected_of_missing(&self) -> String {
        format!("a list of at least one, each {}", self.expected.as_ref())
    }

    fn parse(&self, value: Value, spot: &Spot<'_>) -> Option<Vec<T>> {
        self.read(value, spot)
    }

    fn read(&self, value: Value, spot: &Spot<'_>) -> Option<Vec<T>> {
        let expected = self.expected.as_ref();
        let items = match value {
            Value::List(items) => items,
            Value::Text(text) if self.least == Least::Alone => {
                let parsed = (self.parse)(&text).or_expected(expected);
                return parsed
                    .map_err(|expected| spot.add(expected))
                    .ok()
                    .map(|item| vec![item]);
            }
            _ => {
                spot.add(self.expected());
                return None;
            }
        };
        let before = spot.problems.count();
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let place = spot.item(index, item.origin);
            let parsed = match &item.value {
                Value::Text(text) => (self.parse)(text).or_expected(expected),
                _ => Err(expected.to_owned()),
            };
            match parsed {
                Ok(value) if values.contains(&value) => {
                    spot.problems.add(&place, "no two items alike");
                }
                Ok(value) => values.push(value),
                Err(expected) => spot.problems.add(&place, expected),
            }
        }
        if before < spot.problems.count() {
            return None;
        }
        if values.is_empty() && self.least != Least::None {
            spot.add(format!(
                "at least one item, {expected}, or the key left out"
            ));
            return None;
        }
        Some(values)
    }
}

/// As [`texts`], but `true` stands for a list of its own, and `false` for the empty one.
pub(super) struct FlagOrTexts<T: 'static> {
    pub(super) expected: &'static str,
    pub(super) on: &'static [T],
    pub(super) parse: fn(&str) -> Option<T>,
}

impl<T: PartialEq + Clone> Form<Vec<T>> for FlagOrTexts<T> {
    fn kind(&self) -> Kind {
        Kind::FlagOrTexts
    }

    fn expected(&self) -> String {
        format!("true, false or a list, each item {}", self.expected)
    }

    fn parse(&self, value: Value, spot: &Spot<'_>) -> Option<Vec<T>> {
        self.read(value, spot)
    }

    fn read(&self, value: Value, spot: &Spot<'_>) -> Option<Vec<T>> {
        match value {
            Value::Flag(true) => Some(self.on.to_vec()),
            Value::Flag(false) => Some(Vec::new()),
            Value::List(_) => texts(self.expected, self.parse).read(value, spot),
            _ => {
                spot.add(self.expected());
                None
            }
        }
    }
}

/// A value as it is written, which its section takes apart.
pub(super) struct Raw {
    kind: Kind,
    expected: &'static str,
    inner: Option<&'static Section>,
}

/// A table, or a list of tables, of a section.
pub(super) const fn table(section: &'static Section) -> Raw {
    Raw {
        kind: Kind::Tables,
        expected: "a table",
        inner: Some(section),
    }
}

/// A text, or a table: of a section, or with names of its own.
pub(super) const fn text_or_table(expected: &'static str, inner: Option<&'static Section>) -> Raw {
    let kind = Kind::TextOrTable;
    Raw {
        kind,
        expected,
        inner,
    }
}

impl Form<Value> for Raw {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn inner(&self) -> Option<&'static Section> {
        self.inner
    }

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn parse(&self, value: Value, _spot: &Spot<'_>) -> Option<Value> {
        Some(value)
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

/// Takes a visible text as it stands.
pub(super) fn visible<const MAX: usize>(text: &str) -> Option<String> {
    is_visible(text, MAX).then(|| text.to_owned())
}
