//! The queue of one stream: bounded in lines and in bytes, and counted.
//!
//! Callers append the bytes of a line under a lock that is held for the length of one copy. A line that has been queued
//! therefore owns no memory of its own, and the writer takes many with one acquisition of the lock.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use crate::telemetry::output::Stream;
use crate::telemetry::output::lane::OutputLane;

/// Capacity in bytes that an empty queue keeps: what gathers between two writes under load. A flood may have grown it to
/// some megabytes.
const EMPTY_BYTES_MAX: usize = 256 * 1024;

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
    /// Lost lines that the stream has not reported yet.
    unreported: AtomicU64,
    pub(super) written: Counter,
    lost: Counter,
}

impl LineTally {
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

/// The queued lines, oldest first.
#[derive(Debug, Default)]
struct QueuedLines {
    /// The bytes of all lines, line breaks included.
    bytes: VecDeque<u8>,
    /// For each line its number of bytes, and its handling on failure.
    lines: VecDeque<(usize, FailedLine)>,
    /// Whether the writer has ended.
    is_closed: bool,
}

impl QueuedLines {
    /// Moves the first `count` bytes to the end of `target`.
    fn move_bytes(&mut self, count: usize, target: &mut Vec<u8>) {
        let (first, second) = self.bytes.as_slices();
        let first = first.get(..count).unwrap_or(first);
        target.extend_from_slice(first);
        target.extend_from_slice(second.get(..count - first.len()).unwrap_or_default());
        self.bytes.drain(..count);
    }
}

/// The sending end of a queue.
#[derive(Debug)]
pub(super) struct LineQueue {
    queued: Arc<Mutex<QueuedLines>>,
    bounds: QueueBounds,
    pub(super) tally: Arc<LineTally>,
    pub(super) lane: Arc<OutputLane>,
}

/// The receiving end of a queue, for the writer.
#[derive(Debug)]
pub(super) struct LineReceiver {
    pub(super) stream: Stream,
    queued: Arc<Mutex<QueuedLines>>,
    pub(super) tally: Arc<LineTally>,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueBounds {
    pub(super) lines_max: usize,
    pub(super) bytes_max: usize,
}

pub(super) fn open(
    stream: Stream,
    bounds: QueueBounds,
    lane: &Arc<OutputLane>,
    (written, lost): (Counter, Counter),
) -> (LineQueue, LineReceiver) {
    let queued = Arc::new(Mutex::new(QueuedLines::default()));
    let tally = Arc::new(LineTally {
        unreported: AtomicU64::new(0),
        written,
        lost,
    });
    let queue = LineQueue {
        queued: Arc::clone(&queued),
        bounds,
        tally: Arc::clone(&tally),
        lane: Arc::clone(lane),
    };
    let inbox = LineReceiver {
        stream,
        queued,
        tally,
    };
    (queue, inbox)
}

impl LineQueue {
    /// Queues a line, its line break included, and returns at once; `false` if there was no room, and then the line is
    /// counted as lost unless its caller waits.
    pub(super) fn push(&self, line: &[u8], fate: FailedLine) -> bool {
        let is_awaited = matches!(fate, FailedLine::Answered(_));
        let has_room = self.append(line, fate);
        if has_room {
            self.lane.wake(is_awaited);
        } else if !is_awaited {
            self.tally.lose(1);
        }
        has_room
    }

    fn append(&self, line: &[u8], fate: FailedLine) -> bool {
        let mut queued = lock(&self.queued);
        let has_room = !queued.is_closed
            && queued.lines.len() < self.bounds.lines_max
            && queued.bytes.len() + line.len() <= self.bounds.bytes_max;
        if has_room {
            queued.bytes.extend(line);
            queued.lines.push_back((line.len(), fate));
        }
        has_room
    }

    /// Returns the number of queued lines.
    pub(super) fn lines(&self) -> usize {
        lock(&self.queued).lines.len()
    }

