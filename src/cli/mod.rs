//! Floor 8: the command line.

mod args;
mod check;
mod doctor;
mod explain;
mod output;
mod remote;
mod secrets;
mod store;
mod token;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use http::HeaderName;
use tokio::runtime::Builder;

use crate::app;
use crate::cli::args::{Cli, CliCommand};
use crate::edge::echo;
use crate::edge::listen::bind_one;
use crate::operator::control::Command;
use crate::process::start;

/// Parses the command line and runs the command.
///
/// Exit codes: 0 success; 1 failure, with the reason on standard error; 2 invalid command line; 3 refused (`explain`
/// and `token verify`) or mistakes found (`doctor`).
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let ended = match cli.task {
        CliCommand::Serve => Ok(serve(&cli.config)),
        CliCommand::Check { strict } => Ok(check::run(&cli.config, strict)),
        CliCommand::Reload => remote::show(&cli.config, Command::Reload),
        CliCommand::Explain(question) => explain::run(&cli.config, question),
        CliCommand::Echo { listen } => echo(listen),
        CliCommand::Token(task) => token::run(&cli.config, task),
        CliCommand::Account(command) => remote::account(&cli.config, command),
        CliCommand::Apikey(command) => remote::show(&cli.config, Command::Apikey(command)),
        CliCommand::Member(command) => remote::show(&cli.config, Command::Member(command)),
        CliCommand::Doctor(task) => doctor::run(&cli.config, task),
        CliCommand::Keys(task) => remote::keys(&cli.config, task),
        CliCommand::Store(task) => store::run(&cli.config, task),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            output::problem(&error);
            ExitCode::FAILURE
        }
    }
}

fn serve(config: &Path) -> ExitCode {
    match app::serve(config).context("the gateway could not run") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::last_words(error);
            ExitCode::FAILURE
        }
    }
}

/// Runs the echo service on its own until SIGINT.
fn echo(address: SocketAddr) -> anyhow::Result<ExitCode> {
    start(&mut Builder::new_current_thread())?.block_on(async {
        let listener = bind_one(address)?;
        let bound = echo::local_address(&listener)?;
        output::note(&format!("echo service on http://{bound}"));
        tokio::select! {
            () = echo::serve(listener, HeaderName::from_static("x-api-key")) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Prints the requested help, or the error in the command line. The error is sanitized, since it may contain foreign
/// text such as a token.
fn misunderstood(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        output::note(error.render().to_string().trim_end());
        return ExitCode::from(2);
    }
    // A closed standard output is not an error.
    let _ = error.print();
    ExitCode::SUCCESS
}
