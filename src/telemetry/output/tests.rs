use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::clock::ManualClock;

/// An output with injected faults.
#[derive(Clone, Default)]
struct Reader(Arc<State>);

#[derive(Default)]
struct State {
    bytes: Mutex<Vec<u8>>,
    /// Held by the test to block writes.
    gate: Mutex<()>,
    fails: AtomicBool,
    /// Maximum bytes accepted by one write; 0: all.
    piece: AtomicUsize,
    /// Bytes accepted before the output is full.
    room: Mutex<Option<usize>>,
    /// Number of attempted writes.
    tries: AtomicUsize,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.tries.fetch_add(1, Ordering::SeqCst);
        let _open = self.0.gate.lock().unwrap();
        if self.0.fails.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut count = match self.0.piece.load(Ordering::SeqCst) {
            0 => bytes.len(),
            piece => piece.min(bytes.len()),
        };
        if let Some(room) = self.0.room.lock().unwrap().as_mut() {
            count = count.min(*room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= count;
        }
        let bytes = bytes.get(..count).unwrap();
        self.0.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reader {
    fn text(&self) -> String {
        String::from_utf8(self.0.bytes.lock().unwrap().clone()).unwrap()
    }

    fn output(&self) -> Arc<Output> {
        self.output_with(Arc::new(SystemClock::new()))
    }

    fn output_with(&self, clock: Arc<dyn Clock>) -> Arc<Output> {
        Output::onto(Box::new(self.clone()), None, AuditOutput::Stdout, clock).unwrap()
    }

    fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            if is_so(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("not within ten seconds: {}", self.text());
    }
}

fn lost(output: &Output, stream: Stream) -> u64 {
    output.counts.of(stream).1.get()
}

fn written(output: &Output, stream: Stream) -> u64 {
    output.counts.of(stream).0.get()
}

fn is_jammed(output: &Output) -> bool {
    output.jammed().next().is_some()
}

/// Returns the number of written lines of a stream, and of those reported as lost.
fn told(text: &str, begin: &str) -> (u64, u64) {
    let mut told = (0, 0);
    for line in text.lines() {
        if line.starts_with(begin) {
            told.0 += 1;
        } else if let Ok(note) = serde_json::from_str::<serde_json::Value>(line) {
            told.1 += note["lost"].as_u64().unwrap();
        }
    }
    told
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap()
}

#[test]
fn closing_writes_all_that_waits_and_what_comes_later_is_lost() {
    let reader = Reader::default();
    let output = reader.output();
    for _ in 0..5000 {
        output.line(Stream::Access, b"access\n");
    }
    output.close();
    assert_eq!(reader.text(), "access\n".repeat(5000));
    output.line(Stream::Access, b"late\n");
    assert_eq!(written(&output, Stream::Access), 5000);
    assert_eq!(lost(&output, Stream::Access), 1);
}

#[test]
fn a_reader_that_stands_still_costs_lines_and_no_time_and_is_told_of_each() {
    let reader = Reader::default();
    let output = reader.output();
    let shut = reader.0.gate.lock().unwrap();
    let long = "x".repeat(2000);
    for _ in 0..9000 {
        output.line(Stream::Access, format!("access {long}\n").into_bytes());
    }
    // Another stream has its own room.
    output.line(Stream::Audit, b"audit\n");
    assert_eq!(lost(&output, Stream::Audit), 0);
    assert!(lost(&output, Stream::Access) > 6000, "in bytes too");
    assert!(is_jammed(&output), "what was lost is not told yet");
    drop(shut);
    reader.wait_until(|it| it.text().contains("lost"));
    let before = lost(&output, Stream::Access);
    output.close();
    let text = reader.text();
    let (lines, notes) = told(&text, "access ");
    assert_eq!((lines + notes, notes), (9000, before));
    assert!(text.contains(&format!("\"message\":\"{before} lines lost\"")));
    assert_eq!(written(&output, Stream::Access), lines);
    assert!(!is_jammed(&output));
    // The most important stream does not wait behind lines queued before it.
    let behind = text.find("audit\n").unwrap();
    assert!(behind < text.len() / 2, "{behind} of {}", text.len());
}

#[test]
fn an_output_that_fails_loses_lines_and_says_so_once_it_works_again() {
    let reader = Reader::default();
    let output = reader.output();
    reader.0.fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        output.line(Stream::Log, b"log\n");
    }
    reader.wait_until(|_| lost(&output, Stream::Log) == 3);
    assert!(is_jammed(&output));
    reader.0.fails.store(false, Ordering::SeqCst);
    // The output is found to work again without a new line.
    reader.wait_until(|it| it.text().contains("3 lines lost"));
    reader.wait_until(|_| !is_jammed(&output));
    output.line(Stream::Log, b"kept\n");
    output.close();
    assert!(reader.text().ends_with("kept\n"), "{}", reader.text());
    assert_eq!(lost(&output, Stream::Log), 3);
}

#[test]
fn pieces_are_put_together_and_a_torn_line_ends_before_the_next() {
    let reader = Reader::default();
    reader.0.piece.store(3, Ordering::SeqCst);
    let output = reader.output();
    for _ in 0..50 {
        output.line(Stream::Access, b"a whole line\n");
    }
    output.close();
    assert_eq!(reader.text(), "a whole line\n".repeat(50));

    let reader = Reader::default();
    *reader.0.room.lock().unwrap() = Some(7);
    let output = reader.output();
    output.line(Stream::Access, b"a torn line\n");
    reader.wait_until(|_| lost(&output, Stream::Access) == 1);
    *reader.0.room.lock().unwrap() = None;
    output.line(Stream::Access, b"a whole line\n");
    output.close();
    let text = reader.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"a torn "), "{text}");
    assert!(lines.contains(&"a whole line"), "{text}");
}

