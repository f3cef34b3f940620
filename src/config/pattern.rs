//! Path patterns: `/lists/{id}/**`.

use std::collections::BTreeSet;

use crate::model::route::{PathPattern, Segment};
use crate::route::escape::{escape_at, may_stand_raw, push_escape};
use crate::route::normalize::{canonical, reads_one_way};

/// The expectation that is reported for a path of literal segments.
pub(super) const LITERAL_PATH: &str = "a path such as /auth: literal segments, no trailing slash";

const BEGIN: &str = "a path that starts with /";
const WILDCARD: &str = "** only as the last segment, and no other *";
const EMPTY: &str = "no empty segment: neither // nor a trailing slash (/x/** matches /x/)";
const CAPTURE: &str =
    "captures as whole segments, such as {id}: a-z, then a-z, 0-9 and _, each name once";
const LITERAL: &str = "literal segments of visible characters, each written as itself or as %XX: no / \\ ; ? # in \
     either form, no control character, no dot or space at the end, no letter that Unicode normalization (NFKC) changes";

/// Parses a pattern.
///
/// # Errors
/// The expectation to report.
pub(super) fn parse(text: &str) -> Result<PathPattern, &'static str> {
    let rest = text.strip_prefix('/').ok_or(BEGIN)?;
    let whole = |segments, tail| PathPattern { segments, tail };
    if rest.is_empty() {
        return Ok(whole(vec![Segment::Literal(String::new())], false));
    }
    if rest == "**" {
        return Ok(whole(Vec::new(), true));
    }
    let (rest, tail) = match rest.strip_suffix("/**") {
        Some(before) => (before, true),
        None => (rest, false),
    };
    let mut segments = Vec::new();
    let mut names = BTreeSet::new();
    for part in rest.split('/') {
        let segment = segment(part)?;
        if let Segment::Capture(name) = &segment
            && !names.insert(name.clone())
        {
            return Err(CAPTURE);
        }
        segments.push(segment);
    }
    Ok(whole(segments, tail))
}

/// Reads a path of one or more literal segments into its canonical form.
pub(super) fn literal_path(text: &str) -> Option<String> {
    let pattern = parse(text).ok().filter(|pattern| !pattern.tail)?;
    pattern
        .segments
        .iter()
        .try_fold(String::new(), |path, segment| match segment {
            Segment::Literal(part) if !part.is_empty() => Some(format!("{path}/{part}")),
            _ => None,
        })
}

/// Whether every path that a pattern matches is `path` or below it, regardless of case.
pub(super) fn is_under(pattern: &PathPattern, path: &str) -> bool {
    let mut parts = pattern.segments.iter();
    path.trim_start_matches('/')
        .split('/')
        .all(|part| matches!(parts.next(), Some(Segment::Literal(literal)) if literal.eq_ignore_ascii_case(part)))
}

fn segment(part: &str) -> Result<Segment, &'static str> {
    if part.is_empty() {
        return Err(EMPTY);
    }
    if part.contains('*') {
        return Err(WILDCARD);
    }
    if part.contains(['{', '}']) {
        let name = part
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|name| is_name(name))
            .ok_or(CAPTURE)?;
        return Ok(Segment::Capture(name.to_owned()));
    }
    literal(part).map(Segment::Literal).ok_or(LITERAL)
}

/// Returns the canonical form of a literal, in which only characters that must be are escaped. A literal that some
/// server would read in another way is refused, since no request would match it.
fn literal(part: &str) -> Option<String> {
    let decoded = decoded(part)?;
    let mut written = vec![b'/'];
    for byte in decoded {
        if may_stand_raw(byte) {
            written.push(byte);
        } else {
            push_escape(byte, &mut written);
        }
    }
    let path = canonical(&written).ok()?.path;
    let name = path.as_str().strip_prefix('/')?;
    (reads_one_way(&path) && !name.contains('/')).then(|| name.to_owned())
}

