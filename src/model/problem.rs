//! Errors in the form that callers receive: RFC 9457 problem details.

use serde::Serialize;

use crate::model::id::RequestId;

/// The media type of [`problem_json`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The prefix of every type, followed by the code.
const TYPE_PREFIX: &str = "urn:doorward:problem:";

#[derive(Serialize)]
struct ProblemDocument<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// Formats a problem as JSON: `type`, `title`, `status`, `code`, `request_id` and a detail if there is one, and nothing
/// else, so that no internal cause can leak.
///
/// `code` is `snake_case` and stable, `title` a fixed sentence, `detail` a sentence for humans about the request: never a
/// value from it, never an internal cause.
///
/// Source: RFC 9457 section 3.
#[must_use]
pub fn problem_json(
    code: &str,
    title: &str,
    status: u16,
    request_id: RequestId,
    detail: Option<&str>,
) -> String {
    let problem = ProblemDocument {
        kind: format!("{TYPE_PREFIX}{code}"),
        title,
        status,
        code,
        request_id: request_id.as_str(),
        detail,
    };
    // Serializing four texts and a number into memory cannot fail.
    serde_json::to_string(&problem).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_five_members() {
        let text = problem_json(
            "no_route",
            "Nothing is \"served\" here",
            404,
            RequestId::from_number(1),
            None,
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "type": "urn:doorward:problem:no_route",
                "title": "Nothing is \"served\" here",
                "status": 404,
                "code": "no_route",
                "request_id": "0000000000000001",
            })
        );
    }
}
