//! JSON web tokens: parsed strictly, and verified with a key that is bound to one algorithm.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::crypto::jwk::KID_BYTES_MAX;
use crate::crypto::jwks::KeySet;
use crate::crypto::{digest, strict_json};
use crate::model::account::Digest;
use crate::model::algorithm::Algorithm;
use crate::model::secret::Secret;
use crate::model::token_fault::FaultKind;

/// Maximum length of a token, which is the maximum length of a request's head. The configured limit of heads may be
/// lower.
pub const TOKEN_BYTES_MAX: usize = 1 << 20;

/// Header members that are always refused.
///
/// `crit` names extensions that must be supported, and none beyond RFC 7515 is; `b64` changes the signed bytes;
/// `zip` and `enc` belong to encryption. Members that bring or name a key (`jwk`, `jku`, `x5c`, `x5u`) are neither used
/// nor refused: keys come from the configuration alone, and some issuers write them into every token.
const REFUSED_MEMBERS: [&str; 4] = ["crit", "b64", "zip", "enc"];

/// The reason why a token is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is longer than any request's head.
    #[error("the token is too long")]
    TooLong,
    /// It is not three parts of strict base64url, its parts are not strict JSON objects, or they are too deep.
    #[error("{}", FaultKind::Malformed.text())]
    Malformed,
    /// It has five parts, so it is a JWE.
    #[error("the token is encrypted")]
    Encrypted,
    /// It has `crit`, `b64` or another header that would have to be supported.
    #[error("the token's header has an unsupported parameter: crit, b64, zip or enc")]
    Header,
    /// Its algorithm is not supported.
    #[error("the token's alg is not supported")]
    UnknownAlgorithm,
    /// No key of the issuer has this key id.
    #[error("no usable key of the issuer has the token's kid")]
    NoKey,
    /// The issuer's keys of this key id have other algorithms.
    #[error("the issuer's key with the token's kid is for another alg")]
    OtherAlgorithm,
    /// The token names no key, and the issuer does not have exactly one for its algorithm.
    #[error("the token has no kid, and the issuer does not have exactly one key for its alg")]
    NoKid,
    /// The signature is wrong.
    #[error("the signature does not verify")]
    Signature,
}

/// A parsed token, which is not verified yet.
///
/// Its `Debug` shows nothing, since a token is a credential.
pub struct UnverifiedToken<'a> {
    /// The signed text: header and payload in base64url, with a dot between them.
    signed: &'a str,
    signature: Vec<u8>,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedToken(..)")
    }
}

/// Claims with a verified signature.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// Header `typ`, unchanged.
    pub typ: Option<String>,
    /// The payload, without duplicate members and at most 32 levels deep.
    pub claims: Map<String, Value>,
}

/// A token that this process has signed, so that its signature need not be verified.
#[derive(Debug)]
pub struct SignedToken(Secret);

impl SignedToken {
    /// Takes a token from the key that signed it.
    pub(in crate::crypto) const fn new(text: Secret) -> Self {
        Self(text)
    }

    /// Returns the text, which must never reach a log, an error or a metric.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Returns the SHA-256 digest of the text.
    pub(crate) fn digest(&self) -> Digest {
        digest::digest(self.expose())
    }

    /// Returns what [`UnverifiedToken::verify`] returns for it with the key that signed it.
    pub(crate) fn claims(&self) -> Result<VerifiedToken, JwtError> {
        UnverifiedToken::parse(self.expose()).map(UnverifiedToken::into_claims)
    }
}

impl<'a> UnverifiedToken<'a> {
    /// Parses a compact JWS: strict base64url, strict JSON, no duplicate members, no `crit`. Takes time in proportion to its
    /// length.
    ///
    /// # Errors
    /// [`JwtError::TooLong`], [`JwtError::Malformed`], [`JwtError::Encrypted`] and [`JwtError::Header`].
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        if TOKEN_BYTES_MAX < token.len() {
            return Err(JwtError::TooLong);
        }
        if is_encrypted(token) {
            return Err(JwtError::Encrypted);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        // The alphabet has no dot: a third dot makes the payload malformed.
        let header = read_part(header)?;
        let claims = read_part(claims)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok();
        let signature = signature.filter(|signature| !signature.is_empty());
        let signature = signature.ok_or(JwtError::Malformed)?;
        check_header(&header)?;
        Ok(Self {
            signed,
            signature,
            header,
            claims,
        })
    }

