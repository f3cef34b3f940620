//! The queue of the writer's thread: intents with their callers, and reads of durable data.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::store::engine::StoreWrite;
use crate::store::sled::{Census, SledRecords, WalkWatch};
use crate::store::{Result, StoreError, Transaction};

/// A task in the queue.
pub(crate) enum WriterTask {
    /// An intent to run and commit.
    Write(QueuedWrite),
    /// A read between two batches.
    Read(DurableRead),
}

/// A function that the writer runs between two batches, on durable data; it writes nothing.
pub(crate) type DurableRead = Box<dyn FnOnce(&mut DurableView<'_>) + Send>;

/// The view that a [`DurableRead`] receives.
pub(crate) struct DurableView<'a> {
    /// The records; `None` while it is uncertain what is durable.
    pub(crate) records: Option<&'a SledRecords<'a>>,
    /// The last synced census: it counts these records.
    pub(crate) census: Census,
    /// The walk in progress.
    pub(crate) watch: &'a mut Option<WalkWatch>,
}

/// Decides whether an intent runs: either the writer claims it to begin, or the caller claims it after waiting too
/// long.
#[derive(Clone, Default)]
pub(crate) struct IntentClaim(Arc<AtomicBool>);

impl IntentClaim {
    /// Takes the claim; returns whether this call is the first to do so.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A queued intent with its caller.
pub(crate) struct QueuedWrite {
    /// `None` once it has begun.
    pub(crate) intent: Option<StoreWrite>,
    /// `None` until it has run.
    pub(crate) outcome: Option<Result<()>>,
    pub(crate) caller: oneshot::Sender<Result<()>>,
    pub(crate) claim: IntentClaim,
}

impl QueuedWrite {
    /// Runs the intent; returns whether its changes are to be written.
    pub(crate) fn run(&mut self, tx: &mut Transaction<'_>) -> bool {
        let Some(intent) = self.intent.take().filter(|_| self.claim.take()) else {
            return false;
        };
        // sled can panic on a damaged page, under any intent that reads it.
        let outcome = catch_unwind(AssertUnwindSafe(|| intent(tx)));
        let outcome =
            outcome.unwrap_or_else(|panic| Err(StoreError::cannot_write(panicked(&*panic))));
        self.outcome.insert(outcome).is_ok()
    }

    /// Answers the caller with the outcome, or with the fate of the batch if it is not durable.
    pub(crate) fn answer(self, lost: Option<&BatchLoss>) {
        let outcome = match (self.outcome, lost) {
            // Without an outcome the intent did not run.
            (Some(Ok(())), Some(lost)) | (None, Some(lost @ BatchLoss::Failed(_))) => {
                Err(lost.to_error())
            }
            (Some(outcome), _) => outcome,
            (None, _) => Err(StoreError::Busy),
        };
        // A cancelled caller needs no answer; what was done stays done.
        drop(self.caller.send(outcome));
    }
}

/// The reason why nothing can be written at present.
pub(crate) type WriteFailure = Arc<dyn Error + Send + Sync>;

/// The fate of a batch that is not durable.
pub(crate) enum BatchLoss {
    /// Nothing was written.
    Failed(WriteFailure),
    /// The batch was passed to the engine, which could not make it durable: it is there completely or not at all.
    Unknown(WriteFailure),
}

impl BatchLoss {
    fn to_error(&self) -> StoreError {
        match self {
            Self::Failed(cause) => StoreError::cannot_write(Arc::clone(cause)),
            Self::Unknown(cause) => StoreError::Unknown(Box::new(Arc::clone(cause))),
        }
    }
}

/// Converts a caught panic into an error.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Box<dyn Error + Send + Sync> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or_default()).into()
}
