//! The thread that writes to one output.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::telemetry::output::lane::OutputLane;
use crate::telemetry::output::loss_note;
use crate::telemetry::output::queue::{FailedLine, LineReceiver};

/// Maximum number of bytes in one write, except for a last line that is longer. A reader of 60 kB/s accepts them in
/// 0.3 s, and an audit event whose caller waits (at most 0.8 s) waits for one such write before its own.
const BATCH_BYTES_MAX: usize = 16 * 1024;
/// How long lines are gathered for one write, unless the caller of one waits. Meanwhile no caller pays for waking the
/// writer.
const GATHER: Duration = Duration::from_millis(5);
/// Interval between attempts at an output that fails.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// Interval between attempts at a full output in non-blocking mode (`O_NONBLOCK`).
const FULL_WAIT: Duration = Duration::from_millis(10);
/// Interval between notes of lost lines on a stream that always has lines queued.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// Starts the thread that writes the lines of the inboxes to the sink.
///
/// # Errors
/// The system's error, if it cannot create a thread.
pub(super) fn start(
    lane: &Arc<OutputLane>,
    sink: Box<dyn Write + Send>,
    inboxes: Vec<LineReceiver>,
) -> io::Result<()> {
    let (ended, end) = sync_channel(0);
    let writer = OutputWriter {
        sink,
        inboxes,
        lane: Arc::clone(lane),
        batch: LineBatch::default(),
        kept: VecDeque::new(),
        is_mid_line: false,
        noted: None,
    };
    let spawned = thread::Builder::new()
        .name(lane.name.to_owned())
        .spawn(move || {
            writer.run();
            drop::<SyncSender<()>>(ended);
        })?;
    lane.attach(spawned.thread(), end);
    Ok(())
}

/// The content of one write.
#[derive(Default)]
struct LineBatch {
    bytes: Vec<u8>,
    parts: Vec<BatchPart>,
}

/// One line in a batch.
struct BatchPart {
    bytes: Range<usize>,
    /// The index of its stream among the inboxes.
    inbox: usize,
    kind: PartKind,
}

enum PartKind {
    Line(FailedLine),
    /// A note of this many lost lines.
    Note(u64),
}

impl LineBatch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * BATCH_BYTES_MAX);
        self.parts.clear();
    }

    fn add(&mut self, inbox: usize, bytes: &[u8], kind: PartKind) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let bytes = begin..self.bytes.len();
        self.parts.push(BatchPart { bytes, inbox, kind });
    }
}

/// The state of the thread.
struct OutputWriter {
    sink: Box<dyn Write + Send>,
    /// The inboxes, most important first.
    inboxes: Vec<LineReceiver>,
    lane: Arc<OutputLane>,
    batch: LineBatch,
    /// Lines that could not be written but must be: the index of the inbox and the text of each.
    kept: VecDeque<(usize, Vec<u8>)>,
    /// Whether the output ends in the middle of a line.
    is_mid_line: bool,
    /// When a loss was last noted, or first detected; `None` if there is none to note.
    noted: Option<Duration>,
}

impl OutputWriter {
    fn run(mut self) {
        loop {
            let is_drained = self.gather();
            if self.batch.parts.is_empty() {
                if self.lane.is_closing() {
                    break;
                }
                self.sleep();
                continue;
            }
            let is_failing = self.write();
            match (self.lane.is_closing(), is_failing) {
                (true, true) => break,
                (false, true) => thread::park_timeout(RETRY_EVERY),
                (false, false) if is_drained => thread::park_timeout(GATHER),
                (_, false) => {}
            }
        }
        self.give_up();
    }

