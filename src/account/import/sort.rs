//! External sort: runs of some MiB are sorted in memory, written to disk and then merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::account::import::scratch::ScratchDirectory;

/// Maximum size of a run held in memory. Smaller runs are more numerous, and all of them are open at once.
const RUN_BYTES: usize = 8 * 1024 * 1024;
/// Number of runs at which they are merged: each needs an open file and a buffer.
const RUNS_MAX: usize = 16;
const BUFFER_BYTES: usize = 32 * 1024;

/// A key and its value.
pub(super) type SortItem = (Vec<u8>, Vec<u8>);

/// Accepts items in any order. Keys must be unique.
pub(super) struct Sorter {
    scratch: Arc<ScratchDirectory>,
    /// Keys and values of the run in memory, one after another. Wiped on drop, since an export contains password
    /// hashes.
    held: Zeroizing<Vec<u8>>,
    places: Vec<ItemSpan>,
    runs: Vec<File>,
    run_bytes: usize,
}

/// The location of an item: its key at `start..value`, its value at `value..end`.
struct ItemSpan {
    start: usize,
    value: usize,
    end: usize,
}

impl Sorter {
    /// Creates an empty sorter.
    pub(super) fn new(scratch: &Arc<ScratchDirectory>) -> Self {
        Self::with_runs_of(RUN_BYTES, scratch)
    }

    fn with_runs_of(run_bytes: usize, scratch: &Arc<ScratchDirectory>) -> Self {
        Self {
            scratch: Arc::clone(scratch),
            held: Zeroizing::new(Vec::with_capacity(run_bytes)),
            places: Vec::new(),
            runs: Vec::new(),
            run_bytes,
        }
    }

    /// Adds an item.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.run_bytes < self.held.len() + key.len() + value.len() {
            self.write_run()?;
        }
        let start = self.held.len();
        self.held.extend_from_slice(key);
        let middle = self.held.len();
        self.held.extend_from_slice(value);
        self.places.push(ItemSpan {
            start,
            value: middle,
            end: self.held.len(),
        });
        Ok(())
    }

    /// Returns all items in the order of their keys.
    pub(super) fn sorted(mut self) -> io::Result<SortedItems> {
        self.write_run()?;
        SortedItems::of(self.runs)
    }

    fn write_run(&mut self) -> io::Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let held = &self.held;
        let bytes = |from: usize, to: usize| held.get(from..to).unwrap_or_default();
        let key = |place: &ItemSpan| bytes(place.start, place.value);
        self.places
            .sort_unstable_by(|one, other| key(one).cmp(key(other)));
        let mut run = BufWriter::with_capacity(BUFFER_BYTES, self.scratch.file()?);
        for place in &self.places {
            write_item(&mut run, key(place), bytes(place.value, place.end))?;
        }
        self.places.clear();
        self.held.clear();
        self.add_run(run)
    }

    fn add_run(&mut self, run: BufWriter<File>) -> io::Result<()> {
        let mut run = run.into_inner().map_err(io::IntoInnerError::into_error)?;
        run.rewind()?;
        self.runs.push(run);
        if self.runs.len() < RUNS_MAX {
            return Ok(());
        }
        let mut merged = BufWriter::with_capacity(BUFFER_BYTES, self.scratch.file()?);
        let mut items = SortedItems::of(std::mem::take(&mut self.runs))?;
        while let Some((key, value)) = items.next()? {
            write_item(&mut merged, &key, &value)?;
        }
        self.add_run(merged)
    }
}

/// Items in the order of their keys.
pub(super) struct SortedItems {
    runs: Vec<BufReader<File>>,
    /// The next item of each run, with the index of the run.
    heads: BinaryHeap<Reverse<(SortItem, usize)>>,
}

impl SortedItems {
    fn of(runs: Vec<File>) -> io::Result<Self> {
        let runs = runs.into_iter();
        let mut sorted = Self {
            runs: runs
                .map(|run| BufReader::with_capacity(BUFFER_BYTES, run))
                .collect(),
            heads: BinaryHeap::new(),
        };
        for (number, run) in sorted.runs.iter_mut().enumerate() {
            let item = read_item(run)?;
            sorted
                .heads
                .extend(item.map(|item| Reverse((item, number))));
        }
        Ok(sorted)
    }

    /// Returns the next item.
    pub(super) fn next(&mut self) -> io::Result<Option<SortItem>> {
        let Some(mut head) = self.heads.peek_mut() else {
            return Ok(None);
        };
        let Reverse((item, number)) = &mut *head;
        let next = match self.runs.get_mut(*number) {
            Some(run) => read_item(run)?,
            None => None,
        };
        Ok(Some(match next {
            Some(next) => std::mem::replace(item, next),
            None => PeekMut::pop(head).0.0,
        }))
    }
}

fn write_item(run: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    for part in [key, value] {
        let length = u32::try_from(part.len()).map_err(io::Error::other)?;
        run.write_all(&length.to_le_bytes())?;
        run.write_all(part)?;
    }
    Ok(())
}

fn read_item(run: &mut impl BufRead) -> io::Result<Option<SortItem>> {
    if run.fill_buf()?.is_empty() {
        return Ok(None);
    }
    Ok(Some((read_part(run)?, read_part(run)?)))
}

fn read_part(run: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    run.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    let mut part = Vec::new();
    run.take(length).read_to_end(&mut part)?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_the_order_of_their_keys_however_many_runs_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Arc::new(ScratchDirectory::take(dir.path()).unwrap().unwrap());
        for (count, run_bytes) in [
            (0_u32, 64),
            (1, 64),
            (5000, 64),
            (5000, 1000),
            (5000, RUN_BYTES),
        ] {
            let mut sorter = Sorter::with_runs_of(run_bytes, &scratch);
            for number in 0..count {
                // A shuffled order: 7919 is coprime to the count.
                let number = number * 7919 % count.max(1);
                let value = "v".repeat(number as usize % 50);
                sorter
                    .push(&number.to_be_bytes(), value.as_bytes())
                    .unwrap();
            }
            assert!(sorter.runs.len() < RUNS_MAX);
            let mut items = sorter.sorted().unwrap();
            for number in 0..count {
                let (key, value) = items.next().unwrap().unwrap();
                assert_eq!(key, number.to_be_bytes());
                assert_eq!(value.len(), number as usize % 50);
            }
            assert!(items.next().unwrap().is_none());
        }
    }
}
