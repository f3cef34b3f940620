//! Everything but HTTP/1: HTTP/2, and `WebSockets` after the upgrade.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::edge::stream::CallerStream;
use crate::edge::stream::websocket::{GOING_AWAY, WebSocket};

/// How long caller and upstream may take to close a WebSocket that the gateway has ended.
const PARTING_TIME: Duration = Duration::from_secs(2);

impl<S: AsyncRead + AsyncWrite + Unpin> CallerStream<S> {
    /// Reads bytes that are not HTTP/1.
    pub(super) fn poll_raw(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.socket().poll_read(cx, buf);
        if read.is_pending() && self.is_parting_over(cx) {
            self.end_reading();
            return Poll::Ready(Ok(()));
        }
        ready!(read)?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let fits = self.frames.as_mut().is_none_or(|it| it.take(fresh));
        if !fits {
            buf.set_filled(before);
            return Poll::Ready(Err(self.end_flood()));
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn end_flood(&mut self) -> io::Error {
        self.connection.note_flood();
        self.end_reading();
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl<S> CallerStream<S> {
    fn is_parting_over(&mut self, cx: &mut Context<'_>) -> bool {
        let is_parted = self.websocket.as_ref().is_some_and(|it| it.is_parted);
        is_parted && self.deadline.poll_passed(cx).is_ready()
    }
}

impl<S: AsyncWrite + Unpin> CallerStream<S> {
    /// Ends a WebSocket if the upstream's stream is between two frames. The caller's answer to the close frame is
    /// forwarded to the upstream, which thus learns of the end too.
    pub(super) fn part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(websocket) = self.websocket.as_mut().filter(|it| it.may_part()) else {
            return Poll::Ready(Ok(()));
        };
        // So few bytes are written completely or not at all.
        ready!(Pin::new(&mut self.inner).poll_write(cx, &GOING_AWAY))?;
        websocket.is_parted = true;
        self.deadline.start(PARTING_TIME);
        Poll::Ready(Ok(()))
    }

    /// Writes the upstream's WebSocket frames until the WebSocket is ended.
    pub(super) fn poll_write_frames(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let is_going_away = self.connection.going_away.is_set();
        if is_going_away {
            ready!(self.part(cx))?;
        }
        let websocket = self
            .websocket
            .get_or_insert_with(|| Box::new(WebSocket::new()));
        if websocket.is_parted {
            // Nothing follows a close frame.
            return Poll::Ready(Ok(buf.len()));
        }
        let count = match websocket.begun(buf) {
            begun if is_going_away && 0 < begun => begun,
            _ => buf.len(),
        };
        let piece = buf.get(..count).unwrap_or_default();
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, piece))?;
        websocket.feed(piece.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }
}
