//! API keys: made, listed, revoked. The secret is shown once and rests as a keyed digest.

use crate::account::call::Call;
use crate::account::{AccountError, Accounts, InvalidField, is_administrator};
use crate::crypto::token::{self, ApiKeyText};
use crate::model::access::Scope;
use crate::model::account::{Account, ApiKey};
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, UserId};
use crate::model::identity::{Identity, Principal};
use crate::model::secret::Secret;
use crate::store::Guarded;
use crate::telemetry::audit::AuditAction;

/// How many keys one account may have: each is looked at when they are listed and when a password ends them.
pub const KEYS_MAX: usize = 50;
/// Longest name of a key, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// A key to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedKey {
    /// What its owner calls it; may be empty.
    pub name: String,
    /// What it may be used for, as asked for.
    pub scopes: Vec<String>,
    /// When it ends; `None`: never.
    pub expires: Option<Timestamp>,
}

/// Outcome of making a key.
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

/// Why a key was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// A value breaks its rule.
    Invalid(InvalidField),
    /// A scope that is not declared.
    ScopeUnknown,
    /// A scope that the maker does not carry, or one of the gateway's own that only an administrator gives.
    ScopeMissing,
    /// The account has as many keys as one may have.
    TooMany,
    /// The maker is no account of ours.
    NoAccount,
    /// The account has changed since the caller was recognised.
    Changed,
}

impl KeyRefusal {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid(_) => "value_invalid",
            Self::ScopeUnknown => "scope_unknown",
            Self::ScopeMissing => "scope_missing",
            Self::TooMany => "apikey_limit",
            Self::NoAccount => "not_found",
            Self::Changed => "account_changed",
        }
    }
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
        let may_give = |scope: &Scope| {
            if scope.is_own() {
                is_administrator(maker)
            } else {
                maker.has_scope(scope.as_str())
            }
        };
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
        let scopes = match self.checked_key(&wanted, may_give, now) {
            Ok(scopes) => scopes,
            Err(refusal) => return refuse(refusal),
        };
        if KEYS_MAX <= self.parts.store.api_keys_of(&owner.uid).await?.len() {
            return refuse(KeyRefusal::TooMany);
        }
        let text = ApiKeyText::draw(token::draw_key_id());
        let key = ApiKey {
            id: text.id,
            uid: owner.uid.clone(),
            name: wanted.name,
            digest: self.parts.token_keys.api_key_digest(&text),
            scopes,
            created: now,
            expires: wanted.expires,
        };
        let written = self
            .parts
            .store
            .create_api_key(key.clone(), owner.standing())
            .await?;
        if written == Guarded::Stale {
            return refuse(KeyRefusal::Changed);
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

    /// Checks all values of a wanted key and gives its scopes, sorted, no two alike.
    fn checked_key(
        &self,
        wanted: &WantedKey,
        may_give: &dyn Fn(&Scope) -> bool,
        now: Timestamp,
    ) -> Result<Vec<Scope>, KeyRefusal> {
        let name = &wanted.name;
        if name.chars().any(char::is_control) || NAME_CHARS_MAX < name.chars().count() {
            return Err(KeyRefusal::Invalid(InvalidField {
                field: "name",
                expected: "at most 64 characters, none of them a control character",
            }));
        }
        if wanted.expires.is_some_and(|expires| expires <= now) {
            return Err(KeyRefusal::Invalid(InvalidField {
                field: "expires",
                expected: "a time in the future",
            }));
        }
        let declared = &self.parts.roles.scopes;
        let mut scopes = Vec::new();
        for text in &wanted.scopes {
            let known = declared.iter().find(|scope| scope.as_str() == text);
            scopes.push(known.ok_or(KeyRefusal::ScopeUnknown)?.clone());
        }
        scopes.sort();
        scopes.dedup();
        if scopes.iter().all(may_give) {
            Ok(scopes)
        } else {
            Err(KeyRefusal::ScopeMissing)
        }
    }

    /// All keys of a uid, expired ones included, in the order of their ids.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn api_keys(&self, uid: &UserId) -> Result<Vec<ApiKey>, AccountError> {
        Ok(self.parts.store.api_keys_of(uid).await?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, PASSWORD, identity};

    async fn create(kit: &Kit, maker: &Identity, scopes: &[&str]) -> KeyCreation {
        let wanted = WantedKey {
            name: "script".to_owned(),
            scopes: scopes.iter().map(|text| (*text).to_owned()).collect(),
            expires: None,
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
        let keys = kit.accounts.api_keys(&anna.uid).await.unwrap();
        assert_eq!(keys.len(), KEYS_MAX);
        let id = keys[0].id;
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
