//! Tokens of foreign issuers, and the limits of their claims.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderName;
use serde_json::{Map, Value};

use crate::auth::verify::claims::{ExpectedClaims, text};
use crate::auth::verify::listed::{OmittedClaims, words};
use crate::config::{ClaimValue, Issuer, RoleSettings, media_type};
use crate::crypto::jwt::VerifiedToken;
use crate::issuer::IssuerState;
use crate::model::access::{LevelOrder, LevelRank, Name, ResourceRole, Role, Scope};
use crate::model::clock::Timestamp;
use crate::model::id::UserId;
use crate::model::identity::{AuthnMethod, Identity, Principal};
use crate::model::token_fault::{FaultKind, TokenFault, shown};

/// Maximum length of a subject or username, in bytes, prefix included.
const NAME_BYTES_MAX: usize = 255;

/// Without `exp`, an introspection result is used for as long as it may be cached.
const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// Values of `typ`, `token_use` or `token_type` for tokens that are signed like access tokens but are not.
const OTHER_KINDS: [&str; 6] = [
    "refresh",
    "refresh_token",
    "offline",
    "logout",
    "logout_token",
    "dpop",
];

/// A foreign issuer with its state and the rules of its claims.
pub(super) struct ForeignIssuer {
    issuer: Issuer,
    state: Arc<IssuerState>,
    resources: Vec<Name>,
    ladder: LevelOrder,
    /// Whether omitted values have already been logged.
    has_reported: AtomicBool,
}

/// A token of a foreign issuer with checked claims.
#[derive(Debug)]
pub(super) struct AcceptedToken {
    pub(super) identity: Identity,
    /// Time from which it must not be used.
    pub(super) until: Timestamp,
    /// The omitted values of its claims, for operators.
    pub(super) left_out: Option<String>,
}

impl ForeignIssuer {
    pub(super) fn new(issuer: &Issuer, state: &Arc<IssuerState>, roles: &RoleSettings) -> Self {
        Self {
            issuer: issuer.clone(),
            state: Arc::clone(state),
            resources: roles.resources.clone(),
            ladder: roles.ladder.clone(),
            has_reported: AtomicBool::new(false),
        }
    }

    /// Whether a claim `iss` names this issuer, byte for byte.
    pub(super) fn is(&self, issuer: &str) -> bool {
        self.issuer.issuer == issuer
    }

    /// Whether its tokens are sent in this field; `None`: `Authorization`.
    pub(super) fn comes_in(&self, field: Option<&HeaderName>) -> bool {
        self.issuer.header.as_ref() == field
    }

    pub(super) fn state(&self) -> &Arc<IssuerState> {
        &self.state
    }

    /// Checks the registered claims; returns the time from which the token is expired.
    pub(super) fn check(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Timestamp, TokenFault> {
        self.expected(now).check(claims)
    }

    fn expected(&self, now: Timestamp) -> ExpectedClaims<'_> {
        ExpectedClaims {
            issuer: &self.issuer.issuer,
            audience: &self.issuer.audience,
            audience_claims: &self.issuer.audience_claims,
            leeway: self.issuer.leeway,
            expiry_leeway: self.issuer.leeway,
            now,
        }
    }

    /// Returns the identity of a verified token.
    pub(super) fn accept(
        &self,
        token: &VerifiedToken,
        now: Timestamp,
    ) -> Result<AcceptedToken, TokenFault> {
        self.check_type(token.typ.as_deref())?;
        check_kind(&token.claims)?;
        let until = self.check(&token.claims, now)?;
        self.identified(&token.claims, Some(until))
    }

