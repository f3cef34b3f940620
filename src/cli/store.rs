//! `doorward store`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::args::StoreTask;
use crate::cli::{output, remote};
use crate::operator;
use crate::operator::backup;
use crate::operator::control::{Command, StoreCommand};

/// Note after a restore on what it cannot know.
const AFTER: &str = "\
Passwords, statuses and memberships are those of the backup: what was changed or
revoked in the missing time must be changed again. API keys are refused until
their owner or an administrator confirms them: doorward apikey confirm ACCOUNT.";

pub(super) fn run(config: &Path, task: StoreTask) -> anyhow::Result<ExitCode> {
    match task {
        StoreTask::Backup { to } => {
            let to = to.map(|to| absolute(&to)).transpose()?;
            let command = Command::Store(StoreCommand::Backup { to });
            remote::show_reply(operator::command(config, command, output::note)?)
        }
        StoreTask::Restore { file } => {
            let code = remote::show_reply(backup::restore(config, &file, output::note)?)?;
            AFTER.lines().for_each(output::note);
            Ok(code)
        }
        StoreTask::Check { backup: file } => {
            remote::show_reply(backup::check(config, file.as_deref())?)
        }
        StoreTask::Export { to, backup: file } => {
            let mut out = output::stream();
            let lines = backup::export(config, file.as_deref(), to.as_deref(), &mut out)?;
            output::note(&format!("{lines} records written"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Makes a path absolute, since the gateway may run in another directory.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot use {}", path.display()))
}
