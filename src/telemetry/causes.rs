//! Errors as texts.

use std::error::Error;

/// An error and everything below it in one line, for texts that have no place for a chain.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for below in std::iter::successors(error.source(), |cause| (*cause).source()) {
        text.push_str(": ");
        text.push_str(&below.to_string());
    }
    text
}
