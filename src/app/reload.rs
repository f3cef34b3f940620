//! Reload: another configuration for new requests, all of it or nothing.

use std::path::Path;
use std::sync::Arc;

use crate::app::services;
use crate::config::{Config, EnvOverlay};
use crate::mail::mailer;
use crate::snapshot::{Current, Services, Snapshot};

/// Reads the configuration again and makes it the current one; if anything is wrong with it, the old one stays.
pub(super) fn reload(path: &Path, current: &Current) {
    match prepare(path, current) {
        Ok((snapshot, fixed)) => {
            for key in fixed {
                tracing::warn!(key, "changed, but needs a restart to count");
            }
            current.replace(snapshot);
            tracing::info!("configuration reloaded");
        }
        Err(reason) => tracing::error!(reason, "configuration not reloaded: the old one stays"),
    }
}

fn prepare(path: &Path, current: &Current) -> Result<(Snapshot, Vec<&'static str>), String> {
    let old = current.load();
    let (mut config, _) =
        Config::load(path, &EnvOverlay::from_process()).map_err(|error| error.to_string())?;
    let fixed = keep_fixed(&mut config, &old.config);
    let mailer =
        mailer(&config.mail, &config.listen.public_url.text).map_err(|error| error.to_string())?;
    // What the sources have said stays: a reload while one is away must not forget it.
    let are_sources_same = config.role_sources == old.config.role_sources
        && config.roles.ladder == old.config.roles.ladder;
    let role_sources = if are_sources_same {
        Arc::clone(&old.services.role_sources)
    } else {
        services::role_sources(&config, &old.services.clock, &old.services.metrics)
    };
    let services = Services {
        mailer,
        role_sources,
        ..old.services.clone()
    };
    let snapshot = Snapshot::build(Arc::new(config), services).map_err(|obstacles| {
        obstacles
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    })?;
    Ok((snapshot, fixed))
}

/// Keeps what the process has already bound, opened or started; names what would have changed.
fn keep_fixed(config: &mut Config, old: &Config) -> Vec<&'static str> {
    fn keep<T: PartialEq + Clone>(key: &'static str, new: &mut T, old: &T) -> Option<&'static str> {
        (*new != *old).then(|| {
            new.clone_from(old);
            key
        })
    }
    [
        keep(
            "listen.address",
            &mut config.listen.addresses,
            &old.listen.addresses,
        ),
        keep(
            "listen.admin_address",
            &mut config.listen.admin_address,
            &old.listen.admin_address,
        ),
        keep(
            "listen.admin_token",
            &mut config.listen.admin_token,
            &old.listen.admin_token,
        ),
        keep(
            "listen.auth_prefix",
            &mut config.listen.auth_prefix,
            &old.listen.auth_prefix,
        ),
        keep(
            "listen.workers",
            &mut config.listen.workers,
            &old.listen.workers,
        ),
        keep("store", &mut config.store, &old.store),
        keep(
            "tokens.algorithm",
            &mut config.tokens.algorithm,
            &old.tokens.algorithm,
        ),
        keep(
            "account.hash_threads",
            &mut config.account.hash_threads,
            &old.account.hash_threads,
        ),
        keep("log", &mut config.log, &old.log),
        keep(
            "limits.connections_max",
            &mut config.limits.connections_max,
            &old.limits.connections_max,
        ),
        keep(
            "limits.head_timeout_ms",
            &mut config.limits.head_timeout,
            &old.limits.head_timeout,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
