//! Floor 8: the command line.

mod args;
mod check;
mod doctor;
mod echo;
mod explain;
mod output;
mod remote;
mod secrets;
mod serve;
mod store;
mod token;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::args::{Cli, Task};
use crate::operator::control::Command;

/// Reads the command line and carries it out.
///
/// Exit codes: 0 done; 1 not done, with the reason on standard error; 2 the command line is not understood; `explain`
/// and `token verify` also 3: refused; `doctor` also 3: something is wrong.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let ended = match cli.task {
        Task::Serve => Ok(serve::run(&cli.config)),
        Task::Check { strict } => Ok(check::run(&cli.config, strict)),
        Task::Reload => remote::show(&cli.config, Command::Reload),
        Task::Explain(question) => explain::run(&cli.config, question),
        Task::Echo { listen } => echo::run(listen),
        Task::Token(task) => token::run(&cli.config, task),
        Task::Account(command) => remote::account(&cli.config, command),
        Task::Apikey(command) => remote::show(&cli.config, Command::Apikey(command)),
        Task::Member(command) => remote::show(&cli.config, Command::Member(command)),
        Task::Doctor(task) => doctor::run(&cli.config, task),
        Task::Keys(task) => remote::keys(&cli.config, task),
        Task::Store(task) => store::run(&cli.config, task),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            output::problem(&error);
            ExitCode::FAILURE
        }
    }
}

/// Help that was asked for, or what is wrong with the command line: which may hold what others made, such as a token.
fn misunderstood(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        output::note(error.render().to_string().trim_end());
        return ExitCode::from(2);
    }
    // A reader that went away is no trouble of ours.
    let _ = error.print();
    ExitCode::SUCCESS
}
