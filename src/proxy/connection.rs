//! The state shared by the stream of one connection and the phases of its requests.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use http::HeaderValue;
use pingora::protocols::Digest;

use crate::model::deny::DenyReason;
use crate::proxy::open_ended::OpenEnded;

/// Maximum length of a refused request line kept for the record, in bytes.
const KEPT_BYTES_MAX: usize = 256;

/// The head that replaces a refused one, so that a refusal is handled like every request: with an id, a response in the
/// gateway's form and a record.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";
/// The same for a caller that expects no body.
const STAND_IN_HEAD: &[u8] =
    b"HEAD / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";

/// The progress of an HTTP/1 response.
const NOT_BEGUN: u8 = 0;
const BEGUN: u8 = 1;
const ENDED: u8 = 2;
/// Not begun, and the caller waits for `100 Continue` before it sends its body.
const EXPECTED: u8 = 3;

/// A state of the connection that is entered once, by the functions of [`Connection`], and never left.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the state was entered.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A head refused by the stream.
#[derive(Debug)]
pub struct RefusedHead {
    /// The reason.
    pub reason: DenyReason,
    /// Its method; empty if unknown.
    pub method: String,
    /// Its path, truncated if long; empty if unknown.
    pub target: String,
}

impl RefusedHead {
    /// Extracts the parts for the record from the first bytes of a refused head.
    ///
    /// Text that does not read as a request line is not kept: it may be the rest of a body with a wrong length, or a
    /// field in the wrong place, and so a password or a key. An authority is not kept either, since it may contain a
    /// password too.
    #[must_use]
    pub fn new(reason: DenyReason, head: &[u8]) -> Self {
        let line = head.trim_ascii_start();
        let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let kept = end.unwrap_or(line.len()).min(KEPT_BYTES_MAX);
        let line = String::from_utf8_lossy(line.get(..kept).unwrap_or_default());
        let (method, rest) = line.split_once(' ').unwrap_or((line.as_ref(), ""));
        let target = rest.split([' ', '?', '#']).next().unwrap_or_default();
        let target = if target.starts_with('/') { target } else { "" };
        let is_word = method.bytes().all(|byte| byte.is_ascii_uppercase());
        let has_method = !target.is_empty() || (is_word && !rest.is_empty());
        Self {
            reason,
            method: if has_method { method } else { "" }.to_owned(),
            target: target.to_owned(),
        }
    }

    /// Returns the head to pass on instead; [`Connection::refuse`] marks it as a substitute for the phases.
    #[must_use]
    pub fn stand_in(&self) -> &'static [u8] {
        if self.method == "HEAD" {
            STAND_IN_HEAD
        } else {
            STAND_IN
        }
    }
}

/// A downstream connection.
#[derive(Debug)]
pub struct Connection {
    /// The peer's address; an IPv4-mapped IPv6 address is converted to IPv4.
    pub peer: IpAddr,
    /// The peer's address as a field value.
    pub peer_value: HeaderValue,
    head_is_next: AtomicBool,
    /// All further bytes of the caller belong to another protocol.
    pub upgraded: Flag,
    /// Why the body of a request broke off, if the stream ended it.
    pub body_fault: OnceLock<DenyReason>,
    answer: AtomicU8,
    in_flight: AtomicU32,
    idle_since_ms: AtomicU64,
    /// [`Connection::close_when_idle`] was called.
    pub closing: Flag,
    /// The connection was closed because of too many control frames.
    pub flooding: Flag,
    /// This is HTTP/2.
    pub multiplexed: Flag,
    /// [`Connection::go_away`] was called.
    pub going_away: Flag,
    /// [`Connection::cut`] was called.
    pub cut_off: Flag,
    open_ended: OpenEnded,
    /// The number of requests in flight of its network, if they are counted together.
    pub network_requests: OnceLock<Arc<AtomicUsize>>,
    reader: Mutex<Option<Waker>>,
    /// Closing must wait for the caller to read the response.
    pub lingering: Flag,
    refused: Mutex<Option<RefusedHead>>,
}

