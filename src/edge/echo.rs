//! The built-in echo: an upstream that answers with the request it received, for trying out a configuration.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::edge::plain;
use crate::model::printable::printable;
use crate::process::ProcessError;

/// As many connections as a gateway may open.
const CONNECTIONS_MAX: usize = 16_384;
/// The gateway closes its idle connections after a minute, before this timeout.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);

/// Placeholder for a value that must not be shown.
const REDACTED: &str = "(redacted)";

/// Answers every request with JSON: `method`, `path`, `query`, `headers` and `body_bytes`. The values of credentials
/// are redacted.
///
/// Runs until the task is dropped. `api_key_header`: the header field that carries API keys.
pub(crate) async fn serve(listener: TcpListener, api_key_header: HeaderName) {
    let answer = move |request| answer(request, api_key_header.clone());
    plain::serve(listener, CONNECTIONS_MAX, HEAD_TIMEOUT, answer).await;
}

/// Returns the address of a listener, with the port the system chose if 0 was requested.
pub(crate) fn local_address(listener: &TcpListener) -> Result<SocketAddr, ProcessError> {
    listener
        .local_addr()
        .map_err(|source| ProcessError::System {
            what: "determine the port of the echo service",
            source,
        })
}

async fn answer(request: Request<Incoming>, api_key_header: HeaderName) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Some(body_bytes) = count(body).await else {
        let mut refused = Response::new(Full::default());
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return refused;
    };
    let answer = json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": response_headers(&head.headers, &api_key_header),
        "body_bytes": body_bytes,
    });
    let pretty = serde_json::to_string_pretty(&answer).unwrap_or_default();
    // The output is read in terminals, so it must be printable.
    let mut text = String::with_capacity(pretty.len() + 1);
    for line in pretty.lines() {
        text.push_str(&printable(line));
        text.push('\n');
    }
    plain::response(StatusCode::OK, "application/json", None, text)
}

/// Reads a body to its end and returns its length, or `None` if it breaks off.
async fn count(mut body: impl Body<Data = Bytes> + Unpin) -> Option<u64> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.ok()?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Some(bytes)
}

/// Returns the header fields by name; repeated fields become a list.
fn response_headers(headers: &HeaderMap, api_key_header: &HeaderName) -> Map<String, Value> {
    let secrets = [
        &AUTHORIZATION,
        &PROXY_AUTHORIZATION,
        &COOKIE,
        api_key_header,
    ];
    let is_secret =
        |name: &HeaderName| secrets.contains(&name) || name.as_str() == "x-auth-assertion";
    let mut fields = Map::new();
    for name in headers.keys() {
        let show = |value: &HeaderValue| {
            // An empty value has nothing to hide.
            if is_secret(name) && !value.is_empty() {
                Value::from(REDACTED)
            } else {
                Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned())
            }
        };
        let mut values: Vec<_> = headers.get_all(name).iter().map(show).collect();
        let value = match values.as_mut_slice() {
            [only] => only.take(),
            _ => Value::from(values),
        };
        fields.insert(name.as_str().to_owned(), value);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_named_and_not_shown() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("cookie", "a=secret"),
            ("x-key", "secret"),
            ("x-auth-assertion", ""),
            ("x-auth-uid", "u-12345678"),
            ("accept", "a"),
            ("accept", "b"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let told = Value::from(response_headers(
            &headers,
            &HeaderName::from_static("x-key"),
        ));
        assert_eq!(
            told,
            json!({
                "authorization": "(redacted)",
                "cookie": "(redacted)",
                "x-key": "(redacted)",
                "x-auth-assertion": "",
                "x-auth-uid": "u-12345678",
                "accept": ["a", "b"],
            })
        );
    }

    #[tokio::test]
    async fn bodies_are_counted() {
        assert_eq!(count(Full::from("hello")).await, Some(5));
    }
}
