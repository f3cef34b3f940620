//! Key sets: public keys by key id, each bound to one algorithm.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;
use serde_json::{Map, Value};

use crate::crypto::{digest, jwk, strict_json};
use crate::model::algorithm::Algorithm;

/// Maximum length of a document.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of keys of a document.
pub const KEYS_MAX: usize = 100;

/// The reason why a document is not a usable key set. It contains no part of the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeySetError(pub String);

/// A key that verifies signatures, bound to one algorithm.
#[derive(Clone)]
pub struct VerificationKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: ParsedKey,
}

/// A key in the library's own form: parsing an EC point again for each signature takes 2 µs.
#[derive(Clone)]
pub(crate) enum ParsedKey {
    /// A public key, bound to the algorithm.
    Public(ParsedPublicKey),
    /// The secret of one of HS256, HS384 and HS512. Boxed, since it takes twenty times the space.
    Hmac(Box<hmac::Key>),
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl VerificationKey {
    /// Creates a verification key from a key that [`jwk`] has checked.
    pub(crate) fn new(kid: Option<String>, algorithm: Algorithm, key: ParsedKey) -> Self {
        Self {
            kid,
            algorithm,
            key,
        }
    }

    /// The key id, if there is one.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Verifies a signature of these bytes, with the key's own algorithm.
    #[must_use]
    pub(crate) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.key {
            ParsedKey::Public(key) => key.verify_sig(signed, signature),
            ParsedKey::Hmac(key) => hmac::verify(key, signed, signature),
        };
        verified.is_ok()
    }
}

/// The library's name of the algorithm.
pub(crate) const fn foreign(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// The verification keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    left_out: Vec<String>,
    /// A digest of each key of a set, with its id and algorithm.
    marks: BTreeSet<[u8; 32]>,
}

impl KeySet {
    /// A set of checked keys.
    pub(crate) fn of(keys: Vec<VerificationKey>) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }

    /// Reads a JWK set of public keys. Unusable keys are omitted and listed by [`Self::left_out`]: keys of another use or
    /// with an algorithm that is not allowed, weak, broken and unknown keys (RFC 7517 section 5), oct and private keys, and
    /// two different keys of the same id and algorithm, since a token could mean either.
    ///
    /// Accepts at most 1 MiB and 100 keys. If `allowed` is empty, each key may be used with the algorithm that it declares.
    /// Without `alg`, an RSA key has those of RS* and PS* in `allowed`, or RS256, an EC key that of its curve, OKP `EdDSA`.
    /// A member that is null counts as absent.
    ///
    /// # Errors
    /// [`KeySetError`] if the document is not a key set, or has no usable key.
    pub fn from_jwks(document: &str, allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let document = read_object(document, "a JWK set")?;
        let Some(Value::Array(keys)) = document.get("keys") else {
            return Err(refused(
                "expected a JWK set: an object with an array named keys",
            ));
        };
        if KEYS_MAX < keys.len() {
            return Err(KeySetError(format!("expected at most {KEYS_MAX} keys")));
        }
        let mut set = Self::default();
        let mut read = Vec::new();
        for (place, key) in (1..).zip(keys) {
            match read_public(place, key, allowed) {
                Ok(keys) => read.extend(keys),
                Err(why) => set.left_out.push(format!("key {place}: {why}")),
            }
        }
        for one in &read {
            let other = read.iter().find(|other| one.is_confused_with(other));
            if let Some(other) = other {
                set.left_out.push(format!(
                    "key {}: it has the kid and algorithm of key {}, which is a different key",
                    one.place, other.place
                ));
            } else if set.marks.insert(one.mark) {
                set.keys.push(one.key.clone());
            }
        }
        if set.keys.is_empty() {
            let why: Vec<_> = set.left_out.iter().take(5).map(String::as_str).collect();
            let why = if why.is_empty() {
                "it is empty".to_owned()
            } else {
                why.join("; ")
            };
            return Err(KeySetError(format!("no key of the set is usable: {why}")));
        }
        Ok(set)
    }

    /// Reads one oct JWK: an HMAC secret that is at least as long as its hash, and not a well-known one.
    ///
    /// Without `alg` it is HS256. If `allowed` is empty, any HMAC algorithm is allowed.
    ///
    /// # Errors
    /// [`KeySetError`] if it is not an oct JWK, or too weak.
    pub fn from_secret_jwk(document: &str, allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let mut document = read_object(document, "one oct JWK")?;
        document.retain(|_, value| !value.is_null());
        if document.contains_key("keys") {
            return Err(refused("expected one oct JWK, not a set"));
        }
        let unusable = |why: String| KeySetError(format!("the key is not usable: {why}"));
        let kid = jwk::kid(&document).map_err(unusable)?;
        let (algorithm, key) = jwk::secret(&document).map_err(unusable)?;
        check_allowed(algorithm, allowed).map_err(unusable)?;
        let kid = kid.map(str::to_owned);
        let key = ParsedKey::Hmac(Box::new(key));
        Ok(Self::of(vec![VerificationKey::new(kid, algorithm, key)]))
    }

    /// The key for a token: the key of its id and algorithm, or without an id the only key of the algorithm.
    ///
    /// `None` also if the keys of that id have other algorithms, since a token never chooses how a key is used.
    #[must_use]
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&VerificationKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|key| key.kid() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }

    /// Whether a key has this id.
    #[must_use]
    pub fn has_kid(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid() == Some(kid))
    }

    /// Whether every key of an older set of the same issuer is in this one, unchanged.
    #[must_use]
    pub fn keeps_all_of(&self, older: &Self) -> bool {
        older.marks.is_subset(&self.marks)
    }

    /// Returns all keys, in the order of the document.
    #[must_use]
    pub fn keys(&self) -> &[VerificationKey] {
        &self.keys
    }

    /// The omitted keys of the document with their reasons, such as `key 2: its use is not sig`, for a log.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }
}

