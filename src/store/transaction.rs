//! The view of a running intent: the records with its own changes on top, written only if it succeeds.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::id::UserId;
use crate::store::layout::{Prefix, RecordKey};
use crate::store::{Result, StoreError, record};

/// A key and its record, as bytes.
pub(crate) type RecordEntry = (Vec<u8>, Vec<u8>);

/// The change of each key: new bytes, or removal.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Records that can be read.
pub trait Records {
    /// Returns the bytes under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Returns at most `limit` entries whose keys begin with `prefix`, those after the key `after`, in key order.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<RecordEntry>>;
}

impl dyn Records + '_ {
    /// Returns the record under a key.
    pub(crate) fn load<T: DeserializeOwned>(&self, key: &RecordKey<T>) -> Result<Option<T>> {
        let bytes = self.get(key.bytes())?;
        bytes.map(|bytes| record::decode(key, &bytes)).transpose()
    }

    /// Returns the parts of the keys under a prefix after it.
    pub(crate) fn names(&self, prefix: &Prefix) -> Result<Vec<Vec<u8>>> {
        let entries = self.scan(prefix.bytes(), None, usize::MAX)?;
        let names = entries.iter().map(|(key, _)| prefix.rest(key).to_vec());
        Ok(names.collect())
    }
}

impl Records for BTreeMap<Vec<u8>, Vec<u8>> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<RecordEntry>> {
        Ok(self
            .range::<[u8], _>((first(prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

/// Returns the lower bound of a scan.
pub(crate) fn first<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    after.map_or(Bound::Included(prefix), Bound::Excluded)
}

/// Makes changes to records.
pub(crate) fn apply(
    records: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    changes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
) {
    for (key, change) in changes {
        match change {
            Some(bytes) => records.insert(key, bytes),
            None => records.remove(&key),
        };
    }
}

/// Records with changes on top.
pub(crate) struct Layered<'a, C> {
    /// The records below.
    pub(crate) base: &'a dyn Records,
    /// The changes on top, owned or borrowed.
    pub(crate) changes: C,
}

impl<C: Borrow<Changes>> Records for Layered<'_, C> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.changes.borrow().get(key) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<RecordEntry>> {
        let changed: Vec<_> = self
            .changes
            .borrow()
            .range::<[u8], _>((first(prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .collect();
        // Each change removes at most one entry, so this many entries of the base are enough.
        let base = limit.saturating_add(changed.len());
        let base = self.base.scan(prefix, after, base)?;
        let mut merged: BTreeMap<_, _> = base.into_iter().collect();
        let changed = changed.into_iter();
        apply(
            &mut merged,
            changed.map(|(key, to)| (key.clone(), to.clone())),
        );
        Ok(merged.into_iter().take(limit).collect())
    }
}

/// Records with owned changes on top.
pub(crate) type Overlay<'a> = Layered<'a, Changes>;

impl<'a> Overlay<'a> {
    /// Creates an overlay without changes.
    pub(crate) fn over(base: &'a dyn Records) -> Self {
        let changes = Changes::new();
        Self { base, changes }
    }
}

/// The view of one intent, which is applied completely or not at all.
pub struct Transaction<'a> {
    overlay: Overlay<'a>,
    touched: BTreeSet<UserId>,
}

impl<'a> Transaction<'a> {
    /// Creates a transaction without changes.
    pub(crate) fn over(base: &'a dyn Records) -> Self {
        let (overlay, touched) = (Overlay::over(base), BTreeSet::new());
        Self { overlay, touched }
    }

    /// Returns the records as they would be afterwards.
    pub(crate) fn records(&self) -> &(dyn Records + 'a) {
        &self.overlay
    }

    /// Returns the record under a key.
    pub(crate) fn load<T: DeserializeOwned>(&self, key: &RecordKey<T>) -> Result<Option<T>> {
        self.records().load(key)
    }

    /// Writes a record.
    pub(crate) fn put<T: Serialize>(&mut self, key: &RecordKey<T>, value: &T) -> Result<()> {
        let bytes = Some(record::encode(key, value)?);
        self.overlay.changes.insert(key.bytes().to_vec(), bytes);
        Ok(())
    }

    /// Writes a record whose key must be free.
    pub(crate) fn put_new<T: Serialize>(&mut self, key: &RecordKey<T>, value: &T) -> Result<()> {
        if self.overlay.get(key.bytes())?.is_some() {
            return Err(StoreError::Collision { tree: key.tree() });
        }
        self.put(key, value)
    }

    /// Removes a record.
    pub(crate) fn remove<T>(&mut self, key: &RecordKey<T>) {
        self.overlay.changes.insert(key.bytes().to_vec(), None);
    }

    /// Voids the stamps of a uid after the commit.
    pub(crate) fn touch(&mut self, uid: &UserId) {
        self.touched.insert(uid.clone());
    }

    /// Adopts the changes of another transaction on the same records.
    #[cfg(test)]
    pub(crate) fn adopt(&mut self, (changes, touched): (Changes, BTreeSet<UserId>)) {
        self.overlay.changes.extend(changes);
        self.touched.extend(touched);
    }

    /// Returns the changes to write, and the uids whose stamps become void.
    pub(crate) fn into_parts(self) -> (Changes, BTreeSet<UserId>) {
        (self.overlay.changes, self.touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        keys.iter()
            .map(|key| (key.as_bytes().to_vec(), b"old".to_vec()))
            .collect()
    }

    fn keys(entries: &[RecordEntry]) -> Vec<&str> {
        entries
            .iter()
            .map(|(key, _)| std::str::from_utf8(key).unwrap())
            .collect()
    }

    #[test]
    fn a_scan_stays_in_its_prefix_after_its_mark_and_below_its_limit() {
        type Case = (Option<&'static [u8]>, usize, &'static [&'static str]);
        let base = map(&["a1", "b1", "b2", "b3", "c1"]);
        let cases: [Case; 4] = [
            (None, 9, &["b1", "b2", "b3"]),
            (None, 2, &["b1", "b2"]),
            (Some(b"b1"), 9, &["b2", "b3"]),
            (Some(b"b3"), 9, &[]),
        ];
        for (after, limit, expected) in cases {
            let found = base.scan(b"b", after, limit).unwrap();
            assert_eq!(keys(&found), expected, "{after:?} {limit}");
            let found = Overlay::over(&base).scan(b"b", after, limit).unwrap();
            assert_eq!(keys(&found), expected, "overlay {after:?} {limit}");
        }
    }

    #[test]
    fn changes_lie_on_top_and_the_base_stays_as_it_was() {
        let base = map(&["a1", "b1", "b2"]);
        let mut overlay = Overlay::over(&base);
        overlay.changes.extend(Changes::from([
            (b"b1".to_vec(), None),
            (b"b3".to_vec(), Some(b"new".to_vec())),
            (b"a1".to_vec(), Some(b"new".to_vec())),
        ]));
        assert_eq!(overlay.get(b"b1").unwrap(), None);
        assert_eq!(overlay.get(b"a1").unwrap().unwrap(), b"new");
        assert_eq!(keys(&overlay.scan(b"b", None, 9).unwrap()), ["b2", "b3"]);
        for (limit, expected) in [(0, &[] as &[&str]), (1, &["b2"]), (2, &["b2", "b3"])] {
            assert_eq!(keys(&overlay.scan(b"b", None, limit).unwrap()), expected);
        }
        assert_eq!(base, map(&["a1", "b1", "b2"]));
    }
}
