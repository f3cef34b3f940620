//! An upstream that records the requests that reach it, byte by byte, and answers as the test specifies.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::http::{all_of, parse_head, read_chunk, read_head};

/// The identity headers.
pub(crate) const IDENTITY: [&str; 7] = [
    "X-Auth-Uid",
    "X-Auth-Username",
    "X-Auth-Roles",
    "X-Auth-Scopes",
    "X-Auth-Method",
    "X-Auth-Key-Id",
    "X-Auth-Assertion",
];

/// The answer of an upstream that agrees to a WebSocket.
pub(crate) const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A request as received.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: Vec<u8>,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// Returns the only field of that name; fails if it came twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = all_of(&self.headers, name);
        assert!(
            all.len() < 2,
            "{name} came {} times: {}",
            all.len(),
            self.text()
        );
        all.first().copied()
    }

    /// Returns the names and values of all fields as one text to search.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }
}

/// A request that is being answered.
pub(crate) struct Exchange {
    pub(crate) seen: Seen,
    stream: BufReader<TcpStream>,
    framing: Framing,
    log: Arc<Log>,
    index: usize,
    /// Whether to close the connection after the answer.
    pub(crate) close: bool,
}

#[derive(Clone, Copy)]
enum Framing {
    None,
    Length(usize),
    Chunked,
}

impl Exchange {
    /// Returns the next piece of the body as it arrives; `None` at its end.
    pub(crate) fn piece(&mut self) -> Option<Vec<u8>> {
        let piece = match self.framing {
            Framing::None | Framing::Length(0) => None,
            Framing::Length(left) => {
                let mut piece = vec![0; left.min(64 * 1024)];
                let count = self.stream.read(&mut piece).unwrap_or(0);
                piece.truncate(count);
                self.framing = if count == 0 {
                    Framing::None
                } else {
                    Framing::Length(left - count)
                };
                (count != 0).then_some(piece)
            }
            Framing::Chunked => read_chunk(&mut self.stream).filter(|chunk| !chunk.is_empty()),
        };
        if let Some(piece) = &piece {
            self.log.seen.lock().unwrap()[self.index]
                .body
                .extend_from_slice(piece);
        } else {
            self.framing = Framing::None;
        }
        piece
    }

    /// Returns the whole body.
    pub(crate) fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece() {
            body.extend(piece);
        }
        body
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Whether all of this could be written.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Reads bytes after an upgrade.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Writes a plain answer.
    pub(crate) fn answer(&mut self, body: &str) {
        let length = body.len();
        let body = if self.seen.method == "HEAD" { "" } else { body };
        self.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
    }
}

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    violations: Mutex<Vec<String>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
    is_over: AtomicBool,
}

type Serve = dyn Fn(&mut Exchange) + Send + Sync;

/// A recording upstream. Dropping it fails the test if the gateway ever sent it anything that HTTP does not allow.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
}

impl Upstream {
    /// Answers everything with 200 and `hello`.
    pub(crate) fn start() -> Self {
        Self::saying("hello")
    }

    /// Answers everything with 200 and this text.
    pub(crate) fn saying(body: &'static str) -> Self {
        Self::serving(move |exchange| {
            exchange.body();
            exchange.answer(body);
        })
    }

    /// Answers every request with these bytes, and then closes.
    pub(crate) fn answering(raw: impl Into<Vec<u8>>) -> Self {
        let raw = raw.into();
        Self::serving(move |exchange| {
            exchange.body();
            exchange.write(&raw);
            exchange.close = true;
        })
    }

    /// Answers as the test specifies.
    pub(crate) fn serving(serve: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let serve: Arc<Serve> = Arc::new(serve);
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (log, serve) = (Arc::clone(&shared), Arc::clone(&serve));
                std::thread::spawn(move || connection(stream, &log, serve.as_ref()));
            }
        });
        Self { address, log }
    }

    /// Returns all requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    /// Returns the number of requests so far.
    pub(crate) fn count(&self) -> usize {
        self.log.seen.lock().unwrap().len()
    }

    /// Returns the latest request.
    #[track_caller]
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("nothing has reached the upstream")
    }

    /// Returns the number of connections that the gateway has opened.
    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::Acquire)
    }

    /// Returns the number of connections closed after an answer.
    pub(crate) fn closed(&self) -> usize {
        self.log.closed.load(Ordering::Acquire)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.log.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        let violations = self.log.violations.lock().unwrap();
        if !std::thread::panicking() {
            assert!(
                violations.is_empty(),
                "the gateway sent what HTTP does not allow: {violations:?}"
            );
        }
    }
}

fn connection(stream: TcpStream, log: &Arc<Log>, serve: &Serve) {
    let _ = stream.set_nodelay(true);
    log.connections.fetch_add(1, Ordering::AcqRel);
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream) {
        let (seen, framing) = match read(&head) {
            Ok(read) => read,
            Err(violation) => {
                log.violations.lock().unwrap().push(violation);
                return;
            }
        };
        let index = {
            let mut all = log.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let mut exchange = Exchange {
            seen,
            stream,
            framing,
            log: Arc::clone(log),
            index,
            close: false,
        };
        serve(&mut exchange);
        while exchange.piece().is_some() {}
        if exchange.close {
            drop(exchange);
            log.closed.fetch_add(1, Ordering::AcqRel);
            return;
        }
        stream = exchange.stream;
    }
}

/// Parses a head, as strictly as HTTP allows a server to.
fn read(head: &[u8]) -> Result<(Seen, Framing), String> {
    let text = std::str::from_utf8(head)
        .map_err(|_| format!("not UTF-8: {:?}", String::from_utf8_lossy(head)))?;
    let fail = |what: &str| Err(format!("{what}: {text:?}"));
    let bare = text.replace("\r\n", "");
    if bare.contains(['\r', '\n', '\0']) {
        return fail("a bare CR, LF or NUL");
    }
    if text
        .lines()
        .skip(1)
        .any(|line| line.starts_with([' ', '\t']))
    {
        return fail("a folded line");
    }
    let (line, headers) = parse_head(head);
    let pieces: Vec<_> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = pieces.as_slice() else {
        return fail("no request line");
    };
    if headers
        .iter()
        .any(|(name, _)| name.is_empty() || name.contains([' ', '\t']))
    {
        return fail("a bad field name");
    }
    if all_of(&headers, "host").len() != 1 {
        return fail("not exactly one Host");
    }
    let framing = match (
        all_of(&headers, "content-length").as_slice(),
        all_of(&headers, "transfer-encoding").as_slice(),
    ) {
        ([], []) => Framing::None,
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => match length.parse() {
            Ok(length) => Framing::Length(length),
            Err(_) => return fail("a bad Content-Length"),
        },
        ([], ["chunked"]) => Framing::Chunked,
        _ => return fail("framed twice"),
    };
    let seen = Seen {
        head: head.to_vec(),
        method: (*method).to_owned(),
        target: (*target).to_owned(),
        headers,
        body: Vec::new(),
    };
    Ok((seen, framing))
}
