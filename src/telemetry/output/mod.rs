//! All output of the gateway on standard output and standard error (access records, audit events, the log, mails), and
//! the log and audit events of commands.
//!
//! No caller waits for a reader. A line goes into the bounded queue of its stream, and one thread per output writes the
//! queued lines, several with one write: while it gathers them, no caller pays for waking it. A line that does not fit
//! or cannot be written is lost: it is counted in the metrics, reported in the stream once its reader is back, and
//! until then listed in `/readyz`. If both outputs are the same file, one thread writes to it, so that lines never
//! interleave.

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

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::oneshot;

use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::telemetry::fold::EventFolding;
use crate::telemetry::output::lane::OutputLane;
use crate::telemetry::output::queue::{FailedLine, LineQueue, QueueBounds};
use crate::telemetry::register::FixedLabels;

/// Maximum wait for a line whose caller waits, so that a refusal follows within a second.
const ANSWER_WAIT: Duration = Duration::from_millis(800);
/// Maximum time that a stalled reader delays the end of the process, per output.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The streams of lines. Each has its own queue, so that a flood in one drops no line of another; earlier ones are
/// written first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Audit events of actions completed or about to happen.
    Audit,
    /// The program's log.
    Log,
    /// Audit events of refusals: strangers can cause any number of them.
    AuditRefusals,
    /// Access records.
    Access,
    /// Mails, if standard output is their transport.
    Mail,
}

impl Stream {
    /// Every stream once, in discriminant order.
    pub const ALL: [Self; 5] = [
        Self::Audit,
        Self::Log,
        Self::AuditRefusals,
        Self::Access,
        Self::Mail,
    ];

    /// Returns the stable name in metrics and in reports of lost lines.
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

    /// Returns the queue's limits: about a second of lines at full load.
    const fn bounds(self) -> QueueBounds {
        let (lines_max, mib_max) = match self {
            Self::Access | Self::Audit => (8192, 4),
            Self::Log | Self::AuditRefusals => (4096, 2),
            Self::Mail => (256, 4),
        };
        QueueBounds {
            lines_max,
            bytes_max: mib_max << 20,
        }
    }
}

/// Counts of written and lost lines. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct LineCounts {
    written: Family<FixedLabels<1>, Counter>,
    lost: Family<FixedLabels<1>, Counter>,
}

impl LineCounts {
    /// Returns the counters of written and of lost lines of a stream.
    fn of(&self, stream: Stream) -> (Counter, Counter) {
        let labels = [("stream", stream.as_str())];
        (
            self.written.get_or_create_owned(&labels),
            self.lost.get_or_create_owned(&labels),
        )
    }

    pub(in crate::telemetry) fn register(&self, registry: &mut Registry) {
        for stream in Stream::ALL {
            // A series that exists from startup can be watched.
            let _ = self.of(stream);
        }
        registry.register(
            "lines_written",
            "Lines that were written, by stream",
            self.written.clone(),
        );
        registry.register(
            "lines_lost",
            "Lines lost because they were not read or could not be written, by stream",
            self.lost.clone(),
        );
    }
}

/// The output of audit events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutput {
    /// Standard output, together with the access records: the gateway.
    Stdout,
    /// Standard error: a command, whose standard output is its result.
    Stderr,
}

/// The error for an audit event that could not be written; the action was not performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write the audit trail")]
pub struct Unrecorded;

/// The queues and writers of logs, records, audit events and mails.
#[derive(Debug)]
pub struct Output {
    queues: [LineQueue; Stream::ALL.len()],
    lanes: Vec<Arc<OutputLane>>,
    /// The counters of written and lost lines, for the metrics.
    pub counts: LineCounts,
    pub(in crate::telemetry) folds: EventFolding,
    clock: Arc<dyn Clock>,
    requires_audit: AtomicBool,
}

impl Output {
    /// Starts the writers to the outputs of the process.
    ///
    /// # Errors
    /// The system's error if it cannot provide a thread or a descriptor.
    pub fn start(audit: AuditOutput) -> io::Result<Arc<Self>> {
        // Separate descriptors: the standard library holds its lock for the duration of a write.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let file = |file: &File| file.metadata().map(|it| (it.dev(), it.ino()));
        let is_one = file(&stdout)? == file(&stderr)?;
        let stderr = (!is_one).then(|| Box::new(stderr) as Box<dyn Write + Send>);
        let clock = Arc::new(SystemClock::new());
        Self::onto(Box::new(stdout), stderr, audit, clock)
    }

    /// Creates an output that discards everything, for tests.
    #[cfg(test)]
    pub(crate) fn to_nowhere() -> Arc<Self> {
        let clock = Arc::new(SystemClock::new());
        Self::onto(Box::new(io::sink()), None, AuditOutput::Stdout, clock).unwrap()
    }

