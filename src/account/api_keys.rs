//! API keys: created, changed, rotated, listed, revoked. A secret is shown once and stored as a keyed digest.

use std::time::Duration;

use crate::account::call::Call;
use crate::account::halt::{Halt, NotFound, found};
use crate::account::key_terms::{KeyRefusal, KeyRules};
use crate::account::page::Page;
use crate::account::{AccountError, Accounts, is_administrator};
use crate::crypto::token::{self, ApiKeyText};
use crate::model::access::Scope;
use crate::model::account::Account;
use crate::model::api_key::{ApiKey, KeyPatch, KeyTerms, NewKey};
use crate::model::clock::Timestamp;
use crate::model::field::InvalidField;
use crate::model::id::{KeyId, UserId};
use crate::model::identity::{Identity, Principal};
use crate::model::secret::Secret;
use crate::store::{Guarded, KeyChange, NewSecret};
use crate::telemetry::audit::AuditAction;

/// Maximum time for which an old secret remains valid after a rotation, in seconds.
pub const OVERLAP_S_MAX: u64 = 86_400;

/// A key whose secret has just been drawn.
#[derive(Debug)]
pub struct IssuedKey {
    /// The record.
    pub key: ApiKey,
    /// The whole key, which is shown once.
    pub secret: Secret,
}

impl Accounts {
    /// Creates a key for the caller, limited to scopes that the caller's login carries.
    ///
    /// # Errors
    /// [`KeyRefusal`], [`AccountError::Store`]
    pub async fn create_api_key(
        &self,
        call: &Call,
        maker: &Identity,
        wanted: NewKey,
    ) -> Result<IssuedKey, Halt<KeyRefusal>> {
        let Principal::Own { account, .. } = &maker.principal else {
            return Err(KeyRefusal::NoAccount.into());
        };
        let may_give = |scope: &Scope| may_give(maker, scope);
        self.create_key(call, account, wanted, &may_give).await
    }

    /// Creates a key for any account on the operator's authority. The gateway's own scopes are for administrators only.
    ///
    /// # Errors
    /// [`KeyRefusal`], [`AccountError::Store`]
    pub async fn create_api_key_for(
        &self,
        call: &Call,
        owner: &Account,
        wanted: NewKey,
    ) -> Result<IssuedKey, Halt<KeyRefusal>> {
        let may_give = |scope: &Scope| !scope.is_own() || owner.is_admin;
        self.create_key(call, owner, wanted, &may_give).await
    }

    async fn create_key(
        &self,
        call: &Call,
        owner: &Account,
        wanted: NewKey,
        may_give: &(dyn Fn(&Scope) -> bool + Sync),
    ) -> Result<IssuedKey, Halt<KeyRefusal>> {
        let action = AuditAction::CreateApiKey;
        let issued: Result<IssuedKey, Halt<KeyRefusal>> = async {
            let now = self.clock.now();
            let rules = KeyRules {
                roles: &self.roles,
                now,
                may_give,
            };
            let terms = rules.changed(KeyTerms::default(), wanted.into())?;
            let text = ApiKeyText::draw(token::draw_key_id());
            let key = ApiKey {
                id: text.id,
                uid: owner.uid.clone(),
                terms,
                digest: self.token_keys.api_key_digest(&text),
                created: now,
                previous: None,
                suspended: false,
            };
            let object = Some(key.id.as_str());
            self.begin(call, action, Some(&owner.uid), object).await?;
            let written = self.store.create_api_key(key.clone(), owner.standing());
            match written.await? {
                Guarded::Done(true) => {}
                Guarded::Done(false) => return Err(KeyRefusal::TooMany.into()),
                Guarded::Stale => return Err(KeyRefusal::Changed.into()),
            }
            let secret = text.text();
            Ok(IssuedKey { key, secret })
        }
        .await;
        let id = issued.as_ref().ok().map(|issued| issued.key.id);
        let object = id.as_ref().map(KeyId::as_str);
        call.settle(action, Some(&owner.uid), object, issued)
    }

    /// Changes one of the caller's keys, limited to scopes that the caller's login carries. Takes effect on the next
    /// request.
    ///
    /// # Errors
    /// [`KeyRefusal`], [`AccountError::Store`]
    pub async fn update_api_key(
        &self,
        call: &Call,
        maker: &Identity,
        id: &KeyId,
        patch: KeyPatch,
    ) -> Result<ApiKey, Halt<KeyRefusal>> {
        let Principal::Own { account, .. } = &maker.principal else {
            return Err(KeyRefusal::NoAccount.into());
        };
        let action = AuditAction::ChangeApiKey;
        let changed = async {
            let key = self.api_key(&account.uid, id).await?;
            let key = key.ok_or(KeyRefusal::NoKey)?;
            let rules = KeyRules {
                roles: &self.roles,
                now: self.clock.now(),
                may_give: &|scope| may_give(maker, scope),
            };
            let change = KeyChange {
                suspended: patch.suspended,
                terms: Some(rules.changed(key.terms, patch)?),
                ..KeyChange::default()
            };
            self.change_key(call, action, account, (id, change)).await
        };
        call.settle(action, Some(&account.uid), Some(id.as_str()), changed.await)
    }

