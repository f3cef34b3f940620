//! Commands that need the store: carried out by the gateway that has it, or here where none runs.

use std::path::Path;
use std::process::ExitCode;

use crate::app;
use crate::app::control::{Command, Reply};
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
            Command::AccountAdd {
                username,
                identity,
                name,
                admin,
                password,
            }
        }
        AccountTask::List => Command::AccountList,
        AccountTask::Show { account } => Command::AccountShow { account },
        AccountTask::Disable { account } => Command::AccountDisable { account },
        AccountTask::Enable { account } => Command::AccountEnable { account },
        AccountTask::SetPassword {
            account,
            password_stdin: _,
        } => Command::AccountSetPassword {
            account,
            password: Some(secrets::from_stdin("password")?),
        },
    };
    show(config, command)
}

pub(super) fn apikey(config: &Path, task: ApikeyTask) -> anyhow::Result<ExitCode> {
    show(
        config,
        match task {
            ApikeyTask::Create {
                account,
                name,
                scopes,
                expires,
                allow_from,
                rate_per_minute,
                resources,
            } => Command::ApikeyCreate {
                account,
                name,
                scopes,
                expires,
                allow_from,
                rate_per_minute,
                resources,
            },
            ApikeyTask::List { account } => Command::ApikeyList { account },
            ApikeyTask::Revoke { account, id } => Command::ApikeyRevoke { account, id },
        },
    )
}

pub(super) fn member(config: &Path, task: MemberTask) -> anyhow::Result<ExitCode> {
    show(
        config,
        match task {
            MemberTask::Set {
                account,
                resource,
                id,
                level,
            } => Command::MemberSet {
                account,
                resource,
                id,
                level,
            },
            MemberTask::Remove {
                account,
                resource,
                id,
            } => Command::MemberRemove {
                account,
                resource,
                id,
            },
            MemberTask::List { resource, id } => Command::MemberList { resource, id },
        },
    )
}

pub(super) fn keys(config: &Path, task: &KeysTask) -> anyhow::Result<ExitCode> {
    show(
        config,
        match task {
            KeysTask::List => Command::KeysList,
            KeysTask::Rotate => Command::KeysRotate,
        },
    )
}

fn show(config: &Path, command: Command) -> anyhow::Result<ExitCode> {
    match app::command(config, command)? {
        Reply::Done(value) => output::value(&value),
        Reply::Explained(_) => {}
        Reply::Refused(why) | Reply::Failed(why) => anyhow::bail!(why),
    }
    Ok(ExitCode::SUCCESS)
}
