//! Verification of API keys: checksum, look-up, secret, owner.

use std::sync::Arc;

use crate::auth::caller::Caller;
use crate::auth::verify::unverified::Unverified;
use crate::auth::verify::{Evidence, Remembered, Verifier};
use crate::crypto::token::ApiKeyText;
use crate::model::access::{ResourceRole, Role, Scope};
use crate::model::account::Digest;
use crate::model::api_key::ApiKey;
use crate::model::clock::Timestamp;
use crate::model::identity::{AuthnMethod, Identity, Principal};
use crate::model::refusal_fault::KeyFaultKind;
use crate::store::cached::AccountWithMemberships;

/// Compared if there is no key, so that an unknown key costs as much as a wrong one.
const NO_KEY: Digest = Digest([0; 32]);

impl Verifier {
    pub(super) async fn api_key(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        let presented = ApiKeyText::parse(text).ok_or(KeyFaultKind::Malformed)?;
        let found = self
            .services
            .store
            .api_key(&presented.id)
            .await
            .map_err(|error| self.unavailable(&error))?;
        let matched = match &found {
            Some(key) => self.matched(&presented, key),
            None => self
                .services
                .token_keys
                .api_key_matches(&presented, &NO_KEY)
                .then_some(NO_KEY),
        };
        let (found, matched) = match (found, matched) {
            (Some(found), Some(matched)) => (found, matched),
            (Some(_), None) => return Err(KeyFaultKind::Secret.into()),
            (None, _) => return Err(KeyFaultKind::Unknown.into()),
        };
        let id = found.id;
        let refused = |kind| Err(Unverified::of_key(kind, id));
        // An expired key stops at the same point as an unknown one, so that it takes no longer.
        if secret_end(&found, &matched, now).is_none_or(|end| end <= now) {
            return refused(KeyFaultKind::Expired);
        }
        // INVARIANT: the owner is known from the first read only; from here on everything is read after the stamp
        // (tests/it/keys.rs).
        let stamp = self.services.store.generations().stamp(&found.uid);
        let again = self
            .services
            .store
            .api_key(&id)
            .await
            .map_err(|error| self.unavailable(&error))?;
        let Some(key) = again else {
            return refused(KeyFaultKind::Unknown);
        };
        if key.suspended {
            return refused(KeyFaultKind::Suspended);
        }
        let Some(until) = secret_end(&key, &matched, now).filter(|end| now < *end) else {
            return refused(KeyFaultKind::Expired);
        };
        let subject = match self.active(&key.uid).await? {
            Ok(subject) => subject,
            Err(fault) => return refused(KeyFaultKind::Account(fault)),
        };
        let identity = self.key_identity(&key, &subject);
        Ok(Remembered {
            caller: Arc::new(Caller::new(identity)),
            until,
            evidence: Evidence::ApiKey {
                stamp,
                state: self.services.key_use.state(key.id),
                terms: key.terms,
            },
        })
    }

    /// Returns the identity of a key whose owner may act.
    fn key_identity(&self, key: &ApiKey, subject: &AccountWithMemberships) -> Identity {
        let account = Arc::clone(&subject.account);
        let only = key.terms.resources.as_ref();
        let only: Option<Arc<[ResourceRole]>> =
            only.map(|limits| self.yielded(limits.iter()).into());
        // The gateway's own scopes depend on the owner being an administrator, and end with that. A key that is limited
        // to resources grants no access beyond them.
        let may_carry = |scope: &&Scope| {
            self.config.roles.scopes.contains(*scope)
                && (!scope.is_own() || account.is_admin)
                && (only.is_none() || scope.as_str() != Scope::ADMIN)
        };
        let scopes: Vec<_> = key.terms.scopes.iter().filter(may_carry).cloned().collect();
        let as_admin =
            account.is_admin && scopes.iter().any(|scope| scope.as_str() == Scope::ADMIN);
        let mut roles = account.global_roles(as_admin);
        if only.is_some() {
            roles.retain(|role| role.as_str() == Role::USER);
        }
        let mut identity = Identity {
            roles,
            resource_roles: Vec::new(),
            only,
            principal: Principal::Own {
                account,
                session: None,
            },
            method: AuthnMethod::ApiKey,
            key_id: Some(key.id),
            scopes,
            expires: key.terms.expires,
        };
        let owned = self.resource_roles(subject).into_iter();
        identity.resource_roles = owned.filter_map(|role| identity.narrowed(role)).collect();
        identity
    }

    /// Returns the digest that matches the presented secret, the current or the previous one; all are compared.
    fn matched(&self, presented: &ApiKeyText, key: &ApiKey) -> Option<Digest> {
        let previous = key.previous.as_ref().map(|previous| previous.digest);
        let has = |digest: &Digest| self.services.token_keys.api_key_matches(presented, digest);
        let is_present = has(&key.digest);
        let previous = previous.filter(has);
        is_present.then_some(key.digest).or(previous)
    }
}

/// Returns when the secret of this digest expires as one of the key's; `None` if it no longer belongs to the key.
fn secret_end(key: &ApiKey, digest: &Digest, now: Timestamp) -> Option<Timestamp> {
    let end = key
        .terms
        .expires
        .unwrap_or(Timestamp::from_millis(i64::MAX));
    if key.digest == *digest {
        return Some(end);
    }
    let previous = key.previous.as_ref()?;
    let is_it = previous.digest == *digest && !previous.until.is_ahead(now);
    is_it.then(|| end.min(previous.until))
}
