//! The echo service as a separate command.

use std::net::SocketAddr;

use http::header::HeaderName;
use tokio::runtime::Builder;

use crate::edge::echo;
use crate::edge::listen::bind_one;
use crate::operator::AppError;
use crate::process::start;

/// Runs the echo service until SIGINT; passes its address to `bound` once it listens.
///
/// # Errors
/// [`AppError`] if the address is in use or does not belong to this machine.
pub fn run(address: SocketAddr, bound: impl FnOnce(SocketAddr)) -> Result<(), AppError> {
    start(&mut Builder::new_current_thread())?.block_on(async {
        let listener = bind_one(address)?;
        bound(echo::local_address(&listener)?);
        tokio::select! {
            () = echo::serve(listener, HeaderName::from_static("x-api-key")) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(())
    })
}