/// Returns a literal without escapes; `None` if an escape is broken or the result is not UTF-8.
fn decoded(part: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = if *first == b'%' {
            escape_at(rest)?
        } else {
            (*first, behind)
        };
        decoded.push(byte);
        rest = behind;
    }
    std::str::from_utf8(&decoded).is_ok().then_some(decoded)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn literal_paths_come_in_canonical_form() {
        assert_eq!(
            literal_path("/%61uth/\u{e9}").as_deref(),
            Some("/auth/%C3%A9")
        );
        for text in ["/", "/a/**", "/{a}", "a", "/a/"] {
            assert_eq!(literal_path(text), None, "{text}");
        }
    }

    fn capture(text: &str) -> Segment {
        Segment::Capture(text.to_owned())
    }

    #[test]
    fn patterns_are_segments_and_a_tail() {
        let cases = [
            ("/", vec![literal("")], false),
            ("/**", vec![], true),
            ("/x", vec![literal("x")], false),
            ("/x/**", vec![literal("x")], true),
            (
                "/lists/{id}/**",
                vec![literal("lists"), capture("id")],
                true,
            ),
            (
                "/{a}/{b_2}/c.d",
                vec![capture("a"), capture("b_2"), literal("c.d")],
                false,
            ),
            (
                "/a%20b/%c3%A9/\u{e9}",
                vec![literal("a%20b"), literal("%C3%A9"), literal("%C3%A9")],
                false,
            ),
            (
                "/@a/%40%61/%7Bx%7D^|%2A/a\"b",
                vec![
                    literal("@a"),
                    literal("@a"),
                    literal("{x}^|*"),
                    literal("a%22b"),
                ],
                false,
            ),
        ];
        for (text, segments, tail) in cases {
            assert_eq!(parse(text), Ok(PathPattern { segments, tail }), "{text}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let cases = [
            ("", BEGIN),
            ("x", BEGIN),
            ("//", EMPTY),
            ("/x/", EMPTY),
            ("/x//**", EMPTY),
            ("//**", EMPTY),
            ("/x//y", EMPTY),
            ("/***", WILDCARD),
            ("/x*", WILDCARD),
            ("/*/y", WILDCARD),
            ("/**/y", WILDCARD),
            ("/**/**", WILDCARD),
            ("/x{id}", CAPTURE),
            ("/{id}x", CAPTURE),
            ("/{}", CAPTURE),
            ("/{Id}", CAPTURE),
            ("/{1}", CAPTURE),
            ("/{a}{b}", CAPTURE),
            ("/{id}/{id}", CAPTURE),
            ("/a/../b", LITERAL),
            ("/.", LITERAL),
            ("/...", LITERAL),
            ("/%2e", LITERAL),
            ("/a.", LITERAL),
            ("/a%20", LITERAL),
            ("/a%C0%AE", LITERAL),
            ("/a;b", LITERAL),
            ("/a?b", LITERAL),
            ("/a#b", LITERAL),
            ("/a\\b", LITERAL),
            ("/a%2f", LITERAL),
            ("/a%5C", LITERAL),
            ("/a%3b", LITERAL),
            ("/a%3F", LITERAL),
            ("/a%23", LITERAL),
            ("/a%C3", LITERAL),
            ("/a%E9", LITERAL),
            ("/a%00", LITERAL),
            ("/a\u{1}", LITERAL),
            ("/a%c2%85", LITERAL),
            ("/a%2", LITERAL),
            ("/a%zz", LITERAL),
            ("/a%2541", LITERAL),
            ("/e%CC%81", LITERAL),
            ("/%EF%BD%81", LITERAL),
            ("/%EF%BC%8E", LITERAL),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn under_a_prefix_counts_whole_segments() {
        let cases = [
            ("/auth", true),
            ("/auth/**", true),
            ("/%61UTH/**", true),
            ("/auth/x/{y}", true),
            ("/authx/**", false),
            ("/{x}/login", false),
            ("/**", false),
        ];
        for (text, is) in cases {
            assert_eq!(is_under(&parse(text).unwrap(), "/auth"), is, "{text}");
        }
        assert!(!is_under(&parse("/a/**").unwrap(), "/a/b"));
    }
}
