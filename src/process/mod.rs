//! Floor 3: the start of a process, common to all commands: configuration, runtime and output.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::config::{Config, ConfigError, ConfigProblem, EnvOverlay};
use crate::telemetry::log::{self, LogError};
use crate::telemetry::output::{AuditOutput, Output};

/// Why a process cannot start its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The configuration cannot be used.
    #[error("{path} cannot be used:\n{problems}")]
    Config {
        /// The file.
        path: PathBuf,
        /// All problems found.
        problems: ConfigError,
    },
    /// The log could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system provided no runtime, signal or thread.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// The output of the process; dropping it writes all that is buffered.
pub(crate) struct OpenOutput(pub(crate) Arc<Output>);

impl OpenOutput {
    /// Starts the writers and directs the log to them.
    pub(crate) fn start(level: &str, audit: AuditOutput) -> Result<Self, ProcessError> {
        let output = Output::start(audit).map_err(|source| ProcessError::System {
            what: "write to standard output and standard error",
            source,
        })?;
        let open = Self(output);
        log::init(level, &open.0)?;
        Ok(open)
    }

    /// Starts them for a command that opens the store itself: it logs errors and audit events on standard error and nothing
    /// else, unless the configuration speaks of audit events itself or turns the log off.
    pub(crate) fn for_command(config: &Config) -> Result<Self, ProcessError> {
        let level = config.log.level.as_str();
        let is_own = level.starts_with("off") || level.contains("audit=");
        Self::start(if is_own { level } else { "warn" }, AuditOutput::Stderr)
    }
}

impl Drop for OpenOutput {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(crate) fn start(runtime: &mut Builder) -> Result<Runtime, ProcessError> {
    let started = runtime.enable_all().build();
    started.map_err(|source| ProcessError::System {
        what: "start the runtime",
        source,
    })
}

pub(crate) fn log_warnings(warnings: &[ConfigProblem]) {
    for warning in warnings {
        tracing::warn!(
            at = warning.at,
            expected = warning.expected,
            "the configuration is usable, with a warning"
        );
    }
}

pub(crate) fn load(path: &Path) -> Result<(Config, Vec<ConfigProblem>), ProcessError> {
    Config::load(path, &EnvOverlay::from_process()).map_err(|problems| ProcessError::Config {
        path: path.to_owned(),
        problems,
    })
}
