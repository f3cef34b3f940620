//! The key files for the operator: listing, rotation, renewal.
//!
//! The gateway refuses to start if a key file is lost, so listing and renewal open the store directly, without the
//! checks of a start.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::auth::assertion;
use crate::config::Config;
use crate::crypto::key_file;
use crate::crypto::ring::{KeyInfo, Signed};
use crate::crypto::signing::{NextRing, SigningKeys};
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::key_file::KeyFile;
use crate::operator::control::{Command, KeysCommand, Reply};
use crate::operator::{AppError, place};
use crate::process::OpenOutput;
use crate::snapshot::services::{OpenError, make_for_us_alone, open_sled};
use crate::snapshot::{Services, Snapshot};
use crate::store::backup::stamp;
use crate::store::key_files::{KeyFileState, KeyFiles, KeyFilesError, KeyFinding};
use crate::telemetry::audit::{self, AuditAction, AuditEvent};
use crate::telemetry::log::with_causes;
use crate::telemetry::output::Output;

/// A key ring and its keys.
type ListedKeys = (Signed, Vec<KeyInfo>);

/// Carries out a command in the process that uses the keys.
pub(crate) async fn execute(command: &KeysCommand, snapshot: &Snapshot) -> Reply {
    let services = &snapshot.services;
    let ended = match command {
        KeysCommand::List => list(services).await,
        KeysCommand::Rotate => rotate(services).await,
        KeysCommand::Renew { file, .. } => {
            return Reply::Refused(format!(
                "a gateway is running on this store and uses {}: stop it first",
                file.name()
            ));
        }
    };
    ended.map_or_else(Reply::Failed, Reply::Done)
}

async fn list(services: &Services) -> Result<Value, String> {
    let findings = match &services.key_files {
        Some(files) => Some(files.look().await.map_err(|error| with_causes(&error))?),
        None => None,
    };
    let rings = [&services.signing, &services.assertion_keys];
    let rings = rings.map(|ring| (ring.signed, ring.list()));
    Ok(rows(findings, &rings))
}

/// Rotates each ring, so that its next key signs, and lists the keys.
async fn rotate(services: &Services) -> Result<Value, String> {
    let event = |outcome| AuditEvent::by_process("cli", AuditAction::RotateKeys, outcome);
    audit::begin(&services.output, &event(audit::BEGUN))
        .await
        .map_err(|error| error.to_string())?;
    for ring in [&services.signing, &services.assertion_keys] {
        let rotated = rotate_ring(ring, services).await;
        rotated.map_err(|error| with_causes(&error))?;
    }
    tracing::info!("signing keys rotated");
    audit::record(&event("ok"));
    list(services).await
}

async fn rotate_ring(ring: &SigningKeys, services: &Services) -> Result<(), KeyFilesError> {
    let next = ring.rotated(services.clock.now())?;
    match &services.key_files {
        Some(files) => files.replace(ring, next).await,
        None => Ok(ring.put(next)?),
    }
}

/// Returns one row for each key file, with the keys of its ring, if it has one. Without findings all keys are in
/// memory.
fn rows(findings: Option<Vec<KeyFinding>>, rings: &[ListedKeys]) -> Value {
    let findings = findings.unwrap_or_default();
    let row_of = |file: KeyFile| {
        let finding = findings.iter().find(|finding| finding.file == file);
        let state = finding.map_or("in_memory", |finding| finding.state.as_str());
        let since = finding.and_then(|finding| finding.since);
        let mut row = json!({
            "file": file.name(),
            "state": state,
            "since": since.map(Timestamp::to_rfc3339),
            "for": file.protects(),
            "problem": finding.and_then(KeyFinding::problem),
        });
        let ring = rings.iter().find(|(signed, _)| signed.file() == file);
        if let (Some(fields), Some((signed, keys))) = (row.as_object_mut(), ring) {
            let keys = keys.iter().map(|key| shown(*signed, key)).collect();
            fields.insert("keys".to_owned(), keys);
        }
        row
    };
    KeyFile::ALL.into_iter().map(row_of).collect()
}

fn shown(signed: Signed, key: &KeyInfo) -> Value {
    let signs = match signed {
        Signed::AccessToken => "access_token",
        Signed::Assertion => "assertion",
    };
    json!({
        "signs": signs,
        "kid": key.kid,
        "algorithm": key.algorithm,
        "state": key.state,
        "created": key.created.to_rfc3339(),
        "retires": key.retires.map(Timestamp::to_rfc3339),
    })
}

