//! Commands that need the store: run by the gateway that owns it, or in this process if no gateway runs.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use crate::cli::args::{AccountTask, ApikeyTask, KeysTask, ListFormat, MemberTask};
use crate::cli::{output, secrets};
use crate::operator;
use crate::operator::control::{
    AccountCommand, ApikeyCommand, Command, KeysCommand, MemberCommand, Reply,
};
use crate::operator::import::Export;

pub(super) fn account(config: &Path, task: AccountTask) -> anyhow::Result<ExitCode> {
    let command = match task {
        AccountTask::Add {
            username,
            identity,
            name,
            admin,
            password_stdin,
        } => {
            let password = password_stdin
                .then(|| secrets::from_stdin("password"))
                .transpose()?;
            AccountCommand::Add {
                username,
                identity,
                name,
                admin,
                password,
            }
        }
        AccountTask::Import { file, skip_refused } => return import(config, &file, skip_refused),
        AccountTask::List => AccountCommand::List,
        AccountTask::Show { account } => AccountCommand::Show { account },
        AccountTask::Disable { account } => AccountCommand::Disable { account },
        AccountTask::Enable { account } => AccountCommand::Enable { account },
        AccountTask::SetPassword {
            account,
            password_stdin: _,
        } => AccountCommand::SetPassword {
            account,
            password: secrets::from_stdin("password")?,
        },
    };
    show(config, Command::Account(command))
}

/// Passes an export on; refused lines are reported on standard error.
fn import(config: &Path, file: &Path, skip_refused: bool) -> anyhow::Result<ExitCode> {
    let export = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let command = Command::Account(AccountCommand::Import {
        export: Export::Open(export),
        skip_refused,
    });
    match operator::command(config, command, output::note)? {
        Reply::Done(mut value) => {
            let lines = value
                .as_object_mut()
                .and_then(|it| it.remove("refused_lines"));
            let lines = lines.as_ref().and_then(Value::as_array);
            for line in lines.into_iter().flatten() {
                output::note(line.as_str().unwrap_or_default());
            }
            output::value(&value);
            Ok(ExitCode::SUCCESS)
        }
        Reply::Explained(_) => Ok(ExitCode::SUCCESS),
        Reply::Refused(why) | Reply::Failed(why) => anyhow::bail!(why),
    }
}

pub(super) fn apikey(config: &Path, task: ApikeyTask) -> anyhow::Result<ExitCode> {
    let command = match task {
        ApikeyTask::Create {
            account,
            name,
            scopes,
            expires,
            allow_from,
            rate_per_minute,
            resources,
        } => ApikeyCommand::Create {
            account,
            name,
            scopes,
            expires,
            allow_from,
            rate_per_minute,
            resources,
        },
        ApikeyTask::List { account } => ApikeyCommand::List { account },
        ApikeyTask::Confirm { account, id } => ApikeyCommand::Confirm { account, id },
        ApikeyTask::Revoke { account, id } => ApikeyCommand::Revoke { account, id },
    };
    show(config, Command::Apikey(command))
}

pub(super) fn member(config: &Path, task: MemberTask) -> anyhow::Result<ExitCode> {
    let command = match task {
        MemberTask::Set {
            account,
            resource,
            id,
            level,
        } => MemberCommand::Set {
            account,
            resource,
            id,
            level,
        },
        MemberTask::Remove {
            account,
            resource,
            id,
        } => MemberCommand::Remove {
            account,
            resource,
            id,
        },
        MemberTask::List { resource, id } => MemberCommand::List { resource, id },
    };
    show(config, Command::Member(command))
}

pub(super) fn keys(config: &Path, task: &KeysTask) -> anyhow::Result<ExitCode> {
    let (command, format) = match *task {
        KeysTask::List { format } => (KeysCommand::List, format),
        KeysTask::Rotate => (KeysCommand::Rotate, ListFormat::Text),
        KeysTask::Renew { file, yes, force } => {
            return show(
                config,
                Command::Keys(KeysCommand::Renew { file, yes, force }),
            );
        }
    };
    match operator::command(config, Command::Keys(command), output::note)? {
        Reply::Done(list) if matches!(format, ListFormat::Json) => {
            output::lines(&serde_json::to_string_pretty(&list)?);
            Ok(ExitCode::SUCCESS)
        }
        Reply::Done(list) => show_reply(Reply::Done(with_keys_apart(list))),
        reply => show_reply(reply),
    }
}

/// Flattens key files into rows: the keys of a ring follow the row of their file.
fn with_keys_apart(list: Value) -> Value {
    let Value::Array(mut rows) = list else {
        return list;
    };
    let apart = rows.iter_mut().flat_map(|row| {
        let keys = row.as_object_mut().and_then(|row| row.remove("keys"));
        let keys = keys.as_ref().and_then(Value::as_array).cloned();
        std::iter::once(row.take()).chain(keys.unwrap_or_default())
    });
    apart.collect()
}

/// The running gateway reads its own configuration; the one named here only serves to find the gateway.
pub(super) fn reload(config: &Path) -> anyhow::Result<ExitCode> {
    show(config, Command::Reload)
}

fn show(config: &Path, command: Command) -> anyhow::Result<ExitCode> {
    show_reply(operator::command(config, command, output::note)?)
}

/// Shows the reply to a command.
pub(super) fn show_reply(reply: Reply) -> anyhow::Result<ExitCode> {
    match reply {
        Reply::Done(value) => output::value(&value),
        Reply::Explained(_) => {}
        Reply::Refused(why) | Reply::Failed(why) => anyhow::bail!(why),
    }
    Ok(ExitCode::SUCCESS)
}
