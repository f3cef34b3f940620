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

/// Reads the command line and carries it out.
///
/// Exit codes: 0 done; 1 not done, with the reason on standard error; 2 the command line is not understood; `explain`
/// and `token verify` also 3: refused; `doctor` also 3: something is wrong.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.task {
        Task::Serve => serve::run(&cli.config),
        Task::Check { strict } => Ok(check::run(&cli.config, strict)),
        Task::Explain(question) => explain::run(&cli.config, question),
        Task::Echo { listen } => echo::run(listen),
        Task::Token(task) => token::run(&cli.config, task),
        Task::Account(task) => remote::account(&cli.config, task),
        Task::Apikey(task) => remote::apikey(&cli.config, task),
        Task::Member(task) => remote::member(&cli.config, task),
        Task::Doctor(task) => doctor::run(&cli.config, task),
        Task::Keys(task) => remote::keys(&cli.config, &task),
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
