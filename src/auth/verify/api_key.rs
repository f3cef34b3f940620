//! API keys: checksum, look-up, secret, owner.

use std::sync::Arc;

use crate::auth::caller::Caller;
use crate::auth::grant::Stop;
use crate::auth::verify::{Kind, Remembered, Verifier};
use crate::crypto::token::ApiKeyText;
use crate::model::access::Scope;
use crate::model::account::Digest;
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::identity::{AuthnMethod, Identity, Principal};

/// Compared where there is no key, so that an unknown one costs what a wrong one costs.
const NO_KEY: Digest = Digest([0; 32]);

impl Verifier {
    pub(super) async fn api_key(&self, text: &str, now: Timestamp) -> Result<Remembered, Stop> {
        let refused = || Stop::Deny(DenyReason::ApiKeyInvalid);
        let presented = ApiKeyText::parse(text).ok_or_else(refused)?;
        let found = self
            .store
            .api_key(&presented.id)
            .await
            .map_err(|error| self.unavailable(&error))?;
        let matches = self.token_keys.api_key_matches(
            &presented,
            found.as_ref().map_or(&NO_KEY, |key| &key.digest),
        );
        let Some(found) = found.filter(|_| matches) else {
            return Err(refused());
        };
        // INVARIANT: the owner is known from the first read only; from here on everything is read behind the stamp
        // (tests/it/keys.rs).
        let stamp = self.store.generations().stamp(&found.uid);
        let key = self
            .store
            .api_key(&found.id)
            .await
            .map_err(|error| self.unavailable(&error))?
            .filter(|key| key.digest == found.digest);
        let Some(key) = key.filter(|key| key.expires.is_none_or(|at| now < at)) else {
            return Err(refused());
        };
        let Some(subject) = self
            .active(&key.uid)
            .await
            .map_err(|error| self.unavailable(&error))?
        else {
            return Err(refused());
        };
        let account = Arc::clone(&subject.account);
        // The gateway's own scopes are an administrator's gift: they end with the owner's administration.
        let may_carry =
            |scope: &Scope| self.scopes.contains(scope) && (!scope.is_own() || account.is_admin);
        let scopes: Vec<_> = key.scopes.into_iter().filter(may_carry).collect();
        let as_admin =
            account.is_admin && scopes.iter().any(|scope| scope.as_str() == Scope::ADMIN);
        let identity = Identity {
            roles: account.global_roles(as_admin),
            resource_roles: self.resource_roles(&subject),
            principal: Principal::Own {
                account,
                session: None,
            },
            method: AuthnMethod::ApiKey,
            key_id: Some(key.id),
            scopes,
            expires: key.expires,
        };
        let until = key.expires.unwrap_or(Timestamp::from_millis(i64::MAX));
        Ok(Remembered {
            kind: Kind::ApiKey,
            caller: Arc::new(Caller::new(identity)),
            stamp: Some(stamp),
            until,
        })
    }
}
