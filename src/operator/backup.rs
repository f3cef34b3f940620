//! Periodic backups, and commands about the whole store, carried out by the process that has it open.
//!
//! Reading and writing a whole store blocks, so it runs on separate threads. A failed backup is reported and has no
//! other effect.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::operator::control::{Reply, StoreCommand};
use crate::snapshot::Services;
use crate::store::backup::{BackupContents, BackupError, Backups, FinishedBackup};
use crate::store::error::StoreError;
use crate::store::key_files::KeyFinding;
use crate::store::sled::Findings;
use crate::telemetry::log::with_causes;

/// Delay after the start until the first backup of a store that has none; less if the backup interval is shorter.
const FIRST_AFTER: Duration = Duration::from_mins(1);
/// Delay after a failed backup until the next attempt.
const RETRY_AFTER: Duration = Duration::from_mins(10);

/// Makes periodic backups until the future is dropped.
pub(crate) async fn keep_on(services: Arc<Services>, every: Duration) {
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
                        "backups have names with a time in the future: until then they are neither counted nor removed"
                    );
                }
                every
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the backup failed"
                );
                every.min(RETRY_AFTER)
            }
        };
    }
}

/// Makes one backup, in the default place or in another, on a separate thread.
async fn make(
    backups: &Arc<Backups>,
    services: &Services,
    to: Option<PathBuf>,
) -> Result<FinishedBackup, BackupError> {
    let is_own = to.is_none();
    let now = services.clock.now();
    let made = blocking(backups, move |backups| match to {
        None => backups.make(now),
        Some(to) => backups.make_at(&to, now),
    })
    .await;
    match &made {
        Ok(made) if is_own => services.metrics.backup_made(made.contents.as_of),
        Err(_) if is_own => {
            services.metrics.backup_errors.inc();
        }
        // Metrics cover only the backups in the default place.
        Ok(_) | Err(_) => {}
    }
    made
}

/// Runs `act` on a new thread. There are at most two of these threads, since the socket serves one long command at a
/// time and there is one periodic backup; a few more if a command timed out.
async fn blocking<T: Send + 'static>(
    backups: &Arc<Backups>,
    act: impl FnOnce(&Backups) -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let backups = Arc::clone(backups);
    let (caller, answer) = oneshot::channel();
    let thread = thread::Builder::new().name("store-backup".to_owned());
    let started = thread.spawn(move || {
        // A caller that has gone needs no answer.
        drop(caller.send(act(&backups)));
    });
    started.map_err(BackupError::Thread)?;
    let ended = answer.await;
    ended.unwrap_or(Err(BackupError::Store(StoreError::Busy)))
}

/// Carries out a command that needs the process that has the store open.
pub(crate) async fn execute(command: StoreCommand, services: &Services) -> Reply {
    let Some(backups) = &services.backups else {
        return Reply::Refused(
            "the records are only in memory and are lost when the gateway ends: there is nothing to back up".to_owned(),
        );
    };
    let ended = match command {
        StoreCommand::Backup { to } => make(backups, services, to).await.map(|it| shown(&it)),
        StoreCommand::Copy => {
            let now = services.clock.now();
            let name = blocking(backups, move |backups| backups.make_passing(now)).await;
            name.map(Value::String)
        }
        StoreCommand::Check => match check_here(backups, services).await {
            Ok(findings) => return checked(&findings, Map::new()),
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

/// Checks every record of the open store, and the key files.
async fn check_here(backups: &Arc<Backups>, services: &Services) -> Result<Findings, BackupError> {
    let mut findings = blocking(backups, Backups::check).await?;
    if let Some(files) = &services.key_files {
        let looked = files.look().await?;
        add_key_files(&mut findings, &looked);
    }
    Ok(findings)
}

/// Adds the problems of the key files to the findings.
pub(crate) fn add_key_files(findings: &mut Findings, looked: &[KeyFinding]) {
    for problem in looked.iter().filter_map(KeyFinding::problem) {
        findings.add(problem);
    }
}

fn shown(made: &FinishedBackup) -> Value {
    let mut shown = shown_contents(&made.contents);
    shown.insert("file".to_owned(), json!(made.path));
    shown.insert("bytes".to_owned(), made.bytes.into());
    if !made.removed.is_empty() {
        shown.insert("removed".to_owned(), json!(made.removed));
    }
    if made.later != 0 {
        shown.insert("later_than_now".to_owned(), made.later.into());
    }
    shown.into()
}

pub(crate) fn shown_contents(contents: &BackupContents) -> Map<String, Value> {
    Map::from_iter([
        ("as_of".to_owned(), contents.as_of.to_rfc3339().into()),
        ("records".to_owned(), contents.records.into()),
        ("key_files".to_owned(), contents.key_files.join(" ").into()),
    ])
}

/// Returns the reply about records that were checked; `shown`: what is known about them already.
pub(crate) fn checked(findings: &Findings, mut shown: Map<String, Value>) -> Reply {
    if findings.problems.is_empty() {
        shown.insert("records".to_owned(), findings.records.into());
        shown.insert("problems".to_owned(), 0.into());
        return Reply::Done(shown.into());
    }
    let mut lines = findings.problems.clone();
    if findings.more != 0 {
        lines.push(format!("and {} more", findings.more));
    }
    Reply::Failed(format!(
        "{} records were read, with problems:\n{}",
        findings.records,
        lines.join("\n")
    ))
}
