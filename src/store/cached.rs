//! The account data that a decision needs, cached in memory until it changes.
//!
//! The entries are in a moka cache, but its invalidation and its own loading are not relied on: a slow read could put
//! back what was revoked in the meantime. An entry is used only while the [`Stamp`] taken before its read is current.

use std::fmt;
use std::sync::Arc;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::limit::single_flight::SingleFlight;
use crate::model::access::Membership;
use crate::model::account::Account;
use crate::model::id::UserId;
use crate::store::generations::Stamp;
use crate::store::{Result, Store, StoreError};

/// An account and its memberships as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountWithMemberships {
    /// The account, whatever its status.
    pub account: Arc<Account>,
    /// Its memberships, sorted.
    pub memberships: Vec<Membership>,
}

/// Memberships, roles and scopes that fit in the space of one cache entry.
const WORDS_PER_ENTRY: usize = 16;

/// Returns the weight of a cached value with this many memberships, roles and scopes, in entries of about 1 KiB.
/// Without weights, a caller with thousands of them and a fresh token per request could fill the memory with few
/// entries.
#[must_use]
pub fn weight_of(words: usize) -> u32 {
    u32::try_from(1 + words / WORDS_PER_ENTRY).unwrap_or(u32::MAX)
}

/// The result of a load; a failure is shared by all who waited for it.
type Loaded = Result<Option<Arc<AccountWithMemberships>>, Arc<StoreError>>;

/// A cache of subjects by uid, in front of any store.
///
/// Single flight: concurrent calls for a uid share one load. A load that began before a change is not shared with calls
/// made after it.
pub struct Subjects {
    store: Arc<dyn Store>,
    cache: Cache<UserId, (Stamp, Arc<AccountWithMemberships>)>,
    /// Loads in flight, by uid and the stamp taken before they began.
    flights: SingleFlight<(UserId, Stamp), Loaded>,
}

impl Subjects {
    /// Creates a cache of at most `entries` recently used subjects of about 1 KiB each; those with many memberships
    /// count for several ([`weight_of`]).
    #[must_use]
    pub fn new(store: Arc<dyn Store>, entries: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(entries)
            .weigher(|_, (_, subject): &(Stamp, Arc<AccountWithMemberships>)| {
                weight_of(subject.memberships.len())
            })
            // The default policy does not admit new keys to a full, hot cache.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            store,
            cache,
            flights: SingleFlight::default(),
        }
    }

    /// Returns the subject of a uid, and the stamp under which it, and anything derived from it, may be used.
    ///
    /// `None`: there is no such account; this is not cached.
    ///
    /// # Errors
    /// Any error of the store; a failed shared load fails all of its waiters, and the next call reads again.
    pub async fn get(&self, uid: &UserId) -> Result<Option<(Arc<AccountWithMemberships>, Stamp)>> {
        // INVARIANT: the stamp is taken before anything is read (nothing_acknowledged_is_seen_stale).
        let stamp = self.store.generations().stamp(uid);
        if let Some(subject) = self.kept(uid, stamp) {
            return Ok(Some((subject, stamp)));
        }
        let key = (uid.clone(), stamp);
        let loaded = self.flights.join(key, || self.load(uid, stamp)).await;
        let subject = loaded.map_err(StoreError::cannot_read)?;
        Ok(subject.map(|subject| (subject, stamp)))
    }

    fn kept(&self, uid: &UserId, stamp: Stamp) -> Option<Arc<AccountWithMemberships>> {
        let (kept_under, subject) = self.cache.get(uid)?;
        (kept_under == stamp).then_some(subject)
    }

    async fn load(&self, uid: &UserId, stamp: Stamp) -> Loaded {
        let Some(account) = self.store.account(uid).await.map_err(Arc::new)? else {
            return Ok(None);
        };
        let memberships = self.store.memberships_of(uid).await.map_err(Arc::new)?;
        let subject = Arc::new(AccountWithMemberships {
            account: Arc::new(account),
            memberships,
        });
        // Two reads are not a snapshot: if a change came between them, the stamp is outdated and so is this entry.
        self.cache
            .insert(uid.clone(), (stamp, Arc::clone(&subject)));
        Ok(Some(subject))
    }
}

