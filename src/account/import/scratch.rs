//! Where an import keeps what it does not hold in memory: files without a name in a directory of their own.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::sled::make_private;

/// The directory, in our hands as long as this lives: one import at a time, whichever process runs it.
#[derive(Debug)]
pub(super) struct ScratchDirectory {
    dir: PathBuf,
    _lock: File,
}

impl ScratchDirectory {
    /// Makes the directory, which is ours alone (0700), and takes it; `None`: another import has it.
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

    /// A file that is gone with the process, however that ends: it loses its name at once.
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
