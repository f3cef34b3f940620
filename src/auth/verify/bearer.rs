//! Verification of bearer tokens: parsed, matched to the issuer they name, and checked against its rules.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::caller::Caller;
use crate::auth::grant::Unavailable;
use crate::auth::verify::claims::{ExpectedClaims, text};
use crate::auth::verify::foreign::ForeignIssuer;
use crate::auth::verify::opaque::is_opaque;
use crate::auth::verify::unverified::Unverified;
use crate::auth::verify::{CredentialSource, Evidence, Remembered, SignedBy, TokenField, Verifier};
use crate::crypto::jwks::KeySet;
use crate::crypto::jwt::{JwtError, UnverifiedToken, VerifiedToken};
use crate::model::access::{Role, Scope};
use crate::model::account::Digest;
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::id::{SessionId, UserId};
use crate::model::identity::{AuthnMethod, Identity, Principal};
use crate::model::token_fault::{FaultKind, TokenFault, shown};
use crate::store::cached::AccountWithMemberships;

/// Header `typ` of the gateway's own access tokens (RFC 9068 section 2.1); no other token of the gateway has it.
const OWN_TYP: &str = "at+jwt";
/// Clock difference between nodes allowed for own tokens at `nbf` and `iat`.
const OWN_LEEWAY: Duration = Duration::from_secs(30);

impl Verifier {
    /// Verifies a token. `field`: the issuer's own header field that carried it; `None`: it was in `Authorization`.
    /// Tokens of an issuer are accepted only in the field of that issuer. `digest`: that of the token.
    pub(super) async fn bearer(
        &self,
        (token, digest): (&str, &Digest),
        field: Option<TokenField<'_>>,
        source: CredentialSource,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        if self.config.limits.head_bytes_max < token.len() {
            return Err(FaultKind::TooLong.into());
        }
        if is_opaque(token) {
            return self.opaque(token, field, source, now).await;
        }
        let unverified = UnverifiedToken::parse(token)?;
        let Some(issuer) = unverified.issuer() else {
            return Err(FaultKind::IssuerMissing.into());
        };
        if issuer == self.config.tokens.issuer && field.is_none() {
            let keys = self.services.signing.key_set();
            let verified = self.signature_verified(unverified, &keys, digest)?;
            return self.own_login(&verified, now).await;
        }
        let Some(foreign) = self.foreign.iter().find(|foreign| foreign.is(issuer)) else {
            let kind = if issuer == self.config.tokens.issuer {
                FaultKind::OtherField
            } else {
                FaultKind::IssuerUnknown
            };
            return Err(kind.with(format!("iss is {}", shown(issuer))).into());
        };
        if !foreign.comes_in(field.map(|field| field.name)) {
            let fault = Unverified::from(FaultKind::OtherField);
            return Err(fault.of_issuer(foreign.state().name()));
        }
        let checked = if foreign.state().has_keys() {
            self.foreign_login(foreign, (unverified, digest), field, now)
                .await
        } else {
            self.introspected(foreign, token, field, source, now).await
        };
        checked.map_err(|unverified| unverified.of_issuer(foreign.state().name()))
    }

    /// Verifies the signature of a token with one of these keys.
    fn signature_verified(
        &self,
        token: UnverifiedToken<'_>,
        keys: &Arc<KeySet>,
        digest: &Digest,
    ) -> Result<VerifiedToken, JwtError> {
        let elapsed = self.services.clock.elapsed();
        self.wrong_signatures.verify(token, keys, digest, elapsed)
    }

    /// Verifies an own token: its session must be live and its account active, whatever the token says.
    pub(super) async fn own_login(
        &self,
        token: &VerifiedToken,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        if token.typ.as_deref() != Some(OWN_TYP) {
            return Err(FaultKind::Type
                .with("tokens of this gateway have at+jwt")
                .into());
        }
        let claims = &token.claims;
        let expected = ExpectedClaims {
            issuer: &self.config.tokens.issuer,
            audience: std::slice::from_ref(&self.config.tokens.audience),
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
        // INVARIANT: the stamp is taken before anything is read, so that any later change voids the result
        // (tests/it/roles.rs).
        let stamp = self.services.store.generations().stamp(&uid);
        let found = self.session_at_rest(&session).await?;
        let Some(found) = found.filter(|found| found.uid == uid && found.is_live(now)) else {
            return Err(DenyReason::SessionEnded.into());
        };
        let subject = self.active(&uid).await??;
        let carried = text(claims, "scope")
            .unwrap_or_default()
            .split(' ')
            .filter_map(|scope| Scope::parse(scope).ok());
        let mut scopes: Vec<_> = carried
            .filter(|scope| !scope.is_own() && self.config.roles.scopes.contains(scope))
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        let identity = self.login_identity(&subject, Some(session), scopes, Some(expires));
        let until = expires.min(found.idle_end).min(found.absolute_end);
        Ok(Remembered {
            caller: Arc::new(Caller::new(identity)),
            until,
            evidence: Evidence::OwnToken { stamp },
        })
    }

    /// Verifies a JWT of a foreign issuer with its keys. Waits only if it names an unknown key.
    async fn foreign_login(
        &self,
        foreign: &ForeignIssuer,
        (unverified, digest): (UnverifiedToken<'_>, &Digest),
        field: Option<TokenField<'_>>,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        let issuer = foreign.state();
        let Ok(mut found) = issuer.keys().await else {
            // Claims that no signature could make acceptable are refused anyway.
            foreign.check(unverified.claims(), now)?;
            return Err(Unavailable::Issuer.into());
        };
        if let Some(kid) = unverified.kid()
            && !found.keys.has_kid(kid)
        {
            // A token that no key could make acceptable must not cause a fetch of keys.
            foreign.check(unverified.claims(), now)?;
            let newer = issuer.keys_with(kid).await;
            found = newer.ok_or_else(|| unknown_key(kid))?;
        }
        let verified = self.signature_verified(unverified, &found.keys, digest)?;
        let accepted = foreign.accept(&verified, now)?;
        let signed = SignedBy {
            issuer: Arc::clone(issuer),
            generation: found.generation,
        };
        let until = accepted.until;
        let field = field.map(|field| field.place);
        Ok(Remembered::foreign(accepted, field, Some(signed), until))
    }

    /// Returns the identity of an account's login.
    pub(super) fn login_identity(
        &self,
        subject: &AccountWithMemberships,
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

fn unknown_key(kid: &str) -> TokenFault {
    FaultKind::KeyUnknown.with(format!("kid is {}", shown(kid)))
}
