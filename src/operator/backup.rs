//! Backups made now and then, and what an operator asks of the store as a whole.
//!
//! Reading and writing whole stores blocks, so it runs on threads of its own; a backup that fails is told, and harms
//! nobody.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::config::{Config, StoreEngine};
use crate::model::clock::{Clock, SystemClock};
use crate::operator::command::{ask, command, command_level};
use crate::operator::control::{Command, Reply, StoreCommand, Touch};
use crate::operator::{AppError, place};
use crate::process::{OpenOutput, load, start};
use crate::snapshot::Services;
use crate::store::backup::{self, BackupError, Backups, Contents, KeyFileFate, Made, Restored};
use crate::store::error::StoreError;
use crate::store::key_files::{self, KeyFinding};
use crate::store::sled::{self, Findings};
use crate::telemetry::audit::{self, AuditAction, AuditEvent};
use crate::telemetry::log::with_causes;
use crate::telemetry::output::AuditOutput;

/// The first backup of a store that has none is made this long after the start, or sooner if they come more often.
const FIRST_AFTER: Duration = Duration::from_mins(1);
/// How long after one that failed the next is tried.
const RETRY_AFTER: Duration = Duration::from_mins(10);

/// Makes a backup now and then until it is dropped.
pub(crate) async fn keep_on(services: Services, every: Duration) {
    let Some(backups) = services.backups.clone() else {
        return;
    };
    let newest = backups.newest(services.clock.now());
    let mut pause = every.min(FIRST_AFTER);
    if let Some(newest) = newest {
        services.metrics.backup_made(newest);
        pause = every.saturating_sub(services.clock.now().since(newest));
    }
    loop {
        tokio::time::sleep(pause).await;
        pause = match make(&backups, &services, None).await {
            Ok(made) => {
                tracing::info!(
                    path = %made.path.display(),
                    records = made.contents.records,
                    bytes = made.bytes,
                    "backup made and read back"
                );
                if made.later != 0 {
                    tracing::warn!(
                        later = made.later,
                        "backups have names later than now: they are not counted and not removed until then"
                    );
                }
                every
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "no backup could be made"
                );
                every.min(RETRY_AFTER)
            }
        };
    }
}

/// Makes one, in its own place or in another, on a thread of its own.
async fn make(
    backups: &Arc<Backups>,
    services: &Services,
    to: Option<PathBuf>,
) -> Result<Made, BackupError> {
    let is_own = to.is_none();
    let now = services.clock.now();
    let made = blocking(backups, move |backups| match to {
        None => backups.make(now),
        Some(to) => backups.make_at(&to, now),
    })
    .await;
    match &made {
        Ok(made) if is_own => services.metrics.backup_made(made.contents.as_of),
        Err(_) if is_own => services.metrics.backup_failed(),
        // Elsewhere it is the operator's own affair.
        Ok(_) | Err(_) => {}
    }
    made
}

/// The socket serves one command at a time, and one is made now and then: so there are two of these threads at most, or
/// some more where a command was given up.
async fn blocking<T: Send + 'static>(
    backups: &Arc<Backups>,
    act: impl FnOnce(&Backups) -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let backups = Arc::clone(backups);
    let (caller, answer) = oneshot::channel();
    let thread = thread::Builder::new().name("store-backup".to_owned());
    let started = thread.spawn(move || {
        // A caller who went away wants no answer.
        drop(caller.send(act(&backups)));
    });
    started.map_err(BackupError::Thread)?;
    let ended = answer.await;
    ended.unwrap_or(Err(BackupError::Store(StoreError::Busy)))
}

/// Carries out what needs the process that has the store.
pub(crate) async fn execute(command: StoreCommand, services: &Services) -> Reply {
    let Some(backups) = &services.backups else {
        return Reply::Refused(
            "the records are in memory: they are gone with the gateway".to_owned(),
        );
    };
    let ended = match command {
        StoreCommand::Backup { to } => make(backups, services, to).await.map(|it| told_made(&it)),
        StoreCommand::Copy => {
            let now = services.clock.now();
            let name = blocking(backups, move |backups| backups.make_passing(now)).await;
            name.map(Value::String)
        }
        StoreCommand::Check => match check_here(backups, services).await {
            Ok(findings) => return found(&findings, json!({})),
            Err(error) => Err(error),
        },
    };
    match ended {
        Ok(value) => Reply::Done(value),
        Err(error @ (BackupError::Exists { .. } | BackupError::Owner { .. })) => {
            Reply::Refused(with_causes(&error))
        }
        Err(error) => Reply::Failed(with_causes(&error)),
    }
}

/// Looks at every record of the open store, and at the key files.
async fn check_here(backups: &Arc<Backups>, services: &Services) -> Result<Findings, BackupError> {
    let mut findings = blocking(backups, Backups::check).await?;
    if let Some(files) = &services.key_files {
        let looked = files.look().await?;
        add_key_files(&mut findings, &looked);
    }
    Ok(findings)
}

/// Tells what is wrong with the key files.
fn add_key_files(findings: &mut Findings, looked: &[KeyFinding]) {
    for problem in looked.iter().filter_map(KeyFinding::problem) {
        findings.add(problem);
    }
}

fn told_made(made: &Made) -> Value {
    let mut told = json!({ "file": made.path, "bytes": made.bytes });
    put_contents(&mut told, &made.contents);
    if !made.removed.is_empty() {
        put(&mut told, "removed", json!(made.removed));
    }
    if made.later != 0 {
        put(&mut told, "later_than_now", json!(made.later));
    }
    told
}

fn put_contents(told: &mut Value, contents: &Contents) {
    put(told, "as_of", json!(contents.as_of.to_rfc3339()));
    put(told, "records", json!(contents.records));
    put(told, "key_files", json!(contents.key_files.join(" ")));
}

