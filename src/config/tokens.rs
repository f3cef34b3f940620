//! `[tokens]`: the gateway's own tokens.

use std::time::Duration;

use crate::config::forms::{choice, is_visible, seconds, text};
use crate::config::keys::keys;
use crate::config::reader::SectionReader;
use crate::model::algorithm::Algorithm;

const DAY_S: u64 = 86_400;
const ALGORITHMS: &[(&str, Algorithm)] = &[
    (Algorithm::ES256.as_str(), Algorithm::ES256),
    (Algorithm::EdDSA.as_str(), Algorithm::EdDSA),
    (Algorithm::RS256.as_str(), Algorithm::RS256),
    (Algorithm::HS256.as_str(), Algorithm::HS256),
];

keys! { pub(super) TokenKeys = "tokens"; {
    /// Claims iss and aud of the gateway's own tokens. Default of the issuer: public_url.
    issuer: String = text(CLAIM, claim);
    audience: String = text(CLAIM, claim) => "doorward".to_owned();
    /// ES256, EdDSA, RS256 or HS256.
    algorithm: Algorithm = choice(ALGORITHMS, &[]) => Algorithm::ES256, restart tokens.algorithm;
    /// Life of an access token; life of a session that is not used; life of a session at most.
    access_ttl_s: Duration = seconds(1..=DAY_S) => Duration::from_mins(15);
    refresh_ttl_s: Duration = seconds(1..=366 * DAY_S) => Duration::from_hours(14 * 24);
    absolute_ttl_s: Duration = seconds(1..=366 * DAY_S) => Duration::from_hours(30 * 24);
}}

/// The gateway's own tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Claim `iss`.
    pub issuer: String,
    /// Claim `aud`.
    pub audience: String,
    /// The algorithm: `ES256`, `EdDSA`, `RS256` or `HS256`.
    pub algorithm: Algorithm,
    /// Life of an access token.
    pub access_ttl: Duration,
    /// Idle time after which a session ends.
    pub refresh_ttl: Duration,
    /// Maximum life of a session.
    pub absolute_ttl: Duration,
}

/// The expectation that is reported for an issuer or an audience.
pub(super) const CLAIM: &str = "1 to 512 visible ASCII characters";

/// Reads a value of the claims `iss` and `aud`, which are compared byte for byte.
pub(super) fn claim(text: &str) -> Option<String> {
    is_visible(text, 512).then(|| text.to_owned())
}

pub(super) fn read(mut reader: SectionReader<'_>, public_url: &str) -> Tokens {
    let tokens = Tokens {
        access_ttl: reader.get(&TokenKeys::access_ttl_s),
        refresh_ttl: reader.get(&TokenKeys::refresh_ttl_s),
        absolute_ttl: reader.get(&TokenKeys::absolute_ttl_s),
        issuer: reader
            .take(&TokenKeys::issuer)
            .unwrap_or_else(|| public_url.to_owned()),
        audience: reader.get(&TokenKeys::audience),
        algorithm: reader.get(&TokenKeys::algorithm),
    };
    if tokens.absolute_ttl < tokens.refresh_ttl {
        reader.add(&TokenKeys::absolute_ttl_s, "at least `refresh_ttl_s`");
    }
    reader.finish();
    tokens
}
