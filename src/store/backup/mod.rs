//! Backups: one file with every record as of one moment, and the key files.
//!
//! A backup gets its final name only after it has been written, synced and read back. `file` defines the format,
//! `restore` restores a backup, `export` exports one as JSON lines.

mod export;
mod file;
mod names;
mod restore;
mod restored_keys;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::crypto::key_file::fingerprint;
use crate::model::clock::Timestamp;
use crate::store::backup::file::{BackupHeader, BackupItem, BackupReader, BackupWriter};
use crate::store::backup::names::{name, names_in, own_names, prune, time_in, time_of};
use crate::store::inspect::{self, InspectedRecord};
use crate::store::key_files::DIRECTORY as KEYS;
use crate::store::sled::{Census, Findings, SledStore, files};
use crate::store::{StoreError, layout};

pub use crate::store::backup::export::{export, export_to};
pub use crate::store::backup::restore::{Restored, restore};
pub use crate::store::backup::restored_keys::KeyFileFate;

pub(crate) use crate::store::backup::names::stamp;

/// Directory of the backups inside the store's directory.
const DIRECTORY: &str = "backup";
/// Suffix of an unfinished backup's name.
const PARTIAL: &str = ".part";
/// Name prefix of a copy made for an export, and how long one may be kept.
const PASSING: &str = "export-";
const PASSING_MAX: Duration = Duration::from_hours(1);
/// Longest key file in bytes.
const KEY_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A backup that could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// `read`, `write`, `remove`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file of this name exists; files are never overwritten.
    #[error("{path} already exists")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a backup.
    #[error("{0} is not a backup of a doorward store")]
    Foreign(PathBuf),
    /// A newer gateway wrote it: stop rather than guess.
    #[error(
        "{path} was written by a newer doorward, in format version {found}; this one knows up to {known}"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version found.
        found: u8,
        /// Newest version known here.
        known: u8,
    },
    /// The contents differ from what was written.
    #[error("the backup {path} is damaged: {found}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        found: String,
    },
    /// The store to be saved is incomplete.
    #[error(
        "the store is damaged: its census counts {expected} records, but {found} or different ones were found"
    )]
    Lossy {
        /// Number of records in the census.
        expected: u64,
        /// Records found.
        found: u64,
    },
    /// The key file of this name is missing, or is not the one that the records need.
    #[error(
        "key file {0} is missing, or not the one that the records were written with: a backup without it is not made. \
         `doorward keys list` shows the state of each key file"
    )]
    KeyFile(String),
    /// The store in this directory belongs to another user, whose gateway could not read files created here.
    #[error("{0} belongs to another user: run this as the user that runs doorward")]
    Owner(PathBuf),
    /// The system could not start a thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The contents of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupContents {
    /// Everything acknowledged before this time is included, and nothing later.
    pub as_of: Timestamp,
    /// Sequence number of the last write included.
    pub sequence: u64,
    /// Number of records.
    pub records: u64,
    /// Names of the key files.
    pub key_files: Vec<String>,
    /// The doorward version that made it.
    pub gateway: String,
}

/// A backup that has been made and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedBackup {
    /// The file.
    pub path: PathBuf,
    /// Its contents.
    pub contents: BackupContents,
    /// Its size in bytes.
    pub bytes: u64,
    /// Older backups that were removed.
    pub removed: Vec<PathBuf>,
    /// Number of backups whose names are later than this one's.
    pub later: usize,
}

/// The purpose of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyPurpose {
    /// For a restore: its key files must match its records.
    Restore,
    /// For an export, without any key.
    Export,
}

/// The backups of one store. All methods block the calling thread.
#[derive(Debug)]
pub struct Backups {
    store: Arc<SledStore>,
    dir: PathBuf,
    keep: usize,
    /// Held while a backup is made: one at a time.
    turn: Mutex<()>,
}

impl Backups {
    /// Creates the backups of a store. `dir` is the store's directory; `keep` is how many are kept in its `backup`, at
    /// least one.
    #[must_use]
    pub fn new(store: Arc<SledStore>, dir: &Path, keep: usize) -> Self {
        Self {
            store,
            dir: dir.to_owned(),
            keep: keep.max(1),
            turn: Mutex::default(),
        }
    }

