//! The database of a store: opened, compared with its census, and written durably.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sled::{Batch, Db};

use crate::store::sled::stand_in::StandIn;
use crate::store::sled::{Census, files};
use crate::store::{Result, StoreError, layout, record};

/// sled uses twice its configured size, and its default is 1 GiB. Reads of 100,000 accounts take the same time with a
/// cache four times as large (measured): frequently read data is cached above the store.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// A sled database, and the handles that make its writes durable.
#[derive(Debug)]
pub(crate) struct Database {
    /// The only clone that outlives a single read or write.
    pub(crate) db: Db,
    /// A handle of sled's own file: sled's `flush` reaches only the page cache, `sync_data` on this handle the disk.
    pub(crate) data: File,
    /// The step at which the next commit fails.
    #[cfg(test)]
    pub(crate) fails_at: std::sync::Mutex<Option<CommitStep>>,
    /// The counts taken when it was opened.
    pub(crate) counted: OpenCounts,
    /// Set if this is a copy, to which nothing may be written; the last field, so that it is dropped after the others
    /// are closed.
    pub(crate) stand_in: Option<StandIn>,
}

/// A step of a commit.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitStep {
    Apply,
    Flush,
    Sync,
}

/// Counts taken when a store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenCounts {
    /// Accounts, whatever their status.
    pub accounts: u64,
    /// Records of all kinds.
    pub records: u64,
}

impl Database {
    /// Writes a batch; durable when this returns.
    pub(crate) fn commit(&self, batch: Batch) -> io::Result<()> {
        #[cfg(test)]
        self.reach(CommitStep::Apply)?;
        self.db.apply_batch(batch)?;
        #[cfg(test)]
        self.reach(CommitStep::Flush)?;
        self.db.flush()?;
        #[cfg(test)]
        self.reach(CommitStep::Sync)?;
        self.data.sync_data()
    }

    #[cfg(test)]
    fn reach(&self, step: CommitStep) -> io::Result<()> {
        match self.fails_at.lock().unwrap().take_if(|it| *it == step) {
            Some(step) => Err(io::Error::other(format!("{step:?} fails on purpose"))),
            None => Ok(()),
        }
    }
}

/// Opens the database at a path and compares it with its own census.
pub(crate) fn open_counted(dir: &Path, place: &Path) -> Result<(Database, Census)> {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let mut database = open_path(dir, place)?;
        let (census, accounts) = take_census(dir, &database.db)?;
        let records = census.records;
        database.counted = OpenCounts { accounts, records };
        Ok((database, census))
    }));
    looked.unwrap_or_else(|_| Err(panicked(dir)))
}

/// Removes snapshots of the log that a killed process left unfinished. sled renames a snapshot when it is complete, but
/// mistakes an unfinished one for the newest and reports the database as damaged. Without it, sled reads the previous
/// snapshot.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in files::if_there(fs::read_dir(path))?.into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name();
        let is_unfinished = |name: &str| name.starts_with("snap.") && name.ends_with(".generating");
        if name.to_str().is_some_and(is_unfinished) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn open_path(dir: &Path, path: &Path) -> Result<Database> {
    remove_unfinished_snapshots(path).map_err(StoreError::cannot_open)?;
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
        sled::Error::Io(error) if error.raw_os_error().is_some() => StoreError::cannot_open(error),
        error => refused(dir, format!("the engine cannot read it ({error})")),
    })?;
    let file = path.join("db");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(StoreError::cannot_open)?;
    let data = File::open(&file).map_err(StoreError::cannot_open)?;
    Ok(Database {
        db,
        data,
        #[cfg(test)]
        fails_at: std::sync::Mutex::default(),
        stand_in: None,
        counted: OpenCounts::default(),
    })
}

/// Reads every record and compares the total with the census stored among them; counts the accounts as well.
fn take_census(dir: &Path, db: &Db) -> Result<(Census, u64)> {
    let place = layout::census::<Census>();
    let mut counted = Census::EMPTY;
    let mut accounts = 0;
    let mut written = None;
    for entry in db.iter() {
        let (key, value) = entry.map_err(|error| {
            let records = counted.records;
            refused(dir, format!("only {records} records can be read ({error})"))
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
    let written: Census = written.ok_or_else(|| {
        let records = counted.records;
        refused(dir, format!("it has {records} records but no census"))
    })?;
    match written.differs(&counted) {
        Some(found) => Err(refused(dir, format!("its {found}"))),
        None => Ok((written, accounts)),
    }
}

/// Compares a census with the copy beside the database, if there is one.
pub(crate) fn compare_with_side(dir: &Path, census: &Census) -> Result<()> {
    let Some(bytes) = Census::read_side(dir).map_err(StoreError::cannot_open)? else {
        return Ok(());
    };
    let side = Census::decode(&bytes).map_err(|error| match error {
        StoreError::Damaged { .. } => refused(dir, "its file named census is damaged"),
        error => error,
    })?;
    let compared = census.compare_with_copy(&side);
    compared.map_err(|found| refused(dir, found))
}

pub(crate) fn panicked(dir: &Path) -> StoreError {
    refused(dir, "the engine panicked while opening it")
}

pub(crate) fn refused(dir: &Path, found: impl Into<String>) -> StoreError {
    let mut found = found.into();
    if dir.join(files::RESTORE_STAGE).is_dir() {
        found.push_str(", because a restore was interrupted: repeat it");
    }
    StoreError::Refused {
        dir: dir.to_owned(),
        found,
    }
}
