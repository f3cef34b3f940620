//! `doorward store`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::args::StoreTask;
use crate::cli::{output, remote};
use crate::operator::at_rest;
use crate::operator::control::{Command, StoreCommand};

/// Note after a restore on what it cannot know.
const AFTER: &str = "\
Passwords, statuses and memberships are those of the backup: whatever was changed or
revoked since then must be changed or revoked again. API keys are refused until
their owner or an administrator confirms them: doorward apikey confirm ACCOUNT.";

pub(super) fn run(config: &Path, task: StoreTask) -> anyhow::Result<ExitCode> {
    match task {
        StoreTask::Other(mut command) => {
            if let StoreCommand::Backup { to: Some(to) } = &mut command {
                // The gateway that has the store may run in another directory.
                *to = std::path::absolute(&*to)
                    .with_context(|| format!("cannot use {}", to.display()))?;
            }
            remote::show(config, Command::Store(command))
        }
        StoreTask::Restore { file } => {
            let code = remote::show_reply(at_rest::restore(config, &file, output::note)?)?;
            AFTER.lines().for_each(output::note);
            Ok(code)
        }
        StoreTask::Check { backup: file } => {
            remote::show_reply(at_rest::check(config, file.as_deref())?)
        }
        StoreTask::Export { to, backup: file } => {
            let mut out = output::stream();
            let lines = at_rest::export(config, file.as_deref(), to.as_deref(), &mut out)?;
            output::note(&format!("{lines} records written"));
            Ok(ExitCode::SUCCESS)
        }
    }
}
