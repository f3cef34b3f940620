//! Bearer tokens: taken apart, given to the issuer they name, held to its claims.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde_json::{Map, Value};

use crate::auth::caller::Caller;
use crate::auth::grant::Unavailable;
use crate::auth::verify::claims::{Expected, text};
use crate::auth::verify::foreign::{Accepted, ForeignIssuer};
use crate::auth::verify::opaque::is_opaque;
use crate::auth::verify::unverified::Unverified;
use crate::auth::verify::{Kind, Origin, Remembered, SignedBy, Verifier};
use crate::crypto::jwt::UnverifiedToken;
use crate::model::access::{Role, Scope};
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::id::{SessionId, UserId};
use crate::model::identity::{AuthnMethod, Identity, Principal};
use crate::model::token_fault::{FaultKind, TokenFault, shown};
use crate::store::cached::Subject;

/// Header `typ` of our own access tokens (RFC 9068 section 2.1); nothing else of ours has it.
const OWN_TYP: &str = "at+jwt";
/// Clock difference between nodes that our own tokens may show at `nbf` and `iat`.
const OWN_LEEWAY: Duration = Duration::from_secs(30);

impl Verifier {
    /// `field`: the issuer's own one, in which it came; `None`: it came in `Authorization`. Tokens of an issuer count in
    /// the field of that issuer and nowhere else.
    pub(super) async fn bearer(
        &self,
        token: &str,
        field: Option<&HeaderName>,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        if self.token_bytes_max < token.len() {
            return Err(FaultKind::TooLong.into());
        }
        if is_opaque(token) {
            return self.opaque(token, field, origin, now).await;
        }
        let unverified = UnverifiedToken::parse(token)?;
        let Some(issuer) = unverified.issuer() else {
            return Err(FaultKind::IssuerMissing.into());
        };
        if issuer == self.own_issuer && field.is_none() {
            let verified = unverified.verify(&self.signing.key_set())?;
            let typ = verified.typ.as_deref();
            if typ != Some(OWN_TYP) {
                return Err(FaultKind::Type.with("ours have at+jwt").into());
            }
            return self.own_login(&verified.claims, now).await;
        }
        let Some(foreign) = self.foreign.iter().find(|foreign| foreign.is(issuer)) else {
            let kind = if issuer == self.own_issuer {
                FaultKind::OtherField
            } else {
                FaultKind::IssuerUnknown
            };
            return Err(kind.with(format!("iss is {}", shown(issuer))).into());
        };
        if !foreign.comes_in(field) {
            let fault = Unverified::from(FaultKind::OtherField);
            return Err(fault.of_issuer(foreign.state().name()));
        }
        let checked = if foreign.state().has_keys() {
            foreign_login(foreign, unverified, now).await
        } else {
            self.introspected(foreign, token, origin, now).await
        };
        checked.map_err(|unverified| unverified.of_issuer(foreign.state().name()))
    }

    /// A token of our own: its session must be alive and its account active, whatever the token says.
    async fn own_login(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        let expected = Expected {
            issuer: &self.own_issuer,
            audience: std::slice::from_ref(&self.own_audience),
            audience_claims: &[],
            leeway: OWN_LEEWAY,
            expiry_leeway: Duration::ZERO,
            now,
        };
        let expires = expected.check(claims)?;
        let uid = text(claims, "sub")
            .and_then(|sub| UserId::parse(sub).ok())
            .ok_or_else(|| FaultKind::ClaimInvalid.with("sub"))?;
        let session = text(claims, "sid")
            .and_then(|sid| SessionId::parse(sid).ok())
            .ok_or_else(|| FaultKind::ClaimInvalid.with("sid"))?;
        // INVARIANT: the stamp is taken before anything is read, so that whatever changes after this voids the result
        // (tests/it/roles.rs).
        let stamp = self.store.generations().stamp(&uid);
        let found = self
            .store
            .session(&session)
            .await
            .map_err(|error| self.unavailable(&error))?;
        let Some(found) = found.filter(|found| found.uid == uid && found.is_live(now)) else {
            return Err(DenyReason::SessionEnded.into());
        };
        let subject = self.active(&uid).await??;
        let carried = text(claims, "scope")
            .unwrap_or_default()
            .split(' ')
            .filter_map(|scope| Scope::parse(scope).ok());
        let mut scopes: Vec<_> = carried
            .filter(|scope| !scope.is_own() && self.roles.scopes.contains(scope))
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        let identity = self.login_identity(&subject, Some(session), scopes, Some(expires));
        let until = expires.min(found.idle_end).min(found.absolute_end);
        Ok(Remembered {
            kind: Kind::Bearer,
            caller: Arc::new(Caller::new(identity)),
            stamp: Some(stamp),
            signed: None,
            until,
            uses: None,
            key: None,
        })
    }

    /// What a login of an account amounts to.
    pub(super) fn login_identity(
        &self,
        subject: &Subject,
        session: Option<SessionId>,
        scopes: Vec<Scope>,
        expires: Option<Timestamp>,
    ) -> Identity {
        let account = Arc::clone(&subject.account);
        let (roles, resource_roles, scopes) = if account.password_must_change {
            (
                Role::parse(Role::PWCHANGE).into_iter().collect(),
                Vec::new(),
                Vec::new(),
            )
        } else {
            (
                account.global_roles(account.is_admin),
                self.resource_roles(subject),
                scopes,
            )
        };
        Identity {
            principal: Principal::Own { account, session },
            method: AuthnMethod::Jwt,
            key_id: None,
            roles,
            resource_roles,
            only: None,
            scopes,
            expires,
        }
    }
}

/// A JWT of a foreign issuer, verified with its keys. Nothing is waited for unless it names a key that nobody knows.
async fn foreign_login(
    foreign: &ForeignIssuer,
    unverified: UnverifiedToken<'_>,
    now: Timestamp,
) -> Result<Remembered, Unverified> {
    let issuer = foreign.state();
    let Ok(mut found) = issuer.keys().await else {
        // What is wrong whoever has signed it is refused all the same.
        foreign.check(unverified.claims(), now)?;
        return Err(Unavailable::Issuer.into());
    };
    if let Some(kid) = unverified.kid()
        && !found.keys.has_kid(kid)
    {
        // Nobody gets keys fetched by what would not be taken with any key.
        foreign.check(unverified.claims(), now)?;
        let newer = issuer.keys_with(kid).await;
        found = newer.ok_or_else(|| unknown_key(kid))?;
    }
    let verified = unverified.verify(&found.keys)?;
    let accepted = foreign.accept(&verified, now)?;
    let signed = SignedBy {
        issuer: Arc::clone(issuer),
        generation: found.generation,
    };
    let until = accepted.until;
    Ok(remembered(accepted, Some(signed), until))
}

fn unknown_key(kid: &str) -> TokenFault {
    FaultKind::KeyUnknown.with(format!("kid is {}", shown(kid)))
}

/// A foreign caller as it is remembered until a moment.
pub(super) fn remembered(
    accepted: Accepted,
    signed: Option<SignedBy>,
    until: Timestamp,
) -> Remembered {
    let caller = Caller::new(accepted.identity).without(accepted.left_out);
    Remembered {
        kind: Kind::Bearer,
        caller: Arc::new(caller),
        stamp: None,
        signed,
        until,
        uses: None,
        key: None,
    }
}
