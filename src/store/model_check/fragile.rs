//! Stores that can be broken and healed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::store::Store;
use crate::store::faulty::FaultyStore;
use crate::store::sled::SledStore;
use crate::store::sled::database::CommitStep;

/// A store that can be broken and healed.
pub(super) trait FragileStore {
    fn store(&self) -> Arc<dyn Store>;
    fn break_at(&self, step: usize);
    /// Keeps a requested failure from hitting the reads of the check.
    fn spare_reads(&self) {}
    async fn heal(&self);
    async fn restart(&mut self);
}

pub(super) struct FragileMemory(pub(super) Arc<FaultyStore>, pub(super) usize);

impl FragileStore for FragileMemory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0) as Arc<dyn Store>
    }

    fn break_at(&self, step: usize) {
        match step {
            0 => self.0.fail_after(0),
            _ => self.0.lose_after(0),
        }
    }

    fn spare_reads(&self) {
        self.0.fail_after(-1);
    }

    async fn heal(&self) {
        self.0.fail_after(-1);
        self.0.settle(self.1.is_multiple_of(2)).await;
    }

    async fn restart(&mut self) {
        self.1 += 1;
        self.heal().await;
    }
}

pub(super) struct FragileDisk(pub(super) Option<Arc<SledStore>>, pub(super) TempDir);

impl FragileDisk {
    fn sled(&self) -> &Arc<SledStore> {
        self.0.as_ref().unwrap()
    }

    fn probe(&self) -> PathBuf {
        self.1.path().join("probe")
    }
}

impl FragileStore for FragileDisk {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(self.sled()) as Arc<dyn Store>
    }

    fn break_at(&self, step: usize) {
        // The store is reopened only when a file of this name can be written.
        std::fs::create_dir_all(self.probe()).unwrap();
        self.sled()
            .break_at([CommitStep::Apply, CommitStep::Flush, CommitStep::Sync][step]);
    }

    async fn heal(&self) {
        drop(std::fs::remove_dir(self.probe()));
        for _ in 0..1000 {
            if self.sled().ready().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it does not heal");
    }

    async fn restart(&mut self) {
        self.0 = None;
        drop(std::fs::remove_dir(self.probe()));
        let opened = SledStore::open(self.1.path(), Arc::default()).unwrap();
        self.0 = Some(Arc::new(opened));
    }
}
