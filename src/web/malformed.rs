//! Problems of bodies and queries. They name the place and never the value, which may be a password.

use serde_path_to_error::{Path, Segment};

use crate::model::error_code::ErrorCode;
use crate::model::printable::printable;
use crate::web::error::WebProblem;

/// Longest place shown, in characters; a caller may send a name of any length.
const PLACE_CHARS_MAX: usize = 128;

const MISSING: &str = "missing";
const UNKNOWN: &str = "unknown";
const TWICE: &str = "duplicated";

/// Parses a message of serde into the fault and the member that it names. The three kinds that name a member have known
/// beginnings; every other message may quote a value.
fn fault(words: &str) -> (&'static str, Option<&str>) {
    let beginnings = [
        ("missing field `", MISSING),
        ("unknown field `", UNKNOWN),
        ("duplicate field `", TWICE),
    ];
    let named = beginnings.into_iter().find_map(|(beginning, fault)| {
        let rest = words.strip_prefix(beginning)?;
        Some((fault, rest.get(..rest.find('`')?)))
    });
    named.unwrap_or(("of the wrong type", None))
}

/// Returns the problem of a JSON body, such as `/scopes/0: of the wrong type`. `path` is where the parser
/// stopped; `None` means after the object.
pub(in crate::web) fn json(path: Option<&Path>, error: &serde_json::Error) -> WebProblem {
    let detail = match path {
        Some(path) if error.is_data() => member(path, &error.to_string()),
        _ => format!(
            "not JSON, at line {}, column {}",
            error.line(),
            error.column()
        ),
    };
    WebProblem::because(ErrorCode::BodyMalformed, detail)
}

/// Returns a JSON pointer (RFC 6901) with the fault at that place.
fn member(path: &Path, words: &str) -> String {
    let (fault, name) = fault(words);
    let mut pieces: Vec<_> = path.iter().map(piece).collect();
    // The path to an unknown member already ends with its full name; the message may cut it short, since a name may
    // contain a backtick.
    pieces.extend(name.filter(|_| fault != UNKNOWN).map(escaped));
    let pointer: String = pieces.iter().flat_map(|piece| ["/", piece]).collect();
    match pointer.as_str() {
        "" => fault.to_owned(),
        pointer => format!("{}: {fault}", shown(pointer)),
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

/// Returns the problem of a query, from the message of axum's rejection.
pub(in crate::web) fn query(words: &str) -> WebProblem {
    let about = words
        .strip_prefix("Failed to deserialize query string: ")
        .unwrap_or_default();
    // The message may begin with a place, which is a parameter name defined by the gateway.
    let (place, rest) = match about.split_once(": ") {
        Some((place, rest)) if is_word(place) => (Some(place), rest),
        _ => (None, about),
    };
    let (fault, name) = fault(rest);
    match name.or(place) {
        Some(name) => {
            let detail = format!("{}: {fault}", shown(name));
            WebProblem::because(ErrorCode::QueryMalformed, detail)
        }
        None => ErrorCode::QueryMalformed.into(),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// Returns the problem of a form with an unknown or repeated field. `names` are the form's fields.
pub(in crate::web) fn form(name: &str, names: &[&str]) -> WebProblem {
    let fault = if names.contains(&name) {
        TWICE
    } else {
        UNKNOWN
    };
    let (name, names) = (shown(name), names.join(", "));
    let detail = format!("{name}: {fault}; the form has the fields {names}, each once");
    WebProblem::because(ErrorCode::BodyMalformed, detail)
}

/// Returns the problem of a form without one of its required fields. `names` are the required fields.
pub(in crate::web) fn form_lacks(names: &[&str]) -> WebProblem {
    let detail = match names {
        [] => "a field is missing".to_owned(),
        [name] => format!("{name} is missing"),
        [others @ .., last] => format!("{} and {last} are required", others.join(", ")),
    };
    WebProblem::because(ErrorCode::BodyMalformed, detail)
}

/// Returns a name chosen by the caller, on one line and of bounded length.
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
                "/name: duplicated",
            ),
            (r#"{"name":["hunter2"]}"#, "/name: of the wrong type"),
            (
                r#"{"name":"a","items":["b",2]}"#,
                "/items/1: of the wrong type",
            ),
            (r#"{"name":"a","inner":{}}"#, "/inner/level: missing"),
            (
                r#"{"name":"a","inner":{"level":"missing field `hunter2`"}}"#,
                "/inner/level: of the wrong type",
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
            ("duplicate field `id`", Some("id: duplicated")),
            ("missing field `id`", Some("id: missing")),
            (
                "force: provided string was not `true` or `false`",
                Some("force: of the wrong type"),
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
            "password: duplicated; the form has the fields username, password, each once"
        );
        assert!(
            form("rd", &names)
                .detail
                .unwrap()
                .starts_with("rd: unknown;")
        );
    }
}
