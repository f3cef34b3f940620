//! Checks of a single JSON web key, since the library accepts almost anything.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::model::algorithm::Algorithm;

/// Members of private and secret keys only.
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];
/// Maximum length of a key id.
pub(crate) const KID_BYTES_MAX: usize = 256;
/// Accepted sizes of an RSA modulus, in bits (RFC 7518 section 3.3; above 8,192 verifying a signature takes too long).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Maximum length of an HMAC secret. More than twice the longest hash adds no security.
const SECRET_BYTES_MAX: usize = 1024;

/// Secrets from standards, manuals and defaults that are long enough to be accepted otherwise.
const PUBLISHED_SECRETS: [&[u8]; 5] = [
    // apicrud's default for Flask.
    b"e6b6935e45ea4fb381e7a0167862788d",
    // FastAPI's tutorial.
    b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    // PostgREST's manual.
    b"reallyreallyreallyreallyverysafe",
    // Hasura's manual.
    b"3EK6FD+o0+c7tzBNVfjpMkNDi2yARAAKzQlk8O2IKoxQu4nF7EdAh8s3TwpHwrdWT6R",
    // RFC 7515, appendix A.1.1.
    &[
        3, 35, 53, 75, 43, 15, 165, 188, 131, 126, 6, 101, 119, 123, 166, 143, 90, 179, 40, 230,
        240, 84, 201, 40, 169, 15, 132, 178, 210, 80, 46, 191, 211, 251, 90, 146, 210, 6, 71, 239,
        150, 138, 180, 195, 119, 98, 61, 34, 61, 46, 33, 114, 5, 46, 79, 8, 192, 205, 154, 245,
        103, 208, 128, 163,
    ],
];
/// Words that show that a secret is not random. A random text practically never contains them.
const HUMAN_WORDS: [&str; 9] = [
    "secret", "password", "change", "replace", "example", "default", "qwerty", "abcdef", "123456",
];

/// The text of a member; an error if it is not a text. A member that is null counts as missing.
fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its {name} is not a string")),
    }
}

/// Base64 with or without padding, in either alphabet, as issuers write the numbers of public keys.
const LENIENT: [GeneralPurpose; 2] = {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [
        GeneralPurpose::new(&alphabet::URL_SAFE, config),
        GeneralPurpose::new(&alphabet::STANDARD, config),
    ]
};

/// The bytes of a member of a public key. RFC 7518 requires base64url without padding, which some issuers do not follow.
fn public_bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    // With padding the length is a multiple of four.
    let is_whole = |text: &&str| !text.contains('=') || text.len().is_multiple_of(4);
    let text = text(jwk, name)?.filter(is_whole);
    let mut engines = LENIENT.iter();
    let read = engines.find_map(|engine| engine.decode(text?).ok());
    read.ok_or_else(|| format!("its {name} is not base64url"))
}

/// Whether a key contains private members. One that is null or empty does not count.
fn is_private(jwk: &Map<String, Value>) -> bool {
    let is_secret = jwk.get("kty").is_some_and(|kty| kty == "oct");
    let is_set = |value: &Value| !value.is_null() && value.as_str() != Some("");
    let mut members = PRIVATE_MEMBERS.iter().filter_map(|name| jwk.get(*name));
    is_secret || members.any(is_set)
}

/// The key id, if the key has one.
pub(crate) fn kid(jwk: &Map<String, Value>) -> Result<Option<&str>, String> {
    match text(jwk, "kid")? {
        Some(kid) if KID_BYTES_MAX < kid.len() => {
            Err(format!("its kid has more than {KID_BYTES_MAX} bytes"))
        }
        kid => Ok(kid),
    }
}

/// Whether `use` and `key_ops` allow the verification of signatures.
fn check_use(jwk: &Map<String, Value>) -> Result<(), String> {
    if text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err("its use is not sig".to_owned());
    }
    match jwk.get("key_ops") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(ops)) if ops.iter().any(|op| op == "verify") => Ok(()),
        Some(_) => Err("its key_ops do not contain verify".to_owned()),
    }
}

/// The algorithm that a key declares, if it does. It must be one of `fitting`.
fn named_algorithm(
    jwk: &Map<String, Value>,
    fitting: &[Algorithm],
) -> Result<Option<Algorithm>, String> {
    let Some(name) = text(jwk, "alg")? else {
        return Ok(None);
    };
    let named = Algorithm::parse(name).filter(|algorithm| fitting.contains(algorithm));
    let wrong = || "its alg is not supported or does not fit its kty and crv".to_owned();
    named.map(Some).ok_or_else(wrong)
}

