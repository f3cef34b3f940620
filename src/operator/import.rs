//! Imports by the operator: passing the export to the process that has the store open, and recovery after a crash.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::account::call::Call;
use crate::account::import::{self, FinishedImport, ImportError, ImportReport};
use crate::config::Config;
use crate::operator::AppError;
use crate::operator::control::{AccountCommand, Command, Export};
use crate::operator::refusal::CommandStop;
use crate::process::ProcessError;
use crate::snapshot::{Services, Snapshot};
use crate::store::error::StoreError;
use crate::store::sled::make_private;
use crate::telemetry::log::with_causes;

/// Directory below the store's that holds the lines of an export while they are imported.
const DIRECTORY: &str = "import";
/// Prefix of the names of copies made for the gateway.
const COPY: &str = "copy-";

fn directory(config: &Config) -> PathBuf {
    config.store.path.join(DIRECTORY)
}

fn copy(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{COPY}{number}"))
}

fn open(export: Option<Export>, dir: &Path) -> io::Result<File> {
    match export {
        None => Err(io::ErrorKind::NotFound.into()),
        Some(Export::Open(file)) => Ok(file),
        Some(Export::Copied(number)) => {
            let path = copy(dir, number);
            let file = File::open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

/// Copies the export of a command to where the gateway finds it, if a gateway runs. The gateway may run as another user
/// than the operator, and must not open a file by a name that it receives, so the copy goes to the store's directory,
/// to which both have access.
///
/// # Errors
/// [`AppError`] if the export cannot be copied.
pub(crate) fn hand_over(
    config: &Config,
    socket: &Path,
    command: &mut Command,
) -> Result<(), AppError> {
    let Command::Account(AccountCommand::Import { export, .. }) = command else {
        return Ok(());
    };
    let Some(Export::Open(file)) = export else {
        return Ok(());
    };
    if UnixStream::connect(socket).is_err() {
        return Ok(());
    }
    let (dir, number) = (directory(config), std::process::id());
    let path = copy(&dir, number);
    let copied = make_private(&dir).and_then(|()| {
        let options = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path);
        io::copy(file, &mut options?)
    });
    if let Err(source) = copied {
        let _ = fs::remove_file(&path);
        return Err(ProcessError::System {
            what: "copy the export to the store's directory",
            source,
        }
        .into());
    }
    *export = Some(Export::Copied(number));
    Ok(())
}

/// Removes the copy that this process made, if the gateway did not.
pub(crate) fn clear(store: &Path) {
    let _ = fs::remove_file(copy(&store.join(DIRECTORY), std::process::id()));
}

/// Carries out an import. It continues if the caller disconnects, since a partial import would remain until the next
/// start.
pub(crate) async fn execute(
    export: Option<Export>,
    skip_refused: bool,
    snapshot: &Snapshot,
) -> Result<Value, CommandStop> {
    let dir = directory(&snapshot.config);
    let importer = snapshot.accounts.importer();
    let import = tokio::spawn(async move {
        let lines = |source| ImportError::Lines {
            dir: dir.clone(),
            source,
        };
        let export = open(export, &dir).map_err(lines)?;
        let call = Call::cli();
        importer.run(&call, export, skip_refused, &dir).await
    });
    let failed = |error: &dyn std::error::Error| CommandStop::Failed(with_causes(error));
    match import.await.map_err(|error| failed(&error))? {
        Ok(report) => shown(&report, skip_refused),
        Err(error @ ImportError::UnderWay) => Err(CommandStop::Refused(error.to_string())),
        Err(error) => Err(failed(&error)),
    }
}

fn shown(report: &ImportReport, skip_refused: bool) -> Result<Value, CommandStop> {
    let lines = report.refused.iter();
    let mut lines: Vec<_> = lines
        .map(|line| format!("line {}: {}", line.line, line.reason))
        .collect();
    let count = report.refused_count;
    if lines.len() < count {
        lines.push(format!("and {} more", count - lines.len()));
    }
    if !skip_refused && count != 0 {
        let lines = lines.join("\n");
        let why = format!("nothing is imported: {count} lines are refused\n{lines}");
        return Err(CommandStop::Refused(why));
    }
    Ok(json!({
        "accounts": report.accounts,
        "api_keys": report.api_keys,
        "memberships": report.memberships,
        "refused": count,
        "refused_lines": lines,
    }))
}

/// Finishes an import that a crash interrupted, before it is visible to callers: writes the rest if the import was
/// committed, else removes what was staged. `stepped` is called after each step.
///
/// # Errors
/// [`StoreError`] if the store cannot be read or written.
pub(crate) async fn finish(
    services: &Services,
    config: &Config,
    stepped: impl FnMut(),
) -> Result<(), StoreError> {
    // Removes copies of exports whose commands have ended.
    let dir = directory(config);
    let own = copy(&dir, std::process::id());
    for file in fs::read_dir(&dir).into_iter().flatten().flatten() {
        if file.path() != own {
            let _ = fs::remove_file(file.path());
        }
    }
    let finished = import::finish(&*services.store, &services.output, stepped).await?;
    if finished != FinishedImport::default() {
        tracing::warn!(
            accounts = finished.written,
            taken_back = finished.taken_back,
            "an interrupted import was finished"
        );
    }
    Ok(())
}