    /// Starts writers to the given outputs; `stderr` is `None` if it is the same file as standard output.
    pub(in crate::telemetry) fn onto(
        stdout: Box<dyn Write + Send>,
        stderr: Option<Box<dyn Write + Send>>,
        audit: AuditOutput,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Arc<Self>> {
        let counts = LineCounts::default();
        let out = OutputLane::new("stdout", Arc::clone(&clock));
        let err = match stderr {
            Some(_) => OutputLane::new("stderr", Arc::clone(&clock)),
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
            folds: EventFolding::new(Arc::clone(&clock)),
            clock,
            requires_audit: AtomicBool::new(false),
        }))
    }

    /// Writes the numbers of log lines that were folded a second or more ago. Must be called every second.
    pub fn report_folded(&self) {
        self.report_folded_until(false);
    }

    fn report_folded_until(&self, is_end: bool) {
        for line in self.folds.due(is_end) {
            self.line(Stream::Log, line.into_bytes());
        }
    }

    /// Returns the time that lines are stamped with.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Queues a line, line break included, and returns at once.
    pub fn line(&self, stream: Stream, bytes: impl AsRef<[u8]>) {
        let is_kept = stream == Stream::Audit && self.requires_audit();
        let fate = if is_kept {
            FailedLine::Kept
        } else {
            FailedLine::Lost
        };
        self.push(stream, bytes.as_ref(), fate);
    }

    /// Queues a line and returns once it is written; waits for at most a second.
    ///
    /// # Errors
    /// The system's error; `WouldBlock` if the queue is full, `TimedOut` if the reader does not read. The line is not
    /// written later, unless the write had begun.
    pub async fn deliver(&self, stream: Stream, bytes: Vec<u8>) -> io::Result<()> {
        let (answer, written) = oneshot::channel();
        let fate = FailedLine::Answered(answer);
        if !self.push(stream, &bytes, fate) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match tokio::time::timeout(ANSWER_WAIT, written).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sets `[audit] required`: from now on `begin` waits for its line, and an audit event of a completed action is
    /// retried until it is written.
    pub fn require_audit(&self, is_required: bool) {
        self.requires_audit.store(is_required, Ordering::Release);
    }

    /// Whether no action may be performed that the audit trail cannot record.
    #[must_use]
    pub fn requires_audit(&self) -> bool {
        self.requires_audit.load(Ordering::Acquire)
    }

    /// Whether the audit trail accepts lines, as far as is known without waiting; always if it is not required. An
    /// output that begins to fail is noticed at its next line, a stalled reader within a second or two. A change waits
    /// for `begin`.
    #[must_use]
    pub fn takes_lines(&self) -> bool {
        let takes = |queue: &LineQueue| queue.is_half_free() && !queue.lane.is_jammed();
        !self.requires_audit() || self.queue(Stream::Audit).is_some_and(takes)
    }

    /// Writes an audit event of an action about to happen, if the trail is required; otherwise does nothing.
    ///
    /// # Errors
    /// [`Unrecorded`] within a second if it cannot be written, or if so many events are queued that the one of the
    /// outcome might not fit.
    pub(in crate::telemetry) async fn begin(
        &self,
        line: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Unrecorded> {
        if !self.requires_audit() {
            return Ok(());
        }
        let queue = self.queue(Stream::Audit);
        let has_room = queue.is_some_and(LineQueue::is_half_free);
        let is_written = has_room && self.deliver(Stream::Audit, line()).await.is_ok();
        is_written.then_some(()).ok_or(Unrecorded)
    }

    /// Waits until all queued audit events are written, at most for a second: for one call that records more events
    /// than their queue can hold.
    pub async fn settle_audit(&self) {
        // An empty line is written after all lines before it. If it times out, the next events may be lost, and are
        // counted.
        let _ = self.deliver(Stream::Audit, Vec::new()).await;
    }

    /// Returns the outputs that do not accept lines now, or have lost some and not yet reported it.
    pub fn jammed(&self) -> impl Iterator<Item = &'static str> {
        let is_jammed = |lane: &&Arc<OutputLane>| {
            let loses =
                |queue: &LineQueue| Arc::ptr_eq(&queue.lane, lane) && queue.tally.unreported() != 0;
            lane.is_jammed() || self.queues.iter().any(loses)
        };
        self.lanes.iter().filter(is_jammed).map(|lane| lane.name)
    }

    /// Writes the queued lines and ends the writers; gives up after a second for each output whose reader has stalled.
    /// Later lines are lost.
    pub fn close(&self) {
        self.report_folded_until(true);
        // Standard output first, so that the log can report its lost lines.
        for lane in &self.lanes {
            if lane.close(CLOSE_WAIT) {
                continue;
            }
            let of_lane = |queue: &&LineQueue| Arc::ptr_eq(&queue.lane, lane);
            let lines = self.queues.iter().filter(of_lane);
            let lines: usize = lines.map(LineQueue::lines).sum();
            tracing::error!(
                output = lane.name,
                lines,
                "lines lost at shutdown: the output is not read"
            );
        }
    }

    fn push(&self, stream: Stream, line: &[u8], fate: FailedLine) -> bool {
        self.queue(stream)
            .is_some_and(|queue| queue.push(line, fate))
    }

    fn queue(&self, stream: Stream) -> Option<&LineQueue> {
        self.queues.get(stream as usize)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns the line that reports lost ones, in the form of its stream.
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
