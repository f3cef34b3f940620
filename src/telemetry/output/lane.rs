//! The thread that writes to one output.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::model::clock::Clock;
use crate::telemetry::output::loss_note;
use crate::telemetry::output::queue::{Fate, Inbox, Line};

/// Maximum bytes of one write, except for a last line that is longer. A reader at 60 kB/s reads them in 0.3 s, and an
/// audit event whose caller waits (0.8 s at most) waits for one such write before its own.
const BATCH_BYTES_MAX: usize = 16 * 1024;
/// Lines of this period share a write, and no caller has to wake the writer during it.
const GATHER: Duration = Duration::from_millis(2);
/// Retry interval of a failing output.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// Retry interval of a full non-blocking output (`O_NONBLOCK`).
const FULL_WAIT: Duration = Duration::from_millis(10);
/// Duration after which a write counts as stalled: the reader does not read.
const STALL: Duration = Duration::from_secs(1);
/// Interval at which a stream that never drains reports lost lines.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// The state shared by the callers and the writer of one output.
#[derive(Debug)]
pub(super) struct Lane {
    /// The name of the output, such as `stdout`.
    pub(super) name: &'static str,
    clock: Arc<dyn Clock>,
    writer: OnceLock<Thread>,
    /// Whether the writer sleeps until it is woken.
    is_asleep: AtomicBool,
    is_closing: AtomicBool,
    is_failing: AtomicBool,
    /// Time of the last progress of the current write, in milliseconds of the clock; 0: no write is in progress.
    writing_since: AtomicU64,
    /// Closed when the writer has ended.
    ended: Mutex<Option<Receiver<()>>>,
}

impl Lane {
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

    /// Starts the writer.
    ///
    /// # Errors
    /// The system's error if it cannot start a thread.
    pub(super) fn start(
        self: &Arc<Self>,
        sink: Box<dyn Write + Send>,
        inboxes: Vec<Inbox>,
    ) -> io::Result<()> {
        let (ended, end) = sync_channel(0);
        let writer = Writer {
            sink,
            inboxes,
            lane: Arc::clone(self),
            batch: Batch::default(),
            kept: VecDeque::new(),
            is_mid_line: false,
            noted: None,
        };
        let spawned = thread::Builder::new()
            .name(self.name.to_owned())
            .spawn(move || {
                writer.run();
                drop::<SyncSender<()>>(ended);
            })?;
        self.writer.get_or_init(|| spawned.thread().clone());
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        Ok(())
    }

    /// Wakes the writer if it sleeps: only one of concurrent callers does so.
    pub(super) fn wake(&self) {
        if self.is_asleep.load(Ordering::SeqCst) && self.is_asleep.swap(false, Ordering::SeqCst) {
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
        since != 0
            && STALL
                < self
                    .clock
                    .elapsed()
                    .saturating_sub(Duration::from_millis(since))
    }

    /// Makes the writer write the queued lines and end; gives up after `limit`. Returns whether it has ended.
    pub(super) fn close(&self, limit: Duration) -> bool {
        self.is_closing.store(true, Ordering::SeqCst);
        self.unpark();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(end) = ended.as_ref() else {
            return true;
        };
        end.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected)
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    fn note_progress(&self) {
        let now = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.writing_since.store(now.max(1), Ordering::Release);
    }
}

/// The content of one write.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// One line in a batch.
struct Part {
    begin: usize,
    end: usize,
    /// Index of its stream among the inboxes.
    inbox: usize,
    kind: PartKind,
}

enum PartKind {
    Line(Fate),
    /// Reports this number of lost lines.
    Note(u64),
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * BATCH_BYTES_MAX);
        self.parts.clear();
    }

    fn is_full(&self) -> bool {
        BATCH_BYTES_MAX <= self.bytes.len()
    }

    fn add(&mut self, inbox: usize, bytes: &[u8], kind: PartKind) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.parts.push(Part {
            begin,
            end: self.bytes.len(),
            inbox,
            kind,
        });
    }
}

/// The state of the writer thread.
struct Writer {
    sink: Box<dyn Write + Send>,
    /// Ordered by importance, highest first.
    inboxes: Vec<Inbox>,
    lane: Arc<Lane>,
    batch: Batch,
    /// Lines that could not be written but must be: inbox and text of each.
    kept: VecDeque<(usize, Vec<u8>)>,
    /// Whether the output ends with a partial line.
    is_mid_line: bool,
    /// Time at which a loss was last reported, or first found; `None`: there is none to report.
    noted: Option<Duration>,
}

impl Writer {
    fn run(mut self) {
        loop {
            self.gather();
            if self.batch.parts.is_empty() {
                if self.lane.is_closing() {
                    break;
                }
                self.sleep();
                continue;
            }
            let was_full = self.batch.is_full();
            let is_failing = self.write();
            match (self.lane.is_closing(), is_failing) {
                (true, true) => break,
                (false, true) => thread::park_timeout(RETRY_EVERY),
                (false, false) if !was_full => thread::park_timeout(GATHER),
                (_, false) => {}
            }
        }
        self.give_up();
    }

