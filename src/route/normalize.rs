//! The one form of a path: what is matched is what is sent.
//!
//! Doubtful paths are refused, not mended: whatever two readers could take for different paths reaches nobody. Only two
//! spellings are folded, both without loss (RFC 3986 section 6.2.2): escapes of unreserved characters are decoded, and
//! the hex digits of the others are written in upper case.

use crate::model::path::CanonicalPath;

/// A path that can be read in more than one way, or in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in more than one way")]
pub struct PathRefused;

/// A request target in origin form, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path that is matched, logged and sent.
    pub path: CanonicalPath,
    /// The query as sent, without `?`; it never takes part in a match.
    pub query: Option<&'a str>,
}

/// Reads a request target in origin form: a path from `/` on, and perhaps a query.
///
/// # Errors
/// [`PathRefused`] for dot segments in any spelling, empty segments, encoded `/ \ % ; ? #`, control characters and
/// their full-width twins, raw `\`, a fragment, broken escapes, escapes that are not UTF-8, and bytes that no URI has.
pub fn canonical(target: &str) -> Result<Target<'_>, PathRefused> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let query_fits =
        query.is_none_or(|query| query.bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
    if !path.starts_with('/') || !query_fits {
        return Err(PathRefused);
    }
    let written = unescape(path)?;
    let mut segments = written.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        check_segment(segment, segments.peek().is_none())?;
    }
    let path = CanonicalPath::new(written).ok_or(PathRefused)?;
    Ok(Target { path, query })
}

/// A path without the parameters of its segments (`/a;v=1/b` is `/a/b`), as some upstreams read it; `None`: it has none.
#[must_use]
pub fn without_parameters(path: &CanonicalPath) -> Option<CanonicalPath> {
    if !path.as_str().contains(';') {
        return None;
    }
    let bare: Vec<_> = path
        .as_str()
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect();
    CanonicalPath::new(bare.join("/"))
}

/// Decodes escapes of unreserved characters and writes the others in upper case.
fn unescape(path: &str) -> Result<String, PathRefused> {
    // Most paths have no escape: they are looked at once, without a branch on each byte, and copied whole.
    if path
        .bytes()
        .fold(true, |all, byte| all & may_stand_raw(byte))
    {
        return Ok(path.to_owned());
    }
    let mut written = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    // The decoded bytes of a run of escapes, to be read as UTF-8.
    let mut run = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = bytes.next().and_then(hex).ok_or(PathRefused)?;
            let low = bytes.next().and_then(hex).ok_or(PathRefused)?;
            run.push(high << 4 | low);
            continue;
        }
        flush(&mut run, &mut written)?;
        if !may_stand_raw(byte) {
            return Err(PathRefused);
        }
        written.push(char::from(byte));
    }
    flush(&mut run, &mut written)?;
    Ok(written)
}

fn flush(run: &mut Vec<u8>, written: &mut String) -> Result<(), PathRefused> {
    let text = std::str::from_utf8(run).map_err(|_| PathRefused)?;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~') {
            written.push(c);
        } else if c.is_control() || is_separator_or_its_twin(c) {
            return Err(PathRefused);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                written.push('%');
                written.push(char::from(upper_hex(byte >> 4)));
                written.push(char::from(upper_hex(byte & 15)));
            }
        }
    }
    run.clear();
    Ok(())
}

/// Characters that a path may hold unescaped: RFC 3986, and `[ ] |`, which browsers send raw.
const RAW: &[u8] =
    b"/-._~!$&'()*+,;=:@[]|0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// [`RAW`] as a table: whether a byte is in it.
#[expect(
    clippy::indexing_slicing,
    reason = "a byte is below 256, and a fault here would end the build"
)]
const MAY_STAND_RAW: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest = RAW;
    while let [byte, behind @ ..] = rest {
        table[*byte as usize] = true;
        rest = behind;
    }
    table
};

fn may_stand_raw(byte: u8) -> bool {
    MAY_STAND_RAW.get(usize::from(byte)).is_some_and(|may| *may)
}

