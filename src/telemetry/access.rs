//! The access record: one JSON line per request, on every way out.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use crate::telemetry::metrics::{Metrics, Outcome};

/// Records that may wait for the writer: about 4 MiB, and a second at full load.
const QUEUE_RECORDS_MAX: usize = 8192;
/// The writer gathers at most so much before it writes.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// A reader that has stopped may hold up the end of the process no longer than this, twice.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
const CLOSE_STEP: Duration = Duration::from_millis(10);
const CLOSE_STEPS: usize = 100;

/// One request, as its line tells it. Texts are escaped when written; the query is not part of it.
#[derive(Debug, serde::Serialize)]
pub struct AccessRecord<'a> {
    /// When it was answered, RFC 3339, UTC.
    pub time: String,
    /// The request's id.
    pub request_id: &'a str,
    /// The client's address, after trusted proxies.
    pub client: Option<std::net::IpAddr>,
    /// The method.
    pub method: &'a str,
    /// The host it asked for.
    pub host: &'a str,
    /// The canonical path, or the raw one where it was refused; never the query.
    pub path: &'a str,
    /// The route, as written in the configuration.
    pub route: Option<&'a str>,
    /// How it ended.
    #[serde(serialize_with = "outcome")]
    pub outcome: Outcome,
    /// Code of the refusal or failure.
    pub reason: Option<&'a str>,
    /// What is wrong with a bearer token that was refused, which its caller is not told.
    pub fault: Option<&'a str>,
    /// Status of the answer; 0 if there was none.
    pub status: u16,
    /// Who.
    pub subject: Option<&'a str>,
    /// By what recognised.
    pub method_authn: Option<&'a str>,
    /// Which API key.
    pub key_id: Option<&'a str>,
    /// Which upstream.
    pub upstream: Option<&'a str>,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde gives a reference to whatever it serializes"
)]
fn outcome<S: serde::Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(outcome.as_str())
}

/// Writes access records on a thread of its own; drops and counts what does not fit its queue or cannot be written. No
/// request ever waits for the reader of the log.
#[derive(Debug)]
pub struct AccessLog {
    queue: Option<Queue>,
    dropped: Dropped,
}

#[derive(Debug)]
struct Queue {
    lines: SyncSender<Message>,
    /// Says that the writer has ended, by being closed.
    end: Mutex<Receiver<()>>,
}

#[derive(Debug)]
enum Message {
    /// A record with its line break.
    Line(Vec<u8>),
    /// Write what came before, and end.
    Close,
}

/// Counts what was lost, once it is told where.
#[derive(Clone, Debug, Default)]
struct Dropped(Arc<OnceLock<Counter>>);

impl Dropped {
    fn add(&self, lines: u64) {
        if let Some(counter) = self.0.get() {
            counter.inc_by(lines);
        }
    }
}

