//! Restores a backup without reviving what has been revoked since.
//!
//! The result is built in a staging directory until it is complete and has been read back. Then it replaces the store
//! in steps. After each step a start finds the old store or the new one, or is refused: the census is replaced first,
//! and only the new database matches it. An interrupted restore is simply repeated.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::model::clock::Timestamp;
use crate::store::backup::file::{BackupItem, BackupReader};
use crate::store::backup::restored_keys::{KeyFileFate, RestoredKeys};
use crate::store::backup::{BackupContents, BackupError, io_error, look_through, stamp};
use crate::store::inspect::{self, InspectedRecord};
use crate::store::layout::{self, RecordKey};
use crate::store::sled::census::SIDE_FILE;
use crate::store::sled::{Census, files, open};
use crate::store::{Result, record};

/// The result of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Contents of the backup.
    pub contents: BackupContents,
    /// When it was restored: writes acknowledged between `contents.as_of` and this time are missing.
    pub at: Timestamp,
    /// Number of writes known to be missing; `None`: no census is left that would show it.
    pub writes_missing: Option<u64>,
    /// Where the previous store is kept; `None`: there was none.
    pub kept: Option<PathBuf>,
    /// Accounts restored.
    pub accounts: u64,
    /// Sessions ended.
    pub sessions_ended: u64,
    /// One-time tokens voided.
    pub tokens_voided: u64,
    /// Mails dropped unsent.
    pub mails_dropped: u64,
    /// API keys suspended.
    pub keys_suspended: u64,
    /// The fate of each key file.
    pub key_files: Vec<(String, KeyFileFate)>,
}

/// Restores a backup into the store's directory. Blocks.
///
/// Ends all sessions, voids all one-time tokens, empties the outbox, suspends every API key and advances every
/// account's generation. The previous store is kept beside the new one. No other process may have the directory open.
///
/// # Errors
/// [`BackupError`]; then nothing has changed, or a start is refused until the restore is repeated.
pub fn restore(dir: &Path, file: &Path, now: Timestamp) -> Result<Restored, BackupError> {
    // Finds every problem of the file before changing anything.
    let contents = look_through(file)?;
    if let Ok(metadata) = fs::metadata(dir)
        && metadata.uid() != geteuid().as_raw()
    {
        return Err(BackupError::Owner(dir.to_owned()));
    }
    files::make_private(dir).map_err(io_error("write", dir))?;
    let _lock = files::lock(dir)?;
    let side = Census::read_side(dir).map_err(io_error("read", dir))?;
    let side = side.and_then(|bytes| Census::decode(&bytes).ok());
    let acknowledged = side.map_or(0, |side| side.sequence);
    let sequence = acknowledged.max(contents.sequence).saturating_add(1);
    let mut restored = Restored {
        at: now,
        writes_missing: side.map(|side| side.sequence.saturating_sub(contents.sequence)),
        contents,
        ..Restored::default()
    };
    let stage = dir.join(files::RESTORE_STAGE);
    files::remove_all(&stage).map_err(io_error("remove", &stage))?;
    files::make_private(&stage).map_err(io_error("write", &stage))?;
    let (census, key_files) = build(dir, file, sequence, &mut restored)?;
    switch(dir, &census, key_files, &mut restored)?;
    files::remove_all(&stage).map_err(io_error("remove", &stage))?;
    Ok(restored)
}

/// Builds the database in the staging directory and reads it back.
fn build(
    dir: &Path,
    file: &Path,
    sequence: u64,
    restored: &mut Restored,
) -> Result<(Census, RestoredKeys), BackupError> {
    let place = dir.join(files::RESTORE_STAGE).join(files::DATABASE);
    let mut reader = BackupReader::open(file)?;
    let mut key_files = RestoredKeys::new(dir, restored.at);
    let census = open::build(dir, &place, sequence, || {
        loop {
            match reader.next()? {
                None => return key_files.next_mark(),
                Some(BackupItem::KeyFile(name, bytes)) => key_files.take(name, bytes)?,
                Some(BackupItem::Record(key, value)) => {
                    let is_mark = key.first() == Some(&layout::KEY_MARK);
                    if is_mark && key_files.remember(inspect::read(&key, &value)?) {
                        continue;
                    }
                    if let Some(value) = brought_back(&key, value, restored)? {
                        return Ok(Some((key, value)));
                    }
                }
            }
        }
    })?;
    let found = open::look_through(dir, &place)?;
    if found != census {
        return Err(BackupError::Lossy {
            expected: census.records,
            found: found.records,
        });
    }
    Ok((census, key_files))
}

/// Returns a record as restored; `None`: it is not restored.
fn brought_back(key: &[u8], value: Vec<u8>, restored: &mut Restored) -> Result<Option<Vec<u8>>> {
    if let Some(&(layout::SESSION_OF | layout::TOKEN_OF | layout::MAIL_DUE)) = key.first() {
        return Ok(None);
    }
    match inspect::read(key, &value)? {
        InspectedRecord::Session(_) => restored.sessions_ended += 1,
        InspectedRecord::Token(_) => restored.tokens_voided += 1,
        InspectedRecord::Mail(_) => restored.mails_dropped += 1,
        InspectedRecord::ApiKey(mut api_key) => {
            api_key.suspended = true;
            restored.keys_suspended += 1;
            return record::encode(&layout::api_key(api_key.id), &*api_key).map(Some);
        }
        // The next start completes or removes the staged people.
        InspectedRecord::Staged(mut piece) => {
            for api_key in &mut piece.keys {
                api_key.suspended = true;
            }
            if let Some(account) = &mut piece.account {
                account.generation = account.generation.saturating_add(1);
            }
            return record::encode(&RecordKey::whole(key.to_vec()), &*piece).map(Some);
        }
        InspectedRecord::Account(mut account) => {
            account.generation = account.generation.saturating_add(1);
            restored.accounts += 1;
            return record::encode(&layout::account(&account.uid), &*account).map(Some);
        }
        _ => return Ok(Some(value)),
    }
    Ok(None)
}

/// Moves the staged database to the store's place, and the previous one aside.
fn switch(
    dir: &Path,
    census: &Census,
    key_files: RestoredKeys,
    restored: &mut Restored,
) -> Result<(), BackupError> {
    let aside = dir.join(format!("before-restore-{}", stamp(restored.at)));
    let place = dir.join(files::DATABASE);
    let side = dir.join(SIDE_FILE);
    if place.exists() || side.exists() {
        files::make_private(&aside).map_err(io_error("write", &aside))?;
        restored.kept = Some(aside.clone());
        let kept = aside.join(SIDE_FILE);
        files::if_there(fs::copy(&side, &kept)).map_err(io_error("write", &kept))?;
    }
    // INVARIANT: from here on only the new database fits the census (a_restore_that_is_cut_short_is_done_again).
    census.write_side(dir)?;
    for file in key_files.files {
        file.put(dir, &aside)?;
        if file.fate == KeyFileFate::Replaced {
            restored.kept = Some(aside.clone());
        }
        restored.key_files.push((file.name, file.fate));
    }
    if place.exists() {
        let kept = aside.join(files::DATABASE);
        fs::rename(&place, &kept)
            .and_then(|()| files::sync_dir(&aside))
            .map_err(io_error("write", &kept))?;
    }
    fs::rename(dir.join(files::RESTORE_STAGE).join(files::DATABASE), &place)
        .and_then(|()| files::sync_dir(dir))
        .map_err(io_error("write", &place))
}
