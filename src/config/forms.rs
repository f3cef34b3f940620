//! The forms of values: what a key accepts, and the expectation that is reported for anything else.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::document::Value;
use crate::config::keys::{Form, KeyShape, ReadContext, Section, ValueKind};
use crate::config::problem::ValuePlace;

/// A parsed value, or the expectation to report; `Err(None)`: the problem has been reported already.
pub(super) type Parsed<V> = Result<V, Option<String>>;

/// Parses a value.
pub(super) trait Parse<V>: Fn(Value, &ReadContext<'_>) -> Parsed<V> {}

impl<V, P: Fn(Value, &ReadContext<'_>) -> Parsed<V>> Parse<V> for P {}

/// A form, whose `parse` parses a value.
pub(super) struct ParsedForm<P> {
    kind: ValueKind,
    expected: &'static str,
    inner: Option<&'static Section>,
    parse: P,
}

const fn shape<P>(kind: ValueKind, expected: &'static str, parse: P) -> ParsedForm<P> {
    let inner = None;
    ParsedForm {
        kind,
        expected,
        inner,
        parse,
    }
}

impl<P> KeyShape for ParsedForm<P> {
    fn kind(&self) -> ValueKind {
        self.kind
    }

    fn inner(&self) -> Option<&'static Section> {
        self.inner
    }

    fn expected(&self) -> &'static str {
        self.expected
    }
}

impl<V, P: Parse<V>> Form<V> for ParsedForm<P> {
    fn read(&self, value: Value, context: &ReadContext<'_>) -> Option<V> {
        (self.parse)(value, context)
            .map_err(|wrong| wrong.map(|expected| context.problems.add(&context.place, expected)))
            .ok()
    }
}

/// Accepts a whole number. Every number of the range fits the type.
pub(super) const fn number<V: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> ParsedForm<impl Parse<V>> {
    within(range, |number| V::try_from(number).ok())
}

/// Accepts a duration in whole seconds.
pub(super) const fn seconds(range: RangeInclusive<u64>) -> ParsedForm<impl Parse<Duration>> {
    within(range, |number| Some(Duration::from_secs(number)))
}

/// Accepts a duration in whole milliseconds.
pub(super) const fn millis(range: RangeInclusive<u64>) -> ParsedForm<impl Parse<Duration>> {
    within(range, |number| Some(Duration::from_millis(number)))
}

/// Accepts a duration in whole seconds, at most `max`, or 0 for none.
pub(super) const fn seconds_or_off(max: u64) -> ParsedForm<impl Parse<Option<Duration>>> {
    within(0..=max, |number| {
        Some((number != 0).then(|| Duration::from_secs(number)))
    })
}

/// Accepts a whole number of mebibytes, and returns it in bytes.
pub(super) const fn mebibytes(range: RangeInclusive<u64>) -> ParsedForm<impl Parse<u64>> {
    within(range, |number| number.checked_mul(1 << 20))
}

const fn within<V>(
    range: RangeInclusive<u64>,
    of: fn(u64) -> Option<V>,
) -> ParsedForm<impl Parse<V>> {
    shape(
        ValueKind::Scalar,
        "a whole number",
        move |value: Value, _: &ReadContext<'_>| {
            let number = match value {
                Value::Integer(number) => u64::try_from(number).ok(),
                _ => None,
            };
            let (low, high) = (range.start(), range.end());
            let number = number.filter(|number| range.contains(number));
            number
                .and_then(of)
                .ok_or_else(|| Some(format!("a whole number from {low} to {high}")))
        },
    )
}

/// Accepts `true` or `false`.
pub(super) const fn flag() -> ParsedForm<impl Parse<bool>> {
    const EXPECTED: &str = "true or false";
    shape(
        ValueKind::Scalar,
        EXPECTED,
        |value: Value, _: &ReadContext<'_>| match value {
            Value::Flag(flag) => Ok(flag),
            _ => Err(Some(EXPECTED.to_owned())),
        },
    )
}

