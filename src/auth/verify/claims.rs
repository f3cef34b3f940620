//! Registered claims, checked one by one: the library lets too much through.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;

/// Largest number of seconds taken for a point in time: the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// What the registered claims of a token must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a [String],
    pub(super) leeway: Duration,
    /// Clock difference allowed at `exp`; ours have none.
    pub(super) expiry_leeway: Duration,
    pub(super) now: Timestamp,
}

impl Expected<'_> {
    /// Checks `iss`, `aud`, `exp`, `nbf`, `iat` (RFC 7519 section 4.1) and gives the moment from which the token is void.
    pub(super) fn check(&self, claims: &Map<String, Value>) -> Result<Timestamp, DenyReason> {
        let until = self.check_unbounded(claims)?;
        until.ok_or(DenyReason::BearerInvalid)
    }

    /// The same for claims that may be without an end.
    pub(super) fn check_unbounded(
        &self,
        claims: &Map<String, Value>,
    ) -> Result<Option<Timestamp>, DenyReason> {
        let has_issuer = text(claims, "iss") == Some(self.issuer);
        if !has_issuer || !self.has_audience(claims.get("aud")) {
            return Err(DenyReason::BearerInvalid);
        }
        let expires = time(claims, "exp")?;
        let not_before = time(claims, "nbf")?;
        let issued = time(claims, "iat")?;
        let latest = self.now.plus(self.leeway);
        let is_early = |at: Option<Timestamp>| at.is_some_and(|at| latest < at);
        let is_never = not_before.zip(expires).is_some_and(|(from, to)| to <= from);
        if is_early(not_before) || is_early(issued) || is_never {
            return Err(DenyReason::BearerInvalid);
        }
        let until = expires.map(|expires| expires.plus(self.expiry_leeway));
        if until.is_none_or(|until| self.now < until) {
            Ok(until)
        } else {
            Err(DenyReason::BearerExpired)
        }
    }

    /// A string, or an array of nothing but strings, that holds one of ours byte for byte.
    fn has_audience(&self, claim: Option<&Value>) -> bool {
        let is_ours = |value: &Value| {
            value
                .as_str()
                .is_some_and(|have| self.audience.iter().any(|want| want == have))
        };
        match claim {
            Some(value @ Value::String(_)) => is_ours(value),
            Some(Value::Array(values)) => {
                values.iter().all(Value::is_string) && values.iter().any(is_ours)
            }
            _ => false,
        }
    }
}

/// A claim that is a text.
pub(super) fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

/// A claim that a configured name leads to: at the top under that very name, else along its dots into objects.
pub(super) fn at<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let mut pieces = name.split('.');
    let first = claims.get(pieces.next()?)?;
    pieces.try_fold(first, |value, piece| value.as_object()?.get(piece))
}

/// A `NumericDate`: a finite number of seconds from 0 on, perhaps with a fraction, which is cut off.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, DenyReason> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(DenyReason::BearerInvalid)?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(DenyReason::BearerInvalid);
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

    fn check(claims: &Value) -> Result<Timestamp, DenyReason> {
        let audience = ["api".to_owned()];
        let expected = Expected {
            issuer: "https://id.test",
            audience: &audience,
            leeway: Duration::from_secs(30),
            expiry_leeway: Duration::from_secs(30),
            now: Timestamp::from_secs(1_000_000),
        };
        expected.check(claims.as_object().unwrap())
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
        let base = json!({"iss": "https://id.test", "aud": "api", "exp": 1_000_060});
        let wrong = [
            ("iss", json!(null)),
            ("iss", json!("https://id.test/")),
            ("iss", json!(["https://id.test"])),
            ("aud", json!(null)),
            ("aud", json!("API")),
            ("aud", json!("api ")),
            ("aud", json!("api,x")),
            ("aud", json!([])),
            ("aud", json!([["api"]])),
            ("aud", json!(["api", 1])),
            ("aud", json!(true)),
            ("exp", json!(null)),
            ("exp", json!("1000060")),
            ("exp", json!([1_000_060])),
            ("exp", json!(-1)),
            ("exp", json!(1e15)),
            ("nbf", json!(1_000_031)),
            ("nbf", json!("1")),
            ("nbf", json!(-1)),
            ("iat", json!(1_000_031)),
            ("iat", json!("x")),
        ];
        for (name, value) in wrong {
            let mut claims = base.clone();
            claims[name] = value;
            assert_eq!(check(&claims), Err(DenyReason::BearerInvalid), "{claims}");
        }
        for name in ["iss", "aud", "exp"] {
            let mut claims = base.clone();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(
                check(&claims),
                Err(DenyReason::BearerInvalid),
                "without {name}"
            );
        }
        let mut expired = base;
        expired["exp"] = json!(999_970);
        assert_eq!(check(&expired), Err(DenyReason::BearerExpired));
    }

    #[test]
    fn nested_claims_are_reached_by_dots() {
        let claims = json!({"realm_access": {"roles": ["a"]}, "a.b": 1, "a": {"b": 2}});
        let claims = claims.as_object().unwrap();
        assert_eq!(at(claims, "realm_access.roles"), Some(&json!(["a"])));
        assert_eq!(at(claims, "a.b"), Some(&json!(1)));
        assert_eq!(at(claims, "realm_access.none"), None);
        assert_eq!(at(claims, "realm_access.roles.x"), None);
    }
}
