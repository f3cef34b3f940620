//! One HTTP/1 connection to an upstream.
//!
//! hyper parses and frames. Its connection is a future of its own, which is usually spawned; here the task of the
//! request that uses the connection polls it, so that no other task is woken on the way.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::limit::deadline::Deadline;
use crate::upstream::body::RequestBody;
use crate::upstream::failure::{FailureKind, UpstreamFailure};
use crate::upstream::stream::{SocketProgress, UpstreamStream};

/// Maximum number of bytes read ahead on a connection, which also limits the head of a response. The number of its
/// header fields has hyper's limit of 100: with any other, hyper would allocate for each response.
const READ_BYTES_MAX: usize = 64 * 1024;

/// A connection to an upstream, idle or used by one exchange.
pub struct UpstreamConnection {
    pub(super) sender: SendRequest<RequestBody>,
    driver: Box<Connection<TokioIo<UpstreamStream>, RequestBody>>,
    has_ended: bool,
    pub(super) progress: Arc<SocketProgress>,
    /// When the wait of the exchange ends. It belongs to the connection, which keeps its timer between two exchanges.
    pub(super) deadline: Deadline,
    fd: RawFd,
    pub(super) idle_since: Instant,
}

impl UpstreamConnection {
    /// Connects to an address.
    ///
    /// # Errors
    /// If the connection is not established within `limit`.
    pub async fn open(address: SocketAddr, limit: Duration) -> Result<Self, UpstreamFailure> {
        let connected = timeout(limit, TcpStream::connect(address)).await;
        let socket = connected
            .map_err(|_| FailureKind::ConnectTimedout)
            .and_then(|it| it.map_err(|error| FailureKind::of_connect(&error)))
            .map_err(UpstreamFailure::unsent)?;
        // Without this, the last packet of a request could wait for an acknowledgement (Nagle's algorithm).
        let _ = socket.set_nodelay(true);
        let fd = socket.as_raw_fd();
        let progress = Arc::new(SocketProgress::default());
        let stream = UpstreamStream {
            socket,
            progress: Arc::clone(&progress),
        };
        let shaken = Builder::new()
            .max_buf_size(READ_BYTES_MAX)
            // Old services send both, and a proxy may repair what it passes on (RFC 9112 sections 5.1 and 5.2).
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, driver) = shaken.map_err(|_| UpstreamFailure::unsent(FailureKind::Connect))?;
        Ok(Self {
            sender,
            driver: Box::new(driver),
            has_ended: false,
            progress,
            deadline: Deadline::never(),
            fd,
            idle_since: Instant::now(),
        })
    }

    /// Returns the number of its socket, by which the system's state of the connection can be read.
    #[must_use]
    pub const fn fd(&self) -> RawFd {
        self.fd
    }

    /// Whether a request may be sent: the upstream has neither closed the connection nor sent bytes that no request
    /// asked for.
    // INVARIANT: bytes that arrive between two requests are never taken for a response
    // (pool::tests::a_connection_that_closed_or_sent_something_is_not_taken; tests/it/differential).
    pub(super) fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.poll_driver(&mut cx) && self.sender.is_ready() && !self.progress.has_write_failed()
    }

    /// Whether a request may be sent at this moment. The system is asked as well, because it may know of a close or of
    /// bytes that the runtime has not noticed.
    pub(super) fn is_usable_now(&mut self) -> bool {
        self.progress.expect_silence(true);
        let is_usable = self.is_usable();
        self.progress.expect_silence(false);
        is_usable
    }

    /// Reads and writes what is possible. Returns whether the connection has ended.
    pub(super) fn poll_driver(&mut self, cx: &mut Context<'_>) -> bool {
        // The error of a connection reaches the exchange as that of its response.
        self.has_ended = self.has_ended || self.driver.poll_without_shutdown(cx).is_ready();
        self.has_ended
    }

    /// Takes the connection apart after a switch to another protocol: the socket, and the bytes of the other protocol
    /// that were read already.
    pub(super) fn into_socket(self) -> (TcpStream, Bytes) {
        let parts = self.driver.into_parts();
        (parts.io.into_inner().socket, parts.read_buf)
    }
}

impl std::fmt::Debug for UpstreamConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamConnection")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}
