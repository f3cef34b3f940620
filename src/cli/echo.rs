//! `doorward echo`

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;

use crate::app::echo;
use crate::cli::output;

pub(super) fn run(listen: SocketAddr) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        output::note(&format!(
            "echo service on http://{}",
            listener.local_addr()?
        ));
        tokio::select! {
            () = echo::serve(listener) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}
