//! The last good key set of an issuer on disk, for a start while the issuer is unreachable.
//!
//! The file is a line of JSON with the issuer, the source and the time of the set, and then the set itself. It has mode 0600
//! and is written atomically. A damaged file, or one of another issuer or source, is not used.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::crypto::digest;
use crate::crypto::key_file;
use crate::crypto::key_file::KeyFileError;
use crate::model::clock::Timestamp;

/// Version of the format.
const VERSION: u32 = 1;
/// Maximum by which the clock may have been set back since the file was written.
const AHEAD_MAX: Duration = Duration::from_mins(5);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    issuer: String,
    source: String,
    fetched: Timestamp,
    /// Digest of the set, in base64url.
    sha256: String,
}

/// The reason why a file is not used.
#[derive(Debug, thiserror::Error)]
enum KeySetFileError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("it is damaged")]
    Damaged,
    #[error("it is for another issuer or key set URL")]
    Another,
    #[error("it is from the future")]
    Future,
}

/// The file with the key set of one issuer.
pub(in crate::issuer) struct KeySetFile {
    path: PathBuf,
    issuer: String,
    source: String,
    /// Whether the file may be written.
    keeps: bool,
}

/// A key set read from its file.
pub(in crate::issuer) struct StoredKeySet {
    pub(in crate::issuer) document: String,
    pub(in crate::issuer) fetched: Timestamp,
}

impl KeySetFile {
    /// `dir`: the directory of all files, and whether they may be written. `name`: the configured name. `issuer`, `source`: the
    /// issuer of the keys and the place that they are fetched from.
    pub(in crate::issuer) fn new(
        (dir, keeps): (&Path, bool),
        name: &str,
        issuer: &str,
        source: String,
    ) -> Self {
        Self {
            keeps,
            path: dir.join(format!("{name}.jwks")),
            issuer: issuer.to_owned(),
            source,
        }
    }

    /// Reads the file; `None` if there is none. One that cannot be used is logged, and gives `None` as well.
    pub(in crate::issuer) fn read(&self, now: Timestamp) -> Option<StoredKeySet> {
        match self.try_read(now) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(
                    path = %self.path.display(),
                    error = &error as &dyn std::error::Error,
                    "a saved key set is ignored"
                );
                None
            }
        }
    }

    fn try_read(&self, now: Timestamp) -> Result<Option<StoredKeySet>, KeySetFileError> {
        let Some(bytes) = key_file::read(&self.path)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| KeySetFileError::Damaged)?;
        let (head, document) = text.split_once('\n').ok_or(KeySetFileError::Damaged)?;
        let head: Head = serde_json::from_str(head).map_err(|_| KeySetFileError::Damaged)?;
        if head.version != VERSION || head.sha256 != sum(document) {
            return Err(KeySetFileError::Damaged);
        }
        if head.issuer != self.issuer || head.source != self.source {
            return Err(KeySetFileError::Another);
        }
        if now.plus(AHEAD_MAX) < head.fetched {
            return Err(KeySetFileError::Future);
        }
        let document = document.to_owned();
        let fetched = head.fetched;
        Ok(Some(StoredKeySet { document, fetched }))
    }

    /// Writes a set on a thread of its own, since a disk may be slow. Errors are logged.
    pub(in crate::issuer) async fn write(&self, document: &str, fetched: Timestamp) {
        if !self.keeps {
            return;
        }
        let head = Head {
            version: VERSION,
            issuer: self.issuer.clone(),
            source: self.source.clone(),
            fetched,
            sha256: sum(document),
        };
        let Ok(mut text) = serde_json::to_string(&head) else {
            return;
        };
        text.push('\n');
        text.push_str(document);
        let path = self.path.clone();
        let (done, is_done) = oneshot::channel::<()>();
        let started = thread::Builder::new()
            .name("key sets".to_owned())
            .spawn(move || {
                warn_if_failed(&path, write(&path, text.as_bytes()));
                drop(done);
            });
        if let Err(source) = started {
            warn_if_failed(&self.path, Err(source.into()));
        }
        // The task has no result.
        let _ = is_done.await;
    }
}

/// The error of a set that was not written.
#[derive(Debug, thiserror::Error)]
enum NotWritten {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("cannot start a thread for it")]
    Thread(#[from] std::io::Error),
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), NotWritten> {
    key_file::make_dir(path.parent().unwrap_or(path))?;
    Ok(key_file::write(path, bytes)?)
}

fn warn_if_failed(path: &Path, outcome: Result<(), NotWritten>) {
    if let Err(error) = outcome {
        tracing::warn!(
            path = %path.display(),
            error = &error as &dyn std::error::Error,
            "a key set cannot be saved: after a restart while its issuer is down there would be no keys"
        );
    }
}

fn sum(document: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::sha256(document.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    const DOCUMENT: &str = "{\"keys\":[]}\n\n";

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn file(dir: &Path, issuer: &str, source: &str) -> KeySetFile {
        KeySetFile::new((&dir.join("jwks"), true), "corp", issuer, source.to_owned())
    }

    #[tokio::test]
    async fn what_was_kept_is_read_and_nothing_that_was_touched() {
        let dir = tempfile::tempdir().unwrap();
        let corp = file(dir.path(), "https://id.test", "https://id.test/jwks");
        assert!(corp.read(at(1000)).is_none());
        corp.write(DOCUMENT, at(1000)).await;
        let kept = corp.read(at(1001)).unwrap();
        assert_eq!((kept.document.as_str(), kept.fetched), (DOCUMENT, at(1000)));
        let meta = corp.path.metadata().unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o600);
        let folder = dir.path().join("jwks").metadata().unwrap();
        assert_eq!(folder.mode() & 0o7777, 0o700);

        // Another issuer, another source, another time.
        for other in [
            file(dir.path(), "https://other.test", "https://id.test/jwks"),
            file(dir.path(), "https://id.test", "https://id.test/other"),
        ] {
            assert!(other.read(at(1001)).is_none());
        }
        assert!(corp.read(at(600)).is_none());
        assert!(
            corp.read(at(701)).is_some(),
            "a clock that went back a little"
        );

        let whole = std::fs::read(&corp.path).unwrap();
        for length in [0, 5, whole.len() - 1] {
            std::fs::write(&corp.path, &whole[..length]).unwrap();
            assert!(corp.read(at(1001)).is_none(), "{length}");
        }
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            std::fs::write(&corp.path, &flipped).unwrap();
            let read = corp.read(at(1001));
            let is_other_time = read.is_some_and(|kept| kept.document != DOCUMENT);
            assert!(!is_other_time, "{place}");
        }
        std::fs::write(&corp.path, &whole).unwrap();
        let open = std::fs::Permissions::from_mode(0o620);
        std::fs::set_permissions(&corp.path, open).unwrap();
        assert!(corp.read(at(1001)).is_none(), "others may write it");
    }
}
