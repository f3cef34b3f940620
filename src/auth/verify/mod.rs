//! From a credential to a verified caller.

mod api_key;
mod bearer;
mod claims;
mod foreign;
mod listed;
mod opaque;
mod session;
pub mod unverified;

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;

use crate::auth::caller::Caller;
use crate::auth::cookie::CookieKind;
use crate::auth::extract::{Carriers, Credential};
use crate::auth::grant::{Stop, Unavailable};
use crate::auth::key_use::{KeyState, KeyUse};
use crate::auth::verify::foreign::ForeignIssuer;
use crate::auth::verify::session::Use;
use crate::auth::verify::unverified::Unverified;
use crate::config::{Config, RoleSettings, SessionSettings};
use crate::crypto::digest;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::TokenKeys;
use crate::issuer::{IssuerState, Issuers};
use crate::model::access::{Membership, ResourceRole, Scope};
use crate::model::account::Digest;
use crate::model::api_key::KeyTerms;
use crate::model::bucket::retry_after_s;
use crate::model::clock::{Clock, Timestamp};
use crate::model::deny::DenyReason;
use crate::model::id::UserId;
use crate::model::identity::Identity;
use crate::model::refusal_fault::{AccountFault, KeyFaultKind, RefusalFault};
use crate::role_source::RoleSources;
use crate::store::Store;
use crate::store::cached::{Subject, Subjects, weight_of};
use crate::store::error::StoreError;
use crate::store::generations::Stamp;
use crate::store::uses::SessionUses;
use crate::telemetry::metrics::Metrics;

/// What verifying needs; each part outlives the configuration or is built from it.
pub struct VerifierParts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The foreign issuers of this configuration.
    pub issuers: Arc<Issuers>,
    /// Records at rest.
    pub store: Arc<dyn Store>,
    /// Keys of digests.
    pub token_keys: Arc<TokenKeys>,
    /// Our own signing keys.
    pub signing: Arc<SigningKeys>,
    /// What signs assertions.
    pub assertion_keys: Arc<SigningKeys>,
    /// Uses of session cookies, to be written down.
    pub session_uses: Arc<SessionUses>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is counted of API keys.
    pub key_use: Arc<KeyUse>,
    /// Roles that other services give.
    pub role_sources: Arc<RoleSources>,
}

/// From where a credential comes, and whether its use counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The client's address, after trusted proxies.
    pub(crate) client: IpAddr,
    /// `false`: a trial, which takes nothing from a rate and notes no use.
    pub(crate) counts: bool,
}

/// Turns credentials into verified callers, and remembers them while nothing has touched their rights.
pub(crate) struct Verifier {
    own_issuer: String,
    own_audience: String,
    /// A request brings no longer one, for it is a part of its head.
    token_bytes_max: usize,
    foreign: Vec<ForeignIssuer>,
    /// Fields of issuers that have one of their own, as [`Carriers`] orders them.
    token_headers: Vec<HeaderName>,
    roles: RoleSettings,
    store: Arc<dyn Store>,
    subjects: Subjects,
    token_keys: Arc<TokenKeys>,
    signing: Arc<SigningKeys>,
    sessions: SessionSettings,
    session_uses: Arc<SessionUses>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    key_use: Arc<KeyUse>,
    verified: moka::sync::Cache<Digest, Arc<Remembered>>,
}

/// A verified caller, for as long as it may be taken from memory.
struct Remembered {
    kind: Kind,
    caller: Arc<Caller>,
    /// Void once anything has touched the account; foreign callers have none.
    stamp: Option<Stamp>,
    /// Void once a key of its issuer is gone, or all of them are too old; only what a foreign key has signed has one.
    signed: Option<SignedBy>,
    /// Verified again from then on.
    until: Timestamp,
    /// The API key that the caller is recognised by.
    key: Option<UsedKey>,
    /// For a session cookie: verified again when it was not used for too long, too.
    uses: Option<Use>,
}

/// Whose keys a token was verified with, and which generation of them.
struct SignedBy {
    issuer: Arc<IssuerState>,
    generation: u64,
}

/// An API key: each use of it is held to its terms, whether the identity is taken from memory or not.
struct UsedKey {
    state: Arc<KeyState>,
    terms: KeyTerms,
}

impl Remembered {
    fn counts_at(&self, now: Timestamp) -> bool {
        let is_in_use = self.uses.as_ref().is_none_or(|uses| now < uses.idle_end());
        let is_signed = self
            .signed
            .as_ref()
            .is_none_or(|signed| signed.issuer.is_current(signed.generation, now));
        now < self.until && is_in_use && is_signed
    }
}

