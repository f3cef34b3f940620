//! Checks of registered claims, one by one: the library is too lenient.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::claim_path::ClaimPath;
use crate::model::clock::Timestamp;
use crate::model::token_fault::{FaultKind, TokenFault, shown};

/// Largest number of seconds accepted as a time: the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// The expected values of a token's registered claims.
pub(super) struct ExpectedClaims<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a [String],
    /// Claims that may hold the audience: the first that is present decides. Empty: `aud`.
    pub(super) audience_claims: &'a [ClaimPath],
    pub(super) leeway: Duration,
    /// Clock difference allowed at `exp`; zero for own tokens.
    pub(super) expiry_leeway: Duration,
    pub(super) now: Timestamp,
}

impl ExpectedClaims<'_> {
    /// Checks `iss`, the audience, `cnf`, `exp`, `nbf`, `iat` (RFC 7519 section 4.1, RFC 7800), and returns the time
    /// from which the token is expired.
    pub(super) fn check(&self, claims: &Map<String, Value>) -> Result<Timestamp, TokenFault> {
        let until = self.check_unbounded(claims)?;
        until.ok_or_else(|| FaultKind::ClaimMissing.with("exp"))
    }

    /// Checks the same for claims that may have no expiry.
    pub(super) fn check_unbounded(
        &self,
        claims: &Map<String, Value>,
    ) -> Result<Option<Timestamp>, TokenFault> {
        if text(claims, "iss") != Some(self.issuer) {
            return Err(FaultKind::IssuerUnknown.into());
        }
        // INVARIANT: a sender-bound token is never accepted as a bearer token (tests/it/foreign.rs).
        if claims.contains_key("cnf") {
            return Err(FaultKind::SenderBound.into());
        }
        self.check_audience(claims)?;
        let expires = time(claims, "exp")?;
        let not_before = time(claims, "nbf")?;
        let issued = time(claims, "iat")?;
        let latest = self.now.plus(self.leeway);
        let is_early = |at: Option<Timestamp>| at.is_some_and(|at| latest < at);
        if is_early(not_before) {
            return Err(FaultKind::NotYetValid.with("nbf"));
        }
        if is_early(issued) {
            return Err(FaultKind::NotYetValid.with("iat"));
        }
        if not_before.zip(expires).is_some_and(|(from, to)| to <= from) {
            return Err(FaultKind::ClaimInvalid.with("exp is not after nbf"));
        }
        let until = expires.map(|expires| expires.plus(self.expiry_leeway));
        if until.is_none_or(|until| self.now < until) {
            Ok(until)
        } else {
            Err(FaultKind::Expired.into())
        }
    }

    /// Checks the audience. The first audience claim that is present decides: a text, or an array of texts only, with
    /// one of the expected audiences, byte for byte.
    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenFault> {
        let mut configured = self.audience_claims.iter();
        let found = if self.audience_claims.is_empty() {
            claims.get("aud").map(|value| ("aud", value))
        } else {
            configured.find_map(|path| Some((path.as_str(), path.find(claims)?)))
        };
        let Some((name, claim)) = found else {
            let mut names: Vec<_> = self.audience_claims.iter().map(ClaimPath::as_str).collect();
            if names.is_empty() {
                names.push("aud");
            }
            let names = names.join(", ");
            return Err(FaultKind::ClaimMissing.with(format!("{names} (the audience)")));
        };
        let texts: Option<Vec<_>> = match claim {
            Value::String(text) => Some(vec![text.as_str()]),
            Value::Array(values) => values.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let Some(texts) = texts else {
            return Err(FaultKind::ClaimInvalid.with(format!(
                "{name} is neither a string nor an array of strings"
            )));
        };
        let is_ours = |have: &&str| self.audience.iter().any(|want| want == have);
        if texts.iter().any(is_ours) {
            return Ok(());
        }
        let found: Vec<_> = texts.iter().take(4).map(|text| shown(text)).collect();
        Err(FaultKind::Audience.with(format!(
            "{name} is {}, expected one of {}",
            if found.is_empty() {
                "empty".to_owned()
            } else {
                found.join(", ")
            },
            self.audience.join(", ")
        )))
    }
}

/// Returns a claim that is a text.
pub(super) fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

