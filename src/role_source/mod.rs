//! Floor 3: memberships owned by other services, queried over HTTP.
//!
//! A source is authoritative only for its own resources, and for the uid in the question. An answer is fresh for its
//! `ttl`. While the source does not answer, the last answer is used for `stale_max` more; after that the roles are
//! unknown, and requests that need them fail closed.

mod answer;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::fetch::{FetchError, Fetcher};
use crate::limit::places::SharedSlots;
use crate::limit::single_flight::SingleFlight;
use crate::model::access::{LevelOrder, Name, ResourceId, ResourceRole};
use crate::model::bucket::Bucket;
use crate::model::clock::Clock;
use crate::model::id::UserId;
use crate::model::role_source::{RoleSource, TemplatePiece};
use crate::role_source::answer::{MembershipQuestion, UnreadableAnswer};
use crate::telemetry::metrics::Metrics;

/// Timeout of a query; the request that needs it waits.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of an answer: some 15,000 memberships.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Maximum number of queries in flight per source, so that a slow source does not accumulate them.
const AT_ONCE_MAX: usize = 64;
/// Maximum number of these for one uid, so that one login cannot use them all.
const AT_ONCE_OF_UID_MAX: usize = 8;
/// After a failed query, the same query is not repeated for this long.
const PAUSE: Duration = Duration::from_secs(1);
/// Minimum interval of warnings about a failing source.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Forced readings per caller and minute.
const FORCED_PER_MINUTE: u32 = 10;
/// Maximum number of callers whose forced readings are counted.
const FORCED_CALLERS_MAX: u64 = 10_000;

/// The roles cannot be determined: the source does not answer, and its last answer is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role source does not answer")]
pub struct SourceDown;

/// Whether an answer may come from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// Cached answers are accepted.
    Cached,
    /// The source is queried now, and no query already in flight is shared.
    Forced,
}

/// Why a query failed; its source is the cause.
#[derive(Debug, thiserror::Error)]
enum RoleSourceError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Garbage(#[from] UnreadableAnswer),
    #[error("has too many requests in flight")]
    Crowded,
}

/// All configured sources, with a cache of their answers.
pub struct RoleSources {
    sources: Vec<RunningSource>,
    ladder: LevelOrder,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    known: Cache<String, Arc<CachedQuestion>>,
    /// Queries in flight, by key.
    flights: SingleFlight<String, SharedAnswer>,
    /// Held while an answer is compared with the cached one and stored.
    storing: Mutex<()>,
    /// Numbers the queries in the order in which they began.
    begun: AtomicU64,
    forced: Cache<String, Arc<Bucket>>,
}

struct RunningSource {
    settings: RoleSource,
    /// Limits queries in flight, with a share per uid.
    at_once: SharedSlots<String>,
    /// The kinds of excess already logged.
    told: AtomicU8,
    /// When a failure was last logged, in milliseconds of the clock; 0 for never.
    warned_ms: AtomicU64,
}

type Roles = Arc<[ResourceRole]>;

/// The outcome of a query, shared by all tasks waiting for it.
type SharedAnswer = Result<Roles, SourceDown>;

/// The cached state of one question.
struct CachedQuestion {
    /// Number of the query that produced this state.
    begun: u64,
    /// The last answer, and when its query began.
    answer: Option<(Duration, Roles)>,
    /// When a later query failed.
    failed: Option<Duration>,
}

impl RoleSources {
    /// Creates the sources. `ladder`: the declared levels. `entries`: maximum number of cached memberships; the least
    /// recently used answers are evicted.
    #[must_use]
    pub fn new(
        sources: &[RoleSource],
        ladder: &LevelOrder,
        entries: u64,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let life = sources
            .iter()
            .map(|source| source.ttl + source.stale_max)
            .max();
        let weight = |_: &String, known: &Arc<CachedQuestion>| {
            let roles = known.answer.as_ref().map_or(0, |(_, roles)| roles.len());
            u32::try_from(roles).unwrap_or(u32::MAX).saturating_add(1)
        };
        Self {
            sources: sources.iter().map(RunningSource::new).collect(),
            ladder: ladder.clone(),
            fetcher: Fetcher {
                timeout: TIMEOUT,
                body_bytes_max: BODY_BYTES_MAX,
            },
            clock,
            metrics,
            known: Cache::builder()
                .max_capacity(entries)
                .weigher(weight)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(life.unwrap_or_default().max(PAUSE))
                .build(),
            flights: SingleFlight::default(),
            storing: Mutex::default(),
            begun: AtomicU64::new(0),
            forced: Cache::builder().max_capacity(FORCED_CALLERS_MAX).build(),
        }
    }