    /// Makes a backup in the store's own `backup`, then removes the oldest ones beyond the number that is kept. Backups
    /// with a name later than `now`, caused by a wrong clock, are neither counted nor removed.
    ///
    /// # Errors
    /// [`BackupError`]; then nothing was removed except unfinished files of earlier runs.
    pub fn make(&self, now: Timestamp) -> Result<FinishedBackup, BackupError> {
        let _turn = self.turn();
        let place = self.place(now)?;
        let mut made = self.make_file(place.join(name(now)), now, CopyPurpose::Restore)?;
        (made.removed, made.later) = prune(&place, self.keep, now)?;
        Ok(made)
    }

    /// Makes a backup elsewhere: at a new path, or in a directory under the default name.
    ///
    /// # Errors
    /// [`BackupError`]; no file is left behind.
    pub fn make_at(&self, to: &Path, now: Timestamp) -> Result<FinishedBackup, BackupError> {
        let in_dir = to.is_dir().then(|| to.join(name(now)));
        let path = in_dir.unwrap_or_else(|| to.to_owned());
        let _turn = self.turn();
        self.make_file(path, now, CopyPurpose::Restore)
    }

    fn make_file(
        &self,
        path: PathBuf,
        now: Timestamp,
        for_use: CopyPurpose,
    ) -> Result<FinishedBackup, BackupError> {
        if path.exists() {
            return Err(BackupError::Exists { path });
        }
        let partial = partial_of(&path);
        let write = || {
            // Left behind by an interrupted run.
            let _ = fs::remove_file(&partial);
            self.write(&partial, now, for_use)
        };
        let written = match write() {
            // A key ring may have been rotated between reading its file and reading its record.
            Err(BackupError::KeyFile(_)) => write(),
            written => written,
        };
        let made = written.and_then(|()| {
            let contents = look_through(&partial)?;
            let metadata = fs::metadata(&partial).map_err(io_error("read", &partial))?;
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            fs::rename(&partial, &path)
                .and_then(|()| files::sync_dir(dir.unwrap_or(Path::new("."))))
                .map_err(io_error("write", &path))?;
            Ok(FinishedBackup {
                path,
                contents,
                bytes: metadata.len(),
                removed: Vec::new(),
                later: 0,
            })
        });
        if made.is_err() {
            // The error is returned; the remains are of no use.
            let _ = fs::remove_file(&partial);
        }
        made
    }

    /// Makes a temporary copy in the store's own `backup`, which no list of backups shows and which its reader removes.
    /// Returns its name in that directory.
    ///
    /// # Errors
    /// [`BackupError`]
    pub fn make_passing(&self, now: Timestamp) -> Result<String, BackupError> {
        let _turn = self.turn();
        let name = format!("{PASSING}{}{PARTIAL}", stamp(now));
        self.make_file(self.place(now)?.join(&name), now, CopyPurpose::Export)?;
        Ok(name)
    }

    /// Returns the time of the newest backup in the store's own `backup` that is no later than `now`, according to its
    /// name; `None`: there is none.
    #[must_use]
    pub fn newest(&self, now: Timestamp) -> Option<Timestamp> {
        let names = own_names(&self.dir.join(DIRECTORY)).unwrap_or_default();
        let times = names.iter().filter_map(|name| time_of(name));
        times.filter(|at| *at <= now).max()
    }

