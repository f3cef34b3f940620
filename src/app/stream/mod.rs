//! A caller's connection as Pingora sees it: one sound request at a time, its head within its time.
//!
//! Pingora reads heads without a deadline, is lenient with their form and with chunks, waits for 24 bytes before it looks
//! at the first, and drops a request that comes before the one ahead is answered. So this stands between the socket and
//! Pingora: a head is held back until the guard has seen all of it, a body is followed to its end, and what comes behind
//! waits until Pingora asks for it.

mod frames;
mod pace;
mod pingora_io;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{SocketDigest, UniqueIDType};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::time::{Sleep, sleep};

use self::frames::FrameBudget;
use self::pace::{Pace, Paced};
use crate::model::deny::DenyReason;
use crate::proxy::connection::{Connection, RefusedHead};
use crate::proxy::guard::body::{BodyCheck, BodyProgress};
use crate::proxy::guard::{HeadCheck, HeadLimits, Progress};

/// How every HTTP/2 connection begins (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Small writes are gathered up to this: head and body of an answer leave in one packet.
const WRITE_BUFFER_BYTES: usize = 4096;
/// Read at once while a head comes in pieces.
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
    inner: BufWriter<Paced<S>>,
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
            inner: BufWriter::with_capacity(WRITE_BUFFER_BYTES, Paced::new(stream)),
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
                self.held.extend_from_slice(buf.filled());
                Poll::Ready(Ok(buf.filled().len()))
            }
            Poll::Pending => match &mut self.deadline {
                Some(deadline) => deadline.as_mut().poll(cx).map(|()| Ok(0)),
                None => Poll::Pending,
            },
        }
    }

    /// Runs only while a head is unfinished: an idle connection is Pingora's to close.
    fn start_deadline(&mut self, span: Duration) {
        self.deadline = Some(Box::pin(sleep(span)));
    }

    fn end_reading(&mut self) {
        self.reading = Reading::Ended;
        self.deadline = None;
        self.held = Vec::new();
        self.cleared = 0;
    }

    /// Puts the stand-in in the place of a request that is refused.
    fn refuse(&mut self, reason: DenyReason, head: &[u8]) {
        let refused = RefusedHead::new(reason, head);
        let stand_in = refused.stand_in();
        self.connection.refuse(refused);
        self.end_reading();
        self.held.extend_from_slice(stand_in);
        self.cleared = stand_in.len();
    }

    /// Judges `bytes`, all that came since the head's first byte. Gives what of them is Pingora's: head and body, but
    /// nothing of what follows them; `None`: the head is not whole.
    fn judge(&mut self, bytes: &[u8]) -> Result<Option<Cleared>, DenyReason> {
        let Reading::Head(check) = &mut self.reading else {
            return Ok(None);
        };
        let Progress::Whole(head_bytes) = check.feed(bytes)? else {
            return Ok(None);
        };
        let mut body = BodyCheck::new(check.framing(), self.limits.head.bytes_max);
        let rest = bytes.get(head_bytes..).unwrap_or_default();
        let rewritten = check.rewritten(bytes);
        self.deadline = None;
        self.body_pace = Pace::new();
        let count = match body.feed(rest)? {
            BodyProgress::More => {
                self.reading = Reading::Body(body);
                bytes.len()
            }
            BodyProgress::Ends(count) => {
                self.reading = Reading::Waiting;
                head_bytes + count
            }
        };
        Ok(Some(match rewritten {
            Some(mut text) => {
                text.extend(bytes.get(head_bytes..count).unwrap_or_default());
                Cleared::Instead(text, count)
            }
            None => Cleared::AsSent(count),
        }))
    }

    /// Hands on a head that came in one read, which is nearly every one, without copying it; `false`: look again.
    fn poll_whole_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(Ok(true));
        }
        match self.judge(fresh) {
            Ok(Some(Cleared::AsSent(count))) => {
                self.held.extend(fresh.get(count..).unwrap_or_default());
                buf.set_filled(before + count);
                return Poll::Ready(Ok(true));
            }
            Ok(Some(Cleared::Instead(text, count))) => {
                self.cleared = text.len();
                self.held = text;
                self.held.extend(fresh.get(count..).unwrap_or_default());
            }
            Ok(None) => {
                self.held.extend_from_slice(fresh);
                self.checked = self.held.len();
                self.start_deadline(self.limits.head_timeout);
            }
            Err(reason) => self.refuse(reason, fresh),
        }
        buf.set_filled(before);
        Poll::Ready(Ok(false))
    }

    /// Goes on with a head that comes in pieces.
    fn poll_rest_of_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.checked == self.held.len() && ready!(self.poll_hold(cx))? == 0 {
            self.end_reading();
            return Poll::Ready(Ok(()));
        }
        let held = std::mem::take(&mut self.held);
        match self.judge(&held) {
            Ok(Some(Cleared::AsSent(count))) => {
                self.cleared = count;
                self.held = held;
            }
            Ok(Some(Cleared::Instead(text, count))) => {
                self.cleared = text.len();
                self.held = text;
                self.held.extend(held.get(count..).unwrap_or_default());
            }
            Ok(None) => {
                self.checked = held.len();
                self.held = held;
                if self.deadline.is_none() {
                    self.start_deadline(self.limits.head_timeout);
                }
            }
            Err(reason) => self.refuse(reason, &held),
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a body, as far as it goes; what follows it is held back.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_pending() {
            return self.poll_slow_body(cx);
        }
        ready!(read)?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let Reading::Body(check) = &mut self.reading else {
            return Poll::Ready(Ok(()));
        };
        self.connection.begin_body();
        // What comes once the answer is out earns nothing: it is read only so that the connection can go on.
        let earning = if self.connection.is_answered() {
            0
        } else {
            fresh.len()
        };
        self.body_pace.moved(earning);
        match check.feed(fresh) {
            Ok(BodyProgress::More) => {}
            Ok(BodyProgress::Ends(count)) => {
                self.held.extend(fresh.get(count..).unwrap_or_default());
                buf.set_filled(before + count);
                self.reading = Reading::Waiting;
            }
            Err(_) => {
                self.connection.spoil_body();
                self.end_reading();
                buf.set_filled(before);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for more of a body, as long as the caller may take.
    fn poll_slow_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.connection.is_body_awaited() {
            self.body_pace.pause();
            return Poll::Pending;
        }
        ready!(self.body_pace.poll_spent(cx));
        self.connection.give_up_body();
        self.end_reading();
        Poll::Ready(Ok(()))
    }

    /// Reads what is not HTTP/1.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let fits = self.frames.as_mut().is_none_or(|it| it.take(fresh));
        if !fits {
            buf.set_filled(before);
            return Poll::Ready(Err(self.end_flood()));
        }
        Poll::Ready(Ok(()))
    }

    fn end_flood(&mut self) -> io::Error {
        self.connection.note_flood();
        self.end_reading();
        io::ErrorKind::ConnectionAborted.into()
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
                Reading::Head(_) if self.held.is_empty() => {
                    if ready!(self.poll_whole_head(cx, buf))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Reading::Head(_) => ready!(self.poll_rest_of_head(cx))?,
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

    /// Waits for the first bytes: as long as none have come, whoever waits may drop the connection unharmed.
    ///
    /// # Errors
    /// When the caller has gone, or has said nothing in time.
    pub async fn first_bytes(&mut self) -> io::Result<()> {
        self.start_deadline(self.limits.head_timeout);
        self.hold().await?;
        self.start_deadline(self.limits.head_timeout);
        Ok(())
    }

    async fn hold(&mut self) -> io::Result<()> {
        let held = std::future::poll_fn(|cx| {
            if self.connection.closes_now(cx.waker()) {
                return Poll::Ready(Ok(0));
            }
            self.poll_hold(cx)
        });
        match held.await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads until it is clear whether this is HTTP/2.
    ///
    /// # Errors
    /// As [`CallerStream::first_bytes`].
    pub async fn see_preface(&mut self) -> io::Result<bool> {
        if self.held.is_empty() {
            self.first_bytes().await?;
        }
        while H2_PREFACE.starts_with(&self.held) && self.held.len() < H2_PREFACE.len() {
            self.hold().await?;
        }
        let is_h2 = self.held.starts_with(H2_PREFACE);
        if is_h2 && self.frames.is_none() {
            let mut frames = Box::new(FrameBudget::new(H2_PREFACE.len()));
            let fits = frames.take(&self.held);
            self.frames = Some(frames);
            if !fits {
                return Err(self.end_flood());
            }
            self.reading = Reading::Raw;
            self.cleared = self.held.len();
            self.deadline = None;
        }
        Ok(is_h2)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for CallerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cleared == 0 && self.connection.closes_now(cx.waker()) {
            self.end_reading();
        }
        let read = self.poll_request(cx, buf);
        // Nothing to do but wait: what was written must not wait too. Pingora flushes an answer of a known length only at
        // its end, however slowly it comes (tests/it: answers_stream_to_the_caller_before_they_are_whole).
        if read.is_pending() && !self.inner.buffer().is_empty() {
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