    /// Whether less than half of the lines and of the bytes are in use.
    pub(super) fn is_half_free(&self) -> bool {
        let queued = lock(&self.queued);
        queued.lines.len() < self.bounds.lines_max / 2
            && queued.bytes.len() < self.bounds.bytes_max / 2
    }
}

impl LineReceiver {
    /// Moves lines to the end of `target` until that has `bytes_max` bytes or more, and calls `add` with the position of
    /// each. Returns whether the queue is empty then.
    pub(super) fn take(
        &self,
        target: &mut Vec<u8>,
        bytes_max: usize,
        mut add: impl FnMut(Range<usize>, FailedLine),
    ) -> bool {
        let mut queued = lock(&self.queued);
        while target.len() < bytes_max {
            let Some((count, fate)) = queued.lines.pop_front() else {
                queued.bytes.shrink_to(EMPTY_BYTES_MAX);
                return true;
            };
            if matches!(&fate, FailedLine::Answered(answer) if answer.is_closed()) {
                queued.bytes.drain(..count);
                continue;
            }
            let begin = target.len();
            queued.move_bytes(count, target);
            add(begin..target.len(), fate);
        }
        queued.lines.is_empty()
    }

    /// Ends the queue: removes its lines, counts those as lost whose caller does not wait, and takes no more.
    pub(super) fn close(&self) {
        let ended = QueuedLines {
            is_closed: true,
            ..QueuedLines::default()
        };
        let rest = std::mem::replace(&mut *lock(&self.queued), ended);
        let is_counted = |line: &&(usize, FailedLine)| !matches!(line.1, FailedLine::Answered(_));
        self.tally
            .lose(rest.lines.iter().filter(is_counted).count() as u64);
    }

    /// Whether no line is queued.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.queued).lines.is_empty()
    }
}

/// Locks the lines of a queue, which are whole at any time: a panic while they are locked changes nothing about that.
fn lock(queued: &Mutex<QueuedLines>) -> MutexGuard<'_, QueuedLines> {
    queued.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::clock::SystemClock;

    fn queue() -> (LineQueue, LineReceiver) {
        let lane = OutputLane::new("stdout", Arc::new(SystemClock::new()));
        let bounds = QueueBounds {
            lines_max: 4,
            bytes_max: 16,
        };
        let counters = (Counter::default(), Counter::default());
        open(Stream::Access, bounds, &lane, counters)
    }

    fn take(inbox: &LineReceiver, bytes_max: usize) -> (String, bool) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        let is_drained = inbox.take(&mut bytes, bytes_max, |line, _| {
            assert_eq!(ends.last(), Some(&line.start));
            ends.push(line.end);
        });
        assert_eq!(ends.last(), Some(&bytes.len()));
        (String::from_utf8(bytes).unwrap(), is_drained)
    }

    #[test]
    fn lines_come_out_whole_and_in_order_wherever_the_buffer_wraps() {
        let (queue, inbox) = queue();
        let line = |round: usize| format!("{round}").repeat(round % 3 + 1);
        queue.push(line(0).as_bytes(), FailedLine::Lost);
        // One line is always left, so that the buffer never begins at its start again.
        for round in 1..100 {
            assert!(queue.push(line(round).as_bytes(), FailedLine::Lost));
            assert_eq!(take(&inbox, 1), (line(round - 1), false));
        }
        assert_eq!(take(&inbox, 1), (line(99), true));
        assert_eq!(take(&inbox, 1), (String::new(), true));
    }

    #[test]
    fn a_queue_takes_no_more_than_its_bounds_and_nothing_once_it_is_closed() {
        let (queue, inbox) = queue();
        assert!(queue.push(&[b'x'; 16], FailedLine::Lost));
        assert!(!queue.push(b"x", FailedLine::Lost));
        take(&inbox, 1);
        for _ in 0..4 {
            assert!(queue.push(b"", FailedLine::Lost));
        }
        assert!(!queue.push(b"", FailedLine::Lost));
        assert_eq!(queue.tally.unreported(), 2);
        inbox.close();
        assert!(!queue.push(b"", FailedLine::Lost));
        assert_eq!((queue.lines(), queue.tally.unreported()), (0, 7));
    }

    #[test]
    fn a_line_whose_caller_has_left_is_not_taken() {
        let (queue, inbox) = queue();
        let (answer, _) = oneshot::channel();
        assert!(queue.push(b"left", FailedLine::Answered(answer)));
        assert!(queue.push(b"next", FailedLine::Lost));
        assert_eq!(take(&inbox, 16), ("next".to_owned(), true));
    }
}