/// What a decoder might take for a separator once it is decoded, or once it is folded to ASCII as some do (NFKC).
fn is_separator_or_its_twin(c: char) -> bool {
    matches!(c, '/' | '\\' | '%' | ';' | '?' | '#')
        || ('\u{ff01}'..='\u{ff5e}').contains(&c)
        || matches!(
            c,
            '\u{37e}' | '\u{2024}' | '\u{2025}' | '\u{2026}' | '\u{2044}' | '\u{2047}'..='\u{2049}' | '\u{2215}'
                | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}' | '\u{3002}' | '\u{fe10}'..='\u{fe19}'
                | '\u{fe30}' | '\u{fe50}'..='\u{fe6b}' | '\u{ff61}' | '\u{feff}' | '\u{200b}'..='\u{200f}'
        )
}

/// Refuses segments that are empty (but the last) or dots, bare, padded with spaces, or with parameters behind them.
fn check_segment(segment: &str, is_last: bool) -> Result<(), PathRefused> {
    let name = segment.split(';').next().unwrap_or_default();
    let has_parameters = name.len() < segment.len();
    if name.is_empty() {
        return if is_last && !has_parameters {
            Ok(())
        } else {
            Err(PathRefused)
        };
    }
    let mut bare = name;
    while let Some(shorter) = bare
        .strip_prefix("%20")
        .or_else(|| bare.strip_suffix("%20"))
    {
        bare = shorter;
    }
    let is_dots = bare.bytes().all(|b| b == b'.');
    if is_dots { Err(PathRefused) } else { Ok(()) }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn upper_hex(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'A' + nibble - 10
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_stay_as_they_are() {
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
        ] {
            assert_eq!(canonical(target).unwrap().path.as_str(), target);
        }
        let target = canonical("/a?x=%2e%2e%2fb&u=http://c/d?").unwrap();
        assert_eq!(target.query, Some("x=%2e%2e%2fb&u=http://c/d?"));
        assert_eq!(canonical("/a?").unwrap().query, Some(""));
    }

    #[test]
    fn two_spellings_are_folded() {
        for (sent, path) in [
            ("/%61%2D%2e%5F%7eb", "/a-._~b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%3ab", "/a%3Ab"),
        ] {
            assert_eq!(canonical(sent).unwrap().path.as_str(), path);
        }
    }

    #[test]
    fn doubtful_paths_are_refused() {
        let refused = [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/a//",
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
            "/;/b",
            "/;x=1/b",
            "/a/;",
            "/..%20/b",
            "/%20../b",
            "/...",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/%25",
            "/%252e",
            "/a%3bb",
            "/a%3fb",
            "/a%23b",
            "/a#b",
            "/a?b#c",
            "/a%00",
            "/a%0a",
            "/a%7f",
            "/a%c2%85",
            "/%",
            "/%4",
            "/%zz",
            "/%u0041",
            "/%c0%ae",
            "/%e0%80%af",
            "/%ff",
            "/a%ad",
            "/%ef%bc%8e",
            "/%ef%bc%8f",
            "/%ef%bc%bc",
            "/%e2%88%95",
            "/%e2%81%84",
            "/%e2%80%a6",
            "/%cd%be",
            "/a b",
            "/a\tb",
            "/\u{e9}",
            "/a\"b",
            "/a<b",
            "/a^b",
            "/a{b",
            "/a?\u{e9}",
            "/a?b c",
        ];
        for target in refused {
            assert_eq!(canonical(target), Err(PathRefused), "{target}");
        }
    }

    #[test]
    fn parameters_can_be_taken_off() {
        let bare = |target| {
            without_parameters(&canonical(target).unwrap().path)
                .map(|path| path.as_str().to_owned())
        };
        assert_eq!(bare("/a;v=1/b;w").as_deref(), Some("/a/b"));
        assert_eq!(bare("/a/b"), None);
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(target in "/[ -~]{0,24}") {
            if let Ok(once) = canonical(&target) {
                let again = canonical(once.path.as_str()).unwrap();
                prop_assert_eq!(&again.path, &once.path);
                prop_assert!(!once.path.as_str().contains("/../"));
            }
        }

        #[test]
        fn escapes_of_any_bytes_never_hide_a_separator(bytes in proptest::collection::vec(any::<u8>(), 1..6)) {
            let mut sent = "/".to_owned();
            for byte in &bytes {
                write!(sent, "%{byte:02x}").unwrap();
            }
            if let Ok(target) = canonical(&sent) {
                let decoded = String::from_utf8(bytes).unwrap();
                prop_assert!(!decoded.contains(['/', '\\', '%', ';', '?', '#', '\0']));
                prop_assert_eq!(target.path.as_str().matches('/').count(), 1);
            }
        }
    }
}
