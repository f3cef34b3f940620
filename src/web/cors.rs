//! Cross-origin access to the gateway's own endpoints (CORS).
//!
//! Source: Fetch standard, section 3.3; OWASP ASVS 5.0 section 3.4.2. Origins are compared exactly, and the response
//! repeats the configured entry, never the caller's text.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};

use crate::config::JWKS_PATH;
use crate::model::deny::DenyReason;
use crate::model::field_value::exactly_one;
use crate::snapshot::RequestScope;
use crate::web::error::{WebProblem, set_fields};

/// Header fields that scripts may read.
const EXPOSED: &str =
    "Location, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// How long a browser may cache the response to a preflight, in seconds.
const PREFLIGHT_LIFE_S: &str = "600";

/// The endpoints that listed origins may call, by the first segment after the prefix. All others are reserved for the
/// gateway's own pages: keys, passwords, administration, and any endpoint added later without an entry here.
const SHARED: &[&str] = &[
    "introspect",
    "login",
    "logout",
    "me",
    "members",
    "methods",
    "openapi.json",
    "register",
    "forgot",
    "roles",
    "sessions",
    "settings",
    "token",
];

/// Answers preflights, and adds the CORS header fields to all other responses.
pub(in crate::web) async fn share(request: Request, next: Next) -> Response {
    let listed = listed(&request);
    let allowed = listed.as_ref().filter(|_| is_shared(&request));
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match allowed {
        Some((_, api_key_header)) if is_preflight => preflight(api_key_header),
        None if is_preflight || listed.is_some() => {
            WebProblem::from(DenyReason::OriginRefused).into_response()
        }
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some((origin, _)) = allowed {
        let fields = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_str()),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
        ];
        set_fields(headers, fields);
    }
    response
}

/// Whether scripts of listed origins may call the requested path.
fn is_shared(request: &Request) -> bool {
    let path = request.uri().path();
    let prefix = request.extensions().get::<RequestScope>();
    let prefix = prefix.map_or("", |scope| {
        scope.snapshot.config.listen.auth_prefix.as_str()
    });
    let behind = path
        .strip_prefix(prefix)
        .and_then(|it| it.strip_prefix('/'));
    let first = behind.and_then(|behind| behind.split('/').next());
    path == JWKS_PATH || first.is_some_and(|first| SHARED.contains(&first))
}

/// Returns the configured entry that equals the request's only `Origin`, and the name of the header for API keys.
/// `None` for the gateway's own origin, which needs no CORS.
fn listed(request: &Request) -> Option<(String, String)> {
    let scope = request.extensions().get::<RequestScope>()?;
    let snapshot = &scope.snapshot;
    let origin = exactly_one(request.headers(), &header::ORIGIN)?.as_bytes();
    let own = [&scope.origin, &snapshot.config.listen.public_url.text];
    let mut entries = snapshot.authorizer.auth_origins();
    let entry = entries.find(|entry| entry.as_bytes() == origin)?;
    if own.iter().any(|own| own.as_bytes() == origin) {
        return None;
    }
    let api_key_header = snapshot.config.account.api_key_header.as_str();
    Some((entry.to_owned(), api_key_header.to_owned()))
}

fn preflight(api_key_header: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let asked = format!("Authorization, Content-Type, {api_key_header}");
    let fields = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, asked.as_str()),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_LIFE_S),
    ];
    set_fields(headers, fields);
    response
}