    /// Returns the identity of an opaque token that the issuer reports as active.
    ///
    /// The issuer may omit `iss` and `exp`, but not the audience: a token for another audience is not accepted.
    pub(super) fn introspected(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<AcceptedToken, TokenFault> {
        check_kind(claims)?;
        check_bearer_access(claims)?;
        let mut whole;
        let checked = if claims.contains_key("iss") {
            claims
        } else {
            whole = claims.clone();
            whole.insert("iss".to_owned(), self.issuer.issuer.clone().into());
            &whole
        };
        let until = self.expected(now).check_unbounded(checked)?;
        self.identified(claims, until)
    }

    /// Checks that a header `typ` is allowed for an access token: absent, `JWT`, `at+jwt` or configured (RFC 8725
    /// section 3.11).
    fn check_type(&self, typ: Option<&str>) -> Result<(), TokenFault> {
        let Some(written) = typ else { return Ok(()) };
        let typ = media_type(written);
        if matches!(typ.as_str(), "jwt" | "at+jwt") || self.issuer.typ.contains(&typ) {
            Ok(())
        } else {
            Err(FaultKind::Type.with(format!("typ is {}", shown(written))))
        }
    }

    fn identified(
        &self,
        claims: &Map<String, Value>,
        expires: Option<Timestamp>,
    ) -> Result<AcceptedToken, TokenFault> {
        self.check_required(claims)?;
        let subject = self.subject(claims)?;
        let mut left_out = OmittedClaims::default();
        let username = self.username(claims, &mut left_out)?;
        let (roles, resource_roles) = self.roles(claims, &mut left_out);
        let scopes = self.scopes(claims, &mut left_out);
        let left_out = self.report(&left_out);
        let identity = Identity {
            principal: Principal::Foreign {
                issuer: self.issuer.name.clone(),
                subject,
                username,
            },
            method: AuthnMethod::Jwt,
            key_id: None,
            roles,
            resource_roles,
            only: None,
            scopes,
            expires,
        };
        Ok(AcceptedToken {
            identity,
            until: expires.unwrap_or(NEVER),
            left_out,
        })
    }

    /// Counts omitted values, logs them the first time, and describes them.
    fn report(&self, left_out: &OmittedClaims) -> Option<String> {
        let text = left_out.text()?;
        self.state.metrics().left_out(left_out.count);
        if !self.has_reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                issuer.name = self.issuer.name,
                left_out = text,
                "claims of an issuer's tokens contain unusable values: they are omitted and counted, and not logged again"
            );
        }
        Some(text)
    }

    fn check_required(&self, claims: &Map<String, Value>) -> Result<(), TokenFault> {
        for (path, wanted) in &self.issuer.required_claims {
            let is_equal = path.find(claims).is_some_and(|found| match wanted {
                ClaimValue::Text(text) => found.as_str() == Some(text),
                ClaimValue::Integer(number) => found.as_i64() == Some(*number),
                ClaimValue::Flag(flag) => found.as_bool() == Some(*flag),
            });
            if !is_equal {
                return Err(FaultKind::ClaimRequired.with(path.as_str().to_owned()));
            }
        }
        Ok(())
    }

    /// Returns the subject with the issuer's prefix: visible ASCII without comma, and not a uid of this gateway.
    fn subject(&self, claims: &Map<String, Value>) -> Result<String, TokenFault> {
        let claim = &self.issuer.subject_claim;
        let found = claim.find(claims);
        let found = found.ok_or_else(|| FaultKind::ClaimMissing.with(claim.as_str().to_owned()))?;
        let subject = found.as_str().and_then(|text| {
            let whole = format!("{}{text}", self.issuer.subject_prefix);
            (!text.is_empty() && fits(&whole)).then_some(whole)
        });
        let Some(subject) = subject else {
            return Err(FaultKind::ClaimInvalid.with(format!(
                "{} is not a string of 1 to {NAME_BYTES_MAX} visible ASCII characters without comma, prefix included",
                claim.as_str()
            )));
        };
        if is_reserved_name(&subject) {
            return Err(FaultKind::Reserved.with(claim.as_str().to_owned()));
        }
        Ok(subject)
    }

    /// Returns the username with its prefix. A name for humans may contain anything: one that is not valid in a header
    /// is omitted.
    fn username(
        &self,
        claims: &Map<String, Value>,
        left_out: &mut OmittedClaims,
    ) -> Result<Option<String>, TokenFault> {
        let Some(claim) = &self.issuer.username_claim else {
            return Ok(None);
        };
        let text = match claim.find(claims) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value.as_str().unwrap_or_default(),
        };
        let whole = format!("{}{text}", self.issuer.username_prefix);
        if is_reserved_name(&whole) {
            return Err(FaultKind::Reserved.with(claim.as_str().to_owned()));
        }
        if text.is_empty() || !fits(&whole) {
            left_out.note(
                "username",
                text,
                "not a string of visible ASCII characters without comma",
            );
            return Ok(None);
        }
        Ok(Some(whole))
    }

    /// Returns the roles of the claim. Invalid roles are omitted, and so are reserved ones that the configuration does
    /// not allow.
    fn roles(
        &self,
        claims: &Map<String, Value>,
        left_out: &mut OmittedClaims,
    ) -> (Vec<Role>, Vec<ResourceRole>) {
        let (mut roles, mut resource_roles) = (Vec::new(), Vec::new());
        let path = self.issuer.roles_claim.as_ref();
        let claim = path.and_then(|path| path.find(claims));
        for word in words(claim, "role", left_out) {
            let Ok(role) = Role::parse(&format!("{}{word}", self.issuer.roles_prefix)) else {
                left_out.note(
                    "role",
                    word,
                    "not 1 to 255 visible ASCII characters without comma",
                );
                continue;
            };
            let is_reserved = role.is_reserved(&self.resources, &self.ladder);
            if is_reserved && !self.allows(&role) {
                left_out.note("role", word, "reserved, and not in roles_allow");
                continue;
            }
            match ResourceRole::parse(role.as_str(), &self.resources, &self.ladder) {
                Some(resource_role) if LevelRank(0) < resource_role.rank => {
                    resource_roles.push(resource_role);
                }
                Some(_) => left_out.note("role", word, "the lowest level, which yields no role"),
                None => roles.push(role),
            }
        }
        roles.sort_unstable();
        roles.dedup();
        resource_roles.sort_unstable();
        resource_roles.dedup();
        (roles, resource_roles)
    }

    fn allows(&self, role: &Role) -> bool {
        self.issuer
            .roles_allow
            .iter()
            .any(|entry| match entry.strip_suffix('*') {
                Some(beginning) => role.as_str().starts_with(beginning),
                None => role.as_str() == entry,
            })
    }

    /// Returns the scopes of the claim; an issuer cannot assign the gateway's own.
    fn scopes(&self, claims: &Map<String, Value>, left_out: &mut OmittedClaims) -> Vec<Scope> {
        let path = self.issuer.scopes_claim.as_ref();
        let claim = path.and_then(|path| path.find(claims));
        let mut scopes = Vec::new();
        for word in words(claim, "scope", left_out) {
            match Scope::parse(word) {
                Ok(scope) if !scope.is_own() => scopes.push(scope),
                Ok(_) => left_out.note("scope", word, "reserved for the gateway"),
                Err(_) => left_out.note(
                    "scope",
                    word,
                    "not 1 to 255 visible ASCII characters without quote, backslash and comma",
                ),
            }
        }
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }
}