impl AccessLog {
    /// Starts the writer onto standard output; `enabled = false` makes [`AccessLog::write`] do nothing.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(enabled: bool) -> std::io::Result<Self> {
        if enabled {
            Self::start_onto(std::io::stdout(), QUEUE_RECORDS_MAX)
        } else {
            Ok(Self {
                queue: None,
                dropped: Dropped::default(),
            })
        }
    }

    fn start_onto(
        output: impl Write + Send + 'static,
        records_max: usize,
    ) -> std::io::Result<Self> {
        let (lines, inbox) = sync_channel(records_max);
        let (ended, end) = sync_channel(0);
        let dropped = Dropped::default();
        let lost = dropped.clone();
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write_all(&inbox, output, &lost);
                drop::<SyncSender<()>>(ended);
            })?;
        Ok(Self {
            queue: Some(Queue {
                lines,
                end: Mutex::new(end),
            }),
            dropped,
        })
    }

    /// Counts lost records there from now on.
    #[must_use]
    pub fn counted_by(self, metrics: &Metrics) -> Self {
        self.dropped
            .0
            .get_or_init(|| metrics.access_records_dropped().clone());
        self
    }

    /// Whether records are wanted, so that nobody builds one in vain.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues one record.
    pub fn write(&self, record: &AccessRecord<'_>) {
        let Some(queue) = &self.queue else {
            return;
        };
        let mut line = Vec::with_capacity(512);
        let is_written = serde_json::to_writer(&mut line, record).is_ok();
        line.push(b'\n');
        if !is_written || queue.lines.try_send(Message::Line(line)).is_err() {
            self.dropped.add(1);
        }
    }

    /// Writes what waits and ends the writer; gives up after about two seconds when nobody reads any more. Records that
    /// come later are dropped.
    pub fn close(&self) {
        let Some(queue) = &self.queue else {
            return;
        };
        for _ in 0..CLOSE_STEPS {
            match queue.lines.try_send(Message::Close) {
                Err(TrySendError::Full(_)) => std::thread::sleep(CLOSE_STEP),
                Ok(()) | Err(TrySendError::Disconnected(_)) => break,
            }
        }
        let end = queue.end.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: the wait ends when the writer has, or in time.
        let _ = end.recv_timeout(CLOSE_WAIT);
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// Writes lines as they come, many at once when many wait, and flushes before it waits itself. An output that fails
/// loses what it was given and is tried again with the next lines: a full disk may have room again.
fn write_all(inbox: &Receiver<Message>, mut output: impl Write, lost: &Dropped) {
    let mut batch = Vec::with_capacity(BATCH_BYTES_MAX);
    let mut is_mid_line = false;
    while let Ok(Message::Line(first)) = inbox.recv() {
        batch.clear();
        if is_mid_line {
            batch.push(b'\n');
        }
        batch.extend_from_slice(&first);
        let mut lines = 1;
        let mut closes = false;
        while batch.len() < BATCH_BYTES_MAX {
            match inbox.try_recv() {
                Ok(Message::Line(line)) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                }
                Ok(Message::Close) => {
                    closes = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let written = output.write_all(&batch).and_then(|()| output.flush());
        is_mid_line = written.is_err();
        if written.is_err() {
            lost.add(lines);
        }
        if closes {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str) -> AccessRecord<'_> {
        AccessRecord {
            time: "2030-01-31T12:00:00Z".to_owned(),
            request_id: "0123456789abcdef",
            client: Some([127, 0, 0, 1].into()),
            method: "GET",
            host: "a.example",
            path,
            route: None,
            outcome: Outcome::UpstreamError,
            reason: None,
            fault: None,
            status: 502,
            subject: Some("u-aaaaaaaa"),
            method_authn: Some("jwt"),
            key_id: None,
            upstream: Some("app"),
            bytes_sent: 7,
            duration_us: 1500,
        }
    }

    /// An output that fails when told to, and waits for `gate` when it has one.
    #[derive(Clone, Default)]
    struct Output {
        bytes: Arc<Mutex<Vec<u8>>>,
        fails: Arc<std::sync::atomic::AtomicBool>,
        gate: Arc<Mutex<()>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _open = self.gate.lock().unwrap();
            if self.fails.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            self.bytes.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn lines(&self) -> Vec<String> {
            let bytes = self.bytes.lock().unwrap().clone();
            let text = String::from_utf8(bytes).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    fn lost(metrics: &Metrics) -> u64 {
        metrics.access_records_dropped().get()
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let output = Output::default();
        let log = AccessLog::start_onto(output.clone(), 8).unwrap();
        log.write(&record("/x\n{\"forged\":1}\u{1b}[31m"));
        log.close();
        assert_eq!(
            output.lines(),
            [
                "{\"time\":\"2030-01-31T12:00:00Z\",\"request_id\":\"0123456789abcdef\",\"client\":\"127.0.0.1\",\
                 \"method\":\"GET\",\"host\":\"a.example\",\"path\":\"/x\\n{\\\"forged\\\":1}\\u001b[31m\",\
                 \"route\":null,\"outcome\":\"upstream_error\",\"reason\":null,\"status\":502,\
                 \"subject\":\"u-aaaaaaaa\",\"method_authn\":\"jwt\",\"key_id\":null,\"upstream\":\"app\",\
                 \"bytes_sent\":7,\"duration_us\":1500}"
            ]
        );
    }

    #[test]
    fn closing_writes_all_that_waits_and_then_drops() {
        let (output, metrics) = (Output::default(), Metrics::new());
        let log = AccessLog::start_onto(output.clone(), 1000)
            .unwrap()
            .counted_by(&metrics);
        for _ in 0..500 {
            log.write(&record("/x"));
        }
        log.close();
        assert_eq!((output.lines().len(), lost(&metrics)), (500, 0));
        log.write(&record("/late"));
        drop(log);
        assert_eq!((output.lines().len(), lost(&metrics)), (500, 1));
    }

    #[test]
    fn a_reader_that_stands_still_costs_records_and_no_time() {
        let (output, metrics) = (Output::default(), Metrics::new());
        let log = AccessLog::start_onto(output.clone(), 4)
            .unwrap()
            .counted_by(&metrics);
        let closed = output.gate.lock().unwrap();
        for _ in 0..100 {
            log.write(&record("/x"));
        }
        drop(closed);
        log.close();
        let written = output.lines().len() as u64;
        assert!(written < 100, "{written}");
        assert_eq!(written + lost(&metrics), 100);
    }

    #[test]
    fn an_output_that_fails_loses_lines_and_is_used_again() {
        let (output, metrics) = (Output::default(), Metrics::new());
        let log = AccessLog::start_onto(output.clone(), 8)
            .unwrap()
            .counted_by(&metrics);
        output
            .fails
            .store(true, std::sync::atomic::Ordering::SeqCst);
        log.write(&record("/lost"));
        while lost(&metrics) == 0 {
            std::thread::yield_now();
        }
        output
            .fails
            .store(false, std::sync::atomic::Ordering::SeqCst);
        log.write(&record("/kept"));
        log.close();
        let lines = output.lines();
        assert_eq!(lines.len(), 2, "an empty line ends what was begun");
        assert!(lines.get(1).unwrap().contains("/kept"));
    }

    #[test]
    fn a_log_that_is_off_does_nothing() {
        let log = AccessLog::start(false).unwrap();
        assert!(!log.is_enabled());
        log.write(&record("/x"));
        log.close();
    }
}
