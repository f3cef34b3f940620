//! Files with key material, which only the gateway may use, and which are written atomically.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::crypto::digest::copy_32;
use crate::crypto::random::{self, SECRET_BYTES};
use crate::model::account::Digest;
use crate::model::clock::Timestamp;

/// Maximum length of a key file, key sets of issuers included.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Write permission of group and others.
const WRITE_OF_OTHERS: u32 = 0o022;
/// Read permission of group and others.
const READ_OF_OTHERS: u32 = 0o044;
/// The beginning of the text of a fingerprint. No other digest with the same key is of a text of this length.
const FINGERPRINT_LABEL: &[u8] = b"doorward fingerprint of key file: ";

/// An error of a file of the key directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot use key file {path}: {expected}")]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// The expectation.
    pub expected: String,
    /// The system's error, if there is one.
    #[source]
    pub source: Option<io::Error>,
}

/// The state of a key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundKeyFile {
    /// There is none.
    Missing,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// It can be read.
    File {
        /// Identifies the content.
        fingerprint: Digest,
        /// Time of the last write.
        written: Timestamp,
        /// The problem of its permissions, and the remedy, if others may use it.
        exposed: Option<&'static str>,
    },
}

/// Identifies the content of a key file: HMAC-SHA-256 of a fixed label, its name and its length, with the content as the key.
/// It reveals nothing about the key.
#[must_use]
pub fn fingerprint(name: &str, bytes: &[u8]) -> Digest {
    let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let mut context = hmac::Context::with_key(&key);
    context.update(FINGERPRINT_LABEL);
    context.update(name.as_bytes());
    // HMAC pads a short key with zeros, so the length distinguishes keys that end in zeros.
    context.update(format!(" {}", bytes.len()).as_bytes());
    Digest(copy_32(context.sign().as_ref()))
}

/// Gives the state of a key file, whatever its permissions are.
#[must_use]
pub fn look(dir: &Path, name: &str) -> FoundKeyFile {
    let path = dir.join(name);
    let (metadata, file) = match open(&path) {
        Ok(Some(opened)) => opened,
        Ok(None) => return FoundKeyFile::Missing,
        Err(error) => return FoundKeyFile::Unreadable(error.to_string()),
    };
    if !metadata.is_file() || FILE_BYTES_MAX < metadata.len() {
        return FoundKeyFile::Unreadable("it is not a regular file of at most 2 MiB".to_owned());
    }
    match read_all(file, &metadata) {
        Ok(bytes) => FoundKeyFile::File {
            fingerprint: fingerprint(name, &bytes),
            written: Timestamp::from_secs(metadata.mtime()),
            exposed: exposed(&metadata),
        },
        Err(error) => FoundKeyFile::Unreadable(error.to_string()),
    }
}

fn exposed(metadata: &Metadata) -> Option<&'static str> {
    if !is_ours(metadata) {
        Some("it belongs to another user: change its owner to the user that runs doorward (chown)")
    } else if metadata.mode() & WRITE_OF_OTHERS != 0 {
        Some("other users can write it: chmod 600 fixes that")
    } else if metadata.mode() & READ_OF_OTHERS != 0 {
        Some("other users can read it: chmod 600 fixes that")
    } else {
        None
    }
}

/// Draws the 32 bytes of a new key.
#[must_use]
pub fn draw() -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
    random::fill(&mut bytes);
    bytes
}

/// The error of an invalid file.
pub(crate) fn unfit(path: &Path, expected: &str) -> KeyFileError {
    KeyFileError {
        path: path.to_owned(),
        expected: expected.to_owned(),
        source: None,
    }
}

/// The error of a file that the system does not let the gateway use.
fn failed<'a>(path: &'a Path, expected: &'a str) -> impl FnOnce(io::Error) -> KeyFileError {
    let (path, expected) = (path.to_owned(), expected.to_owned());
    move |source| KeyFileError {
        path,
        expected,
        source: Some(source),
    }
}

/// Creates a directory for keys with mode 0700. An existing one must be writable by its owner only.
pub(crate) fn make_dir(dir: &Path) -> Result<(), KeyFileError> {
    if !dir.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed(dir, "a directory that can be created"))?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent)?;
        }
    }
    let metadata = dir
        .metadata()
        .map_err(failed(dir, "a directory that can be read"))?;
    if !metadata.is_dir() {
        return Err(unfit(dir, "a directory"));
    }
    check_owner_and_mode(dir, &metadata)
}

/// Reads a whole key file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    let opened = open(path).map_err(failed(path, "a file that can be read"))?;
    let Some((metadata, file)) = opened else {
        return Ok(None);
    };
    if !metadata.is_file() || FILE_BYTES_MAX < metadata.len() {
        return Err(unfit(path, "a regular file of at most 2 MiB"));
    }
    check_owner_and_mode(path, &metadata)?;
    if metadata.mode() & READ_OF_OTHERS != 0 {
        tracing::warn!(path = %path.display(), "other users can read a key file: set its mode to 0600");
    }
    read_all(file, &metadata)
        .map(Some)
        .map_err(failed(path, "a file that can be read"))
}

