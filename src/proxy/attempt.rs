//! The attempts to send a request to an upstream, and whether another one may follow.

use std::net::SocketAddr;

use pingora::protocols::http::ServerSession;

use crate::upstream::failure::UpstreamFailure;

/// One attempt to send a request to an upstream.
#[derive(Debug, Default)]
pub struct Attempt {
    /// The address of the attempt.
    pub address: Option<SocketAddr>,
    /// Whether its connection has served another request before.
    pub is_reused: bool,
    /// Number of body bytes passed on.
    pub body_bytes: u64,
}

/// All attempts to send one request to its upstream.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Index of the first address to connect to, in the upstream's list.
    pub first_address: usize,
    /// The address of the failed connect, if there was one.
    pub failed_connect: Option<SocketAddr>,
    /// Whether the request has been sent a second time.
    pub is_resent: bool,
    /// The current attempt.
    pub current: Attempt,
}

impl Attempts {
    /// Returns the index of the next address to connect to.
    #[must_use]
    pub const fn next_address(&self) -> usize {
        self.first_address
            .wrapping_add(self.failed_connect.is_some() as usize)
    }

    /// Whether a request may be sent again after its connection broke: a kept connection may close just as it is used.
    pub(in crate::proxy) fn may_resend(
        &self,
        session: &ServerSession,
        failure: UpstreamFailure,
    ) -> bool {
        // An idempotent request may be repeated if the connection closed before the response began; one that was not
        // sent at all, whatever its method.
        let is_harmless = failure.is_unanswered && session.req_header().method.is_idempotent();
        // A part of the body that was read but not buffered would be missing.
        let is_body_kept = !session.retry_buffer_truncated();
        let may_repeat = failure.is_unsent || is_harmless;
        !self.is_resent && self.current.is_reused && is_body_kept && may_repeat
    }
}
