//! The embedded engine: records in sled, durable before anybody hears of it, its losses found at the next start.
//!
//! The directory holds `db/` (sled's), `census` (a copy of what was counted last) and `lock`. Writes go through one
//! thread (`writer`), reads through a few (`readers`); nothing here runs on the caller's thread but the hand-over.

pub(crate) mod census;
mod check;
pub(crate) mod files;
pub(crate) mod open;
mod readers;
mod records;
mod walk;
mod writer;

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

pub use crate::store::sled::check::{Findings, check};
pub use crate::store::sled::files::{make_private, stranger_in};
pub use crate::store::sled::open::Counted;

use crate::store::engine::Engine;
use crate::store::error::StoreError;
use crate::store::generations::Generations;
use crate::store::sled::open::{Database, cannot_open};
use crate::store::sled::readers::{Job, Readers};
use crate::store::sled::records::SledRecords;
use crate::store::sled::writer::{Task, Ticket, Writer};
use crate::store::transaction::{Changes, Entry, Records, Transaction};

/// How many writes may wait before more are refused: at a bad disk's 400 syncs a second, still answered in time.
const QUEUE_MAX: usize = 1024;

/// A store in a directory of its own, for one process at a time.
///
/// Dropping it waits for the writes already handed over, some milliseconds, and leaves the directory free for the next.
pub struct SledStore {
    generations: Arc<Generations>,
    shared: Arc<Shared>,
    queue: Option<SyncSender<Task>>,
    /// Held by whoever walks over all records.
    walks: Mutex<()>,
    writer: Option<JoinHandle<()>>,
    readers: Readers,
}

impl SledStore {
    /// Opens the store in `dir`, or begins one there if the directory holds none; all stamps of `generations` are void
    /// then.
    ///
    /// The directory is made, and made private (0700); one that holds other files and no store is refused. Reads every
    /// record once (1.3 s for a million), waits at most 2 s for a lock, and blocks meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open; [`StoreError::Refused`] if anything that was acknowledged
    /// is missing or damaged; [`StoreError::Newer`] if a newer gateway has written to it; [`StoreError::Engine`] if the
    /// file system does not let it.
    pub fn open(dir: &Path, generations: Arc<Generations>) -> Result<Self, StoreError> {
        files::make_own(dir).map_err(cannot_open)?;
        let lock = files::lock(dir)?;
        let (database, census) = open::open(dir)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            slot: RwLock::new(Some(database)),
            _lock: lock,
        });
        generations.touch_all();
        let (queue, tasks) = sync_channel(QUEUE_MAX);
        let readers = Readers::start(&shared).map_err(cannot_open)?;
        let writer = Writer::new(Arc::clone(&shared), Arc::clone(&generations), tasks, census);
        let thread = thread::Builder::new().name("store-write".to_owned());
        let writer = thread.spawn(move || writer.run()).map_err(cannot_open)?;
        Ok(Self {
            generations,
            shared,
            queue: Some(queue),
            walks: Mutex::default(),
            writer: Some(writer),
            readers,
        })
    }
}

impl SledStore {
    /// Runs something on a reader's thread.
    async fn submit<T: Send + 'static>(
        &self,
        run: impl FnOnce(&SledRecords<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        self.readers.submit(Box::new(move |records| {
            // A caller who went away wants no answer.
            drop(caller.send(run(records)));
        }))?;
        answer.await.unwrap_or(Err(StoreError::Busy))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A thread that panicked has nothing more to say.
            drop(writer.join());
        }
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore")
            .field("dir", &self.shared.dir)
            .finish_non_exhaustive()
    }
}

impl Engine for SledStore {
    fn generations(&self) -> &Generations {
        &self.generations
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Records) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(move |records| read(records)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        intent: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(StoreError::Busy)?;
        queue
            .try_send(Task::Write(Box::new(Ticket::new(intent, caller))))
            .map_err(|_| StoreError::Busy)?;
        answer.await.unwrap_or(Err(StoreError::Busy))
    }

    async fn side(&self) -> Result<Vec<Entry>, StoreError> {
        self.submit(records::side).await
    }

    async fn put_side(&self, changes: Changes) -> Result<(), StoreError> {
        self.submit(move |found| records::put_side(found, changes))
            .await
    }
}

/// What the threads share: the one place that owns the database, so that it can be replaced.
struct Shared {
    dir: PathBuf,
    /// `None` while it is being opened anew, and after the end. Read-locked for one read or one batch.
    slot: RwLock<Option<Database>>,
    /// Keeps the directory ours.
    _lock: File,
}

impl Shared {
    fn dir(&self) -> &Path {
        &self.dir
    }

    /// The database, which stays open until this is dropped.
    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.slot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read, or drops it if there is no database.
    fn look(&self, job: Job) {
        if let Some(database) = self.database().as_ref() {
            job(&SledRecords(&database.db));
        }
    }

    /// Gives the database up, once the reads that run are done.
    fn close(&self) {
        let database = {
            let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
            slot.take()
        };
        // sled panics when it cannot sync at the end; what was acknowledged is synced long since.
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::warn!("the store's engine panicked while it was closed");
        }
    }

    fn reopen(&self, database: Database) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::UserId;
    use crate::store::Store;

    #[tokio::test]
    async fn a_failed_sync_is_answered_and_the_store_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let generations = Arc::new(Generations::new());
        let store = SledStore::open(dir.path(), Arc::clone(&generations)).unwrap();
        store.ready().await.unwrap();
        let stamp = generations.stamp(&UserId::parse("u-abcdefgh").unwrap());
        if let Some(database) = store.shared.slot.write().unwrap().as_mut() {
            // It cannot be synced: EINVAL.
            database.data = File::open("/dev/null").unwrap();
        }
        let failure = store.ready().await.unwrap_err();
        assert!(matches!(failure, StoreError::Engine { .. }), "{failure}");
        let at_once = store.ready().await.unwrap_err();
        assert!(matches!(at_once, StoreError::Engine { .. }), "{at_once}");
        // It serves reads meanwhile.
        assert!(store.accounts(None, 1).await.is_ok());
        let mut tries = 0;
        while store.ready().await.is_err() {
            tries += 1;
            assert!(tries < 1000, "it does not heal");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(!generations.is_current(stamp));
        drop(store);
        let store = SledStore::open(dir.path(), generations).unwrap();
        assert!(store.ready().await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_of_one_intent_or_read_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path(), Arc::default()).unwrap();
        let read: Result<(), _> = store.read(|_| panic!("on purpose")).await;
        assert!(matches!(read, Err(StoreError::Busy)));
        let write: Result<(), _> = store.write(|_| panic!("on purpose")).await;
        assert!(matches!(write, Err(StoreError::Engine { .. })));
        assert!(store.ready().await.is_ok());
    }

    #[tokio::test]
    async fn an_intent_that_fails_leaves_nothing_and_the_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path(), Arc::default()).unwrap();
        let key = || crate::store::layout::ready();
        let failing = store.write(move |tx| {
            tx.put(&key(), &7)?;
            Err::<(), _>(StoreError::Busy)
        });
        let (failed, done) = tokio::join!(failing, store.ready());
        assert!(failed.is_err() && done.is_ok());
        let found = store.read(move |records| records.load(&key())).await;
        assert_eq!(found.unwrap(), Some(1));
    }
}
