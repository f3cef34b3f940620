//! Verifies `X-Auth-Assertion`. Needs jsonwebtoken, serde, sha2 and base64; the caller fetches and keeps the key set.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use sha2::{Digest, Sha256};

#[derive(serde::Deserialize)]
pub struct Claims {
    /// The caller; none is anonymous.
    pub sub: Option<String>,
    pub roles: Vec<String>,
    htm: String,
    path_s256: String,
}

/// The claims; `path` as it came, without the query and not decoded. `None`: it proves nothing.
pub fn verify(
    keys: &JwkSet,
    issuer: &str,
    audience: &str,
    assertion: &str,
    method: &str,
    path: &str,
) -> Option<Claims> {
    let header = decode_header(assertion).ok()?;
    let key = DecodingKey::from_jwk(keys.find(header.kid.as_deref()?)?).ok()?;
    let mut wanted = Validation::new(Algorithm::EdDSA);
    wanted.set_issuer(&[issuer]);
    wanted.set_audience(&[audience]);
    wanted.set_required_spec_claims(&["exp", "iss", "aud"]);
    let claims = decode::<Claims>(assertion, &key, &wanted).ok()?.claims;
    let is_it = header.typ.as_deref() == Some("doorward-assertion+jwt")
        && claims.htm == method
        && claims.path_s256 == URL_SAFE_NO_PAD.encode(Sha256::digest(path));
    is_it.then_some(claims)
}
