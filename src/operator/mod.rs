//! Floor 9: the operator's commands, carried out by the gateway that has the store open, or by the command itself if
//! none runs.

pub mod at_rest;
pub mod backup;
pub mod command;
pub mod control;
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

/// The reason why the gateway does not run, or a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration or the log cannot be used, or a call to the system failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The configuration is valid but no snapshot can be built from it.
    #[error("the configuration cannot be prepared:\n{}", lines(.0))]
    Obstacles(Vec<SnapshotProblem>),
    /// A service could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The socket of the command line failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A listener could not be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The store's directory cannot or should not be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The records are in memory, so only a running gateway has them.
    #[error("no gateway is running, and with the memory engine there are no records without one")]
    NoRecords,
    /// The audit trail is required but cannot be written.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
    /// A backup could not be made, read or restored.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The gateway that has the store open refused the command.
    #[error("{0}")]
    Refused(String),
    /// The drain ended while connections still had requests in flight.
    #[error(
        "requests on {0} connections were still in flight when the drain ended and were cut off: limits.drain_timeout_ms is \
         the time they have"
    )]
    DrainCut(usize),
}

fn lines(obstacles: &[SnapshotProblem]) -> String {
    let texts: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    texts.join("\n")
}
