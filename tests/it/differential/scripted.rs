//! An upstream that answers with given bytes and records every byte that it receives.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::differential::script::{Round, Step};
use crate::differential::wire::{RequestFraming, end_of_body, end_of_head, request_framing};

/// Marks the requests that are sent after a case, in their path.
pub(super) const PROBE: &str = "probe-";

/// One connection of the proxy to the upstream.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionLog {
    /// Everything that was received.
    pub(super) bytes: Vec<u8>,
    /// Whether the proxy has ended it.
    pub(super) is_ended: bool,
    /// Whether the script ended it.
    pub(super) is_ended_here: bool,
    /// Where the requests of the case begin in `bytes`, without probes.
    pub(super) requests: Vec<usize>,
    /// The number of probes.
    pub(super) probes: usize,
}

/// The script of one address, and what arrived there.
#[derive(Debug, Default)]
pub(super) struct Slot {
    rounds: Vec<Round>,
    /// The number of requests so far, without probes.
    pub(super) requests: Mutex<usize>,
    /// The number of answers whose script has ended.
    pub(super) answered: AtomicUsize,
    pub(super) connections: Mutex<Vec<ConnectionLog>>,
}

/// The upstreams of all cases: one port on many addresses of the loopback network.
#[derive(Debug)]
pub(super) struct ScriptedUpstream {
    pub(super) port: u16,
    slots: Arc<Mutex<HashMap<IpAddr, Arc<Slot>>>>,
}

impl ScriptedUpstream {
    /// Starts accepting connections on the current runtime.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let slots: Arc<Mutex<HashMap<IpAddr, Arc<Slot>>>> = Arc::default();
        let known = Arc::clone(&slots);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                let address = stream.local_addr().unwrap().ip();
                let slot = known.lock().unwrap().get(&address).cloned();
                if let Some(slot) = slot {
                    tokio::spawn(Peer::new(stream, slot).serve());
                }
            }
        });
        Self { port, slots }
    }

    /// Sets the script of an address.
    pub(super) fn script(&self, address: IpAddr, rounds: Vec<Round>) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            rounds,
            ..Slot::default()
        });
        let mut slots = self.slots.lock().unwrap();
        slots.insert(address, Arc::clone(&slot));
        slot
    }
}

/// How a script ends its connection.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Fin,
    Reset,
}

/// One connection as the upstream sees it.
struct Peer {
    stream: TcpStream,
    slot: Arc<Slot>,
    index: usize,
    /// What was received; the log has a copy.
    bytes: Vec<u8>,
    /// The end of the requests that have been processed.
    place: usize,
    is_ended: bool,
}

impl Peer {
    fn new(stream: TcpStream, slot: Arc<Slot>) -> Self {
        let _ = stream.set_nodelay(true);
        let index = {
            let mut all = slot.connections.lock().unwrap();
            all.push(ConnectionLog::default());
            all.len() - 1
        };
        Self {
            stream,
            slot,
            index,
            bytes: Vec::new(),
            place: 0,
            is_ended: false,
        }
    }

    async fn serve(mut self) {
        while let Some(head) = self.head().await {
            let (framing, begin) = (request_framing(&head), self.place);
            self.place += head.len();
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
            let line = String::from_utf8_lossy(line).into_owned();
            if let Some((_, rest)) = line.split_once(PROBE) {
                let id = rest.split(' ').next().unwrap_or_default();
                self.log(|log| log.probes += 1);
                self.body(framing).await;
                let length = id.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{id}"
                );
                let _ = self.stream.write_all(answer.as_bytes()).await;
                break;
            }
            self.log(|log| log.requests.push(begin));
            let ending = self.answer(framing).await;
            self.slot.answered.fetch_add(1, Ordering::AcqRel);
            match ending {
                None => {}
                Some(Ending::Reset) => return,
                Some(Ending::Fin) => break,
            }
        }
        let _ = self.stream.shutdown().await;
        while self.fill().await {}
    }

    /// Runs the script of the next request. Returns how it ended the connection.
    async fn answer(&mut self, framing: RequestFraming) -> Option<Ending> {
        let index = {
            let mut count = self.slot.requests.lock().unwrap();
            *count += 1;
            *count - 1
        };
        let Some(round) = self.slot.rounds.get(index).cloned() else {
            self.body(framing).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain";
            let _ = self.stream.write_all(answer).await;
            return None;
        };
        let mut is_body_read = !round.is_early;
        if is_body_read {
            self.body(framing).await;
        }
        for step in &round.answer {
            match step {
                Step::Write(bytes) => drop(self.stream.write_all(bytes).await),
                Step::Pause(0) => tokio::task::yield_now().await,
                Step::Pause(ms) => {
                    let reads = async {
                        while self.fill().await {}
                        std::future::pending::<()>().await;
                    };
                    let _ = timeout(Duration::from_millis(*ms), reads).await;
                }
                Step::Read(count) => {
                    let end = self.place + count;
                    while self.bytes.len() < end && self.fill().await {}
                    self.place = end.min(self.bytes.len());
                }
                Step::AwaitBody => {
                    self.body(framing).await;
                    is_body_read = true;
                }
                Step::Await(_) => {}
                Step::Fin => {
                    self.log(|log| log.is_ended_here = true);
                    return Some(Ending::Fin);
                }
                Step::Reset => {
                    self.log(|log| log.is_ended_here = true);
                    // Dropping the socket then resets the connection.
                    let _ = self.stream.set_zero_linger();
                    return Some(Ending::Reset);
                }
            }
        }
        if !is_body_read {
            self.body(framing).await;
        }
        None
    }

    /// Returns the next head with its empty line; `None` if the connection ends before.
    async fn head(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = self.bytes.get(self.place..)?;
            if let Some(end) = end_of_head(rest) {
                return Some(rest[..end].to_vec());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads to the end of the request's body, or of the connection.
    async fn body(&mut self, framing: RequestFraming) {
        loop {
            if let Some(end) = end_of_body(&self.bytes[self.place..], framing) {
                self.place += end;
                return;
            }
            if !self.fill().await {
                return;
            }
        }
    }

    /// Reads once; `false` at the end of the connection.
    async fn fill(&mut self) -> bool {
        if self.is_ended {
            return false;
        }
        let mut piece = vec![0; 16 * 1024];
        let count = self.stream.read(&mut piece).await.unwrap_or(0);
        self.is_ended = count == 0;
        self.bytes.extend_from_slice(&piece[..count]);
        self.log(|log| {
            log.bytes.extend_from_slice(&piece[..count]);
            log.is_ended = count == 0;
        });
        count != 0
    }

    fn log(&self, change: impl FnOnce(&mut ConnectionLog)) {
        change(&mut self.slot.connections.lock().unwrap()[self.index]);
    }
}