    /// Draws a new secret for one of the caller's keys. The old secret stays valid for `overlap_s` seconds, at most
    /// [`OVERLAP_S_MAX`]; any older secret is void.
    ///
    /// # Errors
    /// [`KeyRefusal`], [`AccountError::Store`]
    pub async fn rotate_api_key(
        &self,
        call: &Call,
        owner: &Account,
        id: &KeyId,
        overlap_s: u64,
    ) -> Result<IssuedKey, Halt<KeyRefusal>> {
        let text = ApiKeyText::draw(*id);
        let now = self.clock.now();
        let overlap = Duration::from_secs(overlap_s);
        let secret = NewSecret {
            digest: self.token_keys.api_key_digest(&text),
            overlap_until: (!overlap.is_zero()).then(|| now.plus(overlap)),
        };
        let change = KeyChange {
            secret: Some(secret),
            ..KeyChange::default()
        };
        let action = AuditAction::RotateApiKey;
        let changed = if OVERLAP_S_MAX < overlap_s {
            Err(KeyRefusal::Invalid(InvalidField {
                field: "overlap_s",
                expected: "whole seconds from 0 to 86400",
            })
            .into())
        } else {
            self.change_key(call, action, owner, (id, change)).await
        };
        let key = call.settle(action, Some(&owner.uid), Some(id.as_str()), changed)?;
        let secret = text.text();
        Ok(IssuedKey { key, secret })
    }

    /// Confirms a key of an account that a restore has suspended, on the operator's authority.
    ///
    /// # Errors
    /// [`KeyRefusal`], [`AccountError::Store`]
    pub async fn confirm_api_key_for(
        &self,
        call: &Call,
        owner: &Account,
        id: &KeyId,
    ) -> Result<ApiKey, Halt<KeyRefusal>> {
        let change = KeyChange {
            suspended: Some(false),
            ..KeyChange::default()
        };
        let action = AuditAction::ChangeApiKey;
        let changed = self.change_key(call, action, owner, (id, change)).await;
        call.settle(action, Some(&owner.uid), Some(id.as_str()), changed)
    }

    async fn change_key(
        &self,
        call: &Call,
        action: AuditAction,
        owner: &Account,
        (id, change): (&KeyId, KeyChange),
    ) -> Result<ApiKey, Halt<KeyRefusal>> {
        self.begin(call, action, Some(&owner.uid), Some(id.as_str()))
            .await?;
        let changed = self
            .store
            .update_api_key(&owner.uid, id, owner.standing(), change);
        match changed.await? {
            Guarded::Done(Some(key)) => Ok(key),
            Guarded::Done(None) => Err(KeyRefusal::NoKey.into()),
            Guarded::Stale => Err(KeyRefusal::Changed.into()),
        }
    }

    /// Returns the keys of a uid in the order of their ids, starting after `after`. Includes expired keys.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn api_keys(
        &self,
        uid: &UserId,
        after: Option<&KeyId>,
    ) -> Result<Page<ApiKey, KeyId>, AccountError> {
        let mut keys = self.store.api_keys_of(uid).await?;
        keys.retain(|key| after.is_none_or(|after| *after < key.id));
        Ok(Page::of(keys, |key| key.id))
    }

    /// Returns the time of last use of each key; `None` if it is not known. The times may be a minute behind.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn keys_used(&self, keys: &[ApiKey]) -> Result<Vec<Option<Timestamp>>, AccountError> {
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        Ok(self.store.keys_used(&ids).await?)
    }

    /// Returns one key of a uid, or `None` if the key belongs to another uid.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn api_key(&self, uid: &UserId, id: &KeyId) -> Result<Option<ApiKey>, AccountError> {
        let key = self.store.api_key(id).await?;
        Ok(key.filter(|key| key.uid == *uid))
    }

    /// Revokes a key of a uid.
    ///
    /// # Errors
    /// [`NotFound`], [`AccountError::Store`]
    pub async fn revoke_api_key(
        &self,
        call: &Call,
        uid: &UserId,
        id: &KeyId,
    ) -> Result<(), Halt<NotFound>> {
        let (action, object) = (AuditAction::RevokeApiKey, Some(id.as_str()));
        self.begin(call, action, Some(uid), object).await?;
        let was_there = self.store.revoke_api_key(uid, id).await?;
        call.settle(action, Some(uid), object, found(was_there))
    }
}

