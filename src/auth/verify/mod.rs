//! Verification: from a credential to a verified caller.

mod api_key;
mod bearer;
mod claims;
mod foreign;
mod listed;
mod near;
mod opaque;
mod session;
pub mod unverified;
mod wrong_signatures;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::HeaderName;

use crate::auth::caller::Caller;
use crate::auth::cookie::CookieKind;
use crate::auth::extract::{Credential, CredentialFields};
use crate::auth::grant::{Stop, Unavailable};
use crate::auth::verify::foreign::{AcceptedToken, ForeignIssuer};
use crate::auth::verify::near::VerifierNumber;
use crate::auth::verify::session::SessionLifetime;
use crate::auth::verify::unverified::Unverified;
use crate::auth::verify::wrong_signatures::WrongSignatures;
use crate::config::Config;
use crate::crypto::digest::{self, DigestHasherBuilder};
use crate::crypto::jwt::SignedToken;
use crate::issuer::IssuerState;
use crate::model::access::{Membership, ResourceRole};
use crate::model::account::Digest;
use crate::model::api_key::KeyTerms;
use crate::model::bucket::retry_after_s;
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::id::UserId;
use crate::model::identity::Identity;
use crate::model::refusal_fault::{AccountFault, KeyFaultKind, RefusalFault};
use crate::services::Services;
use crate::services::key_use::KeyUsage;
use crate::store::cached::{AccountWithMemberships, Subjects, weight_of};
use crate::store::error::StoreError;
use crate::store::generations::{Generations, Stamp};

/// The source of a credential, and whether its use is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CredentialSource {
    /// The client's address, after trusted proxies.
    pub(crate) client: IpAddr,
    /// `false`: a trial, which is not rate-limited and notes no use.
    pub(crate) counts: bool,
}

impl CredentialSource {
    /// A request from this address.
    pub(crate) const fn request(client: IpAddr) -> Self {
        let counts = true;
        Self { client, counts }
    }

    /// A trial with the credential of a request from this address.
    pub(crate) const fn trial(client: IpAddr) -> Self {
        let counts = false;
        Self { client, counts }
    }
}

/// Verifies credentials, and caches the callers as long as their rights have not changed.
pub(crate) struct Verifier {
    config: Arc<Config>,
    services: Arc<Services>,
    /// The fields that carry credentials.
    pub(in crate::auth) carriers: CredentialFields,
    foreign: Vec<ForeignIssuer>,
    subjects: Subjects,
    verified: moka::sync::Cache<Digest, Arc<Remembered>, DigestHasherBuilder>,
    /// Marks its entries in the caches of threads.
    number: VerifierNumber,
    wrong_signatures: WrongSignatures,
}

/// A cached caller.
struct Remembered {
    caller: Arc<Caller>,
    /// Time from which it is verified again.
    until: Timestamp,
    evidence: Evidence,
}

/// The evidence that verified a caller, and the conditions, besides `until`, under which its cache entry ends. A stamp
/// is void after any change to the account.
enum Evidence {
    /// A bearer token of the gateway.
    OwnToken { stamp: Stamp },
    /// A token of a foreign issuer.
    ForeignToken {
        /// Index of the issuer's own header field; `None`: `Authorization`.
        field: Option<usize>,
        /// The keys that signed it; `None`: the issuer introspected it.
        signed: Option<SignedBy>,
    },
    ApiKey {
        stamp: Stamp,
        state: Arc<KeyUsage>,
        /// Each use has to meet them, cached or not.
        terms: KeyTerms,
    },
    Session {
        cookie: CookieKind,
        stamp: Stamp,
        uses: SessionLifetime,
    },
}

impl Evidence {
    const fn kind(&self) -> CacheKind {
        match self {
            Self::OwnToken { .. } | Self::ForeignToken { field: None, .. } => CacheKind::Bearer,
            Self::ForeignToken {
                field: Some(place), ..
            } => CacheKind::Edge(*place),
            Self::ApiKey { .. } => CacheKind::ApiKey,
            Self::Session { cookie, .. } => CacheKind::Cookie(*cookie),
        }
    }

    /// Whether it still counts, apart from the caller's own expiry.
    fn counts(&self, generations: &Generations, now: Timestamp) -> bool {
        match self {
            Self::OwnToken { stamp } | Self::ApiKey { stamp, .. } => generations.is_current(*stamp),
            Self::ForeignToken { signed, .. } => signed
                .as_ref()
                .is_none_or(|signed| signed.issuer.is_current(signed.generation, now)),
            Self::Session { stamp, uses, .. } => {
                now < uses.idle_end() && generations.is_current(*stamp)
            }
        }
    }
}

/// The issuer whose keys verified a token, and their generation. The cache entry ends once the issuer drops a key or
/// its key set is too old.
struct SignedBy {
    issuer: Arc<IssuerState>,
    generation: u64,
}

