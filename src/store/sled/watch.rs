//! The writer's state of a walk: its position, and the previous values of records changed beyond it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::store::sled::Census;
use crate::store::{RecordEntry, Records, Result, layout};

/// Records in one slice: less than a millisecond of the writer's time.
const SLICE: usize = 256;

/// Maximum size of the previous values kept during a walk, in bytes; beyond it the walk fails, to protect the memory.
const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The writer's side of a walk.
pub(crate) struct WalkWatch {
    /// Every key up to this one has been delivered.
    reached: Option<Vec<u8>>,
    /// Values at the beginning of the walk of records changed since; only for keys not reached yet.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    kept_bytes: usize,
    /// Dead once the walk has been dropped.
    walker: Weak<()>,
}

impl WalkWatch {
    pub(crate) fn begin(walker: &Arc<()>) -> Self {
        Self {
            reached: None,
            before: BTreeMap::new(),
            kept_bytes: 0,
            walker: Arc::downgrade(walker),
        }
    }

    /// Whether this state belongs to that walker.
    pub(crate) fn is_of(&self, walker: &Weak<()>) -> bool {
        Weak::ptr_eq(&self.walker, walker)
    }

    /// Whether the walk can still be completed.
    pub(crate) fn is_wanted(&self) -> bool {
        self.walker.strong_count() != 0 && self.kept_bytes <= KEPT_BYTES_MAX
    }

    /// Keeps the previous value of a key that has just been changed.
    pub(crate) fn note(&mut self, key: Vec<u8>, before: Option<Vec<u8>>) {
        let is_ahead = self.reached.as_ref().is_none_or(|reached| *reached < key);
        if is_ahead && !self.before.contains_key(&key) {
            self.kept_bytes += key.len() + before.as_ref().map_or(0, Vec::len);
            self.before.insert(key, before);
        }
    }

    /// Returns the next entries; `true`: there are no more.
    pub(crate) fn slice(&mut self, records: &dyn Records) -> Result<(Vec<RecordEntry>, bool)> {
        let live = records.scan(&[], self.reached.as_deref(), SLICE)?;
        let last = live.last().filter(|_| SLICE <= live.len());
        let end = last.map(|(key, _)| key.clone());
        let later = end.as_ref().map_or_else(BTreeMap::new, |end| {
            // No key lies between `end` and `end` followed by a zero byte.
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
