//! The readings of a path that is not plain: every reading that some server is known to have, and all compositions of
//! them.
//!
//! A request passes only if the routes decide alike about all of them (`route/choice`), so the list may be too long but
//! never too short. Readings that differ only in the last slash or in case are not listed, since the look-up of a route
//! finds them itself.

use std::borrow::Cow;
use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::model::path::CanonicalPath;
use crate::model::printable::is_ignorable;
use crate::route::escape::{decoded, decoded_but};
use crate::route::head::host_of;

/// A path that is never served: it has a dot segment in some reading, a control character, a broken escape, or too many
/// readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in more than one way")]
pub struct PathRefused;

/// Maximum number of readings compared.
const READINGS_MAX: usize = 64;
/// Maximum work on all readings of a path, measured by [`work_on`]: comparing more would take longer than serving the
/// request.
const WORK_MAX: usize = 32 * 1024;
/// Cost of a byte of non-ASCII text, which is converted to the forms of Unicode, relative to one of ASCII.
const UNICODE_WORK: usize = 6;
/// Maximum growth factor of a text in form KC, which turns some characters of three bytes into 33.
const EXPANSION_MAX: usize = 2;
/// Additional growth allowed in form KC, in bytes: short texts may consist of such characters.
const EXPANSION_FREE: usize = 256;
/// Maximum number of decodings: no server is known to decode a third time.
const DECODINGS_MAX: usize = 2;

/// One reading of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathReading {
    /// The host, if the path was read as one that begins with an authority; otherwise the request's own.
    pub(super) host: Option<String>,
    /// The path, with the escapes that this reader keeps.
    pub(super) path: Vec<u8>,
    /// Whether escapes are decoded: if set, `%41` in `path` is three characters.
    pub(super) is_decoded: bool,
}

/// All readings of a path, the unchanged path first.
#[derive(Debug)]
pub(super) struct PathReadings {
    all: Vec<PathReading>,
    work: usize,
}

impl PathReadings {
    /// Lists the readings of a path.
    ///
    /// # Errors
    /// [`PathRefused`] if one of them has a dot segment, or if there are more than [`READINGS_MAX`] or they cost more
    /// than [`WORK_MAX`].
    pub(super) fn of(path: &CanonicalPath) -> Result<Self, PathRefused> {
        let mut readings = Self {
            all: Vec::new(),
            work: 0,
        };
        readings.add(PathReading {
            host: None,
            path: path.as_str().as_bytes().to_vec(),
            is_decoded: false,
        })?;
        let mut begin = 0;
        for decodings in 0..=DECODINGS_MAX {
            readings.close_from(begin)?;
            let end = readings.all.len();
            if decodings < DECODINGS_MAX {
                for place in begin..end {
                    readings.decode(place)?;
                }
            }
            begin = end;
        }
        Ok(readings)
    }

    /// Returns the readings, the unchanged path first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PathReading> {
        self.all.iter()
    }

    /// Applies every step that needs no decoding to the readings from `begin` on, until there are no new ones.
    fn close_from(&mut self, begin: usize) -> Result<(), PathRefused> {
        let mut place = begin;
        while let Some(reading) = self.all.get(place).cloned() {
            let changed = STEPS.iter().filter_map(|step| step(&reading.path));
            for path in changed.chain(compatible(&reading.path)?) {
                let host = reading.host.clone();
                let is_decoded = reading.is_decoded;
                self.add(PathReading {
                    host,
                    path,
                    is_decoded,
                })?;
            }
            if let Some((authority, path)) = behind_authority(&reading.path) {
                let host = host_of(authority).map(str::to_ascii_lowercase);
                for host in [reading.host.clone(), host.or(reading.host)] {
                    self.add(PathReading {
                        host,
                        path: path.clone(),
                        is_decoded: reading.is_decoded,
                    })?;
                }
            }
            place += 1;
        }
        Ok(())
    }

    /// Adds the decoded forms of a reading: decoded as a whole, and by a reader that splits segments before decoding.
    fn decode(&mut self, place: usize) -> Result<(), PathRefused> {
        let Some(reading) = self.all.get(place).cloned() else {
            return Ok(());
        };
        if !reading.path.contains(&b'%') {
            return Ok(());
        }
        let within_segments = decoded_but(&reading.path, |byte| matches!(byte, b'/' | b'\\'));
        for path in [decoded(&reading.path), within_segments] {
            self.add(PathReading {
                host: reading.host.clone(),
                path,
                is_decoded: true,
            })?;
        }
        Ok(())
    }

    fn add(&mut self, reading: PathReading) -> Result<(), PathRefused> {
        let is_known = self
            .all
            .iter()
            .any(|known| known.path == reading.path && known.host == reading.host);
        if is_known {
            return Ok(());
        }
        self.work += work_on(&reading.path);
        let is_bounded = self.all.len() < READINGS_MAX && self.work <= WORK_MAX;
        if !is_bounded || reading.path.split(|byte| *byte == b'/').any(is_dots) {
            return Err(PathRefused);
        }
        self.all.push(reading);
        Ok(())
    }
}

