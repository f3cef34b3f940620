//! Load balancing among the addresses of an upstream.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::model::route::{Upstream, UpstreamAddress};
use crate::telemetry::upstream::UpstreamMetrics;
use crate::upstream::ejection::Ejections;

/// Number of separate round-robin counters; further upstreams share one with another, which only makes the distribution
/// less even.
const TURNS: usize = 64;

/// Chooses among the addresses of each upstream: round robin over those that can be connected to.
#[derive(Debug)]
pub struct Balancer {
    next: [AtomicUsize; TURNS],
    /// The skipped addresses.
    pub ejections: Ejections,
    /// Address of the built-in echo, if it runs.
    echo: Option<SocketAddr>,
}

impl Balancer {
    /// `echo`: the address behind `builtin:echo`.
    #[must_use]
    pub fn new(echo: Option<SocketAddr>, metrics: UpstreamMetrics) -> Self {
        Self {
            next: [const { AtomicUsize::new(0) }; TURNS],
            ejections: Ejections::new(metrics),
            echo,
        }
    }

    /// Advances the round robin of the `index`-th upstream and returns the place in its list where a request begins.
    #[must_use]
    pub fn take(&self, index: usize) -> usize {
        let turn = self.next.get(index % TURNS);
        turn.map_or(0, |turn| turn.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the address at a place in the list, wrapping around, or the next one that is not skipped at `now`. If
    /// all are skipped, returns the first of them, but not the one that has `failed` if there is another. `None` if it
    /// is the echo and the echo does not run.
    #[must_use]
    pub fn address(
        &self,
        upstream: &Upstream,
        place: usize,
        failed: Option<SocketAddr>,
        now: Duration,
    ) -> Option<SocketAddr> {
        let count = upstream.addresses.len();
        if count <= 1 {
            return self.address_at(upstream, place);
        }
        let from_place = || {
            (0..count).filter_map(|offset| self.address_at(upstream, place.wrapping_add(offset)))
        };
        let others = || from_place().filter(|address| Some(*address) != failed);
        others()
            .find(|address| self.ejections.is_usable(*address, now))
            .or_else(|| others().next())
            .or_else(|| from_place().next())
    }

    fn address_at(&self, upstream: &Upstream, place: usize) -> Option<SocketAddr> {
        let count = upstream.addresses.len().max(1);
        match upstream.addresses.get(place % count)? {
            UpstreamAddress::Socket(address) => Some(*address),
            UpstreamAddress::BuiltinEcho => self.echo,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(echo: Option<SocketAddr>) -> Balancer {
        Balancer::new(echo, UpstreamMetrics::default())
    }

    fn upstream(addresses: Vec<UpstreamAddress>) -> Upstream {
        Upstream {
            name: "lists".to_owned(),
            addresses,
            resources: Vec::new(),
            public_path: String::new(),
            case_sensitive: false,
            keepalive_timeout: Duration::from_mins(1),
        }
    }

    #[test]
    fn addresses_take_turns_and_failures_go_to_the_next() {
        let socket = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let three = upstream(
            (1..=3)
                .map(|port| UpstreamAddress::Socket(socket(port)))
                .collect(),
        );
        let (balancer, now) = (balancer(None), Duration::from_secs(1));
        let four = |now| -> Vec<_> {
            let ports = (0..4).map(|_| balancer.address(&three, balancer.take(0), None, now));
            ports.map(|address| address.unwrap().port()).collect()
        };
        assert_eq!(four(now), [1, 2, 3, 1]);
        // Another upstream has its own counter.
        assert_eq!(balancer.take(1), 0);
        assert_eq!(balancer.address(&three, 2 + 1, None, now), Some(socket(1)));
        // Failed addresses are skipped, until no other is left.
        for (failed, wanted) in [(2, [3, 3, 1, 3]), (3, [1, 1, 1, 1]), (1, [1, 2, 3, 1])] {
            balancer.ejections.failed("lists", socket(failed), now);
            assert_eq!(four(now), wanted, "{failed}");
        }
        // All are skipped now: the one that has just failed is not tried twice in a row.
        for (place, failed, wanted) in [(0, 1, 2), (1, 1, 2), (2, 3, 1), (0, 3, 1)] {
            let next = balancer.address(&three, place, Some(socket(failed)), now);
            assert_eq!(next, Some(socket(wanted)), "{place} {failed}");
        }
        // An upstream with one address always uses it.
        let one = upstream(vec![UpstreamAddress::Socket(socket(1))]);
        for failed in [None, Some(socket(1))] {
            assert_eq!(balancer.address(&one, 5, failed, now), Some(socket(1)));
        }
    }

    #[test]
    fn the_echo_is_where_it_was_bound() {
        let echo = upstream(vec![UpstreamAddress::BuiltinEcho]);
        let bound = SocketAddr::from(([127, 0, 0, 1], 7));
        let now = Duration::ZERO;
        assert_eq!(
            balancer(Some(bound)).address(&echo, 5, None, now),
            Some(bound)
        );
        assert_eq!(balancer(None).address(&echo, 0, None, now), None);
    }
}
