//! The one thread that writes.
//!
//! It takes what waits in the queue, runs each intent on what those before it left, writes all of it as one batch with
//! the census, syncs once, moves the generations, and then answers all callers. So writers share a sync, nothing
//! conflicts, and nobody hears of what a crash could take back.

use std::collections::BTreeSet;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use sled::Batch;

use crate::model::clock::{Clock, SystemClock};
use crate::store::error::{Result, StoreError};
use crate::store::generations::Generations;
use crate::store::layout;
use crate::store::sled::census::Census;
use crate::store::sled::database::Database;
use crate::store::sled::queue::{Cause, Look, Lookout, Lost, QueuedWrite, Task, panicked};
use crate::store::sled::records::SledRecords;
use crate::store::sled::watch::Watch;
use crate::store::sled::{Shared, files, open};
use crate::store::transaction::{Changes, Overlay, Records, Transaction};

/// How many intents share one sync at most.
const BATCH_MAX: usize = 256;

/// How often the census is copied to its file at most.
const SIDE_EVERY: Duration = Duration::from_secs(1);

/// The pauses between attempts to open a failed store again: doubled from the first to the last.
const HEAL_FIRST: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });
const HEAL_LAST: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 4000 });

/// After a failed write sled fails for ever: it is opened anew as soon as the disk takes writes again. Until then the
/// old one serves reads, and what the failed batch has changed is read as it was before.
struct Broken {
    cause: Cause,
    tried_at: Duration,
    pause: Duration,
}

/// What a batch writes.
struct Prepared {
    batch: Batch,
    /// As it is then.
    census: Census,
    /// What was under each key that it changes.
    before: Changes,
}

/// The thread's state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    generations: Arc<Generations>,
    queue: Receiver<Task>,
    /// As last synced.
    census: Census,
    /// Somebody who walks over all records, and must be told what changes ahead of them.
    watch: Option<Watch>,
    /// Which sequence number the copy has, and when it was written or last tried.
    side: (u64, Duration),
    broken: Option<Broken>,
    clock: SystemClock,
}

impl Writer {
    /// A writer for a store that has just been opened with this census.
    pub(crate) fn new(
        shared: Arc<Shared>,
        generations: Arc<Generations>,
        queue: Receiver<Task>,
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

    /// One that refuses every change until the disk, which has said this, takes writes again.
    pub(crate) fn broken_by(mut self, trouble: std::io::Error) -> Self {
        self.break_off(Arc::new(trouble));
        self
    }

    fn break_off(&mut self, cause: Cause) {
        self.broken = Some(Broken {
            cause,
            tried_at: self.clock.elapsed(),
            pause: HEAL_FIRST,
        });
    }

    /// Writes until the last sender is gone, then closes the database.
    pub(crate) fn run(mut self) {
        loop {
            let at_rest = self.broken.is_none() && self.side.0 == self.census.sequence;
            let next = if at_rest {
                self.queue
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.queue.recv_timeout(SIDE_EVERY)
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

    fn serve(&mut self, tasks: Vec<Task>) {
        let (mut works, mut looks) = (Vec::new(), Vec::new());
        for task in tasks {
            match task {
                Task::Write(work) => works.push(work),
                Task::Look(look) => looks.push(look),
            }
        }
        let outcome = match &self.broken {
            Some(broken) => Err(Lost::Failed(Arc::clone(&broken.cause))),
            None => self.write(&mut works),
        };
        for work in works {
            work.answer(outcome.as_ref().err());
        }
        for look in looks {
            self.look(look);
        }
    }

    fn look(&mut self, look: Look) {
        let shared = Arc::clone(&self.shared);
        let slot = shared.database();
        let is_sound = self.broken.is_none();
        let records = slot.as_ref().filter(|_| is_sound);
        let records = records.map(|database| SledRecords(&database.db));
        let mut lookout = Lookout {
            records: records.as_ref(),
            census: self.census,
            watch: &mut self.watch,
        };
        // sled can panic on a damaged page: that is this walk's failure, not the writer's.
        if catch_unwind(AssertUnwindSafe(|| look(&mut lookout))).is_err() {
            self.watch = None;
            tracing::error!("a walk over the store panicked");
        }
    }

    /// Runs the intents, makes what they changed durable and voids what is cached of it.
    fn write(&mut self, works: &mut [QueuedWrite]) -> Result<(), Lost> {
        let shared = Arc::clone(&self.shared);
        let slot = shared.database();
        let Some(database) = slot.as_ref() else {
            return Err(Lost::Failed(Arc::new(StoreError::Busy)));
        };
        let records = SledRecords(&database.db);
        let mut overlay = Overlay::over(&records);
        let mut touched = BTreeSet::new();
        for work in works {
            let mut tx = Transaction::over(&overlay);
            if work.run(&mut tx) {
                let (changes, uids) = tx.into_parts();
                overlay.absorb(changes);
                touched.extend(uids);
            }
        }
        let outcome = self.commit(database, &records, overlay.changes());
        // Only now, when readers see what is durable: a stamp that is taken after this is never kept beside what was there
        // before.
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
    ) -> Result<(), Lost> {
        let Prepared {
            batch,
            census,
            before,
        } = match self.prepare(records, changes) {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return Ok(()),
            Err(error) => return Err(Lost::Failed(Arc::new(error))),
        };
        // INVARIANT: nobody reads what is not durable (what_is_not_durable_is_read_by_nobody).
        self.shared.hide(before);
        let outcome = catch_unwind(AssertUnwindSafe(|| database.commit(batch)));
        let cause: Cause = match outcome {
            Ok(Ok(())) => {
                self.census = census;
                let before = self.shared.show();
                self.tell_watch(before);
                return Ok(());
            }
            Ok(Err(error)) => Arc::new(error),
            Err(panic) => Arc::from(panicked(&*panic)),
        };
        tracing::error!(
            error = &*cause as &(dyn Error + 'static),
            "the store cannot be written and will be opened again"
        );
        self.watch = None;
        self.break_off(Arc::clone(&cause));
        Err(Lost::Unknown(cause))
    }

    /// The batch with its census; `None`: nothing is changed.
    fn prepare(&self, records: &SledRecords<'_>, changes: &Changes) -> Result<Option<Prepared>> {
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
        Ok(Some(Prepared {
            batch,
            census,
            before: all_before,
        }))
    }

    fn tell_watch(&mut self, before: Changes) {
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
                "the store cannot be opened again yet"
            ),
        }
    }

    fn heal(&mut self) -> Result<()> {
        // Before the old one is given up, which still serves reads.
        files::probe(&self.shared.dir).map_err(StoreError::cannot_write)?;
        if !self.shared.is_stand_in() {
            self.shared.put(None);
            // After a failed sync the page cache may hold what the disk does not.
            files::forget_cached(&self.shared.dir.join(files::DATABASE))
                .map_err(StoreError::cannot_write)?;
        }
        let (database, census) = open::open(&self.shared.dir)?;
        if census.sequence < self.census.sequence {
            return Err(StoreError::Refused {
                dir: self.shared.dir.clone(),
                found: format!(
                    "it has gone back to write {}, acknowledged was write {}",
                    census.sequence, self.census.sequence
                ),
            });
        }
        self.census = census;
        self.side.0 = census.sequence;
        // What became of the batch that broke it is known now.
        drop(self.shared.show());
        self.shared.put(Some(database));
        self.generations.touch_all();
        Ok(())
    }

    fn copy_census_when_due(&mut self) {
        if self.side.1 + SIDE_EVERY <= self.clock.elapsed() {
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