fn put(told: &mut Value, name: &str, value: Value) {
    if let Some(fields) = told.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

fn found(findings: &Findings, mut told: Value) -> Reply {
    if findings.problems.is_empty() {
        put(&mut told, "records", json!(findings.records));
        put(&mut told, "problems", json!(0));
        return Reply::Done(told);
    }
    let mut lines = findings.problems.clone();
    if findings.more != 0 {
        lines.push(format!("and {} more", findings.more));
    }
    Reply::Failed(format!(
        "{} records were read, and not all is well:\n{}",
        findings.records,
        lines.join("\n")
    ))
}

/// Looks at every record of a backup, or of the store: through the gateway that has it, or on a copy where none runs.
///
/// # Errors
/// [`AppError`] when neither is possible; what is wrong with the records is a [`Reply`].
pub fn check(path: &Path, file: Option<&Path>) -> Result<Reply, AppError> {
    if let Some(file) = file {
        let (contents, findings) = backup::check(file)?;
        let mut told = json!({});
        put_contents(&mut told, &contents);
        return Ok(found(&findings, told));
    }
    let config = records_at_rest(path)?;
    let dir = config.store.path.as_path();
    let checked = place::as_owner(dir, || {
        if let Some(reply) = ask(&config, &Command::Store(StoreCommand::Check))? {
            return Ok(reply);
        }
        place::records(&config, Touch::Reads)?;
        let mut findings = sled::check(dir).map_err(BackupError::Store)?;
        let has_accounts = findings.accounts != 0;
        let looked = key_files::look(&dir.join("keys"), &findings.key_marks, has_accounts);
        add_key_files(&mut findings, &looked);
        Ok(found(&findings, json!({})))
    });
    checked?.map_err(|error| place::whose(error, dir))
}

/// Brings a backup back where no gateway runs.
///
/// # Errors
/// [`AppError`]; then the store is as it was, or refuses to start until this has been done again.
pub fn restore(path: &Path, file: &Path, tell: fn(&str)) -> Result<Reply, AppError> {
    let config = records_at_rest(path)?;
    let dir = config.store.path.as_path();
    place::check(&config.store)?;
    let other = place::other_owner(dir);
    let other = other.map_or_else(String::new, |owner| format!(", as {owner}"));
    let shown = dir.display();
    tell(&format!("store {shown}: restoring into it{other}"));
    let restored = place::as_owner(dir, || restore_here(&config, file));
    let restored = restored?.map_err(|error| place::whose(error, dir))?;
    if matches!(restored, Reply::Done(_)) {
        tell(&format!("store {shown}: restored"));
    }
    Ok(restored)
}

fn restore_here(config: &Config, file: &Path) -> Result<Reply, AppError> {
    let output = OpenOutput::start(command_level(&config.log.level), AuditOutput::Stderr)?;
    output.0.require_audit(config.audit.required);
    let event = |outcome| AuditEvent {
        action: AuditAction::RestoreStore,
        outcome,
        actor: Some("cli"),
        subject: None,
        from: None,
        request_id: None,
        object: None,
    };
    let begun = event(audit::BEGUN);
    start(&mut Builder::new_current_thread())?.block_on(audit::begin(&output.0, &begun))?;
    let restored = backup::restore(&config.store.path, file, SystemClock::new().now());
    audit::record(&event(if restored.is_ok() { "ok" } else { "failed" }));
    match restored {
        Ok(restored) => Ok(Reply::Done(told_restored(&restored))),
        Err(BackupError::Store(error @ StoreError::Locked { .. })) => Ok(Reply::Refused(format!(
            "{error}: stop it first, the backup takes the store's place"
        ))),
        Err(error) => Err(error.into()),
    }
}

fn told_restored(restored: &Restored) -> Value {
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
    let kept = restored.kept.as_ref().map_or_else(
        || "nothing was there before".to_owned(),
        |kept| kept.display().to_string(),
    );
    json!({
        "kept_aside": kept,
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

/// Writes all records down as JSON lines, without secrets: those of a backup, or of the store as it is now. Into a new
/// file of mode 0600, or onto `out`. Gives how many lines there are after the first.
///
/// # Errors
/// [`AppError`]; then there is no file.
pub fn export(
    path: &Path,
    file: Option<&Path>,
    to: Option<&Path>,
    out: &mut dyn Write,
) -> Result<u64, AppError> {
    let (source, is_passing) = if let Some(file) = file {
        (file.to_owned(), None)
    } else {
        let (source, was_there) = copy(path)?;
        (source, Some(was_there))
    };
    let written = match to {
        None => backup::export(&source, out),
        Some(to) => backup::export_to(&source, to),
    };
    if let Some(was_there) = is_passing {
        // The next backup would take it away too, an hour later.
        let _ = fs::remove_file(&source);
        if let Some(dir) = source.parent().filter(|_| !was_there) {
            let _ = fs::remove_dir(dir);
        }
    }
    Ok(written?)
}

/// Has the store copied to a file that is read once; whether its directory was there already.
fn copy(path: &Path) -> Result<(PathBuf, bool), AppError> {
    let config = records_at_rest(path)?;
    let place = |name: &str| backup::passing(&config.store.path, name);
    let was_there = place("").exists();
    match command(path, Command::Store(StoreCommand::Copy), |_| {})? {
        Reply::Done(Value::String(name)) => Ok((place(&name), was_there)),
        Reply::Refused(why) | Reply::Failed(why) => Err(AppError::Refused(why)),
        Reply::Done(_) | Reply::Explained(_) => Err(AppError::Refused(
            "the gateway answered another question".to_owned(),
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
