//! The outbox that mail delivery reads: the queued mails of the store.

use std::sync::Arc;

use async_trait::async_trait;

use crate::mail::delivery::{Outbox, OutboxError};
use crate::model::clock::Timestamp;
use crate::model::id::MailId;
use crate::model::mail::DueMails;
use crate::snapshot::Services;
use crate::store::Store;
use crate::store::error::StoreError;

#[derive(Debug)]
struct StoredMails(Arc<dyn Store>);

impl Services {
    /// Returns the outbox of the store.
    #[must_use]
    pub fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::new(StoredMails(Arc::clone(&self.store)))
    }
}

fn trouble(error: StoreError) -> OutboxError {
    OutboxError(Box::new(error))
}

#[async_trait]
impl Outbox for StoredMails {
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<DueMails, OutboxError> {
        self.0.due_mails(now, limit).await.map_err(trouble)
    }

    async fn mail_count(&self) -> Result<usize, OutboxError> {
        self.0.mail_count().await.map_err(trouble)
    }

    async fn postpone_mail(
        &self,
        id: &MailId,
        next_try: Timestamp,
        was_refused: bool,
    ) -> Result<bool, OutboxError> {
        let postponed = self.0.postpone_mail(id, next_try, was_refused).await;
        postponed.map_err(trouble)
    }

    async fn remove_mail(&self, id: &MailId) -> Result<bool, OutboxError> {
        self.0.remove_mail(id).await.map_err(trouble)
    }
}
