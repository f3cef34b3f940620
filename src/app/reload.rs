//! Reload: another configuration for new requests, all of it or nothing.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, EnvOverlay};
use crate::snapshot::{Current, Obstacle, Services, Snapshot};

/// Reads the configuration again and makes it the current one; if anything is wrong with it, the old one stays.
pub(super) fn reload(path: &Path, current: &Current) {
    match prepare(path, current) {
        Ok((snapshot, fixed)) => {
            for key in fixed {
                tracing::warn!(key, "changed, but needs a restart to count");
            }
            current.replace(snapshot);
            current.load().services.mailer.adopt();
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
    // What is wrong with it is told by the snapshot's own check, key by key.
    let obstacles = crate::snapshot::obstacles(&config);
    if !obstacles.is_empty() {
        return Err(lines(&obstacles));
    }
    let post = &old.services.post;
    let mailer = post.mailer(&config.mail, &config.listen.public_url.text);
    let mailer = mailer.map_err(|error| format!("{error}: {}", error.source))?;
    let services = Services {
        mailer,
        ..old.services.clone()
    };
    let snapshot =
        Snapshot::build(Arc::new(config), services).map_err(|obstacles| lines(&obstacles))?;
    Ok((snapshot, fixed))
}

fn lines(obstacles: &[Obstacle]) -> String {
    let texts: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    texts.join("; ")
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
