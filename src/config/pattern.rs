//! Path patterns: `/lists/{id}/**`.

use std::collections::BTreeSet;

use crate::model::route::{PathPattern, Segment};

/// What a path of literal segments is.
pub(super) const LITERAL_PATH: &str = "a path such as /auth: literal segments, no slash at the end";

const BEGIN: &str = "a path that begins with /";
const WILDCARD: &str = "** only as the last segment, and no other *";
const EMPTY: &str = "no empty segment: neither // nor a slash at the end (/x/** matches /x/)";
const CAPTURE: &str =
    "captures as whole segments, such as {id}: a-z, then a-z, 0-9 and _, no two of one name";
const LITERAL: &str = "literal segments in canonical form: letters, digits and -._~!$&'()+,=:@, other bytes as %XX in \
     upper case where they must be, no dot segment";

/// Reads a pattern.
///
/// # Errors
/// What would be right instead.
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

/// Whether a text is a path of one or more literal segments.
pub(super) fn is_literal_path(text: &str) -> bool {
    parse(text).is_ok_and(|pattern| {
        !pattern.tail
            && pattern
                .segments
                .iter()
                .all(|segment| matches!(segment, Segment::Literal(part) if !part.is_empty()))
    })
}

/// The names that a pattern captures.
pub(super) fn captures(pattern: &PathPattern) -> impl Iterator<Item = &str> {
    pattern.segments.iter().filter_map(|segment| match segment {
        Segment::Capture(name) => Some(name.as_str()),
        Segment::Literal(_) => None,
    })
}

/// Whether every path that a pattern matches is `path` or below it, by its literal segments.
pub(super) fn is_under(pattern: &PathPattern, path: &str) -> bool {
    let mut parts = pattern.segments.iter();
    path.trim_start_matches('/')
        .split('/')
        .all(|part| matches!(parts.next(), Some(Segment::Literal(literal)) if literal == part))
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
    if part == "." || part == ".." || !is_canonical(part) {
        return Err(LITERAL);
    }
    Ok(Segment::Literal(part.to_owned()))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether a segment is written in the one way that requests are compared in. An escape of a byte that no request gets
/// past normalization with would only make a route that never matches.
fn is_canonical(part: &str) -> bool {
    let mut bytes = part.bytes();
    let mut decoded = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (Some(high), Some(low)) = (bytes.next().and_then(hex), bytes.next().and_then(hex))
            else {
                return false;
            };
            let escaped = high * 16 + low;
            if is_unreserved(escaped) || escaped.is_ascii_control() || b"/\\%;?#".contains(&escaped)
            {
                return false;
            }
            decoded.push(escaped);
        } else if is_unreserved(byte) || b"!$&'()+,=:@".contains(&byte) {
            decoded.push(byte);
        } else {
            return false;
        }
    }
    std::str::from_utf8(&decoded).is_ok()
}

/// The value of a digit, upper case only.
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
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
                "/a%20b/%C3%A9",
                vec![literal("a%20b"), literal("%C3%A9")],
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
            ("/a;b", LITERAL),
            ("/a?b", LITERAL),
            ("/a b", LITERAL),
            ("/\u{e9}", LITERAL),
            ("/a%2f", LITERAL),
            ("/a%2F", LITERAL),
            ("/a%41", LITERAL),
            ("/a%c3%a9", LITERAL),
            ("/a%C3", LITERAL),
            ("/a%00", LITERAL),
            ("/a%2", LITERAL),
            ("/a%25", LITERAL),
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