/// Returns the cost of applying every step to a reading and of looking it up. Counted before the first step.
const fn work_on(path: &[u8]) -> usize {
    if path.is_ascii() {
        path.len()
    } else {
        path.len() * UNICODE_WORK
    }
}

/// Whether a segment consists of dots, padded or not: some servers treat three dots as two.
fn is_dots(segment: &[u8]) -> bool {
    segment.contains(&b'.')
        && segment
            .iter()
            .all(|byte| matches!(byte, b'.' | b' ') || byte.is_ascii_control())
}

/// A change that some server in a chain makes to a path; `None`: no change.
type PathChange = fn(&[u8]) -> Option<Vec<u8>>;

const STEPS: &[PathChange] = &[
    merged,
    backslashes_as_slashes,
    without_parameters,
    trimmed,
    cut,
    without_controls,
    overlong,
    latin,
    composed,
    look_alike,
];

/// Splits `//x/y` into an authority and a path.
fn behind_authority(path: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let rest = path.strip_prefix(b"//")?;
    let end = rest.iter().position(|byte| *byte == b'/');
    let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
    let host = authority.rsplit(|byte| *byte == b'@').next()?;
    let path = if path.is_empty() { b"/" } else { path };
    Some((host, path.to_vec()))
}

/// Merges consecutive slashes.
fn merged(path: &[u8]) -> Option<Vec<u8>> {
    let is_double = |pair: &[u8]| matches!(pair, [b'/', b'/']);
    path.windows(2).any(is_double).then(|| {
        let mut merged = path.to_vec();
        merged.dedup_by(|next, before| *next == b'/' && *before == b'/');
        merged
    })
}

/// Converts backslashes to slashes.
fn backslashes_as_slashes(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b'\\').then(|| {
        let slashed = path.iter().map(|byte| match byte {
            b'\\' => b'/',
            other => *other,
        });
        slashed.collect()
    })
}

/// Ends each segment at its first `;`.
fn without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b';').then(|| {
        each_segment(path, |segment| {
            let end = segment.iter().position(|byte| *byte == b';');
            segment.split_at(end.unwrap_or(segment.len())).0
        })
    })
}

/// Removes dots and spaces from the ends of segments.
fn trimmed(path: &[u8]) -> Option<Vec<u8>> {
    let trimmed = each_segment(path, |segment| {
        let is_kept = |byte: &u8| !matches!(byte, b'.' | b' ');
        let end = segment.iter().rposition(is_kept).map_or(0, |last| last + 1);
        segment.split_at(end).0
    });
    (trimmed.len() < path.len()).then_some(trimmed)
}

fn each_segment(path: &[u8], keep: impl Fn(&[u8]) -> &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(path.len());
    for (place, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if 0 < place {
            kept.push(b'/');
        }
        kept.extend_from_slice(keep(segment));
    }
    kept
}

/// Ends the path where a query, a fragment or a C string would end it.
fn cut(path: &[u8]) -> Option<Vec<u8>> {
    let end = path
        .iter()
        .position(|byte| matches!(byte, b'?' | b'#' | b'\0'))?;
    Some(path.split_at(end).0.to_vec())
}

/// Drops every control character; browsers drop tab and line breaks.
fn without_controls(path: &[u8]) -> Option<Vec<u8>> {
    let is_control = |byte: &u8| byte.is_ascii_control();
    path.iter().any(is_control).then(|| {
        let kept = path.iter().filter(|byte| !is_control(byte));
        kept.copied().collect()
    })
}

/// Decodes overlong sequences of ASCII characters, whose continuation bytes old decoders did not check.
fn overlong(path: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, behind @ ..] = rest {
        let (byte, behind) = overlong_at(*first, behind).unwrap_or((*first, behind));
        bytes.push(byte);
        rest = behind;
    }
    (bytes.len() < path.len()).then_some(bytes)
}

fn overlong_at(first: u8, behind: &[u8]) -> Option<(u8, &[u8])> {
    let (length, low) = match first {
        0xc0..=0xdf => (1, first & 0x1f),
        0xe0..=0xef => (2, first & 0x0f),
        0xf0..=0xf7 => (3, first & 0x07),
        0xf8..=0xfb => (4, first & 0x03),
        0xfc..=0xfd => (5, first & 0x01),
        _ => return None,
    };
    let (tail, after) = behind.split_at_checked(length)?;
    let value = tail.iter().fold(u64::from(low), |value, byte| {
        value << 6 | u64::from(byte & 0x3f)
    });
    let byte = u8::try_from(value).ok().filter(u8::is_ascii)?;
    Some((byte, after))
}

