//! A copy of the database in memory, which serves reads while the disk accepts no writes.
//!
//! sled writes when it opens, so it cannot open on a disk that is full or read-only. It can open a copy, of which
//! nothing is ever copied back: the writer refuses every change, and opens the database itself once the disk accepts
//! writes.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use crate::store::sled::files;

/// A directory in memory. Its contents are lost when the machine restarts.
pub(crate) const MEMORY: &str = "/dev/shm";

/// The directory of a copy, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct StandIn(pub(crate) PathBuf);

impl StandIn {
    /// Copies the database of a store's directory.
    pub(crate) fn copy(dir: &Path) -> io::Result<Self> {
        let place = place(dir);
        files::remove_all(&place)?;
        let copy = Self(place);
        files::copy_dir(&dir.join(files::DATABASE), &copy.0)?;
        Ok(copy)
    }

    /// Removes a copy left behind by a killed process.
    pub(crate) fn clear(dir: &Path) {
        // The name is the gateway's own, and only the gateway's user can remove what is there.
        let _ = files::remove_all(&place(dir));
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Err(error) = files::remove_all(&self.0) {
            tracing::warn!(
                path = %self.0.display(),
                error = &error as &dyn std::error::Error,
                "a copy of the store in memory cannot be removed"
            );
        }
    }
}

/// Logs that a copy serves reads from now on. `trouble`: the error of the disk.
pub(crate) fn announce(dir: &Path, trouble: &io::Error) {
    tracing::error!(
        path = %dir.display(),
        error = trouble as &dyn std::error::Error,
        "the disk cannot be written: the store serves reads from a copy in memory and refuses every change until the disk is writable again"
    );
}

/// Returns the path of the copy: one per store, so that a leftover is found.
fn place(dir: &Path) -> PathBuf {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    Path::new(MEMORY).join(format!("doorward-{:016x}", hasher.finish()))
}
