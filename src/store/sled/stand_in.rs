//! What serves reads where the disk takes no writes: a copy of the database in memory.
//!
//! sled writes when it opens, so on a disk that is full or read-only it does not open at all. It does on a copy, of which
//! nothing is ever brought back: the writer refuses every change, and opens the database itself once the disk takes writes.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use crate::store::sled::files;

/// Memory that a path leads to. What is there is gone after a restart of the machine.
pub(crate) const MEMORY: &str = "/dev/shm";

/// The place of a copy, which goes with this.
#[derive(Debug)]
pub(crate) struct StandIn(PathBuf);

impl StandIn {
    /// Copies the database of a store's directory.
    pub(crate) fn copy(dir: &Path) -> io::Result<Self> {
        let place = place(dir);
        files::remove_all(&place)?;
        let copy = Self(place);
        files::copy_dir(&dir.join(files::DATABASE), &copy.0)?;
        Ok(copy)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes the copy that a process left which was killed.
    pub(crate) fn clear(dir: &Path) {
        // Its name is ours, and so is what we can remove there.
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

/// Logs that a copy serves reads from now on. `trouble`: what the disk has said.
pub(crate) fn announce(dir: &Path, trouble: &io::Error) {
    tracing::error!(
        path = %dir.display(),
        error = trouble as &dyn std::error::Error,
        "the disk takes no writes: the store serves reads from a copy in memory, and refuses every change until it does"
    );
}

/// One for each store, so that what is left behind is found.
fn place(dir: &Path) -> PathBuf {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    Path::new(MEMORY).join(format!("doorward-{:016x}", hasher.finish()))
}
