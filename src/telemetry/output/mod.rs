//! All that the gateway writes on standard output and standard error (access records, audit events, the log, mails), and the
//! log and audit events of commands.
//!
//! No caller waits for a reader. A line goes into the queue of its stream, which is bounded, and a thread for each output
//! writes what is in the queues. What does not fit, or cannot be written, is lost: it is counted in the metrics, mentioned
//! in the stream once its reader is back, and listed in `/readyz` until then. Where both outputs are one file, one thread
//! writes on it, so that lines never end up inside each other.

mod count;
mod lane;
mod queue;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::telemetry::fold::Folds;
pub use crate::telemetry::output::count::LineCounts;
use crate::telemetry::output::lane::Lane;
use crate::telemetry::output::queue::{Bounds, Fate, Line, Queue};

/// How long a line whose owner waits may take: a refusal follows within a second.
const ANSWER_WAIT: Duration = Duration::from_millis(800);
/// A reader that has stopped holds up the end of the process no longer than this, for each output.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// What a line belongs to. Each stream has a queue of its own, so that a flood in one drops no line of another; the
/// earlier ones are written first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Audit events of what was done, or is about to be.
    Audit,
    /// The program's log.
    Log,
    /// Audit events of what was refused: strangers can cause any number of them.
    AuditRefusals,
    /// Access records.
    Access,
    /// Mails, where standard output is their transport.
    Mail,
}

impl Stream {
    /// Every stream once, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Audit,
        Self::Log,
        Self::AuditRefusals,
        Self::Access,
        Self::Mail,
    ];

    /// The stable name in metrics and in notes of lost lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Log => "log",
            Self::AuditRefusals => "audit_refusals",
            Self::Access => "access",
            Self::Mail => "mail",
        }
    }

    /// What may wait: about a second of each at full load.
    const fn bounds(self) -> Bounds {
        let (lines_max, mib_max) = match self {
            Self::Access | Self::Audit => (8192, 4),
            Self::Log | Self::AuditRefusals => (4096, 2),
            Self::Mail => (256, 4),
        };
        Bounds {
            lines_max,
            bytes_max: mib_max << 20,
        }
    }
}

/// Where audit events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutput {
    /// Standard output, beside the access records: the gateway.
    Stdout,
    /// Standard error: a command, whose standard output is its answer.
    Stderr,
}

/// An audit event that could not be put into the trail; what it would have told of was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write the audit trail")]
pub struct Unrecorded;

/// The way of logs, records, audit events and mails onto standard output and standard error.
#[derive(Debug)]
pub struct Output {
    queues: [Queue; Stream::ALL.len()],
    lanes: Vec<Arc<Lane>>,
    counts: LineCounts,
    folds: Folds,
    clock: Arc<dyn Clock>,
    requires_audit: AtomicBool,
}

impl Output {
    /// Starts the writers onto the outputs of the process.
    ///
    /// # Errors
    /// When the system gives no thread or no descriptor.
    pub fn start(audit: AuditOutput) -> io::Result<Arc<Self>> {
        // Descriptors of our own: the lock of the standard library's is held for as long as a write takes.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let file = |file: &File| file.metadata().map(|it| (it.dev(), it.ino()));
        let is_one = file(&stdout)? == file(&stderr)?;
        let stderr = (!is_one).then(|| Box::new(stderr) as Box<dyn Write + Send>);
        let clock = Arc::new(SystemClock::new());
        Self::onto(Box::new(stdout), stderr, audit, clock)
    }

    /// An output that nobody reads: for tests of what only needs one.
    #[cfg(test)]
    pub(crate) fn to_nowhere() -> Arc<Self> {
        let clock = Arc::new(SystemClock::new());
        Self::onto(Box::new(io::sink()), None, AuditOutput::Stdout, clock).unwrap()
    }

