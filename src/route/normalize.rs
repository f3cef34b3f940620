//! The canonical form of a path: the path that is matched is the path that is sent.
//!
//! Escapes of unreserved characters are decoded, the hex digits of other escapes are converted to upper case (both RFC
//! 3986 section 6.2.2), and bytes that a URI cannot contain raw are escaped. Nothing else is changed. Paths that no
//! route could ever mean are refused here; refusals that depend on the routes are decided in `route/choice`.

use std::borrow::Cow;

use crate::model::path::CanonicalPath;
use crate::route::escape::{decoded, escape_at, is_unreserved, may_stand_raw, push_escape};
use crate::route::readings::{PathReading, PathReadings};

pub use crate::route::readings::PathRefused;

/// A parsed request target in origin form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// The path that is matched, logged and sent.
    pub path: CanonicalPath,
    /// The query as sent, without `?`; it is never matched.
    pub query: Option<Cow<'a, str>>,
}

/// Parses a request target in origin form: a path that begins with `/`, and an optional query. Bytes that a URI cannot
/// contain raw, such as those of UTF-8, are escaped.
///
/// # Errors
/// [`PathRefused`] for dot segments in any reading, control characters raw or escaped, spaces, a fragment, broken
/// escapes, and a path with more readings than are compared.
pub fn canonical<T: AsRef<[u8]> + ?Sized>(target: &T) -> Result<Canonical<'_>, PathRefused> {
    let target = target.as_ref();
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(place) => {
            let (path, query) = target.split_at(place);
            (path, query.get(1..))
        }
        None => (target, None),
    };
    let query = query.map(query_of).transpose()?;
    let path = CanonicalPath::new(written(path)?).ok_or(PathRefused)?;
    if !path.is_plain() {
        PathReadings::of(&path)?;
    }
    Ok(Canonical { path, query })
}

/// Whether all servers read the same text in a path, escaped or not.
#[must_use]
pub fn reads_one_way(path: &CanonicalPath) -> bool {
    if path.is_plain() {
        return true;
    }
    let written = path.as_str().as_bytes();
    let text = decoded(written);
    let segments = |text: &[u8]| text.split(|byte| *byte == b'/').count();
    let is_same = |reading: &PathReading| decoded(&reading.path) == text;
    segments(written) == segments(&text)
        && PathReadings::of(path).is_ok_and(|readings| readings.iter().all(is_same))
}

/// Returns a query as sent, with bytes that a URI cannot contain escaped.
fn query_of(query: &[u8]) -> Result<Cow<'_, str>, PathRefused> {
    let mut needs_escapes = false;
    for byte in query {
        if byte.is_ascii_control() || matches!(byte, b' ' | b'#') {
            return Err(PathRefused);
        }
        needs_escapes |= !stands_in_query(*byte);
    }
    if !needs_escapes {
        return std::str::from_utf8(query)
            .map(Cow::Borrowed)
            .map_err(|_| PathRefused);
    }
    let mut written = Vec::with_capacity(query.len() + 16);
    for byte in query {
        if stands_in_query(*byte) {
            written.push(*byte);
        } else {
            push_escape(*byte, &mut written);
        }
    }
    String::from_utf8(written)
        .map(Cow::Owned)
        .map_err(|_| PathRefused)
}

const fn stands_in_query(byte: u8) -> bool {
    byte.is_ascii() && !matches!(byte, b'"' | b'<' | b'>')
}

/// Decodes escapes of unreserved characters, converts the others to upper case, and escapes bytes that are not allowed
/// raw.
fn written(path: &[u8]) -> Result<String, PathRefused> {
    // Most paths have no escape: they are scanned once, without a branch per byte, and copied whole.
    let stays = path
        .iter()
        .fold(true, |all, byte| all & may_stand_raw(*byte));
    let bytes = if stays {
        path.to_vec()
    } else {
        rewritten(path)?
    };
    String::from_utf8(bytes).map_err(|_| PathRefused)
}

