//! From a grant to the peer that a request goes to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;

use crate::config::Limits;
use crate::model::route::{Upstream, UpstreamAddress};

/// Places of turns that are kept apart; upstreams beyond share one with another, which only makes the turns less even.
const TURNS: usize = 64;
/// An idle connection to an upstream is kept this long.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Whose turn it is among the addresses of each upstream.
#[derive(Debug)]
pub struct Turns {
    next: [AtomicUsize; TURNS],
    /// Where the built-in echo answers, if it runs.
    echo: Option<SocketAddr>,
}

impl Turns {
    /// `echo`: what `builtin:echo` stands for.
    #[must_use]
    pub const fn new(echo: Option<SocketAddr>) -> Self {
        Self {
            next: [const { AtomicUsize::new(0) }; TURNS],
            echo,
        }
    }

    /// The place in its list at which a request to the `index`-th upstream begins: round robin.
    #[must_use]
    pub fn take(&self, index: usize) -> usize {
        let turn = self.next.get(index % TURNS);
        turn.map_or(0, |turn| turn.fetch_add(1, Ordering::Relaxed))
    }

    /// The address at a place in the list, counted around; `None`: the echo is meant, and there is none.
    #[must_use]
    pub fn address(&self, upstream: &Upstream, place: usize) -> Option<SocketAddr> {
        let count = upstream.addresses.len().max(1);
        match upstream.addresses.get(place % count)? {
            UpstreamAddress::Socket(address) => Some(*address),
            UpstreamAddress::BuiltinEcho => self.echo,
        }
    }
}

/// The peer for an address of an upstream, with every limit set: Pingora's own defaults wait for ever.
#[must_use]
pub fn peer(upstream: &Upstream, address: SocketAddr, limits: &Limits) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = group_key(upstream);
    let options = &mut peer.options;
    options.connection_timeout = Some(limits.upstream_connect_timeout);
    options.total_connection_timeout = Some(limits.upstream_connect_timeout);
    options.read_timeout = Some(limits.upstream_read_timeout);
    options.write_timeout = Some(limits.upstream_write_timeout);
    options.idle_timeout = Some(IDLE_TIMEOUT);
    peer
}

/// Keeps the idle connections of one upstream from another's at the same address: the pool looks at this beside the
/// address, but not at every setting in which they may differ.
fn group_key(upstream: &Upstream) -> u64 {
    let mut hasher = DefaultHasher::new();
    upstream.name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(addresses: Vec<UpstreamAddress>) -> Upstream {
        Upstream {
            name: "lists".to_owned(),
            addresses,
            resources: Vec::new(),
            public_path: String::new(),
            case_sensitive: false,
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
        let turns = Turns::new(None);
        let taken: Vec<_> = (0..4)
            .map(|_| turns.address(&three, turns.take(0)).unwrap().port())
            .collect();
        assert_eq!(taken, [1, 2, 3, 1]);
        // Another upstream has a turn of its own.
        assert_eq!(turns.take(1), 0);
        assert_eq!(turns.address(&three, 2 + 1).unwrap().port(), 1);
    }

    #[test]
    fn the_echo_is_where_it_was_bound() {
        let echo = upstream(vec![UpstreamAddress::BuiltinEcho]);
        let bound = SocketAddr::from(([127, 0, 0, 1], 7));
        assert_eq!(Turns::new(Some(bound)).address(&echo, 5), Some(bound));
        assert_eq!(Turns::new(None).address(&echo, 0), None);
    }
}
