//! Commands that need the store: carried out by the gateway that has it, or here where none runs.

use std::path::Path;
use std::process::ExitCode;

use crate::app;
use crate::app::control::{
    AccountCommand, ApikeyCommand, Command, KeysCommand, MemberCommand, Reply,
};
use crate::cli::args::{AccountTask, ApikeyTask, KeysTask, MemberTask};
use crate::cli::{output, secrets};

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

pub(super) fn apikey(config: &Path, task: ApikeyTask) -> anyhow::Result<ExitCode> {
    let command = match task {
        ApikeyTask::Create {
            account,
            name,
            scopes,
            expires,
        } => ApikeyCommand::Create {
            account,
            name,
            scopes,
            expires,
        },
        ApikeyTask::List { account } => ApikeyCommand::List { account },
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
    let command = match task {
        KeysTask::List => KeysCommand::List,
        KeysTask::Rotate => KeysCommand::Rotate,
    };
    show(config, Command::Keys(command))
}

fn show(config: &Path, command: Command) -> anyhow::Result<ExitCode> {
    match app::command(config, command)? {
        Reply::Done(value) => output::value(&value),
        Reply::Explained(_) => {}
        Reply::Refused(why) | Reply::Failed(why) => anyhow::bail!(why),
    }
    Ok(ExitCode::SUCCESS)
}
