//! Writes the described operations as an `OpenAPI` document.
//!
//! Source: `OpenAPI` Specification 3.1.1; its schemas are JSON Schema 2020-12.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::problem::MEDIA_TYPE;
use crate::web::openapi::operation::{
    DocumentedAnswer, FORM, HTML, JSON, Operation, Row, SCHEMAS, Schemas, fields_of,
};

/// Placeholders for the configured names of the header field and the cookie.
const API_KEY_MARK: &str = "{the API key header}";
const COOKIE_MARK: &str = "{the session cookie}";

/// The parts of the document that belong to no operation.
const FRAME: &str = include_str!("document.json");

/// Refusals that may occur before any handler, whatever the endpoint.
const ANYWHERE: [DenyReason; 9] = [
    DenyReason::RequestMalformed,
    DenyReason::PathRefused,
    DenyReason::HeaderNameRefused,
    DenyReason::NoRoute,
    DenyReason::MethodRefused,
    DenyReason::BodyTimeout,
    DenyReason::BodyTooLarge,
    DenyReason::TargetTooLong,
    DenyReason::HeadTooLarge,
];

/// The API document, complete except for two configured names.
#[derive(Debug)]
pub(in crate::web) struct ApiDocument {
    text: String,
}

impl ApiDocument {
    pub(in crate::web::openapi) fn new(
        paths: BTreeMap<String, BTreeMap<&'static str, Value>>,
        schemas: Schemas,
    ) -> Self {
        let mut paths = paths;
        let shared = share_responses(&mut paths);
        let mut whole: Value = serde_json::from_str(FRAME).unwrap_or_default();
        let parts = [
            ("/info/description", include_str!("description.md").into()),
            ("/info/version", env!("CARGO_PKG_VERSION").into()),
            ("/tags", tags(&paths)),
            ("/paths", json!(paths)),
            ("/components/responses", shared.into()),
        ];
        for (place, part) in parts {
            if let Some(have) = whole.pointer_mut(place) {
                *have = part;
            }
        }
        let definitions = whole.pointer_mut("/components/schemas");
        if let Some(definitions) = definitions.and_then(Value::as_object_mut) {
            definitions.extend(schemas.definitions());
        }
        Self {
            text: whole.to_string(),
        }
    }

    /// Returns the document as JSON, with the name of the header field for API keys (an HTTP token) and of the session
    /// cookie.
    pub(in crate::web) fn text(&self, api_key_header: &str, cookie: &str) -> String {
        let text = self.text.replace(API_KEY_MARK, api_key_header);
        text.replace(COOKIE_MARK, cookie)
    }
}

/// Moves the responses of refusals, which most operations share, to one place and replaces them by references.
fn share_responses(
    paths: &mut BTreeMap<String, BTreeMap<&'static str, Value>>,
) -> Map<String, Value> {
    let mut shared = Map::new();
    for operation in paths.values_mut().flat_map(BTreeMap::values_mut) {
        let responses = operation
            .get_mut("responses")
            .and_then(Value::as_object_mut);
        for (status, response) in responses.into_iter().flatten() {
            if status.as_str() < "400" {
                continue;
            }
            let content = response.get("content").and_then(Value::as_object);
            let examples = content.into_iter().flat_map(Map::values);
            let examples = examples.filter_map(|media| media.get("examples")?.as_object());
            let codes: BTreeSet<&str> = examples.flat_map(Map::keys).map(String::as_str).collect();
            let mut name = std::iter::once(status.as_str())
                .chain(codes)
                .collect::<Vec<_>>()
                .join(".");
            while shared.get(&name).is_some_and(|have| have != response) {
                name.push('-');
            }
            let place = json!({ "$ref": format!("#/components/responses/{name}") });
            shared.insert(name, std::mem::replace(response, place));
        }
    }
    shared
}

/// Returns the tags in use.
fn tags(paths: &BTreeMap<String, BTreeMap<&'static str, Value>>) -> Value {
    let operations = paths.values().flat_map(BTreeMap::values);
    let names =
        operations.filter_map(|operation| operation.pointer("/tags/0").and_then(Value::as_str));
    let names: BTreeSet<&str> = names.collect();
    names
        .into_iter()
        .map(|name| json!({ "name": name }))
        .collect()
}

/// Returns one operation as JSON.
pub(in crate::web::openapi) fn written(path: &str, operation: &Operation) -> Value {
    let mut value = json!({
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": operation.id,
        "security": security(operation),
        "responses": responses(operation),
    });
    let mut put = |name: &str, member: Value| {
        if let Some(object) = value.as_object_mut() {
            object.insert(name.to_owned(), member);
        }
    };
    if !operation.description.is_empty() {
        put("description", operation.description.into());
    }
    if !operation.bodies.is_empty() {
        let required = !operation.may_lack_body;
        put(
            "requestBody",
            json!({ "required": required, "content": bodies(operation) }),
        );
    }
    let mut parameters = in_path(path, operation);
    parameters.extend(operation.parameters.iter().cloned());
    if !parameters.is_empty() {
        put("parameters", parameters.into());
    }
    value
}

fn in_path(path: &str, operation: &Operation) -> Vec<Value> {
    let names = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names
        .zip(&operation.path_parameters)
        .map(|(name, (pattern, example))| {
            json!({
                "name": name, "in": "path", "required": true,
                "schema": { "type": "string", "pattern": pattern }, "example": example,
            })
        })
        .collect()
}

