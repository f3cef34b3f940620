//! A caller's connection as Pingora sees it: one sound request at a time, its head within its time.
//!
//! Pingora reads heads without a deadline, is lenient with their form and with chunks, waits for 24 bytes before it looks
//! at the first, and drops a request that comes before the one ahead is answered. So this stands between the socket and
//! Pingora: a head is held back until the guard has seen all of it, a body is followed to its end, and what comes behind
//! waits until Pingora asks for it.

mod frames;
mod gathered;
mod opening;
mod pace;
mod pingora_io;
mod raw;
mod request;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{SocketDigest, UniqueIDType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use self::frames::FrameBudget;
use self::gathered::Gathered;
use self::pace::{Pace, Paced};
use self::websocket::WebSocket;
use crate::proxy::connection::Connection;
use crate::proxy::guard::body::BodyCheck;
use crate::proxy::guard::{HeadCheck, HeadLimits};

/// How every HTTP/2 connection begins (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Read at once of a head.
const READ_BYTES: usize = 4096;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Of each head.
    pub head: HeadLimits,
    /// From connecting to the first byte, and from a head's first byte to its last.
    pub head_timeout: Duration,
}

/// What of the bytes of a request is Pingora's.
enum Cleared {
    /// The first so many, as they came.
    AsSent(usize),
    /// These, in the place of the first so many.
    Instead(Vec<u8>, usize),
}

/// What the bytes that come next are.
enum Reading {
    /// A head.
    Head(HeadCheck),
    /// A body.
    Body(BodyCheck),
    /// Not Pingora's yet: its request is whole, and not answered.
    Waiting,
    /// Pingora's as they come: HTTP/2, or another protocol after a 101.
    Raw,
    /// None: a head was refused or late, or a body broke its framing.
    Ended,
}

/// A caller's connection over `S`, which is a socket, or TLS over one.
pub struct CallerStream<S> {
    inner: Gathered<Paced<S>>,
    id: UniqueIDType,
    connection: Arc<Connection>,
    proxy_digest: Arc<ProxyDigest>,
    socket_digest: Arc<SocketDigest>,
    limits: StreamLimits,
    reading: Reading,
    /// Bytes that were read and not handed on yet.
    held: Vec<u8>,
    /// How many of them may be.
    cleared: usize,
    /// How many of them the check of a head has seen.
    checked: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    /// How long a body has been waited for.
    body_pace: Pace,
    /// Where this is HTTP/2.
    frames: Option<Box<FrameBudget>>,
    /// Where this is a WebSocket: what the upstream has sent.
    websocket: Option<Box<WebSocket>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CallerStream<S> {
    /// `fd` names the socket, for Pingora's digests.
    ///
    /// # Errors
    /// Never in practice: the head that the digest asks for is a constant.
    pub fn new(
        stream: S,
        fd: UniqueIDType,
        peer: SocketAddr,
        limits: StreamLimits,
    ) -> pingora::Result<Self> {
        let connection = Arc::new(Connection::new(peer));
        let socket_digest = SocketDigest::from_raw_fd(fd);
        // Otherwise asked of the system, once per connection.
        let _ = socket_digest.peer_addr.set(Some(peer.into()));
        let user_data = Arc::clone(&connection);
        Ok(Self {
            inner: Gathered::new(Paced::new(stream)),
            id: fd,
            connection,
            proxy_digest: Arc::new(ProxyDigest::new(
                Box::new(ResponseHeader::build(200, Some(0))?),
                Some(Box::new(user_data)),
            )),
            socket_digest: Arc::new(socket_digest),
            limits,
            reading: Reading::Head(HeadCheck::new(limits.head)),
            held: Vec::new(),
            cleared: 0,
            checked: 0,
            deadline: None,
            body_pace: Pace::new(),
            frames: None,
            websocket: None,
        })
    }

    /// What the phases know the connection by.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Reads more into `held`; 0: nothing more will come, or not in time.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
            Poll::Ready(result) => {
                result?;
                if self.held.is_empty() {
                    // The wait for a first byte is over.
                    self.deadline = None;
                }
                self.held.extend_from_slice(buf.filled());
                Poll::Ready(Ok(buf.filled().len()))
            }
            Poll::Pending => match &mut self.deadline {
                Some(deadline) => deadline.as_mut().poll(cx).map(|()| Ok(0)),
                None => Poll::Pending,
            },
        }
    }

    /// While a request is answered: notices that the caller has gone, and holds back what it sends already. Nobody needs
    /// to be woken: Pingora asks again once the answer is out.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() && ready!(self.poll_hold(cx))? == 0 {
            self.end_reading();
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Reads what is Pingora's to see next.
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
                Reading::Head(_) => ready!(self.poll_head(cx))?,
                Reading::Body(_) => return self.poll_body(cx, buf),
                Reading::Waiting => return self.poll_wait(cx),
                Reading::Raw if 0 < self.cleared => {}
                Reading::Raw => return self.poll_raw(cx, buf),
                Reading::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Hands on what was cleared.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let count = buf.remaining().min(self.cleared);
        buf.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        self.cleared -= count;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// What the phases have said since the last read.
    fn listen_to_phases(&mut self) {
        match self.reading {
            Reading::Waiting if self.connection.is_upgraded() => {
                self.reading = Reading::Raw;
                self.cleared = self.held.len();
            }
            Reading::Waiting if self.connection.take_head_is_next() => {
                self.reading = Reading::Head(HeadCheck::new(self.limits.head));
                self.checked = 0;
            }
            // Pingora takes a request for whole that is not: whatever it is, no head begins here.
            Reading::Body(_) if self.connection.take_head_is_next() => self.end_reading(),
            _ => {}
        }
    }
}

impl<S> CallerStream<S> {
    fn start_deadline(&mut self, span: Duration) {
        self.deadline = Some(Box::pin(sleep(span)));
    }

    fn end_reading(&mut self) {
        self.reading = Reading::Ended;
        self.deadline = None;
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
        if closes || self.connection.is_cut() {
            self.end_reading();
        }
        if self.connection.is_going_away() && self.part(cx)?.is_pending() {
            return Poll::Pending;
        }
        let read = self.poll_request(cx, buf);
        // Nothing to do but wait: what was written must not wait too. Pingora flushes an answer of a known length only at
        // its end, however slowly it comes (tests/it: answers_stream_to_the_caller_before_they_are_whole).
        // Nor must it be lost where Pingora is told of the end.
        let has_ended = matches!(self.reading, Reading::Ended);
        if (read.is_pending() || has_ended) && !self.inner.is_empty() {
            // What goes wrong here goes wrong again at the next write, whose error is looked at.
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CallerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.connection.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.connection.is_upgraded() {
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
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