impl Connection {
    /// Creates the state of a connection from this address, before its first request.
    #[must_use]
    pub fn new(peer: SocketAddr) -> Self {
        let peer = peer.ip().to_canonical();
        // An address is visible ASCII, so the fallback is never used.
        let peer_value = HeaderValue::try_from(peer.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self {
            peer,
            peer_value,
            head_is_next: AtomicBool::new(false),
            upgraded: Flag::default(),
            body_fault: OnceLock::new(),
            answer: AtomicU8::new(NOT_BEGUN),
            in_flight: AtomicU32::new(0),
            idle_since_ms: AtomicU64::new(0),
            closing: Flag::default(),
            flooding: Flag::default(),
            multiplexed: Flag::default(),
            going_away: Flag::default(),
            cut_off: Flag::default(),
            open_ended: OpenEnded::default(),
            network_requests: OnceLock::new(),
            reader: Mutex::new(None),
            lingering: Flag::default(),
            refused: Mutex::new(None),
        }
    }

    /// Returns the connection of a request, if its stream is the gateway's own.
    #[must_use]
    pub fn of(digest: Option<&Digest>) -> Option<&Arc<Self>> {
        let data = digest?.proxy_digest.as_ref()?.user_data.as_ref()?;
        data.downcast_ref()
    }

    /// Set by the phases: a request has ended, and the next byte begins a head.
    pub fn expect_head(&self) {
        self.head_is_next.store(true, Ordering::Release);
    }

    /// Read by the stream: whether a request has ended since the last call.
    #[must_use]
    pub fn take_head_is_next(&self) -> bool {
        // In the common case nothing is written.
        self.head_is_next.load(Ordering::Acquire) && self.head_is_next.swap(false, Ordering::AcqRel)
    }

    /// Set by the phases: the upstream has agreed to another protocol, to which all further bytes of the caller belong.
    pub fn upgrade(&self) {
        self.upgraded.set();
    }

    /// Set by the stream: the body ends here, because it violates its framing or arrives too slowly.
    pub fn end_body(&self, fault: DenyReason) {
        // A body ends once, and no other follows.
        let _ = self.body_fault.set(fault);
        self.linger();
    }

    /// Set by the phases: a request has begun. `expects`: its body follows once the upstream has asked for it.
    pub fn begin_request(&self, expects: bool) {
        let answer = if expects { EXPECTED } else { NOT_BEGUN };
        self.answer.store(answer, Ordering::Release);
        self.open_ended.note(None);
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// Set by the phases and the stream: the body was requested, or has begun without that.
    pub fn begin_body(&self) {
        // In the common case nothing is written.
        if self.answer.load(Ordering::Acquire) == EXPECTED {
            self.answer.store(NOT_BEGUN, Ordering::Release);
        }
    }

    /// Set by the phases: a request has ended, at this time of the monotonic clock.
    pub fn end_request(&self, now: Duration) {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.idle_since_ms.store(now_ms, Ordering::Relaxed);
        let count = |count: u32| Some(count.saturating_sub(1));
        // The closure returns a value for every number, so this never fails.
        let _ = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, count);
    }

    /// Returns since when no request is in flight, in milliseconds of the monotonic clock; `None` if one is.
    #[must_use]
    pub fn idle_since(&self) -> Option<u64> {
        let is_idle = self.in_flight.load(Ordering::Acquire) == 0;
        is_idle.then(|| self.idle_since_ms.load(Ordering::Relaxed))
    }

    /// Set by the phases: the head of an HTTP/1 response was sent. `stream_from`: as in [`OpenEnded::note`].
    pub fn begin_answer(&self, stream_from: Option<Duration>) {
        self.open_ended.note(stream_from);
        self.answer.store(BEGUN, Ordering::Release);
    }

    /// Set by the phases: the whole HTTP/1 response was sent.
    pub fn end_answer(&self) {
        self.answer.store(ENDED, Ordering::Release);
    }

    /// Read by the stream while it waits for a body: `false` while a response is streamed at the same time.
    #[must_use]
    pub fn is_body_awaited(&self) -> bool {
        matches!(self.answer.load(Ordering::Acquire), NOT_BEGUN | ENDED)
    }

    /// Read by the stream: whether the rest of a body is no longer needed.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.answer.load(Ordering::Acquire) == ENDED
    }

    /// Closes the connection as soon as no request is in flight.
    pub fn close_when_idle(&self) {
        self.closing.set();
        self.wake();
    }

