//! API keys: made, changed, rotated, listed, revoked. A secret is shown once and rests as a keyed digest.

use std::time::Duration;

use ipnet::IpNet;

use crate::account::call::Call;
use crate::account::key_terms::{KeyRefusal, Terms, WantedRole, is_too_strong};
use crate::account::page::Page;
use crate::account::{AccountError, Accounts, InvalidField, is_administrator};
use crate::crypto::token::{self, ApiKeyText};
use crate::model::access::{Membership, Scope};
use crate::model::account::{Account, ApiKey};
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, UserId};
use crate::model::identity::{Identity, Principal};
use crate::model::secret::Secret;
use crate::store::{Guarded, KeyChange, NewSecret};
use crate::telemetry::audit::AuditAction;

/// Longest time for which an old secret is good beside the new one, in seconds.
pub const OVERLAP_S_MAX: u64 = 86_400;

/// A key to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedKey {
    /// What its owner calls it; may be empty.
    pub name: String,
    /// What it may be used for, as asked for.
    pub scopes: Vec<String>,
    /// When it ends; `None`: never.
    pub expires: Option<Timestamp>,
    /// Networks (CIDR) or addresses that it may come from; `None`: all.
    pub allow_from: Option<Vec<String>>,
    /// Requests in a minute; `None`: no limit of its own.
    pub rate_per_minute: Option<u64>,
    /// The resource roles that it is limited to; `None`: all of its owner's.
    pub resources: Option<Vec<WantedRole>>,
}

/// A change of a key; `None` leaves a field as it is, `Some(None)` takes it away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedChange {
    /// What its owner calls it.
    pub name: Option<String>,
    /// All that it may be used for from now on.
    pub scopes: Option<Vec<String>>,
    /// When it ends.
    pub expires: Option<Option<Timestamp>>,
    /// Networks or addresses that it may come from.
    pub allow_from: Option<Option<Vec<String>>>,
    /// Requests in a minute.
    pub rate_per_minute: Option<Option<u64>>,
    /// The resource roles that it is limited to.
    pub resources: Option<Option<Vec<WantedRole>>>,
    /// Refused, or confirmed after a restore.
    pub suspended: Option<bool>,
}

/// Outcome of changing a key.
#[derive(Debug)]
#[must_use]
pub enum KeyUpdate {
    /// As it stands now.
    Done(Box<ApiKey>),
    /// Nothing was written.
    Refused(KeyRefusal),
}

/// Outcome of making a key, or another secret for one.
#[derive(Debug)]
#[must_use]
pub enum KeyCreation {
    /// Made.
    Created {
        /// The record.
        key: Box<ApiKey>,
        /// The whole key: shown once, never again.
        secret: Secret,
    },
    /// Not made.
    Refused(KeyRefusal),
}