/// A text remembered as one kind of credential never stands for the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bearer,
    /// In the field of its issuer, by the field's place.
    Edge(usize),
    ApiKey,
    Cookie(CookieKind),
}

impl Verifier {
    pub(crate) fn new(parts: VerifierParts<'_>) -> Self {
        let config = parts.config;
        let foreign = config.issuers.iter().zip(parts.issuers.iter());
        Self {
            own_issuer: config.tokens.issuer.clone(),
            own_audience: config.tokens.audience.clone(),
            token_bytes_max: config.limits.head_bytes_max,
            foreign: foreign
                .map(|(issuer, state)| ForeignIssuer::new(issuer, state, &config.roles))
                .collect(),
            token_headers: Carriers::new(config).tokens,
            roles: config.roles.clone(),
            subjects: Subjects::new(Arc::clone(&parts.store), config.store.cache_entries),
            store: parts.store,
            token_keys: parts.token_keys,
            signing: parts.signing,
            sessions: config.session.clone(),
            session_uses: parts.session_uses,
            clock: parts.clock,
            metrics: parts.metrics,
            key_use: parts.key_use,
            // New callers must get in when the cache is full and hot, so the least recently used goes.
            verified: moka::sync::Cache::builder()
                .max_capacity(config.store.cache_entries)
                .weigher(|_, kept: &Arc<Remembered>| weight(&kept.caller.identity))
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build(),
        }
    }

    /// Verifies a credential, from memory if it was verified before and nothing has changed since.
    ///
    /// The memory is keyed by the digest of the whole credential, so a hit proves every character of it.
    pub(crate) async fn verify(
        &self,
        credential: Credential<'_>,
        origin: Origin,
    ) -> Result<Arc<Caller>, Unverified> {
        let (kind, text) = parts_of(&credential);
        let digest = digest::digest(text);
        let now = self.clock.now();
        if let Some(remembered) = self.verified.get(&digest)
            && remembered.kind == kind
            && remembered.counts_at(now)
            && remembered
                .stamp
                .is_none_or(|stamp| self.store.generations().is_current(stamp))
        {
            self.metrics.identity_cache_hit();
            self.admit(&remembered, origin, now)?;
            return Ok(Arc::clone(&remembered.caller));
        }
        self.metrics.identity_cache_miss();
        // On the heap, for it is rare and long: what waits here would make the future of every request ten times as large.
        let fresh = Box::pin(self.afresh(kind, text, origin, now)).await;
        let fresh = fresh.inspect_err(|unverified| self.note_refused(unverified, origin))?;
        let fresh = Arc::new(fresh);
        self.verified.insert(digest, Arc::clone(&fresh));
        self.admit(&fresh, origin, now)?;
        Ok(Arc::clone(&fresh.caller))
    }

    async fn afresh(
        &self,
        kind: Kind,
        text: &str,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        match kind {
            Kind::Bearer => self.bearer(text, None, origin, now).await,
            Kind::Edge(place) => {
                let field = self.token_headers.get(place);
                let field = field.ok_or(DenyReason::BearerInvalid)?;
                let verified = self.bearer(text, Some(field), origin, now).await?;
                Ok(Remembered { kind, ..verified })
            }
            Kind::ApiKey => self.api_key(text, now).await,
            Kind::Cookie(kind) => self.session(kind, text, now).await,
        }
    }

    /// Counts and logs why a credential was refused; the caller learns only that it was.
    fn note_refused(&self, unverified: &Unverified, origin: Origin) {
        let Some(fault) = &unverified.fault else {
            return;
        };
        if let RefusalFault::Token(fault) = fault
            && origin.counts
        {
            self.metrics.bearer_refused(fault.kind);
        }
        tracing::debug!(
            fault = fault.code(),
            detail = %fault,
            client = %origin.client,
            "credential refused"
        );
    }

    /// Who presented this credential last, with the rights of then, whether they still count or not.
    pub(crate) fn remembered(&self, credential: Credential<'_>) -> Option<Arc<Caller>> {
        let (kind, text) = parts_of(&credential);
        let remembered = self.verified.get(&digest::digest(text))?;
        (remembered.kind == kind).then(|| Arc::clone(&remembered.caller))
    }

