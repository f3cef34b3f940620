//! A store for tests that fails when it is told to: at one read or write, counted from now.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::store::engine::Engine;
use crate::store::error::StoreError;
use crate::store::generations::Generations;
use crate::store::memory::MemoryStore;
use crate::store::transaction::{Changes, Entry, Records, Transaction};

/// Records in memory behind an engine that fails.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    records: MemoryStore,
    /// How many go well before the one that fails; below zero none fails any more.
    left: AtomicI64,
}

impl FaultyStore {
    /// Fails nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            records: MemoryStore::new(Arc::default()),
            left: AtomicI64::new(-1),
        }
    }

    /// Lets so many reads and writes go well, fails the next one, and none after it.
    pub(crate) fn fail_after(&self, count: i64) {
        self.left.store(count, Ordering::SeqCst);
    }

    /// Whether the one that was to fail has failed; from then on, or before one was named.
    pub(crate) fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// Every record, with nothing failing.
    pub(crate) async fn everything(&self) -> Vec<Entry> {
        let all = |records: &dyn Records| records.scan(&[], None, usize::MAX);
        self.records.read(all).await.unwrap()
    }

    fn step(&self) -> Result<(), StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(StoreError::Engine {
                action: "read",
                source: "on purpose".into(),
            });
        }
        Ok(())
    }
}

impl Engine for FaultyStore {
    fn generations(&self) -> &Generations {
        Engine::generations(&self.records)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Records) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.step()?;
        self.records.read(read).await
    }

    async fn write<T: Send + 'static>(
        &self,
        intent: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.step()?;
        self.records.write(intent).await
    }

    async fn side(&self) -> Result<Vec<Entry>, StoreError> {
        self.records.side().await
    }

    async fn put_side(&self, changes: Changes) -> Result<(), StoreError> {
        self.records.put_side(changes).await
    }
}