fn refused(why: &str) -> KeySetError {
    KeySetError(why.to_owned())
}

fn read_object(document: &str, what: &str) -> Result<Map<String, Value>, KeySetError> {
    if DOCUMENT_BYTES_MAX < document.len() {
        return Err(refused("expected at most 1 MiB"));
    }
    strict_json::object(document.as_bytes()).ok_or_else(|| {
        KeySetError(format!(
            "expected {what}: a JSON object without duplicate members, at most 32 levels deep"
        ))
    })
}

/// A usable key of a document.
struct ReadKey {
    /// Its index in the document, from 1.
    place: usize,
    key: VerificationKey,
    /// A digest of the key itself, its id and its algorithm.
    mark: [u8; 32],
}

impl ReadKey {
    /// Whether a token could mean either of both keys.
    fn is_confused_with(&self, other: &Self) -> bool {
        self.key.kid == other.key.kid
            && self.key.algorithm == other.key.algorithm
            && self.mark != other.mark
    }
}

/// Reads one key, once for each of its algorithms.
fn read_public(place: usize, key: &Value, allowed: &[Algorithm]) -> Result<Vec<ReadKey>, String> {
    let mut present = key.as_object().ok_or("it is not an object")?.clone();
    present.retain(|_, value| !value.is_null());
    let kid = jwk::kid(&present)?.map(str::to_owned);
    let public = jwk::public(&present, allowed)?;
    let read = |(algorithm, key): (Algorithm, ParsedPublicKey)| {
        check_allowed(algorithm, allowed)?;
        let text = format!("{kid:?} {} ", algorithm.as_str());
        Ok(ReadKey {
            place,
            mark: digest::sha256(&[text.as_bytes(), &public.material].concat()),
            key: VerificationKey::new(kid.clone(), algorithm, ParsedKey::Public(key)),
        })
    };
    public.keys.into_iter().map(read).collect()
}

