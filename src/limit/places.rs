//! A semaphore with shares: a total number of permits, of which one key gets at most its share.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Limits concurrency, in total and per key, so that one key cannot starve all others.
///
/// Waiters are served in order. Only keys that hold a place or wait for one are remembered.
pub struct SharedSlots<K> {
    all: Semaphore,
    each: usize,
    shares: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// A place, held until dropped.
pub struct Slot<'a, K: Eq + Hash> {
    _of_all: SemaphorePermit<'a>,
    _of_share: OwnedSemaphorePermit,
    // Declared after the permit, which refers to the share's semaphore too.
    _share: KeyShare<'a, K>,
}

impl<K: Eq + Hash + Clone> SharedSlots<K> {
    /// Creates `all` places, of which one key gets at most `each`.
    #[must_use]
    pub fn new(all: usize, each: usize) -> Self {
        Self {
            all: Semaphore::new(all),
            each,
            shares: Mutex::default(),
        }
    }

    /// Takes a place under a key as soon as one is free; returns `None` after `wait_max`.
    pub async fn take(&self, key: K, wait_max: Duration) -> Option<Slot<'_, K>> {
        let share = self.share(key);
        let taken = async {
            // The share comes first, so that waiting for it blocks no place for others.
            let of_share = Arc::clone(share.semaphore.as_ref()?).acquire_owned().await;
            let of_all = self.all.acquire().await;
            Some((of_share.ok()?, of_all.ok()?))
        };
        let (of_share, of_all) = tokio::time::timeout(wait_max, taken).await.ok()??;
        Some(Slot {
            _of_all: of_all,
            _of_share: of_share,
            _share: share,
        })
    }

    fn share(&self, key: K) -> KeyShare<'_, K> {
        let mut shares = self.lock();
        let share = shares.entry(key.clone());
        let semaphore = Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(self.each))));
        drop(shares);
        KeyShare {
            places: self,
            key,
            semaphore: Some(semaphore),
        }
    }
}

impl<K> SharedSlots<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key's share; the key is remembered as long as one of these exists.
struct KeyShare<'a, K: Eq + Hash> {
    places: &'a SharedSlots<K>,
    key: K,
    semaphore: Option<Arc<Semaphore>>,
}

impl<K: Eq + Hash> Drop for KeyShare<'_, K> {
    fn drop(&mut self) {
        let mut shares = self.places.lock();
        // Shares are created and dropped only under the lock, so 2 means: the map's and this one.
        let mine = self.semaphore.take();
        if mine.is_some_and(|mine| Arc::strong_count(&mine) == 2) {
            shares.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_key_has_its_share_and_others_theirs() {
        let places = SharedSlots::new(4, 2);
        let first = places.take("a", SOON).await.unwrap();
        let _second = places.take("a", SOON).await.unwrap();
        assert!(places.take("a", SOON).await.is_none(), "its share is taken");
        let _third = places.take("b", SOON).await.unwrap();
        let fourth = places.take("b", SOON).await.unwrap();
        assert!(places.take("c", SOON).await.is_none(), "all are taken");
        drop(fourth);
        assert!(places.take("c", SOON).await.is_some());
        drop(first);
        assert!(places.take("a", SOON).await.is_some());
    }

    #[tokio::test]
    async fn who_waits_is_served_as_soon_as_a_place_is_free() {
        let places = SharedSlots::new(1, 1);
        let first = places.take("a", SOON).await.unwrap();
        let waits = places.take("a", Duration::from_mins(1));
        let (second, ()) = tokio::join!(waits, async { drop(first) });
        assert!(second.is_some());
    }

    #[tokio::test]
    async fn keys_are_forgotten_with_their_last_place() {
        let places = SharedSlots::new(2, 1);
        for round in 0..100 {
            let place = places.take(round, SOON).await.unwrap();
            assert!(places.take(round, Duration::ZERO).await.is_none());
            assert_eq!(places.lock().len(), 1);
            drop(place);
        }
        assert!(places.lock().is_empty());
        assert_eq!(places.all.available_permits(), 2);
    }
}