/// Accepts one word of a list. `later`: words of a later release.
pub(super) const fn choice<V: Copy>(
    words: &'static [(&'static str, V)],
    later: &'static [&'static str],
) -> ParsedForm<impl Parse<V>> {
    shape(
        ValueKind::Text,
        "a string",
        |value: Value, _: &ReadContext<'_>| {
            let text = match &value {
                Value::Text(text) => text.as_str(),
                _ => "",
            };
            if let Some(value) = value_of(words, text) {
                return Ok(value);
            }
            let quoted: Vec<_> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            let note = if later.contains(&text) {
                "; this value is not supported in this release"
            } else {
                ""
            };
            Err(Some(format!("one of {}{note}", quoted.join(", "))))
        },
    )
}

/// Returns the value of a string.
pub(super) fn value_of<V: Copy>(words: &[(&str, V)], text: &str) -> Option<V> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value)
}

/// Accepts a text that `parse` accepts.
pub(super) const fn text<V, P: Fn(&str) -> Option<V>>(
    expected: &'static str,
    parse: P,
) -> ParsedForm<impl Parse<V>> {
    shape(
        ValueKind::Text,
        expected,
        move |value: Value, _: &ReadContext<'_>| {
            let parsed = match value {
                Value::Text(text) => parse(&text),
                _ => None,
            };
            parsed.ok_or_else(|| Some(expected.to_owned()))
        },
    )
}

/// Accepts any text. It is parsed where its key is read, because that depends on other keys.
pub(super) const fn raw_text(expected: &'static str) -> ParsedForm<impl Parse<String>> {
    text(expected, |text| Some(text.to_owned()))
}

/// Accepts a path. A relative one starts from the base of the configuration.
pub(super) const fn path(expected: &'static str) -> ParsedForm<impl Parse<PathBuf>> {
    shape(
        ValueKind::Text,
        expected,
        move |value: Value, context: &ReadContext<'_>| match value {
            Value::Text(text) if is_path(&text) => Ok(context.base.join(text)),
            _ => Err(Some(expected.to_owned())),
        },
    )
}

/// Accepts another form, or an empty text for none.
pub(super) const fn or_none<V, P: Parse<V>>(
    form: ParsedForm<P>,
) -> ParsedForm<impl Parse<Option<V>>> {
    let (kind, expected) = (form.kind, form.expected);
    shape(
        kind,
        expected,
        move |value: Value, context: &ReadContext<'_>| {
            let form = &form;
            match value {
                Value::Text(text) if text.is_empty() => Ok(None),
                value => (form.parse)(value, context).map(Some),
            }
        },
    )
}

/// Accepts a list of another form, and collects its items.
pub(super) const fn collected<T, V: FromIterator<T>, P: Parse<Vec<T>>>(
    form: ParsedForm<P>,
) -> ParsedForm<impl Parse<V>> {
    let (kind, expected) = (form.kind, form.expected);
    shape(
        kind,
        expected,
        move |value: Value, context: &ReadContext<'_>| {
            let form = &form;
            (form.parse)(value, context).map(V::from_iter)
        },
    )
}

/// The minimum length of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MinItems {
    /// The list may be empty.
    None,
    /// One item, since an empty list could mean none as well as all.
    One,
    /// One item, which may be written without the list.
    Alone,
}

/// Accepts a list of texts, no two with the same meaning. `expected` describes one of them.
pub(super) const fn texts<T: PartialEq, P: Fn(&str) -> Option<T>>(
    expected: &'static str,
    parse: P,
) -> ParsedForm<impl Parse<Vec<T>>> {
    items(expected, MinItems::None, optional(expected, parse))
}

/// Accepts a list like [`texts`], with at least one item.
pub(super) const fn some_texts<T: PartialEq, P: Fn(&str) -> Option<T>>(
    expected: &'static str,
    parse: P,
) -> ParsedForm<impl Parse<Vec<T>>> {
    items(expected, MinItems::One, optional(expected, parse))
}