/// A checked public key.
pub(crate) struct PublicKey {
    /// The key for each of its algorithms: one, unless it declares none and several are configured.
    pub(crate) keys: Vec<(Algorithm, ParsedPublicKey)>,
    /// The canonical bytes of the key, which are equal for equal keys.
    pub(crate) material: Vec<u8>,
}

/// Reads a public key for signatures. The error describes the problem, and contains nothing of the key.
///
/// An RSA key that declares no algorithm has those of RS* and PS* in `allowed`, or RS256 if there are none.
///
/// Sources: RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2, RFC 8725 sections 3.1 and 3.2.
pub(crate) fn public(jwk: &Map<String, Value>, allowed: &[Algorithm]) -> Result<PublicKey, String> {
    if is_private(jwk) {
        return Err("it is a secret in a public key set, so anyone could sign with it".to_owned());
    }
    check_use(jwk)?;
    match text(jwk, "kty")? {
        Some("RSA") => rsa(jwk, allowed),
        Some("EC") => ec(jwk),
        Some("OKP") => okp(jwk),
        _ => Err("its kty is not RSA, EC or OKP".to_owned()),
    }
}

fn rsa(jwk: &Map<String, Value>, allowed: &[Algorithm]) -> Result<PublicKey, String> {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    let fitting = [RS256, RS384, RS512, PS256, PS384, PS512];
    let is_allowed = |algorithm: &Algorithm| allowed.contains(algorithm);
    let mut algorithms: Vec<_> = match named_algorithm(jwk, &fitting)? {
        Some(named) => vec![named],
        None => fitting.into_iter().filter(is_allowed).collect(),
    };
    if algorithms.is_empty() {
        algorithms.push(RS256);
    }
    let (n, e) = (public_bytes(jwk, "n")?, public_bytes(jwk, "e")?);
    let (n, e) = (without_zeros(&n), without_zeros(&e));
    let leading_zeros = n.first().map_or(0, |first| first.leading_zeros());
    let bits = n.len() * 8 - leading_zeros as usize;
    if !RSA_BITS.contains(&bits) {
        let (min, max) = RSA_BITS.into_inner();
        return Err(format!("its modulus has {bits} bits, not {min} to {max}"));
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !is_odd(e) || 4 < e.len() || e == [1] {
        return Err("its exponent is not odd and between 3 and 2^32".to_owned());
    }
    let parsed = |algorithm| {
        let key = RsaPublicKeyComponents { n, e };
        let key = key.to_parsed_public_key(rsa_parameters(algorithm)).ok()?;
        Some((algorithm, key))
    };
    let keys: Option<Vec<_>> = algorithms.into_iter().map(parsed).collect();
    let Some(keys) = keys.filter(|_| is_odd(n)) else {
        return Err("its modulus and exponent are not an RSA key".to_owned());
    };
    Ok(PublicKey {
        keys,
        material: [&[u8::try_from(e.len()).unwrap_or_default()], e, n].concat(),
    })
}

/// The library's name of an RSA algorithm.
fn rsa_parameters(algorithm: Algorithm) -> &'static RsaParameters {
    match algorithm {
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
        _ => &RSA_PKCS1_2048_8192_SHA256,
    }
}

/// A big-endian number without leading zeros, which must not count for its size.
fn without_zeros(mut number: &[u8]) -> &[u8] {
    while let Some((0, rest)) = number.split_first() {
        number = rest;
    }
    number
}

fn ec(jwk: &Map<String, Value>) -> Result<PublicKey, String> {
    let (of_curve, coordinate_bytes, curve): (_, _, &'static dyn VerificationAlgorithm) =
        match text(jwk, "crv")? {
            Some("P-256") => (Algorithm::ES256, 32, &ECDSA_P256_SHA256_FIXED),
            Some("P-384") => (Algorithm::ES384, 48, &ECDSA_P384_SHA384_FIXED),
            _ => return Err("its crv is not P-256 or P-384".to_owned()),
        };
    named_algorithm(jwk, &[of_curve])?;
    let (x, y) = (public_bytes(jwk, "x")?, public_bytes(jwk, "y")?);
    if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
        return Err(format!("its x and y do not have {coordinate_bytes} bytes"));
    }
    // The uncompressed form of a point (SEC 1 section 2.3.3).
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let key = ParsedPublicKey::new(curve, &point)
        .map_err(|_| "its x and y are not a point of its curve".to_owned())?;
    Ok(PublicKey {
        keys: vec![(of_curve, key)],
        material: point,
    })
}

