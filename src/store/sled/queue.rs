//! What waits for the writer's thread: intents with their callers, and looks at what is durable.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::store::engine::WriteJob;
use crate::store::error::{Result, StoreError};
use crate::store::sled::census::Census;
use crate::store::sled::records::SledRecords;
use crate::store::sled::watch::Watch;
use crate::store::transaction::Transaction;

/// What waits in the queue.
pub(crate) enum Task {
    /// To be written.
    Write(QueuedWrite),
    /// To be looked at.
    Look(Look),
}

/// What the writer does between two batches, on what is durable: it writes nothing.
pub(crate) type Look = Box<dyn FnOnce(&mut Lookout<'_>) + Send>;

/// What a [`Look`] sees.
pub(crate) struct Lookout<'a> {
    /// The records; `None` while they cannot be read with certainty.
    pub(crate) records: Option<&'a SledRecords<'a>>,
    /// As last synced: it counts these records.
    pub(crate) census: Census,
    /// The walk under way.
    pub(crate) watch: &'a mut Option<Watch>,
}

/// Decides whether an intent is run: either the writer, which begins it, or its caller, who has waited too long, takes it first.
#[derive(Clone)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Not taken yet.
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Whether this is the first to take it.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// An intent in the queue, with its caller.
pub(crate) struct QueuedWrite {
    intent: Option<WriteJob>,
    outcome: Option<Result<()>>,
    caller: oneshot::Sender<Result<()>>,
    claim: Claim,
}

impl QueuedWrite {
    /// An intent that has not run.
    pub(crate) fn new(intent: WriteJob, caller: oneshot::Sender<Result<()>>, claim: Claim) -> Self {
        Self {
            intent: Some(intent),
            outcome: None,
            caller,
            claim,
        }
    }

    /// Runs the intent; whether its changes are to be written.
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

    /// Gives the caller the outcome, or what became of the batch where that is not durable.
    pub(crate) fn answer(self, lost: Option<&Lost>) {
        let outcome = match (self.outcome, lost) {
            (Some(Ok(())), Some(lost)) => Err(lost.to_error()),
            (Some(outcome), _) => outcome,
            // It was not run.
            (None, Some(Lost::Failed(cause))) => Err(StoreError::cannot_write(Arc::clone(cause))),
            (None, _) => Err(StoreError::Busy),
        };
        // A caller who went away wants no answer; what was done stays done.
        drop(self.caller.send(outcome));
    }
}

/// Why nothing can be written at present.
pub(crate) type Cause = Arc<dyn Error + Send + Sync>;

/// What became of a batch that is not durable.
pub(crate) enum Lost {
    /// Nothing of it was written.
    Failed(Cause),
    /// It was given to the engine, which could not make it durable: all of it is there, or nothing.
    Unknown(Cause),
}

impl Lost {
    fn to_error(&self) -> StoreError {
        match self {
            Self::Failed(cause) => StoreError::cannot_write(Arc::clone(cause)),
            Self::Unknown(cause) => StoreError::Unknown(Box::new(Arc::clone(cause))),
        }
    }
}

/// The error that a caught panic is.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Box<dyn Error + Send + Sync> {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_default()).into()
}
