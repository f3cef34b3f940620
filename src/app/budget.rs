//! How the file descriptors of the process are shared out, so that callers never take the store's, the logs' or the admin
//! listener's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::model::route::{Upstream, UpstreamAddress};

/// Kept for the store, logs, mails and the admin listener: an eighth of all descriptors, between these.
const RESERVE_MIN: usize = 64;
const RESERVE_MAX: usize = 1024;
/// Connections of the admin listener, at most; it never takes more than half of the reserve.
const ADMIN_CONNECTIONS_MAX: usize = 256;

/// What each kind of descriptor may be used for at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Connections of callers.
    pub connections: usize,
    /// Requests in flight, each with a connection to an upstream.
    pub requests: usize,
    /// Of these, those of one client network.
    pub network_requests: usize,
    /// Idle connections to upstreams.
    pub upstream_idle: usize,
    /// Connections of the admin listener.
    pub admin_connections: usize,
}

impl Budget {
    /// Shares out what the system gives this process; warns where that is less than the configuration asks for.
    #[must_use]
    pub(super) fn of(config: &Config) -> Self {
        let budget = Self::share(descriptors(), config);
        let limits = &config.limits;
        if budget.connections < limits.connections_max || budget.requests < limits.requests_max {
            warn!(
                connections_max = budget.connections,
                requests_max = budget.requests,
                "the process may open too few files for the limits that are configured: it goes by lower ones"
            );
        }
        budget
    }

    fn share(descriptors: usize, config: &Config) -> Self {
        let limits = &config.limits;
        let reserve = (descriptors / 8).clamp(RESERVE_MIN, RESERVE_MAX);
        let free = descriptors.saturating_sub(reserve);
        let connections = limits.connections_max.min(free / 2).max(1);
        let upstream_idle = limits.upstream_idle_max.min(free / 8);
        let is_echo = |it: &Upstream| it.addresses.contains(&UpstreamAddress::BuiltinEcho);
        // The echo is in this process: its end of a connection is a descriptor of ours too.
        let each = 1 + usize::from(config.upstreams.iter().any(is_echo));
        let requests = (free.saturating_sub(connections + upstream_idle * each) / each).max(1);
        let (requests, network_requests) = match limits.requests_max {
            // Who asks for no number wants all to be served: half stays free for the others.
            0 => (requests, requests.div_ceil(2)),
            asked => (requests.min(asked), requests.min(asked)),
        };
        Self {
            connections,
            requests,
            network_requests,
            upstream_idle,
            admin_connections: (reserve / 2).min(ADMIN_CONNECTIONS_MAX),
        }
    }
}

/// How many descriptors this process may have, after it has asked for all that it may ask for.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() {
        getrlimit(Resource::Nofile)
    } else {
        limit
    };
    // None: there is no limit.
    let count = limit.current.and_then(|count| usize::try_from(count).ok());
    count.unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EnvOverlay;

    #[test]
    fn callers_never_get_all_descriptors() {
        for text in [
            "",
            "[[upstream]]\nname = \"a\"\naddresses = [\"builtin:echo\"]\n",
        ] {
            let (config, _) = Config::parse(text, &EnvOverlay::default()).unwrap();
            let each = if text.is_empty() { 1 } else { 2 };
            for count in [256, 1024, 2048, 20_000, 65_536, 1_000_000] {
                let budget = Budget::share(count, &config);
                let used = budget.connections
                    + (budget.requests + budget.upstream_idle) * each
                    + budget.admin_connections;
                assert!(used + 32 <= count, "{count}: {budget:?}");
                assert!(16 <= budget.requests, "{count}: {budget:?}");
                assert!(32 <= budget.connections, "{count}: {budget:?}");
            }
        }
    }

    #[test]
    fn what_is_configured_counts_where_there_is_enough() {
        let text = "[limits]\nrequests_max = 7\nconnections_max = 9\n";
        let (config, _) = Config::parse(text, &EnvOverlay::default()).unwrap();
        let budget = Budget::share(65_536, &config);
        assert_eq!((budget.requests, budget.connections), (7, 9));
        assert!(Budget::share(100, &config).connections == 9);
    }
}
