//! From a credential to a verified caller.

mod api_key;
mod bearer;
mod claims;
mod foreign;

use std::sync::Arc;

use crate::auth::caller::Caller;
use crate::auth::extract::Credential;
use crate::auth::grant::{Stop, Unavailable};
use crate::auth::verify::foreign::ForeignIssuer;
use crate::config::Config;
use crate::crypto::jwks::KeySet;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::{self, TokenKeys};
use crate::model::access::{Ladder, Name, ResourceRole, Scope};
use crate::model::account::{AccountStatus, Digest};
use crate::model::clock::{Clock, Timestamp};
use crate::model::id::UserId;
use crate::store::Store;
use crate::store::cached::{Subject, Subjects, weight_of};
use crate::store::error::StoreError;
use crate::store::generations::Stamp;
use crate::telemetry::metrics::Metrics;

/// What verifying needs; each part outlives the configuration or is built from it.
pub struct VerifierParts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Keys of the foreign issuers, in the order of the configuration.
    pub issuer_keys: Vec<KeySet>,
    /// Records at rest.
    pub store: Arc<dyn Store>,
    /// Keys of digests.
    pub token_keys: Arc<TokenKeys>,
    /// Our own signing keys.
    pub signing: Arc<SigningKeys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Turns credentials into verified callers, and remembers them while nothing has touched their rights.
pub(crate) struct Verifier {
    own_issuer: String,
    own_audience: String,
    foreign: Vec<ForeignIssuer>,
    resources: Vec<Name>,
    ladder: Ladder,
    scopes: Vec<Scope>,
    store: Arc<dyn Store>,
    subjects: Subjects,
    token_keys: Arc<TokenKeys>,
    signing: Arc<SigningKeys>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    verified: moka::sync::Cache<Digest, Arc<Remembered>>,
}

/// A verified caller, for as long as it may be taken from memory.
struct Remembered {
    kind: Kind,
    caller: Arc<Caller>,
    /// Void once anything has touched the account; foreign callers have none.
    stamp: Option<Stamp>,
    /// Verified again from then on.
    until: Timestamp,
}

/// A text remembered as one kind of credential never stands for the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bearer,
    ApiKey,
}

impl Verifier {
    pub(crate) fn new(parts: VerifierParts<'_>) -> Self {
        let config = parts.config;
        let foreign = config.issuers.iter().zip(parts.issuer_keys);
        Self {
            own_issuer: config.tokens.issuer.clone(),
            own_audience: config.tokens.audience.clone(),
            foreign: foreign
                .map(|(issuer, keys)| ForeignIssuer::new(issuer, keys, &config.roles))
                .collect(),
            resources: config.roles.resources.clone(),
            ladder: config.roles.ladder.clone(),
            scopes: config.roles.scopes.clone(),
            subjects: Subjects::new(Arc::clone(&parts.store), config.store.cache_entries),
            store: parts.store,
            token_keys: parts.token_keys,
            signing: parts.signing,
            clock: parts.clock,
            metrics: parts.metrics,
            // New callers must get in when the cache is full and hot, so the least recently used goes.
            verified: moka::sync::Cache::builder()
                .max_capacity(config.store.cache_entries)
                .weigher(|_, kept: &Arc<Remembered>| weight_of(kept.caller.identity.words()))
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build(),
        }
    }

    /// Verifies a credential, from memory if it was verified before and nothing has changed since.
    ///
    /// The memory is keyed by the digest of the whole credential, so a hit proves every character of it.
    pub(crate) async fn verify(&self, credential: Credential<'_>) -> Result<Arc<Caller>, Stop> {
        let (kind, text) = match credential {
            Credential::Bearer(text) => (Kind::Bearer, text),
            Credential::ApiKey(text) => (Kind::ApiKey, text),
        };
        let digest = token::digest(text);
        let now = self.clock.now();
        if let Some(remembered) = self.verified.get(&digest)
            && remembered.kind == kind
            && now < remembered.until
            && remembered
                .stamp
                .is_none_or(|stamp| self.store.generations().is_current(stamp))
        {
            self.metrics.identity_cache_hit();
            return Ok(Arc::clone(&remembered.caller));
        }
        self.metrics.identity_cache_miss();
        let fresh = match kind {
            Kind::Bearer => self.bearer(text, now).await?,
            Kind::ApiKey => self.api_key(text, now).await?,
        };
        let caller = Arc::clone(&fresh.caller);
        self.verified.insert(digest, Arc::new(fresh));
        Ok(caller)
    }

    /// The account of a uid with its memberships, if it may act.
    async fn active(&self, uid: &UserId) -> Result<Option<Arc<Subject>>, StoreError> {
        let subject = self.subjects.get(uid).await?;
        Ok(subject
            .map(|(subject, _)| subject)
            .filter(|subject| subject.account.status == AccountStatus::Active))
    }

    fn unavailable(&self, error: &StoreError) -> Stop {
        self.metrics.store_error();
        tracing::error!(
            error = error as &dyn std::error::Error,
            "cannot read who is calling"
        );
        Stop::Fail(Unavailable::Store)
    }

    /// The identity of an account as `explain --as` asks for it: a login that carries every declared scope.
    pub(crate) async fn as_account(&self, uid: &UserId) -> Result<Option<Arc<Caller>>, Stop> {
        let Some(subject) = self
            .active(uid)
            .await
            .map_err(|error| self.unavailable(&error))?
        else {
            return Ok(None);
        };
        let scopes = self
            .scopes
            .iter()
            .filter(|scope| !scope.is_own())
            .cloned()
            .collect();
        let identity = self.login_identity(&subject, None, scopes, None);
        Ok(Some(Arc::new(Caller::new(identity))))
    }

    /// The resource roles of an account's memberships, sorted.
    fn resource_roles(&self, subject: &Subject) -> Vec<ResourceRole> {
        let memberships = subject.memberships.iter();
        let mut roles: Vec<_> = memberships
            .filter_map(|membership| ResourceRole::of(membership, &self.resources, &self.ladder))
            .collect();
        roles.sort_unstable();
        roles
    }
}