/// Whether a name is valid in a header, and in a list of names.
fn fits(name: &str) -> bool {
    let chars_fit = name.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    chars_fit && (1..=NAME_BYTES_MAX).contains(&name.len())
}

/// Whether a name could be mistaken for a uid of this gateway, even by readers that fold case.
// INVARIANT: no issuer speaks for the accounts of this gateway (tests/it/foreign.rs).
fn is_reserved_name(name: &str) -> bool {
    let start = name.as_bytes().get(..UserId::PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(UserId::PREFIX.as_bytes()))
}

/// Checks that the claims are those of an access token: refresh and logout tokens are signed by the same keys.
fn check_kind(claims: &Map<String, Value>) -> Result<(), TokenFault> {
    for name in ["typ", "token_use", "token_type"] {
        let Some(said) = text(claims, name) else {
            continue;
        };
        if OTHER_KINDS
            .iter()
            .any(|kind| kind.eq_ignore_ascii_case(said))
        {
            let is_bound = said.eq_ignore_ascii_case("dpop");
            let kind = if is_bound {
                FaultKind::SenderBound
            } else {
                FaultKind::NotAccess
            };
            return Err(kind.with(format!("{name} is {}", shown(said))));
        }
    }
    // RFC 8417: a security event, such as a back-channel logout.
    if claims.get("events").is_some_and(Value::is_object) {
        return Err(FaultKind::NotAccess.with("it has the claim events"));
    }
    Ok(())
}

/// Checks that an introspection result is that of an access token that its bearer may use. Issuers express this in
/// different words, and some not at all.
fn check_bearer_access(claims: &Map<String, Value>) -> Result<(), TokenFault> {
    let access: [(&str, &[&str]); 3] = [
        ("token_type", &["bearer", "access_token"]),
        ("token_use", &["access_token", "access"]),
        ("typ", &["bearer", "jwt", "at+jwt"]),
    ];
    for (name, words) in access {
        let fits = |said: &str| words.iter().any(|word| said.eq_ignore_ascii_case(word));
        if claims.contains_key(name) && !text(claims, name).is_some_and(fits) {
            return Err(FaultKind::NotAccess.with(format!("{name} is not that of a bearer token")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