    /// `stderr`: `None` where it is the same file as standard output.
    pub(in crate::telemetry) fn onto(
        stdout: Box<dyn Write + Send>,
        stderr: Option<Box<dyn Write + Send>>,
        audit: AuditOutput,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Arc<Self>> {
        let counts = LineCounts::default();
        let out = Lane::new("stdout", Arc::clone(&clock));
        let err = match stderr {
            Some(_) => Lane::new("stderr", Arc::clone(&clock)),
            None => Arc::clone(&out),
        };
        let (mut out_inboxes, mut err_inboxes) = (Vec::new(), Vec::new());
        let queues = Stream::ALL.map(|stream| {
            let is_err = match stream {
                Stream::Log => true,
                Stream::Audit | Stream::AuditRefusals => audit == AuditOutput::Stderr,
                Stream::Access | Stream::Mail => false,
            };
            let lane = if is_err { &err } else { &out };
            let counters = counts.of(stream);
            let (queue, inbox) = queue::open(stream, stream.bounds(), lane, counters);
            if is_err && stderr.is_some() {
                err_inboxes.push(inbox);
            } else {
                out_inboxes.push(inbox);
            }
            queue
        });
        writer::start(&out, stdout, out_inboxes)?;
        let mut lanes = vec![out];
        if let Some(sink) = stderr {
            writer::start(&err, sink, err_inboxes)?;
            lanes.push(err);
        }
        Ok(Arc::new(Self {
            queues,
            lanes,
            counts,
            folds: Folds::new(Arc::clone(&clock)),
            clock,
            requires_audit: AtomicBool::new(false),
        }))
    }

    /// Counters of written and lost lines, for the metrics.
    #[must_use]
    pub fn counts(&self) -> &LineCounts {
        &self.counts
    }

    /// What the log counts instead of writing it.
    pub(in crate::telemetry) fn folds(&self) -> &Folds {
        &self.folds
    }

    /// Writes how many lines of the log were counted instead of written, a second or more ago. To be called each second.
    pub fn tell_folded(&self) {
        self.tell_folded_until(false);
    }

    fn tell_folded_until(&self, is_end: bool) {
        for line in self.folds.due(is_end) {
            self.line(Stream::Log, line.into_bytes());
        }
    }

    /// Time, as lines are stamped.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Queues a line, line break included, and returns at once.
    pub fn line(&self, stream: Stream, bytes: Vec<u8>) {
        let is_kept = stream == Stream::Audit && self.requires_audit();
        let fate = if is_kept { Fate::Kept } else { Fate::Lost };
        self.push(stream, Line { bytes, fate });
    }

    /// Queues a line and returns once it is written; at most for a second.
    ///
    /// # Errors
    /// The system's; `WouldBlock` without room, `TimedOut` for a reader that does not read. Then it is not written later
    /// on, unless writing it had begun.
    pub async fn deliver(&self, stream: Stream, bytes: Vec<u8>) -> io::Result<()> {
        let (answer, written) = oneshot::channel();
        let fate = Fate::Answered(answer);
        if !self.push(stream, Line { bytes, fate }) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match tokio::time::timeout(ANSWER_WAIT, written).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sets `[audit] required`: from now on `begin` waits for its line, and an audit event of what was done is tried again
    /// until it is written.
    pub fn require_audit(&self, is_required: bool) {
        self.requires_audit.store(is_required, Ordering::Release);
    }

    /// Whether nothing may be done that the audit trail cannot tell of.
    #[must_use]
    pub fn requires_audit(&self) -> bool {
        self.requires_audit.load(Ordering::Acquire)
    }

    /// Whether the audit trail takes lines, as far as is known without waiting; always where it is not required. An output
    /// that begins to fail is noticed by its next line, a reader that has stopped within a second or two. `begin`
    /// is what a change waits for.
    #[must_use]
    pub fn takes_lines(&self) -> bool {
        let takes = |queue: &Queue| queue.is_half_free() && !queue.lane.is_jammed();
        !self.requires_audit() || self.queue(Stream::Audit).is_some_and(takes)
    }

    /// Writes an audit event of what is about to be done, where the trail is required; does nothing elsewhere.
    ///
    /// # Errors
    /// [`Unrecorded`] within a second when it cannot be written, or when so many events wait that the one of the outcome
    /// might find no room.
    pub(in crate::telemetry) async fn begin(
        &self,
        line: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Unrecorded> {
        if !self.requires_audit() {
            return Ok(());
        }
        if !self.queue(Stream::Audit).is_some_and(Queue::is_half_free) {
            return Err(Unrecorded);
        }
        self.deliver(Stream::Audit, line())
            .await
            .map_err(|_| Unrecorded)
    }

    /// Waits until the audit events that were queued so far are written, at most for a second: for one call that makes
    /// more of them than their queue may hold.
    pub async fn settle_audit(&self) {
        // An empty line is written when all before it is. Without an answer in time the next events may be lost, and are
        // counted.
        let _ = self.deliver(Stream::Audit, Vec::new()).await;
    }

    /// The outputs that do not take their lines now, or have lost some and not yet said so.
    pub fn jammed(&self) -> impl Iterator<Item = &'static str> {
        let is_jammed = |lane: &&Arc<Lane>| {
            let loses = |queue: &Queue| Arc::ptr_eq(&queue.lane, lane) && queue.tally.untold() != 0;
            lane.is_jammed() || self.queues.iter().any(loses)
        };
        self.lanes.iter().filter(is_jammed).map(|lane| lane.name)
    }

    /// Writes what waits and ends the writers; gives up after a second for each output whose reader has stopped. Lines
    /// that come later are lost.
    pub fn close(&self) {
        self.tell_folded_until(true);
        // Standard output first, so that the log can tell what was lost of it.
        for lane in &self.lanes {
            if lane.close(CLOSE_WAIT) {
                continue;
            }
            let of_lane = |queue: &&Queue| Arc::ptr_eq(&queue.lane, lane);
            let lines = self.queues.iter().filter(of_lane);
            let lines: u64 = lines.map(|queue| queue.tally.lines()).sum();
            tracing::error!(
                output = lane.name,
                lines,
                "lines lost at the end: they are not read"
            );
        }
    }

    fn push(&self, stream: Stream, line: Line) -> bool {
        self.queue(stream).is_some_and(|queue| queue.push(line))
    }

    fn queue(&self, stream: Stream) -> Option<&Queue> {
        self.queues.get(stream as usize)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.close();
    }
}

/// The line that mentions lost ones, in the form of its stream.
fn loss_note(stream: Stream, lines: u64, now: Timestamp) -> String {
    let (time, stream_name) = (now.to_rfc3339(), stream.as_str());
    let message = format!("{lines} lines lost");
    match stream {
        Stream::Log | Stream::Mail => {
            format!("{time} ERROR doorward: {message} stream=\"{stream_name}\"\n")
        }
        Stream::Audit | Stream::AuditRefusals | Stream::Access => {
            let note =
                json!({ "time": time, "stream": stream_name, "lost": lines, "message": message });
            format!("{note}\n")
        }
    }
}