fn check_allowed(algorithm: Algorithm, allowed: &[Algorithm]) -> Result<(), String> {
    if allowed.is_empty() || allowed.contains(&algorithm) {
        return Ok(());
    }
    let name = algorithm.as_str();
    Err(format!("its algorithm, {name}, is not allowed"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::crypto::jwt::UnverifiedToken;
    use crate::crypto::test_keys::{EC256, EC384, ED, HS, OTHER_RSA, RSA, part, set};

    fn read(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::from_jwks(&set(keys), &[])
    }

    fn algorithms(set: &KeySet) -> Vec<&'static str> {
        set.keys()
            .iter()
            .map(|key| key.algorithm.as_str())
            .collect()
    }

    #[test]
    fn each_key_has_one_algorithm() {
        let cases = [
            (RSA.with(&json!({ "alg": null })), "RS256"),
            (RSA.with(&json!({ "alg": "PS512" })), "PS512"),
            (EC256.with(&json!({ "alg": null })), "ES256"),
            (
                EC384.with(&json!({ "alg": null, "use": null, "key_ops": ["verify"] })),
                "ES384",
            ),
            (ED.with(&json!({ "alg": null, "kid": null })), "EdDSA"),
            (ED.with(&json!({ "x5t": "x", "issuer": {} })), "EdDSA"),
        ];
        for (key, algorithm) in cases {
            assert_eq!(
                algorithms(&read(std::slice::from_ref(&key)).unwrap()),
                [algorithm],
                "{key}"
            );
        }
    }

    #[test]
    fn keys_that_verify_no_signature_of_ours_are_left_out() {
        let n = |bytes: usize| part(vec![0xff; bytes]);
        let cases = [
            RSA.with(&json!({ "use": "enc" })),
            RSA.with(&json!({ "use": ["sig"] })),
            RSA.with(&json!({ "use": "Sig" })),
            RSA.with(&json!({ "key_ops": ["encrypt"] })),
            RSA.with(&json!({ "key_ops": "verify" })),
            RSA.with(&json!({ "alg": "RSA-OAEP" })),
            RSA.with(&json!({ "alg": "HS256" })),
            RSA.with(&json!({ "alg": "none" })),
            RSA.with(&json!({ "alg": "ES256" })),
            RSA.with(&json!({ "alg": 1 })),
            RSA.with(&json!({ "kid": 1 })),
            RSA.with(&json!({ "kid": "x".repeat(257) })),
            RSA.with(&json!({ "n": null })),
            RSA.with(&json!({ "n": n(128) })),
            RSA.with(&json!({ "n": n(255) })),
            RSA.with(&json!({ "n": n(1025) })),
            RSA.with(&json!({ "n": format!("{}{}", "A".repeat(200), n(128)) })),
            RSA.with(&json!({ "n": part([vec![0x80; 255], vec![0]].concat()) })),
            RSA.with(&json!({ "e": "AQ" })),
            RSA.with(&json!({ "e": "" })),
            RSA.with(&json!({ "e": "AAAB" })),
            RSA.with(&json!({ "e": "AQAC" })),
            RSA.with(&json!({ "e": "AQAAAAAB" })),
            RSA.with(&json!({ "e": "AQAB=" })),
            RSA.with(&json!({ "kty": "rsa" })),
            RSA.with(&json!({ "kty": "EC" })),
            RSA.with(&json!({ "kty": null })),
            EC256.with(&json!({ "crv": "P-521" })),
            EC256.with(&json!({ "crv": "P-384", "alg": "ES384" })),
            EC256.with(&json!({ "crv": "secp256k1", "alg": "ES256K" })),
            EC256.with(&json!({ "alg": "ES384" })),
            EC256.with(&json!({ "x": "AAAA" })),
            EC256.with(&json!({ "y": EC256.jwk["x"] })),
            EC256.with(&json!({ "x": EC384.jwk["x"], "y": EC384.jwk["y"] })),
            EC384.with(&json!({ "alg": "ES512" })),
            ED.with(&json!({ "crv": "Ed448" })),
            ED.with(&json!({ "crv": "X25519" })),
            ED.with(&json!({ "x": "AAAA" })),
            ED.with(&json!({ "alg": "ES256" })),
            json!({ "kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA" }),
            json!({}),
            HS.jwk.clone(),
            json!({ "kty": "oct" }),
            ED.with(&json!({ "d": "AAAA" })),
            json!({ "kty": "what", "p": 1 }),
            RSA.with(&json!({ "k": "AAAA" })),
        ];
        for key in cases {
            assert!(read(std::slice::from_ref(&key)).is_err(), "{key}");
            let set = read(&[key.clone(), EC256.with(&json!({ "kid": "other" }))]).unwrap();
            assert_eq!(algorithms(&set), ["ES256"], "{key}");
            assert!(set.left_out()[0].starts_with("key 1: "), "{key}");
        }
    }

    #[test]
    fn a_modulus_with_a_leading_zero_byte_is_the_same_key() {
        let n = URL_SAFE_NO_PAD.decode(RSA.jwk["n"].as_str().unwrap());
        let padded = part([vec![0], n.unwrap()].concat());
        let set = read(&[RSA.with(&json!({ "n": padded }))]).unwrap();
        let token = RSA.token(Algorithm::RS256, r#"{"alg":"RS256"}"#, "{}");
        assert!(UnverifiedToken::parse(&token).unwrap().verify(&set).is_ok());
    }

    #[test]
    fn doubtful_documents_are_refused_whole() {
        let key = EC256.jwk.to_string();
        let many = vec![json!({}); KEYS_MAX + 1];
        let cases = [
            String::new(),
            "null".to_owned(),
            key.clone(),
            format!("[{key}]"),
            "{}".to_owned(),
            set(&[]),
            format!(r#"{{"keys":{key}}}"#),
            format!(r#"{{"keys":[[{key}]]}}"#),
            format!("\u{feff}{}", set(std::slice::from_ref(&EC256.jwk))),
            "{} ".repeat(2),
            format!(r#"{{"keys":[],"keys":[{key}]}}"#),
            format!(
                r#"{{"keys":[{}]}}"#,
                key.replacen('{', r#"{"kty":"EC","#, 1)
            ),
            format!("{{\"keys\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000)),
            format!(
                "{}{}",
                set(std::slice::from_ref(&EC256.jwk)),
                " ".repeat(DOCUMENT_BYTES_MAX)
            ),
            set(&[many, vec![EC256.jwk.clone()]].concat()),
            set(std::slice::from_ref(&HS.jwk)),
            set(&[RSA.jwk.clone(), OTHER_RSA.jwk.clone()]),
        ];
        for document in cases {
            let error = KeySet::from_jwks(&document, &[]).unwrap_err();
            let x = EC256.jwk["x"].as_str().unwrap();
            assert!(!error.to_string().contains(x), "{document}: {error}");
        }
    }

    #[test]
    fn what_issuers_write_otherwise_than_the_standard_is_read() {
        let text = |name: &str| RSA.jwk[name].as_str().unwrap().to_owned();
        let padded = |text: String| format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
        let standard = |text: String| padded(text).replace('-', "+").replace('_', "/");
        let mut nulls = RSA.jwk.clone();
        for name in ["alg", "use", "key_ops", "x5c", "x5t", "d", "oth", "k"] {
            nulls[name] = Value::Null;
        }
        let cases = [
            nulls,
            RSA.with(&json!({ "n": padded(text("n")) })),
            RSA.with(&json!({ "n": standard(text("n")) })),
            RSA.with(&json!({ "n": standard(text("n")).trim_end_matches('=') })),
            RSA.with(
                &json!({ "x5c": ["MIIC"], "x5t": "x", "x5u": "https://id.test", "ext": true }),
            ),
        ];
        let token = RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"rsa"}"#, "{}");
        for key in cases {
            let set = read(std::slice::from_ref(&key)).unwrap();
            assert!(
                UnverifiedToken::parse(&token).unwrap().verify(&set).is_ok(),
                "{key}"
            );
        }
        for n in [
            format!("{}=", text("n")),
            format!("{}\n", text("n")),
            "+-".repeat(200),
        ] {
            assert!(read(&[RSA.with(&json!({ "n": n }))]).is_err(), "{n}");
        }
    }

    #[test]
    fn what_cannot_be_used_leaves_the_rest_of_its_set_in_force() {
        let good = EC256.jwk.clone();
        for odd in [
            json!(1),
            json!(null),
            json!([]),
            json!({ "kty": "oct", "k": "AAAA", "kid": "ec256", "alg": "HS256" }),
            ED.with(&json!({ "d": "AAAA" })),
            RSA.with(&json!({ "kid": 1 })),
            json!({ "kty": "RSA" }),
        ] {
            for keys in [[odd.clone(), good.clone()], [good.clone(), odd.clone()]] {
                let set = read(&keys).unwrap();
                assert_eq!(algorithms(&set), ["ES256"], "{odd}");
                assert_eq!(set.left_out().len(), 1, "{odd}");
            }
        }
    }

    #[test]
    fn keys_are_confused_only_if_they_agree_in_id_and_algorithm() {
        let rs512 = OTHER_RSA.with(&json!({ "alg": "RS512" }));
        let cases: [(&[Value], &[&str]); 7] = [
            // One id for two algorithms, and for both signatures and encryption.
            (&[RSA.jwk.clone(), rs512], &["RS256", "RS512"]),
            (
                &[RSA.jwk.clone(), OTHER_RSA.with(&json!({ "use": "enc" }))],
                &["RS256"],
            ),
            (
                &[RSA.jwk.clone(), EC256.with(&json!({ "kid": "rsa" }))],
                &["RS256", "ES256"],
            ),
            // The same key twice, encoded differently.
            (
                &[
                    RSA.jwk.clone(),
                    RSA.with(&json!({ "alg": null, "use": null, "x5t": "x" })),
                ],
                &["RS256"],
            ),
            // Two different keys, in any order, are both omitted.
            (
                &[OTHER_RSA.jwk.clone(), EC256.jwk.clone(), RSA.jwk.clone()],
                &["ES256"],
            ),
            (
                &[
                    RSA.jwk.clone(),
                    RSA.jwk.clone(),
                    OTHER_RSA.jwk.clone(),
                    EC256.jwk.clone(),
                ],
                &["ES256"],
            ),
            (
                &[
                    RSA.with(&json!({ "kid": null })),
                    OTHER_RSA.with(&json!({ "kid": null })),
                    EC256.jwk.clone(),
                ],
                &["ES256"],
            ),
        ];
        for (keys, expected) in cases {
            assert_eq!(algorithms(&read(keys).unwrap()), expected, "{keys:?}");
        }
    }

    #[test]
    fn an_rsa_key_without_alg_has_the_configured_ones() {
        use Algorithm::{ES256, PS256, RS256, RS384, RS512};
        let key = set(&[RSA.with(&json!({ "alg": null }))]);
        let cases: [(&[Algorithm], &[&str]); 5] = [
            (&[], &["RS256"]),
            (&[RS512], &["RS512"]),
            (&[RS384, PS256, ES256], &["RS384", "PS256"]),
            (&[RS256, ES256], &["RS256"]),
            (&[ES256], &[]),
        ];
        for (allowed, expected) in cases {
            let read = KeySet::from_jwks(&key, allowed);
            let found = read.map(|set| algorithms(&set)).unwrap_or_default();
            assert_eq!(found, expected, "{allowed:?}");
        }
        // A key that declares its algorithm is used with no other.
        let said = set(std::slice::from_ref(&RSA.jwk));
        assert!(KeySet::from_jwks(&said, &[RS512]).is_err());
    }

    #[test]
    fn only_allowed_algorithms_are_taken() {
        let both = set(&[RSA.jwk.clone(), EC256.jwk.clone()]);
        let taken = KeySet::from_jwks(&both, &[Algorithm::ES256, Algorithm::HS256]).unwrap();
        assert_eq!(algorithms(&taken), ["ES256"]);
        assert!(KeySet::from_jwks(&both, &[Algorithm::PS256]).is_err());
        let secret = HS.jwk.to_string();
        assert!(KeySet::from_secret_jwk(&secret, &[Algorithm::HS512]).is_err());
        assert!(KeySet::from_secret_jwk(&secret, &[Algorithm::HS256]).is_ok());
    }

    #[test]
    fn a_set_that_lost_or_changed_a_key_is_told_from_one_that_grew() {
        let older = read(&[EC256.jwk.clone(), RSA.jwk.clone()]).unwrap();
        let cases: [(&[Value], bool); 5] = [
            (&[RSA.jwk.clone(), EC256.jwk.clone()], true),
            (&[EC256.jwk.clone(), ED.jwk.clone(), RSA.jwk.clone()], true),
            (std::slice::from_ref(&EC256.jwk), false),
            (
                &[EC256.jwk.clone(), RSA.with(&json!({ "alg": "PS256" }))],
                false,
            ),
            (
                &[EC256.jwk.clone(), RSA.with(&json!({ "use": "enc" }))],
                false,
            ),
        ];
        for (keys, keeps) in cases {
            assert_eq!(read(keys).unwrap().keeps_all_of(&older), keeps, "{keys:?}");
        }
        assert!(older.has_kid("rsa") && !older.has_kid("RSA"));
    }

    #[test]
    fn a_key_is_found_by_its_id_and_algorithm_together() {
        let set = read(&[
            EC256.jwk.clone(),
            RSA.jwk.clone(),
            RSA.with(&json!({ "kid": "rsa-2" })),
            ED.with(&json!({ "kid": null })),
        ])
        .unwrap();
        let cases = [
            (Some("ec256"), Algorithm::ES256, Some("ec256")),
            (Some("ec256"), Algorithm::RS256, None),
            (Some("rsa"), Algorithm::RS256, Some("rsa")),
            (Some("rsa"), Algorithm::PS256, None),
            (Some("RSA"), Algorithm::RS256, None),
            (Some("rsa "), Algorithm::RS256, None),
            (Some(""), Algorithm::EdDSA, None),
            (None, Algorithm::ES256, Some("ec256")),
            (None, Algorithm::RS256, None),
            (None, Algorithm::HS256, None),
        ];
        for (kid, algorithm, found) in cases {
            let key = set.find(kid, algorithm);
            assert_eq!(
                key.and_then(VerificationKey::kid),
                found,
                "{kid:?} {algorithm:?}"
            );
        }
        assert!(set.find(None, Algorithm::EdDSA).is_some());
    }

    #[test]
    fn secrets_are_long_enough_and_nobody_knows_them() {
        let k = |secret: &[u8]| HS.with(&json!({ "k": part(secret) }));
        let long = "Rk9a-T_2".repeat(4);
        let bad = [
            k(b""),
            k(b"short"),
            k(&[0; 32]),
            k(&[0xff; 64]),
            k(b"0123456789abcdef0123456789abcdef"),
            k(&(0..32).collect::<Vec<u8>>()),
            k(b"super-secret-jwt-token-with-at-least-32-characters-long"),
            k(b"your-256-bit-SECRET-your-256-bit"),
            k(b"please-Change-me-before-going-live"),
            k(b"reallyreallyreallyreallyverysafe"),
            k(b"e6b6935e45ea4fb381e7a0167862788d"),
            k(long.as_bytes()),
            k(&vec![7; 4096]),
            HS.with(&json!({ "alg": "HS384", "k": HS.jwk["k"].as_str().unwrap().chars().take(62).collect::<String>() })),
            HS.with(&json!({ "alg": "RS256" })),
            HS.with(&json!({ "alg": "none" })),
            HS.with(&json!({ "use": "enc" })),
            HS.with(&json!({ "key_ops": ["sign"] })),
            HS.with(&json!({ "k": 1 })),
            HS.with(&json!({ "k": format!("{}=", HS.jwk["k"].as_str().unwrap()) })),
            HS.with(&json!({ "kid": {} })),
            HS.with(&json!({ "kty": "RSA" })),
            RSA.jwk.clone(),
            json!({ "keys": [HS.jwk] }),
        ];
        for key in bad {
            let error = KeySet::from_secret_jwk(&key.to_string(), &[]).unwrap_err();
            let secret = HS.jwk["k"].as_str().unwrap();
            assert!(!error.to_string().contains(secret), "{key}: {error}");
        }
        let mut nulls = HS.jwk.clone();
        for name in ["alg", "use", "key_ops"] {
            nulls[name] = Value::Null;
        }
        assert!(KeySet::from_secret_jwk(&nulls.to_string(), &[]).is_ok());
        for (alg, name) in [
            (json!(null), "HS256"),
            (json!("HS384"), "HS384"),
            (json!("HS512"), "HS512"),
        ] {
            let key = HS.with(&json!({ "alg": alg, "use": "sig", "key_ops": ["sign", "verify"] }));
            let set = KeySet::from_secret_jwk(&key.to_string(), &[]).unwrap();
            assert_eq!(algorithms(&set), [name]);
        }
    }

    #[test]
    fn debug_tells_no_key() {
        let secret = HS.jwk["k"].as_str().unwrap();
        let set = KeySet::from_secret_jwk(&HS.jwk.to_string(), &[]).unwrap();
        let shown = format!("{set:?}");
        assert!(
            shown.contains("HS256") && !shown.contains(secret),
            "{shown}"
        );
        // 0x5a is the first byte of the secret; the library would show a list of bytes.
        assert!(!shown.contains("90"), "{shown}");
    }

    /// Accepted JSON has the same meaning to any reader, each key has an allowed algorithm, a set of public keys has no
    /// secret one, and no output about a document contains a member that makes a key private.
    #[test]
    fn fuzz_keys() {
        doorward_fuzz::check("keys", |bytes| {
            let read = strict_json::object(bytes);
            let Ok(text) = std::str::from_utf8(bytes) else {
                assert_eq!(read, None);
                return;
            };
            let plain: Option<Map<String, Value>> = serde_json::from_str(text).ok();
            if let Some(read) = read {
                assert_eq!(Some(read), plain);
            }
            let document = Value::Object(plain.unwrap_or_default());
            let some = [Algorithm::ES256, Algorithm::PS256];
            for allowed in [&[][..], &some] {
                let set = KeySet::from_jwks(text, allowed);
                assert_shows_no_secret(&document, &format!("{set:?}"));
                let Ok(set) = set else { continue };
                assert!(!set.keys().is_empty() && set.keeps_all_of(&set));
                for key in set.keys() {
                    let algorithm = key.algorithm;
                    assert!(allowed.is_empty() || allowed.contains(&algorithm));
                    assert!(!algorithm.as_str().starts_with("HS"));
                    let found = set.find(key.kid(), algorithm);
                    assert!(found.is_some() || key.kid().is_none());
                }
                let one = KeySet::from_secret_jwk(text, allowed);
                assert!(one.is_err(), "a set is no secret key");
            }
            let one = KeySet::from_secret_jwk(text, &[]);
            assert_shows_no_secret(&document, &format!("{one:?}"));
            if let Ok(one) = one {
                assert!(one.keys()[0].algorithm.as_str().starts_with("HS"));
            }
        });
    }

    /// Asserts that a text contains none of the members that make a key private, except where a key id has the same
    /// text.
    fn assert_shows_no_secret(document: &Value, shown: &str) {
        let keys = document.get("keys").and_then(Value::as_array);
        let shown_members: String = keys
            .into_iter()
            .flatten()
            .chain([document])
            .filter_map(|key| key.get("kid")?.as_str())
            .collect();
        for key in keys.into_iter().flatten().chain([document]) {
            for member in ["k", "d", "p", "q", "dp", "dq", "qi"] {
                let Some(secret) = key.get(member).and_then(Value::as_str) else {
                    continue;
                };
                let is_telling = 12 <= secret.len() && !shown_members.contains(secret);
                assert!(!is_telling || !shown.contains(secret), "{member}");
            }
        }
    }
}