/// Returns a `NumericDate`: a finite number of seconds from 0 on; a fraction is truncated.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, TokenFault> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let wrong = || {
        FaultKind::ClaimInvalid.with(format!(
            "{name} is not a number of seconds since 1970, up to the year 9999"
        ))
    };
    let seconds = value.as_f64().ok_or_else(wrong)?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(wrong());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded just above, and the fraction is not wanted"
    )]
    let seconds = seconds as i64;
    Ok(Some(Timestamp::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_in(claims: &Value, audience_claims: &[&str]) -> Result<Timestamp, FaultKind> {
        let audience = ["api".to_owned()];
        let audience_claims: Vec<_> = audience_claims
            .iter()
            .map(|text| ClaimPath::parse(text).unwrap())
            .collect();
        let expected = ExpectedClaims {
            issuer: "https://id.test",
            audience: &audience,
            audience_claims: &audience_claims,
            leeway: Duration::from_secs(30),
            expiry_leeway: Duration::from_secs(30),
            now: Timestamp::from_secs(1_000_000),
        };
        let checked = expected.check(claims.as_object().unwrap());
        checked.map_err(|fault| fault.kind)
    }

    fn check(claims: &Value) -> Result<Timestamp, FaultKind> {
        check_in(claims, &[])
    }

    #[test]
    fn good_claims_pass() {
        let good = [
            json!({"iss": "https://id.test", "aud": "api", "exp": 1_000_060}),
            json!({"iss": "https://id.test", "aud": ["x", "api"], "exp": 1_000_060.5, "nbf": 1_000_030, "iat": 999_000}),
            json!({"iss": "https://id.test", "aud": "api", "exp": 999_971}),
        ];
        for claims in good {
            assert!(check(&claims).is_ok(), "{claims}");
        }
        assert_eq!(
            check(&json!({"iss": "https://id.test", "aud": "api", "exp": 1_000_060})),
            Ok(Timestamp::from_secs(1_000_090))
        );
    }

    #[test]
    fn rfc7519_4_1_each_registered_claim_is_held_to_its_rule() {
        use FaultKind::{
            Audience, ClaimInvalid, ClaimMissing, Expired, IssuerUnknown, NotYetValid, SenderBound,
        };
        let base = json!({"iss": "https://id.test", "aud": "api", "exp": 1_000_060});
        let wrong = [
            ("iss", json!(null), IssuerUnknown),
            ("iss", json!("https://id.test/"), IssuerUnknown),
            ("iss", json!(["https://id.test"]), IssuerUnknown),
            ("aud", json!(null), ClaimInvalid),
            ("aud", json!("API"), Audience),
            ("aud", json!("api "), Audience),
            ("aud", json!("api,x"), Audience),
            ("aud", json!([]), Audience),
            ("aud", json!([["api"]]), ClaimInvalid),
            ("aud", json!(["api", 1]), ClaimInvalid),
            ("aud", json!(true), ClaimInvalid),
            ("exp", json!(null), ClaimInvalid),
            ("exp", json!("1000060"), ClaimInvalid),
            ("exp", json!([1_000_060]), ClaimInvalid),
            ("exp", json!(-1), ClaimInvalid),
            ("exp", json!(1e15), ClaimInvalid),
            ("exp", json!(999_970), Expired),
            ("nbf", json!(1_000_031), NotYetValid),
            ("nbf", json!("1"), ClaimInvalid),
            ("nbf", json!(-1), ClaimInvalid),
            ("iat", json!(1_000_031), NotYetValid),
            ("iat", json!("x"), ClaimInvalid),
            ("cnf", json!({"jkt": "x"}), SenderBound),
            ("cnf", json!({}), SenderBound),
            ("cnf", json!("x"), SenderBound),
        ];
        for (name, value, kind) in wrong {
            let mut claims = base.clone();
            claims[name] = value;
            assert_eq!(check(&claims), Err(kind), "{claims}");
        }
        for (name, kind) in [
            ("iss", IssuerUnknown),
            ("aud", ClaimMissing),
            ("exp", ClaimMissing),
        ] {
            let mut claims = base.clone();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(check(&claims), Err(kind), "without {name}");
        }
    }

    #[test]
    fn the_first_audience_claim_that_is_present_decides_alone() {
        use FaultKind::{Audience, ClaimInvalid, ClaimMissing};
        let cases = [
            (json!({"aud": "api"}), Ok(())),
            (json!({"client_id": "api"}), Ok(())),
            (json!({"azp": "api"}), Ok(())),
            (json!({"aud": "api", "client_id": "x"}), Ok(())),
            (json!({"aud": "x", "client_id": "api"}), Err(Audience)),
            (json!({"aud": [], "client_id": "api"}), Err(Audience)),
            (json!({"aud": null, "client_id": "api"}), Err(ClaimInvalid)),
            (json!({"client_id": 7, "azp": "api"}), Err(ClaimInvalid)),
            (json!({"client_id": "x", "azp": "api"}), Err(Audience)),
            (json!({"cid": "api"}), Err(ClaimMissing)),
        ];
        for (claims, expected) in cases {
            let mut all = json!({"iss": "https://id.test", "exp": 1_000_060});
            let members = all.as_object_mut().unwrap();
            members.append(&mut claims.as_object().unwrap().clone());
            let found = check_in(&all, &["aud", "client_id", "azp"]);
            assert_eq!(found.map(|_| ()), expected, "{claims}");
        }
    }
}