    /// The issuer that it claims, which selects the keys.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// The unverified header, for display.
    #[must_use]
    pub fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// The unverified payload, for display. [`Self::verify`] gives the verified one.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The key id of the header.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// Verifies the signature with the key that the header `kid` names, and with that key's own algorithm.
    ///
    /// # Errors
    /// [`JwtError::UnknownAlgorithm`], [`JwtError::NoKey`], [`JwtError::OtherAlgorithm`], [`JwtError::NoKid`] and
    /// [`JwtError::Signature`].
    pub fn verify(self, keys: &KeySet) -> Result<VerifiedToken, JwtError> {
        let algorithm = self.header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm.and_then(Algorithm::parse);
        let algorithm = algorithm.ok_or(JwtError::UnknownAlgorithm)?;
        let found = keys.find(self.kid(), algorithm);
        let key = found.ok_or_else(|| match self.kid() {
            None => JwtError::NoKid,
            Some(kid) if keys.has_kid(kid) => JwtError::OtherAlgorithm,
            Some(_) => JwtError::NoKey,
        })?;
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(JwtError::Signature);
        }
        Ok(self.into_claims())
    }

    /// Returns the header `typ` and the payload of a token whose signature is known to be right.
    fn into_claims(self) -> VerifiedToken {
        let typ = self.header.get("typ").and_then(Value::as_str);
        VerifiedToken {
            typ: typ.map(str::to_owned),
            claims: self.claims,
        }
    }
}

/// Whether it is a JWE (RFC 7516 section 9): it has five parts, and a header with the encryption of the content.
fn is_encrypted(token: &str) -> bool {
    let mut parts = token.split('.');
    let header = parts.next().unwrap_or_default();
    parts.count() == 4 && read_part(header).is_ok_and(|header| header.contains_key("enc"))
}

/// Parses one part: base64url without padding and stray bits, which holds one strict JSON object.
fn read_part(part: &str) -> Result<Map<String, Value>, JwtError> {
    let text = URL_SAFE_NO_PAD.decode(part).ok();
    text.and_then(|text| strict_json::object(&text))
        .ok_or(JwtError::Malformed)
}

