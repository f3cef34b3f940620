//! GET /.well-known/jwks.json.

use axum::response::Response;
use serde_json::json;

use crate::web::answer::text;
use crate::web::caller::AnyRequest;

/// Returns the public keys of access tokens and assertions (RFC 7517).
pub(in crate::web) async fn show(AnyRequest(scope): AnyRequest) -> Response {
    let services = &scope.snapshot.services;
    let rings = [&services.signing, &services.assertion_keys];
    let keys: Vec<_> = rings.iter().flat_map(|ring| ring.public_keys()).collect();
    let document = json!({ "keys": keys }).to_string();
    text("application/jwk-set+json", document)
}
