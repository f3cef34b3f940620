//! Floor 8: what an operator asks, and how it is carried out: by the gateway that has the store, or here where none runs.

pub mod at_rest;
pub mod backup;
pub mod command;
pub mod control;
pub mod echo;
pub(crate) mod execute;
pub mod explain;
pub mod import;
pub(crate) mod key_files;
mod named;
pub mod place;
mod refusal;
pub mod socket;

pub use crate::operator::command::command;

use crate::edge::listen::ListenError;
use crate::operator::place::PlaceError;
use crate::operator::socket::SocketError;
use crate::process::ProcessError;
use crate::snapshot::SnapshotProblem;
use crate::snapshot::services::OpenError;
use crate::store::backup::BackupError;
use crate::telemetry::output::Unrecorded;

/// Why the gateway does not run, or a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration, the log, or what the system did not give.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The configuration reads well but cannot be made ready.
    #[error("the configuration cannot be made ready:\n{}", lines(.0))]
    Obstacles(Vec<SnapshotProblem>),
    /// A service could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The socket of the command line.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// An address could not be taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The store's directory.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Records in memory are nobody's but the running gateway's.
    #[error(
        "no gateway is running, and its records would be in memory: there is nothing to work on"
    )]
    NoRecords,
    /// The audit trail is required, and cannot be written.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
    /// A backup could not be made, read or brought back.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The gateway that has the store did not do what was asked.
    #[error("{0}")]
    Refused(String),
    /// Not everything was over when the time for it was.
    #[error(
        "requests on {0} connections were still running when the drain ended and were cut off: limits.drain_timeout_ms is \
         how long they may take"
    )]
    DrainCut(usize),
}

fn lines(obstacles: &[SnapshotProblem]) -> String {
    let texts: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    texts.join("\n")
}
