//! The socket of an upstream connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What happened on the socket during the present exchange. The stream belongs to hyper's connection, so this is shared
/// with the exchange.
#[derive(Debug, Default)]
pub(super) struct SocketProgress {
    has_read: AtomicBool,
    has_written: AtomicBool,
    has_moved: AtomicBool,
    must_be_silent: AtomicBool,
    is_write_blocked: AtomicBool,
    has_write_failed: AtomicBool,
}

impl SocketProgress {
    /// Begins an exchange.
    pub(super) fn begin(&self) {
        self.has_read.store(false, Ordering::Relaxed);
        self.has_written.store(false, Ordering::Relaxed);
    }

    /// Whether a byte was read since the exchange began.
    pub(super) fn has_read(&self) -> bool {
        self.has_read.load(Ordering::Relaxed)
    }

    /// Whether a byte was written since the exchange began.
    pub(super) fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Relaxed)
    }

    /// Whether a byte was read or written since the last call.
    pub(super) fn take_moved(&self) -> bool {
        self.has_moved.swap(false, Ordering::Relaxed)
    }

    /// Sets whether the next read asks the system, and fails if the upstream has closed the connection or sent
    /// anything. A read otherwise returns what the runtime has noticed by then.
    pub(super) fn expect_silence(&self, expects: bool) {
        self.must_be_silent.store(expects, Ordering::Relaxed);
    }

    /// Whether a write waits for the upstream.
    pub(super) fn is_write_blocked(&self) -> bool {
        self.is_write_blocked.load(Ordering::Relaxed)
    }

    /// Whether a write has failed, after which the connection can only be read.
    pub(super) fn has_write_failed(&self) -> bool {
        self.has_write_failed.load(Ordering::Relaxed)
    }

    /// Records a write. `length`: the number of bytes that were to be written.
    fn note_write(
        &self,
        written: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let is_blocked = written.is_pending();
        self.is_write_blocked.store(is_blocked, Ordering::Relaxed);
        let Ok(count) = ready!(written) else {
            self.has_write_failed.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(length));
        };
        if 0 < count {
            self.has_written.store(true, Ordering::Relaxed);
            self.has_moved.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(count))
    }
}

/// The socket of an upstream connection, with its progress recorded.
///
/// An error of a write is not reported: an upstream may answer a request and close before it has read all of it, and
/// hyper would drop the response with the error. Reading then shows what the upstream has sent, or the end.
#[derive(Debug)]
pub(super) struct UpstreamStream {
    pub(super) socket: TcpStream,
    pub(super) progress: Arc<SocketProgress>,
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.progress.must_be_silent.load(Ordering::Relaxed) {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let is_silent = recv(&self.socket, &mut [0; 1], flags) == Err(Errno::AGAIN);
            if !is_silent {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if before < buf.filled().len() {
            self.progress.has_read.store(true, Ordering::Relaxed);
            self.progress.has_moved.store(true, Ordering::Relaxed);
        } else if self.progress.has_write_failed() && matches!(read, Poll::Ready(Ok(()))) {
            // The write has consumed the error of a reset, so this end may be that of a response that was cut off.
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.progress.has_write_failed() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.progress.note_write(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.progress.has_write_failed() {
            return Poll::Ready(Ok(length));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.progress.note_write(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