    /// Fills the batch: first the kept lines, then the streams in order, each with a note if lines were lost. A stream
    /// with a line whose caller waits is the last one, because the answer arrives only when the whole batch is written.
    /// Returns whether no queue has a further line.
    fn gather(&mut self) -> bool {
        self.batch.clear();
        if self.is_mid_line {
            self.batch.bytes.push(b'\n');
        }
        while let Some((inbox, bytes)) = self.kept.pop_front() {
            self.batch
                .add(inbox, &bytes, PartKind::Line(FailedLine::Kept));
        }
        let now = self.lane.clock.elapsed();
        let mut is_all_drained = true;
        let mut is_awaited = false;
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if is_awaited {
                is_all_drained = false;
                break;
            }
            let LineBatch { bytes, parts } = &mut self.batch;
            let is_drained = inbox.take(bytes, BATCH_BYTES_MAX, |bytes, fate| {
                is_awaited |= matches!(fate, FailedLine::Answered(_));
                let kind = PartKind::Line(fate);
                let inbox = index;
                parts.push(BatchPart { bytes, inbox, kind });
            });
            is_all_drained &= is_drained;
            let unreported = inbox.tally.unreported();
            if unreported == 0 {
                continue;
            }
            let noted = *self.noted.get_or_insert(now);
            if is_drained || NOTE_EVERY <= now.saturating_sub(noted) {
                let note = loss_note(inbox.stream, unreported, self.lane.clock.now());
                self.batch
                    .add(index, note.as_bytes(), PartKind::Note(unreported));
                self.noted = Some(now);
            }
        }
        if self.inboxes.iter().all(|it| it.tally.unreported() == 0) {
            self.noted = None;
        }
        is_all_drained
    }

    /// Writes the batch and settles the fate of each line. Returns `true` if the output fails.
    fn write(&mut self) -> bool {
        let (written, ended) = self.write_bytes();
        self.lane.writing_since.store(0, Ordering::Release);
        let error = ended.err().map(|error| error.kind());
        self.lane
            .is_failing
            .store(error.is_some(), Ordering::Release);
        let mut is_torn = written == 0 && self.is_mid_line;
        for part in self.batch.parts.drain(..) {
            let Some(inbox) = self.inboxes.get(part.inbox) else {
                continue;
            };
            let is_written = part.bytes.end <= written;
            is_torn |= part.bytes.start < written && written < part.bytes.end;
            match part.kind {
                PartKind::Note(lines) if is_written => inbox.tally.note_reported(lines),
                PartKind::Note(_) => {}
                PartKind::Line(FailedLine::Answered(answer)) => {
                    let result = if is_written {
                        if !part.bytes.is_empty() {
                            inbox.tally.written.inc();
                        }
                        Ok(())
                    } else {
                        Err(error.unwrap_or(io::ErrorKind::Other).into())
                    };
                    // The caller may have stopped waiting.
                    let _ = answer.send(result);
                }
                PartKind::Line(_) if is_written => {
                    inbox.tally.written.inc();
                }
                PartKind::Line(FailedLine::Kept) => {
                    let bytes = self.batch.bytes.get(part.bytes);
                    self.kept
                        .push_back((part.inbox, bytes.unwrap_or_default().to_vec()));
                }
                PartKind::Line(FailedLine::Lost) => inbox.tally.lose(1),
            }
        }
        self.is_mid_line = is_torn;
        error.is_some()
    }

    /// Writes the batch and resumes partial writes. Returns the number of bytes written, and the error that prevented
    /// the rest.
    fn write_bytes(&mut self) -> (usize, io::Result<()>) {
        let mut written = 0;
        self.lane.note_progress();
        while let Some(rest) = self.batch.bytes.get(written..).filter(|it| !it.is_empty()) {
            match self.sink.write(rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    self.lane.note_progress();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process has set the terminal or pipe that it shares to non-blocking mode.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(FULL_WAIT);
                }
                Err(error) => return (written, Err(error)),
            }
        }
        (written, self.sink.flush())
    }

    /// Sleeps until there is a line. Not called while a loss is to be noted or a line is kept, so that a failing output
    /// is retried until it works again.
    fn sleep(&self) {
        // INVARIANT: callers queue a line before they read `is_asleep`, and the writer looks into the queues, under the
        // same locks, after it has set `is_asleep`: one of the two sees the other.
        self.lane.is_asleep.store(true, Ordering::SeqCst);
        if self.inboxes.iter().all(LineReceiver::is_empty) && !self.lane.is_closing() {
            thread::park();
        }
        self.lane.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Counts the lines that are no longer written as lost.
    fn give_up(self) {
        for (index, _) in self.kept {
            if let Some(inbox) = self.inboxes.get(index) {
                inbox.tally.lose(1);
            }
        }
        self.inboxes.iter().for_each(LineReceiver::close);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::sync::oneshot;

    use super::*;
    use crate::model::clock::{Clock, ManualClock, Timestamp};
    use crate::telemetry::output::Stream;
    use crate::telemetry::output::queue::{self, QueueBounds};

    #[test]
    fn a_loss_is_mentioned_in_time_whoever_waits_meanwhile() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let lane = OutputLane::new("stdout", Arc::clone(&clock) as Arc<dyn Clock>);
        let bounds = QueueBounds {
            lines_max: 100,
            bytes_max: 1 << 20,
        };
        let counters = || (Counter::default(), Counter::default());
        let (audit, first) = queue::open(Stream::Audit, bounds, &lane, counters());
        let (access, second) = queue::open(Stream::Access, bounds, &lane, counters());
        let mut writer = OutputWriter {
            sink: Box::new(io::sink()),
            inboxes: vec![first, second],
            lane,
            batch: LineBatch::default(),
            kept: VecDeque::new(),
            is_mid_line: false,
            noted: None,
        };
        // More than fits into one write, so that the stream is never empty.
        for _ in 0..50 {
            let bytes = vec![b'x'; BATCH_BYTES_MAX / 2];
            access.push(&bytes, FailedLine::Lost);
        }
        access.tally.lose(1);
        writer.gather();
        clock.advance(NOTE_EVERY);
        let (answer, _waits) = oneshot::channel();
        audit.push(b"audit\n", FailedLine::Answered(answer));
        writer.gather();
        assert_eq!(writer.batch.bytes, b"audit\n");
        writer.gather();
        let notes = writer.batch.parts.iter();
        let notes = notes.filter(|part| matches!(part.kind, PartKind::Note(1)));
        assert_eq!(notes.count(), 1);
    }
}
