//! The embedded engine: records in sled, durable before they are acknowledged, with losses detected at the next start.
//!
//! The directory contains `db/` (sled's), `census` (a copy of the latest census) and `lock`. Writes run on one thread
//! (`writer`), reads on a few (`readers`); the caller's thread only queues them.
//!
//! sled shows a batch as soon as it is applied, long before it is durable, and continues to show it if it could not be
//! made durable. So while the writer commits, it covers the changed records with their previous values
//! (`SharedDatabase::hide`). It removes the cover when the batch is durable, or when the store is open again and the
//! outcome of the batch is known.

pub(crate) mod census;
mod check;
pub(crate) mod database;
pub(crate) mod files;
pub(crate) mod open;
mod queue;
mod readers;
mod records;
mod stand_in;
mod walk;
mod watch;
mod writer;

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use sled::Db;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub(crate) use crate::store::sled::census::Census;
pub use crate::store::sled::check::{Findings, check};
pub(crate) use crate::store::sled::database::Database;
pub use crate::store::sled::database::OpenCounts;
pub use crate::store::sled::files::{make_private, stranger_in};
pub(crate) use crate::store::sled::records::SledRecords;
pub(crate) use crate::store::sled::watch::WalkWatch;

use crate::store::engine::{Engine, StoreRead, StoreWrite};
use crate::store::generations::Generations;
use crate::store::sled::queue::{IntentClaim, QueuedWrite, WriterTask};
use crate::store::sled::readers::{Job, Readers};
use crate::store::sled::writer::SledWriter;
use crate::store::transaction::Layered;
use crate::store::{Changes, RecordEntry, Result, StoreError};

/// Writes that may be queued before more are refused: at 400 syncs a second, as on a slow disk, they are still answered
/// in time.
const QUEUE_MAX: usize = 1024;

/// A store in a directory of its own, for one process at a time.
///
/// Dropping it waits a few milliseconds for the queued writes, and frees the directory for the next process.
pub struct SledStore {
    generations: Arc<Generations>,
    shared: Arc<SharedDatabase>,
    queue: Option<SyncSender<WriterTask>>,
    /// Held during a walk over all records.
    walks: Mutex<()>,
    writer: Option<JoinHandle<()>>,
    readers: Readers,
    write_timeout: Duration,
}

impl SledStore {
    /// Opens the store in `dir`, or creates one if the directory contains none; voids all stamps of `generations`.
    ///
    /// Creates the directory and makes it private (0700); one with other files and no store is refused. Reads every
    /// record once (1.3 s for a million), waits at most 2 s for a lock, and blocks meanwhile. On a disk that accepts no
    /// writes, the store serves reads and refuses changes until the disk accepts them.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open; [`StoreError::Refused`] if anything acknowledged is
    /// missing or damaged; [`StoreError::Newer`] if a newer gateway has written to it; [`StoreError::Engine`] if the
    /// file system does not allow it.
    pub fn open(dir: &Path, generations: Arc<Generations>) -> Result<Self> {
        files::make_own(dir).map_err(StoreError::cannot_open)?;
        let lock = files::lock(dir)?;
        let (database, census, trouble) = open::open_or_stand_in(dir)?;
        let shared = Arc::new(SharedDatabase {
            dir: dir.to_owned(),
            slot: RwLock::new(Some(database)),
            hidden: RwLock::default(),
            _lock: lock,
        });
        generations.touch_all();
        let (queue, tasks) = sync_channel(QUEUE_MAX);
        let readers = Readers::start(&shared).map_err(StoreError::cannot_open)?;
        let mut writer =
            SledWriter::new(Arc::clone(&shared), Arc::clone(&generations), tasks, census);
        if let Some(trouble) = trouble {
            writer.refuse_writes(Arc::new(trouble));
        }
        let thread = thread::Builder::new().name("store-write".to_owned());
        let writer = thread.spawn(move || writer.run());
        Ok(Self {
            generations,
            shared,
            queue: Some(queue),
            walks: Mutex::default(),
            writer: Some(writer.map_err(StoreError::cannot_open)?),
            readers,
            write_timeout: Duration::MAX,
        })
    }

    /// Sets how long a write may take before its caller gets [`StoreError::Unknown`], or [`StoreError::Busy`] if the
    /// write has not begun; in that case it is never done. Without a timeout a caller waits until the write is done.
    #[must_use]
    pub fn with_write_timeout(mut self, write_timeout: Duration) -> Self {
        self.write_timeout = write_timeout;
        self
    }

    /// Returns the counts taken when the store was opened.
    #[must_use]
    pub fn counted(&self) -> OpenCounts {
        let database = self.shared.database();
        database.as_ref().map(|it| it.counted).unwrap_or_default()
    }

    /// Makes the next commit fail at this step.
    #[cfg(test)]
    pub(crate) fn break_at(&self, step: database::CommitStep) {
        if let Some(database) = self.shared.database().as_ref() {
            *database.fails_at.lock().unwrap() = Some(step);
        }
    }

    /// Runs a function on the database itself, on a reader's thread.
    async fn beside<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Db) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (caller, answer) = oneshot::channel();
        self.readers.submit(Job::Side(Box::new(move |db| {
            drop(caller.send(run(db)));
        })))?;
        answer.await.unwrap_or(Err(StoreError::Busy))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the thread was already reported.
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

#[async_trait]
impl Engine for SledStore {
    fn generations(&self) -> &Generations {
        &self.generations
    }

