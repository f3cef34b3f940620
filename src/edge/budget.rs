//! The distribution of the process's file descriptors. Callers cannot use up those of the store, the logs or the admin
//! listener.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::model::route::{Upstream, UpstreamAddress};

/// Reserved for files the store, logs, backups and measurements open briefly.
const FILES: usize = 16;
/// Reserved for requests to issuers and role sources, and for mail servers.
const OUTGOING: usize = 16;
/// Reserved for the command line: one command being answered and one waiting.
const COMMANDS: usize = 2;
/// Bounds for the connections of the admin listener, and for those of proxies using gRPC: each gets a sixteenth of all
/// descriptors, within these bounds.
const SIDE_MIN: usize = 16;
const SIDE_MAX: usize = 256;
/// gRPC connections of callers that are not trusted: enough to answer them with a refusal.
const STRANGERS: usize = 8;

/// The maximum number of descriptors for each use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Connections of callers.
    pub connections: usize,
    /// Requests in flight, each with a connection to an upstream.
    pub requests: usize,
    /// Requests in flight from a single client network.
    pub network_requests: usize,
    /// Idle connections to upstreams.
    pub upstream_idle: usize,
    /// Connections of the admin listener.
    pub admin_connections: usize,
    /// gRPC connections of trusted proxies.
    pub grpc_connections: usize,
    /// gRPC connections of other callers.
    pub grpc_strangers: usize,
    /// Number of descriptors needed for everything that is configured.
    needed: usize,
}

impl Budget {
    /// Distributes the descriptors the system grants this process; warns if there are fewer than the configuration asks
    /// for. Called once everything that stays open is open.
    #[must_use]
    pub(crate) fn of(config: &Config) -> Self {
        let descriptors = descriptors();
        let budget = Self::share(descriptors, open_now(), config);
        let limits = &config.limits;
        if budget.connections < limits.connections_max || budget.requests < limits.requests_max {
            warn!(
                open_files_max = descriptors,
                connections_max = limits.connections_max,
                connections_served = budget.connections,
                requests_max = limits.requests_max,
                requests_served = budget.requests,
                open_files_needed = budget.needed,
                "the limit on open files is too low for the configured limits: set LimitNOFILE={needed} in the systemd unit, or \
                 `ulimit -n {needed}` in the shell that starts it, or lower limits.connections_max to {connections}",
                needed = budget.needed,
                connections = budget.connections,
            );
        }
        budget
    }

    /// `open_now`: the descriptors that are open and stay open.
    fn share(descriptors: usize, open_now: usize, config: &Config) -> Self {
        let limits = &config.limits;
        let asks_grpc = usize::from(config.forward_auth.grpc_address.is_some());
        let side = (descriptors / 16).clamp(SIDE_MIN, SIDE_MAX);
        let reserve = |side: usize| {
            let own = open_now + FILES + OUTGOING + COMMANDS;
            own + side + asks_grpc * (side + STRANGERS)
        };
        let free = descriptors.saturating_sub(reserve(side));
        let connections = limits.connections_max.min(free / 2).max(1);
        let upstream_idle = limits.upstream_idle_max.min(free / 8);
        let is_echo = |it: &Upstream| it.addresses.contains(&UpstreamAddress::BuiltinEcho);
        // The echo runs in this process, so its end of a connection takes a descriptor too.
        let each = 1 + usize::from(config.upstreams.iter().any(is_echo));
        let requests = (free.saturating_sub(connections + upstream_idle * each) / each).max(1);
        let (requests, network_requests) = match limits.requests_max {
            // Without a configured maximum, one network gets at most half, so that the rest stays free for others.
            0 => (requests, requests.div_ceil(2)),
            max => (requests.min(max), requests.min(max)),
        };
        let upstreams = (limits.requests_max + limits.upstream_idle_max) * each;
        Self {
            connections,
            requests,
            network_requests,
            upstream_idle,
            admin_connections: side,
            grpc_connections: asks_grpc * side,
            grpc_strangers: asks_grpc * STRANGERS,
            needed: reserve(SIDE_MAX)
                + limits.connections_max
                + upstreams.max(limits.connections_max),
        }
    }
}

/// Returns the number of open descriptors.
fn open_now() -> usize {
    // Where the system does not say, assume as many as an idle gateway has.
    std::fs::read_dir("/proc/self/fd").map_or(32, Iterator::count)
}

/// Raises the descriptor limit as far as the system allows and returns it.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // If the system refuses, the present limit counts.
    let _ = setrlimit(Resource::Nofile, raised);
    // `None` in it means there is no limit.
    let limit = getrlimit(Resource::Nofile);
    let count = limit.current.and_then(|count| usize::try_from(count).ok());
    count.unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EnvOverlay;

    const OPEN: usize = 30;

    #[test]
    fn callers_never_get_all_descriptors() {
        let grpc = "[forward_auth]\ngrpc_address = \"127.0.0.1:9092\"\n";
        for (text, each) in [
            ("", 1),
            (
                "[[upstream]]\nname = \"a\"\naddresses = [\"builtin:echo\"]\n",
                2,
            ),
            (grpc, 1),
        ] {
            let (config, _) = Config::parse(text, &EnvOverlay::default()).unwrap();
            for count in [256, 1024, 2048, 20_000, 65_536, 1_000_000] {
                let budget = Budget::share(count, OPEN, &config);
                let side =
                    budget.admin_connections + budget.grpc_connections + budget.grpc_strangers;
                let used = budget.connections
                    + (budget.requests + budget.upstream_idle) * each
                    + side
                    + OPEN;
                assert!(
                    used + FILES + OUTGOING + COMMANDS <= count,
                    "{count}: {budget:?}"
                );
                assert!(16 <= budget.requests, "{count}: {budget:?}");
                assert!(32 <= budget.connections, "{count}: {budget:?}");
            }
        }
    }

    #[test]
    fn what_is_configured_counts_where_there_is_enough() {
        let text = "[limits]\nrequests_max = 7\nconnections_max = 9\n";
        let (config, _) = Config::parse(text, &EnvOverlay::default()).unwrap();
        let budget = Budget::share(65_536, OPEN, &config);
        assert_eq!((budget.requests, budget.connections), (7, 9));
        assert!(Budget::share(120, OPEN, &config).connections == 9);
    }

    #[test]
    fn as_many_descriptors_as_are_said_to_be_needed_are_enough() {
        for limits in [
            "connections_max = 10000",
            "connections_max = 500\nrequests_max = 4000",
            "connections_max = 3",
        ] {
            let text = format!("[limits]\n{limits}\n");
            let (config, _) = Config::parse(&text, &EnvOverlay::default()).unwrap();
            let needed = Budget::share(256, OPEN, &config).needed;
            let budget = Budget::share(needed, OPEN, &config);
            assert_eq!(budget.connections, config.limits.connections_max);
            assert!(config.limits.requests_max <= budget.requests);
        }
    }
}
