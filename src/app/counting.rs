//! Counters over a restart: taken back before anything is served, kept each second, and once more at the end.

use std::time::Duration;

use crate::snapshot::Services;
use crate::store::error::StoreError;

/// How much of what was counted a crash may take.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Takes back what was kept before.
pub(super) async fn restore(services: &Services) -> Result<(), StoreError> {
    let kept = services.store.counters().await?;
    services.counters.restore(kept);
    Ok(())
}

/// Keeps what changes, until it is ended.
pub(super) async fn keep_on(services: Services) {
    let mut could_keep = true;
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        match keep(&services).await {
            Err(error) if could_keep => {
                could_keep = false;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "counters are not kept: a restart would forget them"
                );
            }
            Ok(()) if !could_keep => {
                could_keep = true;
                tracing::info!("counters are kept again");
            }
            _ => {}
        }
    }
}

/// Keeps all that has changed until now.
pub(super) async fn keep(services: &Services) -> Result<(), StoreError> {
    loop {
        let changes = services.counters.changes();
        if changes.is_empty() {
            return Ok(());
        }
        if let Err(error) = services.store.keep_counters(&changes).await {
            services.counters.not_kept(&changes);
            return Err(error);
        }
    }
}
