//! What serves reads where the disk takes no writes: a copy of the database in memory.
//!
//! sled writes when it opens, so on a disk that is full or read-only it does not open at all. It does on a copy, of which
//! nothing is ever brought back: the writer refuses every change, and opens the database itself once the disk takes writes.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use crate::store::error::StoreError;
use crate::store::sled::census::Census;
use crate::store::sled::files;
use crate::store::sled::open::{self, Database, NAME};

/// Memory that a path leads to. What is there is gone after a restart of the machine.
const MEMORY: &str = "/dev/shm";

/// The place of a copy, which goes with this.
#[derive(Debug)]
pub(crate) struct StandIn(PathBuf);

impl StandIn {
    /// Copies the database of a store's directory.
    fn copy(dir: &Path) -> io::Result<Self> {
        let place = place(dir);
        open::remove_all(&place)?;
        let copy = Self(place);
        files::copy_dir(&dir.join(NAME), &copy.0)?;
        Ok(copy)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Err(error) = open::remove_all(&self.0) {
            tracing::warn!(
                path = %self.0.display(),
                error = &error as &dyn std::error::Error,
                "a copy of the store in memory cannot be removed"
            );
        }
    }
}

/// Opens a copy of the database that is in a directory whose lock is held, and compares it as a start does.
///
/// # Errors
/// [`StoreError::Refused`] as for the database itself, and where there is no room for a copy.
pub(crate) fn open(dir: &Path, trouble: &io::Error) -> Result<(Database, Census), StoreError> {
    let copy = StandIn::copy(dir).map_err(|error| {
        open::cannot_open(io::Error::other(format!(
            "the disk takes no writes ({trouble}), and no copy to read from can be made in {MEMORY} ({error}): make the \
             disk take writes, by freeing space or mounting it for writing"
        )))
    })?;
    let (mut database, census) = open::open_counted(dir, &copy.0)?;
    open::compare_with_side(dir, &census)?;
    database.stand_in = Some(copy);
    tracing::error!(
        path = %dir.display(),
        error = trouble as &dyn std::error::Error,
        "the disk takes no writes: the store serves reads from a copy in memory, and refuses every change until it does"
    );
    Ok((database, census))
}

/// Removes the copy that a process left which was killed.
pub(crate) fn clear(dir: &Path) {
    // Its name is ours, and so is what we can remove there.
    let _ = open::remove_all(&place(dir));
}

/// One for each store, so that what is left behind is found.
fn place(dir: &Path) -> PathBuf {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    Path::new(MEMORY).join(format!("doorward-{:016x}", hasher.finish()))
}
