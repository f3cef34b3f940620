//! The key files that a restore brings back, and the records of their fingerprints.
//!
//! The fate of each file is decided before anything changes, because the rebuilt records contain the fingerprints of
//! the files that will be present afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::key_file::{FoundKeyFile, fingerprint, look};
use crate::crypto::signing;
use crate::model::account::Digest;
use crate::model::clock::Timestamp;
use crate::model::key_file::{KeyFile, KeyMark, KeyMarks};
use crate::store::backup::{BackupError, KEYS, io_error};
use crate::store::inspect::InspectedRecord;
use crate::store::sled::{files, open};
use crate::store::{RecordEntry, layout, record};

/// The fate of a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileFate {
    /// The present file equals the one in the backup.
    Same,
    /// The file was missing and has been restored.
    Restored,
    /// A different file was present and has been moved aside; the records need the one of the backup.
    Replaced,
    /// The present file stays: signing keys that the store has rotated since are not rolled back.
    Kept,
}

/// A key file of a backup, and its fate.
pub(crate) struct RestoredFile {
    pub(crate) name: String,
    pub(crate) fate: KeyFileFate,
    bytes: Zeroizing<Vec<u8>>,
    /// Contents of the file present before the restore.
    present: Option<Zeroizing<Vec<u8>>>,
}

impl RestoredFile {
    /// Writes the file to its place and moves the previous one aside.
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

    /// Returns the fingerprint of the file that will be present afterwards.
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
    /// The files to be put in place.
    pub(crate) files: Vec<RestoredFile>,
    /// The fingerprint records of the backup.
    before: KeyMarks,
    /// The key files whose fingerprint records are still to be restored.
    unmarked: Vec<KeyFile>,
}

impl RestoredKeys {
    pub(crate) fn new(dir: &Path, now: Timestamp) -> Self {
        Self {
            dir: dir.to_owned(),
            now,
            files: Vec::new(),
            before: KeyMarks::new(),
            unmarked: KeyFile::ALL.to_vec(),
        }
    }

    /// Accepts a key file of the backup and decides its fate.
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
            // A signing ring rotates and is never older than the backup's: restoring that one would sign with a key
            // that was retired for a reason.
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

    /// Whether the present file is a usable ring, and one whose fingerprint the present records know, if they name any.
    fn is_own_ring(&self, path: &Path, name: &str, present: &[u8]) -> bool {
        if !signing::is_usable_ring(path) {
            return false;
        }
        let marks = open::key_marks(&self.dir);
        let mark = KeyFile::parse(name).and_then(|file| marks.get(&file));
        mark.is_none_or(|mark| mark.fingerprints.contains(&fingerprint(name, present)))
    }

    /// Stores a fingerprint record of the backup; returns `false` if it is not for a key file known here.
    pub(crate) fn remember(&mut self, record: InspectedRecord) -> bool {
        let InspectedRecord::KeyMark(name, mark) = record else {
            return false;
        };
        let file = KeyFile::parse(&name);
        if let Some(file) = file {
            self.before.insert(file, mark);
        }
        file.is_some()
    }

    /// Returns the next fingerprint record once the whole backup has been read; `None`: there are no more.
    pub(crate) fn next_mark(&mut self) -> Result<Option<RecordEntry>, BackupError> {
        while let Some(file) = self.unmarked.pop() {
            if let Some(mark) = self.mark(file) {
                let key = layout::key_mark(file);
                return Ok(Some((key.bytes().to_vec(), record::encode(&key, &mark)?)));
            }
        }
        Ok(None)
    }

    fn mark(&self, file: KeyFile) -> Option<KeyMark> {
        let before = self.before.get(&file);
        let since = before.map_or(self.now, |before| before.since);
        let known_by = |fingerprint| KeyMark {
            fingerprints: vec![fingerprint],
            since,
        };
        let Some(held) = self.files.iter().find(|held| held.name == file.name()) else {
            // The start reports a file that its records depend on as missing.
            return before
                .cloned()
                .or_else(|| match look(&self.dir.join(KEYS), file.name()) {
                    FoundKeyFile::File { fingerprint, .. } => Some(known_by(fingerprint)),
                    FoundKeyFile::Missing | FoundKeyFile::Unreadable(_) => None,
                });
        };
        let fingerprint = held.fingerprint();
        let fits = held.fate == KeyFileFate::Kept
            || before.is_none_or(|before| before.fingerprints.contains(&fingerprint));
        // The start reports a backup whose key file does not match its records.
        if fits {
            Some(known_by(fingerprint))
        } else {
            before.cloned()
        }
    }
}
