//! Opaque tokens, which are introspected at the only issuer that supports it.

use crate::auth::grant::Unavailable;
use crate::auth::verify::foreign::ForeignIssuer;
use crate::auth::verify::unverified::Unverified;
use crate::auth::verify::{CredentialSource, Remembered, TokenField, Verifier};
use crate::crypto::token::is_own_form;
use crate::issuer::IntrospectedToken;
use crate::model::clock::Timestamp;
use crate::model::token_fault::FaultKind;

/// Whether a bearer token is not a JWT, not even a broken one: those have two dots, or four if encrypted, and are
/// verified by the issuer they name or not at all.
pub(super) fn is_opaque(token: &str) -> bool {
    let dots = token.bytes().filter(|byte| *byte == b'.').count();
    !matches!(dots, 2 | 4)
}

impl Verifier {
    /// Verifies a token that does not name its issuer: the configuration has at most one that can have issued it.
    pub(super) async fn opaque(
        &self,
        token: &str,
        field: Option<TokenField<'_>>,
        source: CredentialSource,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        // INVARIANT: no token in the gateway's own form is sent to others (tests/it/opaque.rs).
        if is_own_form(token) {
            return Err(FaultKind::OwnForm.into());
        }
        let name = field.map(|field| field.name);
        let introspects =
            |foreign: &&ForeignIssuer| foreign.state().introspects() && foreign.comes_in(name);
        let foreign = self.foreign.iter().find(introspects);
        let foreign = foreign.ok_or(FaultKind::Opaque)?;
        let checked = self.introspected(foreign, token, field, source, now).await;
        checked.map_err(|unverified| unverified.of_issuer(foreign.state().name()))
    }

    /// Verifies a token by introspection at its issuer.
    pub(super) async fn introspected(
        &self,
        foreign: &ForeignIssuer,
        token: &str,
        field: Option<TokenField<'_>>,
        source: CredentialSource,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        let said = foreign.state().introspect(token, source.client).await;
        match said.map_err(|_| Unavailable::Issuer)? {
            IntrospectedToken::Active { claims, ttl } => match foreign.introspected(&claims, now) {
                Ok(accepted) => {
                    let until = accepted.until.min(now.plus(ttl));
                    Ok(Remembered::foreign(
                        accepted,
                        field.map(|field| field.place),
                        None,
                        until,
                    ))
                }
                Err(fault) => {
                    // It is then introspected no more often than an inactive one.
                    foreign.state().refuse(token, &fault);
                    Err(fault.into())
                }
            },
            IntrospectedToken::Refused(fault) => Err(fault.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_jwt_is_none_of_these() {
        for jwt in ["a.b.c", "..", "a.b.", "eyJ.eyJ.sig", "a.b.c.d.e", "...."] {
            assert!(!is_opaque(jwt), "{jwt}");
        }
        for opaque in ["abc", "ya29.abc", "a.b.c.d", "eyJhbGciOiJub25lIn0"] {
            assert!(is_opaque(opaque), "{opaque}");
        }
    }
}
