//! The storage engine: runs reads and transactions on records, whatever their meaning.

use std::fmt;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::limit::{CounterChange, KeptCounter, KeptKey};
use crate::store::generations::Generations;
use crate::store::layout::{self, RecordKey};
use crate::store::{Changes, RecordEntry, Records, Result, StoreError, Transaction, record};

/// A read that passes on its own result. The caller gets [`StoreError::Busy`] if the job is dropped before it has run.
pub(crate) type StoreRead = Box<dyn FnOnce(&dyn Records) + Send>;

/// An intent that passes on its own result.
pub(crate) type StoreWrite = Box<dyn FnOnce(&mut Transaction<'_>) -> Result<()> + Send>;

/// Storage for records as bytes.
#[async_trait]
pub trait Engine: Send + Sync + fmt::Debug + 'static {
    /// Returns the generations that this engine advances.
    fn generations(&self) -> &Generations;

    /// Submits a read of the last committed records; it may not have run yet when this returns.
    async fn run_read(&self, read: StoreRead) -> Result<()>;

    /// Runs an intent exclusively. If it succeeds, writes its changes, all or nothing, makes them durable, advances the
    /// generations of the uids it touched, and only then answers. Does so even if the caller is cancelled meanwhile.
    async fn run_write(&self, intent: StoreWrite) -> Result<()>;

    /// Returns all side entries: data kept apart from the records.
    async fn side(&self) -> Result<Vec<RecordEntry>>;

    /// Writes side entries. Nothing relies on them; they are neither counted nor synced.
    async fn put_side(&self, changes: Changes) -> Result<()>;
}

/// Typed reads and intents with a result.
pub(crate) trait EngineExt: Engine {
    /// Returns the result of a read of the last committed records.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Records) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        async move {
            let (caller, answer) = oneshot::channel();
            let read: StoreRead = Box::new(move |records| {
                // A cancelled caller needs no answer.
                drop(caller.send(read(records)));
            });
            self.run_read(read).await?;
            answer.await.unwrap_or(Err(StoreError::Busy))
        }
    }

    /// Returns the record under a key.
    fn load<T: DeserializeOwned + Send + 'static>(
        &self,
        key: RecordKey<T>,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        self.read(move |records| records.load(&key))
    }

    /// Returns the result of an intent once its changes are durable; see [`Engine::run_write`].
    fn write<T: Send + 'static>(
        &self,
        intent: impl FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        async move {
            let (caller, mut result) = oneshot::channel();
            let intent: StoreWrite = Box::new(move |tx| {
                drop(caller.send(intent(tx)?));
                Ok(())
            });
            self.run_write(intent).await?;
            result.try_recv().map_err(|_| StoreError::Busy)
        }
    }
}

impl<E: Engine + ?Sized> EngineExt for E {}

/// Decodes the counters among the side entries.
pub(crate) fn decode_counters(entries: Vec<RecordEntry>) -> Vec<(KeptKey, KeptCounter)> {
    let mut counters = Vec::with_capacity(entries.len());
    for (place, bytes) in entries {
        let key = place.get(1..).unwrap_or_default();
        match record::decode(&layout::counter(key), &bytes) {
            Ok(counter) => counters.push((key.to_vec(), counter)),
            // At worst five more guesses are possible; no caller is refused because of it.
            Err(error) => tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "a counter is left out"
            ),
        }
    }
    counters
}

/// Encodes changes of counters as side entries.
pub(crate) fn encode_counters(changes: &[CounterChange]) -> Result<Changes> {
    let encode = |(key, counter): &CounterChange| {
        let place = layout::counter(key);
        let counter = counter.as_ref();
        let counter = counter.map(|counter| record::encode(&place, counter));
        Ok((place.bytes().to_vec(), counter.transpose()?))
    };
    changes.iter().map(encode).collect()
}