/// Reads a path that is not UTF-8 as Latin-1.
fn latin(path: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(path).is_err().then(|| {
        let text: String = path.iter().map(|byte| char::from(*byte)).collect();
        text.into_bytes()
    })
}

/// Converts to Unicode's form C.
fn composed(path: &[u8]) -> Option<Vec<u8>> {
    text_by(path, |text| {
        ComposingNormalizerBorrowed::new_nfc().normalize(text)
    })
}

/// Converts to Unicode's form KC, in which full-width letters and signs are ASCII.
fn compatible(path: &[u8]) -> Result<Option<Vec<u8>>, PathRefused> {
    if path.is_ascii() {
        return Ok(None);
    }
    let normalizer = ComposingNormalizerBorrowed::new_nfkc();
    let mut bounded = Bounded {
        bytes: Vec::with_capacity(path.len()),
        max: path.len() * EXPANSION_MAX + EXPANSION_FREE,
    };
    for chunk in path.utf8_chunks() {
        normalizer
            .normalize_to(chunk.valid(), &mut bounded)
            .map_err(|_| PathRefused)?;
        bounded.bytes.extend_from_slice(chunk.invalid());
    }
    Ok((bounded.bytes != path).then_some(bounded.bytes))
}

/// A text with a maximum length; writing beyond it is an error.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes.extend_from_slice(text.as_bytes());
        if self.bytes.len() <= self.max {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

/// Replaces characters that some conversions to a smaller set turn into `/`, `\` and `.`, and drops those without
/// width.
fn look_alike(path: &[u8]) -> Option<Vec<u8>> {
    text_by(path, |text| {
        let mut alike = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\u{2044}' | '\u{2215}' | '\u{2571}' | '\u{29f8}' | '\u{ff0f}' => alike.push('/'),
                '\u{a5}' | '\u{20a9}' | '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}'
                | '\u{ff3c}' => alike.push('\\'),
                '\u{2024}' | '\u{3002}' | '\u{fe52}' | '\u{ff0e}' | '\u{ff61}' => alike.push('.'),
                invisible if is_ignorable(invisible) => {}
                other => alike.push(other),
            }
        }
        alike.into()
    })
}

/// Changes the parts of a path that are UTF-8.
fn text_by(path: &[u8], change: impl Fn(&str) -> Cow<'_, str>) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    let mut changed = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        changed.extend_from_slice(change(chunk.valid()).as_bytes());
        changed.extend_from_slice(chunk.invalid());
    }
    (changed != path).then_some(changed)
}

/// Returns a text as seen by readers that ignore case: folded, and in form KC, so that full-width letters fold too.
#[must_use]
pub(super) fn caseless(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let once = text_by(text, |text| {
        compatible_text(&folded(&compatible_text(text))).into()
    });
    let once = once.unwrap_or_else(|| text.to_vec());
    if once.is_ascii() {
        return once.to_ascii_lowercase();
    }
    once
}

/// Whether two texts are equal or differ in case only.
#[must_use]
pub(super) fn equal_ignoring_case(one: &[u8], other: &[u8]) -> bool {
    let folded = |text| folded(&String::from_utf8_lossy(text));
    folded(one) == folded(other)
}

fn compatible_text(text: &str) -> String {
    ComposingNormalizerBorrowed::new_nfkc()
        .normalize(text)
        .into_owned()
}

