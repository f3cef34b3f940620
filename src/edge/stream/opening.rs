//! Waiting for a request, with as little memory per connection as possible.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::edge::stream::frames::FrameBudget;
use crate::edge::stream::{CallerStream, H2_PREFACE, StreamState};

impl<S: AsyncRead + AsyncWrite + Unpin> CallerStream<S> {
    /// Waits for the first bytes.
    ///
    /// # Errors
    /// If the caller has left or sent nothing before the deadline, or if the connection is to be closed.
    pub async fn first_bytes(&mut self) -> io::Result<()> {
        self.deadline.start(self.limits.head_timeout);
        self.hold().await?;
        self.deadline.start(self.limits.head_timeout);
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

    /// Reads until it is known whether this is HTTP/2.
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
            self.reading = StreamState::Raw;
            self.cleared = self.held.len();
            self.deadline.clear();
        }
        Ok(is_h2)
    }

    /// Waits for the whole next HTTP/1 head, or for the stand-in of a refused one; only then does Pingora allocate its
    /// memory for a request. Returns `false` if none comes before the deadline or the connection is to be closed.
    /// `idle`: timeout for its first byte.
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
                StreamState::Head(_) => {}
                // The previous request was not complete.
                _ => return Poll::Ready(false),
            }
            match self.poll_head(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                // A head that has begun has its own deadline.
                Poll::Pending if !self.deadline.is_set() => self.deadline.start(idle),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Passes a ready result; ends a pending connection that is to be closed.
    fn or_closed<T>(&mut self, cx: &mut Context<'_>, polled: Poll<T>, closed: T) -> Poll<T> {
        if polled.is_pending() && self.connection.closes_now(cx.waker()) {
            self.end_reading();
            return Poll::Ready(closed);
        }
        polled
    }
}
