//! Opens the database so that every loss is detected, and only a loss prevents the start.
//!
//! The first database is created under another name and moved into place when its first census is durable. So a crash
//! at the first start leaves nothing or a complete store, and a `db` without a census is always a loss.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sled::Batch;

use crate::model::key_file::KeyMarks;
use crate::store::sled::database::{compare_with_side, open_counted, open_path, panicked, refused};
use crate::store::sled::stand_in::{self, MEMORY, StandIn};
use crate::store::sled::{Census, Database, SledRecords, files};
use crate::store::{RecordEntry, Result, StoreError, layout, reads};

/// Records written in one batch while a database is built.
const BUILD_BATCH: u64 = 1000;

/// Name of the database's directory until it is complete.
const UNFINISHED: &str = "db.new";

/// Opens the store of a locked directory, or creates it; also returns its census.
pub(crate) fn open(dir: &Path) -> Result<(Database, Census)> {
    if is_new(dir)? {
        let created = catch_unwind(AssertUnwindSafe(|| create(dir)));
        created.unwrap_or_else(|_| Err(panicked(dir)))?;
    }
    let (database, census) = open_counted(dir, &dir.join(files::DATABASE))?;
    compare_with_side(dir, &census)?;
    census.write_side(dir)?;
    Ok((database, census))
}

/// Like [`open`]; on a disk that accepts no writes, opens a copy that serves reads, and also returns the error of the
/// disk.
pub(crate) fn open_or_stand_in(dir: &Path) -> Result<(Database, Census, Option<io::Error>)> {
    match files::probe(dir) {
        Ok(()) => {
            StandIn::clear(dir);
            open(dir).map(|(database, census)| (database, census, None))
        }
        Err(trouble) if is_new(dir)? => Err(StoreError::cannot_open(io::Error::other(format!(
            "there is no store, and none can be created: the disk cannot be written ({trouble})"
        )))),
        Err(trouble) => {
            let (database, census) = open_stand_in(dir, &trouble)?;
            Ok((database, census, Some(trouble)))
        }
    }
}

/// Opens a copy of the database in a locked directory, and compares it with its census as a start does.
///
/// # Errors
/// [`StoreError::Refused`] as for the database itself; [`StoreError::Engine`] if there is no room for a copy.
fn open_stand_in(dir: &Path, trouble: &io::Error) -> Result<(Database, Census)> {
    let copy = StandIn::copy(dir).map_err(|error| {
        StoreError::cannot_open(io::Error::other(format!(
            "the disk cannot be written ({trouble}), and no copy for reads can be made in {MEMORY} ({error}): make the \
             disk writable, by freeing space or mounting it for writing"
        )))
    })?;
    let (mut database, census) = open_counted(dir, &copy.0)?;
    compare_with_side(dir, &census)?;
    database.stand_in = Some(copy);
    stand_in::announce(dir, trouble);
    Ok((database, census))
}

/// Whether there is no store yet. Checked before sled is opened, which would silently create an empty one.
fn is_new(dir: &Path) -> Result<bool> {
    let path = dir.join(files::DATABASE);
    let file = files::if_there(fs::metadata(path.join("db"))).map_err(StoreError::cannot_open)?;
    if file.is_some_and(|file| 0 < file.len()) {
        return Ok(false);
    }
    let side = Census::read_side(dir).map_err(StoreError::cannot_open)?;
    if side.is_some() {
        let found = "there is a census but no database, or an empty one";
        return Err(refused(dir, found));
    }
    let files = files::if_there(fs::read_dir(&path)).map_err(StoreError::cannot_open)?;
    if files.is_none_or(|mut files| files.next().is_none()) {
        Ok(true)
    } else {
        Err(refused(dir, "the database's file is missing or empty"))
    }
}

/// Creates an empty store under another name, then moves it into place.
fn create(dir: &Path) -> Result<()> {
    let unfinished = dir.join(UNFINISHED);
    build(dir, &unfinished, Census::EMPTY.sequence, || Ok(None))?;
    fs::rename(&unfinished, dir.join(files::DATABASE))
        .and_then(|()| files::sync_dir(dir))
        .map_err(StoreError::cannot_open)
}

/// Builds a database of these records at a separate path, durable when this returns; previous contents are removed.
///
/// Returns its census, which has this sequence number.
pub(crate) fn build<E: From<StoreError>>(
    dir: &Path,
    place: &Path,
    sequence: u64,
    mut next: impl FnMut() -> Result<Option<RecordEntry>, E>,
) -> Result<Census, E> {
    files::remove_all(place).map_err(StoreError::cannot_open)?;
    let created = DirBuilder::new().mode(0o700).create(place);
    created.map_err(StoreError::cannot_open)?;
    let database = open_path(dir, place)?;
    let mut census = Census {
        sequence,
        ..Census::EMPTY
    };
    let mut batch = Batch::default();
    while let Some((key, value)) = next()? {
        census.add(&key, &value);
        batch.insert(key, value);
        if census.records.is_multiple_of(BUILD_BATCH) {
            let applied = database.db.apply_batch(std::mem::take(&mut batch));
            applied.map_err(StoreError::cannot_write)?;
        }
    }
    batch.insert(layout::census::<Census>().bytes(), census.encode()?);
    database
        .commit(batch)
        .and_then(|()| {
            drop(database);
            for file in fs::read_dir(place)? {
                File::open(file?.path())?.sync_all()?;
            }
            files::sync_dir(place)
        })
        .map_err(StoreError::cannot_open)?;
    Ok(census)
}

/// Opens the database at a path, compares it with its own census as a start does, and closes it.
pub(crate) fn look_through(dir: &Path, place: &Path) -> Result<Census> {
    Ok(open_counted(dir, place)?.1)
}

/// Returns the fingerprint records of a store's key files, as far as its database can be read; never creates one. The
/// caller holds the directory's lock.
pub(crate) fn key_marks(dir: &Path) -> KeyMarks {
    let place = dir.join(files::DATABASE);
    if fs::metadata(place.join("db")).map_or(0, |metadata| metadata.len()) == 0 {
        return KeyMarks::new();
    }
    let marks = catch_unwind(AssertUnwindSafe(|| {
        let database = open_path(dir, &place)?;
        reads::key_marks(&SledRecords(&database.db))
    }));
    marks.map(Result::unwrap_or_default).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_that_was_cut_short_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let unfinished = dir.path().join(UNFINISHED);
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join("conf"), b"half").unwrap();
        let (database, census) = open(dir.path()).unwrap();
        assert_eq!(census, Census::EMPTY);
        drop(database);
        assert!(!unfinished.exists());
        assert!(open(dir.path()).is_ok());
    }
}