fn rewritten(path: &[u8]) -> Result<Vec<u8>, PathRefused> {
    let mut written = Vec::with_capacity(path.len() + 16);
    let (mut rest, mut previous) = (path, 0);
    while let [first, behind @ ..] = rest {
        let is_escape = *first == b'%';
        let (byte, after) = if is_escape {
            escape_at(rest).ok_or(PathRefused)?
        } else {
            (*first, behind)
        };
        // The C1 control characters, U+0080 to U+009F, have two bytes.
        let is_control =
            byte.is_ascii_control() || previous == 0xc2 && (0x80..=0x9f).contains(&byte);
        if is_control || !is_escape && matches!(byte, b' ' | b'#') {
            return Err(PathRefused);
        }
        if is_unreserved(byte) || !is_escape && may_stand_raw(byte) {
            written.push(byte);
        } else {
            push_escape(byte, &mut written);
        }
        (rest, previous) = (after, byte);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_stay_as_they_are() {
        for target in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/...x",
            "/a..",
            "/a:b",
            "/~u",
            "/(a)",
            "/a=b",
            "/a!b$c*",
            "/caf%C3%A9",
            "/a;v=1",
            "/a%20b",
            "/a%2Fb",
            "/a%5Cb",
            "/a\\b",
            "/%25",
            "/a%3Bb",
            "/a%3Fb",
            "/a%23b",
            "//a",
            "/a//b",
            "/;x=1/b",
            "/%FF",
            "/a^b{c}|d[e]",
            "/%EF%BC%A1",
            "/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB",
        ] {
            assert_eq!(canonical(target).unwrap().path.as_str(), target);
        }
        let target = canonical("/a?x=%2e%2e%2fb&u=http://c/d?").unwrap();
        assert_eq!(target.query.as_deref(), Some("x=%2e%2e%2fb&u=http://c/d?"));
        assert_eq!(canonical("/a?").unwrap().query.as_deref(), Some(""));
    }

    #[test]
    fn spellings_without_a_difference_are_one() {
        let cases: [(&[u8], &str, &str); 8] = [
            (b"/%61%2D%2e%5F%7eb", "/a-._~b", ""),
            (b"/caf%c3%a9", "/caf%C3%A9", ""),
            (b"/a%3ab", "/a%3Ab", ""),
            ("/caf\u{e9}?\u{e9}".as_bytes(), "/caf%C3%A9", "%C3%A9"),
            (b"/\xe9?\xe9=1", "/%E9", "%E9=1"),
            (b"/a\"<b>`", "/a%22%3Cb%3E%60", ""),
            (b"/a?\"<b>`{|}\\^", "/a", "%22%3Cb%3E`{|}\\^"),
            (b"/a?%e9", "/a", "%e9"),
        ];
        for (sent, path, query) in cases {
            let target = canonical(sent).unwrap();
            assert_eq!(target.path.as_str(), path);
            assert_eq!(target.query.as_deref().unwrap_or_default(), query);
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        let refused = [
            "",
            "a",
            "*",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e",
            "/%2E%2e/b",
            "/.%2e/b",
            "/..;/b",
            "/..;x=1/b",
            "/.;/b",
            "/..%20/b",
            "/%20../b",
            "/...",
            "/a/..%2fb",
            "/a%2f..",
            "/a%5c..%5cb",
            "/a\\..\\b",
            "/%252e",
            "/%252e%252e/b",
            "/a%252f..",
            "/%c0%ae",
            "/%c0%2e",
            "/%e0%80%ae%e0%80%ae/b",
            "/%ef%bc%8e/b",
            "/%e2%80%a5/b",
            "/%e2%80%a6/b",
            "/a%c0%af..",
            "/a%e2%88%95..",
            "/%25u002e/b",
            "/..%253bx/b",
            "/..%3fx",
            "/..%23x",
            "/%E3%80%82/b",
            "/..%2500/b",
            "/.%2509./b",
            "/a#b",
            "/a?b#c",
            "/a%00",
            "/a%0a",
            "/a%7f",
            "/a%c2%85",
            "/a\u{85}",
            "/a\0",
            "/a\r",
            "/%",
            "/%4",
            "/%zz",
            "/%u0041",
            "/a b",
            "/a\tb",
            "/a?b c",
            "/a?\n",
            "//../a",
            "/a//..",
        ];
        for target in refused {
            assert_eq!(canonical(target), Err(PathRefused), "{target}");
        }
    }

    #[test]
    fn some_paths_read_one_way_though_escaped() {
        for (path, one) in [
            ("/a", true),
            ("/a%3Ab/caf%C3%A9%20x", true),
            ("/100%25", true),
            ("/a%2F", false),
            ("/a%5Cb", false),
            ("/a//b", false),
            ("/a;b", false),
            ("/a%20", false),
            ("/a%2541", false),
            ("/%EF%BC%A1", false),
        ] {
            assert_eq!(reads_one_way(&canonical(path).unwrap().path), one, "{path}");
        }
    }

    #[test]
    fn more_readings_than_are_looked_at_are_refused() {
        assert!(canonical("/a%2Fb;c%3Fd").is_ok());
        let busy = "/a%2Fb%5Cc;d%3Be/%3Ff%23g%E9/%C3%A9%25%32%46%253B%EF%BC%8F%C0%AF./";
        assert_eq!(canonical(busy), Err(PathRefused));
        let long = format!("/{}", "%2Fa%5C;b.".repeat(800));
        assert_eq!(canonical(&long), Err(PathRefused));
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(target in "/[ -~\u{e9}]{0,24}") {
            if let Ok(once) = canonical(&target) {
                let again = canonical(once.path.as_str()).unwrap();
                prop_assert_eq!(&again.path, &once.path);
                prop_assert!(!once.path.as_str().contains("/../"));
            }
        }
    }
}
