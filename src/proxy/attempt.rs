//! The attempts to send a request to an upstream, and whether another one may follow.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use pingora::protocols::SocketDigest;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use crate::config::Limits;
use crate::model::id::RequestId;
use crate::model::route::Upstream;

/// The kernel's number of the TCP state of an open connection.
const TCP_ESTABLISHED: u8 = 1;

/// One attempt to send a request to an upstream.
#[derive(Debug, Default)]
pub struct Attempt {
    /// The address of the attempt.
    pub address: Option<SocketAddr>,
    /// Number of body bytes passed on.
    pub body_bytes: u64,
    /// Whether sending the body has begun, which implies that the head was sent; also set if there is no body.
    pub is_body_begun: bool,
    /// Whether its kept connection was found closed before anything was sent.
    pub is_stale: bool,
}

impl Attempt {
    /// Checks a kept connection again, in the kernel. Pingora checked it before reuse, but only what the runtime had
    /// noticed by then.
    ///
    /// # Errors
    /// If the upstream has closed the connection.
    pub(in crate::proxy) fn check_kept(
        &mut self,
        socket: Option<&SocketDigest>,
    ) -> pingora::Result<()> {
        let info = socket.and_then(SocketDigest::tcp_info);
        self.is_stale = info.is_some_and(|info| info.tcpi_state != TCP_ESTABLISHED);
        if self.is_stale {
            let closed = Error::explain(ErrorType::ConnectionClosed, "a kept connection");
            return Err(closed.into_up());
        }
        Ok(())
    }
}

/// All attempts to send one request to its upstream.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Index of the first address to connect to, in the upstream's list.
    pub first_address: usize,
    /// Number of failed connects.
    pub failed_connects: usize,
    /// Whether the request has been sent a second time.
    pub is_resent: bool,
    /// The current attempt.
    pub current: Attempt,
}

impl Attempts {
    /// Returns the index of the next address to connect to.
    #[must_use]
    pub const fn next_address(&self) -> usize {
        self.first_address.wrapping_add(self.failed_connects)
    }

    /// Whether a request may be sent again after its connection broke: a kept connection may close just as it is used.
    pub(in crate::proxy) fn may_resend(
        &self,
        session: &mut Session,
        error: &mut Error,
        is_reused: bool,
    ) -> bool {
        // A request that was not sent at all may be repeated whatever its method: the connection was found closed, or
        // the head could not be written.
        let attempt = &self.current;
        let is_head_unwritten = *error.etype() == ErrorType::WriteError && !attempt.is_body_begun;
        let is_unsent = attempt.is_stale || is_head_unwritten;
        // An idempotent request may be repeated too, if the connection closed before the answer began.
        error.retry.decide_reuse(is_reused);
        let is_harmless = error.retry() && session.req_header().method.is_idempotent();
        // A part of the body that was read but not buffered would be missing.
        let is_body_kept = !session.as_ref().retry_buffer_truncated();
        !self.is_resent && is_reused && is_body_kept && (is_unsent || is_harmless)
    }
}

/// Creates the peer for an address of an upstream, with every timeout set: Pingora's defaults have none. `fresh`: a
/// request that must not reuse a connection.
pub(in crate::proxy) fn peer(
    upstream: &Upstream,
    address: SocketAddr,
    limits: &Limits,
    fresh: Option<RequestId>,
) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    // Separates the idle connections of one upstream from those of another at the same address: the pool compares it in
    // addition to the address, but not every setting in which they may differ.
    let mut group_key = DefaultHasher::new();
    upstream.name.hash(&mut group_key);
    if let Some(id) = fresh {
        id.as_str().hash(&mut group_key);
    }
    peer.group_key = group_key.finish();
    let options = &mut peer.options;
    options.connection_timeout = Some(limits.upstream_connect_timeout);
    options.total_connection_timeout = Some(limits.upstream_connect_timeout);
    options.read_timeout = Some(limits.upstream_read_timeout);
    options.write_timeout = Some(limits.upstream_write_timeout);
    options.idle_timeout = Some(upstream.keepalive_timeout);
    peer
}
