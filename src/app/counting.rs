//! Persistence of counters: restored before anything is served; stored whenever a caller waits for it, each second, and
//! once more at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::snapshot::Services;
use crate::store::error::StoreError;

/// Maximum loss by a crash of counts that no caller waits for, such as mails.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Restores the stored counters.
pub(super) async fn restore(services: &Services) -> Result<(), StoreError> {
    let kept = services.store.counters().await?;
    services.counters.restore(kept);
    Ok(())
}

/// Stores changes until the sender of `ended` is dropped, and then what is left.
///
/// One task does both: of two concurrent writes, the older count could overwrite the newer one.
pub(super) async fn keep_on(services: Arc<Services>, mut ended: oneshot::Receiver<()>) {
    let (mut could_keep, mut goes_on) = (true, true);
    loop {
        services.counters.keeping.begin();
        let kept = keep(&services).await;
        services.counters.keeping.end(kept.is_ok());
        match kept {
            Err(error) if could_keep => {
                could_keep = false;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "counters cannot be saved: a restart would lose them"
                );
            }
            Ok(()) if !could_keep => {
                could_keep = true;
                tracing::info!("counters are saved again");
            }
            _ => {}
        }
        if !goes_on {
            return;
        }
        goes_on = tokio::select! {
            _ = &mut ended => false,
            () = services.counters.keeping.wished() => true,
            () = tokio::time::sleep(KEEP_EVERY) => true,
        };
    }
}

/// Stores all changes so far.
async fn keep(services: &Services) -> Result<(), StoreError> {
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
