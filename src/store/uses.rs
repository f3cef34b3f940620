//! A queue for uses of session cookies, which keeps these writes off the request path.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::model::account::SessionUse;
use crate::store::Store;

/// Capacity of the queue: one second of a busy gateway. Further uses are dropped, and recorded at the session's next
/// use.
const WAITING_MAX: usize = 4096;
/// Uses written in one transaction.
const BATCH_MAX: usize = 256;

/// Uses of session cookies to be recorded. Requests add to it without waiting; one task writes them.
#[derive(Debug)]
pub struct SessionUses {
    sender: mpsc::Sender<SessionUse>,
    /// Present until [`SessionUses::write_to`] takes it.
    receiver: Mutex<Option<mpsc::Receiver<SessionUse>>>,
}

impl SessionUses {
    /// Adds a use; `false`: the queue is full.
    pub fn note(&self, used: SessionUse) -> bool {
        self.sender.try_send(used).is_ok()
    }

    /// Writes queued uses as long as it is polled. A second call returns at once.
    pub async fn write_to(self: Arc<Self>, store: Arc<dyn Store>) {
        let receiver = self.receiver.lock();
        let receiver = receiver.unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut receiver) = receiver else { return };
        let mut batch = Vec::new();
        while 0 < receiver.recv_many(&mut batch, BATCH_MAX).await {
            if let Err(error) = store.note_session_uses(std::mem::take(&mut batch)).await {
                // At worst, the sessions concerned expire a minute of use too early.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot record when sessions were last used"
                );
            }
        }
    }
}

impl Default for SessionUses {
    /// Creates an empty queue without a writer.
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::token::draw_session_id;
    use crate::model::clock::Timestamp;

    #[test]
    fn what_does_not_fit_is_told() {
        let uses = SessionUses::default();
        let one = SessionUse {
            session: draw_session_id(),
            at: Timestamp::from_secs(1),
            idle_end: Timestamp::from_secs(2),
        };
        for _ in 0..WAITING_MAX {
            assert!(uses.note(one.clone()));
        }
        assert!(!uses.note(one));
    }
}
