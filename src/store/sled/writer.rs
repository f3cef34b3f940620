//! The only thread that writes.
//!
//! It takes the queued intents, runs each on the result of the previous ones, writes all changes as one batch with the
//! census, syncs once, advances the generations, and then answers all callers. So writes share a sync, nothing
//! conflicts, and no caller learns of a change that a crash could undo.

use std::collections::BTreeSet;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use sled::Batch;

use crate::model::clock::{Clock, SystemClock};
use crate::store::generations::Generations;
use crate::store::sled::queue::{
    BatchLoss, DurableRead, DurableView, QueuedWrite, WriteFailure, WriterTask, panicked,
};
use crate::store::sled::{Census, Database, SharedDatabase, SledRecords, WalkWatch, files, open};
use crate::store::transaction::Overlay;
use crate::store::{Changes, Records, Result, StoreError, Transaction, layout};

/// Maximum number of intents that share one sync.
const BATCH_MAX: usize = 256;

/// Minimum interval between two copies of the census to its file.
const CENSUS_COPY_EVERY: Duration = Duration::from_secs(1);

/// Pauses between attempts to reopen a failed store: doubled from the first to the last.
const HEAL_FIRST: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });
const HEAL_LAST: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 4000 });

/// A failed store. After a failed write sled fails permanently, so the store is reopened as soon as the disk accepts
/// writes again. Until then the old database serves reads, which see the previous values of what the failed batch
/// changed.
struct BrokenState {
    cause: WriteFailure,
    tried_at: Duration,
    pause: Duration,
}

/// The prepared commit of a batch.
struct PreparedBatch {
    batch: Batch,
    /// The census after the batch.
    census: Census,
    /// The previous value of each key that it changes.
    before: Changes,
}

/// State of the writer thread.
pub(crate) struct SledWriter {
    shared: Arc<SharedDatabase>,
    generations: Arc<Generations>,
    queue: Receiver<WriterTask>,
    /// The last synced census.
    census: Census,
    /// The walk in progress, which must learn what changes beyond its position.
    watch: Option<WalkWatch>,
    /// The sequence number of the census copy, and when it was last written or tried.
    side: (u64, Duration),
    broken: Option<BrokenState>,
    clock: SystemClock,
}

impl SledWriter {
    /// Creates a writer for a store that has just been opened with this census.
    pub(crate) fn new(
        shared: Arc<SharedDatabase>,
        generations: Arc<Generations>,
        queue: Receiver<WriterTask>,
        census: Census,
    ) -> Self {
        Self {
            shared,
            generations,
            queue,
            census,
            watch: None,
            side: (census.sequence, Duration::ZERO),
            broken: None,
            clock: SystemClock::new(),
        }
    }

    /// Makes the writer refuse every change until the disk, which reported this error, accepts writes again.
    pub(crate) fn refuse_writes(&mut self, cause: WriteFailure) {
        self.broken = Some(BrokenState {
            cause,
            tried_at: self.clock.elapsed(),
            pause: HEAL_FIRST,
        });
    }

