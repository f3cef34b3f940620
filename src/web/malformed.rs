//! What is wrong with a body or a query: told by the place, never by the value, which may be a password.

use serde_path_to_error::{Path, Segment};

use crate::model::printable::printable;
use crate::web::error::{Kind, Problem};

/// Longest place that is told, in characters: a caller may send a name of any length.
const PLACE_CHARS_MAX: usize = 128;

/// What a parser says about one member.
enum Fault<'a> {
    Missing(&'a str),
    Unknown(&'a str),
    Twice(&'a str),
    /// It is of another type, or breaks a rule of its form.
    Unfit,
}

impl<'a> Fault<'a> {
    /// Reads the words of serde, which begin in one of three ways where they are about a name. All others may quote a
    /// value.
    fn read(words: &'a str) -> Self {
        let named = |beginning: &str| {
            let rest = words.strip_prefix(beginning)?;
            rest.find('`').and_then(|end| rest.get(..end))
        };
        if let Some(name) = named("missing field `") {
            Self::Missing(name)
        } else if let Some(name) = named("unknown field `") {
            Self::Unknown(name)
        } else if let Some(name) = named("duplicate field `") {
            Self::Twice(name)
        } else {
            Self::Unfit
        }
    }

    const fn words(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Unknown(_) => "unknown",
            Self::Twice(_) => "there twice",
            Self::Unfit => "not of the type that this takes",
        }
    }
}

/// The problem of a JSON body: `/scopes/0: not of the type that this takes`. `path`: where the parser was; `None`: behind
/// the object.
pub(in crate::web) fn json(path: Option<&Path>, error: &serde_json::Error) -> Problem {
    let detail = match path {
        Some(path) if error.is_data() => member(path, &error.to_string()),
        _ => format!(
            "not JSON, at line {}, column {}",
            error.line(),
            error.column()
        ),
    };
    Problem::because(Kind::BodyMalformed, detail)
}

/// A JSON pointer (RFC 6901) and what is wrong there.
fn member(path: &Path, words: &str) -> String {
    let fault = Fault::read(words);
    let mut pieces: Vec<_> = path.iter().map(piece).collect();
    match fault {
        Fault::Missing(name) | Fault::Twice(name) => pieces.push(escaped(name)),
        // The path has the whole name, which may hold the sign that ends it in the words.
        Fault::Unknown(_) | Fault::Unfit => {}
    }
    let pointer: String = pieces.iter().flat_map(|piece| ["/", piece]).collect();
    match pointer.as_str() {
        "" => fault.words().to_owned(),
        pointer => format!("{}: {}", shown(pointer), fault.words()),
    }
}

fn piece(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => index.to_string(),
        Segment::Map { key } | Segment::Enum { variant: key } => escaped(key),
        Segment::Unknown => "?".to_owned(),
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The problem of a query, by the words in which axum tells it.
pub(in crate::web) fn query(words: &str) -> Problem {
    let about = words
        .strip_prefix("Failed to deserialize query string: ")
        .unwrap_or_default();
    // A place may stand before, and is a name of ours.
    let (place, rest) = match about.split_once(": ") {
        Some((place, rest)) if is_word(place) => (Some(place), rest),
        _ => (None, about),
    };
    let fault = Fault::read(rest);
    let name = match fault {
        Fault::Missing(name) | Fault::Twice(name) | Fault::Unknown(name) => Some(name),
        Fault::Unfit => place,
    };
    match name {
        Some(name) => Problem::because(
            Kind::QueryMalformed,
            format!("{}: {}", shown(name), fault.words()),
        ),
        None => Kind::QueryMalformed.into(),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// The problem of a form with a field that it does not have, or that comes twice. `names`: those that it has.
pub(in crate::web) fn form(name: &str, names: &[&str]) -> Problem {
    let fault = if names.contains(&name) {
        Fault::Twice(name)
    } else {
        Fault::Unknown(name)
    };
    let detail = format!(
        "{}: {}; a form with {}, each once",
        shown(name),
        fault.words(),
        names.join(", ")
    );
    Problem::because(Kind::BodyMalformed, detail)
}

/// The problem of a form that lacks one of the fields that it must have. `names`: those fields.
pub(in crate::web) fn form_lacks(names: &[&str]) -> Problem {
    let detail = match names {
        [] => "a field is missing".to_owned(),
        [name] => format!("{name} is needed"),
        [others @ .., last] => format!("{} and {last} are needed", others.join(", ")),
    };
    Problem::because(Kind::BodyMalformed, detail)
}

/// A name that a caller chose, on one line and bounded.
fn shown(name: &str) -> String {
    let bounded: String = name.chars().take(PLACE_CHARS_MAX).collect();
    printable(&bounded).into_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "its members are looked at by the parser")]
    struct Body {
        name: String,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        items: Vec<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "its members are looked at by the parser")]
    struct Inner {
        level: u8,
    }

    fn told(text: &str) -> String {
        let mut parser = serde_json::Deserializer::from_str(text);
        let error = serde_path_to_error::deserialize::<_, Body>(&mut parser).unwrap_err();
        json(Some(error.path()), error.inner()).detail.unwrap()
    }

    #[test]
    fn the_member_that_is_wrong_is_named_and_no_value() {
        let cases = [
            ("{}", "/name: missing"),
            (
                r#"{"name":"hunter2","colour":"hunter2"}"#,
                "/colour: unknown",
            ),
            (r#"{"name":"hunter2","a/b~`c":1}"#, "/a~1b~0`c: unknown"),
            (
                r#"{"name":"hunter2","name":"hunter2"}"#,
                "/name: there twice",
            ),
            (
                r#"{"name":["hunter2"]}"#,
                "/name: not of the type that this takes",
            ),
            (
                r#"{"name":"a","items":["b",2]}"#,
                "/items/1: not of the type that this takes",
            ),
            (r#"{"name":"a","inner":{}}"#, "/inner/level: missing"),
            (
                r#"{"name":"a","inner":{"level":"missing field `hunter2`"}}"#,
                "/inner/level: not of the type that this takes",
            ),
            (
                r#"{"name":"a","inner":{"level":1,"x":2}}"#,
                "/inner/x: unknown",
            ),
            (
                "{\"name\":\"a\",\n\"x\u{202e}\\n\":1}",
                "/x\\u202e\\n: unknown",
            ),
            ("{\"name\":\"hunter2\",}", "not JSON, at line 1, column 19"),
        ];
        for (text, detail) in cases {
            assert_eq!(told(text), detail, "{text}");
        }
        let long = told(&format!("{{\"{}\":1}}", "x".repeat(5000)));
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn queries_and_forms_are_told_by_the_name_too() {
        let prefix = "Failed to deserialize query string: ";
        let cases = [
            (
                "unknown field `colour`, expected `resource` or `id`",
                Some("colour: unknown"),
            ),
            ("duplicate field `id`", Some("id: there twice")),
            ("missing field `id`", Some("id: missing")),
            (
                "force: provided string was not `true` or `false`",
                Some("force: not of the type that this takes"),
            ),
            (
                "invalid value: string \"x: unknown field `hunter2`\", expected a",
                None,
            ),
        ];
        for (words, detail) in cases {
            let problem = query(&format!("{prefix}{words}"));
            assert_eq!(problem.detail.as_deref(), detail, "{words}");
        }
        let names = ["username", "password"];
        let twice = form("password", &names).detail.unwrap();
        assert_eq!(
            twice,
            "password: there twice; a form with username, password, each once"
        );
        assert!(
            form("rd", &names)
                .detail
                .unwrap()
                .starts_with("rd: unknown;")
        );
    }
}
