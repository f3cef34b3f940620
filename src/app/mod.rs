//! Floor 7: the only place that binds, spawns and wires.

pub mod admin;
pub mod backup;
mod budget;
mod connections;
pub mod control;
mod counting;
pub mod delivery;
pub mod doctor;
pub mod echo;
mod execute;
pub mod explain;
mod grpc;
mod keys;
mod lifecycle;
pub mod listen;
mod plain;
mod reload;
pub mod services;
pub mod socket;
pub mod stream;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::app::control::{Command, Reply};
use crate::app::delivery::Scope;
use crate::app::listen::ListenError;
use crate::app::services::OpenError;
use crate::app::socket::SocketError;
use crate::config::{Config, ConfigError, EnvOverlay, Problem, StoreEngine};
use crate::snapshot::{Obstacle, Snapshot, notes, obstacles};
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
    #[error("requests were still running when the drain ended; they were cut off")]
    DrainCut,
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
            problems: obstacles(&config).iter().map(ToString::to_string).collect(),
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
    let mut threads = Builder::new_multi_thread();
    threads.worker_threads(config.listen.workers);
    let runtime = start(threads.thread_name("doorward"))?;
    let ended = runtime.block_on(lifecycle::run(path, config, Arc::clone(&output.0)));
    // What is still running has had its time.
    runtime.shutdown_background();
    ended
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

/// Carries a command out: by the gateway that has the store, or here where none runs.
///
/// # Errors
/// [`AppError`] when neither is possible; a command that was refused is a [`Reply`].
pub fn command(path: &Path, command: Command) -> Result<Reply, AppError> {
    let (config, _) = load(path)?;
    start(&mut Builder::new_current_thread())?.block_on(async {
        if let Some(reply) = socket::ask(&socket::path_in(&config.store.path), &command).await? {
            return Ok(reply);
        }
        // A decision can be told from the routes alone; anything written would be gone at once.
        let needs_records = !matches!(command, Command::Explain(_));
        if needs_records && config.store.engine == StoreEngine::Memory {
            return Err(AppError::NoRecords);
        }
        // No gateway runs, so this process tells what it does.
        let output = OpenOutput::start(command_level(&config.log.level), AuditOutput::Stderr)?;
        let services = services::open(&config, Arc::clone(&output.0))?;
        let (post, store) = (Arc::clone(&services.post), Arc::clone(&services.store));
        let snapshot = Snapshot::build(Arc::new(config), services).map_err(AppError::Obstacles)?;
        let issuers = Arc::clone(&snapshot.services.issuers);
        // A decision may need their keys; nothing else asks for them.
        if matches!(command, Command::Explain(_)) {
            issuers.adopt();
        }
        let delivery = delivery::run(Arc::clone(&post), store, Scope::Posted);
        let carried_out = async {
            let reply = execute::execute(command, &snapshot).await;
            post.end().await;
            reply
        };
        // A mail that does not leave now waits for the gateway.
        let mut ended = pin!(async { tokio::join!(carried_out, delivery).0 });
        let reply = tokio::select! {
            reply = &mut ended => reply,
            () = keys::keep_fresh(issuers.adopted()) => ended.await,
        };
        Ok(reply)
    })
}

/// Asks the gateway that has the store; `None`: none runs.
fn ask(config: &Config, command: &Command) -> Result<Option<Reply>, AppError> {
    let path = socket::path_in(&config.store.path);
    let asked = socket::ask(&path, command);
    Ok(start(&mut Builder::new_current_thread())?.block_on(asked)?)
}

/// A command tells what went wrong and what is audited, no more, unless the configuration speaks of that itself.
fn command_level(level: &str) -> &str {
    if level.starts_with("off") || level.contains("audit=") {
        level
    } else {
        "warn"
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