/// Whether a login may grant a scope to a key.
fn may_give(maker: &Identity, scope: &Scope) -> bool {
    if scope.is_own() {
        is_administrator(maker)
    } else {
        maker.has_scope(scope.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, PASSWORD, identity, refusal};
    use crate::model::field::Checked;
    use crate::store::bounds::KEYS_MAX;

    async fn create(
        kit: &Kit,
        maker: &Identity,
        scopes: &[&str],
    ) -> Result<IssuedKey, Halt<KeyRefusal>> {
        let scopes = scopes.iter().map(|text| (*text).to_owned());
        let wanted = NewKey {
            name: Some(Checked::of("script".to_owned())),
            scopes: Some(scopes.collect()),
            ..NewKey::default()
        };
        let call = Call::default();
        kit.accounts.create_api_key(&call, maker, wanted).await
    }

    #[tokio::test]
    async fn scopes_are_declared_ones_that_the_maker_may_give() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let root = kit.administrator("root").await;
        let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
        let reader = identity(&anna, Some(&session), &["lists:read"]);
        let admin = identity(&root, Some(&session), &["lists:read", "lists:write"]);
        let cases: [(&Identity, &[&str], Option<KeyRefusal>); 7] = [
            (&reader, &[], None),
            (&reader, &["lists:read", "lists:read"], None),
            (&reader, &["lists:write"], Some(KeyRefusal::ScopeMissing)),
            (&reader, &["lists:fly"], Some(KeyRefusal::ScopeUnknown)),
            (&reader, &["auth:admin"], Some(KeyRefusal::ScopeMissing)),
            (&admin, &["auth:admin", "auth:members"], None),
            (&admin, &["auth:everything"], Some(KeyRefusal::ScopeUnknown)),
        ];
        for (maker, scopes, expected) in cases {
            assert_eq!(
                refusal(create(&kit, maker, scopes).await),
                expected,
                "{scopes:?}"
            );
        }
    }

    /// The original compared the public part only, so that any secret was accepted.
    #[tokio::test]
    async fn only_the_whole_key_matches_what_rests() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
        let maker = identity(&anna, Some(&session), &[]);
        let IssuedKey { key, secret } = create(&kit, &maker, &[]).await.unwrap();
        let right = ApiKeyText::parse(secret.expose()).unwrap();
        assert!(kit.token_keys.api_key_matches(&right, &key.digest));
        let wrong = ApiKeyText::draw(key.id);
        assert!(!kit.token_keys.api_key_matches(&wrong, &key.digest));
    }

    #[tokio::test]
    async fn keys_are_their_owners_and_not_too_many() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let bert = kit.person("bert").await;
        let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
        let maker = identity(&anna, Some(&session), &[]);
        for _ in 0..KEYS_MAX {
            assert_eq!(refusal(create(&kit, &maker, &[]).await), None);
        }
        let one_more = refusal(create(&kit, &maker, &[]).await);
        assert_eq!(one_more, Some(KeyRefusal::TooMany));
        let page = kit.accounts.api_keys(&anna.uid, None).await.unwrap();
        assert_eq!((page.items.len(), page.next), (KEYS_MAX, None));
        let id = page.items[0].id;
        let rest = kit.accounts.api_keys(&anna.uid, Some(&id)).await.unwrap();
        assert_eq!(rest.items, page.items[1..]);
        let call = Call::default();
        assert_eq!(kit.accounts.api_key(&bert.uid, &id).await.unwrap(), None);
        let foreign = kit.accounts.revoke_api_key(&call, &bert.uid, &id).await;
        assert_eq!(refusal(foreign), Some(NotFound));
        let own = kit.accounts.revoke_api_key(&call, &anna.uid, &id).await;
        assert_eq!(refusal(own), None);
        // The revocation has changed the account's generation, so this identity of the maker is stale.
        let stale = refusal(create(&kit, &maker, &[]).await);
        assert_eq!(stale, Some(KeyRefusal::Changed));
    }

    #[tokio::test]
    async fn names_and_ends_keep_their_rules() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let expired = NewKey {
            expires: Some(Checked::of(kit.clock_in(0).to_rfc3339())),
            ..NewKey::default()
        };
        let named = NewKey {
            name: Some(Checked::of("x".repeat(65))),
            ..NewKey::default()
        };
        for (wanted, field) in [(expired, "expires"), (named, "name")] {
            let call = Call::cli();
            let outcome = kit.accounts.create_api_key_for(&call, &anna, wanted).await;
            let refused = refusal(outcome);
            assert!(
                matches!(refused, Some(KeyRefusal::Invalid(invalid)) if invalid.field == field),
                "{field}"
            );
        }
    }
}