/// Folds case letter by letter, by way of upper case, so that `ß` and `ſ` fold as in Unicode. `İ` becomes `i`, as in Go
/// and Java: Unicode leaves a dot above, which is dropped.
fn folded(text: &str) -> String {
    let letters = text.chars().flat_map(char::to_uppercase);
    let mut folded = String::with_capacity(text.len());
    for c in letters.flat_map(char::to_lowercase) {
        if c != '\u{307}' || !folded.ends_with('i') {
            folded.push(c);
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(path: &str) -> Vec<String> {
        let path = CanonicalPath::new(path.to_owned()).unwrap();
        let shown = |reading: &PathReading| {
            let path = String::from_utf8_lossy(&reading.path).into_owned();
            match &reading.host {
                Some(host) => format!("{host}:{path}"),
                None => path,
            }
        };
        PathReadings::of(&path).unwrap().iter().map(shown).collect()
    }

    #[test]
    fn each_step_is_taken() {
        let cases: [(&str, &[&str]); 19] = [
            ("/a%40b", &["/a@b"]),
            ("/a%2Fb", &["/a/b"]),
            ("/a%252Fb", &["/a%2Fb", "/a/b"]),
            ("/a//b", &["/a/b"]),
            ("//b/c", &["/b/c", "/c", "b:/c"]),
            ("/a\\b", &["/a/b"]),
            ("/a;x/b;y=%2F", &["/a/b", "/a;x/b;y=/", "/a/b/"]),
            ("/a./b..", &["/a/b"]),
            ("/a%20/b", &["/a /b", "/a/b"]),
            ("/a%3Fb", &["/a?b", "/a"]),
            ("/a%23b", &["/a#b", "/a"]),
            ("/a%2500b", &["/a"]),
            ("/a%2509b", &["/ab"]),
            ("/a%C0%AFb", &["/a/b"]),
            ("/caf%E9", &["/café"]),
            ("/cafe%CC%81", &["/café"]),
            ("/%EF%BC%A1%EF%BC%8Fb", &["/A/b", "/Ａ/b"]),
            ("/a%E2%88%95b%E2%80%8D", &["/a/b"]),
            ("/a%25u002fb", &["/a/b"]),
        ];
        for (path, wanted) in cases {
            let found = readings(path);
            assert_eq!(found.first().map(String::as_str), Some(path));
            for reading in wanted {
                assert!(
                    found.iter().any(|found| found == reading),
                    "{path}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn ordinary_paths_have_few() {
        for (path, count) in [
            ("/npm/@scope%2Fname", 2),
            ("/files/a%20b%20c.txt", 2),
            ("/room/%23name", 3),
            ("/repo//x", 2),
            ("/caf%C3%A9/x", 2),
            ("/100%25", 2),
            ("/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB", 3),
        ] {
            assert_eq!(readings(path).len(), count, "{path}: {:?}", readings(path));
        }
    }

    #[test]
    fn the_work_on_a_path_is_bounded() {
        let of = |path: &str| {
            let escaped = crate::route::normalize::canonical(path).map(|target| target.path)?;
            PathReadings::of(&escaped).map(|readings| readings.work)
        };
        let costly = [
            format!("/a%5C{}", "%EF%B7%BA".repeat(886)),
            format!("/;x%2F%5Cb.{}", "e%CC%81".repeat(1100)),
            format!("/{}", "%EF%B7%BA".repeat(100)),
            format!("/a%2Fb;{}", "%C3%A9".repeat(1200)),
            format!("/{}", "%2Fa%5C;b.".repeat(800)),
        ];
        for path in costly {
            assert_eq!(of(&path), Err(PathRefused), "{path}");
        }
        let ordinary = [
            format!("/{}%20x.txt", "\u{65e5}\u{672c}".repeat(170)),
            format!("/{}%20x.txt", "\u{304b}\u{3099}".repeat(100)),
            format!("/\u{33ff}%20{}", "\u{fdfa}".repeat(8)),
            format!("/{}", "a%20b".repeat(1600)),
        ];
        for path in ordinary {
            let work = of(&path);
            assert!(work.is_ok_and(|work| work <= WORK_MAX), "{path}: {work:?}");
        }
    }

    #[test]
    fn characters_that_show_as_nothing_are_dropped() {
        for c in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{17b5}',
            '\u{180e}',
            '\u{200d}',
            '\u{202e}',
            '\u{206f}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff0}',
            '\u{1bca3}',
            '\u{1d17a}',
            '\u{e0001}',
            '\u{e0fff}',
        ] {
            let target = format!("/ad{c}min");
            let path = crate::route::normalize::canonical(&target).unwrap().path;
            let found = readings(path.as_str());
            assert!(
                found.iter().any(|path| path == "/admin"),
                "{path}: {found:?}"
            );
        }
    }

    #[test]
    fn case_folds_as_in_unicode() {
        for (one, other) in [
            ("Admin", "aDMIN"),
            ("\u{212a}ey", "key"),
            ("stra\u{df}e", "STRASSE"),
            ("\u{ff21}dmin", "admin"),
            ("\u{c9}", "e\u{301}"),
            ("adm\u{130}n", "admin"),
            ("admi\u{307}n", "ADMIN"),
            ("admI\u{307}n", "admin"),
        ] {
            assert_eq!(
                caseless(one.as_bytes()),
                caseless(other.as_bytes()),
                "{one}"
            );
        }
        assert_ne!(caseless("é".as_bytes()), caseless(b"e"));
        assert!(equal_ignoring_case("É".as_bytes(), "é".as_bytes()));
        assert!(equal_ignoring_case("\u{130}".as_bytes(), b"i"));
        assert!(!equal_ignoring_case("\u{e9}".as_bytes(), b"e"));
    }
}
