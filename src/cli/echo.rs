//! `doorward echo`

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::cli::output;
use crate::operator;

pub(super) fn run(listen: SocketAddr) -> anyhow::Result<ExitCode> {
    operator::echo::run(listen, |address| {
        output::note(&format!("echo service on http://{address}"));
    })?;
    Ok(ExitCode::SUCCESS)
}