impl Remembered {
    /// The caller of a foreign token.
    fn foreign(
        accepted: AcceptedToken,
        field: Option<usize>,
        signed: Option<SignedBy>,
        until: Timestamp,
    ) -> Self {
        let caller = Caller::new(accepted.identity).without(accepted.left_out);
        Self {
            caller: Arc::new(caller),
            until,
            evidence: Evidence::ForeignToken { field, signed },
        }
    }
}

/// The field of its issuer that a token came in.
#[derive(Clone, Copy)]
struct TokenField<'a> {
    place: usize,
    name: &'a HeaderName,
}

/// The kind of a cached credential: a text cached as one kind is never accepted as another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CacheKind {
    Bearer,
    /// A token in the field of its issuer, by the index of the field.
    Edge(usize),
    ApiKey,
    Cookie(CookieKind),
}

impl Verifier {
    pub(crate) fn new(config: &Arc<Config>, services: &Arc<Services>) -> Self {
        let (entries, store) = (config.store.cache_entries, Arc::clone(&services.store));
        let foreign = config.issuers.iter().zip(services.issuers.iter());
        Self {
            config: Arc::clone(config),
            services: Arc::clone(services),
            carriers: CredentialFields::new(config),
            foreign: foreign
                .map(|(issuer, state)| ForeignIssuer::new(issuer, state, &config.roles))
                .collect(),
            subjects: Subjects::new(store, entries),
            // New callers must be admitted to a full cache, so eviction is by least recent use.
            verified: moka::sync::Cache::builder()
                .max_capacity(entries)
                .weigher(|_, kept: &Arc<Remembered>| weight(&kept.caller.identity))
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build_with_hasher(DigestHasherBuilder::default()),
            number: VerifierNumber::draw(),
            wrong_signatures: WrongSignatures::new(),
        }
    }

    /// Verifies a credential; uses the caches if it was verified before and nothing has changed since.
    ///
    /// The thread's own cache compares the whole credential, and the shared one is keyed by the digest of all of it, so
    /// a hit proves every character.
    pub(crate) async fn verify(
        &self,
        credential: Credential<'_>,
        source: CredentialSource,
    ) -> Result<Arc<Caller>, Unverified> {
        let (kind, text) = parts_of(&credential);
        let now = self.services.clock.now();
        let counts = |remembered: &Remembered| self.counts(remembered, kind, now);
        if let Some(near) = near::find(self.number, text, counts) {
            return self.hit(&near, source, now);
        }
        let digest = digest::digest(text);
        if let Some(remembered) = self.verified.get(&digest).filter(|it| counts(it)) {
            near::offer(self.number, text, &remembered);
            return self.hit(&remembered, source, now);
        }
        self.services.metrics.identity_cache_misses.inc();
        // Boxed, since it is rare and large: inline it would make the future of every request ten times as large.
        let fresh = Box::pin(self.afresh(kind, (text, &digest), source, now)).await;
        let fresh = fresh.inspect_err(|unverified| self.note_refused(unverified, source))?;
        let fresh = Arc::new(fresh);
        self.verified.insert(digest, Arc::clone(&fresh));
        self.admit(&fresh, source, now)?;
        Ok(Arc::clone(&fresh.caller))
    }

    /// Whether a cached caller still counts for a credential of this kind.
    // INVARIANT: asked on every hit of either cache (src/web/tests/cached_callers.rs).
    fn counts(&self, remembered: &Remembered, kind: CacheKind, now: Timestamp) -> bool {
        let generations = self.services.store.generations();
        remembered.evidence.kind() == kind
            && now < remembered.until
            && remembered.evidence.counts(generations, now)
    }