    /// Fills the batch: kept lines, then the streams in their order, each with a note if lines were lost. A stream with
    /// a line whose caller waits is the last one, since the result is sent when the whole batch is written.
    fn gather(&mut self) {
        self.batch.clear();
        if self.is_mid_line {
            self.batch.bytes.push(b'\n');
        }
        while let Some((inbox, bytes)) = self.kept.pop_front() {
            self.batch.add(inbox, &bytes, PartKind::Line(Fate::Kept));
        }
        let now = self.lane.clock.elapsed();
        let mut is_awaited = false;
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if is_awaited {
                break;
            }
            let mut is_drained = false;
            while !self.batch.is_full() {
                let Some(Line { bytes, fate }) = inbox.take() else {
                    is_drained = true;
                    break;
                };
                let is_wanted = !matches!(&fate, Fate::Answered(answer) if answer.is_closed());
                if is_wanted {
                    is_awaited |= matches!(fate, Fate::Answered(_));
                    self.batch.add(index, &bytes, PartKind::Line(fate));
                }
            }
            let untold = inbox.tally.untold();
            if untold == 0 {
                continue;
            }
            let noted = *self.noted.get_or_insert(now);
            if is_drained || NOTE_EVERY <= now.saturating_sub(noted) {
                let note = loss_note(inbox.stream, untold, self.lane.clock.now());
                self.batch
                    .add(index, note.as_bytes(), PartKind::Note(untold));
                self.noted = Some(now);
            }
        }
        if self.inboxes.iter().all(|it| it.tally.untold() == 0) {
            self.noted = None;
        }
    }

    /// Writes the batch and settles the result of each line; returns whether the output fails.
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
            let is_written = part.end <= written;
            is_torn |= part.begin < written && written < part.end;
            match part.kind {
                PartKind::Note(lines) if is_written => inbox.tally.told(lines),
                PartKind::Note(_) => {}
                PartKind::Line(Fate::Answered(answer)) => {
                    let result = if is_written {
                        if part.begin < part.end {
                            inbox.tally.wrote();
                        }
                        Ok(())
                    } else {
                        Err(error.unwrap_or(io::ErrorKind::Other).into())
                    };
                    // The caller may have stopped waiting.
                    let _ = answer.send(result);
                }
                PartKind::Line(_) if is_written => inbox.tally.wrote(),
                PartKind::Line(Fate::Kept) => {
                    let bytes = self.batch.bytes.get(part.begin..part.end);
                    self.kept
                        .push_back((part.inbox, bytes.unwrap_or_default().to_vec()));
                }
                PartKind::Line(Fate::Lost) => inbox.tally.lose(1),
            }
        }
        self.is_mid_line = is_torn;
        error.is_some()
    }

    /// Returns how much of the batch was written, and the error that prevented the rest. A partial write is resumed.
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
                // Another process on the same terminal or pipe has set `O_NONBLOCK`.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(FULL_WAIT);
                }
                Err(error) => return (written, Err(error)),
            }
        }
        (written, self.sink.flush())
    }

    /// Sleeps until there is a line. Not called while there is a loss to report or a kept line to write, so a failing
    /// output is retried until it works again.
    fn sleep(&self) {
        // INVARIANT: callers count a line before they read `is_asleep`, and the writer reads the counts after it has
        // set it, all sequentially consistent: one of the two sees the other.
        self.lane.is_asleep.store(true, Ordering::SeqCst);
        let is_idle = self.inboxes.iter().all(Inbox::is_empty) && !self.lane.is_closing();
        if is_idle {
            thread::park();
        } else {
            // A counted line may not have reached its queue yet.
            thread::yield_now();
        }
        self.lane.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Counts the lines that will not be written.
    fn give_up(self) {
        for (index, _) in self.kept {
            if let Some(inbox) = self.inboxes.get(index) {
                inbox.tally.lose(1);
            }
        }
        for inbox in &self.inboxes {
            while let Some(line) = inbox.take() {
                if !matches!(line.fate, Fate::Answered(_)) {
                    inbox.tally.lose(1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::sync::oneshot;

    use super::*;
    use crate::model::clock::{ManualClock, Timestamp};
    use crate::telemetry::output::Stream;
    use crate::telemetry::output::queue::{self, Bounds};

    #[test]
    fn a_loss_is_mentioned_in_time_whoever_waits_meanwhile() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let lane = Lane::new("stdout", Arc::clone(&clock) as Arc<dyn Clock>);
        let bounds = Bounds {
            lines_max: 100,
            bytes_max: 1 << 20,
        };
        let counters = || (Counter::default(), Counter::default());
        let (audit, first) = queue::open(Stream::Audit, bounds, &lane, counters());
        let (access, second) = queue::open(Stream::Access, bounds, &lane, counters());
        let mut writer = Writer {
            sink: Box::new(io::sink()),
            inboxes: vec![first, second],
            lane,
            batch: Batch::default(),
            kept: VecDeque::new(),
            is_mid_line: false,
            noted: None,
        };
        // More than one write can hold, so that the stream is never empty.
        for _ in 0..50 {
            let bytes = vec![b'x'; BATCH_BYTES_MAX / 2];
            access.push(Line {
                bytes,
                fate: Fate::Lost,
            });
        }
        access.tally.lose(1);
        writer.gather();
        clock.advance(NOTE_EVERY);
        let (answer, _waits) = oneshot::channel();
        audit.push(Line {
            bytes: b"audit\n".to_vec(),
            fate: Fate::Answered(answer),
        });
        writer.gather();
        assert_eq!(writer.batch.bytes, b"audit\n");
        writer.gather();
        let notes = writer.batch.parts.iter();
        let notes = notes.filter(|part| matches!(part.kind, PartKind::Note(1)));
        assert_eq!(notes.count(), 1);
    }
}
