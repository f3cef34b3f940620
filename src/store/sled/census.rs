//! The number of records and their sum, so that lost records are detected.
//!
//! A checksum in each record finds damaged records, but not missing ones. The writer puts the census into the same sled
//! batch as the records it counts: after a crash, both are there or neither is. A copy beside the database, only ever
//! of a synced census, shows when the database as a whole has gone back.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::store::sled::files;
use crate::store::{Result, StoreError, layout, record};

/// Name of the copy, beside `db`.
pub(crate) const SIDE_FILE: &str = "census";

/// The census after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Census {
    /// Number of batches, counted from 1: shows which of two is later.
    pub(crate) sequence: u64,
    /// Number of records, without the census itself.
    pub(crate) records: u64,
    /// Wrapping sum of the hashes of all records, independent of their order.
    pub(crate) sum: u64,
}

impl Census {
    /// The census of an empty store.
    pub(crate) const EMPTY: Self = Self {
        sequence: 1,
        records: 0,
        sum: 0,
    };

    /// Adds a record.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(key, value));
    }

    /// Subtracts a record.
    pub(crate) fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash(key, value));
    }

    /// Whether both have counted the same records.
    pub(crate) fn counts_the_same(&self, other: &Self) -> bool {
        self.records == other.records && self.sum == other.sum
    }

    /// Describes how the counted records differ from this census; `None`: they do not.
    pub(crate) fn differs(&self, counted: &Self) -> Option<String> {
        (!self.counts_the_same(counted)).then(|| {
            format!(
                "census counts {} records, but {} or different ones were found",
                self.records, counted.records
            )
        })
    }

    /// Encodes the census as a record.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        record::encode(&layout::census(), self)
    }

    /// Decodes the census from a record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        record::decode(&layout::census(), bytes)
    }

    /// Reads the copy; `None`: it does not exist.
    pub(crate) fn read_side(dir: &Path) -> io::Result<Option<Vec<u8>>> {
        files::if_there(fs::read(dir.join(SIDE_FILE)))
    }

    /// Writes the copy. Only for a census that is durable in the database.
    pub(crate) fn write_side(&self, dir: &Path) -> Result<()> {
        files::replace(dir, SIDE_FILE, &self.encode()?).map_err(StoreError::cannot_write)
    }

    /// Compares this census with a copy of an earlier one or of itself. A store may be ahead of the copy after a crash;
    /// one behind it has lost something.
    pub(crate) fn compare_with_copy(&self, copy: &Self) -> Result<(), String> {
        if self.sequence < copy.sequence {
            return Err(format!(
                "it has gone back to write {} with {} records, but write {} with {} was already synced",
                self.sequence, self.records, copy.sequence, copy.records
            ));
        }
        if self.sequence == copy.sequence && !self.counts_the_same(copy) {
            return Err(format!(
                "write {} left {} records, but {} or different ones were found",
                copy.sequence, copy.records, self.records
            ));
        }
        Ok(())
    }
}

/// FNV-1a over key, a separator and value, then mixed so that sums of similar records differ in all bits. It is stored:
/// never change it without a new record version.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let bytes = key.iter().chain(&[0xff]).chain(value);
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_behind_its_copy_or_unlike_it_has_lost_something() {
        let census = |sequence, records, sum| Census {
            sequence,
            records,
            sum,
        };
        let side = census(7, 3, 9);
        let cases = [
            (census(7, 3, 9), true),
            (census(8, 2, 1), true),
            (census(6, 3, 9), false),
            (census(7, 2, 9), false),
            (census(7, 3, 8), false),
        ];
        for (found, fine) in cases {
            assert_eq!(found.compare_with_copy(&side).is_ok(), fine, "{found:?}");
        }
    }

    #[test]
    fn what_is_added_and_subtracted_in_any_order_is_as_before() {
        let mut census = Census::EMPTY;
        census.add(b"a", b"1");
        census.add(b"b", b"2");
        census.subtract(b"a", b"1");
        let mut other = Census::EMPTY;
        other.add(b"b", b"2");
        assert!(census.counts_the_same(&other));
        census.subtract(b"b", b"3");
        assert!(!census.counts_the_same(&Census::EMPTY));
    }

    #[test]
    fn the_hash_is_the_one_written_down_and_knows_key_from_value() {
        assert_eq!(hash(b"key", b"value"), 0x5f32_02e6_a690_b50f);
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
    }

    #[test]
    fn the_copy_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Census::read_side(dir.path()).unwrap(), None);
        let mut census = Census::EMPTY;
        census.add(b"a", b"1");
        census.write_side(dir.path()).unwrap();
        let bytes = Census::read_side(dir.path()).unwrap().unwrap();
        assert_eq!(Census::decode(&bytes).unwrap(), census);
    }
}
