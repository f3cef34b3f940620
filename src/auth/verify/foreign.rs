//! Tokens of foreign issuers: what their claims may say, and what not.

use std::sync::Arc;

use http::HeaderName;
use serde_json::{Map, Value};

use crate::auth::verify::claims::{Expected, at, text};
use crate::config::{Issuer, RoleSettings};
use crate::crypto::jwt::VerifiedToken;
use crate::issuer::IssuerState;
use crate::model::access::{Ladder, Name, Rank, ResourceRole, Role, Scope};
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::id::UserId;
use crate::model::identity::{AuthnMethod, Identity, Principal};

/// Longest subject or username, in bytes, prefix included.
const SUBJECT_BYTES_MAX: usize = 255;

/// Without `exp`, what an issuer says of an opaque token counts for as long as it may be remembered.
const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// A foreign issuer with what is known of it and the rules of its claims.
pub(super) struct ForeignIssuer {
    issuer: Issuer,
    state: Arc<IssuerState>,
    resources: Vec<Name>,
    ladder: Ladder,
}

impl ForeignIssuer {
    pub(super) fn new(issuer: &Issuer, state: &Arc<IssuerState>, roles: &RoleSettings) -> Self {
        Self {
            issuer: issuer.clone(),
            state: Arc::clone(state),
            resources: roles.resources.clone(),
            ladder: roles.ladder.clone(),
        }
    }

    /// Whether a claim `iss` names this issuer, byte for byte.
    pub(super) fn is(&self, issuer: &str) -> bool {
        self.issuer.issuer == issuer
    }

    /// Whether its tokens come in this field; `None`: in `Authorization`.
    pub(super) fn comes_in(&self, field: Option<&HeaderName>) -> bool {
        self.issuer.header.as_ref() == field
    }

    pub(super) fn state(&self) -> &Arc<IssuerState> {
        &self.state
    }

    /// What the registered claims must say; gives the moment from which the token is void.
    pub(super) fn check(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Timestamp, DenyReason> {
        self.expected(now).check(claims)
    }

    fn expected(&self, now: Timestamp) -> Expected<'_> {
        Expected {
            issuer: &self.issuer.issuer,
            audience: &self.issuer.audience,
            leeway: self.issuer.leeway,
            expiry_leeway: self.issuer.leeway,
            now,
        }
    }

    /// The identity that a verified token stands for, and from when on it must not be used any more.
    pub(super) fn identity(
        &self,
        token: &VerifiedToken,
        now: Timestamp,
    ) -> Result<(Identity, Timestamp), DenyReason> {
        if !is_access_token(token.typ.as_deref()) {
            return Err(DenyReason::BearerInvalid);
        }
        let until = self.check(&token.claims, now)?;
        Ok((self.identity_of(&token.claims, Some(until))?, until))
    }

