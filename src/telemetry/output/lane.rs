//! State shared between the callers and the thread that writes to one output.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::model::clock::Clock;

/// Duration after which a write is stalled, because its reader does not read.
const STALL: Duration = Duration::from_secs(1);

/// The state shared by the callers and the writer of one output.
#[derive(Debug)]
pub(super) struct OutputLane {
    /// The name of the output, such as `stdout`.
    pub(super) name: &'static str,
    pub(super) clock: Arc<dyn Clock>,
    writer: OnceLock<Thread>,
    /// Whether the writer sleeps until it is woken.
    pub(super) is_asleep: AtomicBool,
    is_closing: AtomicBool,
    pub(super) is_failing: AtomicBool,
    /// When the current write last made progress, in milliseconds of the clock; 0 if no write is in progress.
    pub(super) writing_since: AtomicU64,
    /// Disconnected when the writer has ended.
    ended: Mutex<Option<Receiver<()>>>,
}

impl OutputLane {
    pub(super) fn new(name: &'static str, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            name,
            clock,
            writer: OnceLock::new(),
            is_asleep: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            writing_since: AtomicU64::new(0),
            ended: Mutex::new(None),
        })
    }

    /// Registers the thread that writes. `ended` is disconnected when the thread has ended.
    pub(super) fn attach(&self, writer: &Thread, ended: Receiver<()>) {
        self.writer.get_or_init(|| writer.clone());
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    }

    /// Wakes the writer for a queued line if it sleeps, and also while it gathers if the line's caller waits. Of several
    /// concurrent callers whose lines are not waited for only one does so, and none while the writer gathers.
    pub(super) fn wake(&self, is_awaited: bool) {
        let is_asleep =
            self.is_asleep.load(Ordering::SeqCst) && self.is_asleep.swap(false, Ordering::SeqCst);
        if is_asleep || is_awaited {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Whether the last write failed, or the current one is stalled.
    pub(super) fn is_jammed(&self) -> bool {
        if self.is_failing.load(Ordering::Acquire) {
            return true;
        }
        let since = self.writing_since.load(Ordering::Acquire);
        let now = self.clock.elapsed();
        since != 0 && STALL < now.saturating_sub(Duration::from_millis(since))
    }

    /// Makes the writer write the queued lines and end, and waits at most `limit`. Returns whether it has ended.
    pub(super) fn close(&self, limit: Duration) -> bool {
        self.is_closing.store(true, Ordering::SeqCst);
        self.unpark();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(end) = ended.as_ref() else {
            return true;
        };
        end.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    pub(super) fn note_progress(&self) {
        let now = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.writing_since.store(now.max(1), Ordering::Release);
    }
}
