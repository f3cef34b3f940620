//! The Pingora peer of a granted request.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use pingora::upstreams::peer::HttpPeer;

use crate::config::Limits;
use crate::model::id::RequestId;
use crate::model::route::Upstream;

/// Creates the peer for an address of an upstream, with every timeout set: Pingora's defaults have none. `fresh`: a
/// request that must not reuse a connection.
#[must_use]
pub fn peer(
    upstream: &Upstream,
    address: SocketAddr,
    limits: &Limits,
    fresh: Option<RequestId>,
) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = group_key(upstream, fresh);
    let options = &mut peer.options;
    options.connection_timeout = Some(limits.upstream_connect_timeout);
    options.total_connection_timeout = Some(limits.upstream_connect_timeout);
    options.read_timeout = Some(limits.upstream_read_timeout);
    options.write_timeout = Some(limits.upstream_write_timeout);
    options.idle_timeout = Some(upstream.keepalive_timeout);
    peer
}

/// Returns a key that separates the idle connections of one upstream from those of another at the same address: the
/// pool compares it in addition to the address, but not every setting in which they may differ.
fn group_key(upstream: &Upstream, fresh: Option<RequestId>) -> u64 {
    let mut hasher = DefaultHasher::new();
    upstream.name.hash(&mut hasher);
    if let Some(id) = fresh {
        id.as_str().hash(&mut hasher);
    }
    hasher.finish()
}