/// Opens a file; `None`: there is none.
fn open(path: &Path) -> io::Result<Option<(Metadata, File)>> {
    match File::open(path).and_then(|file| Ok((file.metadata()?, file))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

fn read_all(file: File, metadata: &Metadata) -> io::Result<Zeroizing<Vec<u8>>> {
    // Allocated at its full size, since a buffer that grows leaves copies of the secret behind.
    let length = usize::try_from(metadata.len()).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == geteuid().as_raw() || metadata.uid() == 0
}

/// Refuses a file that others could have written: it must belong to the own user or root, and not be writable by groups.
fn check_owner_and_mode(path: &Path, metadata: &Metadata) -> Result<(), KeyFileError> {
    if !is_ours(metadata) || metadata.mode() & WRITE_OF_OTHERS != 0 {
        return Err(unfit(
            path,
            "owned by the user that runs doorward, with no write permission for group and others (chmod go-w)",
        ));
    }
    Ok(())
}

/// Reads a key of 32 bytes from its file, which is created with its directory if it is missing. Without a directory the key
/// lives as long as the process.
pub(crate) fn secret(
    dir: Option<&Path>,
    name: &str,
) -> Result<Zeroizing<[u8; SECRET_BYTES]>, KeyFileError> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    if let Some(dir) = dir {
        make_dir(dir)?;
    }
    let path = dir.map(|dir| dir.join(name));
    if let Some(path) = &path
        && let Some(stored) = read(path)?
    {
        let fits = stored.as_slice().try_into();
        *secret = fits.map_err(|_| unfit(path, "32 bytes; restore it from a backup"))?;
        return Ok(secret);
    }
    random::fill(secret.as_mut_slice());
    if let Some(path) = &path {
        write(path, secret.as_slice())?;
    }
    Ok(secret)
}

/// Writes a key file with mode 0600, atomically: after a crash there is either the old file or the new one.
///
/// # Errors
/// [`KeyFileError`], and the file has not changed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(unfit(path, "a file in a directory"));
    };
    let mut random = [0_u8; 8];
    random::fill(&mut random);
    let random = u64::from_ne_bytes(random);
    let temporary = dir.join(format!(".{}.{random:016x}", name.display()));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The rest of it is an unused key, so an error here does not matter.
        let _ = fs::remove_file(&temporary);
        return Err(failed(path, "a directory that can be written")(error));
    }
    sync_dir(dir)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a rename or a new directory durable.
fn sync_dir(dir: &Path) -> Result<(), KeyFileError> {
    // The parent of a relative path with one component is the empty path.
    let is_empty = dir.as_os_str().is_empty();
    let dir = if is_empty { Path::new(".") } else { dir };
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(failed(dir, "a directory that can be synced"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.key");
        assert!(read(&path).unwrap().is_none());
        for bytes in [b"first".as_slice(), b"second"] {
            write(&path, bytes).unwrap();
            assert_eq!(read(&path).unwrap().unwrap().as_slice(), bytes);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.key");
        write(&path, b"key").unwrap();
        for (mode, is_read) in [
            (0o600, true),
            (0o400, true),
            (0o644, true),
            (0o620, false),
            (0o602, false),
        ] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), is_read, "{mode:o}");
        }
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o770)).unwrap();
        assert!(make_dir(dir.path()).is_err());
        assert!(make_dir(&path).is_err(), "a file is no directory");
    }

    #[test]
    fn a_fingerprint_is_of_all_the_bytes_and_of_the_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path(), "a.key"), FoundKeyFile::Missing);
        let print = |name: &str| match look(dir.path(), name) {
            FoundKeyFile::File {
                fingerprint,
                exposed,
                ..
            } => (fingerprint, exposed),
            found => panic!("{found:?}"),
        };
        for name in ["a.key", "b.key"] {
            write(&dir.path().join(name), &[7; 32]).unwrap();
        }
        let (of_a, exposed) = print("a.key");
        assert_eq!((of_a, exposed), (fingerprint("a.key", &[7; 32]), None));
        assert_ne!(of_a, print("b.key").0, "a file stands in one place only");
        for at in 0..32 {
            let mut bytes = [7; 32];
            bytes[at] ^= 1;
            assert_ne!(fingerprint("a.key", &bytes), of_a, "{at}");
        }
        assert_ne!(fingerprint("a.key", &[1, 0]), fingerprint("a.key", &[1]));
        for mode in [0o640, 0o604, 0o620] {
            let path = dir.path().join("a.key");
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            assert!(print("a.key").1.is_some(), "{mode:o}");
        }
        std::fs::create_dir(dir.path().join("c.key")).unwrap();
        assert!(matches!(
            look(dir.path(), "c.key"),
            FoundKeyFile::Unreadable(_)
        ));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let error = write(&path, b"key").unwrap_err();
        assert!(error.source.is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