fn okp(jwk: &Map<String, Value>) -> Result<PublicKey, String> {
    if text(jwk, "crv")? != Some("Ed25519") {
        return Err("its crv is not Ed25519".to_owned());
    }
    named_algorithm(jwk, &[Algorithm::EdDSA])?;
    let x = public_bytes(jwk, "x")?;
    let key = ParsedPublicKey::new(&ED25519, x.as_slice()).ok();
    let Some(key) = key.filter(|_| x.len() == 32) else {
        return Err("its x is not an Ed25519 key of 32 bytes".to_owned());
    };
    Ok(PublicKey {
        keys: vec![(Algorithm::EdDSA, key)],
        material: x,
    })
}

/// Reads an HMAC secret. The error describes the problem, and contains nothing of the secret.
///
/// Without `alg` it is HS256. The secret must be at least as long as the hash (RFC 7518 section 3.2).
pub(crate) fn secret(jwk: &Map<String, Value>) -> Result<(Algorithm, hmac::Key), String> {
    use Algorithm::{HS256, HS384, HS512};
    check_use(jwk)?;
    if text(jwk, "kty")? != Some("oct") {
        return Err("its kty is not oct".to_owned());
    }
    let algorithm = named_algorithm(jwk, &[HS256, HS384, HS512])?.unwrap_or(HS256);
    let bytes_min = match algorithm {
        HS384 => 48,
        HS512 => 64,
        _ => 32,
    };
    let secret = text(jwk, "k")?.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let secret = Zeroizing::new(secret.ok_or("its k is not base64url without padding")?);
    if secret.len() < bytes_min {
        return Err(format!(
            "its k has fewer than the {bytes_min} bytes that its algorithm needs"
        ));
    }
    if SECRET_BYTES_MAX < secret.len() {
        return Err(format!("its k has more than {SECRET_BYTES_MAX} bytes"));
    }
    if is_guessable(&secret) {
        return Err("its k is a published or guessable secret".to_owned());
    }
    Ok((algorithm, hmac_key(algorithm, &secret)))
}

/// Creates an HMAC key for one of HS256, HS384 and HS512.
pub(crate) fn hmac_key(algorithm: Algorithm, secret: &[u8]) -> hmac::Key {
    let hash = match algorithm {
        Algorithm::HS384 => hmac::HMAC_SHA384,
        Algorithm::HS512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    hmac::Key::new(hash, secret)
}

/// Whether a secret is long enough but easily guessed.
fn is_guessable(secret: &[u8]) -> bool {
    let distinct: BTreeSet<u8> = secret.iter().copied().collect();
    let repeats = (1..=secret.len() / 2).any(|period| {
        let later = secret.iter().skip(period);
        later.zip(secret).all(|(later, earlier)| later == earlier)
    });
    let steps = secret.iter().zip(secret.iter().skip(1));
    let steps: BTreeSet<u8> = steps.map(|(one, next)| next.wrapping_sub(*one)).collect();
    let is_written_by_hand = std::str::from_utf8(secret).is_ok_and(|text| {
        let text = text.to_ascii_lowercase();
        HUMAN_WORDS.iter().any(|word| text.contains(word))
    });
    distinct.len() <= 8
        || repeats
        || steps.len() == 1
        || is_written_by_hand
        || PUBLISHED_SECRETS.contains(&secret)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the key of RFC 8037 appendix A.2 with additional members.
    fn key(more: &Value) -> Map<String, Value> {
        let mut key = json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        let members = key.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        members.clone()
    }

    #[test]
    fn a_member_that_is_null_is_absent() {
        let cases = [
            (json!({}), Ok(None)),
            (json!({ "kid": null }), Ok(None)),
            (json!({ "kid": "a" }), Ok(Some("a"))),
            (json!({ "kid": "null" }), Ok(Some("null"))),
            (json!({ "kid": 1 }), Err(())),
            (json!({ "kid": [null] }), Err(())),
        ];
        for (more, expected) in cases {
            let key = key(&more);
            assert_eq!(kid(&key).map_err(drop), expected, "{more}");
        }
    }

    #[test]
    fn a_key_is_public_unless_a_private_member_tells_something() {
        let cases = [
            (json!({}), true),
            (json!({ "d": null, "oth": null, "k": null }), true),
            (json!({ "d": "" }), true),
            (json!({ "alg": null, "use": null, "key_ops": null }), true),
            (json!({ "d": "AA" }), false),
            (json!({ "d": " " }), false),
            (json!({ "d": false }), false),
            (json!({ "oth": [] }), false),
            (json!({ "k": "AA" }), false),
            (json!({ "kty": "oct" }), false),
            (json!({ "kty": null }), false),
        ];
        for (more, is_public) in cases {
            let key = key(&more);
            assert_eq!(public(&key, &[]).is_ok(), is_public, "{more}");
        }
    }
}
