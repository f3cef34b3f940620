//! The key files of a store, and the records of their fingerprints.
//!
//! A different key in the place of a lost or altered one would silently void everything that depends on it. So the
//! records contain a fingerprint of each key file, which is compared when the store is opened. To replace a file, both
//! fingerprints are recorded first, then the file is replaced, and then only the new fingerprint is kept: after a crash
//! at any point, the file found is known.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use crate::store::key_findings::{KeyFileState, KeyFinding, look};

use crate::crypto::key_file::{self, KeyFileError};
use crate::crypto::signing::{NextRing, SigningKeys};
use crate::model::clock::Timestamp;
use crate::model::key_file::{KeyFile, KeyMark, KeyMarks};
use crate::store::engine::EngineExt as _;
use crate::store::sled::{OpenCounts, SledStore, files};
use crate::store::{Result, StoreError, layout, reads};

/// Directory of the key files inside the store's directory.
pub(crate) const DIRECTORY: &str = "keys";

/// Maximum number of fingerprints recorded for one file: each interrupted renewal leaves one.
const FINGERPRINTS_MAX: usize = 8;

/// Key files that cannot be used, or a failed change of one.
#[derive(Debug, thiserror::Error)]
pub enum KeyFilesError {
    /// Some files are not those that the records were written with.
    #[error(
        "the key files in {dir} do not fit the records:\n{}\nPut the right files back: from a copy of the directory, or with \
         `doorward store restore FILE`, which also restores the records of the backup. To replace a file that is lost for good, use \
         `doorward keys renew NAME`, which first shows what that voids",
        .problems.join("\n")
    )]
    Unfit {
        /// Their directory.
        dir: PathBuf,
        /// The problems, one line each.
        problems: Vec<String>,
    },
    /// Some files were never created: the first start of the store was interrupted, and nothing depends on them.
    #[error(
        "the store in {dir} was not completely created:\n{}\n`doorward serve`, or a command that changes something, creates the missing \
         files; nothing is lost",
        .problems.join("\n")
    )]
    Unmade {
        /// Their directory.
        dir: PathBuf,
        /// The missing files, one line each.
        problems: Vec<String>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key file cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The old file could not be moved aside.
    #[error("cannot move {path} aside")]
    Aside {
        /// The old file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// The key files of an open store.
#[derive(Debug)]
pub struct KeyFiles {
    store: Arc<SledStore>,
    dir: PathBuf,
}

impl KeyFiles {
    /// Creates the key files of the store in `dir`.
    #[must_use]
    pub fn new(store: Arc<SledStore>, dir: &Path) -> Self {
        let dir = dir.join(DIRECTORY);
        Self { store, dir }
    }

    /// Returns their directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the counts taken when the store was opened.
    #[must_use]
    pub fn counted(&self) -> OpenCounts {
        self.store.counted()
    }

    /// Returns the fingerprint records.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn marks(&self) -> Result<KeyMarks> {
        self.store.read(reads::key_marks).await
    }

    /// Checks each key file.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn look(&self) -> Result<Vec<KeyFinding>> {
        let findings = self.look_beside(&self.marks().await?);
        if !findings.iter().any(|it| it.state == KeyFileState::Altered) {
            return Ok(findings);
        }
        // A ring may have been rotated between reading its record and its file.
        Ok(self.look_beside(&self.marks().await?))
    }

    fn look_beside(&self, marks: &KeyMarks) -> Vec<KeyFinding> {
        look(&self.dir, marks, self.counted().accounts != 0)
    }

    /// Refuses key files that do not match the records, before any of them is used. `makes`: whether the caller creates
    /// files that never existed.
    ///
    /// # Errors
    /// [`KeyFilesError::Unfit`]
    pub async fn admit(&self, makes: bool) -> Result<(), KeyFilesError> {
        let (mut problems, mut unmade) = (Vec::new(), 0);
        for finding in self.look().await? {
            match finding.state {
                KeyFileState::Missing | KeyFileState::Altered => problems.extend(finding.problem()),
                KeyFileState::NotMade if !makes => {
                    unmade += 1;
                    problems.push(format!(
                        "key file {} does not exist yet",
                        finding.file.name()
                    ));
                }
                // An unreadable file is reported where it is opened, with the remedy.
                _ => {}
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let dir = self.dir.clone();
        if problems.len() == unmade {
            return Err(KeyFilesError::Unmade { dir, problems });
        }
        Err(KeyFilesError::Unfit { dir, problems })
    }

    /// Records the fingerprints once all files exist. `now`: the creation time to record for a store without any
    /// record.
    ///
    /// # Errors
    /// [`StoreError`]; then the next start repeats it.
    pub async fn settle(&self, now: Timestamp) -> Result<()> {
        let before = self.marks().await?;
        let is_new = before.is_empty() && self.counted().records == 0;
        let mut marks = KeyMarks::new();
        for finding in self.look_beside(&before) {
            if matches!(finding.state, KeyFileState::Fits | KeyFileState::Unknown) {
                marks.extend(finding.mark.map(|mark| (finding.file, mark)));
            }
        }
        let is_adopted = before.is_empty() && !is_new && !marks.is_empty();
        self.put(marks, is_new.then_some(now)).await?;
        if is_adopted {
            tracing::info!("the fingerprints of the key files are now recorded");
        }
        Ok(())
    }

    /// Returns when the store was created; `None`: it was not recorded at the time.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn made(&self) -> Result<Option<Timestamp>> {
        self.store.load(layout::made()).await
    }

    /// Replaces a key ring.
    ///
    /// # Errors
    /// [`KeyFilesError`]; then the previous ring is still in force.
    pub async fn replace(&self, ring: &SigningKeys, next: NextRing) -> Result<(), KeyFilesError> {
        let file = ring.signed.file();
        let mark = self.marks().await?.remove(&file);
        let Some((mut mark, present)) = mark.zip(ring.fingerprint()) else {
            // The first start records the files present at its end.
            return Ok(ring.put(next)?);
        };
        let fingerprint = next.fingerprint();
        mark.fingerprints = vec![present, fingerprint];
        self.put(KeyMarks::from([(file, mark.clone())]), None)
            .await?;
        ring.put(next)?;
        mark.fingerprints = vec![fingerprint];
        if let Err(error) = self.put(KeyMarks::from([(file, mark)]), None).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                file = file.name(),
                "the previous fingerprint of a key file stays accepted until the next start"
            );
        }
        Ok(())
    }

    /// Replaces a lost key file; a present one is moved into the directory `aside`. Returns its path there.
    ///
    /// # Errors
    /// [`KeyFilesError`]; then this can be repeated.
    pub async fn renew(
        &self,
        file: KeyFile,
        bytes: &[u8],
        (aside, now): (&Path, Timestamp),
    ) -> Result<Option<PathBuf>, KeyFilesError> {
        let fingerprint = key_file::fingerprint(file.name(), bytes);
        let mut marks = self.marks_of_all(now).await?;
        let mark = marks.entry(file).or_insert(KeyMark {
            fingerprints: Vec::new(),
            since: now,
        });
        let path = self.dir.join(file.name());
        // The present file stays known, however many renewals have failed before.
        let present = fs::read(&path).map(Zeroizing::new).ok();
        let known_by = present
            .as_ref()
            .map(|bytes| key_file::fingerprint(file.name(), bytes));
        let mut known = mark.fingerprints.iter();
        if let Some(place) = known.position(|it| Some(*it) == known_by) {
            mark.fingerprints.swap(0, place);
        }
        mark.fingerprints.truncate(FINGERPRINTS_MAX - 1);
        mark.fingerprints.push(fingerprint);
        self.put(marks, None).await?;
        let kept = keep_aside(&path, file, present.as_deref().map(Vec::as_slice), aside);
        let kept = kept.map_err(|source| {
            let path = path.clone();
            KeyFilesError::Aside { path, source }
        })?;
        key_file::write(&path, bytes)?;
        let mark = KeyMark {
            fingerprints: vec![fingerprint],
            since: now,
        };
        self.put(KeyMarks::from([(file, mark)]), None).await?;
        Ok(kept)
    }

    /// Returns the fingerprint records. In an older gateway's store each file is given one, so that another file that
    /// is missing is not mistaken for one that never existed.
    async fn marks_of_all(&self, now: Timestamp) -> Result<KeyMarks> {
        let mut marks = self.marks().await?;
        for finding in self.look_beside(&marks) {
            let mark = match finding.state {
                KeyFileState::Unknown => finding.mark,
                KeyFileState::Missing | KeyFileState::Unreadable(_) => Some(KeyMark {
                    fingerprints: Vec::new(),
                    since: now,
                }),
                KeyFileState::Fits | KeyFileState::NotMade | KeyFileState::Altered => None,
            };
            if let Some(mark) = mark {
                marks.entry(finding.file).or_insert(mark);
            }
        }
        Ok(marks)
    }

    async fn put(&self, marks: KeyMarks, made: Option<Timestamp>) -> Result<()> {
        if marks.is_empty() && made.is_none() {
            return Ok(());
        }
        self.store
            .write(move |tx| {
                for (file, mark) in &marks {
                    tx.put(&layout::key_mark(*file), mark)?;
                }
                made.map_or(Ok(()), |made| tx.put(&layout::made(), &made))
            })
            .await
    }
}