impl Accounts {
    /// Makes a key for the caller, with scopes that the caller's login carries.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn create_api_key(
        &self,
        call: &Call,
        maker: &Identity,
        wanted: WantedKey,
    ) -> Result<KeyCreation, AccountError> {
        let Principal::Own { account, .. } = &maker.principal else {
            return Ok(KeyCreation::Refused(KeyRefusal::NoAccount));
        };
        let may_give = |scope: &Scope| may_give(maker, scope);
        self.write_key(call, account, wanted, &may_give).await
    }

    /// Makes a key for any account, as the operator does; the gateway's own scopes go to administrators only.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn create_api_key_for(
        &self,
        call: &Call,
        owner: &Account,
        wanted: WantedKey,
    ) -> Result<KeyCreation, AccountError> {
        let may_give = |scope: &Scope| !scope.is_own() || owner.is_admin;
        self.write_key(call, owner, wanted, &may_give).await
    }

    async fn write_key(
        &self,
        call: &Call,
        owner: &Account,
        wanted: WantedKey,
        may_give: &(dyn Fn(&Scope) -> bool + Sync),
    ) -> Result<KeyCreation, AccountError> {
        let subject = Some(owner.uid.as_str());
        let refuse = |refusal: KeyRefusal| {
            call.record(AuditAction::CreateApiKey, refusal.code(), subject, None);
            Ok(KeyCreation::Refused(refusal))
        };
        let now = self.parts.clock.now();
        let terms = match self.checked(&wanted, may_give, now) {
            Ok(terms) => terms,
            Err(refusal) => return refuse(refusal),
        };
        let text = ApiKeyText::draw(token::draw_key_id());
        let key = ApiKey {
            id: text.id,
            uid: owner.uid.clone(),
            name: wanted.name,
            digest: self.parts.token_keys.api_key_digest(&text),
            scopes: terms.scopes,
            created: now,
            expires: wanted.expires,
            previous: None,
            allow_from: terms.allow_from,
            rate_per_minute: terms.rate_per_minute,
            resources: terms.resources,
            suspended: false,
        };
        let object = Some(key.id.as_str());
        self.begin(call, AuditAction::CreateApiKey, Some(&owner.uid), object)
            .await?;
        let written = self
            .parts
            .store
            .create_api_key(key.clone(), owner.standing())
            .await?;
        match written {
            Guarded::Done(true) => {}
            Guarded::Done(false) => return refuse(KeyRefusal::TooMany),
            Guarded::Stale => return refuse(KeyRefusal::Changed),
        }
        call.record(
            AuditAction::CreateApiKey,
            "ok",
            subject,
            Some(key.id.as_str()),
        );
        Ok(KeyCreation::Created {
            key: Box::new(key),
            secret: text.text(),
        })
    }

    /// Changes one of the caller's keys, with scopes that the caller's login carries. It counts on the next request.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn update_api_key(
        &self,
        call: &Call,
        maker: &Identity,
        id: &KeyId,
        wanted: WantedChange,
    ) -> Result<KeyUpdate, AccountError> {
        let Principal::Own { account, .. } = &maker.principal else {
            return Ok(KeyUpdate::Refused(KeyRefusal::NoAccount));
        };
        let written = match self.api_key(&account.uid, id).await? {
            None => Err(KeyRefusal::NoKey),
            Some(key) => match self.checked_key_change(maker, &key, wanted) {
                Err(refusal) => Err(refusal),
                Ok(change) => {
                    self.change_key(call, AuditAction::ChangeApiKey, account, (id, change))
                        .await?
                }
            },
        };
        let outcome = written
            .as_ref()
            .err()
            .map_or("ok", |refusal| refusal.code());
        let subject = Some(account.uid.as_str());
        call.record(
            AuditAction::ChangeApiKey,
            outcome,
            subject,
            Some(id.as_str()),
        );
        Ok(match written {
            Ok(key) => KeyUpdate::Done(key),
            Err(refusal) => KeyUpdate::Refused(refusal),
        })
    }

    /// Makes another secret for one of the caller's keys; the old one stays good for `overlap_s` seconds, at most
    /// [`OVERLAP_S_MAX`], and one older still is void.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn rotate_api_key(
        &self,
        call: &Call,
        owner: &Account,
        id: &KeyId,
        overlap_s: u64,
    ) -> Result<KeyCreation, AccountError> {
        let text = ApiKeyText::draw(*id);
        let now = self.parts.clock.now();
        let overlap = Duration::from_secs(overlap_s);
        let secret = NewSecret {
            digest: self.parts.token_keys.api_key_digest(&text),
            overlap_until: (!overlap.is_zero()).then(|| now.plus(overlap)),
        };
        let change = KeyChange {
            secret: Some(secret),
            ..KeyChange::default()
        };
        let written = if OVERLAP_S_MAX < overlap_s {
            Err(KeyRefusal::Invalid(InvalidField {
                field: "overlap_s",
                expected: "whole seconds from 0 to 86400",
            }))
        } else {
            self.change_key(call, AuditAction::RotateApiKey, owner, (id, change))
                .await?
        };
        let outcome = written
            .as_ref()
            .err()
            .map_or("ok", |refusal| refusal.code());
        let subject = Some(owner.uid.as_str());
        call.record(
            AuditAction::RotateApiKey,
            outcome,
            subject,
            Some(id.as_str()),
        );
        Ok(match written {
            Ok(key) => KeyCreation::Created {
                key,
                secret: text.text(),
            },
            Err(refusal) => KeyCreation::Refused(refusal),
        })
    }

    /// Confirms one of an account's keys that a restore has suspended, as the operator does.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn confirm_api_key_for(
        &self,
        call: &Call,
        owner: &Account,
        id: &KeyId,
    ) -> Result<KeyUpdate, AccountError> {
        let change = KeyChange {
            suspended: Some(false),
            ..KeyChange::default()
        };
        let action = AuditAction::ChangeApiKey;
        let written = self.change_key(call, action, owner, (id, change)).await?;
        let outcome = written
            .as_ref()
            .err()
            .map_or("ok", |refusal| refusal.code());
        let (subject, object) = (Some(owner.uid.as_str()), Some(id.as_str()));
        call.record(action, outcome, subject, object);
        Ok(match written {
            Ok(key) => KeyUpdate::Done(key),
            Err(refusal) => KeyUpdate::Refused(refusal),
        })
    }

    async fn change_key(
        &self,
        call: &Call,
        action: AuditAction,
        owner: &Account,
        (id, change): (&KeyId, KeyChange),
    ) -> Result<Result<Box<ApiKey>, KeyRefusal>, AccountError> {
        self.begin(call, action, Some(&owner.uid), Some(id.as_str()))
            .await?;
        let store = &self.parts.store;
        let written = store
            .update_api_key(&owner.uid, id, owner.standing(), change)
            .await?;
        Ok(match written {
            Guarded::Done(Some(key)) => Ok(Box::new(key)),
            Guarded::Done(None) => Err(KeyRefusal::NoKey),
            Guarded::Stale => Err(KeyRefusal::Changed),
        })
    }

    fn checked_key_change(
        &self,
        maker: &Identity,
        key: &ApiKey,
        wanted: WantedChange,
    ) -> Result<KeyChange, KeyRefusal> {
        let terms = self.terms();
        let may_give = |scope: &Scope| may_give(maker, scope);
        let scopes = wanted.scopes.as_deref();
        let change = KeyChange {
            name: wanted.name.map(Terms::name).transpose()?,
            scopes: scopes
                .map(|scopes| terms.scopes(scopes, &may_give))
                .transpose()?,
            expires: wanted
                .expires
                .map(|expires| Terms::expires(expires, self.parts.clock.now()))
                .transpose()?,
            allow_from: wanted
                .allow_from
                .map(|networks| Terms::networks(networks.as_deref()))
                .transpose()?,
            rate_per_minute: wanted.rate_per_minute.map(Terms::rate).transpose()?,
            resources: wanted
                .resources
                .map(|resources| terms.resources(resources.as_deref()))
                .transpose()?,
            secret: None,
            suspended: wanted.suspended,
        };
        let scopes = change.scopes.as_ref().unwrap_or(&key.scopes);
        let resources = change.resources.as_ref().unwrap_or(&key.resources);
        if is_too_strong(scopes, resources.as_deref()) {
            return Err(KeyRefusal::Invalid(TOO_STRONG));
        }
        Ok(change)
    }

    /// Checks all values of a wanted key.
    fn checked(
        &self,
        wanted: &WantedKey,
        may_give: &dyn Fn(&Scope) -> bool,
        now: Timestamp,
    ) -> Result<CheckedTerms, KeyRefusal> {
        let terms = self.terms();
        Terms::name(wanted.name.clone())?;
        Terms::expires(wanted.expires, now)?;
        let checked = CheckedTerms {
            scopes: terms.scopes(&wanted.scopes, may_give)?,
            allow_from: Terms::networks(wanted.allow_from.as_deref())?,
            rate_per_minute: Terms::rate(wanted.rate_per_minute)?,
            resources: terms.resources(wanted.resources.as_deref())?,
        };
        if is_too_strong(&checked.scopes, checked.resources.as_deref()) {
            return Err(KeyRefusal::Invalid(TOO_STRONG));
        }
        Ok(checked)
    }

    fn terms(&self) -> Terms<'_> {
        Terms(&self.parts.roles)
    }

    /// The keys of a uid, expired ones included, in the order of their ids, those after `after`.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn api_keys(
        &self,
        uid: &UserId,
        after: Option<&KeyId>,
    ) -> Result<Page<ApiKey, KeyId>, AccountError> {
        let mut keys = self.parts.store.api_keys_of(uid).await?;
        keys.retain(|key| after.is_none_or(|after| *after < key.id));
        Ok(Page::of(keys, |key| key.id))
    }

    /// When keys were used last, in their order; `None`: that is not known. It may be a minute behind.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn keys_used(&self, keys: &[ApiKey]) -> Result<Vec<Option<Timestamp>>, AccountError> {
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        Ok(self.parts.store.keys_used(&ids).await?)
    }

    /// One key of a uid; somebody else's is not there.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn api_key(&self, uid: &UserId, id: &KeyId) -> Result<Option<ApiKey>, AccountError> {
        let key = self.parts.store.api_key(id).await?;
        Ok(key.filter(|key| key.uid == *uid))
    }

    /// Revokes a key of a uid; `false`: they have none of that id.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn revoke_api_key(
        &self,
        call: &Call,
        uid: &UserId,
        id: &KeyId,
    ) -> Result<bool, AccountError> {
        let object = Some(id.as_str());
        self.begin(call, AuditAction::RevokeApiKey, Some(uid), object)
            .await?;
        let revoked = self.parts.store.revoke_api_key(uid, id).await?;
        let outcome = if revoked { "ok" } else { "not_found" };
        call.record(
            AuditAction::RevokeApiKey,
            outcome,
            Some(uid.as_str()),
            Some(id.as_str()),
        );
        Ok(revoked)
    }
}

