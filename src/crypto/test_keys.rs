//! Keys and tokens for the tests of this module.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use crate::crypto::jwks::foreign;
use crate::crypto::ring::{Signed, SigningKeyState};
use crate::crypto::signing_key::{SigningKey, encoding_key};
use crate::model::algorithm::Algorithm;
use crate::model::clock::Timestamp;

/// A key pair: its public JWK, or its secret one, and its signer.
pub(crate) struct TestKey {
    pub(crate) jwk: Value,
    signer: EncodingKey,
}

impl TestKey {
    fn generate(algorithm: Algorithm, kid: &str) -> Self {
        let key = SigningKey::generate(
            Signed::AccessToken,
            algorithm,
            SigningKeyState::Active,
            Timestamp::from_secs(0),
        )
        .unwrap();
        let mut jwk = key.public.clone().unwrap();
        jwk["kid"] = kid.into();
        let signer = encoding_key(algorithm, &key.private).unwrap();
        Self { jwk, signer }
    }

    fn p384(kid: &str) -> Self {
        let alg = &ECDSA_P384_SHA384_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref()).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(48);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Self {
            jwk: json!({ "kty": "EC", "crv": "P-384", "x": x, "y": y, "kid": kid, "alg": "ES384" }),
            signer: EncodingKey::from_ec_der(pkcs8.as_ref()),
        }
    }

    fn hmac(kid: &str) -> Self {
        let secret: Vec<u8> = (0..64_u8).map(|n| n.wrapping_mul(n) ^ 0x5a).collect();
        let k = URL_SAFE_NO_PAD.encode(&secret);
        Self {
            jwk: json!({ "kty": "oct", "k": k, "kid": kid, "alg": "HS256" }),
            signer: EncodingKey::from_secret(&secret),
        }
    }

    /// Returns the JWK with members added, or removed by null.
    pub(crate) fn with(&self, members: &Value) -> Value {
        let mut jwk = self.jwk.clone();
        for (name, value) in members.as_object().unwrap() {
            if value.is_null() {
                jwk.as_object_mut().unwrap().remove(name);
            } else {
                jwk[name] = value.clone();
            }
        }
        jwk
    }

    /// Returns the signature of a text, in base64url.
    pub(crate) fn sign(&self, algorithm: Algorithm, signed: &str) -> String {
        jsonwebtoken::crypto::sign(signed.as_bytes(), &self.signer, foreign(algorithm)).unwrap()
    }

    /// Returns a signed token with any header and payload.
    pub(crate) fn token(&self, algorithm: Algorithm, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", part(header), part(payload));
        format!("{signed}.{}", self.sign(algorithm, &signed))
    }
}

/// Encodes a part of a token.
pub(crate) fn part(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Returns a JWK set as text.
pub(crate) fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

pub(crate) static RSA: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::generate(Algorithm::RS256, "rsa"));
/// Another key with the same key id.
pub(crate) static OTHER_RSA: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::generate(Algorithm::RS256, "rsa"));
pub(crate) static EC256: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::generate(Algorithm::ES256, "ec256"));
pub(crate) static EC384: LazyLock<TestKey> = LazyLock::new(|| TestKey::p384("ec384"));
pub(crate) static ED: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::generate(Algorithm::EdDSA, "ed"));
pub(crate) static HS: LazyLock<TestKey> = LazyLock::new(|| TestKey::hmac("hs"));