/// Carries out a command if no gateway runs; `None`: the command needs the checks of a start, or is not about key
/// files.
///
/// # Errors
/// [`AppError`] if the store is missing or cannot be used.
pub(crate) async fn here(config: &Config, command: &Command) -> Result<Option<Reply>, AppError> {
    let Command::Keys(keys) = command else {
        return Ok(None);
    };
    if matches!(keys, KeysCommand::Rotate) {
        return Ok(None);
    }
    place::records(config, command.touch())?;
    let output = OpenOutput::for_command(config)?;
    make_for_us_alone();
    let store = open_sled(config)?;
    let files = KeyFiles::new(store, &config.store.path);
    let findings = files.look().await.map_err(failed)?;
    let reply = match keys {
        KeysCommand::Renew { file, yes, force } => {
            let finding = findings.iter().find(|finding| finding.file == *file);
            match finding.and_then(|finding| refusal(finding, *yes, *force)) {
                Some(why) => Reply::Refused(why),
                None => Reply::Done(renew(config, &files, *file, &output.0).await?),
            }
        }
        KeysCommand::List | KeysCommand::Rotate => {
            let rings = rings_at_rest(&files, &findings);
            Reply::Done(rows(Some(findings), &rings))
        }
    };
    Ok(Some(reply))
}

fn failed(error: impl Into<KeyFilesError>) -> AppError {
    OpenError::from(error.into()).into()
}

/// Returns the rings of the key files that can be read.
fn rings_at_rest(files: &KeyFiles, findings: &[KeyFinding]) -> Vec<ListedKeys> {
    let kinds = [Signed::AccessToken, Signed::Assertion].into_iter();
    let kinds = kinds.filter(|signed| {
        let finding = findings.iter().find(|it| it.file == signed.file());
        // Missing files are skipped, since listing creates nothing.
        finding.is_some_and(|it| !matches!(it.state, KeyFileState::Missing | KeyFileState::NotMade))
    });
    let read = |signed| {
        let ring = SigningKeys::read(Some(files.dir()), signed, std::time::Duration::ZERO);
        Some((signed, ring.ok()?.list()))
    };
    kinds.filter_map(read).collect()
}

/// Returns the reason why a key file is not renewed; `None`: it may be.
fn refusal(finding: &KeyFinding, yes: bool, force: bool) -> Option<String> {
    let (name, voids) = (finding.file.name(), finding.file.voids());
    let forced = format!("`--force --yes` replaces it anyway, which voids {voids}");
    let why = match &finding.state {
        KeyFileState::Fits if !force => {
            format!(
                "{name} is the file that the records were written with, so nothing needs to be replaced: {forced}"
            )
        }
        KeyFileState::Unknown if !force => {
            format!("{name} exists, and the next start will accept it: {forced}")
        }
        KeyFileState::NotMade => format!("{name} was never created: `doorward serve` creates it"),
        _ if !yes => {
            let problem = finding
                .problem()
                .unwrap_or_else(|| format!("key file {name}"));
            format!("{problem}. Replacing it voids {voids}. Run this again with `--yes` to do so")
        }
        _ => return None,
    };
    Some(why)
}

/// Replaces a key file by a new one.
async fn renew(
    config: &Config,
    files: &KeyFiles,
    file: KeyFile,
    output: &Arc<Output>,
) -> Result<Value, AppError> {
    let now = SystemClock::new().now();
    let fresh = |signed, algorithm| NextRing::fresh(signed, algorithm, now).map(|ring| ring.text);
    let bytes = match file {
        KeyFile::Signing => fresh(Signed::AccessToken, config.tokens.algorithm).map_err(failed)?,
        KeyFile::Assertion => fresh(Signed::Assertion, assertion::ALGORITHM).map_err(failed)?,
        KeyFile::ApiKey | KeyFile::Count | KeyFile::Mail | KeyFile::Refresh => key_file::draw(),
    };
    output.require_audit(config.audit.required);
    let event = |outcome| AuditEvent {
        object: Some(file.name()),
        ..AuditEvent::by_process("cli", AuditAction::RenewKeyFile, outcome)
    };
    audit::begin(output, &event(audit::BEGUN)).await?;
    let aside = config
        .store
        .path
        .join(format!("before-renew-{}", stamp(now)));
    let renewed = files.renew(file, &bytes, (&aside, now)).await;
    audit::record(&event(if renewed.is_ok() { "ok" } else { "failed" }));
    let kept = kept_aside(renewed.map_err(failed)?.as_deref());
    Ok(json!({ "made_anew": file.name(), "void": file.voids(), "kept_aside": kept }))
}

/// Describes where the replaced files are.
pub(crate) fn kept_aside(kept: Option<&Path>) -> String {
    let shown = kept.map(|kept| kept.display().to_string());
    shown.unwrap_or_else(|| "nothing; there was no file to replace".to_owned())
}
