//! Single flight: concurrent calls with equal keys share one run.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// Runs in flight, by key. Only keys with a run in flight are remembered.
#[derive(Debug)]
pub struct SingleFlight<K, T> {
    /// Never locked across an await.
    flights: Mutex<HashMap<K, Arc<OnceCell<T>>>>,
}

/// One caller's share in a flight. After a finished run the first caller to leave removes the entry from the map; after
/// cancellations, the last.
struct FlightSeat<'a, K: Eq + Hash, T> {
    all: &'a SingleFlight<K, T>,
    key: K,
    cell: Arc<OnceCell<T>>,
}

impl<K: Clone + Eq + Hash, T: Clone> SingleFlight<K, T> {
    /// Returns the outcome of the run in flight for this key; without one, runs `run` and shares its outcome. If the
    /// running caller is cancelled, another one runs its own `run`.
    pub async fn join<F>(&self, key: K, run: impl FnOnce() -> F) -> T
    where
        F: Future<Output = T>,
    {
        let cell = Arc::clone(self.lock().entry(key.clone()).or_default());
        let seat = FlightSeat {
            all: self,
            key,
            cell,
        };
        seat.cell.get_or_init(run).await.clone()
    }
}

impl<K, T> SingleFlight<K, T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<OnceCell<T>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of runs in flight.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self {
            flights: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash, T> Drop for FlightSeat<'_, K, T> {
    fn drop(&mut self) {
        let mut flights = self.all.lock();
        let mine = std::mem::take(&mut self.cell);
        let is_listed = flights
            .get(&self.key)
            .is_some_and(|listed| Arc::ptr_eq(listed, &mine));
        // Clones are made and dropped only under the lock, so 2 means: the map's and this one.
        if is_listed && (mine.initialized() || Arc::strong_count(&mine) == 2) {
            flights.remove(&self.key);
        }
        drop(mine);
    }
}