    /// Checks every record of the store.
    ///
    /// # Errors
    /// [`BackupError::Store`] if the engine cannot read at all.
    pub fn check(&self) -> Result<Findings, BackupError> {
        Ok(self.store.check()?)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the store's backup directory after removing unfinished files. The caller holds the turn, so none of them
    /// is being written.
    fn place(&self, now: Timestamp) -> Result<PathBuf, BackupError> {
        let place = self.dir.join(DIRECTORY);
        files::make_private(&place).map_err(io_error("write", &place))?;
        for name in names_in(&place)? {
            let is_over = match name.strip_prefix(PASSING) {
                Some(stamp) => stamp
                    .strip_suffix(PARTIAL)
                    .and_then(time_in)
                    .is_some_and(|at| PASSING_MAX < now.since(at)),
                None => name.ends_with(PARTIAL),
            };
            if is_over {
                let path = place.join(&name);
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(place)
    }

    fn write(
        &self,
        partial: &Path,
        now: Timestamp,
        for_use: CopyPurpose,
    ) -> Result<(), BackupError> {
        let key_files = key_files(&self.dir.join(KEYS))?;
        let mut walk = self.store.walk()?;
        let census = walk.census;
        let mut out = BackupWriter::create(partial, &BackupHeader::new(now, &census))?;
        for (name, bytes) in &key_files {
            out.frame(file::KEY_FILE, name.as_bytes(), bytes)?;
        }
        let mut counted = Census::EMPTY;
        while let Some(entries) = walk.next()? {
            for (key, value) in entries {
                counted.add(&key, &value);
                if for_use == CopyPurpose::Restore && key.first() == Some(&layout::KEY_MARK) {
                    compare_key_file(&key, &value, &key_files)?;
                }
                out.frame(file::RECORD, &key, &value)?;
            }
        }
        if !counted.counts_the_same(&census) {
            return Err(BackupError::Lossy {
                expected: census.records,
                found: counted.records,
            });
        }
        out.finish()
    }
}

/// Reads a whole backup and verifies everything in it.
///
/// # Errors
/// [`BackupError`] with what is wrong and where.
pub fn look_through(path: &Path) -> Result<BackupContents, BackupError> {
    let mut reader = BackupReader::open(path)?;
    let mut key_files = Vec::new();
    while let Some(item) = reader.next()? {
        if let BackupItem::KeyFile(name, _) = item {
            key_files.push(name);
        }
    }
    let header = reader.header;
    Ok(BackupContents {
        as_of: header.as_of,
        sequence: header.census.sequence,
        records: header.census.records,
        gateway: header.gateway,
        key_files,
    })
}

/// Like [`look_through`], but continues after a record that cannot be decoded.
///
/// # Errors
/// [`BackupError`] for a file that differs from what was written.
pub fn check(path: &Path) -> Result<(BackupContents, Findings), BackupError> {
    let contents = look_through(path)?;
    let mut findings = Findings::default();
    let mut reader = BackupReader::open(path)?;
    let mut key_files = KeyFileContents::new();
    while let Some(item) = reader.next()? {
        match item {
            BackupItem::KeyFile(name, bytes) => key_files.push((name, bytes)),
            BackupItem::Record(key, value) => {
                findings.look_at(&key, &value);
                if key.first() == Some(&layout::KEY_MARK)
                    && let Err(error @ BackupError::KeyFile(_)) =
                        compare_key_file(&key, &value, &key_files)
                {
                    findings.add(error.to_string());
                }
            }
        }
    }
    Ok((contents, findings))
}

/// Returns the path of a copy made by [`Backups::make_passing`].
#[must_use]
pub fn passing(dir: &Path, name: &str) -> PathBuf {
    dir.join(DIRECTORY).join(name)
}

/// Compares a key file with the record of its fingerprints.
fn compare_key_file(
    key: &[u8],
    value: &[u8],
    key_files: &KeyFileContents,
) -> Result<(), BackupError> {
    if let InspectedRecord::KeyMark(name, mark) = inspect::read(key, value)? {
        let held = key_files.iter().find(|(held, _)| *held == name);
        let held = held.map(|(name, bytes)| fingerprint(name, bytes));
        if !held.is_some_and(|held| mark.fingerprints.contains(&held)) {
            return Err(BackupError::KeyFile(name));
        }
    }
    Ok(())
}

/// Names and contents of key files.
type KeyFileContents = Vec<(String, Zeroizing<Vec<u8>>)>;

/// Reads the files of the key directory, whatever their names, except those being written.
fn key_files(dir: &Path) -> Result<KeyFileContents, BackupError> {
    let mut found = Vec::new();
    for name in names_in(dir)? {
        let path = dir.join(&name);
        let metadata = fs::metadata(&path).map_err(io_error("read", &path))?;
        if name.starts_with('.') || !metadata.is_file() {
            continue;
        }
        if KEY_FILE_BYTES_MAX < metadata.len() {
            let source = io::Error::other("it is longer than a key file can be");
            return Err(io_error("read", &path)(source));
        }
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        found.push((name, Zeroizing::new(bytes)));
    }
    Ok(found)
}

fn partial_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().display().to_string();
    path.with_file_name(format!(".{name}{PARTIAL}"))
}

/// Creates a file for secrets: readable only by its owner, and never replacing another.
fn create_private(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io {
        action,
        path,
        source,
    }
}
