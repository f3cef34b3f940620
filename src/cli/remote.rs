//! Commands that need the store: carried out by the gateway that has it, or here where none runs.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use crate::cli::args::{KeysTask, ListFormat};
use crate::cli::{output, secrets};
use crate::operator;
use crate::operator::control::{AccountCommand, Command, Export, KeysCommand, Reply};

pub(super) fn account(config: &Path, mut command: AccountCommand) -> anyhow::Result<ExitCode> {
    match &mut command {
        AccountCommand::Add {
            password_stdin: true,
            password,
            ..
        } => *password = Some(secrets::from_stdin("password")?),
        AccountCommand::SetPassword { password, .. } => {
            *password = secrets::from_stdin("password")?;
        }
        AccountCommand::Import { file, export, .. } => {
            let opened = File::open(&*file);
            *export =
                Some(Export::Open(opened.with_context(|| {
                    format!("cannot read {}", file.display())
                })?));
        }
        _ => {}
    }
    let mut value = carry_out(config, Command::Account(command))?;
    // An import names the lines that it has refused on standard error.
    for line in taken(&mut value, "refused_lines") {
        output::note(line.as_str().unwrap_or_default());
    }
    output::value(&value);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn keys(config: &Path, task: KeysTask) -> anyhow::Result<ExitCode> {
    let (command, format) = match task {
        KeysTask::List { format } => (KeysCommand::List, format),
        KeysTask::Other(command) => (command, ListFormat::Text),
    };
    let list = carry_out(config, Command::Keys(command))?;
    match format {
        ListFormat::Json => output::lines(&serde_json::to_string_pretty(&list)?),
        ListFormat::Text => output::value(&with_keys_apart(list)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries a command out and shows what it gave.
pub(super) fn show(config: &Path, command: Command) -> anyhow::Result<ExitCode> {
    output::value(&carry_out(config, command)?);
    Ok(ExitCode::SUCCESS)
}

/// Shows what a command gave.
pub(super) fn show_reply(reply: Reply) -> anyhow::Result<ExitCode> {
    output::value(&done(reply)?);
    Ok(ExitCode::SUCCESS)
}

/// Carries a command out and returns its value.
fn carry_out(config: &Path, command: Command) -> anyhow::Result<Value> {
    done(operator::command(config, command, output::note)?)
}

/// The value of a command that was carried out.
fn done(reply: Reply) -> anyhow::Result<Value> {
    match reply {
        Reply::Done(value) => Ok(value),
        Reply::Explained(_) => Ok(Value::Null),
        Reply::Refused(why) | Reply::Failed(why) => anyhow::bail!(why),
    }
}

/// Key files as lines: the keys of a ring follow the line of their file.
fn with_keys_apart(list: Value) -> Value {
    let Value::Array(mut rows) = list else {
        return list;
    };
    let apart = rows.iter_mut().flat_map(|row| {
        let keys = taken(row, "keys");
        std::iter::once(row.take()).chain(keys)
    });
    apart.collect()
}

/// Takes a list out of an object.
fn taken(object: &mut Value, name: &str) -> Vec<Value> {
    match object
        .as_object_mut()
        .and_then(|fields| fields.remove(name))
    {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}
