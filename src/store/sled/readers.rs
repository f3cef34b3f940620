//! Threads for reads, because a page that is not cached blocks on the disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use sled::Db;

use crate::store::engine::StoreRead;
use crate::store::sled::SharedDatabase;
use crate::store::{Result, StoreError};

/// Enough to keep a disk busy; reads from sled's cache take microseconds.
const THREADS: usize = 4;

/// Reads that may be queued before more are refused.
const QUEUE_MAX: usize = 1024;

/// One job, which answers its caller itself; if it is dropped unrun, the caller gets [`StoreError::Busy`].
pub(crate) enum Job {
    /// A read of the records.
    Records(StoreRead),
    /// An operation on the side entries.
    Side(Box<dyn FnOnce(&Db) + Send>),
}

/// The reader threads. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Readers {
    queue: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts the threads.
    pub(crate) fn start(shared: &Arc<SharedDatabase>) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut readers = Self {
            queue: Some(queue),
            threads: Vec::with_capacity(THREADS),
        };
        for number in 0..THREADS {
            let (shared, jobs) = (Arc::clone(shared), Arc::clone(&jobs));
            let thread = thread::Builder::new().name(format!("store-read-{number}"));
            readers
                .threads
                .push(thread.spawn(move || run(&shared, &jobs))?);
        }
        Ok(readers)
    }

    /// Queues a job for the next free thread.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the queue is full.
    pub(crate) fn submit(&self, job: Job) -> Result<()> {
        let queue = self.queue.as_ref().ok_or(StoreError::Busy)?;
        queue.try_send(job).map_err(|_| StoreError::Busy)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic of the thread was already reported.
            drop(thread.join());
        }
    }
}

fn run(shared: &SharedDatabase, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else {
            return;
        };
        // sled can panic on a damaged page: this read fails, but the thread continues.
        if catch_unwind(AssertUnwindSafe(|| shared.look(job))).is_err() {
            tracing::error!("a read of the store panicked");
        }
    }
}
