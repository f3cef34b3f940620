//! The path that is matched, and sent.

use std::fmt;

/// A path in the one form that is matched, logged and forwarded. Made by `route::normalize` only in practice; the
/// constructor here checks the outer form, so that no other text can pass for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath(String);

impl CanonicalPath {
    /// Takes a path that begins with `/` and holds visible ASCII only, without `?` and `#`.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        let fits = text.starts_with('/')
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
        fits.then_some(Self(text))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