/// Copies the present key file, if there is one, into another directory and returns its path there. A readable file
/// (`present`) also stays until it is replaced, because no start would succeed without it.
fn keep_aside(
    path: &Path,
    file: KeyFile,
    present: Option<&[u8]>,
    aside: &Path,
) -> io::Result<Option<PathBuf>> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    files::make_private(aside)?;
    let kept = aside.join(file.name());
    if let Some(bytes) = present {
        files::replace(aside, file.name(), bytes)?;
    } else {
        fs::rename(path, &kept)?;
        files::sync_dir(aside)?;
    }
    Ok(Some(kept))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::crypto::ring::Signed;
    use crate::model::algorithm::Algorithm;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    async fn state(files: &KeyFiles) -> (KeyFileState, usize) {
        let findings = files.look().await.unwrap();
        let finding = findings.iter().find(|it| it.file == KeyFile::Signing);
        let mark = &files.marks().await.unwrap()[&KeyFile::Signing];
        (finding.unwrap().state.clone(), mark.fingerprints.len())
    }

    #[tokio::test]
    async fn a_ring_is_known_at_every_step_of_its_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(dir.path(), Arc::default()).unwrap());
        let files = KeyFiles::new(store, dir.path());
        let (signed, algorithm) = (Signed::AccessToken, Algorithm::EdDSA);
        let life = Duration::from_mins(1);
        let ring = SigningKeys::open(Some(files.dir()), signed, algorithm, life, at(0)).unwrap();
        files.settle(at(0)).await.unwrap();
        assert_eq!(files.made().await.unwrap(), Some(at(0)));
        assert_eq!(state(&files).await, (KeyFileState::Fits, 1));
        let (path, kept) = (files.dir().join("signing.json"), dir.path().join("kept"));
        // The new ring cannot be written.
        fs::rename(&path, &kept).unwrap();
        fs::create_dir(&path).unwrap();
        let replaced = files.replace(&ring, ring.rotated(at(1)).unwrap()).await;
        assert!(matches!(replaced, Err(KeyFilesError::File(_))));
        fs::remove_dir(&path).unwrap();
        fs::rename(&kept, &path).unwrap();
        assert_eq!(state(&files).await, (KeyFileState::Fits, 2));
        // The new ring is written, but is not the only recorded fingerprint yet.
        let next = ring.rotated(at(2)).unwrap();
        let mark = KeyMark {
            fingerprints: vec![ring.fingerprint().unwrap(), next.fingerprint()],
            since: at(0),
        };
        let marks = KeyMarks::from([(KeyFile::Signing, mark)]);
        files.put(marks, None).await.unwrap();
        fs::copy(&path, &kept).unwrap();
        ring.put(next).unwrap();
        assert_eq!(state(&files).await, (KeyFileState::Fits, 2));
        files.settle(at(3)).await.unwrap();
        assert_eq!(state(&files).await, (KeyFileState::Fits, 1));
        assert_eq!(files.made().await.unwrap(), Some(at(0)));
        files
            .replace(&ring, ring.rotated(at(4)).unwrap())
            .await
            .unwrap();
        assert_eq!(state(&files).await, (KeyFileState::Fits, 1));
        // A ring that was rotated away is not accepted again.
        fs::rename(&kept, &path).unwrap();
        assert_eq!(state(&files).await, (KeyFileState::Altered, 1));
        assert!(files.admit(true).await.is_err());
    }

    #[tokio::test]
    async fn the_file_that_is_there_stays_known_however_many_renewals_are_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(dir.path(), Arc::default()).unwrap());
        let files = KeyFiles::new(store, dir.path());
        files::make_private(files.dir()).unwrap();
        let path = files.dir().join("signing.json");
        key_file::write(&path, b"first").unwrap();
        files.settle(at(0)).await.unwrap();
        // Nothing can be moved aside where a file has the directory's name.
        let aside = dir.path().join("aside");
        fs::write(&aside, "").unwrap();
        for number in 1..=20_u8 {
            let bytes = [number];
            let renewed = files.renew(KeyFile::Signing, &bytes, (&aside, at(1))).await;
            assert!(matches!(renewed, Err(KeyFilesError::Aside { .. })));
            assert_eq!(state(&files).await.0, KeyFileState::Fits, "{number}");
            if number == 10 {
                // This one replaced the file and was interrupted afterwards.
                key_file::write(&path, &[number]).unwrap();
            }
        }
        fs::remove_file(&aside).unwrap();
        let renewed = files
            .renew(KeyFile::Signing, b"last", (&aside, at(2)))
            .await;
        let kept = renewed.unwrap().unwrap();
        assert_eq!(fs::read(kept).unwrap(), [10]);
        assert_eq!(fs::read(&path).unwrap(), b"last");
        assert_eq!(state(&files).await, (KeyFileState::Fits, 1));
    }

    #[test]
    fn a_file_that_is_missing_was_lost_or_never_there() {
        let dir = tempfile::tempdir().unwrap();
        let states = |marks: &KeyMarks, has_accounts| {
            let findings = look(dir.path(), marks, has_accounts).into_iter();
            findings.map(|it| it.state).collect::<Vec<_>>()
        };
        let none = KeyMarks::new();
        assert_eq!(states(&none, false), vec![KeyFileState::NotMade; 6]);
        assert_eq!(states(&none, true), vec![KeyFileState::Missing; 6]);
        // A kind of key file introduced by a newer gateway.
        let mark = KeyMark {
            fingerprints: Vec::new(),
            since: at(0),
        };
        let of_older = KeyMarks::from([(KeyFile::ApiKey, mark)]);
        let states = states(&of_older, true);
        assert_eq!(states[0], KeyFileState::Missing);
        assert_eq!(states[1..], vec![KeyFileState::NotMade; 5]);
    }
}