    /// Whether a source is authoritative for this kind of resource.
    #[must_use]
    pub fn speaks_for(&self, resource: &Name) -> bool {
        self.source_of(resource).is_some()
    }

    /// Returns the kinds of resources that sources are authoritative for.
    pub fn resources(&self) -> impl Iterator<Item = &Name> {
        self.sources
            .iter()
            .flat_map(|source| &source.settings.resources)
    }

    /// Returns the roles of a uid on one resource, or without `id` on all of a kind, sorted.
    ///
    /// A source whose URL contains the id is queried for one id only; without an id there are no roles. Waits at most
    /// some seconds.
    ///
    /// # Errors
    /// [`SourceDown`] if the source does not answer, and its last answer is too old or must not be used.
    pub async fn roles(
        &self,
        uid: &UserId,
        resource: &Name,
        id: Option<&str>,
        reading: CacheUse,
    ) -> Result<Roles, SourceDown> {
        let Some((source, id)) = self.askable(resource, id) else {
            return Ok(Roles::default());
        };
        let question = MembershipQuestion {
            uid: uid.as_str(),
            resource,
            id,
        };
        let key = key_of(question);
        if reading == CacheUse::Cached
            && let Some(settled) = self.settled(source, &key)
        {
            return settled;
        }
        // Boxed because this future is large and rarely needed: a request whose answer is cached does not carry it.
        Box::pin(self.wait_for(source, question, &key, reading)).await
    }

    /// Queries the source; concurrent calls with the same key share one query (single flight).
    async fn wait_for(
        &self,
        source: &RunningSource,
        question: MembershipQuestion<'_>,
        key: &str,
        reading: CacheUse,
    ) -> SharedAnswer {
        if reading == CacheUse::Forced {
            return self.ask(source, question, key, reading).await;
        }
        let ask = || async {
            // Another flight may have finished since the first check.
            match self.settled(source, key) {
                Some(settled) => settled,
                None => self.ask(source, question, key, reading).await,
            }
        };
        self.flights.join(key.to_owned(), ask).await
    }

    /// Returns the last answer to a question, however old; `None` if there is none in the cache.
    #[must_use]
    pub fn last(&self, uid: &UserId, resource: &Name, id: &str) -> Option<Roles> {
        let (_, id) = self.askable(resource, Some(id))?;
        let question = MembershipQuestion {
            uid: uid.as_str(),
            resource,
            id,
        };
        let known = self.known.get(&key_of(question))?;
        known.answer.as_ref().map(|(_, roles)| Arc::clone(roles))
    }

    /// Counts a forced reading by a caller.
    ///
    /// # Errors
    /// How long the caller has to wait if it has used all forced readings of this minute.
    pub fn count_forced(&self, subject: &str) -> Result<(), Duration> {
        let bucket = self.forced.entry_by_ref(subject).or_default();
        bucket
            .into_value()
            .take(self.clock.elapsed(), FORCED_PER_MINUTE)
    }

    fn source_of(&self, resource: &Name) -> Option<&RunningSource> {
        let speaks = |source: &&RunningSource| source.settings.resources.contains(resource);
        self.sources.iter().find(speaks)
    }