    /// Set by the stream: this is HTTP/2, whose streams are watched individually.
    pub fn multiplex(&self) {
        self.multiplexed.set();
    }

    /// Announces the end of the connection: the next HTTP/1 response is its last, and a WebSocket is closed at the end
    /// of a frame.
    pub fn go_away(&self) {
        self.going_away.set();
        self.wake();
    }

    /// Whether the HTTP/1 response in progress counts as a stream at this time of the monotonic clock.
    #[must_use]
    pub fn is_streaming(&self, now: Duration) -> bool {
        self.upgraded.is_set() || self.open_ended.is_stream(now)
    }

    /// Ends the connection, even with requests in flight.
    pub fn cut(&self) {
        self.cut_off.set();
        self.wake();
    }

    fn wake(&self) {
        let reader = self.lock_reader().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Read by the stream on every read: whether to close now. If not, `waker` is woken when it should check again.
    #[must_use]
    pub fn closes_now(&self, waker: &Waker) -> bool {
        {
            let mut reader = self.lock_reader();
            match &mut *reader {
                Some(known) => known.clone_from(waker),
                None => *reader = Some(waker.clone()),
            }
        }
        self.closing.is_set() && self.idle_since().is_some()
    }

    /// Counts this connection's requests among those of its network.
    pub fn join_network(&self, requests: Arc<AtomicUsize>) {
        // A connection belongs to one network for its whole life.
        let _ = self.network_requests.set(requests);
    }

    /// Set by the stream: the caller sends too many control frames.
    pub fn note_flood(&self) {
        self.flooding.set();
    }

    fn lock_reader(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Set by the phases: the response is sent before the body was read, so closing must wait for the caller to read
    /// it.
    pub fn linger(&self) {
        self.lingering.set();
    }

    /// Set by the stream: the next request is a substitute for a refused head.
    pub fn refuse(&self, head: RefusedHead) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        self.linger();
    }

    /// Read by the phases at the start of a request.
    #[must_use]
    pub fn take_refused(&self) -> Option<RefusedHead> {
        // It is set, and lingering with it, before the request exists: only refused heads take the lock.
        if !self.lingering.is_set() {
            return None;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_head_is_kept_short_and_without_its_query() {
        let cases = [
            ("GET /x?secret=1 HTTP/1.1\r\n", "GET", "/x"),
            ("\r\nHEAD /a b HTTP/1.1\r\n", "HEAD", "/a"),
            ("get /a HTTP/1.1\r\n", "get", "/a"),
            ("CONNECT a:80 HTTP/1.1\r\n", "CONNECT", ""),
            ("GET http://anna:secret@a/x HTTP/1.1\r\n", "GET", ""),
            ("SSH-2.0-x\r\n", "", ""),
            ("X-Api-Key: dwk_abcdefgh.secret\r\n", "", ""),
            (r#"word": "secret", "a": "/b"}"#, "", ""),
            ("username=anna&password=secret", "", ""),
            ("SECRET", "", ""),
            ("", "", ""),
        ];
        for (head, method, target) in cases {
            let kept = RefusedHead::new(DenyReason::RequestMalformed, head.as_bytes());
            assert_eq!(
                (kept.method.as_str(), kept.target.as_str()),
                (method, target)
            );
        }
        let long = format!("GET /{}", "x".repeat(10_000));
        let kept = RefusedHead::new(DenyReason::TargetTooLong, long.as_bytes());
        assert_eq!(kept.target.len(), KEPT_BYTES_MAX - 4);
    }

    #[test]
    fn signals_are_taken_once() {
        let connection = Connection::new(SocketAddr::from(([127, 0, 0, 1], 80)));
        assert!(!connection.take_head_is_next());
        connection.expect_head();
        assert!(connection.take_head_is_next());
        assert!(!connection.take_head_is_next());
        assert!(connection.take_refused().is_none());
        connection.refuse(RefusedHead::new(DenyReason::RequestMalformed, b"x"));
        assert!(connection.take_refused().is_some());
        assert!(connection.take_refused().is_none());
    }

    #[test]
    fn an_ipv4_peer_reads_as_ipv4() {
        let connection = Connection::new("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(connection.peer_value, "10.0.0.1");
    }
}