impl fmt::Debug for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subjects")
            .field("entries", &self.cache.entry_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::model::access::{Name, ResourceId};
    use crate::store::engine::{Engine, StoreRead, StoreWrite};
    use crate::store::generations::Generations;
    use crate::store::memory::MemoryStore;
    use crate::store::test_kit::{account, uid};
    use crate::store::transaction::{Changes, RecordEntry};
    use crate::store::{AccountChange, Creation};

    /// A store whose reads run at once and are answered when the gate opens: as slow as a read can be.
    #[derive(Debug)]
    struct SlowStore {
        inner: MemoryStore,
        reads: AtomicUsize,
        gate: Semaphore,
    }

    impl SlowStore {
        async fn with(numbers: Range<u32>, permits: usize) -> Arc<Self> {
            let store = Self {
                inner: MemoryStore::new(Arc::new(Generations::new())),
                reads: AtomicUsize::new(0),
                gate: Semaphore::new(permits),
            };
            for number in numbers {
                let created = store.create_account(account(number)).await.unwrap();
                assert_eq!(created, Creation::Created);
            }
            Arc::new(store)
        }
    }

    #[async_trait]
    impl Engine for SlowStore {
        fn generations(&self) -> &Generations {
            self.inner.generations()
        }

        async fn run_read(&self, read: StoreRead) -> Result<()> {
            let found = self.inner.run_read(read).await;
            self.reads.fetch_add(1, Ordering::SeqCst);
            drop(self.gate.acquire().await);
            found
        }

        async fn run_write(&self, intent: StoreWrite) -> Result<()> {
            self.inner.run_write(intent).await
        }

        async fn side(&self) -> Result<Vec<RecordEntry>> {
            self.inner.side().await
        }

        async fn put_side(&self, changes: Changes) -> Result<()> {
            self.inner.put_side(changes).await
        }
    }

    fn generation(found: Result<Option<(Arc<AccountWithMemberships>, Stamp)>>) -> u64 {
        found.unwrap().unwrap().0.account.generation
    }

    async fn revoke(store: &SlowStore, uid: &UserId) -> u64 {
        let changed = store.update_account(uid, AccountChange::default()).await;
        changed.unwrap().unwrap().generation
    }

    fn is_kept(subjects: &Subjects, uid: &UserId) -> bool {
        let stamp = subjects.store.generations().stamp(uid);
        subjects.kept(uid, stamp).is_some()
    }

    /// Lets all other tasks on this thread run until they wait.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn misses_at_once_share_one_load_and_hits_need_none() {
        let store = SlowStore::with(1..2, 0).await;
        let subjects = Arc::new(Subjects::new(Arc::clone(&store) as Arc<dyn Store>, 9));
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let subjects = Arc::clone(&subjects);
                tokio::spawn(async move { generation(subjects.get(&uid(1)).await) })
            })
            .collect();
        settle().await;
        store.gate.add_permits(1);
        for caller in callers {
            assert_eq!(caller.await.unwrap(), 0);
        }
        // One for the account and one for its memberships.
        assert_eq!(store.reads.load(Ordering::SeqCst), 2);
        assert!(is_kept(&subjects, &uid(1)));
        assert_eq!(generation(subjects.get(&uid(1)).await), 0);
        assert_eq!(store.reads.load(Ordering::SeqCst), 2);
        assert_eq!(subjects.flights.count(), 0);
    }

    #[tokio::test]
    async fn a_load_that_began_before_a_change_is_not_shared_after_it() {
        let store = SlowStore::with(1..2, 0).await;
        let subjects = Arc::new(Subjects::new(Arc::clone(&store) as Arc<dyn Store>, 9));
        let get = || {
            let subjects = Arc::clone(&subjects);
            tokio::spawn(async move { generation(subjects.get(&uid(1)).await) })
        };
        let before = get();
        settle().await;
        let changed = revoke(&store, &uid(1)).await;
        let after = get();
        settle().await;
        store.gate.add_permits(1);
        assert!(before.await.unwrap() < changed);
        assert_eq!(after.await.unwrap(), changed);
        // The slow load has not put back what it read.
        assert_eq!(generation(subjects.get(&uid(1)).await), changed);
        assert_eq!(subjects.flights.count(), 0);
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_leaves_the_load_to_the_others() {
        let store = SlowStore::with(1..2, 0).await;
        let subjects = Arc::new(Subjects::new(Arc::clone(&store) as Arc<dyn Store>, 9));
        let get = || {
            let subjects = Arc::clone(&subjects);
            tokio::spawn(async move { generation(subjects.get(&uid(1)).await) })
        };
        let (first, second) = (get(), get());
        settle().await;
        first.abort();
        settle().await;
        assert_eq!(subjects.flights.count(), 1);
        store.gate.add_permits(1);
        assert_eq!(second.await.unwrap(), 0);
        assert_eq!(subjects.flights.count(), 0);
        let alone = get();
        settle().await;
        alone.abort();
        settle().await;
        assert_eq!(subjects.flights.count(), 0);
    }

    #[tokio::test]
    async fn whoever_has_much_takes_the_room_of_many() {
        let store = SlowStore::with(1..4, 1).await;
        for number in 0..100 {
            let membership = Membership {
                resource: Name::parse("list").unwrap(),
                id: ResourceId::parse(&number.to_string()).unwrap(),
                level: Name::parse("member").unwrap(),
            };
            let set = store.set_membership(&uid(1), membership, None).await;
            assert_eq!(set.unwrap(), crate::store::MembershipChange::Done);
        }
        let subjects = Subjects::new(Arc::clone(&store) as Arc<dyn Store>, 8);
        for number in 1..=3 {
            subjects.get(&uid(number)).await.unwrap();
        }
        subjects.cache.run_pending_tasks();
        assert_eq!(subjects.cache.entry_count(), 2);
        assert_eq!(subjects.cache.weighted_size(), 2);
        assert!(!is_kept(&subjects, &uid(1)));
    }

    #[tokio::test]
    async fn who_is_not_there_is_asked_for_again_and_the_bound_holds() {
        let store = SlowStore::with(0..20, 1).await;
        let subjects = Subjects::new(Arc::clone(&store) as Arc<dyn Store>, 5);
        for _ in 0..2 {
            assert!(subjects.get(&uid(99)).await.unwrap().is_none());
        }
        assert_eq!(store.reads.load(Ordering::SeqCst), 2);
        for number in 0..20 {
            subjects.get(&uid(number)).await.unwrap();
        }
        subjects.cache.run_pending_tasks();
        assert_eq!(subjects.cache.entry_count(), 5);
        assert!(is_kept(&subjects, &uid(19)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_acknowledged_is_seen_stale() {
        const CHANGES: u64 = 20_000;
        let store = SlowStore::with(1..2, 2).await;
        let subjects = Arc::new(Subjects::new(Arc::clone(&store) as Arc<dyn Store>, 9));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let subjects = Arc::clone(&subjects);
                let (acknowledged, over) = (Arc::clone(&acknowledged), Arc::clone(&over));
                tokio::spawn(async move {
                    while !over.load(Ordering::SeqCst) {
                        let least = acknowledged.load(Ordering::SeqCst);
                        let seen = generation(subjects.get(&uid(1)).await);
                        assert!(least <= seen, "saw {seen} after {least} was acknowledged");
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for _ in 0..CHANGES {
            let changed = revoke(&store, &uid(1)).await;
            acknowledged.store(changed, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
        over.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(subjects.flights.count(), 0);
    }
}
