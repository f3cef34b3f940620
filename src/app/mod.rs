//! Floor 10: wires the modules below, and nothing else.

mod clock;
mod counting;
mod lifecycle;
mod reload;
mod signals;

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Builder;

use crate::app::signals::Signals;
use crate::config::{Config, EnvOverlay};
use crate::operator::{AppError, place};
use crate::process::{OpenOutput, load, log_warnings, start};
use crate::snapshot::{notes, obstacles};
use crate::telemetry::log;
use crate::telemetry::output::AuditOutput;

/// The findings of `check`, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Problems that keep the configuration from being used.
    pub problems: Vec<String>,
    /// Works, but should be reviewed.
    pub warnings: Vec<String>,
    /// Works, but perhaps not as intended.
    pub notes: Vec<String>,
}

/// Checks a configuration as `serve` would, without opening the store, and reports everything at once.
#[must_use]
pub fn check(path: &Path) -> CheckReport {
    match Config::load(path, &EnvOverlay::from_process()) {
        Ok((config, warnings)) => CheckReport {
            problems: obstacles(&config)
                .iter()
                .map(ToString::to_string)
                .chain(
                    place::check(&config.store)
                        .and_then(|()| place::may_begin(&config.store))
                        .err()
                        .map(|error| error.to_string()),
                )
                .collect(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            notes: notes(&config),
        },
        Err(error) => CheckReport {
            problems: error.problems.iter().map(ToString::to_string).collect(),
            warnings: Vec::new(),
            notes: Vec::new(),
        },
    }
}

/// Runs the gateway until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// [`AppError`] if the gateway cannot start, or if a drain had to cut requests.
pub fn serve(path: &Path) -> Result<(), AppError> {
    let signals = Signals::listen()?;
    let (config, warnings) = load(path)?;
    let output = OpenOutput::start(&config.log.level, AuditOutput::Stdout)?;
    log::report_panics(Arc::clone(&output.0));
    log_warnings(&warnings);
    // In the other cases the configuration's own check has warned.
    if config.listen.public_url.scheme == "http" && config.listen.public_url.is_loopback {
        tracing::warn!(
            "public_url is plain http: the session cookie is sent without Secure. That is fine on loopback; before others use \
             the gateway, set listen.public_url to https"
        );
    }
    place::check(&config.store)?;
    place::may_begin(&config.store)?;
    if let Some(owner) = place::other_owner(&config.store.path) {
        tracing::warn!(
            path = %config.store.path.display(),
            %owner,
            "the store's directory belongs to another user: files that this process creates there may lock that user out"
        );
    }
    let dir = config.store.path.clone();
    let mut threads = Builder::new_multi_thread();
    threads.worker_threads(config.listen.workers);
    let runtime = start(threads.thread_name("doorward"))?;
    let ended = runtime.block_on(lifecycle::run(path, config, Arc::clone(&output.0), signals));
    // Tasks still running have had their time.
    runtime.shutdown_background();
    if ended.is_ok() {
        tracing::info!("stopped");
    }
    ended.map_err(|error| place::whose(error, &dir))
}
