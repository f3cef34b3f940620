//! All records as they were at one moment, read while the writer goes on.
//!
//! sled's own iteration is no snapshot. So slices are read on the writer's thread, between two batches, and of whatever
//! a batch changes beyond the place that a walk has reached the writer keeps what was there before. What comes out is
//! sorted and is exactly what the census of the beginning counts; a writer waits for one slice at most.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use crate::store::error::StoreError;
use crate::store::layout;
use crate::store::sled::SledStore;
use crate::store::sled::census::Census;
use crate::store::sled::writer::{Lookout, Task};
use crate::store::transaction::{Entry, Records};

/// Records in one slice: below a millisecond of the writer's time.
const SLICE: usize = 256;

/// How much is kept of what changes during a walk, in bytes; with more the walk fails rather than the memory.
const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The writer's side of a walk.
pub(crate) struct Watch {
    /// Every key up to this one has been handed over.
    reached: Option<Vec<u8>>,
    /// What was under a key when the walk began, where it was changed since; only keys that are not reached yet.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    kept_bytes: usize,
    /// Gone when nobody walks any more.
    walker: Weak<()>,
}

impl Watch {
    fn begin(walker: &Arc<()>) -> Self {
        Self {
            reached: None,
            before: BTreeMap::new(),
            kept_bytes: 0,
            walker: Arc::downgrade(walker),
        }
    }

    /// Whether it is of any use to go on.
    pub(crate) fn is_wanted(&self) -> bool {
        self.walker.strong_count() != 0 && self.kept_bytes <= KEPT_BYTES_MAX
    }

    /// Keeps what was under a key that has just been changed.
    pub(crate) fn note(&mut self, key: Vec<u8>, before: Option<Vec<u8>>) {
        let is_ahead = self.reached.as_ref().is_none_or(|reached| *reached < key);
        if is_ahead && !self.before.contains_key(&key) {
            self.kept_bytes += key.len() + before.as_ref().map_or(0, Vec::len);
            self.before.insert(key, before);
        }
    }

    /// The next entries; `true`: there are no more.
    fn slice(&mut self, records: &dyn Records) -> Result<(Vec<Entry>, bool), StoreError> {
        let live = records.scan(&[], self.reached.as_deref(), SLICE)?;
        let end = live
            .last()
            .map(|(key, _)| key.clone())
            .filter(|_| SLICE <= live.len());
        let later = end.as_ref().map_or_else(BTreeMap::new, |end| {
            // No key lies between `end` and `end` with a zero byte behind it.
            let beyond = [end.as_slice(), &[0]].concat();
            self.before.split_off(&beyond)
        });
        let mut merged: BTreeMap<_, _> = live.into_iter().collect();
        for (key, before) in std::mem::replace(&mut self.before, later) {
            self.kept_bytes -= key.len() + before.as_ref().map_or(0, Vec::len);
            match before {
                Some(value) => merged.insert(key, value),
                None => merged.remove(&key),
            };
        }
        merged.remove(layout::census::<Census>().bytes());
        let is_over = end.is_none();
        self.reached = end;
        Ok((merged.into_iter().collect(), is_over))
    }
}

/// The walker's side. Blocks its thread; one walks at a time.
pub(crate) struct Walk<'a> {
    store: &'a SledStore,
    census: Census,
    is_over: bool,
    walker: Arc<()>,
    _turn: MutexGuard<'a, ()>,
}

impl SledStore {
    /// Begins a walk over what is acknowledged now; waits until another is over.
    pub(crate) fn walk(&self) -> Result<Walk<'_>, StoreError> {
        let turn = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let walker = Arc::new(());
        let watch = Watch::begin(&walker);
        let census = look(self, move |lookout| {
            lookout.records.ok_or(StoreError::Busy)?;
            *lookout.watch = Some(watch);
            Ok(lookout.census)
        })?;
        Ok(Walk {
            store: self,
            census,
            is_over: false,
            walker,
            _turn: turn,
        })
    }
}

impl Walk<'_> {
    /// What is walked over: how many records, their sum, and which write was the last.
    pub(crate) const fn census(&self) -> Census {
        self.census
    }

    /// The next records in the order of keys, without the census itself; `None`: that was all.
    ///
    /// # Errors
    /// Whatever the engine says; and when the store was opened anew meanwhile, or more changes than can be kept.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let walker = Arc::downgrade(&self.walker);
        let (entries, is_over) = look(self.store, move |lookout| {
            let records = lookout.records.ok_or(StoreError::Busy)?;
            let watch = lookout
                .watch
                .as_mut()
                .filter(|watch| Weak::ptr_eq(&watch.walker, &walker));
            let watch = watch.ok_or_else(lost)?;
            let slice = watch.slice(records)?;
            if slice.1 {
                *lookout.watch = None;
            }
            Ok(slice)
        })?;
        self.is_over = is_over;
        Ok(Some(entries))
    }
}

/// Has something done on the writer's thread between two batches, and waits for it.
fn look<T: Send + 'static>(
    store: &SledStore,
    act: impl FnOnce(&mut Lookout<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (answer, answered) = sync_channel(1);
    let queue = store.queue.as_ref().ok_or(StoreError::Busy)?;
    let look = Task::Look(Box::new(move |lookout| {
        // Whoever went away wants no answer.
        drop(answer.send(act(lookout)));
    }));
    queue.send(look).map_err(|_| StoreError::Busy)?;
    answered.recv().unwrap_or(Err(StoreError::Busy))
}

fn lost() -> StoreError {
    StoreError::Engine {
        action: "copy",
        source: "it was opened anew, or too much was changed meanwhile".into(),
    }
}
