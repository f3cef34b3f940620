//! Write coalescing: head and body of a small answer leave in one packet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Writes are coalesced up to this size.
const GATHERED_BYTES_MAX: usize = 4096;

/// A stream that coalesces small writes. Its buffer exists only while it holds bytes: most connections are idle, and
/// tokio's `BufWriter` would hold 4 KiB for each.
pub(super) struct CoalescedWrites<S> {
    pub(super) inner: S,
    bytes: Vec<u8>,
    /// How many bytes of the buffer are written.
    written: usize,
}

impl<S> CoalescedWrites<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self {
            inner,
            bytes: Vec::new(),
            written: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<S: AsyncWrite + Unpin> CoalescedWrites<S> {
    fn poll_emptied(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let rest = self.bytes.get(self.written..).unwrap_or_default();
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.bytes = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CoalescedWrites<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if GATHERED_BYTES_MAX < self.bytes.len() + buf.len() {
            ready!(self.poll_emptied(cx))?;
        }
        if GATHERED_BYTES_MAX <= buf.len() {
            return Pin::new(&mut self.inner).poll_write(cx, buf);
        }
        self.bytes.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_emptied(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_emptied(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn all_arrives_in_order_and_the_buffer_goes_with_it() {
        let (mut caller, ours) = tokio::io::duplex(1000);
        let mut gathered = CoalescedWrites::new(ours);
        let sizes = [1, 4000, 95, 1, 4096, 10_000, 3];
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(sizes.iter().sum()).collect();
        let wanted = sent.clone();
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            caller.read_to_end(&mut read).await.unwrap();
            read
        });
        let mut rest = sent.as_slice();
        for size in sizes {
            let (piece, after) = rest.split_at(size);
            gathered.write_all(piece).await.unwrap();
            rest = after;
        }
        gathered.flush().await.unwrap();
        assert_eq!(gathered.bytes.capacity(), 0);
        drop(gathered);
        assert_eq!(reader.await.unwrap(), wanted);
    }
}