/// Checks the form of the header. The algorithm is checked against the key when the signature is verified.
fn check_header(header: &Map<String, Value>) -> Result<(), JwtError> {
    if REFUSED_MEMBERS
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return Err(JwtError::Header);
    }
    let algorithm_fits = header.get("alg").is_some_and(Value::is_string);
    let typ_fits = header.get("typ").is_none_or(Value::is_string);
    let is_short = |kid: &str| kid.len() <= KID_BYTES_MAX;
    let kid = header.get("kid");
    let kid_fits = kid.is_none_or(|kid| kid.as_str().is_some_and(is_short));
    let fits = algorithm_fits && typ_fits && kid_fits;
    fits.then_some(()).ok_or(JwtError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::crypto::test_keys::{EC256, EC384, ED, HS, RSA, TestKey, part, set};

    const CLAIMS: &str = r#"{"iss":"https://issuer.test","sub":"anna"}"#;

    /// Returns one key of each kind; HMAC keys are read from another document, so they are a separate set.
    fn public_keys() -> KeySet {
        let keys = [&RSA.jwk, &EC256.jwk, &EC384.jwk, &ED.jwk].map(Clone::clone);
        let ps = RSA.with(&json!({ "kid": "ps", "alg": "PS256" }));
        KeySet::from_jwks(&set(&[&keys[..], &[ps]].concat()), &[]).unwrap()
    }

    fn hmac_keys() -> KeySet {
        KeySet::from_secret_jwk(&HS.jwk.to_string(), &[]).unwrap()
    }

    fn verify(token: &str, keys: &KeySet) -> Result<VerifiedToken, JwtError> {
        UnverifiedToken::parse(token)?.verify(keys)
    }

    fn header(algorithm: Algorithm, kid: &str) -> String {
        json!({ "alg": algorithm.as_str(), "kid": kid, "typ": "at+jwt" }).to_string()
    }

    #[test]
    fn a_token_of_each_algorithm_verifies_and_none_that_was_touched() {
        let cases: [(Algorithm, &str, &TestKey, KeySet); 6] = [
            (Algorithm::RS256, "rsa", &RSA, public_keys()),
            (Algorithm::PS256, "ps", &RSA, public_keys()),
            (Algorithm::ES256, "ec256", &EC256, public_keys()),
            (Algorithm::ES384, "ec384", &EC384, public_keys()),
            (Algorithm::EdDSA, "ed", &ED, public_keys()),
            (Algorithm::HS256, "hs", &HS, hmac_keys()),
        ];
        for (algorithm, kid, key, keys) in cases {
            let header = header(algorithm, kid);
            let token = key.token(algorithm, &header, CLAIMS);
            let parsed = UnverifiedToken::parse(&token).unwrap();
            assert_eq!(parsed.issuer(), Some("https://issuer.test"));
            let verified = parsed.verify(&keys).unwrap();
            assert_eq!(verified.typ.as_deref(), Some("at+jwt"));
            assert_eq!(verified.claims["sub"], "anna");

            let (signed, signature) = token.rsplit_once('.').unwrap();
            let forged = format!("{}.{}", part(&header), part(CLAIMS.replace("anna", "otto")));
            let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let shorter = &bytes[..bytes.len() - 1];
            let mut flipped = bytes.clone();
            flipped[10] ^= 1;
            let wrong = [
                format!("{forged}.{signature}"),
                format!("{signed}.{}", part(vec![0; bytes.len()])),
                format!("{signed}.{}", part(vec![0xff; bytes.len()])),
                format!("{signed}.{}", part(shorter)),
                format!("{signed}.{}", part([&[0], bytes.as_slice()].concat())),
                format!("{signed}.{}", part([bytes.as_slice(), &[0]].concat())),
                format!("{signed}.{}", part(&flipped)),
                format!("{signed}.{}", part([1])),
            ];
            for token in wrong {
                assert_eq!(
                    verify(&token, &keys).unwrap_err(),
                    JwtError::Signature,
                    "{algorithm:?} {token}"
                );
            }
        }
    }

    #[test]
    fn a_der_signature_is_none() {
        let signed = format!(
            "{}.{}",
            part(header(Algorithm::ES256, "ec256")),
            part(CLAIMS)
        );
        let signature = URL_SAFE_NO_PAD
            .decode(EC256.sign(Algorithm::ES256, &signed))
            .unwrap();
        let integer = |half: &[u8]| {
            let mut der = vec![2, 33, 0];
            der.extend_from_slice(half);
            der
        };
        let body = [integer(&signature[..32]), integer(&signature[32..])].concat();
        let der = [vec![0x30, 70], body].concat();
        let token = format!("{signed}.{}", part(der));
        assert_eq!(
            verify(&token, &public_keys()).unwrap_err(),
            JwtError::Signature
        );
    }

    #[test]
    fn the_key_chooses_the_algorithm() {
        let public = public_keys();
        let n = URL_SAFE_NO_PAD
            .decode(RSA.jwk["n"].as_str().unwrap())
            .unwrap();
        let confused = |secret: &[u8], kid: &str| {
            let header = header(Algorithm::HS256, kid);
            let key = jsonwebtoken::EncodingKey::from_secret(secret);
            let signed = format!("{}.{}", part(header), part(CLAIMS));
            let hs256 = jsonwebtoken::Algorithm::HS256;
            let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, hs256).unwrap();
            format!("{signed}.{signature}")
        };
        let cases = [
            // A public key as an HMAC secret.
            (confused(&n, "rsa"), JwtError::OtherAlgorithm),
            (
                confused(RSA.jwk.to_string().as_bytes(), "rsa"),
                JwtError::OtherAlgorithm,
            ),
            (confused(b"", "ec256"), JwtError::OtherAlgorithm),
            // Another algorithm of the same family.
            (
                RSA.token(Algorithm::PS256, &header(Algorithm::PS256, "rsa"), CLAIMS),
                JwtError::OtherAlgorithm,
            ),
            (
                RSA.token(Algorithm::RS512, &header(Algorithm::RS512, "rsa"), CLAIMS),
                JwtError::OtherAlgorithm,
            ),
            (
                RSA.token(Algorithm::RS256, &header(Algorithm::RS256, "ps"), CLAIMS),
                JwtError::OtherAlgorithm,
            ),
            // The header names one algorithm, the signature uses another.
            (
                RSA.token(Algorithm::RS256, &header(Algorithm::PS256, "ps"), CLAIMS),
                JwtError::Signature,
            ),
            (
                RSA.token(Algorithm::PS256, &header(Algorithm::RS256, "rsa"), CLAIMS),
                JwtError::Signature,
            ),
            // The id of another key.
            (
                EC256.token(Algorithm::ES256, &header(Algorithm::ES256, "ed"), CLAIMS),
                JwtError::OtherAlgorithm,
            ),
            (
                EC256.token(
                    Algorithm::ES256,
                    &header(Algorithm::ES256, "nobody"),
                    CLAIMS,
                ),
                JwtError::NoKey,
            ),
            (
                EC256.token(Algorithm::ES256, &header(Algorithm::ES256, ""), CLAIMS),
                JwtError::NoKey,
            ),
            (
                EC256.token(Algorithm::ES256, r#"{"alg":"RS256","kid":"rsa"}"#, CLAIMS),
                JwtError::Signature,
            ),
        ];
        for (token, error) in cases {
            assert_eq!(verify(&token, &public).unwrap_err(), error, "{token}");
        }
        let longer = HS.token(Algorithm::HS512, &header(Algorithm::HS512, "hs"), CLAIMS);
        assert_eq!(
            verify(&longer, &hmac_keys()).unwrap_err(),
            JwtError::OtherAlgorithm
        );
        let nameless = EC256.token(Algorithm::ES256, r#"{"alg":"ES256"}"#, CLAIMS);
        assert!(verify(&nameless, &public).is_ok(), "the only ES256 key");
    }

    #[test]
    fn headers_that_ask_for_more_are_refused() {
        let algorithm = Algorithm::HS256;
        for member in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""crit":null"#,
            r#""b64":true"#,
            r#""b64":false"#,
            r#""zip":"DEF""#,
            r#""enc":"A256GCM""#,
            r#""cri\u0074":["exp"]"#,
        ] {
            let header = format!(r#"{{"alg":"HS256","kid":"hs",{member}}}"#);
            let token = HS.token(algorithm, &header, CLAIMS);
            let error = verify(&token, &hmac_keys()).unwrap_err();
            assert_eq!(error, JwtError::Header, "{header}");
        }
    }

    #[test]
    fn header_members_have_their_form() {
        let algorithm = Algorithm::HS256;
        for (header, error) in [
            (r"{}", JwtError::Malformed),
            (r#"{"alg":null,"kid":"hs"}"#, JwtError::Malformed),
            (r#"{"alg":["HS256"],"kid":"hs"}"#, JwtError::Malformed),
            (r#"{"alg":0,"kid":"hs"}"#, JwtError::Malformed),
            (r#"{"alg":"none","kid":"hs"}"#, JwtError::UnknownAlgorithm),
            (r#"{"alg":"None"}"#, JwtError::UnknownAlgorithm),
            (r#"{"alg":"","kid":"hs"}"#, JwtError::UnknownAlgorithm),
            (r#"{"alg":"hs256","kid":"hs"}"#, JwtError::UnknownAlgorithm),
            (r#"{"alg":"HS256 ","kid":"hs"}"#, JwtError::UnknownAlgorithm),
            (
                r#"{"alg":"HS256\u0000","kid":"hs"}"#,
                JwtError::UnknownAlgorithm,
            ),
            (r#"{"alg":"HS256","kid":["hs"]}"#, JwtError::Malformed),
            (r#"{"alg":"HS256","kid":null}"#, JwtError::Malformed),
            (r#"{"alg":"HS256","kid":"hs","typ":1}"#, JwtError::Malformed),
            (
                r#"{"alg":"HS256","kid":"hs","kid":"hs"}"#,
                JwtError::Malformed,
            ),
            (
                r#"{"alg":"none","\u0061lg":"HS256","kid":"hs"}"#,
                JwtError::Malformed,
            ),
        ] {
            let token = HS.token(algorithm, header, CLAIMS);
            assert_eq!(verify(&token, &hmac_keys()).unwrap_err(), error, "{header}");
        }
        for header in [
            r#"{"alg":"HS256"}"#,
            "{ \"alg\" : \"HS256\" ,\r\n\t\"kid\":\"hs\" }",
            r#"{"\u0061lg":"HS\u0032\u0035\u0036","kid":"h\u0073"}"#,
            r#"{"alg":"HS256","kid":"hs","x5t":"AAAA","cty":"JWT","nonce":"1"}"#,
        ] {
            let token = HS.token(algorithm, header, CLAIMS);
            assert!(verify(&token, &hmac_keys()).is_ok(), "{header}");
        }
    }

    #[test]
    fn only_three_parts_of_strict_base64url_are_taken() {
        let good = HS.token(Algorithm::HS256, &header(Algorithm::HS256, "hs"), CLAIMS);
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (head, claims) = signed.split_once('.').unwrap();
        let last = signature.chars().last().unwrap();
        // 43 characters hold 258 bits: the last two must be zero, and the next letter sets one of them.
        let stray = char::from_u32(u32::from(last) + 1).unwrap();
        let unsigned = format!("{}.{claims}", part(r#"{"alg":"none"}"#));
        let cases = [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "...".to_owned(),
            "a.b.c".to_owned(),
            signed.to_owned(),
            format!("{signed}."),
            format!("{unsigned}."),
            unsigned,
            format!(".{claims}.{signature}"),
            format!("{head}..{signature}"),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.{signature}"),
            format!("{head}.{claims}.{claims}.{claims}.{signature}"),
            format!("{head}.{claims}..{signature}"),
            format!("{head}=.{claims}.{signature}"),
            format!("{good}="),
            format!("{good} "),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good}\0"),
            format!("{head} .{claims}.{signature}"),
            format!("{head}.{claims}.+{}", signature.split_at(1).1),
            format!(
                "{head}.{claims}.{}",
                signature.strip_suffix(last).unwrap().to_owned() + &stray.to_string()
            ),
            good.replace('.', "\u{3002}"),
            good.replace('.', "%2e"),
            format!("{good},{good}"),
            format!("{}.{claims}.{signature}", part(r#"["HS256"]"#)),
            format!("{}.{claims}.{signature}", part("1")),
            format!("{}.{claims}.{signature}", part("")),
        ];
        for token in cases {
            let error = verify(&token, &hmac_keys()).unwrap_err();
            assert_eq!(error, JwtError::Malformed, "{token}");
        }
    }

    #[test]
    fn the_payload_is_one_strict_object() {
        for payload in [
            "",
            "1",
            &format!("[{CLAIMS}]"),
            &format!("{CLAIMS}{CLAIMS}"),
            r#"{"exp":1e400}"#,
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"realm":{"roles":[],"roles":["admin"]}}"#,
        ] {
            let header = header(Algorithm::HS256, "hs");
            let token = HS.token(Algorithm::HS256, &header, payload);
            let error = verify(&token, &hmac_keys()).unwrap_err();
            assert_eq!(error, JwtError::Malformed, "{payload}");
        }
    }

    #[test]
    fn a_token_may_be_as_long_as_a_head_and_is_read_in_linear_time() {
        let header = header(Algorithm::HS256, "hs");
        let token = |length: usize| {
            let payload = format!(r#"{{"a":"{}"}}"#, "x".repeat(length));
            HS.token(Algorithm::HS256, &header, &payload)
        };
        for length in [8192, 32 * 1024, 500 * 1024] {
            assert!(verify(&token(length), &hmac_keys()).is_ok(), "{length}");
        }
        let error = verify(&token(TOKEN_BYTES_MAX), &hmac_keys()).unwrap_err();
        assert_eq!(error, JwtError::TooLong);
    }

    #[test]
    fn an_encrypted_token_is_told_from_a_broken_one() {
        let header = part(r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"hs"}"#);
        let encrypted = format!("{header}.AAAA.AAAA.AAAA.AAAA");
        let error = verify(&encrypted, &hmac_keys()).unwrap_err();
        assert_eq!(error, JwtError::Encrypted);
    }

    #[test]
    fn members_that_bring_or_name_keys_are_neither_used_nor_refused() {
        let mut header: Value = serde_json::from_str(&header(Algorithm::ES256, "ec256")).unwrap();
        header["jku"] = json!("https://uaa.test/token_keys");
        header["x5u"] = json!("https://evil.test/x");
        header["x5c"] = json!(["MIIC"]);
        header["x5t#S256"] = json!("x");
        header["jwk"] = EC384.jwk.clone();
        let header = header.to_string();
        let good = EC256.token(Algorithm::ES256, &header, CLAIMS);
        assert!(verify(&good, &public_keys()).is_ok());
        // The key in the header is not used for verification.
        let forged = EC384.token(Algorithm::ES384, &header, CLAIMS);
        let error = verify(&forged, &public_keys()).unwrap_err();
        assert_eq!(error, JwtError::Signature);
    }

    #[test]
    fn debug_and_errors_tell_nothing_of_a_token() {
        let token = HS.token(Algorithm::HS256, &header(Algorithm::HS256, "hs"), CLAIMS);
        let parsed = UnverifiedToken::parse(&token).unwrap();
        assert_eq!(format!("{parsed:?}"), "UnverifiedToken(..)");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_without_harm(text in "[A-Za-z0-9_.{}\":-]{0,200}|.{0,100}") {
            let _ = UnverifiedToken::parse(&text);
        }
    }
}
