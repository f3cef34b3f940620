//! `[tokens]`: the gateway's own tokens.

use std::time::Duration;

use crate::config::reader::{Reader, is_visible};
use crate::model::algorithm::Algorithm;

/// The gateway's own tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Claim `iss`. Default: `public_url`.
    pub issuer: String,
    /// Claim `aud`.
    pub audience: String,
    /// `ES256`, `EdDSA`, `RS256` or `HS256`.
    pub algorithm: Algorithm,
    /// Life of an access token. Default 15 min.
    pub access_ttl: Duration,
    /// Unused that long, a session ends. Default 14 days.
    pub refresh_ttl: Duration,
    /// A session ends after this, used or not. Default 30 days.
    pub absolute_ttl: Duration,
}

/// What an issuer or an audience is.
pub(super) const CLAIM: &str = "1 to 512 visible ASCII characters";
const DAY_S: u64 = 86_400;

/// Takes what claims `iss` and `aud` are compared with, byte for byte.
pub(super) fn claim(text: &str) -> Option<String> {
    is_visible(text, 512).then(|| text.to_owned())
}

pub(super) fn read(mut reader: Reader<'_>, public_url: &str) -> Tokens {
    let algorithms = [
        Algorithm::ES256,
        Algorithm::EdDSA,
        Algorithm::RS256,
        Algorithm::HS256,
    ]
    .map(|algorithm| (algorithm.as_str(), algorithm));
    let mut ttl = |key: &str, default: u64, max: u64| {
        reader
            .seconds(key, 1..=max)
            .unwrap_or(Duration::from_secs(default))
    };
    let access_ttl = ttl("access_ttl_s", 900, DAY_S);
    let refresh_ttl = ttl("refresh_ttl_s", 14 * DAY_S, 366 * DAY_S);
    let absolute_ttl = ttl("absolute_ttl_s", 30 * DAY_S, 366 * DAY_S);
    let tokens = Tokens {
        issuer: reader
            .text("issuer", CLAIM, claim)
            .unwrap_or_else(|| public_url.to_owned()),
        audience: reader
            .text("audience", CLAIM, claim)
            .unwrap_or_else(|| "doorward".to_owned()),
        algorithm: reader
            .choice("algorithm", &algorithms, &[])
            .unwrap_or(Algorithm::ES256),
        access_ttl,
        refresh_ttl,
        absolute_ttl,
    };
    if tokens.absolute_ttl < tokens.refresh_ttl {
        reader.add("absolute_ttl_s", "at least `refresh_ttl_s`");
    }
    reader.finish();
    tokens
}
