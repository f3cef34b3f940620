//! Header fields that may occur only once. Of two, an upstream might use the other one.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A header field occurs more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedField;

/// Returns the value of a header field that may occur only once; `None` if it is absent.
///
/// # Errors
/// [`RepeatedField`] if it occurs more than once.
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

/// Returns the value of a header field that occurs exactly once.
#[must_use]
pub fn exactly_one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    at_most_one(headers, name).ok().flatten()
}
