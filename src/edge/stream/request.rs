//! The heads and bodies of requests, each checked before Pingora sees it.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::edge::stream::pace::PaceBudget;
use crate::edge::stream::{CallerStream, StreamState};
use crate::model::deny::DenyReason;
use crate::proxy::connection::RefusedHead;
use crate::proxy::guard::HeadProgress;
use crate::proxy::guard::body::{BodyCheck, BodyProgress};

/// The number of bytes of a request that are cleared for Pingora, and the bytes that replace them, if any.
type ClearedBytes = (usize, Option<Vec<u8>>);

impl<S: AsyncRead + AsyncWrite + Unpin> CallerStream<S> {
    /// Replaces a refused request with the stand-in.
    fn refuse(&mut self, reason: DenyReason, head: &[u8]) {
        let refused = RefusedHead::new(reason, head);
        let stand_in = refused.stand_in();
        self.connection.refuse(refused);
        self.end_reading();
        self.held.extend_from_slice(stand_in);
        self.cleared = stand_in.len();
    }

    /// Checks `bytes`, everything received since the first byte of the head. Returns what of it is cleared: head and
    /// body, but nothing that follows; `None` if the head is incomplete.
    fn check_head(&mut self, bytes: &[u8]) -> Result<Option<ClearedBytes>, DenyReason> {
        let StreamState::Head(check) = &mut self.reading else {
            return Ok(None);
        };
        let HeadProgress::Whole(head_bytes) = check.feed(bytes)? else {
            return Ok(None);
        };
        let mut body = BodyCheck::new(check.framing(), self.limits.head.bytes_max);
        let rest = bytes.get(head_bytes..).unwrap_or_default();
        let rewritten = check.rewritten(bytes);
        self.deadline.clear();
        self.body_pace = PaceBudget::new();
        let count = match body.feed(rest)? {
            BodyProgress::More => {
                self.reading = StreamState::Body(body);
                bytes.len()
            }
            BodyProgress::Ends(count) => {
                self.reading = StreamState::Waiting;
                head_bytes + count
            }
        };
        let rewritten = rewritten.map(|mut text| {
            text.extend(bytes.get(head_bytes..count).unwrap_or_default());
            text
        });
        Ok(Some((count, rewritten)))
    }

    /// Reads a head, in any number of pieces. Bytes held but not checked yet are the start of one.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.checked == self.held.len() && ready!(self.poll_hold(cx))? == 0 {
            self.end_reading();
            return Poll::Ready(Ok(()));
        }
        let held = std::mem::take(&mut self.held);
        match self.check_head(&held) {
            Ok(Some((count, None))) => {
                self.cleared = count;
                self.held = held;
            }
            Ok(Some((count, Some(text)))) => {
                self.cleared = text.len();
                self.held = text;
                self.held.extend(held.get(count..).unwrap_or_default());
            }
            Ok(None) => {
                self.checked = held.len();
                self.held = held;
                if !self.deadline.is_set() {
                    self.deadline.start(self.limits.head_timeout);
                }
            }
            Err(reason) => self.refuse(reason, &held),
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a body up to its end; what follows is held back.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.socket().poll_read(cx, buf);
        if read.is_pending() {
            return self.poll_slow_body(cx);
        }
        ready!(read)?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let StreamState::Body(check) = &mut self.reading else {
            return Poll::Ready(Ok(()));
        };
        self.connection.begin_body();
        // Bytes after the answer refill nothing: they are read only so that the connection can be reused.
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
                self.reading = StreamState::Waiting;
            }
            Err(_) => {
                self.connection.end_body(DenyReason::RequestMalformed);
                self.end_reading();
                buf.set_filled(before);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for more of a body, within the pace required of the caller.
    fn poll_slow_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.connection.is_body_awaited() {
            self.body_pace.pause();
            return Poll::Pending;
        }
        ready!(self.body_pace.poll_spent(cx));
        self.connection.end_body(DenyReason::BodyTimeout);
        self.end_reading();
        Poll::Ready(Ok(()))
    }
}
