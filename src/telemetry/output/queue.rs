//! The queue of one stream: bounded in lines and in bytes, and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use crate::telemetry::output::Stream;
use crate::telemetry::output::lane::OutputLane;

/// Position of the number of lines in [`LineTally::waiting`]; the number of bytes is below it.
const LINES_SHIFT: u32 = 32;
const BYTES_MASK: u64 = (1 << LINES_SHIFT) - 1;

/// A text that is written as a whole, its line break included.
#[derive(Debug)]
pub(super) struct OutputLine {
    pub(super) bytes: Vec<u8>,
    pub(super) fate: FailedLine,
}

/// The handling of a line that cannot be written.
#[derive(Debug)]
pub(super) enum FailedLine {
    /// Lost, and counted.
    Lost,
    /// Retried until it is written.
    Kept,
    /// Reported to its caller, who decides. A line whose caller has stopped waiting is not written.
    Answered(oneshot::Sender<io::Result<()>>),
}

/// The counts of one stream's lines.
#[derive(Debug)]
pub(super) struct LineTally {
    /// Queued lines and bytes, in one number, so that a caller needs one atomic addition.
    waiting: AtomicU64,
    /// Lost lines that the stream has not reported yet.
    unreported: AtomicU64,
    pub(super) written: Counter,
    lost: Counter,
}

impl LineTally {
    /// Returns the number of lines in the queue or about to enter it.
    pub(super) fn lines(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst) >> LINES_SHIFT
    }

    fn bytes(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst) & BYTES_MASK
    }

    /// Counts lost lines.
    pub(super) fn lose(&self, lines: u64) {
        self.lost.inc_by(lines);
        self.unreported.fetch_add(lines, Ordering::AcqRel);
    }

    /// Returns the number of lost lines that the stream has yet to report.
    pub(super) fn unreported(&self) -> u64 {
        self.unreported.load(Ordering::Acquire)
    }

    /// Marks lost lines as reported by the stream.
    pub(super) fn note_reported(&self, lines: u64) {
        self.unreported.fetch_sub(lines, Ordering::AcqRel);
    }
}

/// The sending end of a queue.
#[derive(Debug)]
pub(super) struct LineQueue {
    lines: SyncSender<OutputLine>,
    bounds: QueueBounds,
    pub(super) tally: Arc<LineTally>,
    pub(super) lane: Arc<OutputLane>,
}

/// The receiving end of a queue, for the writer.
#[derive(Debug)]
pub(super) struct LineReceiver {
    pub(super) stream: Stream,
    lines: Receiver<OutputLine>,
    pub(super) tally: Arc<LineTally>,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueBounds {
    pub(super) lines_max: usize,
    pub(super) bytes_max: u64,
}

pub(super) fn open(
    stream: Stream,
    bounds: QueueBounds,
    lane: &Arc<OutputLane>,
    (written, lost): (Counter, Counter),
) -> (LineQueue, LineReceiver) {
    let (sender, receiver) = sync_channel(bounds.lines_max);
    let tally = Arc::new(LineTally {
        waiting: AtomicU64::new(0),
        unreported: AtomicU64::new(0),
        written,
        lost,
    });
    let queue = LineQueue {
        lines: sender,
        bounds,
        tally: Arc::clone(&tally),
        lane: Arc::clone(lane),
    };
    let inbox = LineReceiver {
        stream,
        lines: receiver,
        tally,
    };
    (queue, inbox)
}

impl LineQueue {
    /// Queues a line and returns at once; `false` if there was no room, and then the line is counted as lost unless its
    /// caller waits.
    pub(super) fn push(&self, line: OutputLine) -> bool {
        let is_counted = !matches!(line.fate, FailedLine::Answered(_));
        let weight = weight(&line);
        let bytes = line.bytes.len() as u64;
        let has_room = bytes <= self.bounds.bytes_max && {
            let before = self.tally.waiting.fetch_add(weight, Ordering::SeqCst);
            let fits = (before & BYTES_MASK) + bytes <= self.bounds.bytes_max;
            let is_queued = fits && self.lines.try_send(line).is_ok();
            if !is_queued {
                self.tally.waiting.fetch_sub(weight, Ordering::SeqCst);
            }
            is_queued
        };
        if has_room {
            self.lane.wake();
        } else if is_counted {
            self.tally.lose(1);
        }
        has_room
    }

    /// Whether less than half of the lines and of the bytes are in use.
    pub(super) fn is_half_free(&self) -> bool {
        self.tally.lines() < self.bounds.lines_max as u64 / 2
            && self.tally.bytes() < self.bounds.bytes_max / 2
    }
}

impl LineReceiver {
    /// Returns the next line, if there is one.
    pub(super) fn take(&self) -> Option<OutputLine> {
        let line = self.lines.try_recv().ok()?;
        self.tally
            .waiting
            .fetch_sub(weight(&line), Ordering::SeqCst);
        Some(line)
    }
}

fn weight(line: &OutputLine) -> u64 {
    (1 << LINES_SHIFT) | line.bytes.len() as u64
}
