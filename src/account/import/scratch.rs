//! The directory of an import's temporary data: unnamed files for what it does not hold in memory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::sled::make_private;

/// The locked directory: only one import runs at a time, across processes.
#[derive(Debug)]
pub(super) struct ScratchDirectory {
    dir: PathBuf,
    _lock: File,
}

impl ScratchDirectory {
    /// Creates the directory with mode 0700 and locks it; `None` if another import holds the lock.
    pub(super) fn take(dir: &Path) -> io::Result<Option<Self>> {
        make_private(dir)?;
        let lock = File::open(dir)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self {
                dir: dir.to_owned(),
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Creates a file that disappears when the process ends, however it ends, because its name is removed at once.
    pub(super) fn file(&self) -> io::Result<File> {
        let path = self.dir.join("lines");
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn one_at_a_time_has_the_directory_and_leaves_nothing_in_it() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("import");
        let scratch = ScratchDirectory::take(&dir).unwrap().unwrap();
        assert!(ScratchDirectory::take(&dir).unwrap().is_none());
        let (one, two) = (scratch.file().unwrap(), scratch.file().unwrap());
        assert_ne!(one.metadata().unwrap().ino(), two.metadata().unwrap().ino());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        drop(scratch);
        assert!(ScratchDirectory::take(&dir).unwrap().is_some());
    }
}