#[test]
fn lines_that_come_together_share_a_write() {
    let reader = Reader::default();
    let output = reader.output();
    let shut = reader.0.gate.lock().unwrap();
    for _ in 0..1000 {
        output.line(Stream::Access, b"access\n");
    }
    drop(shut);
    output.close();
    let tries = reader.0.tries.load(Ordering::SeqCst);
    assert!(tries < 10, "{tries} writes of 1000 lines");
}

#[test]
fn lines_that_come_one_by_one_are_gathered_for_a_write() {
    let reader = Reader::default();
    let output = reader.output();
    let clock = SystemClock::new();
    let begin = clock.elapsed();
    for _ in 0..200 {
        output.line(Stream::Access, b"access\n");
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = clock.elapsed().saturating_sub(begin);
    let tries = u32::try_from(reader.0.tries.load(Ordering::SeqCst)).unwrap();
    let least = Duration::from_millis(4) * tries.saturating_sub(2);
    assert!(least < took, "{tries} writes in {took:?}");
    output.close();
    assert_eq!(reader.text(), "access\n".repeat(200));
}

#[test]
fn a_line_whose_caller_waits_is_written_while_others_are_gathered() {
    let reader = Reader::default();
    let output = reader.output();
    let clock = SystemClock::new();
    let runtime = runtime();
    let mut quickest = Duration::MAX;
    for round in 1..=10 {
        output.line(Stream::Access, b"access\n");
        while written(&output, Stream::Access) < round {
            std::hint::spin_loop();
        }
        let begin = clock.elapsed();
        let delivered = output.deliver(Stream::Mail, b"mail\n".to_vec());
        runtime.block_on(delivered).unwrap();
        quickest = quickest.min(clock.elapsed().saturating_sub(begin));
    }
    assert!(quickest < Duration::from_millis(3), "{quickest:?}");
}

#[test]
fn the_end_does_not_wait_for_a_reader_that_stands_still() {
    let reader = Reader::default();
    let output = reader.output();
    let shut = reader.0.gate.lock().unwrap();
    output.line(Stream::Access, b"access\n");
    let clock = SystemClock::new();
    let begin = clock.elapsed();
    output.close();
    let took = clock.elapsed().saturating_sub(begin);
    assert!(CLOSE_WAIT <= took && took < CLOSE_WAIT * 5, "{took:?}");
    drop(shut);
}

#[test]
fn a_write_that_does_not_end_is_a_jam() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    clock.advance(Duration::from_mins(1));
    let reader = Reader::default();
    let output = reader.output_with(Arc::clone(&clock) as Arc<dyn Clock>);
    let shut = reader.0.gate.lock().unwrap();
    output.line(Stream::Access, b"access\n");
    reader.wait_until(|it| it.0.tries.load(Ordering::SeqCst) == 1);
    assert!(!is_jammed(&output), "it may take a moment");
    clock.advance(Duration::from_secs(2));
    assert!(is_jammed(&output));
    drop(shut);
    reader.wait_until(|_| !is_jammed(&output));
}

