//! Reads and assembles an export on a separate thread, with files in the scratch directory and bounded memory.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use zeroize::Zeroizing;

use crate::account::import::join::{AssembledPerson, PersonAssembler};
use crate::account::import::lines;
use crate::account::import::refused::Refusals;
use crate::account::import::rules::Rules;
use crate::account::import::scratch::ScratchDirectory;
use crate::account::import::sort::Sorter;

/// Maximum length of a line in bytes: far above any record of apicrud, and little memory.
const LINE_BYTES_MAX: usize = 256 * 1024;
const EXPORT_BUFFER_BYTES: usize = 64 * 1024;
/// Maximum number of people, and of their records, in one slice: some milliseconds of the store's time.
const SLICE_PEOPLE: usize = 64;
const SLICE_RECORDS: usize = 400;
/// Maximum number of slices waiting for the store.
const SLICES: usize = 2;

/// An event from the thread. Events arrive in this order.
pub(super) enum PreparationEvent {
    /// The refused lines.
    Refused(Refusals),
    /// People in the order of the lines of their accounts; an empty list marks the end.
    People(Vec<AssembledPerson>),
}

/// Starts the thread. It ends early once the receiver is dropped.
pub(super) fn start(
    export: impl Read + Send + 'static,
    rules: Rules,
    scratch: &Arc<ScratchDirectory>,
) -> io::Result<Receiver<io::Result<PreparationEvent>>> {
    let (sender, receiver) = channel(SLICES);
    let scratch = Arc::clone(scratch);
    let thread = thread::Builder::new().name("import".to_owned());
    thread.spawn(move || {
        if let Err(error) = run(export, &rules, &scratch, &sender) {
            // A dropped receiver needs no reason.
            drop(sender.blocking_send(Err(error)));
        }
    })?;
    Ok(receiver)
}

fn run(
    export: impl Read,
    rules: &Rules,
    scratch: &Arc<ScratchDirectory>,
    sender: &Sender<io::Result<PreparationEvent>>,
) -> io::Result<()> {
    let mut refusals = Refusals::default();
    let mut lines = Sorter::new(scratch);
    read(
        BufReader::with_capacity(EXPORT_BUFFER_BYTES, export),
        &mut lines,
        &mut refusals,
    )?;
    let mut people = Sorter::new(scratch);
    join(lines, rules, &mut refusals, &mut people)?;
    let send = |prepared| sender.blocking_send(Ok(prepared)).is_ok();
    if !send(PreparationEvent::Refused(refusals)) {
        return Ok(());
    }
    let mut people = people.sorted()?;
    let (mut slice, mut records) = (Vec::new(), 0);
    while let Some((_, value)) = people.next()? {
        let value = Zeroizing::new(value);
        let joined: AssembledPerson = serde_json::from_slice(&value)?;
        records += 6 + joined.keys.len() + joined.memberships.len();
        slice.push(joined);
        if SLICE_PEOPLE <= slice.len() || SLICE_RECORDS <= records {
            records = 0;
            if !send(PreparationEvent::People(std::mem::take(&mut slice))) {
                return Ok(());
            }
        }
    }
    let is_over = slice.is_empty();
    let _ = send(PreparationEvent::People(slice))
        && (is_over || send(PreparationEvent::People(Vec::new())));
    Ok(())
}

/// Reads all lines and sorts the well-formed ones by uid, then kind, then line number.
fn read(mut export: impl BufRead, lines: &mut Sorter, refusals: &mut Refusals) -> io::Result<()> {
    let mut text = Zeroizing::new(Vec::new());
    let mut key = Vec::new();
    for number in 1.. {
        text.clear();
        let Some(is_whole) = read_line(&mut export, &mut text)? else {
            break;
        };
        if !is_whole {
            refusals.add(number, "the line is longer than 256 KiB");
            continue;
        }
        let line = text.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match lines::read(line) {
            Ok(record) => {
                let uid = record.uid().as_bytes();
                key.clear();
                // The length prefix keeps a uid apart from longer ones that begin with it.
                key.extend_from_slice(&uid.len().to_be_bytes());
                key.extend_from_slice(uid);
                key.push(record.order());
                key.extend_from_slice(&number.to_be_bytes());
                lines.push(&key, line)?;
            }
            Err(reason) => refusals.add(number, reason),
        }
    }
    Ok(())
}

/// Reads one line with its end. Returns `true` if it is complete, `false` if it was too long and was skipped, and
/// `None` at the end.
fn read_line(export: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let limit = LINE_BYTES_MAX as u64 + 1;
    if export.by_ref().take(limit).read_until(b'\n', text)? == 0 {
        return Ok(None);
    }
    if text.len() <= LINE_BYTES_MAX || text.ends_with(b"\n") {
        return Ok(Some(true));
    }
    export.skip_until(b'\n')?;
    Ok(Some(false))
}

fn join(
    lines: Sorter,
    rules: &Rules,
    refusals: &mut Refusals,
    people: &mut Sorter,
) -> io::Result<()> {
    let mut lines = lines.sorted()?;
    let mut joiner = PersonAssembler::new(rules, refusals, people);
    while let Some((key, text)) = lines.next()? {
        let text = Zeroizing::new(text);
        let number = key.last_chunk().copied().map_or(0, usize::from_be_bytes);
        let record = lines::read(&text).map_err(io::Error::other)?;
        joiner.take(number, record)?;
    }
    joiner.end()
}