/// Accepts a list like [`some_texts`], whose `parse` returns the expectation to report.
pub(super) const fn some_items<T: PartialEq, P: Fn(&str) -> Result<T, String>>(
    expected: &'static str,
    parse: P,
) -> ParsedForm<impl Parse<Vec<T>>> {
    items(expected, MinItems::One, parse)
}

/// Accepts a list like [`some_texts`]; one text may be written without the list.
pub(super) const fn text_or_texts<T: PartialEq, P: Fn(&str) -> Option<T>>(
    expected: &'static str,
    parse: P,
) -> ParsedForm<impl Parse<Vec<T>>> {
    items(expected, MinItems::Alone, optional(expected, parse))
}

/// Accepts a list like [`texts`], `true` for the list `on`, or `false` for the empty list.
pub(super) const fn flag_or_texts<T: PartialEq + Clone + 'static>(
    expected: &'static str,
    on: &'static [T],
    parse: fn(&str) -> Option<T>,
) -> ParsedForm<impl Parse<Vec<T>>> {
    shape(
        ValueKind::FlagOrTexts,
        expected,
        move |value: Value, context: &ReadContext<'_>| match value {
            Value::Flag(true) => Ok(on.to_vec()),
            Value::Flag(false) => Ok(Vec::new()),
            Value::List(_) => (texts(expected, parse).parse)(value, context),
            _ => Err(Some(format!("true, false or a list, each item {expected}"))),
        },
    )
}

const fn optional<T, P: Fn(&str) -> Option<T>>(
    expected: &'static str,
    parse: P,
) -> impl Fn(&str) -> Result<T, String> {
    move |text| parse(text).ok_or_else(|| expected.to_owned())
}

/// Accepts a list of texts, and reports each invalid item.
const fn items<T: PartialEq, P: Fn(&str) -> Result<T, String>>(
    expected: &'static str,
    least: MinItems,
    parse: P,
) -> ParsedForm<impl Parse<Vec<T>>> {
    shape(
        ValueKind::Texts,
        expected,
        move |value: Value, context: &ReadContext<'_>| {
            let items = match value {
                Value::List(items) => items,
                Value::Text(text) if least == MinItems::Alone => {
                    return parse(&text).map(|item| vec![item]).map_err(Some);
                }
                _ => return Err(Some(format!("a list, each item {expected}"))),
            };
            let before = context.problems.count();
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                let parsed = match &item.value {
                    Value::Text(text) => parse(text),
                    _ => Err(expected.to_owned()),
                };
                let wrong = match parsed {
                    Ok(value) if values.contains(&value) => "no two items alike".to_owned(),
                    Ok(value) => {
                        values.push(value);
                        continue;
                    }
                    Err(expected) => expected,
                };
                let place = ValuePlace::new(format!("{}[{index}]", context.place.key), item.origin);
                context.problems.add(&place, wrong);
            }
            if before < context.problems.count() {
                return Err(None);
            }
            if values.is_empty() && least != MinItems::None {
                return Err(Some(format!(
                    "at least one item, {expected}, or the key left out"
                )));
            }
            Ok(values)
        },
    )
}

/// Accepts a table, or a list of tables, with the keys of a section.
pub(super) const fn table(section: &'static Section) -> ParsedForm<impl Parse<Value>> {
    raw(ValueKind::Tables, "a table", Some(section))
}

/// Accepts a text or a table. The table has the keys of a section, or any names.
pub(super) const fn text_or_table(
    expected: &'static str,
    inner: Option<&'static Section>,
) -> ParsedForm<impl Parse<Value>> {
    raw(ValueKind::TextOrTable, expected, inner)
}

/// Accepts any value, unchecked.
const fn raw(
    kind: ValueKind,
    expected: &'static str,
    inner: Option<&'static Section>,
) -> ParsedForm<impl Parse<Value>> {
    let parse = |value: Value, _: &ReadContext<'_>| Ok(value);
    ParsedForm {
        kind,
        expected,
        inner,
        parse,
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

/// Reads a text of visible ASCII.
pub(super) fn visible<const MAX: usize>(text: &str) -> Option<String> {
    is_visible(text, MAX).then(|| text.to_owned())
}
