//! From told operations to the text of the document.
//!
//! Source: `OpenAPI` Specification 3.1.1; its schemas are JSON Schema 2020-12.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::model::deny::DenyReason;
use crate::model::problem::MEDIA_TYPE;
use crate::web::openapi::operation::{
    Answer, FORM, HTML, JSON, Operation, Refusal, SCHEMAS, Schemas, fields_of,
};
use crate::web::openapi::tells::{API_KEY, BASIC, BEARER, COOKIE};

/// Stand for the names of the field and the cookie, which the configuration has.
const API_KEY_MARK: &str = "{the API key header}";
const COOKIE_MARK: &str = "{the session cookie}";

/// What is refused before any handler, whatever is asked for.
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

/// The document, complete but for two names.
#[cfg_attr(test, derive(Default))]
#[derive(Debug)]
pub(in crate::web) struct Document {
    text: String,
}

impl Document {
    pub(in crate::web::openapi) fn new(
        paths: BTreeMap<String, BTreeMap<&'static str, Value>>,
        schemas: Schemas,
    ) -> Self {
        let mut definitions = schemas.definitions();
        definitions.extend(error_schemas());
        let mut paths = paths;
        let shared = share_responses(&mut paths);
        let whole = json!({
            "openapi": "3.1.1",
            "info": {
                "title": "Doorward",
                "summary": "The endpoints of the gateway itself.",
                "description": include_str!("description.md"),
                "version": env!("CARGO_PKG_VERSION"),
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/", "description": "The gateway that serves this document." }],
            "tags": tags(&paths),
            "paths": paths,
            "components": {
                "schemas": definitions,
                "responses": shared,
                "headers": headers(),
                "securitySchemes": security_schemes(),
            },
        });
        Self {
            text: whole.to_string(),
        }
    }

    /// The text as JSON: with the name of the header field that carries API keys (a token of HTTP) and of the session
    /// cookie.
    pub(in crate::web) fn text(&self, api_key_header: &str, cookie: &str) -> String {
        let text = self.text.replace(API_KEY_MARK, api_key_header);
        text.replace(COOKIE_MARK, cookie)
    }
}

/// Puts answers of refusals into one place, since most operations share them, and refers to them.
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

/// The headings in use.
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

/// One operation as the document has it, with its name.
pub(in crate::web::openapi) fn written(path: &str, id: &str, operation: &Operation) -> Value {
    let mut value = json!({
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": id,
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
    refusals.extend(ANYWHERE.map(|reason| Refusal::from(crate::web::error::Kind::from(reason))));
    refusals.insert(crate::web::error::Kind::Internal.into());
    let good = operation.answers.keys().copied();
    let bad = refusals.iter().map(|refusal| refusal.status);
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

fn good_response(answer: &Answer) -> Value {
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

fn bad_response(operation: &Operation, refusals: &BTreeSet<Refusal>, status: u16) -> Value {
    let mut lines = BTreeSet::new();
    let mut content = Map::new();
    let problems: Vec<_> = refusals
        .iter()
        .filter(|refusal| refusal.status == status)
        .collect();
    if !problems.is_empty() {
        lines.extend(
            problems
                .iter()
                .map(|it| format!("`{}`: {}.", it.code, it.title)),
        );
        content.insert(MEDIA_TYPE.to_owned(), problem_media(status, &problems));
    }
    if operation.is_oauth {
        let rows = operation.oauth.iter().filter(|row| row.0 == status);
        let rows: Vec<_> = rows.map(|(_, error, code)| (*error, *code)).collect();
        if !rows.is_empty() {
            lines.extend(
                rows.iter()
                    .map(|(error, code)| format!("`{error}`, `{code}`.")),
            );
            content.insert(JSON.to_owned(), oauth_media(&rows));
        }
    }
    if operation.pages.contains(&status) {
        content.insert(HTML.to_owned(), json!({ "schema": { "type": "string" } }));
    }
    let lines: Vec<_> = lines.into_iter().collect();
    json!({ "description": lines.join(" "), "headers": fields(fields_of(status)), "content": content })
}

fn problem_media(status: u16, problems: &[&Refusal]) -> Value {
    let codes: Vec<_> = problems.iter().map(|refusal| refusal.code).collect();
    let examples = problems.iter().map(|refusal| {
        let value = json!({
            "type": format!("urn:doorward:problem:{}", refusal.code),
            "title": refusal.title,
            "status": status,
            "code": refusal.code,
            "request_id": EXAMPLE_ID,
        });
        (refusal.code.to_owned(), json!({ "value": value }))
    });
    json!({
        "schema": {
            "allOf": [{ "$ref": format!("{SCHEMAS}Problem") }],
            "properties": { "status": { "const": status }, "code": { "enum": codes } },
        },
        "examples": examples.collect::<Map<_, _>>(),
    })
}

fn oauth_media(rows: &[(&str, &str)]) -> Value {
    let errors: BTreeSet<_> = rows.iter().map(|(error, _)| error).collect();
    let codes: BTreeSet<_> = rows.iter().map(|(_, code)| code).collect();
    let examples = rows.iter().map(|(error, code)| {
        let value = json!({ "error": error, "code": code, "request_id": EXAMPLE_ID });
        ((*code).to_owned(), json!({ "value": value }))
    });
    json!({
        "schema": {
            "allOf": [{ "$ref": format!("{SCHEMAS}OAuthError") }],
            "properties": { "error": { "enum": errors }, "code": { "enum": codes } },
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

fn headers() -> Value {
    let header = |description: &str, required: bool, example: &str| {
        json!({
            "description": description, "required": required, "schema": { "type": "string" }, "example": example,
        })
    };
    json!({
        "X-Request-Id": header("The id of the request, in the log too.", true, EXAMPLE_ID),
        "Cache-Control": header("Nothing here is kept by a cache.", true, "no-store"),
        "Location": header("Where the browser goes on.", true, "/auth/login"),
        "WWW-Authenticate": header("The challenge (RFC 6750 section 3).", true, "Bearer realm=\"doorward\""),
        "Allow": header("The methods of this path.", true, "GET,HEAD"),
        "Retry-After": header("In how many seconds it is worth another try.", true, "412"),
        "RateLimit": header("What is left, and in how many seconds there is more; not of every limit.", false,
            "\"login\";r=0;t=412"),
        "RateLimit-Policy": header("The limit: how many in how many seconds; not of every limit.", false,
            "\"login\";q=5;w=600"),
    })
}

fn error_schemas() -> Map<String, Value> {
    let text = json!({ "type": "string" });
    let code = json!({
        "type": "string", "pattern": "^[a-z_]+$", "description": "Stable: its meaning never changes.",
    });
    let problem = json!({
        "description": "Why a request is refused or failed (RFC 9457).",
        "type": "object",
        "required": ["type", "title", "status", "code", "request_id"],
        "additionalProperties": false,
        "properties": {
            "type": { "type": "string", "pattern": "^urn:doorward:problem:[a-z_]+$" },
            "title": text, "status": { "type": "integer" }, "code": code,
            "request_id": { "type": "string", "pattern": "^[0-9a-f]{16}$" },
            "detail": { "type": "string", "description": "For people: what about the request. With \
                `body_malformed` it begins with the member that is unknown, missing, there twice or of another type, as a \
                JSON pointer (a form's by its name), as `query_malformed` does with the parameter: `/name: missing`. Never \
                a value." },
        },
    });
    let oauth = json!({
        "description": "Why an OAuth request is refused or failed (RFC 6749 section 5.2).",
        "type": "object",
        "required": ["error", "code", "request_id"],
        "additionalProperties": false,
        "properties": { "error": text, "code": code,
            "request_id": { "type": "string", "pattern": "^[0-9a-f]{16}$" },
            "error_description": {
                "type": "string",
                "description": "Where a parameter is missing, empty or there twice: its name and what would be right.",
            },
        },
    });
    [("Problem", problem), ("OAuthError", oauth)]
        .map(|(name, schema)| (name.to_owned(), schema))
        .into_iter()
        .collect()
}

fn security_schemes() -> Value {
    json!({
        BEARER: {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "The `jwt_token` of a login, or a token of a foreign issuer.",
        },
        API_KEY: {
            "type": "apiKey", "in": "header", "name": API_KEY_MARK,
            "description": "An API key. Beside a bearer token it is refused.",
        },
        COOKIE: {
            "type": "apiKey", "in": "cookie", "name": COOKIE_MARK,
            "description": "The session of a browser. What changes something needs an `Origin` that may, beside it.",
        },
        BASIC: {
            "type": "http", "scheme": "basic",
            "description": "An API key as OAuth clients send it: its id, and the whole key as the password.",
        },
    })
}