    fn hit(
        &self,
        remembered: &Remembered,
        source: CredentialSource,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Unverified> {
        self.services.metrics.identity_cache_hits.inc();
        self.admit(remembered, source, now)?;
        Ok(Arc::clone(&remembered.caller))
    }

    async fn afresh(
        &self,
        kind: CacheKind,
        (text, digest): (&str, &Digest),
        source: CredentialSource,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        match kind {
            CacheKind::Bearer => self.bearer((text, digest), None, source, now).await,
            CacheKind::Edge(place) => {
                let name = self.carriers.tokens.get(place);
                let name = name.ok_or(DenyReason::BearerInvalid)?;
                let field = Some(TokenField { place, name });
                self.bearer((text, digest), field, source, now).await
            }
            CacheKind::ApiKey => self.api_key(text, now).await,
            CacheKind::Cookie(kind) => self.session(kind, text, now).await,
        }
    }

    /// Caches the caller of a token that was just signed here. All but its signature is verified.
    pub(crate) async fn warm(&self, token: &SignedToken) {
        let source = CredentialSource::trial(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let now = self.services.clock.now();
        self.services.metrics.identity_cache_misses.inc();
        let fresh = match token.claims() {
            Ok(claims) => self.own_login(&claims, now).await,
            Err(error) => Err(error.into()),
        };
        match fresh {
            Ok(fresh) => self.verified.insert(token.digest(), Arc::new(fresh)),
            Err(unverified) => self.note_refused(&unverified, source),
        }
    }

    /// Whether this thread's own cache keeps the text of a credential.
    #[cfg(test)]
    pub(crate) fn holds_near(text: &str) -> bool {
        near::holds(text)
    }

    /// Describes the shared cache's entry for an own token.
    #[cfg(test)]
    pub(crate) fn entry(&self, token: &str) -> Option<String> {
        let remembered = self.verified.get(&digest::digest(token))?;
        let Evidence::OwnToken { stamp } = remembered.evidence else {
            return None;
        };
        let (caller, until) = (&remembered.caller, remembered.until);
        Some(format!("{caller:?} {until:?} {stamp:?}"))
    }

    /// Counts and logs why a credential was refused; the caller learns only that it was.
    fn note_refused(&self, unverified: &Unverified, source: CredentialSource) {
        let Some(fault) = &unverified.fault else {
            return;
        };
        if let RefusalFault::Token(fault) = fault
            && source.counts
        {
            self.services.metrics.bearer_refused(fault.kind);
        }
        tracing::debug!(
            fault = fault.code(),
            detail = %fault,
            client = %source.client,
            "credential refused"
        );
    }

    /// Returns the cached caller of this credential, current or not.
    pub(crate) fn remembered(&self, credential: Credential<'_>) -> Option<Arc<Caller>> {
        let (kind, text) = parts_of(&credential);
        let remembered = self.verified.get(&digest::digest(text))?;
        (remembered.evidence.kind() == kind).then(|| Arc::clone(&remembered.caller))
    }

    /// Checks one use of a verified credential against its conditions, and notes it.
    // INVARIANT: runs on every request, also on one whose identity is cached (tests/it/apikeys.rs).
    fn admit(
        &self,
        remembered: &Remembered,
        source: CredentialSource,
        now: Timestamp,
    ) -> Result<(), Unverified> {
        if let Evidence::ApiKey { state, terms, .. } = &remembered.evidence {
            if !terms.allow_from.admit(source.client) {
                return Err(Unverified::of_key(KeyFaultKind::Network, state.id));
            }
            if source.counts {
                if let Some(rate) = terms.rate_per_minute {
                    let taken = state
                        .bucket
                        .take(self.services.clock.elapsed(), rate.per_minute());
                    taken.map_err(|wait| Stop::Wait(retry_after_s(wait)))?;
                }
                self.services.key_use.note(state, now);
            }
        }
        if let Evidence::Session { uses, .. } = &remembered.evidence
            && source.counts
        {
            self.note_use(uses, now);
        }
        Ok(())
    }

    /// Returns the account of a uid with its memberships, or why it may not act.
    async fn active(
        &self,
        uid: &UserId,
    ) -> Result<Result<Arc<AccountWithMemberships>, AccountFault>, Stop> {
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
        self.services.metrics.store_errors.inc();
        tracing::error!(
            error = error as &dyn std::error::Error,
            "cannot read the caller's account or key from the store"
        );
        Stop::Fail(Unavailable::Store)
    }

    /// Returns the identity of an account for `explain --as`: a login with every declared scope.
    pub(crate) async fn as_account(&self, uid: &UserId) -> Result<Arc<Caller>, Unverified> {
        let subject = self.active(uid).await??;
        let scopes = self.config.roles.login_scopes().cloned().collect();
        let identity = self.login_identity(&subject, None, scopes, None);
        Ok(Arc::new(Caller::new(identity)))
    }

    /// Returns the resource roles of an account's memberships, sorted; stored memberships on resources of a role source
    /// are ignored.
    fn resource_roles(&self, subject: &AccountWithMemberships) -> Vec<ResourceRole> {
        let stored = subject.memberships.iter();
        self.yielded(stored.filter(|membership| self.config.roles.is_stored(&membership.resource)))
    }

    /// Returns the roles of memberships, sorted.
    fn yielded<'m>(&self, memberships: impl Iterator<Item = &'m Membership>) -> Vec<ResourceRole> {
        let (resources, ladder) = (&self.config.roles.resources, &self.config.roles.ladder);
        let mut roles: Vec<_> = memberships
            .filter_map(|membership| ResourceRole::of(membership, resources, ladder))
            .collect();
        roles.sort_unstable();
        roles
    }
}

/// Returns the weight of an identity in entries of about 1 KiB: by its number of roles and scopes, and by the length of
/// all its texts, which are stored twice, once ready to be sent. An issuer may fill 8 KiB of a token with them.
fn weight(identity: &Identity) -> u32 {
    let texts = u32::try_from(identity.text_bytes() / 512).unwrap_or(u32::MAX);
    weight_of(identity.words()).saturating_add(texts)
}

fn parts_of<'a>(credential: &'a Credential<'_>) -> (CacheKind, &'a str) {
    match credential {
        Credential::Bearer(text) => (CacheKind::Bearer, text),
        Credential::Edge(place, text) => (CacheKind::Edge(*place), text),
        Credential::ApiKey(text) => (CacheKind::ApiKey, text),
        Credential::BasicKey(key) => (CacheKind::ApiKey, key.text()),
        Credential::Cookie(kind, text) => (CacheKind::Cookie(*kind), text),
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
