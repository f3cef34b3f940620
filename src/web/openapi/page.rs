//! Serves the API document and the page to try the endpoints, from files embedded in the binary.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderName, header};

use crate::web::answer::text;
use crate::web::caller::AnyRequest;
use crate::web::error::set_fields;
use crate::web::openapi::{ApiDocument, JSON};

/// The page runs only its own script, connects only to its own origin, and cannot turn text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; \
    frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Returns the document with the configured names.
pub(in crate::web) async fn document(
    State(document): State<Arc<ApiDocument>>,
    AnyRequest(scope): AnyRequest,
) -> Response {
    let api_key_header = scope.snapshot.config.account.api_key_header.as_str();
    let (cookie, _) = scope.snapshot.authorizer.cookies().own();
    text(JSON, document.text(api_key_header, cookie))
}

/// Returns the page.
pub(in crate::web) async fn show() -> Response {
    let mut response = text("text/html; charset=utf-8", include_str!("docs/page.html"));
    let fields = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` a browser may omit `Origin`, which requests with a cookie need.
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    set_fields(response.headers_mut(), fields);
    response
}

/// Returns the page's script.
pub(in crate::web) async fn script() -> Response {
    text(
        "text/javascript; charset=utf-8",
        include_str!("docs/page.js"),
    )
}

/// Returns the page's style sheet.
pub(in crate::web) async fn style() -> Response {
    text(
        "text/css; charset=utf-8",
        concat!(
            include_str!("../portal/palette.css"),
            include_str!("docs/page.css")
        ),
    )
}
