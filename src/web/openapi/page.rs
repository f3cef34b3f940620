//! The document as it is served, and the page to try the endpoints, from files inside the binary.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};

use crate::web::answer::text;
use crate::web::caller::Anybody;
use crate::web::openapi::{Document, JSON};

/// The page runs its own script and nothing else, talks to its own origin only, and never makes markup of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; \
    frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The document, with the names that this configuration has.
pub(in crate::web) async fn document(
    State(document): State<Arc<Document>>,
    Anybody(scope): Anybody,
) -> Response {
    let api_key_header = scope.snapshot.config.account.api_key_header.as_str();
    let (cookie, _) = scope.snapshot.authorizer.cookies().own();
    text(JSON, document.text(api_key_header, cookie))
}

/// The page.
pub(in crate::web) async fn show() -> Response {
    let mut response = text("text/html; charset=utf-8", include_str!("docs/page.html"));
    let fields = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` a browser may keep the origin to itself, which a cookie needs beside it.
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fields {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Its script.
pub(in crate::web) async fn script() -> Response {
    text(
        "text/javascript; charset=utf-8",
        include_str!("docs/page.js"),
    )
}

/// Its style.
pub(in crate::web) async fn style() -> Response {
    text(
        "text/css; charset=utf-8",
        concat!(
            include_str!("../portal/palette.css"),
            include_str!("docs/page.css")
        ),
    )
}