    /// The identity of an opaque token that the issuer calls active, and from when on it must not be used any more.
    ///
    /// The issuer may leave out `iss` and `exp`, not the audience: a token for somebody else is none for us.
    pub(super) fn introspected(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<(Identity, Timestamp), DenyReason> {
        if !is_bearer_access(claims) {
            return Err(DenyReason::BearerInvalid);
        }
        let mut whole;
        let checked = if claims.contains_key("iss") {
            claims
        } else {
            whole = claims.clone();
            whole.insert("iss".to_owned(), self.issuer.issuer.clone().into());
            &whole
        };
        let until = self.expected(now).check_unbounded(checked)?;
        let identity = self.identity_of(claims, until)?;
        Ok((identity, until.unwrap_or(NEVER)))
    }

    fn identity_of(
        &self,
        claims: &Map<String, Value>,
        expires: Option<Timestamp>,
    ) -> Result<Identity, DenyReason> {
        let subject = at(claims, &self.issuer.subject_claim).and_then(Value::as_str);
        let subject = subject
            .and_then(|subject| self.name(subject))
            .ok_or(DenyReason::BearerInvalid)?;
        // A name for people may hold anything: what cannot stand in a header is left out.
        let username = (!self.issuer.username_claim.is_empty())
            .then(|| at(claims, &self.issuer.username_claim).and_then(Value::as_str))
            .flatten()
            .and_then(|username| self.name(username));
        let (roles, resource_roles) = self.roles(claims);
        Ok(Identity {
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
            scopes: self.scopes(claims),
            expires,
        })
    }

    /// A subject or username with the issuer's prefix: visible ASCII without comma, and none of ours.
    fn name(&self, text: &str) -> Option<String> {
        let whole = format!("{}{text}", self.issuer.subject_prefix);
        let fits = !text.is_empty()
            && whole.len() <= SUBJECT_BYTES_MAX
            && whole.bytes().all(|b| b.is_ascii_graphic() && b != b',')
            && !whole.starts_with(UserId::PREFIX);
        fits.then_some(whole)
    }

    /// The roles of the claim: an array of strings, or one string that is one role. What is no role is left out, and so
    /// is a reserved one that the configuration does not allow.
    fn roles(&self, claims: &Map<String, Value>) -> (Vec<Role>, Vec<ResourceRole>) {
        let (mut roles, mut resource_roles) = (Vec::new(), Vec::new());
        let values = match at(claims, &self.issuer.roles_claim) {
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        for text in values.iter().filter_map(Value::as_str) {
            let Ok(role) = Role::parse(&format!("{}{text}", self.issuer.roles_prefix)) else {
                continue;
            };
            let resource_role = ResourceRole::parse(role.as_str(), &self.resources, &self.ladder);
            let is_reserved = resource_role.is_some()
                || [Role::ADMIN, Role::USER, Role::PWCHANGE].contains(&role.as_str());
            if is_reserved && !self.allows(&role) {
                continue;
            }
            match resource_role {
                Some(resource_role) if Rank(0) < resource_role.rank => {
                    resource_roles.push(resource_role);
                }
                Some(_) => {}
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

    /// The scopes of the claim: one string, split at spaces (RFC 8693 section 4.2); any other shape gives none, and the
    /// gateway's own scopes are not an issuer's to give.
    fn scopes(&self, claims: &Map<String, Value>) -> Vec<Scope> {
        let text = at(claims, &self.issuer.scopes_claim)
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut scopes: Vec<_> = text
            .split(' ')
            .filter_map(|scope| Scope::parse(scope).ok())
            .filter(|scope| !scope.is_own())
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }
}

/// Whether a header `typ` may stand on an access token: absent, `JWT` or `at+jwt` (RFC 8725 section 3.11).
fn is_access_token(typ: Option<&str>) -> bool {
    let Some(typ) = typ else { return true };
    let lower = typ.to_ascii_lowercase();
    matches!(
        lower.strip_prefix("application/").unwrap_or(&lower),
        "jwt" | "at+jwt"
    )
}

/// Whether what introspection says is of an access token that its bearer may use: a refresh token is none, and neither is
/// one that is bound to a key. Issuers say so in different words, and some in none.
fn is_bearer_access(claims: &Map<String, Value>) -> bool {
    let says = |name, words: &[&str]| {
        let fits = |said: &str| words.iter().any(|word| said.eq_ignore_ascii_case(word));
        !claims.contains_key(name) || text(claims, name).is_some_and(fits)
    };
    says("token_type", &["bearer", "access_token"])
        && says("token_use", &["access_token", "access"])
        && says("typ", &["bearer", "jwt", "at+jwt"])
        && !claims.contains_key("cnf")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::{KeySource, Remote};
    use crate::issuer::{IssuerParts, Issuers};
    use crate::model::clock::{Clock, SystemClock};
    use crate::telemetry::metrics::Metrics;

    fn issuer(prefix: &str, allow: &[&str]) -> ForeignIssuer {
        let name = |text: &str| Name::parse(text).unwrap();
        let settings = Issuer {
            name: "corp".to_owned(),
            issuer: "https://id.test".to_owned(),
            audience: vec!["api".to_owned()],
            keys: KeySource::Nowhere,
            remote: Remote {
                stale_max: Duration::from_secs(1),
                ca_file: None,
            },
            introspection: None,
            algorithms: Vec::new(),
            leeway: Duration::from_secs(30),
            subject_claim: "sub".to_owned(),
            subject_prefix: prefix.to_owned(),
            username_claim: "name".to_owned(),
            roles_claim: "realm.roles".to_owned(),
            roles_prefix: String::new(),
            roles_allow: allow.iter().map(|entry| (*entry).to_owned()).collect(),
            scopes_claim: "scope".to_owned(),
            header: None,
        };
        let roles = RoleSettings {
            ladder: Ladder::new(
                ["public", "invitee", "member", "manager"]
                    .map(name)
                    .to_vec(),
            )
            .unwrap(),
            resources: vec![name("list")],
            sourced: Vec::new(),
            scopes: Vec::new(),
            manage_level: name("manager"),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let parts = IssuerParts {
            dir: Path::new("unused"),
            clock: &clock,
            metrics: &Arc::new(Metrics::new()),
        };
        let issuers = Issuers::open(std::slice::from_ref(&settings), parts, None).unwrap();
        ForeignIssuer::new(&settings, issuers.iter().next().unwrap(), &roles)
    }

    fn identity(
        issuer: &ForeignIssuer,
        typ: Option<&str>,
        more: &Value,
    ) -> Result<Identity, DenyReason> {
        let mut claims =
            json!({"iss": "https://id.test", "aud": "api", "exp": 2000, "sub": "anna"});
        claims
            .as_object_mut()
            .unwrap()
            .append(&mut more.as_object().unwrap().clone());
        let token = VerifiedToken {
            typ: typ.map(str::to_owned),
            claims: claims.as_object().unwrap().clone(),
        };
        issuer
            .identity(&token, Timestamp::from_secs(1000))
            .map(|(identity, _)| identity)
    }

    #[test]
    fn rfc8725_3_11_tokens_of_another_kind_are_refused() {
        let issuer = issuer("", &[]);
        for typ in [
            None,
            Some("JWT"),
            Some("at+jwt"),
            Some("application/at+JWT"),
        ] {
            assert!(identity(&issuer, typ, &json!({})).is_ok(), "{typ:?}");
        }
        for typ in [
            "dpop+jwt",
            "secevent+jwt",
            "kb+jwt",
            "doorward-assertion+jwt",
            "",
        ] {
            assert_eq!(
                identity(&issuer, Some(typ), &json!({})),
                Err(DenyReason::BearerInvalid),
                "{typ}"
            );
        }
    }

    #[test]
    fn no_issuer_speaks_for_our_people() {
        let bare = issuer("", &[]);
        for sub in [
            json!("u-abcdefgh"),
            json!(""),
            json!(7),
            json!({}),
            json!(null),
            json!("a,b"),
            json!("a b"),
            json!("a\n"),
            json!("\u{e9}"),
            json!("x".repeat(256)),
        ] {
            assert_eq!(
                identity(&bare, None, &json!({ "sub": sub })),
                Err(DenyReason::BearerInvalid),
                "{sub}"
            );
        }
        assert_eq!(
            identity(&bare, None, &json!({"name": "u-abcdefgh"}))
                .unwrap()
                .username(),
            None
        );
        let prefixed = identity(
            &issuer("corp:", &[]),
            None,
            &json!({"sub": "u-abcdefgh", "name": "Anna"}),
        )
        .unwrap();
        assert_eq!(
            (prefixed.subject(), prefixed.username()),
            ("corp:u-abcdefgh", Some("corp:Anna"))
        );
    }

    #[test]
    fn reserved_roles_need_to_be_allowed() {
        let roles = json!({"realm": {"roles": ["dev", "admin", "user", "pwchange", "list-4-2-member", "list-1-public", "a b", "c,d", 5]}});
        let given = identity(&issuer("", &[]), None, &roles).unwrap();
        assert_eq!(
            given.roles.iter().map(Role::as_str).collect::<Vec<_>>(),
            ["dev"]
        );
        assert!(given.resource_roles.is_empty());
        let allowed = identity(&issuer("", &["admin", "list-*"]), None, &roles).unwrap();
        assert!(allowed.has_role("admin") && !allowed.has_role("user"));
        let [role] = allowed.resource_roles.as_slice() else {
            panic!("one resource role")
        };
        assert_eq!(
            (role.id.as_str(), role.rank, role.exact),
            ("4-2", Rank(2), true)
        );
    }

    #[test]
    fn rfc7662_2_2_only_access_tokens_for_us_count() {
        let issuer = issuer("corp:", &[]);
        let active = json!({"active": true, "aud": ["other", "api"], "sub": "anna", "scope": "a b", "exp": 2000});
        let with = |changes: &Value| {
            let mut claims = active.as_object().unwrap().clone();
            for (name, value) in changes.as_object().unwrap() {
                if value.is_null() {
                    claims.remove(name);
                } else {
                    claims.insert(name.clone(), value.clone());
                }
            }
            issuer.introspected(&claims, Timestamp::from_secs(1000))
        };
        for good in [
            json!({}),
            json!({"iss": "https://id.test", "token_type": "Bearer"}),
            json!({"token_use": "access_token", "typ": "Bearer"}),
            json!({"exp": null}),
        ] {
            let (identity, _) = with(&good).unwrap();
            assert_eq!(identity.subject(), "corp:anna", "{good}");
            assert_eq!(identity.scopes.len(), 2);
        }
        for bad in [
            json!({"iss": "https://evil.test"}),
            json!({"iss": 7}),
            json!({"aud": null}),
            json!({"aud": "other"}),
            json!({"sub": null}),
            json!({"nbf": 1100}),
            json!({"token_type": "DPoP"}),
            json!({"token_type": "refresh_token"}),
            json!({"token_use": "refresh_token"}),
            json!({"typ": "Refresh"}),
            json!({"typ": 7}),
            json!({"cnf": {"jkt": "x"}}),
        ] {
            assert_eq!(with(&bad), Err(DenyReason::BearerInvalid), "{bad}");
        }
        assert_eq!(with(&json!({"exp": 900})), Err(DenyReason::BearerExpired));
    }

    #[test]
    fn a_list_in_one_text_stays_one_role_and_scopes_have_one_shape() {
        let issuer = issuer("", &["admin"]);
        for text in ["admin user", "x,admin", "admin\nx"] {
            assert!(
                identity(&issuer, None, &json!({"realm": {"roles": text}}))
                    .unwrap()
                    .roles
                    .is_empty(),
                "{text}"
            );
        }
        let scopes = |value: Value| {
            identity(&issuer, None, &json!({ "scope": value }))
                .unwrap()
                .scopes
        };
        assert_eq!(
            scopes(json!("b a  a auth:admin"))
                .iter()
                .map(Scope::as_str)
                .collect::<Vec<_>>(),
            ["a", "b"]
        );
        for value in [json!(["admin"]), json!(1), json!("a\u{a0}b"), json!({})] {
            assert!(scopes(value.clone()).is_empty(), "{value}");
        }
    }
}
