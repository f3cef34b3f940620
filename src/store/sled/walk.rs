//! All records as of one moment, read while the writer continues.
//!
//! sled's own iteration is not a snapshot. So slices are read on the writer's thread, between two batches, and the
//! writer keeps the previous value of everything that a batch changes beyond the position of the walk. The result is
//! sorted and is exactly what the census at the beginning counts; a write waits for one slice at most.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::store::sled::queue::{DurableView, WriterTask};
use crate::store::sled::{Census, SledStore, WalkWatch};
use crate::store::{RecordEntry, Result, StoreError};

/// The reading side of a walk. Blocks its thread; one walk at a time.
pub(crate) struct BackupWalk<'a> {
    store: &'a SledStore,
    /// The census of the walked records: their number, their sum and the last write.
    pub(crate) census: Census,
    is_over: bool,
    walker: Arc<()>,
    _turn: MutexGuard<'a, ()>,
}

impl SledStore {
    /// Begins a walk over everything acknowledged now; waits until another walk is over.
    pub(crate) fn walk(&self) -> Result<BackupWalk<'_>> {
        let turn = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let walker = Arc::new(());
        let watch = WalkWatch::begin(&walker);
        let census = read_durable(self, move |view| {
            view.records.ok_or(StoreError::Busy)?;
            *view.watch = Some(watch);
            Ok(view.census)
        })?;
        Ok(BackupWalk {
            store: self,
            census,
            is_over: false,
            walker,
            _turn: turn,
        })
    }
}

impl BackupWalk<'_> {
    /// Returns the next records in key order, without the census itself; `None`: there are no more.
    ///
    /// # Errors
    /// Any error of the engine; also if the store was reopened in the meantime, or more was changed than can be kept.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<RecordEntry>>> {
        if self.is_over {
            return Ok(None);
        }
        let walker = Arc::downgrade(&self.walker);
        let (entries, is_over) = read_durable(self.store, move |view| {
            let records = view.records.ok_or(StoreError::Busy)?;
            let watch = view.watch.as_mut().filter(|watch| watch.is_of(&walker));
            let lost = "the store was reopened, or changed too much in the meantime";
            let watch = watch.ok_or_else(|| StoreError::cannot("copy", lost))?;
            let slice = watch.slice(records)?;
            if slice.1 {
                *view.watch = None;
            }
            Ok(slice)
        })?;
        self.is_over = is_over;
        Ok(Some(entries))
    }
}

/// Runs a function on the writer's thread between two batches, and waits for it.
fn read_durable<T: Send + 'static>(
    store: &SledStore,
    act: impl FnOnce(&mut DurableView<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = sync_channel(1);
    let queue = store.queue.as_ref().ok_or(StoreError::Busy)?;
    let read = WriterTask::Read(Box::new(move |view| {
        // A caller that has gone needs no answer.
        drop(answer.send(act(view)));
    }));
    queue.send(read).map_err(|_| StoreError::Busy)?;
    answered.recv().unwrap_or(Err(StoreError::Busy))
}