    /// Writes until the last sender is dropped, then closes the database.
    pub(crate) fn run(mut self) {
        loop {
            let at_rest = self.broken.is_none() && self.side.0 == self.census.sequence;
            let next = if at_rest {
                self.queue
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.queue.recv_timeout(CENSUS_COPY_EVERY)
            };
            match next {
                Ok(first) => {
                    let mut tasks = vec![first];
                    tasks.extend(self.queue.try_iter().take(BATCH_MAX - 1));
                    self.serve(tasks);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.heal_when_due();
            self.copy_census_when_due();
        }
        self.copy_census();
        self.shared.put(None);
    }

    fn serve(&mut self, tasks: Vec<WriterTask>) {
        let (mut works, mut reads) = (Vec::new(), Vec::new());
        for task in tasks {
            match task {
                WriterTask::Write(work) => works.push(work),
                WriterTask::Read(read) => reads.push(read),
            }
        }
        let outcome = match &self.broken {
            Some(broken) => Err(BatchLoss::Failed(Arc::clone(&broken.cause))),
            None => self.write(&mut works),
        };
        for work in works {
            work.answer(outcome.as_ref().err());
        }
        for read in reads {
            self.read_durable(read);
        }
    }

    fn read_durable(&mut self, read: DurableRead) {
        let shared = Arc::clone(&self.shared);
        let slot = shared.database();
        let is_sound = self.broken.is_none();
        let records = slot.as_ref().filter(|_| is_sound);
        let records = records.map(|database| SledRecords(&database.db));
        let mut view = DurableView {
            records: records.as_ref(),
            census: self.census,
            watch: &mut self.watch,
        };
        // sled can panic on a damaged page: this walk fails, but the writer continues.
        if catch_unwind(AssertUnwindSafe(|| read(&mut view))).is_err() {
            self.watch = None;
            tracing::error!("a scan of the store panicked");
        }
    }

    /// Runs the intents, makes their changes durable and voids what is cached of them.
    fn write(&mut self, works: &mut [QueuedWrite]) -> Result<(), BatchLoss> {
        let shared = Arc::clone(&self.shared);
        let slot = shared.database();
        let Some(database) = slot.as_ref() else {
            return Err(BatchLoss::Failed(Arc::new(StoreError::Busy)));
        };
        let records = SledRecords(&database.db);
        let mut overlay = Overlay::over(&records);
        let mut touched = BTreeSet::new();
        for work in works {
            let mut tx = Transaction::over(&overlay);
            if work.run(&mut tx) {
                let (changes, uids) = tx.into_parts();
                overlay.changes.extend(changes);
                touched.extend(uids);
            }
        }
        let outcome = self.commit(database, &records, &overlay.changes);
        // Only after the commit succeeded or its values were hidden: no stamp taken after this can be cached with a
        // previous value.
        for uid in &touched {
            self.generations.touch(uid);
        }
        outcome
    }

    fn commit(
        &mut self,
        database: &Database,
        records: &SledRecords<'_>,
        changes: &Changes,
    ) -> Result<(), BatchLoss> {
        let PreparedBatch {
            batch,
            census,
            before,
        } = match self.prepare(records, changes) {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return Ok(()),
            Err(error) => return Err(BatchLoss::Failed(Arc::new(error))),
        };
        // INVARIANT: readers see only what is durable (what_is_not_durable_is_read_by_nobody).
        self.shared.hide(before);
        let outcome = catch_unwind(AssertUnwindSafe(|| database.commit(batch)));
        let cause: WriteFailure = match outcome {
            Ok(Ok(())) => {
                self.census = census;
                let before = self.shared.show();
                self.note_in_walk(before);
                return Ok(());
            }
            Ok(Err(error)) => Arc::new(error),
            Err(panic) => Arc::from(panicked(&*panic)),
        };
        tracing::error!(
            error = &*cause as &(dyn Error + 'static),
            "the store cannot be written and will be reopened"
        );
        self.watch = None;
        self.refuse_writes(Arc::clone(&cause));
        Err(BatchLoss::Unknown(cause))
    }

    /// Prepares the batch with its census; `None`: nothing changes.
    fn prepare(
        &self,
        records: &SledRecords<'_>,
        changes: &Changes,
    ) -> Result<Option<PreparedBatch>> {
        let mut census = self.census;
        let mut batch = Batch::default();
        let mut all_before = Changes::new();
        for (key, change) in changes {
            let before = records.get(key)?;
            if before == *change {
                continue;
            }
            if let Some(before) = &before {
                census.subtract(key, before);
            }
            all_before.insert(key.clone(), before);
            match change {
                Some(after) => {
                    census.add(key, after);
                    batch.insert(key.as_slice(), after.as_slice());
                }
                None => batch.remove(key.as_slice()),
            }
        }
        if all_before.is_empty() {
            return Ok(None);
        }
        census.sequence += 1;
        batch.insert(layout::census::<Census>().bytes(), census.encode()?);
        Ok(Some(PreparedBatch {
            batch,
            census,
            before: all_before,
        }))
    }

    /// Keeps the previous values for the walk in progress.
    fn note_in_walk(&mut self, before: Changes) {
        if let Some(watch) = &mut self.watch {
            for (key, before) in before {
                watch.note(key, before);
            }
        }
        self.watch.take_if(|watch| !watch.is_wanted());
    }

    fn heal_when_due(&mut self) {
        let now = self.clock.elapsed();
        let Some(broken) = &mut self.broken else {
            return;
        };
        if now < broken.tried_at + broken.pause {
            return;
        }
        broken.tried_at = now;
        broken.pause = HEAL_LAST.min(broken.pause * 2);
        match self.heal() {
            Ok(()) => {
                self.broken = None;
                tracing::info!("the store is open again");
            }
            Err(error) => tracing::warn!(
                error = &error as &(dyn Error + 'static),
                "the store cannot be reopened yet"
            ),
        }
    }

    fn heal(&mut self) -> Result<()> {
        // Checked before the old database is closed, which still serves reads.
        files::probe(&self.shared.dir).map_err(StoreError::cannot_write)?;
        if !self.shared.is_stand_in() {
            self.shared.put(None);
            // After a failed sync the page cache may contain data that the disk does not.
            files::forget_cached(&self.shared.dir.join(files::DATABASE))
                .map_err(StoreError::cannot_write)?;
        }
        let (database, census) = open::open(&self.shared.dir)?;
        if census.sequence < self.census.sequence {
            return Err(StoreError::Refused {
                dir: self.shared.dir.clone(),
                found: format!(
                    "it has gone back to write {}, but write {} was already acknowledged",
                    census.sequence, self.census.sequence
                ),
            });
        }
        self.census = census;
        self.side.0 = census.sequence;
        // The outcome of the failed batch is known now.
        drop(self.shared.show());
        self.shared.put(Some(database));
        self.generations.touch_all();
        Ok(())
    }

    fn copy_census_when_due(&mut self) {
        if self.side.1 + CENSUS_COPY_EVERY <= self.clock.elapsed() {
            self.copy_census();
        }
    }

    fn copy_census(&mut self) {
        if self.side.0 == self.census.sequence {
            return;
        }
        self.side.1 = self.clock.elapsed();
        match self.census.write_side(&self.shared.dir) {
            Ok(()) => self.side.0 = self.census.sequence,
            Err(error) => tracing::warn!(
                error = &error as &(dyn Error + 'static),
                "the store's census cannot be copied yet"
            ),
        }
    }
}
