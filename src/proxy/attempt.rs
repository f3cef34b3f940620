//! One try to send a request to an upstream, and whether there may be another.

use std::net::SocketAddr;

use pingora::protocols::SocketDigest;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use crate::model::route::Upstream;
use crate::snapshot::Services;
use crate::upstream::ejection::Ejections;

/// A connection that neither side has closed, as the kernel numbers its states.
const TCP_ESTABLISHED: u8 = 1;

/// The attempts to send a granted request to its upstream.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Attempts {
    /// Where in the upstream's list the first connect goes.
    pub(in crate::proxy) first_address: usize,
    /// Connects that failed.
    pub(in crate::proxy) failed_connects: usize,
    /// Whether the request was sent a second time already.
    pub(in crate::proxy) is_resent: bool,
    /// The present attempt.
    pub(in crate::proxy) present: Attempt,
}

/// One try to send a request to an upstream.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Attempt {
    /// Where it goes.
    pub(in crate::proxy) address: Option<SocketAddr>,
    /// Bytes of the body that were handed on.
    pub(in crate::proxy) body_bytes: u64,
    /// Whether the head is out: the body was begun, or there is none.
    pub(in crate::proxy) is_body_begun: bool,
    /// Whether its kept connection was closed before anything was sent.
    is_stale: bool,
}

impl Attempt {
    /// Looks at a kept connection once more. Pingora did when it took it, but only at what the runtime had heard of by then.
    ///
    /// # Errors
    /// When the upstream has closed it.
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

    /// Notes that the upstream has taken a new connection.
    pub(in crate::proxy) fn note_connected(&self, services: &Services, ejections: &Ejections) {
        if let Some(address) = self.address {
            let now = services.clock.elapsed();
            ejections.connected(address, now, services.metrics.upstreams());
        }
    }

    /// Notes that connecting to the upstream has failed. A lack of descriptors here says nothing about what is there.
    pub(in crate::proxy) fn note_failed(
        &self,
        services: &Services,
        upstream: &Upstream,
        ejections: &Ejections,
        kind: &ErrorType,
    ) {
        let is_ours = matches!(
            kind,
            ErrorType::SocketError | ErrorType::BindError | ErrorType::InternalError
        );
        if let Some(address) = self.address.filter(|_| !is_ours) {
            let (now, metrics) = (services.clock.elapsed(), services.metrics.upstreams());
            ejections.failed(&upstream.name, address, now, metrics);
        }
    }
}

impl Attempts {
    /// Whether the request may be sent once more after its connection broke: a kept one may close just as it is used.
    pub(in crate::proxy) fn may_resend(
        &self,
        session: &mut Session,
        error: &mut Error,
        is_reused: bool,
    ) -> bool {
        // What was not sent at all may go again whatever the method: the connection was found closed, or its head could
        // not be written.
        let is_head_unwritten =
            *error.etype() == ErrorType::WriteError && !self.present.is_body_begun;
        let is_unsent = self.present.is_stale || is_head_unwritten;
        // So may what does no harm twice, if the connection closed before an answer began.
        error.retry.decide_reuse(is_reused);
        let is_harmless = error.retry() && session.req_header().method.is_idempotent();
        // What was read of the body and is not kept would be missing.
        let is_body_kept = !session.as_ref().retry_buffer_truncated();
        !self.is_resent && is_reused && is_body_kept && (is_unsent || is_harmless)
    }
}
