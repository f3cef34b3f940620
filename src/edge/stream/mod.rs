//! A caller's connection as Pingora sees it. On HTTP/1: one well-formed request at a time, whose head arrives before
//! its deadline. HTTP/2 passes through, with its frames counted.
//!
//! Pingora reads heads without a deadline, is lenient about their syntax and about chunks, waits for 24 bytes before it
//! checks the first, and drops a pipelined request. This layer between the socket and Pingora therefore holds a head
//! back until the guard has checked all of it, follows a body to its end, and holds back what follows until Pingora
//! asks for it.

mod closing;
mod frames;
mod gathered;
mod opening;
mod pace;
mod pingora_io;
mod raw;
mod request;
mod websocket;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{SocketDigest, UniqueIDType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::frames::FrameBudget;
use self::gathered::CoalescedWrites;
use self::pace::{PaceBudget, PacedStream};
use self::websocket::WebSocket;
use crate::limit::deadline::Deadline;
use crate::proxy::connection::Connection;
use crate::proxy::guard::body::BodyCheck;
use crate::proxy::guard::{HeadCheck, HeadLimits};

/// The connection preface of HTTP/2 (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a head read at a time.
const READ_BYTES: usize = 4096;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Limits of each head.
    pub head: HeadLimits,
    /// Timeout from connecting to the first byte, and from the first byte of a head to its last.
    pub head_timeout: Duration,
}

/// The state of reading: what the next bytes belong to.
enum StreamState {
    /// A head.
    Head(HeadCheck),
    /// A body.
    Body(BodyCheck),
    /// Bytes are held back: the request is complete, and not answered yet.
    Waiting,
    /// All bytes pass unchanged: HTTP/2, or another protocol after a 101.
    Raw,
    /// Nothing is read any more: a head was refused or late, or a body broke its framing.
    Ended,
}

/// A caller's connection over `S`, a socket or TLS over one.
pub struct CallerStream<S> {
    inner: CoalescedWrites<PacedStream<S>>,
    id: UniqueIDType,
    connection: Arc<Connection>,
    proxy_digest: Arc<ProxyDigest>,
    socket_digest: Arc<SocketDigest>,
    limits: StreamLimits,
    reading: StreamState,
    /// Bytes read and not passed on yet.
    held: Vec<u8>,
    /// How many of the held bytes may be passed on.
    cleared: usize,
    /// How many of the held bytes the check of a head has seen.
    checked: usize,
    deadline: Deadline,
    /// The remaining time to wait for a body.
    body_pace: PaceBudget,
    /// How many bytes may still be discarded, once the end was announced to a caller that is still sending.
    linger_bytes_left: Option<usize>,
    /// Present on an HTTP/2 connection.
    frames: Option<Box<FrameBudget>>,
    /// The frame state of the upstream's side, once this is a WebSocket.
    websocket: Option<Box<WebSocket>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CallerStream<S> {
    /// Wraps a connection. `fd` names the socket in Pingora's digests.
    ///
    /// # Errors
    /// Never in practice: the head built for the digest is a constant.
    pub fn new(
        stream: S,
        fd: UniqueIDType,
        peer: SocketAddr,
        limits: StreamLimits,
    ) -> pingora::Result<Self> {
        let connection = Arc::new(Connection::new(peer));
        let socket_digest = SocketDigest::from_raw_fd(fd);
        // Otherwise Pingora would ask the system for it, once per connection.
        let _ = socket_digest.peer_addr.set(Some(peer.into()));
        let user_data = Arc::clone(&connection);
        Ok(Self {
            inner: CoalescedWrites::new(PacedStream::new(stream)),
            id: fd,
            connection,
            proxy_digest: Arc::new(ProxyDigest::new(
                Box::new(ResponseHeader::build(200, Some(0))?),
                Some(Box::new(user_data)),
            )),
            socket_digest: Arc::new(socket_digest),
            limits,
            reading: StreamState::Head(HeadCheck::new(limits.head)),
            held: Vec::new(),
            cleared: 0,
            checked: 0,
            deadline: Deadline::never(),
            body_pace: PaceBudget::new(),
            linger_bytes_left: None,
            frames: None,
            websocket: None,
        })
    }

    /// Returns the shared state by which the proxy phases know this connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Reads more into `held`. Returns 0 at the end of the stream or at the deadline.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Not zeroed: most polls find nothing to read.
        let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buf = ReadBuf::uninit(&mut bytes);
        match self.socket().poll_read(cx, &mut buf) {
            Poll::Ready(result) => {
                result?;
                if self.held.is_empty() {
                    // The wait for a first byte is over.
                    self.deadline.clear();
                }
                self.held.extend_from_slice(buf.filled());
                Poll::Ready(Ok(buf.filled().len()))
            }
            Poll::Pending => self.deadline.poll_passed(cx).map(|()| Ok(0)),
        }
    }

