//! Tokens that say nothing by themselves: the one issuer that introspects is asked.

use crate::auth::grant::Unavailable;
use crate::auth::verify::foreign::ForeignIssuer;
use crate::auth::verify::unverified::Unverified;
use crate::auth::verify::{Origin, Remembered, TokenField, Verifier};
use crate::crypto::token::is_own_form;
use crate::issuer::Said;
use crate::model::clock::Timestamp;
use crate::model::token_fault::FaultKind;

/// Whether a bearer token is no JWT, not even a broken one: those have two dots, or four where they are encrypted, and go
/// by the issuer that they name or nowhere.
pub(super) fn is_opaque(token: &str) -> bool {
    let dots = token.bytes().filter(|byte| *byte == b'.').count();
    !matches!(dots, 2 | 4)
}

impl Verifier {
    /// A token that does not say whose it is: the configuration has at most one issuer that it can be of.
    pub(super) async fn opaque(
        &self,
        token: &str,
        field: Option<TokenField<'_>>,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        // INVARIANT: nothing of our own form is shown to others (tests/it/opaque.rs).
        if is_own_form(token) {
            return Err(FaultKind::OwnForm.into());
        }
        let name = field.map(|field| field.name);
        let introspects =
            |foreign: &&ForeignIssuer| foreign.state().introspects() && foreign.comes_in(name);
        let foreign = self.foreign.iter().find(introspects);
        let foreign = foreign.ok_or(FaultKind::Opaque)?;
        let checked = self.introspected(foreign, token, field, origin, now).await;
        checked.map_err(|unverified| unverified.of_issuer(foreign.state().name()))
    }

    /// A token that its issuer is asked about.
    pub(super) async fn introspected(
        &self,
        foreign: &ForeignIssuer,
        token: &str,
        field: Option<TokenField<'_>>,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        let said = foreign.state().introspect(token, origin.client).await;
        match said.map_err(|_| Unavailable::Issuer)? {
            Said::Active { claims, ttl } => match foreign.introspected(&claims, now) {
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
                    // It is asked about no more often than one that is not active.
                    foreign.state().refuse(token, &fault);
                    Err(fault.into())
                }
            },
            Said::Refused(fault) => Err(fault.into()),
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
