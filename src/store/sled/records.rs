//! sled seen as records.

use std::ops::Bound;

use sled::Db;

use crate::store::error::StoreError;
use crate::store::layout;
use crate::store::transaction::{Entry, Records, first};

/// The records as last applied. All stand in the one default tree, so that one batch is atomic over them.
pub(crate) struct SledRecords<'a>(pub(crate) &'a Db);

impl Records for SledRecords<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.0.get(key).map_err(|error| unreadable(key, error))?;
        Ok(found.map(|bytes| bytes.to_vec()))
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let range = self
            .0
            .range::<&[u8], _>((first(prefix, after), Bound::Unbounded));
        for entry in range.take(limit) {
            let (key, value) = entry.map_err(|error| unreadable(prefix, error))?;
            if !key.starts_with(prefix) {
                break;
            }
            entries.push((key.to_vec(), value.to_vec()));
        }
        Ok(entries)
    }
}

fn unreadable(key: &[u8], error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => layout::damaged(key),
        error => StoreError::Engine {
            action: "read",
            source: Box::new(error),
        },
    }
}
