//! The key files that a restore brings back, and what the restored records know them by.
//!
//! What becomes of each is decided before anything is changed, since the records that are built know the files that stand
//! there afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::key_file::{Found, fingerprint, look};
use crate::crypto::signing;
use crate::model::account::Digest;
use crate::model::clock::Timestamp;
use crate::model::key_file::{KeyFile, KeyMark, KeyMarks};
use crate::store::backup::{BackupError, KEYS, io_error};
use crate::store::error::Result;
use crate::store::inspect::Record;
use crate::store::sled::{files, open};
use crate::store::transaction::Entry;
use crate::store::{layout, record};

/// What became of a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileFate {
    /// It is as it was in the backup.
    Same,
    /// It was missing, and is back.
    Restored,
    /// It was another one, which is kept aside now; the records need the one of the backup.
    Replaced,
    /// It stays as it is: signing keys that the store has rotated since are not taken back.
    Kept,
}

/// A key file of a backup, and what becomes of it.
pub(crate) struct RestoredFile {
    pub(crate) name: String,
    pub(crate) fate: KeyFileFate,
    bytes: Zeroizing<Vec<u8>>,
    /// What stands in its place.
    present: Option<Zeroizing<Vec<u8>>>,
}

impl RestoredFile {
    /// Puts it in its place, and what stood there aside.
    pub(crate) fn put(&self, dir: &Path, aside: &Path) -> Result<(), BackupError> {
        if matches!(self.fate, KeyFileFate::Same | KeyFileFate::Kept) {
            return Ok(());
        }
        let keys = dir.join(KEYS);
        files::make_private(&keys).map_err(io_error("write", &keys))?;
        if let Some(present) = &self.present {
            let kept = aside.join(KEYS);
            files::make_private(&kept).map_err(io_error("write", &kept))?;
            files::replace(&kept, &self.name, present).map_err(io_error("write", &kept))?;
        }
        let path = keys.join(&self.name);
        files::replace(&keys, &self.name, &self.bytes).map_err(io_error("write", &path))
    }

    /// By what the file is recognised that stands there afterwards.
    fn fingerprint(&self) -> Digest {
        let present = self.present.as_deref();
        let present = present.filter(|_| self.fate == KeyFileFate::Kept);
        fingerprint(&self.name, present.unwrap_or(&self.bytes))
    }
}

/// All key files of a backup.
pub(crate) struct RestoredKeys {
    dir: PathBuf,
    now: Timestamp,
    files: Vec<RestoredFile>,
    /// What the records of the backup know them by.
    before: KeyMarks,
    /// What the restored records know them by, made when all of the backup is read.
    marks: Option<Vec<Entry>>,
}

impl RestoredKeys {
    pub(crate) fn new(dir: &Path, now: Timestamp) -> Self {
        Self {
            dir: dir.to_owned(),
            now,
            files: Vec::new(),
            before: KeyMarks::new(),
            marks: None,
        }
    }

    /// Takes a key file of the backup, and decides what becomes of it.
    pub(crate) fn take(
        &mut self,
        name: String,
        bytes: Zeroizing<Vec<u8>>,
    ) -> Result<(), BackupError> {
        let path = self.dir.join(KEYS).join(&name);
        let present = files::if_there(fs::read(&path)).map_err(io_error("read", &path))?;
        let present = present.map(Zeroizing::new);
        let fate = match &present {
            Some(present) if *present == bytes => KeyFileFate::Same,
            // It rotates, and is never older than the backup's: a key that was retired for a reason would sign again.
            Some(present) if self.is_own_ring(&path, &name, present) => KeyFileFate::Kept,
            Some(_) => KeyFileFate::Replaced,
            None => KeyFileFate::Restored,
        };
        self.files.push(RestoredFile {
            name,
            fate,
            bytes,
            present,
        });
        Ok(())
    }

    /// Whether a file is a ring that can be used, and none that the records which are there have never known.
    fn is_own_ring(&self, path: &Path, name: &str, present: &[u8]) -> bool {
        if !signing::is_usable_ring(path) {
            return false;
        }
        let marks = open::key_marks(&self.dir);
        let mark = KeyFile::parse(name).and_then(|file| marks.get(&file));
        mark.is_none_or(|mark| mark.fingerprints.contains(&fingerprint(name, present)))
    }

    /// Keeps what the records of the backup know a key file by; `false`: it is none that is known here.
    pub(crate) fn remember(&mut self, record: Record) -> bool {
        let Record::KeyMark(name, mark) = record else {
            return false;
        };
        let file = KeyFile::parse(&name);
        if let Some(file) = file {
            self.before.insert(file, mark);
        }
        file.is_some()
    }

    /// The next record of what a key file is known by, once all of the backup is read; `None`: there are no more.
    pub(crate) fn next_mark(&mut self) -> Result<Option<Entry>, BackupError> {
        if self.marks.is_none() {
            self.marks = Some(self.all_marks()?);
        }
        Ok(self.marks.as_mut().and_then(Vec::pop))
    }

    fn all_marks(&self) -> Result<Vec<Entry>> {
        let marks = KeyFile::ALL
            .into_iter()
            .filter_map(|file| Some((file, self.mark(file)?)));
        let entry = |(file, mark)| {
            let key = layout::key_mark(file);
            Ok((key.bytes().to_vec(), record::encode(&key, &mark)?))
        };
        marks.map(entry).collect()
    }

    fn mark(&self, file: KeyFile) -> Option<KeyMark> {
        let before = self.before.get(&file);
        let since = before.map_or(self.now, |before| before.since);
        let known_by = |fingerprint| KeyMark {
            fingerprints: vec![fingerprint],
            since,
        };
        let Some(held) = self.files.iter().find(|held| held.name == file.name()) else {
            // One that its records hang on is missed at the start.
            return before
                .cloned()
                .or_else(|| match look(&self.dir.join(KEYS), file.name()) {
                    Found::File { fingerprint, .. } => Some(known_by(fingerprint)),
                    Found::Missing | Found::Unreadable(_) => None,
                });
        };
        let fingerprint = held.fingerprint();
        let fits = held.fate == KeyFileFate::Kept
            || before.is_none_or(|before| before.fingerprints.contains(&fingerprint));
        // A backup whose key file does not fit its records is told of at the start.
        if fits {
            Some(known_by(fingerprint))
        } else {
            before.cloned()
        }
    }

    /// The files, to be put in their places.
    pub(crate) fn into_files(self) -> Vec<RestoredFile> {
        self.files
    }
}
