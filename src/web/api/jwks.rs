//! GET /.well-known/jwks.json.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::web::caller::Anybody;

/// The public signing keys (RFC 7517).
pub(in crate::web) async fn show(Anybody(scope): Anybody) -> Response {
    let media_type = HeaderValue::from_static("application/jwk-set+json");
    let document = scope.snapshot.services.signing.jwks();
    (
        [(header::CONTENT_TYPE, media_type)],
        document.as_ref().to_owned(),
    )
        .into_response()
}
