//! The store and its backups as files, which the command itself checks, restores and exports.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokio::runtime::Builder;

use crate::config::{Config, StoreEngine};
use crate::model::clock::{Clock, SystemClock};
use crate::operator::backup::{add_key_files, checked, shown_contents};
use crate::operator::command::{ask, command};
use crate::operator::control::{Command, Reply, StoreCommand, Touch};
use crate::operator::key_files::kept_aside;
use crate::operator::{AppError, place};
use crate::process::{OpenOutput, load, start};
use crate::store::backup::{self, BackupError, KeyFileFate, Restored};
use crate::store::error::StoreError;
use crate::store::key_files;
use crate::store::sled::check as check_records;
use crate::telemetry::audit::{self, AuditAction, AuditEvent};

/// Checks every record of a backup, or of the store: through the gateway that has the store open, or directly if none
/// runs.
///
/// # Errors
/// [`AppError`] if neither is possible; problems of the records are a [`Reply`].
pub fn check(path: &Path, file: Option<&Path>) -> Result<Reply, AppError> {
    if let Some(file) = file {
        let (contents, findings) = backup::check(file)?;
        return Ok(checked(&findings, shown_contents(&contents)));
    }
    let config = records_at_rest(path)?;
    let dir = config.store.path.as_path();
    let checked = place::as_owner(dir, || {
        if let Some(reply) = ask(&config, &Command::Store(StoreCommand::Check))? {
            return Ok(reply);
        }
        place::records(&config, Touch::Reads)?;
        let mut findings = check_records(dir).map_err(BackupError::Store)?;
        let has_accounts = findings.accounts != 0;
        let looked = key_files::look(&dir.join("keys"), &findings.key_marks, has_accounts);
        add_key_files(&mut findings, &looked);
        Ok(checked(&findings, Map::new()))
    });
    checked?.map_err(|error| place::whose(error, dir))
}

/// Restores a backup where no gateway runs.
///
/// # Errors
/// [`AppError`]; the store is then unchanged, or refuses to start until the restore is repeated.
pub fn restore(path: &Path, file: &Path, note: fn(&str)) -> Result<Reply, AppError> {
    let config = records_at_rest(path)?;
    let dir = config.store.path.as_path();
    place::check(&config.store)?;
    let (shown, other) = (dir.display(), place::as_other(dir));
    note(&format!("store {shown}: restoring into it{other}"));
    let restored = place::as_owner(dir, || restore_here(&config, file));
    let restored = restored?.map_err(|error| place::whose(error, dir))?;
    if matches!(restored, Reply::Done(_)) {
        note(&format!("store {shown}: restored"));
    }
    Ok(restored)
}

fn restore_here(config: &Config, file: &Path) -> Result<Reply, AppError> {
    let output = OpenOutput::for_command(config)?;
    output.0.require_audit(config.audit.required);
    let event = |outcome| AuditEvent::by_process("cli", AuditAction::RestoreStore, outcome);
    let begun = event(audit::BEGUN);
    start(&mut Builder::new_current_thread())?.block_on(audit::begin(&output.0, &begun))?;
    let restored = backup::restore(&config.store.path, file, SystemClock::new().now());
    audit::record(&event(if restored.is_ok() { "ok" } else { "failed" }));
    match restored {
        Ok(restored) => Ok(Reply::Done(shown(&restored))),
        Err(BackupError::Store(error @ StoreError::Locked { .. })) => Ok(Reply::Refused(format!(
            "{error}: stop it first, because the backup replaces the store"
        ))),
        Err(error) => Err(error.into()),
    }
}

fn shown(restored: &Restored) -> Value {
    let contents = &restored.contents;
    let files = restored.key_files.iter().map(|(name, fate)| {
        let fate = match fate {
            KeyFileFate::Same => "same",
            KeyFileFate::Restored => "restored",
            KeyFileFate::Replaced => "replaced",
            KeyFileFate::Kept => "kept",
        };
        format!("{name} ({fate})")
    });
    json!({
        "kept_aside": kept_aside(restored.kept.as_deref()),
        "missing_from": contents.as_of.to_rfc3339(),
        "missing_to": restored.at.to_rfc3339(),
        "missing_writes": restored.writes_missing,
        "accounts": restored.accounts,
        "sessions_ended": restored.sessions_ended,
        "tokens_voided": restored.tokens_voided,
        "mails_dropped": restored.mails_dropped,
        "apikeys_suspended": restored.keys_suspended,
        "key_files": files.collect::<Vec<_>>().join(", "),
    })
}

/// Writes all records as JSON lines, without secrets: those of a backup, or of the current store. Writes to a new file
/// of mode 0600, or to `out`. Returns the number of lines after the first.
///
/// # Errors
/// [`AppError`]; no file is left then.
pub fn export(
    path: &Path,
    file: Option<&Path>,
    to: Option<&Path>,
    out: &mut dyn Write,
) -> Result<u64, AppError> {
    let (source, is_passing) = match file {
        Some(file) => (file.to_owned(), None),
        None => copy(path).map(|(source, was_there)| (source, Some(was_there)))?,
    };
    let written = match to {
        None => backup::export(&source, out),
        Some(to) => backup::export_to(&source, to),
    };
    if let Some(was_there) = is_passing {
        // The next backup would remove it too, but only an hour later.
        let _ = fs::remove_file(&source);
        if let Some(dir) = source.parent().filter(|_| !was_there) {
            let _ = fs::remove_dir(dir);
        }
    }
    Ok(written?)
}

/// Has the store copied to a temporary file; returns its path, and whether its directory existed before.
fn copy(path: &Path) -> Result<(PathBuf, bool), AppError> {
    let config = records_at_rest(path)?;
    let place = |name: &str| backup::passing(&config.store.path, name);
    let was_there = place("").exists();
    match command(path, Command::Store(StoreCommand::Copy), |_| {})? {
        Reply::Done(Value::String(name)) => Ok((place(&name), was_there)),
        Reply::Refused(why) | Reply::Failed(why) => Err(AppError::Refused(why)),
        Reply::Done(_) | Reply::Explained(_) => Err(AppError::Refused(
            "the gateway sent an answer of the wrong kind; is it of another version?".to_owned(),
        )),
    }
}

fn records_at_rest(path: &Path) -> Result<Config, AppError> {
    let (config, _) = load(path)?;
    match config.store.engine {
        StoreEngine::Sled => Ok(config),
        StoreEngine::Memory => Err(AppError::NoRecords),
    }
}