    /// Returns the source of a resource and the id to ask about; `None` if the source must not be queried.
    fn askable<'i>(
        &self,
        resource: &Name,
        id: Option<&'i str>,
    ) -> Option<(&RunningSource, Option<&'i str>)> {
        let source = self.source_of(resource)?;
        if !source.settings.target.has(&TemplatePiece::Id) {
            return Some((source, None));
        }
        // A segment of only dots would lead elsewhere in a path, however it is encoded.
        let id = id.filter(|id| ResourceId::fits(id) && !matches!(*id, "." | ".."))?;
        Some((source, Some(id)))
    }

    /// Returns the outcome known without a query: the answer is fresh, or the query has just failed.
    fn settled(&self, source: &RunningSource, key: &str) -> Option<SharedAnswer> {
        let known = self.known.get(key)?;
        let now = self.clock.elapsed();
        if let Some((at, roles)) = &known.answer
            && now < *at + source.settings.ttl
        {
            return Some(Ok(Arc::clone(roles)));
        }
        let failed = known.failed?;
        (now < failed + PAUSE).then(|| known.stale(source, now))
    }

    async fn ask(
        &self,
        source: &RunningSource,
        question: MembershipQuestion<'_>,
        key: &str,
        reading: CacheUse,
    ) -> SharedAnswer {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let at = self.clock.elapsed();
        self.metrics.role_source_requests.inc();
        let outcome = self.fetch(source, question).await;
        let now = self.clock.elapsed();
        let storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.known.get(key);
        let outdated = before.as_ref().is_some_and(|before| begun < before.begun);
        match outcome {
            Ok(roles) => {
                if !outdated {
                    let known = CachedQuestion {
                        begun,
                        answer: Some((at, Arc::clone(&roles))),
                        failed: None,
                    };
                    self.known.insert(key.to_owned(), Arc::new(known));
                }
                Ok(roles)
            }
            Err(error) => {
                let known = Arc::new(CachedQuestion {
                    begun,
                    answer: before.as_ref().and_then(|before| before.answer.clone()),
                    failed: Some(now),
                });
                if !outdated {
                    self.known.insert(key.to_owned(), Arc::clone(&known));
                }
                drop(storing);
                self.metrics.role_source_errors.inc();
                source.warn(&error, now);
                match reading {
                    CacheUse::Cached => known.stale(source, now),
                    CacheUse::Forced => Err(SourceDown),
                }
            }
        }
    }

    async fn fetch(
        &self,
        source: &RunningSource,
        question: MembershipQuestion<'_>,
    ) -> Result<Roles, RoleSourceError> {
        let settings = &source.settings;
        let place = source.at_once.take(question.uid.to_owned(), TIMEOUT).await;
        let Some(_place) = place else {
            return Err(RoleSourceError::Crowded);
        };
        let id = question.id.unwrap_or_default();
        let target = settings
            .target
            .fill(question.uid, question.resource.as_str(), id);
        let fetched = self
            .fetcher
            .get(&settings.addresses, &settings.authority, &target);
        let body = fetched.await?;
        let roles = answer::read(&body, question, &self.ladder, |excess| {
            if source.told.fetch_or(excess.bit(), Ordering::Relaxed) & excess.bit() == 0 {
                tracing::warn!(
                    source = settings.authority,
                    resource = question.resource.as_str(),
                    excess = excess.what(),
                    "a role source answers more than it was asked: the rest is dropped, and not logged again"
                );
            }
        })?;
        Ok(roles)
    }
}

impl fmt::Debug for RoleSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleSources")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl RunningSource {
    fn new(settings: &RoleSource) -> Self {
        Self {
            settings: settings.clone(),
            at_once: SharedSlots::new(AT_ONCE_MAX, AT_ONCE_OF_UID_MAX),
            told: AtomicU8::new(0),
            warned_ms: AtomicU64::new(0),
        }
    }

    fn warn(&self, error: &RoleSourceError, now: Duration) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1);
        let pause = u64::try_from(WARN_EVERY.as_millis()).unwrap_or(u64::MAX);
        let last = self.warned_ms.load(Ordering::Relaxed);
        let is_due = last == 0 || last.saturating_add(pause) <= now;
        let exchanged =
            self.warned_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && exchanged.is_ok() {
            tracing::warn!(
                source = self.settings.authority,
                error = error as &dyn std::error::Error,
                "a role source sent an invalid answer"
            );
        }
    }
}

impl CachedQuestion {
    /// Returns the last answer if it may still be used.
    fn stale(&self, source: &RunningSource, now: Duration) -> SharedAnswer {
        let settings = &source.settings;
        match &self.answer {
            Some((at, roles)) if now < *at + settings.ttl + settings.stale_max => {
                Ok(Arc::clone(roles))
            }
            _ => Err(SourceDown),
        }
    }
}

/// Returns the cache key of a question. No part contains a zero byte.
fn key_of(question: MembershipQuestion<'_>) -> String {
    [
        question.uid,
        question.resource.as_str(),
        question.id.unwrap_or_default(),
    ]
    .join("\0")
}

#[cfg(test)]
mod tests;
