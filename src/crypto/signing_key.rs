//! A signing key of the gateway.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::crypto::jwks::{ParsedKey, VerificationKey, foreign};
use crate::crypto::jwt::SignedToken;
use crate::crypto::ring::{KeyInfo, SignError, Signed, SigningKeyState};
use crate::crypto::{digest, jwk, random, token};
use crate::model::algorithm::Algorithm;
use crate::model::clock::Timestamp;
use crate::model::secret::Secret;

/// Length of an HMAC secret, in bytes.
const HMAC_SECRET_BYTES: usize = 32;

/// A private key and its metadata.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pub(crate) info: KeyInfo,
    pub(crate) algorithm: Algorithm,
    /// The key in PKCS#8, or the HMAC secret.
    pub(crate) private: Zeroizing<Vec<u8>>,
    signer: EncodingKey,
    pub(crate) verifier: VerificationKey,
    /// The public JWK; `None` for HMAC.
    pub(crate) public: Option<Value>,
    /// The header of every token it signs, in base64url.
    header: String,
}

impl SigningKey {
    /// Generates a key; `None` for an algorithm that the gateway does not sign with.
    ///
    /// An RSA key takes some tenths of a second.
    pub(crate) fn generate(
        signed: Signed,
        algorithm: Algorithm,
        state: SigningKeyState,
        created: Timestamp,
    ) -> Option<Self> {
        let random = SystemRandom::new();
        let private = match algorithm {
            Algorithm::ES256 => {
                let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let key = EcdsaKeyPair::generate_pkcs8(curve, &random).ok()?;
                key.as_ref().to_vec()
            }
            Algorithm::EdDSA => {
                let key = Ed25519KeyPair::generate_pkcs8(&random).ok()?;
                key.as_ref().to_vec()
            }
            Algorithm::RS256 => {
                let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).ok()?;
                key.as_der().ok()?.as_ref().to_vec()
            }
            Algorithm::HS256 => {
                let mut secret = vec![0; HMAC_SECRET_BYTES];
                random::fill(&mut secret);
                secret
            }
            _ => return None,
        };
        let private = Zeroizing::new(private);
        let kid = match public_jwk(algorithm, &private)? {
            Some(public) => thumbprint(&public),
            None => token::draw_jti(),
        };
        let info = KeyInfo {
            kid,
            algorithm: algorithm.as_str().to_owned(),
            state,
            created,
            retires: None,
        };
        Self::read(info, signed, algorithm, private)
    }

    /// Reads a stored key; `None` if it is not of this algorithm or does not match its id.
    pub(crate) fn read(
        info: KeyInfo,
        signed: Signed,
        algorithm: Algorithm,
        private: Zeroizing<Vec<u8>>,
    ) -> Option<Self> {
        let public = public_jwk(algorithm, &private)?;
        let (private_half, verifier) = match &public {
            Some(public) => {
                if thumbprint(public) != info.kid {
                    return None;
                }
                let public = jwk::public(public.as_object()?, &[]).ok()?;
                let mut keys = public.keys.into_iter();
                let (_, verifier) = keys.find(|(named, _)| *named == algorithm)?;
                let verifier = ParsedKey::Public(verifier);
                (encoding_key(algorithm, &private)?, verifier)
            }
            None => (
                EncodingKey::from_secret(&private),
                ParsedKey::Hmac(Box::new(jwk::hmac_key(algorithm, &private))),
            ),
        };
        let header = json!({ "typ": signed.typ(), "alg": algorithm.as_str(), "kid": info.kid });
        let public = public.map(|members| published(members, &info.kid, algorithm));
        Some(Self {
            algorithm,
            signer: private_half,
            verifier: VerificationKey::new(Some(info.kid.clone()), algorithm, verifier),
            public,
            header: URL_SAFE_NO_PAD.encode(header.to_string()),
            info,
            private,
        })
    }

    /// Signs a payload as a compact JWS.
    pub(crate) fn sign(&self, payload: &[u8]) -> Result<SignedToken, SignError> {
        let mut token = Zeroizing::new(format!(
            "{}.{}",
            self.header,
            URL_SAFE_NO_PAD.encode(payload)
        ));
        let algorithm = foreign(self.algorithm);
        let signature = jsonwebtoken::crypto::sign(token.as_bytes(), &self.signer, algorithm)
            .map_err(|_| SignError)?;
        token.push('.');
        token.push_str(&signature);
        Ok(SignedToken::new(Secret::new(std::mem::take(&mut *token))))
    }
}

/// The members of the public JWK from which its thumbprint is computed; `Some(None)` for HMAC, which has none, and `None` for
/// bytes that are not a key of the algorithm.
#[expect(
    clippy::option_option,
    reason = "no key and no public half are two answers"
)]
fn public_jwk(algorithm: Algorithm, private: &[u8]) -> Option<Option<Value>> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let public = match algorithm {
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private).ok()?;
            let (form, point) = pair.public_key().as_ref().split_first()?;
            let (x, y) = point.split_at_checked(32).filter(|_| *form == 4)?;
            json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) })
        }
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_pkcs8(private).ok()?;
            let x = text(pair.public_key().as_ref());
            json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
        }
        Algorithm::RS256 => {
            let pair = rsa::KeyPair::from_pkcs8(private).ok()?;
            let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
            json!({ "kty": "RSA", "n": text(&public.n), "e": text(&public.e) })
        }
        Algorithm::HS256 => return (private.len() == HMAC_SECRET_BYTES).then_some(None),
        _ => return None,
    };
    Some(Some(public))
}

/// The public JWK with its use.
fn published(mut members: Value, kid: &str, algorithm: Algorithm) -> Value {
    if let Some(jwk) = members.as_object_mut() {
        for (name, value) in [("kid", kid), ("alg", algorithm.as_str()), ("use", "sig")] {
            jwk.insert(name.to_owned(), value.into());
        }
    }
    members
}

/// Returns the thumbprint: SHA-256 of the members in order, without white space (RFC 7638 section 3).
fn thumbprint(public: &Value) -> String {
    let members: std::collections::BTreeMap<_, _> =
        public.as_object().into_iter().flatten().collect();
    let text = serde_json::to_vec(&members).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(digest::sha256(&text))
}

/// The private key in the library's form; `None` for HMAC and for invalid keys.
pub(crate) fn encoding_key(algorithm: Algorithm, pkcs8: &[u8]) -> Option<EncodingKey> {
    match algorithm {
        Algorithm::ES256 => Some(EncodingKey::from_ec_der(pkcs8)),
        Algorithm::EdDSA => Some(EncodingKey::from_ed_der(pkcs8)),
        Algorithm::RS256 => {
            // The library reads PKCS#1 only from DER, but PKCS#8 from PEM.
            let base64 = Zeroizing::new(STANDARD.encode(pkcs8));
            let pem = Zeroizing::new(format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                *base64
            ));
            EncodingKey::from_rsa_pem(pem.as_bytes()).ok()
        }
        _ => None,
    }
}
