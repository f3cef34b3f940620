//! Opening the database so that loss is found, and that nothing but loss refuses the start.
//!
//! A first database is born under another name and moved into place when its first census is durable. So a crash at the
//! first start leaves nothing or a whole store, and a `db` without a census is always a loss.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sled::{Batch, Db};

use crate::model::key_file::KeyMarks;
use crate::store::error::StoreError;
use crate::store::sled::census::Census;
use crate::store::sled::records::SledRecords;
use crate::store::sled::stand_in::{self, StandIn};
use crate::store::sled::{SledStore, files};
use crate::store::transaction::Entry;
use crate::store::{layout, reads, record};

/// sled takes twice as much as it is told, and its default is 1 GiB. Reads of 100,000 accounts cost the same with a cache four
/// times as large (measured): what is read often is kept above the store.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// The name of the database's directory.
pub(crate) const NAME: &str = "db";
/// Records that are written together while a database is built.
const BUILD_BATCH: u64 = 1000;

const NAME_UNBORN: &str = "db.new";
/// The directory in which a restore makes a database ready. It is gone when the restore is over.
pub(crate) const RESTORE_STAGE: &str = "restore.new";

/// sled with what makes its writes durable.
#[derive(Debug)]
pub(crate) struct Database {
    /// The only clone that lives longer than one read or write.
    pub(crate) db: Db,
    /// A handle of sled's own file: its `flush` reaches the page cache only, `sync_data` on this the disk.
    pub(crate) data: File,
    /// The step at which the next commit fails.
    #[cfg(test)]
    pub(crate) fails_at: std::sync::Mutex<Option<Step>>,
    /// As it was opened.
    pub(crate) counted: Counted,
    /// It is a copy, which nothing may be written to; last, for it goes when the others are closed.
    pub(crate) stand_in: Option<StandIn>,
}

/// A step of a commit.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Apply,
    Flush,
    Sync,
}

/// What was counted when a store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Accounts, whatever their status.
    pub accounts: u64,
    /// Records of all kinds.
    pub records: u64,
}

impl SledStore {
    /// What was counted when it was opened.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let database = self.shared.database();
        database
            .as_ref()
            .map_or_else(Counted::default, |it| it.counted)
    }
}

impl Database {
    /// Writes a batch; durable when this returns.
    pub(crate) fn commit(&self, batch: Batch) -> io::Result<()> {
        #[cfg(test)]
        self.reach(Step::Apply)?;
        self.db.apply_batch(batch)?;
        #[cfg(test)]
        self.reach(Step::Flush)?;
        self.db.flush()?;
        #[cfg(test)]
        self.reach(Step::Sync)?;
        self.data.sync_data()
    }

    #[cfg(test)]
    fn reach(&self, step: Step) -> io::Result<()> {
        match self.fails_at.lock().unwrap().take_if(|it| *it == step) {
            Some(step) => Err(io::Error::other(format!("{step:?} fails on purpose"))),
            None => Ok(()),
        }
    }
}

/// Opens the store of a directory whose lock is held, or begins it; gives its census too.
pub(crate) fn open(dir: &Path) -> Result<(Database, Census), StoreError> {
    if is_new(dir)? {
        let born = catch_unwind(AssertUnwindSafe(|| give_birth(dir)));
        born.unwrap_or_else(|_| Err(panicked(dir)))?;
    }
    let (database, census) = open_counted(dir, &dir.join(NAME))?;
    compare_with_side(dir, &census)?;
    census.write_side(dir)?;
    Ok((database, census))
}

/// As [`open`]; where the disk takes no writes a copy that serves reads is opened, and what the disk said is given too.
pub(crate) fn open_or_stand_in(
    dir: &Path,
) -> Result<(Database, Census, Option<io::Error>), StoreError> {
    match files::probe(dir) {
        Ok(()) => {
            stand_in::clear(dir);
            open(dir).map(|(database, census)| (database, census, None))
        }
        Err(trouble) if is_new(dir)? => Err(cannot_open(io::Error::other(format!(
            "there is no store, and none can be begun: the disk takes no writes ({trouble})"
        )))),
        Err(trouble) => {
            let (database, census) = stand_in::open(dir, &trouble)?;
            Ok((database, census, Some(trouble)))
        }
    }
}

