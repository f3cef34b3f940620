//! A store for tests that fails on request: at one read of a record, at one write, or after it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::store::engine::{Engine, EngineExt as _, StoreRead, StoreWrite};
use crate::store::generations::Generations;
use crate::store::memory::MemoryStore;
use crate::store::{Changes, RecordEntry, Records, Result, StoreError, Transaction};

/// Records in memory behind an engine that fails.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    records: MemoryStore,
    /// Reads and writes that succeed before the one that fails; below zero none fails.
    left: Arc<AtomicI64>,
    /// Number of upcoming writes that are rejected.
    busy: AtomicI64,
    /// Writes that succeed before the one whose answer is lost; below zero none is.
    until_lost: AtomicI64,
    /// Changes of the write whose answer was lost, until it is settled. Other writes are rejected meanwhile.
    lost: Mutex<Option<Changes>>,
}

/// Records whose reads are counted.
struct CountedRecords<'a> {
    base: &'a dyn Records,
    left: &'a AtomicI64,
}

impl Records for CountedRecords<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        step(self.left)?;
        self.base.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<RecordEntry>> {
        step(self.left)?;
        self.base.scan(prefix, after, limit)
    }
}

fn step(left: &AtomicI64) -> Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) == 0 {
        return Err(on_purpose());
    }
    Ok(())
}

fn on_purpose() -> StoreError {
    StoreError::cannot_read("on purpose")
}

impl FaultyStore {
    /// Creates an empty store that does not fail yet.
    pub(crate) fn new() -> Self {
        Self {
            records: MemoryStore::new(Arc::default()),
            left: Arc::new(AtomicI64::new(-1)),
            busy: AtomicI64::new(0),
            until_lost: AtomicI64::new(-1),
            lost: Mutex::default(),
        }
    }

    /// Fails the read or write after the next `count` ones, and none after it.
    pub(crate) fn fail_after(&self, count: i64) {
        self.left.store(count, Ordering::SeqCst);
    }

    /// Rejects the next `count` writes.
    pub(crate) fn be_busy_for(&self, count: i64) {
        self.busy.store(count, Ordering::SeqCst);
    }

    /// Loses the answer of the write after the next `count` ones: whether it was applied is unknown until
    /// [`Self::settle`].
    pub(crate) fn lose_after(&self, count: i64) {
        self.until_lost.store(count, Ordering::SeqCst);
    }

    /// Whether every requested failure and loss has happened; also true if none was requested.
    pub(crate) fn has_failed(&self) -> bool {
        [&*self.left, &self.until_lost]
            .iter()
            .all(|left| left.load(Ordering::SeqCst) < 0)
    }

    /// Decides whether the write whose answer was lost was applied.
    pub(crate) async fn settle(&self, is_done: bool) {
        self.until_lost.store(-1, Ordering::SeqCst);
        let lost = self.lost.lock().unwrap().take();
        if let Some(changes) = lost.filter(|_| is_done) {
            let put = move |tx: &mut Transaction<'_>| {
                tx.adopt((changes, BTreeSet::new()));
                Ok(())
            };
            self.records.write(put).await.unwrap();
        }
        self.generations().touch_all();
    }

    /// Replaces all records with `entries`, without failing.
    pub(crate) async fn put_back(&self, entries: Vec<RecordEntry>) {
        let put = move |tx: &mut Transaction<'_>| {
            let now = tx.records().scan(&[], None, usize::MAX)?;
            let gone = now.into_iter().map(|(key, _)| (key, None));
            let back = entries.into_iter().map(|(key, value)| (key, Some(value)));
            tx.adopt((gone.chain(back).collect(), BTreeSet::new()));
            Ok(())
        };
        self.records.write(put).await.unwrap();
        self.generations().touch_all();
    }

    /// Returns every record, without failing.
    pub(crate) async fn everything(&self) -> Vec<RecordEntry> {
        let all = |records: &dyn Records| records.scan(&[], None, usize::MAX);
        self.records.read(all).await.unwrap()
    }
}

#[async_trait]
impl Engine for FaultyStore {
    fn generations(&self) -> &Generations {
        self.records.generations()
    }

    async fn run_read(&self, read: StoreRead) -> Result<()> {
        let left = Arc::clone(&self.left);
        let counted: StoreRead = Box::new(move |base| read(&CountedRecords { base, left: &left }));
        self.records.run_read(counted).await
    }

    async fn run_write(&self, intent: StoreWrite) -> Result<()> {
        if self.lost.lock().unwrap().is_some() {
            return Err(on_purpose());
        }
        if 0 < self.busy.fetch_sub(1, Ordering::SeqCst) {
            return Err(StoreError::Busy);
        }
        let left = Arc::clone(&self.left);
        let is_lost = self.until_lost.fetch_sub(1, Ordering::SeqCst) == 0;
        let counted = move |tx: &mut Transaction<'_>| {
            let counted = CountedRecords {
                base: tx.records(),
                left: &left,
            };
            let mut inner = Transaction::over(&counted);
            intent(&mut inner)?;
            // Counts the write itself.
            step(&left)?;
            let parts = inner.into_parts();
            if is_lost {
                return Ok(Some(parts));
            }
            tx.adopt(parts);
            Ok(None)
        };
        let Some((changes, touched)) = self.records.write(counted).await? else {
            return Ok(());
        };
        *self.lost.lock().unwrap() = Some(changes);
        for uid in &touched {
            self.generations().touch(uid);
        }
        Err(StoreError::Unknown("on purpose".into()))
    }

    async fn side(&self) -> Result<Vec<RecordEntry>> {
        self.records.side().await
    }

    async fn put_side(&self, changes: Changes) -> Result<()> {
        self.records.put_side(changes).await
    }
}
