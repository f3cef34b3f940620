//! The implementation of records on sled.

use std::ops::Bound;

use sled::{Batch, Db, Tree};

use crate::store::transaction::first;
use crate::store::{Changes, RecordEntry, Records, Result, StoreError, layout};

/// The records as last applied, durable or not. All are in the default tree, so that one batch is atomic over them.
pub(crate) struct SledRecords<'a>(pub(crate) &'a Db);

impl Records for SledRecords<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.0.get(key).map_err(|error| unreadable(key, error))?;
        Ok(found.map(|bytes| bytes.to_vec()))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<RecordEntry>> {
        let mut entries = Vec::new();
        let bounds = (first(prefix, after), Bound::Unbounded);
        for entry in self.0.range::<&[u8], _>(bounds).take(limit) {
            let (key, value) = entry.map_err(|error| unreadable(prefix, error))?;
            if !key.starts_with(prefix) {
                break;
            }
            entries.push((key.to_vec(), value.to_vec()));
        }
        Ok(entries)
    }
}

/// The tree of the side entries, which no census counts.
const SIDE_TREE: &str = "side";

/// Returns all side entries.
pub(crate) fn side(db: &Db) -> Result<Vec<RecordEntry>> {
    let entries = side_tree(db, "read")?.iter();
    let entries = entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
    let entries: Result<_, _> = entries.collect();
    entries.map_err(StoreError::cannot_read)
}

/// Writes side entries. What is flushed outlives the process, but a power cut may lose it.
pub(crate) fn put_side(db: &Db, changes: Changes) -> Result<()> {
    let tree = side_tree(db, "write to")?;
    let mut batch = Batch::default();
    for (key, change) in changes {
        match change {
            Some(bytes) => batch.insert(key, bytes),
            None => batch.remove(key),
        }
    }
    let written = tree.apply_batch(batch).and_then(|()| db.flush());
    written.map(drop).map_err(StoreError::cannot_write)
}

fn side_tree(db: &Db, action: &'static str) -> Result<Tree> {
    db.open_tree(SIDE_TREE)
        .map_err(|error| StoreError::cannot(action, error))
}

fn unreadable(key: &[u8], error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => layout::damaged(key),
        error => StoreError::cannot_read(error),
    }
}
