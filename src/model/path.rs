//! The canonical path, which is matched and sent.

use std::fmt;

/// A path in the only form that is matched, logged and forwarded. Made by `route::normalize` for requests; the
/// constructor checks the outer form, so that no other text can be used as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath {
    text: String,
    is_plain: bool,
}

impl CanonicalPath {
    /// Accepts a path that begins with `/` and has visible ASCII only, without `?` and `#`.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        let mut fits = text.starts_with('/');
        let mut is_plain = true;
        let mut previous = 0;
        for byte in text.bytes() {
            fits &= byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
            let ends_oddly = byte == b'/' && matches!(previous, b'/' | b'.');
            is_plain &= !matches!(byte, b'%' | b';' | b'\\') && !ends_oddly;
            previous = byte;
        }
        is_plain &= previous != b'.';
        fits.then_some(Self { text, is_plain })
    }

    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether servers can differ at most about its last slash and the case of its letters: it has no escape, no `;` or
    /// `\`, no empty segment, and no segment that ends in a dot.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.is_plain
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_have_one_reading() {
        for text in ["/", "/a", "/a/", "/a.b/c", "/.a", "/@a!$&'()*+,=:[]|^{}~"] {
            assert!(
                CanonicalPath::new(text.to_owned()).unwrap().is_plain(),
                "{text}"
            );
        }
        for text in [
            "//", "//a", "/a//b", "/a.", "/a./b", "/..", "/a;b", "/a%20", "/a\\b",
        ] {
            assert!(
                !CanonicalPath::new(text.to_owned()).unwrap().is_plain(),
                "{text}"
            );
        }
        for text in ["", "a", "/a?", "/a#", "/a b", "/\u{e9}"] {
            assert_eq!(CanonicalPath::new(text.to_owned()), None, "{text}");
        }
    }
}