/// Opens the database at a place and compares it with its own census.
pub(crate) fn open_counted(dir: &Path, place: &Path) -> Result<(Database, Census), StoreError> {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let mut database = open_path(dir, place)?;
        let (census, accounts) = take_census(dir, &database.db)?;
        let records = census.records;
        database.counted = Counted { accounts, records };
        Ok((database, census))
    }));
    looked.unwrap_or_else(|_| Err(panicked(dir)))
}

/// Compares a census with the copy beside the database, if there is one.
pub(crate) fn compare_with_side(dir: &Path, census: &Census) -> Result<(), StoreError> {
    let Some(bytes) = Census::read_side(dir).map_err(cannot_open)? else {
        return Ok(());
    };
    let side = Census::decode(&bytes).map_err(|error| match error {
        StoreError::Damaged { .. } => refused(dir, "its file census is damaged"),
        error => error,
    })?;
    compare(&side, census).map_err(|found| refused(dir, found))
}

fn panicked(dir: &Path) -> StoreError {
    refused(dir, "the engine panicked while opening it")
}

/// Whether there is nothing yet. Looked at before sled is, which would begin an empty store without a word.
fn is_new(dir: &Path) -> Result<bool, StoreError> {
    let path = dir.join(NAME);
    let length = fs::metadata(path.join("db"))
        .map(|metadata| metadata.len())
        .or_else(|error| where_missing(error, 0))?;
    if 0 < length {
        return Ok(false);
    }
    if Census::read_side(dir).map_err(cannot_open)?.is_some() {
        return Err(refused(
            dir,
            "there is a census but no database, or an empty one",
        ));
    }
    let is_bare = fs::read_dir(&path)
        .map(|mut files| files.next().is_none())
        .or_else(|error| where_missing(error, true))?;
    if is_bare {
        Ok(true)
    } else {
        Err(refused(dir, "the database's file is missing or empty"))
    }
}

/// Makes an empty store beside its place, then moves it there.
fn give_birth(dir: &Path) -> Result<(), StoreError> {
    let unborn = dir.join(NAME_UNBORN);
    build(dir, &unborn, Census::EMPTY.sequence, || Ok(None))?;
    fs::rename(&unborn, dir.join(NAME))
        .and_then(|()| files::sync_dir(dir))
        .map_err(cannot_open)
}

/// Makes a database of these records at a place of its own, durable when this returns; whatever was there goes first.
///
/// Gives its census, which has this sequence number.
pub(crate) fn build<E: From<StoreError>>(
    dir: &Path,
    place: &Path,
    sequence: u64,
    mut next: impl FnMut() -> Result<Option<Entry>, E>,
) -> Result<Census, E> {
    remove_all(place).map_err(cannot_open)?;
    DirBuilder::new()
        .mode(0o700)
        .create(place)
        .map_err(cannot_open)?;
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
            let full = std::mem::take(&mut batch);
            database.db.apply_batch(full).map_err(cannot_write)?;
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
        .map_err(cannot_open)?;
    Ok(census)
}

/// Opens the database at a place, compares it with its own census, as a start does, and closes it.
pub(crate) fn look_through(dir: &Path, place: &Path) -> Result<Census, StoreError> {
    open_counted(dir, place).map(|(_, census)| census)
}

