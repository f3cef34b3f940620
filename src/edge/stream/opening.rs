//! What comes before a request: waiting, with as little memory as a connection can have.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::edge::stream::frames::FrameBudget;
use crate::edge::stream::{CallerStream, H2_PREFACE, Reading};

impl<S: AsyncRead + AsyncWrite + Unpin> CallerStream<S> {
    /// Waits for the first bytes.
    ///
    /// # Errors
    /// When the caller has gone or has said nothing in time, and where the connection is to be closed.
    pub async fn first_bytes(&mut self) -> io::Result<()> {
        self.start_deadline(self.limits.head_timeout);
        self.hold().await?;
        self.start_deadline(self.limits.head_timeout);
        Ok(())
    }

    async fn hold(&mut self) -> io::Result<()> {
        let held = std::future::poll_fn(|cx| {
            let held = self.poll_hold(cx);
            self.or_closed(cx, held, Ok(0))
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
            self.connection.multiplex();
            self.reading = Reading::Raw;
            self.cleared = self.held.len();
            self.deadline = None;
        }
        Ok(is_h2)
    }

    /// Waits for the next head of HTTP/1, all of it, or for what stands in for a refused one: Pingora's own memory for a
    /// request is taken only then. `false`: none comes, or not in time, or the connection is to be closed. `idle`: how
    /// long its first byte may take.
    pub async fn head(&mut self, idle: Duration) -> bool {
        std::future::poll_fn(|cx| {
            let head = self.poll_whole_head(cx, idle);
            self.or_closed(cx, head, false)
        })
        .await
    }

    fn poll_whole_head(&mut self, cx: &mut Context<'_>, idle: Duration) -> Poll<bool> {
        self.listen_to_phases();
        loop {
            match self.reading {
                _ if 0 < self.cleared => return Poll::Ready(true),
                Reading::Head(_) => {}
                // The request before was not whole.
                _ => return Poll::Ready(false),
            }
            match self.poll_head(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                // A head that has begun runs against a deadline of its own.
                Poll::Pending if self.deadline.is_none() => self.start_deadline(idle),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// What has come already is served; a connection that is to be closed waits for nothing more.
    fn or_closed<T>(&mut self, cx: &mut Context<'_>, polled: Poll<T>, closed: T) -> Poll<T> {
        if polled.is_pending() && self.connection.closes_now(cx.waker()) {
            self.end_reading();
            return Poll::Ready(closed);
        }
        polled
    }
}
