//! Tokens that say nothing by themselves: the one issuer that introspects is asked.

use std::sync::Arc;

use http::HeaderName;

use crate::auth::caller::Caller;
use crate::auth::grant::{Stop, Unavailable};
use crate::auth::verify::foreign::ForeignIssuer;
use crate::auth::verify::{Kind, Remembered, Verifier};
use crate::crypto::jwt::TOKEN_BYTES_MAX;
use crate::crypto::token::is_own_form;
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;

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
        field: Option<&HeaderName>,
        now: Timestamp,
    ) -> Result<Remembered, Stop> {
        // INVARIANT: nothing of our own form is shown to others (tests/it/opaque.rs).
        if TOKEN_BYTES_MAX < token.len() || is_own_form(token) {
            return Err(DenyReason::BearerInvalid.into());
        }
        let introspects =
            |foreign: &&ForeignIssuer| foreign.state().introspects() && foreign.comes_in(field);
        let foreign = self.foreign.iter().find(introspects);
        let foreign = foreign.ok_or(DenyReason::BearerInvalid)?;
        self.introspected(foreign, token, now).await
    }

    /// A token that its issuer is asked about.
    pub(super) async fn introspected(
        &self,
        foreign: &ForeignIssuer,
        token: &str,
        now: Timestamp,
    ) -> Result<Remembered, Stop> {
        let said = foreign.state().introspect(token).await;
        let said = said.map_err(|_| Stop::Fail(Unavailable::Issuer))?;
        let (claims, ttl) = said.ok_or(DenyReason::BearerInvalid)?;
        let (identity, until) = foreign.introspected(&claims, now)?;
        Ok(Remembered {
            kind: Kind::Bearer,
            caller: Arc::new(Caller::new(identity)),
            stamp: None,
            signed: None,
            until: until.min(now.plus(ttl)),
            uses: None,
            terms: None,
        })
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
