//! `doorward echo`

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::app;
use crate::cli::output;

pub(super) fn run(listen: SocketAddr) -> anyhow::Result<ExitCode> {
    app::echo::run(listen, |address| {
        output::note(&format!("echo service on http://{address}"));
    })?;
    Ok(ExitCode::SUCCESS)
}
