//! A deadline that moves with every request on a connection.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that is cheap to move. Its timer stays registered when the deadline moves back or is cleared, and follows
/// only when it fires: registering one takes a lock and an allocation, and requests move the deadline far more often than
/// it passes.
#[derive(Debug)]
pub struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Creates a deadline that never passes.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            at: None,
            timer: None,
        }
    }

    /// Sets the deadline to this span from now.
    pub fn start(&mut self, span: Duration) {
        self.at = Some(Instant::now() + span);
    }

    /// Clears the deadline.
    pub const fn clear(&mut self) {
        self.at = None;
    }

    /// Whether there is a deadline.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Ready once the deadline has passed; pending without one.
    pub fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < timer.deadline() {
            timer.as_mut().reset(at);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if at <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_passes_when_it_was_last_set_to() {
        let mut deadline = Deadline::never();
        let seconds = Duration::from_secs;
        // Set, moved back, moved forward, and after it was cleared.
        for (waits, spans) in [(5, &[5][..]), (9, &[3, 9]), (2, &[60, 2]), (4, &[4])] {
            for span in spans {
                deadline.start(seconds(*span));
                // Registers the timer.
                let passed = poll_fn(|cx| deadline.poll_passed(cx));
                assert!(timeout(Duration::ZERO, passed).await.is_err());
            }
            let before = Instant::now();
            poll_fn(|cx| deadline.poll_passed(cx)).await;
            assert_eq!(before.elapsed().as_secs(), waits, "{spans:?}");
            deadline.clear();
            assert!(!deadline.is_set());
            let passed = poll_fn(|cx| deadline.poll_passed(cx));
            assert!(timeout(seconds(100), passed).await.is_err());
        }
    }
}
