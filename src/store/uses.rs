//! Uses of session cookies on their way into the store: off the path of requests.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::model::account::SessionUse;
use crate::store::Store;

/// Uses that may wait: what a second of a busy gateway brings. More are left out, and noted at the session's next use.
const WAITING_MAX: usize = 4096;
/// Uses that are written in one transaction.
const BATCH_MAX: usize = 256;

/// The queue. Requests put uses in without a wait; one task writes them.
#[derive(Debug)]
pub struct SessionUses {
    sender: mpsc::Sender<SessionUse>,
    /// Until [`SessionUses::write_to`] takes it.
    receiver: Mutex<Option<mpsc::Receiver<SessionUse>>>,
}

impl SessionUses {
    /// An empty queue that nobody empties yet.
    #[must_use]
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// Puts a use in; `false`: the queue is full.
    pub fn note(&self, used: SessionUse) -> bool {
        self.sender.try_send(used).is_ok()
    }

    /// Writes what comes, for as long as it is polled. A second call ends at once.
    pub async fn write_to(self: Arc<Self>, store: Arc<dyn Store>) {
        let receiver = self
            .receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut receiver) = receiver else { return };
        let mut batch = Vec::new();
        while 0 < receiver.recv_many(&mut batch, BATCH_MAX).await {
            if let Err(error) = store.note_session_uses(std::mem::take(&mut batch)).await {
                // The sessions concerned end a minute of use too early at worst.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot note that sessions were used"
                );
            }
        }
    }
}

impl Default for SessionUses {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::token::draw_session_id;
    use crate::model::clock::Timestamp;

    #[test]
    fn what_does_not_fit_is_told() {
        let uses = SessionUses::new();
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
