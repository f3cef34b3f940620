//! The end of a connection.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::edge::stream::{CallerStream, READ_BYTES};

/// How long a caller that is still sending a request may continue after its response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How many bytes such a caller may continue to send: more than the buffers on the way hold.
const LINGER_BYTES_MAX: usize = 8 << 20;

impl<S: AsyncRead + AsyncWrite + Unpin> CallerStream<S> {
    /// Writes what is left and announces the end. A caller that is still sending a request is then read for a moment, and
    /// what it sends is discarded: closing with unread bytes would reset the connection, and the caller could lose the
    /// response.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger_bytes_left.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            if !self.connection.lingering.is_set() || self.connection.cut_off.is_set() {
                return Poll::Ready(Ok(()));
            }
            self.linger_bytes_left = Some(LINGER_BYTES_MAX);
            self.deadline.start(LINGER_TIMEOUT);
        }
        self.poll_discard(cx).map(Ok)
    }

    /// Discards what the caller sends until it ends, or is too slow, or sends too much.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
        while let Some(left @ 1..) = self.linger_bytes_left {
            let mut buf = ReadBuf::uninit(&mut bytes);
            let Poll::Ready(read) = self.socket().poll_read(cx, &mut buf) else {
                return self.deadline.poll_passed(cx);
            };
            let count = buf.filled().len();
            if read.is_err() || count == 0 {
                break;
            }
            self.linger_bytes_left = Some(left.saturating_sub(count));
        }
        Poll::Ready(())
    }
}