    async fn run_read(&self, read: StoreRead) -> Result<()> {
        self.readers.submit(Job::Records(read))
    }

    async fn run_write(&self, intent: StoreWrite) -> Result<()> {
        let (caller, answer) = oneshot::channel();
        let claim = IntentClaim::default();
        let queued = WriterTask::Write(QueuedWrite {
            intent: Some(intent),
            outcome: None,
            caller,
            claim: claim.clone(),
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Busy)?;
        queue.try_send(queued).map_err(|_| StoreError::Busy)?;
        match timeout(self.write_timeout, answer).await {
            Ok(outcome) => outcome.unwrap_or(Err(StoreError::Busy)),
            Err(_) if claim.take() => Err(StoreError::Busy),
            Err(late) => Err(StoreError::Unknown(Box::new(late))),
        }
    }

    async fn side(&self) -> Result<Vec<RecordEntry>> {
        self.beside(records::side).await
    }

    async fn put_side(&self, changes: Changes) -> Result<()> {
        if self.shared.is_stand_in() {
            return Err(StoreError::cannot_write("the disk cannot be written"));
        }
        self.beside(move |db| records::put_side(db, changes)).await
    }
}

/// State shared by the threads: the only owner of the database, so that it can be replaced.
struct SharedDatabase {
    dir: PathBuf,
    /// `None` while the store is being reopened, and after it was closed. Read-locked for one read or one batch.
    slot: RwLock<Option<Database>>,
    /// Previous values of the records changed by the batch that is being committed or whose outcome is unknown.
    /// Read-locked for one read.
    hidden: RwLock<Changes>,
    /// Keeps the directory locked.
    _lock: File,
}

impl SharedDatabase {
    /// Returns the database, which stays open until the guard is dropped.
    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.slot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job, or drops it if there is no database.
    fn look(&self, job: Job) {
        let slot = self.database();
        let Some(database) = slot.as_ref() else {
            return;
        };
        match job {
            Job::Side(run) => run(&database.db),
            Job::Records(run) => {
                // Held until the read is done: what is hidden from its first access is hidden from its last.
                let hidden = self.hidden.read().unwrap_or_else(PoisonError::into_inner);
                let records = SledRecords(&database.db);
                if hidden.is_empty() {
                    run(&records);
                } else {
                    run(&Layered {
                        base: &records,
                        changes: &*hidden,
                    });
                }
            }
        }
    }

    /// Shows these values to readers instead of those in the database. Waits for running reads.
    fn hide(&self, before: Changes) {
        *self.hidden.write().unwrap_or_else(PoisonError::into_inner) = before;
    }

    /// Ends what [`Self::hide`] began, and returns what was hidden.
    fn show(&self) -> Changes {
        let mut hidden = self.hidden.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *hidden)
    }

    /// Replaces the open database, or closes it if `None`, once the running reads are done.
    fn put(&self, database: Option<Database>) {
        let before = {
            let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, database)
        };
        // sled panics if it cannot sync while closing; everything acknowledged was synced long before.
        if catch_unwind(AssertUnwindSafe(|| drop(before))).is_err() {
            tracing::warn!("the store's engine panicked while closing");
        }
    }

    /// Whether the open database is a copy.
    fn is_stand_in(&self) -> bool {
        let slot = self.database();
        slot.as_ref().is_some_and(|it| it.stand_in.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::UserId;
    use crate::store::Store;
    use crate::store::engine::EngineExt as _;

    #[tokio::test]
    async fn a_failed_sync_is_answered_and_the_store_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let generations = Arc::new(Generations::new());
        let store = SledStore::open(dir.path(), Arc::clone(&generations)).unwrap();
        store.ready().await.unwrap();
        let stamp = generations.stamp(&UserId::parse("u-abcdefgh").unwrap());
        if let Some(database) = store.shared.slot.write().unwrap().as_mut() {
            // Cannot be synced: EINVAL.
            database.data = File::open("/dev/null").unwrap();
        }
        let failure = store.ready().await.unwrap_err();
        assert!(matches!(failure, StoreError::Unknown(_)), "{failure}");
        let at_once = store.ready().await.unwrap_err();
        assert!(matches!(at_once, StoreError::Engine { .. }), "{at_once}");
        // Meanwhile it serves reads of the previous values.
        assert!(matches!(written(&store).await, Ok(Some(1))));
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

    /// Returns the counter that [`Store::ready`] increments.
    async fn written(store: &SledStore) -> Result<Option<u64>> {
        let key = crate::store::layout::ready;
        store.read(move |records| records.load(&key())).await
    }

    #[tokio::test]
    async fn a_late_write_is_unknown_and_one_that_was_not_begun_is_never_done() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path(), Arc::default()).unwrap();
        let store = store.with_write_timeout(Duration::from_millis(50));
        let slow = store.write(|tx| {
            thread::sleep(Duration::from_millis(300));
            tx.put(&crate::store::layout::ready(), &7)
        });
        let (slow, queued) = tokio::join!(slow, store.ready());
        assert!(matches!(slow, Err(StoreError::Unknown(_))), "{slow:?}");
        assert!(matches!(queued, Err(StoreError::Busy)), "{queued:?}");
        assert!(matches!(written(&store).await, Ok(None)));
        while written(&store).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(matches!(written(&store).await, Ok(Some(7))));
        store.ready().await.unwrap();
        assert!(matches!(written(&store).await, Ok(Some(8))));
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