/// What of a [`WantedKey`] needs checking, checked.
struct CheckedTerms {
    scopes: Vec<Scope>,
    allow_from: Vec<IpNet>,
    rate_per_minute: Option<u32>,
    resources: Option<Vec<Membership>>,
}

const TOO_STRONG: InvalidField = InvalidField {
    field: "resources",
    expected: "to be left out beside the scope auth:admin, which knows no limits",
};

/// Whether a login may give a scope to a key.
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
    use crate::account::test_kit::{Kit, PASSWORD, identity};
    use crate::store::bounds::KEYS_MAX;

    async fn create(kit: &Kit, maker: &Identity, scopes: &[&str]) -> KeyCreation {
        let wanted = WantedKey {
            name: "script".to_owned(),
            scopes: scopes.iter().map(|text| (*text).to_owned()).collect(),
            ..WantedKey::default()
        };
        let call = Call::default();
        kit.accounts
            .create_api_key(&call, maker, wanted)
            .await
            .unwrap()
    }

    fn refusal(outcome: &KeyCreation) -> Option<KeyRefusal> {
        match outcome {
            KeyCreation::Created { .. } => None,
            KeyCreation::Refused(refusal) => Some(*refusal),
        }
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
                refusal(&create(&kit, maker, scopes).await),
                expected,
                "{scopes:?}"
            );
        }
    }

    /// The original looked at the public part only, so that any secret passed.
    #[tokio::test]
    async fn only_the_whole_key_matches_what_rests() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
        let maker = identity(&anna, Some(&session), &[]);
        let KeyCreation::Created { key, secret } = create(&kit, &maker, &[]).await else {
            panic!("refused");
        };
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
            assert_eq!(refusal(&create(&kit, &maker, &[]).await), None);
        }
        let one_more = refusal(&create(&kit, &maker, &[]).await);
        assert_eq!(one_more, Some(KeyRefusal::TooMany));
        let page = kit.accounts.api_keys(&anna.uid, None).await.unwrap();
        assert_eq!((page.items.len(), page.next), (KEYS_MAX, None));
        let id = page.items[0].id;
        let rest = kit.accounts.api_keys(&anna.uid, Some(&id)).await.unwrap();
        assert_eq!(rest.items, page.items[1..]);
        let call = Call::default();
        assert_eq!(kit.accounts.api_key(&bert.uid, &id).await.unwrap(), None);
        assert!(
            !kit.accounts
                .revoke_api_key(&call, &bert.uid, &id)
                .await
                .unwrap()
        );
        assert!(
            kit.accounts
                .revoke_api_key(&call, &anna.uid, &id)
                .await
                .unwrap()
        );
        // The revocation has moved the generation that this maker was recognised with.
        let stale = refusal(&create(&kit, &maker, &[]).await);
        assert_eq!(stale, Some(KeyRefusal::Changed));
    }

    #[tokio::test]
    async fn names_and_ends_keep_their_rules() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let expired = WantedKey {
            expires: Some(kit.clock_in(0)),
            ..WantedKey::default()
        };
        let named = WantedKey {
            name: "x".repeat(65),
            ..WantedKey::default()
        };
        for (wanted, field) in [(expired, "expires"), (named, "name")] {
            let call = Call::cli();
            let outcome = kit.accounts.create_api_key_for(&call, &anna, wanted).await;
            let refused = refusal(&outcome.unwrap());
            assert!(
                matches!(refused, Some(KeyRefusal::Invalid(invalid)) if invalid.field == field),
                "{field}"
            );
        }
    }
}
