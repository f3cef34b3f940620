//! Floor 7: the only place that binds, spawns and wires.

pub mod admin;
pub mod backup;
mod budget;
mod command;
mod connections;
pub mod control;
mod counting;
pub mod delivery;
pub mod doctor;
mod drain;
pub mod echo;
mod execute;
pub mod explain;
mod grpc;
mod keys;
mod lifecycle;
pub mod listen;
mod memory;
mod place;
mod plain;
mod reload;
pub mod services;
pub mod socket;
pub mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

pub use crate::app::command::command;
use crate::app::listen::ListenError;
use crate::app::place::PlaceError;
use crate::app::services::OpenError;
use crate::app::socket::SocketError;
use crate::config::{Config, ConfigError, EnvOverlay, Problem};
use crate::snapshot::{Obstacle, notes, obstacles};
use crate::store::backup::BackupError;
use crate::telemetry::log::{self, LogError};
use crate::telemetry::output::{AuditOutput, Output, Unrecorded};

/// Why the gateway does not run, or a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration cannot be used.
    #[error("{path} cannot be used:\n{problems}")]
    Config {
        /// The file.
        path: PathBuf,
        /// All that is wrong.
        problems: ConfigError,
    },
    /// The configuration reads well but cannot be made ready.
    #[error("the configuration cannot be made ready:\n{}", lines(.0))]
    Obstacles(Vec<Obstacle>),
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
    /// The log could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system gave no runtime, signal or thread.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
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

fn lines(obstacles: &[Obstacle]) -> String {
    let texts: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

/// What `check` found: one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What keeps the configuration from being used.
    pub problems: Vec<String>,
    /// What works, but is no state to serve the world in.
    pub warnings: Vec<String>,
    /// What works, and perhaps not as it was meant.
    pub notes: Vec<String>,
}

/// Reads a configuration as `serve` would, without opening the store, and reports everything at once.
#[must_use]
pub fn check(path: &Path) -> Report {
    match Config::load(path, &EnvOverlay::from_process()) {
        Ok((config, warnings)) => Report {
            problems: obstacles(&config)
                .iter()
                .map(ToString::to_string)
                .chain(
                    place::check(&config.store)
                        .err()
                        .map(|error| error.to_string()),
                )
                .collect(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            notes: notes(&config),
        },
        Err(error) => Report {
            problems: error.problems.iter().map(ToString::to_string).collect(),
            warnings: Vec::new(),
            notes: Vec::new(),
        },
    }
}

/// Runs the gateway until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// [`AppError`]: what kept it from starting, or what a drain had to cut off.
pub fn serve(path: &Path) -> Result<(), AppError> {
    let (config, warnings) = load(path)?;
    let output = OpenOutput::start(&config.log.level, AuditOutput::Stdout)?;
    log::report_panics(Arc::clone(&output.0));
    log_warnings(&warnings);
    // Elsewhere the configuration's own check has said so.
    if config.listen.public_url.scheme == "http" && config.listen.public_url.is_loopback {
        tracing::warn!("public_url is plain http: the session cookie is sent without Secure");
    }
    place::check(&config.store)?;
    if let Some(owner) = place::other_owner(&config.store.path) {
        tracing::warn!(
            path = %config.store.path.display(),
            %owner,
            "the store's directory is another user's: what this process makes there may lock that user out"
        );
    }
    let dir = config.store.path.clone();
    let mut threads = Builder::new_multi_thread();
    threads.worker_threads(config.listen.workers);
    let runtime = start(threads.thread_name("doorward"))?;
    let ended = runtime.block_on(lifecycle::run(path, config, Arc::clone(&output.0)));
    // What is still running has had its time.
    runtime.shutdown_background();
    ended.map_err(|error| place::whose(error, &dir))
}

/// The output of the process, which is written to its end when this goes.
struct OpenOutput(Arc<Output>);

impl OpenOutput {
    /// Starts the writers, and the log onto them.
    fn start(level: &str, audit: AuditOutput) -> Result<Self, AppError> {
        let output = Output::start(audit).map_err(|source| AppError::System {
            what: "write on standard output and standard error",
            source,
        })?;
        let open = Self(output);
        log::init(level, &open.0)?;
        Ok(open)
    }
}

impl Drop for OpenOutput {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn start(runtime: &mut Builder) -> Result<Runtime, AppError> {
    let started = runtime.enable_all().build();
    started.map_err(|source| AppError::System {
        what: "start the runtime",
        source,
    })
}

fn log_warnings(warnings: &[Problem]) {
    for warning in warnings {
        tracing::warn!(
            at = warning.at,
            expected = warning.expected,
            "the configuration works, but is no state to serve the world in"
        );
    }
}

fn load(path: &Path) -> Result<(Config, Vec<Problem>), AppError> {
    Config::load(path, &EnvOverlay::from_process()).map_err(|problems| AppError::Config {
        path: path.to_owned(),
        problems,
    })
}
