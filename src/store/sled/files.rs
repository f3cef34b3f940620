//! The store's directory: private, locked, and changed only in steps that are atomic under a crash.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use rustix::process::geteuid;

use crate::store::{Result, StoreError};

/// A killed process may still hold its locks for some milliseconds.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// More digits than any process id has.
const PID_BYTES_MAX: u64 = 16;

/// Somewhat more than sled allocates for its next segment.
const PROBE_BYTES: usize = 640 * 1024;

/// Name of the database's directory inside a store's directory.
pub(crate) const DATABASE: &str = "db";
/// The directory in which a restore builds a database. It is removed when the restore is complete.
pub(crate) const RESTORE_STAGE: &str = "restore.new";

/// Files that only a store's directory contains.
const MARKS: [&str; 4] = ["census", "db/db", "keys/apikey.key", "keys/signing.json"];

/// Entries that a store's directory may contain before there is a store or after its records were moved away: those the
/// gateway creates, and those of a fresh file system.
const OURS: [&str; 15] = [
    "admin.sock",
    "backup",
    "census",
    "census.new",
    "check.new",
    DATABASE,
    "db.new",
    "import",
    "jwks",
    "keys",
    "lock",
    "lost+found",
    "mail",
    "probe",
    RESTORE_STAGE,
];

/// Name prefixes of the directories that keep what a restore or a renewed key file has replaced.
const KEPT: [&str; 2] = ["before-restore-", "before-renew-"];

/// Returns the name of a foreign entry in a directory that contains no store. `None`: the directory is a store's, empty
/// or missing.
///
/// # Errors
/// Any error of the file system, for example if the directory may not be read.
pub fn stranger_in(dir: &Path) -> io::Result<Option<String>> {
    if MARKS.iter().any(|mark| dir.join(mark).is_file()) {
        return Ok(None);
    }
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(None),
        entries => if_there(entries)?,
    };
    for entry in entries.into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !OURS.contains(&name.as_str()) && !KEPT.iter().any(|kept| name.starts_with(kept)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Creates the directory of a store and makes it private. A directory with other files and no store is left unchanged.
///
/// # Errors
/// Those of [`make_private`], and an error if there are other files; nothing has changed then.
pub(crate) fn make_own(dir: &Path) -> io::Result<()> {
    if let Some(found) = stranger_in(dir)? {
        return Err(io::Error::other(format!(
            "the directory contains other files, such as {found:?}: the store needs a directory of its own"
        )));
    }
    make_private(dir)
}

/// Creates a directory with mode 0700, or removes the access of other users from an existing one of this user. A
/// directory of another user keeps its mode.
///
/// # Errors
/// Any error of the file system. A directory shared by all users, such as `/tmp`, is refused, and so is another user's
/// that all may write to.
pub fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::metadata(dir)?;
    let mode = metadata.permissions().mode();
    let is_mine = metadata.uid() == geteuid().as_raw();
    if mode & 0o1000 != 0 || (!is_mine && mode & 0o002 != 0) {
        return Err(io::Error::other(
            "the directory is shared by all users: the store needs a directory of its own",
        ));
    }
    if is_mine && mode & 0o077 != 0 {
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Locks the directory for as long as the returned file is open.
///
/// # Errors
/// [`StoreError::Locked`] if another process holds the lock; [`StoreError::Engine`] if the system refuses.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let mut file = open_lock(&dir.join("lock")).map_err(StoreError::cannot_open)?;
    let outcome = patiently(
        || flock(&file, FlockOperation::NonBlockingLockExclusive),
        |error| *error == rustix::io::Errno::WOULDBLOCK,
    );
    match outcome {
        Ok(()) => {
            // For people only: on a full disk the file stays empty.
            let _ = file.set_len(0);
            let _ = writeln!(file, "{}", std::process::id());
            Ok(file)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let read = file.take(PID_BYTES_MAX).read_to_string(&mut text);
            read.map_err(StoreError::cannot_open)?;
            Err(StoreError::Locked {
                dir: dir.to_owned(),
                holder: text.trim().parse().ok(),
            })
        }
        Err(error) => Err(StoreError::cannot_open(error.into())),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).read(true).write(true);
    match options.mode(0o600).open(path) {
        // An existing file can still be locked.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => File::open(path),
        opened => opened,
    }
}

/// Retries for 2 s, as long as the error means that a lock is still held.
pub(crate) fn patiently<T, E>(
    mut act: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for _ in 1..LOCK_TRIES {
        match act() {
            Err(error) if is_held(&error) => thread::sleep(LOCK_PAUSE),
            outcome => return outcome,
        }
    }
    act()
}

/// Replaces a small file atomically: after a crash it is the old one or the new one.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

/// Makes files created or renamed in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Returns the result of a file operation; `None`: the file does not exist.
pub(crate) fn if_there<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Removes a directory with its contents, if it exists.
pub(crate) fn remove_all(place: &Path) -> io::Result<()> {
    if_there(fs::remove_dir_all(place)).map(drop)
}

/// Copies a directory with its contents to a new path, with mode 0700.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Drops the files below a directory from the page cache, where the system can, so that they are read from the disk
/// again.
pub(crate) fn forget_cached(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget_cached(&entry.path())?;
        } else {
            // A file system without a cache has nothing to drop.
            let _ = fadvise(&File::open(entry.path())?, 0, None, Advice::DontNeed);
        }
    }
    Ok(())
}

/// Checks that the disk accepts writes, as many as opening needs.
pub(crate) fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join("probe");
    let outcome = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    outcome.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_made_private_and_a_shared_one_refused() {
        let outer = tempfile::tempdir().unwrap();
        let mode = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode() & 0o7777;
        let dir = outer.path().join("a/b");
        make_private(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        make_private(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        fs::set_permissions(&dir, Permissions::from_mode(0o1777)).unwrap();
        assert!(make_private(&dir).is_err());
        assert_eq!(mode(&dir), 0o1777);
    }

    #[test]
    fn a_directory_of_other_files_is_left_alone_and_what_we_make_is_none() {
        let outer = tempfile::tempdir().unwrap();
        let mode = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode() & 0o7777;
        let dir = outer.path().join("a");
        assert_eq!(stranger_in(&dir).unwrap(), None, "it is not there");
        for name in OURS
            .into_iter()
            .chain(["before-restore-2026", "before-renew-2026"])
        {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        assert_eq!(stranger_in(&dir).unwrap(), None);
        fs::write(dir.join("passwd"), "").unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(stranger_in(&dir).unwrap().as_deref(), Some("passwd"));
        assert!(make_own(&dir).is_err());
        assert_eq!(mode(&dir), 0o755);
        fs::write(dir.join("keys/signing.json"), "").unwrap();
        make_own(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
    }

    #[test]
    fn patience_ends_with_another_error_or_with_success() {
        let mut tries = 0;
        let outcome: Result<(), i32> = patiently(
            || {
                tries += 1;
                Err(if tries < 3 { 1 } else { 2 })
            },
            |error| *error == 1,
        );
        assert_eq!((outcome, tries), (Err(2), 3));
    }
}