    /// Holds one use of a verified credential to its terms, and notes it.
    // INVARIANT: on every request, also on one whose identity is taken from memory (tests/it/apikeys.rs).
    fn admit(
        &self,
        remembered: &Remembered,
        origin: Origin,
        now: Timestamp,
    ) -> Result<(), Unverified> {
        if let Some(UsedKey { state, terms }) = &remembered.key {
            if !terms.allow_from.admit(origin.client) {
                return Err(Unverified::of_key(KeyFaultKind::Network, state.id));
            }
            if origin.counts {
                if let Some(rate) = terms.rate_per_minute {
                    let taken = state.bucket.take(self.clock.elapsed(), rate.per_minute());
                    taken.map_err(|wait| Stop::Wait(retry_after_s(wait)))?;
                }
                self.key_use.note(state, now);
            }
        }
        if origin.counts {
            self.note_use(remembered, now);
        }
        Ok(())
    }

    /// The account of a uid with its memberships, or why it may not act.
    async fn active(&self, uid: &UserId) -> Result<Result<Arc<Subject>, AccountFault>, Stop> {
        let found = self.subjects.get(uid).await;
        let found = found.map_err(|error| self.unavailable(&error))?;
        Ok(match found {
            None => Err(AccountFault::Unknown),
            Some((subject, _)) => match AccountFault::of(subject.account.status) {
                None => Ok(subject),
                Some(fault) => Err(fault),
            },
        })
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
    pub(crate) async fn as_account(&self, uid: &UserId) -> Result<Arc<Caller>, Unverified> {
        let subject = self.active(uid).await??;
        let identity = self.login_identity(&subject, None, self.login_scopes(), None);
        Ok(Arc::new(Caller::new(identity)))
    }

    /// The resource roles of an account's memberships, sorted; a membership in the store of a resource that a role source
    /// speaks for is none.
    fn resource_roles(&self, subject: &Subject) -> Vec<ResourceRole> {
        let stored = subject.memberships.iter();
        self.yielded(stored.filter(|membership| self.roles.is_stored(&membership.resource)))
    }

    /// What memberships amount to, sorted.
    fn yielded<'m>(&self, memberships: impl Iterator<Item = &'m Membership>) -> Vec<ResourceRole> {
        let (resources, ladder) = (&self.roles.resources, &self.roles.ladder);
        let mut roles: Vec<_> = memberships
            .filter_map(|membership| ResourceRole::of(membership, resources, ladder))
            .collect();
        roles.sort_unstable();
        roles
    }

    /// What a login carries: every declared scope but the gateway's own.
    fn login_scopes(&self) -> Vec<Scope> {
        let scopes = self.roles.scopes.iter().filter(|scope| !scope.is_own());
        scopes.cloned().collect()
    }
}

/// For how many entries of about 1 KiB an identity counts: by its number of roles and scopes, and by the length of all its
/// texts, each of which is there twice, once of them ready to be sent. An issuer may fill 8 KiB of a token with them.
fn weight(identity: &Identity) -> u32 {
    let texts = u32::try_from(identity.text_bytes() / 512).unwrap_or(u32::MAX);
    weight_of(identity.words()).saturating_add(texts)
}

fn parts_of<'a>(credential: &'a Credential<'_>) -> (Kind, &'a str) {
    match credential {
        Credential::Bearer(text) => (Kind::Bearer, text),
        Credential::Edge(place, text) => (Kind::Edge(*place), text),
        Credential::ApiKey(text) => (Kind::ApiKey, text),
        Credential::BasicKey(key) => (Kind::ApiKey, key.text()),
        Credential::Cookie(kind, text) => (Kind::Cookie(*kind), text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Role;
    use crate::model::identity::{AuthnMethod, Principal};

    #[test]
    fn who_takes_more_room_counts_for_more() {
        let identity = |roles: usize, length: usize| Identity {
            principal: Principal::Foreign {
                issuer: "corp".to_owned(),
                subject: "anna".to_owned(),
                username: None,
            },
            method: AuthnMethod::Jwt,
            key_id: None,
            roles: vec![Role::parse(&"x".repeat(length)).unwrap(); roles],
            resource_roles: Vec::new(),
            only: None,
            scopes: Vec::new(),
            expires: None,
        };
        for (roles, length, expected) in [(0, 1, 1), (4, 10, 1), (16, 10, 2), (24, 250, 1 + 1 + 11)]
        {
            assert_eq!(
                weight(&identity(roles, length)),
                expected,
                "{roles} {length}"
            );
        }
    }
}
