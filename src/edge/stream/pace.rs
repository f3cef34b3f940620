//! The minimum pace at which a caller has to send a body, or read an answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep};

use crate::proxy::exchange::{PATIENCE, time_for};

/// A budget of waiting time. It is spent only while waiting for the caller; bytes that move refill it, up to
/// [`PATIENCE`].
pub(super) struct PaceBudget {
    left: Duration,
    is_waiting: bool,
    /// Reused from one wait to the next.
    timer: Option<Pin<Box<Sleep>>>,
}

impl PaceBudget {
    pub(super) const fn new() -> Self {
        Self {
            left: PATIENCE,
            is_waiting: false,
            timer: None,
        }
    }

    /// Continues to wait; ready once the budget is spent.
    pub(super) fn poll_spent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.left)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(Instant::now() + self.left);
        }
        timer.as_mut().poll(cx)
    }

    /// Records that this many bytes have moved.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.pause();
        self.left = PATIENCE.min(self.left + time_for(bytes as u64));
    }

    /// Stops the clock while the caller is not waited for.
    pub(super) fn pause(&mut self) {
        if self.is_waiting
            && let Some(timer) = &self.timer
        {
            self.left = timer.deadline().saturating_duration_since(Instant::now());
        }
        self.is_waiting = false;
    }
}

/// A stream whose reader has to keep pace while bytes are waiting to be written.
pub(super) struct PacedStream<S> {
    pub(super) inner: S,
    pace: PaceBudget,
}

impl<S> PacedStream<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self {
            inner,
            pace: PaceBudget::new(),
        }
    }

    /// Replaces pending progress by a timeout error once the budget is spent.
    fn or_late<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
        count: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match &progress {
            Poll::Ready(Ok(value)) => self.pace.moved(count(value)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if self.pace.poll_spent(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        progress
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.or_late(cx, progress, |count| *count)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_flush(cx);
        self.or_late(cx, progress, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_given_up_and_who_reads_slowly_is_not() {
        for (each_s, is_served) in [(1, true), (30, false)] {
            let (mut caller, ours) = tokio::io::duplex(1024);
            let mut paced = PacedStream::new(ours);
            let reader = tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while caller.read(&mut bytes).await.is_ok_and(|count| count != 0) {
                    sleep(Duration::from_secs(each_s)).await;
                }
            });
            let written = paced.write_all(&vec![0; 64 * 1024]).await;
            assert_eq!(written.is_ok(), is_served, "{each_s}");
            drop(paced);
            reader.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_costs_and_bytes_earn_it_back() {
        let mut pace = PaceBudget::new();
        let start = Instant::now();
        // Nine seconds of waiting, with long pauses that are not the caller's fault.
        for _ in 0..9 {
            let spent = std::future::poll_fn(|cx| pace.poll_spent(cx));
            let second = Duration::from_secs(1);
            assert!(tokio::time::timeout(second, spent).await.is_err());
            pace.pause();
            sleep(Duration::from_mins(1)).await;
        }
        pace.moved(4096);
        let before = Instant::now();
        std::future::poll_fn(|cx| pace.poll_spent(cx)).await;
        assert_eq!(before.elapsed().as_secs(), 5);
        assert_eq!(start.elapsed().as_secs(), 9 * 61 + 5);
    }
}