    /// While a request is being answered: notices that the caller has left as long as it has sent nothing early, and
    /// holds back what it sends early. No waker is needed: Pingora polls again once the answer is written.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() && ready!(self.poll_hold(cx))? == 0 {
            self.end_reading();
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Reads the next bytes that Pingora may see.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if 0 < self.cleared {
                self.give(buf);
                return Poll::Ready(Ok(()));
            }
            self.listen_to_phases();
            match self.reading {
                StreamState::Head(_) => ready!(self.poll_head(cx))?,
                StreamState::Body(_) => return self.poll_body(cx, buf),
                StreamState::Waiting => return self.poll_wait(cx),
                StreamState::Raw if 0 < self.cleared => {}
                StreamState::Raw => return self.poll_raw(cx, buf),
                StreamState::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Passes on cleared bytes.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let count = buf.remaining().min(self.cleared);
        buf.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        self.cleared -= count;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// Applies what the proxy phases have signalled since the last read.
    fn listen_to_phases(&mut self) {
        match self.reading {
            StreamState::Waiting if self.connection.upgraded.is_set() => {
                self.reading = StreamState::Raw;
                self.cleared = self.held.len();
            }
            StreamState::Waiting if self.connection.take_head_is_next() => {
                self.reading = StreamState::Head(HeadCheck::new(self.limits.head));
                self.checked = 0;
            }
            // Pingora considers an incomplete request complete: in any case, no head begins here.
            StreamState::Body(_) if self.connection.take_head_is_next() => self.end_reading(),
            _ => {}
        }
    }
}

impl<S> CallerStream<S> {
    /// Returns the socket, for reading.
    fn socket(&mut self) -> Pin<&mut S>
    where
        S: Unpin,
    {
        Pin::new(&mut self.inner.inner.inner)
    }

    fn end_reading(&mut self) {
        self.reading = StreamState::Ended;
        self.deadline.clear();
        self.held = Vec::new();
        self.cleared = 0;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for CallerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let closes = self.cleared == 0 && self.connection.closes_now(cx.waker());
        if closes || self.connection.cut_off.is_set() {
            self.end_reading();
        }
        if self.connection.going_away.is_set() && self.part(cx)?.is_pending() {
            return Poll::Pending;
        }
        let read = self.poll_request(cx, buf);
        // The task is about to wait, so written bytes must be flushed: Pingora flushes an answer of known length only
        // at its end, however slowly it comes (tests/it: answers_stream_to_the_caller_before_they_are_whole). They must
        // not be lost either when Pingora sees the end of the stream.
        let has_ended = matches!(self.reading, StreamState::Ended);
        if (read.is_pending() || has_ended) && !self.inner.is_empty() {
            // An error here occurs again at the next write, where it is handled.
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for CallerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.connection.cut_off.is_set() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.connection.upgraded.is_set() {
            return self.poll_write_frames(cx, buf);
        }
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        if let Some(frames) = &mut self.frames {
            frames.give(buf.get(..count).unwrap_or_default());
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
