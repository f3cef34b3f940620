//! Header fields that may come once. A server behind might go by the other one of two.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A field came more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedField;

/// The value of a field that may come once; `None`: it did not come.
///
/// # Errors
/// [`RepeatedField`]
pub fn at_most_one<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, RepeatedField> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(RepeatedField),
    }
}

/// The value of a field that came exactly once.
#[must_use]
pub fn exactly_one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    at_most_one(headers, name).ok().flatten()
}
