//! The in-memory engine: for tests and for `engine = "memory"`. Its data does not outlive the process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::store::engine::{Engine, StoreRead, StoreWrite};
use crate::store::generations::Generations;
use crate::store::transaction::apply;
use crate::store::{Changes, RecordEntry, Result, Transaction};

/// A store in memory: the same records and intents as on disk, in a map under one lock.
pub struct MemoryStore {
    generations: Arc<Generations>,
    /// Locked for one read or one transaction, never across an await; microseconds, somewhat longer for lists.
    records: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The side entries. Locked as briefly.
    side: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryStore {
    /// Creates an empty store that advances these generations.
    #[must_use]
    pub fn new(generations: Arc<Generations>) -> Self {
        Self {
            generations,
            records: Mutex::default(),
            side: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        // Changes are applied only after the intent has run, so a panic leaves nothing half done.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.lock().len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Engine for MemoryStore {
    fn generations(&self) -> &Generations {
        &self.generations
    }

    async fn run_read(&self, read: StoreRead) -> Result<()> {
        read(&*self.lock());
        Ok(())
    }

    async fn run_write(&self, intent: StoreWrite) -> Result<()> {
        let mut records = self.lock();
        let mut tx = Transaction::over(&*records);
        intent(&mut tx)?;
        let (changes, touched) = tx.into_parts();
        apply(&mut records, changes);
        for uid in &touched {
            self.generations.touch(uid);
        }
        Ok(())
    }

    async fn side(&self) -> Result<Vec<RecordEntry>> {
        let side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(side.clone().into_iter().collect())
    }

    async fn put_side(&self, changes: Changes) -> Result<()> {
        let mut side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        apply(&mut side, changes);
        Ok(())
    }
}
