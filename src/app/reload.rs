//! Reload: a new configuration for new requests, applied completely or not at all.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::operator::control::Reply;
use crate::process::{load, log_warnings};
use crate::snapshot::{Current, Services, Snapshot, SnapshotProblem, services};
use crate::telemetry::audit::{self, AuditAction, AuditEvent};
use crate::telemetry::log::with_causes;

/// The actor of a reload in the audit trail: `doorward reload`, or SIGHUP.
pub(super) const BY_COMMAND: &str = "cli";
pub(super) const BY_SIGNAL: &str = "signal";

/// Reads the configuration again and makes it current; if anything is wrong with it, the old one stays.
///
/// Returns what `doorward reload` shows: changes that need a restart, and what the change invalidates.
pub(super) async fn reload(path: &Path, current: &Current, actor: &str) -> Reply {
    let output = Arc::clone(&current.load().services.output);
    let event = |outcome| AuditEvent::by_process(actor, AuditAction::Reload, outcome);
    if let Err(error) = audit::begin(&output, &event(audit::BEGUN)).await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "configuration not reloaded: the old one stays in force"
        );
        return Reply::Refused(format!(
            "not reloaded, the old configuration stays in force: {error}"
        ));
    }
    let reply = put_into_force(path, current);
    let is_done = matches!(reply, Reply::Done(_));
    let outcome = if is_done {
        "ok"
    } else {
        "configuration_refused"
    };
    audit::record(&event(outcome));
    reply
}

fn put_into_force(path: &Path, current: &Current) -> Reply {
    match prepare(path, current) {
        Ok((snapshot, fixed)) => {
            let mut told = Map::from_iter([("reloaded".to_owned(), true.into())]);
            for key in &fixed {
                tracing::warn!(key, "changed, but takes effect only after a restart");
            }
            if !fixed.is_empty() {
                told.insert("needs_restart".to_owned(), fixed.join(" ").into());
            }
            for key in voiding(&current.load().config, &snapshot.config) {
                tracing::warn!(key, "{VOIDED}");
                told.insert(key.to_owned(), VOIDED.into());
            }
            current.replace(snapshot);
            let services = &current.load().services;
            services
                .output
                .require_audit(current.load().config.audit.required);
            services.mailer.adopt();
            services.issuers.adopt();
            tracing::info!("configuration reloaded");
            Reply::Done(Value::Object(told))
        }
        Err(reason) => {
            tracing::error!(
                reason,
                "configuration not reloaded: the old one stays in force"
            );
            Reply::Refused(format!(
                "not reloaded, the old configuration stays in force:\n{reason}"
            ))
        }
    }
}

/// Message for a key whose change makes the gateway refuse the tokens it has signed.
const VOIDED: &str = "changed: every access token issued before is refused from now on; callers with a refresh token \
     get a new one, and cookies and API keys stay accepted";

/// Returns the changed keys whose values are part of every token this gateway signs.
fn voiding(old: &Config, new: &Config) -> Vec<&'static str> {
    let (old, new) = (&old.tokens, &new.tokens);
    let changed = [
        ("tokens.issuer", old.issuer != new.issuer),
        ("tokens.audience", old.audience != new.audience),
    ];
    let changed = changed.into_iter().filter(|(_, is_other)| *is_other);
    changed.map(|(key, _)| key).collect()
}

fn prepare(path: &Path, current: &Current) -> Result<(Snapshot, Vec<String>), String> {
    let old = current.load();
    let (mut config, warnings) = load(path).map_err(|error| error.to_string())?;
    log_warnings(&warnings);
    let fixed = config.keep_fixed(&old.config);
    // The snapshot's own check reports each problem by key.
    let obstacles = crate::snapshot::obstacles(&config);
    if !obstacles.is_empty() {
        return Err(lines(&obstacles));
    }
    let post = &old.services.post;
    let mailer = post.mailer(&config.mail, &config.listen.public_url.text);
    let mailer = mailer.map_err(|error| with_causes(&error))?;
    // Cached answers are kept: a reload during an outage of a source must not lose them.
    let are_sources_same = config.role_sources == old.config.role_sources
        && config.roles.ladder == old.config.roles.ladder;
    let role_sources = if are_sources_same {
        Arc::clone(&old.services.role_sources)
    } else {
        services::role_sources(&config, &old.services.clock, &old.services.metrics)
    };
    let issuers = services::issuers(
        &config,
        (&old.services.clock, &old.services.metrics),
        true,
        Some(&old.services.issuers),
    );
    let services = Services {
        mailer,
        role_sources,
        issuers: issuers.map_err(|obstacle| obstacle.to_string())?,
        ..(*old.services).clone()
    };
    let snapshot = Snapshot::build(Arc::new(config), Arc::new(services))
        .map_err(|obstacles| lines(&obstacles))?;
    Ok((snapshot, fixed))
}

fn lines(obstacles: &[SnapshotProblem]) -> String {
    let texts: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EnvOverlay;

    fn config(text: &str) -> Config {
        Config::parse(text, &EnvOverlay::default()).unwrap().0
    }

    #[test]
    fn what_is_bound_or_started_keeps_its_value_and_is_named() {
        let old = config("");
        let mut new = config(
            "[listen]\naddress = '127.0.0.1:9'\n[limits]\nhead_bytes_max = 9000\nkeepalive_timeout_ms = 5\n\
             body_bytes_max = 7\n\
             [tokens]\nalgorithm = 'EdDSA'\naccess_ttl_s = 60\n\
             [forward_auth]\ngrpc_address = '127.0.0.1:7'\n",
        );
        let named = new.keep_fixed(&old);
        assert_eq!(
            named,
            [
                "listen.address",
                "limits.head_bytes_max",
                "limits.keepalive_timeout_ms",
                "tokens.algorithm",
                "forward_auth.grpc_address",
            ]
        );
        assert_eq!(new.listen.addresses, old.listen.addresses);
        assert_eq!(new.limits.head_bytes_max, old.limits.head_bytes_max);
        // Values derived from a kept key are kept with it.
        assert_eq!(new.listen.public_url, old.listen.public_url);
        assert_eq!(new.tokens.issuer, old.tokens.issuer);
        // The rest applies from the next request on.
        assert_eq!(new.limits.body_bytes_max, 7);
        assert_eq!(new.tokens.access_ttl.as_secs(), 60);
        assert!(config("").keep_fixed(&old).is_empty());
    }

    #[test]
    fn what_is_written_does_not_follow_an_address() {
        let old = config("");
        let mut new = config(
            "[listen]\naddress = '127.0.0.1:9'\nauth_prefix = '/a'\npublic_url = 'https://a.test'\n\
             [mail]\nreset_link = 'https://b.test/{token}'\n",
        );
        new.keep_fixed(&old);
        assert_eq!(new.listen.public_url.text, "https://a.test");
        assert_eq!(new.tokens.issuer, "https://a.test");
        assert_eq!(new.mail.confirm_link, old.mail.confirm_link);
        assert_eq!(new.mail.reset_link, "https://b.test/{token}");
    }
}