fn security(operation: &Operation) -> Value {
    let schemes = operation.security.iter().map(|(scheme, needs)| {
        if scheme.is_empty() {
            json!({})
        } else {
            json!({ *scheme: needs })
        }
    });
    schemes.collect()
}

fn bodies(operation: &Operation) -> Value {
    let bodies = operation
        .bodies
        .iter()
        .map(|(media_type, (schema, example))| {
            let mut schema = schema.clone();
            if let Some(members) = schema.as_object_mut().filter(|_| *media_type == FORM) {
                let is_open = operation.is_oauth.into();
                members.insert("additionalProperties".to_owned(), is_open);
            }
            ((*media_type).to_owned(), media(&schema, example.as_ref()))
        });
    Value::Object(bodies.collect())
}

fn media(schema: &Value, example: Option<&Value>) -> Value {
    match example {
        Some(example) => json!({ "schema": schema, "example": example }),
        None => json!({ "schema": schema }),
    }
}

fn responses(operation: &Operation) -> Value {
    let mut refusals = operation.refusals.clone();
    if operation.is_oauth {
        refusals.clear();
    }
    refusals.extend(ANYWHERE.map(|reason| ErrorCode::from(reason).row()));
    refusals.insert(ErrorCode::Internal.row());
    let good = operation.answers.keys().copied();
    let bad = refusals.iter().map(|(status, ..)| *status);
    let oauth = operation.oauth.iter().filter(|_| operation.is_oauth);
    let statuses: BTreeSet<u16> = good
        .chain(bad)
        .chain(oauth.map(|(status, _, _)| *status))
        .collect();
    let responses = statuses.into_iter().map(|status| {
        let response = match operation.answers.get(&status) {
            Some(answer) => good_response(answer),
            None => bad_response(operation, &refusals, status),
        };
        (status.to_string(), response)
    });
    Value::Object(responses.collect())
}

fn good_response(answer: &DocumentedAnswer) -> Value {
    let content = answer
        .content
        .iter()
        .map(|(media_type, (schema, example))| {
            ((*media_type).to_owned(), media(schema, example.as_ref()))
        });
    let content: Map<_, _> = content.collect();
    let headers = fields(&answer.headers);
    if content.is_empty() {
        return json!({ "description": answer.description, "headers": headers });
    }
    json!({ "description": answer.description, "headers": headers, "content": content })
}

fn bad_response(operation: &Operation, refusals: &BTreeSet<Row>, status: u16) -> Value {
    let mut lines = BTreeSet::new();
    let mut content = Map::new();
    let rows_of = |rows: &BTreeSet<Row>| -> Vec<Row> {
        let rows = rows.iter().filter(|(refused, ..)| *refused == status);
        rows.copied().collect()
    };
    let problems = rows_of(refusals);
    if !problems.is_empty() {
        let titles = problems
            .iter()
            .map(|(_, code, title)| format!("`{code}`: {title}."));
        lines.extend(titles);
        content.insert(MEDIA_TYPE.to_owned(), problem_media(status, &problems));
    }
    let errors = rows_of(&operation.oauth);
    if operation.is_oauth && !errors.is_empty() {
        let errors_of = errors
            .iter()
            .map(|(_, code, error)| format!("`{error}`, `{code}`."));
        lines.extend(errors_of);
        content.insert(JSON.to_owned(), oauth_media(&errors));
    }
    if operation.pages.contains(&status) {
        content.insert(HTML.to_owned(), json!({ "schema": { "type": "string" } }));
    }
    let lines: Vec<_> = lines.into_iter().collect();
    json!({ "description": lines.join(" "), "headers": fields(fields_of(status)), "content": content })
}

fn problem_media(status: u16, rows: &[Row]) -> Value {
    let example = |(_, code, title): &Row| {
        json!({
            "type": format!("urn:doorward:problem:{code}"),
            "title": title,
            "status": status,
            "code": code,
            "request_id": EXAMPLE_ID,
        })
    };
    refusal_media(
        "Problem",
        ("status", json!({ "const": status })),
        rows,
        example,
    )
}

fn oauth_media(rows: &[Row]) -> Value {
    let errors: BTreeSet<_> = rows.iter().map(|(_, _, error)| error).collect();
    let example =
        |(_, code, error): &Row| json!({ "error": error, "code": code, "request_id": EXAMPLE_ID });
    refusal_media(
        "OAuthError",
        ("error", json!({ "enum": errors })),
        rows,
        example,
    )
}

/// Returns a schema restricted to the codes of these rows and, for `member`, to `rule`; with an example of each row.
fn refusal_media(
    schema: &str,
    (member, rule): (&str, Value),
    rows: &[Row],
    example: impl Fn(&Row) -> Value,
) -> Value {
    let codes: BTreeSet<_> = rows.iter().map(|(_, code, _)| code).collect();
    let examples = rows.iter().map(|row| {
        let (_, code, _) = row;
        ((*code).to_owned(), json!({ "value": example(row) }))
    });
    json!({
        "schema": {
            "allOf": [{ "$ref": format!("{SCHEMAS}{schema}") }],
            "properties": { member: rule, "code": { "enum": codes } },
        },
        "examples": examples.collect::<Map<_, _>>(),
    })
}

const EXAMPLE_ID: &str = "00000000000000a7";

fn fields(names: &[&str]) -> Value {
    let all = ["X-Request-Id", "Cache-Control"].iter().chain(names);
    let refs = all.map(|name| {
        let place = json!({ "$ref": format!("#/components/headers/{name}") });
        ((*name).to_owned(), place)
    });
    Value::Object(refs.collect())
}
