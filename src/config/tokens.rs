//! `[tokens]`: the gateway's own tokens.

use std::time::Duration;

use crate::config::forms::{choice, seconds, text, visible};
use crate::config::reader::SectionReader;
use crate::config::settings::settings;
use crate::model::algorithm::Algorithm;

const DAY_S: u64 = 86_400;
const ALGORITHMS: &[(&str, Algorithm)] = &[
    (Algorithm::ES256.as_str(), Algorithm::ES256),
    (Algorithm::EdDSA.as_str(), Algorithm::EdDSA),
    (Algorithm::RS256.as_str(), Algorithm::RS256),
    (Algorithm::HS256.as_str(), Algorithm::HS256),
];

settings! {
/// The gateway's own tokens.
pub struct Tokens {
    /// Claim `iss`.
    issuer: String,
}
TokenKeys = "tokens"; {
    /// Claims iss and aud of the gateway's own tokens. The issuer is public_url by default.
    issuer: String = text(CLAIM, visible::<512>);
    audience: String = text(CLAIM, visible::<512>) => "doorward".to_owned();
    /// ES256, EdDSA, RS256 or HS256.
    algorithm: Algorithm = choice(ALGORITHMS, &[]) => Algorithm::ES256, restart tokens.algorithm;
    /// Life of an access token, idle time after which a session ends, and maximum life of a session.
    access_ttl_s: Duration = seconds(1..=DAY_S) => Duration::from_mins(15), as access_ttl;
    refresh_ttl_s: Duration = seconds(1..=366 * DAY_S) => Duration::from_hours(14 * 24), as refresh_ttl;
    absolute_ttl_s: Duration = seconds(1..=366 * DAY_S) => Duration::from_hours(30 * 24), as absolute_ttl;
}}

/// The expectation that is reported for an issuer or an audience, which are compared byte for byte.
pub(super) const CLAIM: &str = "1 to 512 visible ASCII characters";

pub(super) fn read(reader: &mut SectionReader<'_>, public_url: &str) -> Tokens {
    let issuer = reader
        .take(&TokenKeys::issuer)
        .unwrap_or_else(|| public_url.to_owned());
    let tokens = Tokens::read(reader, issuer);
    if tokens.absolute_ttl < tokens.refresh_ttl {
        reader.add(&TokenKeys::absolute_ttl_s, "at least `refresh_ttl_s`");
    }
    tokens
}