/// Removes a directory with all that is in it, if there is one.
pub(crate) fn remove_all(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes snapshots of the log that a killed process has begun to write. sled gives one its name when it is whole, but takes
/// one that is not for the newest, and says that the database is damaged. Without it the snapshot before is read.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_unfinished = |name: &str| name.starts_with("snap.") && name.ends_with(".generating");
        if name.to_str().is_some_and(is_unfinished) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn open_path(dir: &Path, path: &Path) -> Result<Database, StoreError> {
    remove_unfinished_snapshots(path).map_err(cannot_open)?;
    let config = sled::Config::new()
        .path(path)
        .mode(sled::Mode::HighThroughput)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let is_held = |error: &sled::Error| error.to_string().contains("could not acquire lock");
    let db = files::patiently(|| config.open(), is_held).map_err(|error| match error {
        ref error if is_held(error) => StoreError::Locked {
            dir: dir.to_owned(),
            holder: None,
        },
        sled::Error::Io(error) if error.raw_os_error().is_some() => cannot_open(error),
        error => refused(dir, format!("the engine cannot read it ({error})")),
    })?;
    let file = path.join("db");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(cannot_open)?;
    let data = File::open(&file).map_err(cannot_open)?;
    Ok(Database {
        db,
        data,
        #[cfg(test)]
        fails_at: std::sync::Mutex::default(),
        stand_in: None,
        counted: Counted::default(),
    })
}

/// Reads every record and compares with the census that stands among them; counts the accounts too.
fn take_census(dir: &Path, db: &Db) -> Result<(Census, u64), StoreError> {
    let place = layout::census::<Census>();
    let mut counted = Census::EMPTY;
    let mut accounts = 0;
    let mut written = None;
    for entry in db.iter() {
        let (key, value) = entry.map_err(|error| {
            let readable = counted.records;
            refused(
                dir,
                format!("only {readable} records can be read ({error})"),
            )
        })?;
        record::check(&key, &value).map_err(|error| match error {
            StoreError::Damaged { .. } => refused(dir, error.to_string()),
            error => error,
        })?;
        if *key == *place.bytes() {
            written = Some(Census::decode(&value)?);
        } else {
            accounts += u64::from(key.first() == Some(&layout::ACCOUNT));
            counted.add(&key, &value);
        }
    }
    let Some(written) = written else {
        let records = counted.records;
        return Err(refused(
            dir,
            format!("it has {records} records and no census"),
        ));
    };
    if !written.counts_the_same(&counted) {
        let (told, found) = (written.records, counted.records);
        return Err(refused(
            dir,
            format!("its census tells of {told} records, found are {found} or others"),
        ));
    }
    Ok((written, accounts))
}

/// What the key files of a store are known by, as far as its database can be read; none is begun. The directory's lock is
/// held.
pub(crate) fn key_marks(dir: &Path) -> KeyMarks {
    let place = dir.join(NAME);
    if fs::metadata(place.join("db")).map_or(0, |metadata| metadata.len()) == 0 {
        return KeyMarks::new();
    }
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let database = open_path(dir, &place)?;
        reads::key_marks(&SledRecords(&database.db))
    }));
    looked.map(Result::unwrap_or_default).unwrap_or_default()
}

fn cannot_write(source: sled::Error) -> StoreError {
    StoreError::Engine {
        action: "write to",
        source: Box::new(source),
    }
}

/// A store ahead of the copy of its census is what a crash leaves; behind it, it has lost something.
pub(crate) fn compare(side: &Census, census: &Census) -> Result<(), String> {
    if census.sequence < side.sequence {
        return Err(format!(
            "it has gone back to write {} with {} records, synced was write {} with {}",
            census.sequence, census.records, side.sequence, side.records
        ));
    }
    if census.sequence == side.sequence && !census.counts_the_same(side) {
        return Err(format!(
            "write {} left {} records, found are {} or others",
            side.sequence, side.records, census.records
        ));
    }
    Ok(())
}

/// The value for a file that is not there; any other error stays one.
fn where_missing<T>(error: io::Error, value: T) -> Result<T, StoreError> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(value),
        _ => Err(cannot_open(error)),
    }
}

fn refused(dir: &Path, found: impl Into<String>) -> StoreError {
    let mut found = found.into();
    if dir.join(RESTORE_STAGE).is_dir() {
        found.push_str(", since a restore was cut short: do it again");
    }
    StoreError::Refused {
        dir: dir.to_owned(),
        found,
    }
}

/// The file system does not let the store be opened.
pub(crate) fn cannot_open(source: io::Error) -> StoreError {
    StoreError::Engine {
        action: "open",
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(sequence: u64, records: u64, sum: u64) -> Census {
        Census {
            sequence,
            records,
            sum,
        }
    }

    #[test]
    fn only_a_store_behind_its_copy_or_unlike_it_has_lost_something() {
        let side = census(7, 3, 9);
        let cases = [
            (census(7, 3, 9), true),
            (census(8, 2, 1), true),
            (census(6, 3, 9), false),
            (census(7, 2, 9), false),
            (census(7, 3, 8), false),
        ];
        for (found, fine) in cases {
            assert_eq!(compare(&side, &found).is_ok(), fine, "{found:?}");
        }
    }

    #[test]
    fn a_birth_that_was_cut_short_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let unborn = dir.path().join(NAME_UNBORN);
        fs::create_dir(&unborn).unwrap();
        fs::write(unborn.join("conf"), b"half").unwrap();
        let (database, census) = open(dir.path()).unwrap();
        assert_eq!(census, Census::EMPTY);
        drop(database);
        assert!(!unborn.exists());
        assert!(open(dir.path()).is_ok());
    }
}