#[test]
fn a_required_trail_is_written_before_the_change_or_the_change_is_refused() {
    let begin = |output: &Arc<Output>| {
        let line = || b"begun\n".to_vec();
        runtime().block_on(output.begin(line))
    };
    let reader = Reader::default();
    let output = reader.output();
    reader.0.fails.store(true, Ordering::SeqCst);
    assert_eq!(begin(&output), Ok(()), "it is not required");
    assert_eq!(reader.0.tries.load(Ordering::SeqCst), 0);
    output.require_audit(true);
    assert_eq!(begin(&output), Err(Unrecorded), "the disk is full");
    reader.0.fails.store(false, Ordering::SeqCst);
    assert_eq!(begin(&output), Ok(()));
    assert_eq!(
        reader.text(),
        "begun\n",
        "on the output when the answer comes"
    );

    let shut = reader.0.gate.lock().unwrap();
    assert_eq!(begin(&output), Err(Unrecorded), "the reader stands still");
    drop(shut);
    output.close();
    let text = reader.text();
    // One may have been in progress when its caller was refused; it records no completed action.
    assert!(text == "begun\n" || text == "begun\nbegun\n", "{text}");
}

#[test]
fn a_required_trail_is_known_to_take_no_lines_until_it_works_again() {
    let reader = Reader::default();
    let output = reader.output();
    assert!(output.takes_lines());
    reader.0.fails.store(true, Ordering::SeqCst);
    output.line(Stream::AuditRefusals, b"refused\n");
    reader.wait_until(|_| is_jammed(&output));
    assert!(output.takes_lines(), "it is not required");
    output.require_audit(true);
    reader.wait_until(|_| !output.takes_lines());
    reader.0.fails.store(false, Ordering::SeqCst);
    // This needs no new line: the report of the loss is one.
    reader.wait_until(|_| output.takes_lines());
    output.close();
}

#[test]
fn what_was_done_is_written_however_long_a_required_trail_fails() {
    let reader = Reader::default();
    let output = reader.output();
    output.require_audit(true);
    reader.0.fails.store(true, Ordering::SeqCst);
    for number in 0..3 {
        output.line(Stream::Audit, format!("done {number}\n").into_bytes());
    }
    output.line(Stream::AuditRefusals, b"refused\n");
    reader.wait_until(|_| lost(&output, Stream::AuditRefusals) == 1);
    let tries = reader.0.tries.load(Ordering::SeqCst);
    reader.wait_until(|it| tries + 2 < it.0.tries.load(Ordering::SeqCst));
    assert_eq!(lost(&output, Stream::Audit), 0);
    reader.0.fails.store(false, Ordering::SeqCst);
    output.close();
    let text = reader.text();
    let done: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("done"))
        .collect();
    assert_eq!(done, ["done 0", "done 1", "done 2"], "{text}");
}

#[test]
fn refusals_take_no_room_of_what_was_done() {
    let reader = Reader::default();
    let output = reader.output();
    output.require_audit(true);
    let shut = reader.0.gate.lock().unwrap();
    for _ in 0..20_000 {
        output.line(Stream::AuditRefusals, b"refused\n");
    }
    drop(shut);
    let line = || b"begun\n".to_vec();
    assert_eq!(runtime().block_on(output.begin(line)), Ok(()));
}

#[test]
fn a_required_trail_keeps_room_for_outcomes_in_lines_as_in_bytes() {
    let reader = Reader::default();
    let output = reader.output();
    output.require_audit(true);
    let shut = reader.0.gate.lock().unwrap();
    // A typical length: all of them together take less than half of the bytes.
    let line = format!("{}\n", "x".repeat(171));
    for _ in 0..8192 {
        output.line(Stream::Audit, line.clone().into_bytes());
    }
    let is_half_free = output.queue(Stream::Audit).unwrap().is_half_free();
    drop(shut);
    assert!(!is_half_free);
    reader.wait_until(|_| output.takes_lines());
}

#[test]
fn a_mail_that_is_not_taken_is_the_business_of_its_sender() {
    let reader = Reader::default();
    let output = reader.output();
    let shut = reader.0.gate.lock().unwrap();
    output.line(Stream::Access, b"access\n");
    reader.wait_until(|it| it.0.tries.load(Ordering::SeqCst) == 1);
    let delivered = runtime().block_on(output.deliver(Stream::Mail, b"mail\n".to_vec()));
    assert_eq!(delivered.unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(shut);
    output.close();
    assert_eq!(reader.text(), "access\n", "its sender tries it again");
    assert_eq!(lost(&output, Stream::Mail), 0);
}
