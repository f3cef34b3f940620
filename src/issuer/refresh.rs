//! The tasks that refresh the keys of foreign issuers, one per issuer, across reloads.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::issuer::IssuerState;

/// Runs a task for each issuer that was adopted last, as long as it is polled. An issuer that is adopted again keeps its task.
pub(crate) async fn keep_fresh(mut adopted: watch::Receiver<Vec<Arc<IssuerState>>>) {
    let mut tasks = JoinSet::new();
    let mut kept: Vec<(Arc<IssuerState>, AbortHandle)> = Vec::new();
    loop {
        let wanted = adopted.borrow_and_update().clone();
        kept.retain(|(issuer, task)| {
            let stays = wanted.iter().any(|wanted| Arc::ptr_eq(wanted, issuer));
            if !stays {
                task.abort();
            }
            stays
        });
        for issuer in wanted {
            let is_kept = |(kept, _): &(Arc<IssuerState>, _)| Arc::ptr_eq(kept, &issuer);
            if !kept.iter().any(is_kept) {
                let shared = Arc::clone(&issuer);
                let task = tasks.spawn(async move { shared.keep_fresh().await });
                kept.push((issuer, task));
            }
        }
        if adopted.changed().await.is_err() {
            return;
        }
        // The result of an aborted task is ignored.
        while tasks.try_join_next().is_some() {}
    }
}
