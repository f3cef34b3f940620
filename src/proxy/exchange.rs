//! One request and its response over HTTP/2, watched from outside: a caller that is too slow loses its stream.
//!
//! Over HTTP/1 the caller's stream itself sees what is waited for. The streams of an HTTP/2 connection are inside
//! Pingora, which waits for their bodies without a timeout.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pingora::protocols::SocketDigest;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::model::clock::Clock;
use crate::proxy::open_ended::OpenEnded;

/// Maximum time of waiting for a caller. Bytes that it transfers earn time back, up to this maximum.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Minimum transfer rate of a caller while it is waited for (security: slow bodies, slow readers).
const BYTES_PER_S: u64 = 1024;
/// Interval between two checks.
const TICK: Duration = Duration::from_secs(1);

/// Returns the time allowed for this many bytes.
#[must_use]
pub const fn time_for(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_S)
}

/// The event that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// None from the caller: no body is read yet, or it has ended.
    Nothing,
    /// The body.
    Body,
    /// The body, while the response is sent: both may take their time.
    BothWays,
    /// The rest of a body after its response.
    Rest,
}

/// One exchange over HTTP/2.
#[derive(Debug, Default)]
pub struct Exchange {
    phase: AtomicU8,
    body_bytes: AtomicU64,
    open_ended: OpenEnded,
    is_cut: AtomicBool,
    /// The upstream connection.
    upstream: Mutex<Option<Arc<SocketDigest>>>,
}

/// The end of streams during a drain.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// Becomes `true` when streams end.
    pub ends: watch::Receiver<bool>,
    /// The clock that determines the age of streams.
    pub clock: Arc<dyn Clock>,
}

tokio::task_local! {
    static CURRENT: Arc<Exchange>;
}

impl Exchange {
    /// Returns the exchange that the current task serves, if it is watched.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs the work of an exchange. `None`: it was ended because the caller was too slow, or as a stream during a
    /// drain.
    pub async fn watch<F: Future>(work: F, end: StreamEnd) -> Option<F::Output> {
        let exchange = Arc::new(Self::default());
        let served = CURRENT.scope(Arc::clone(&exchange), work);
        tokio::select! {
            biased;
            output = served => Some(output),
            () = exchange.stalled() => None,
            () = exchange.drained(end) => None,
        }
    }

    /// Completes when a drain ends this exchange as a stream.
    async fn drained(&self, mut end: StreamEnd) {
        if end.ends.wait_for(|ends| *ends).await.is_err() {
            // No drain can happen any more.
            std::future::pending::<()>().await;
        }
        while !self.open_ended.is_stream(end.clock.elapsed()) {
            sleep(TICK).await;
        }
        self.is_cut.store(true, Ordering::Release);
    }

    /// Whether a drain has ended it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Notes an upstream connection to which a body will be sent; `None`: it no longer exists.
    pub fn sends_to(&self, upstream: Option<Arc<SocketDigest>>) {
        let phase = upstream.as_ref().map_or(Phase::Nothing, |_| Phase::Body);
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Notes a piece of the body.
    pub fn body_came(&self, bytes: u64, is_end: bool) {
        self.body_bytes.fetch_add(bytes, Ordering::AcqRel);
        if is_end {
            self.phase.store(Phase::Nothing as u8, Ordering::Release);
        }
    }

    /// Notes that the head of the response was sent. `stream_from`: as in [`OpenEnded::note`].
    pub fn begin_answer(&self, stream_from: Option<Duration>) {
        self.open_ended.note(stream_from);
        self.move_on(Phase::Body, Phase::BothWays);
    }

    /// Notes that the whole response was sent.
    pub fn end_answer(&self) {
        self.move_on(Phase::Body, Phase::Rest);
        self.move_on(Phase::BothWays, Phase::Rest);
    }

    fn move_on(&self, from: Phase, to: Phase) {
        // Fails if the exchange has left `from` already, which is just as well.
        let _ =
            self.phase
                .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Completes when the caller has exceeded its time.
    async fn stalled(&self) {
        let (mut left, mut seen) = (PATIENCE, 0);
        while !left.is_zero() {
            sleep(TICK).await;
            let bytes = self.body_bytes.load(Ordering::Acquire);
            let earned = time_for(bytes - seen);
            seen = bytes;
            let phase = self.phase.load(Ordering::Acquire);
            if phase == Phase::Rest as u8 {
                left = left.saturating_sub(TICK);
            } else if phase == Phase::Body as u8 && !self.is_upstream_busy() {
                left = PATIENCE.min(left + earned).saturating_sub(TICK);
            }
        }
    }

    /// Whether the upstream has not yet received everything sent to it: then the gateway is not waiting for the caller.
    fn is_upstream_busy(&self) -> bool {
        let upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        let info = upstream.as_ref().and_then(|socket| socket.tcp_info());
        info.is_some_and(|info| info.tcpi_unacked != 0 || info.tcpi_notsent_bytes != 0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::model::clock::{ManualClock, Timestamp};

    fn digest() -> Arc<SocketDigest> {
        // Not a socket: never busy.
        Arc::new(SocketDigest::from_raw_fd(-1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_keeps_pace_until_its_answer_begins() {
        let cases: [(u64, bool); 3] = [(0, true), (512, true), (1024, false)];
        for (bytes_per_s, ends) in cases {
            let exchange = Exchange::default();
            exchange.sends_to(Some(digest()));
            let sends = async {
                loop {
                    exchange.body_came(bytes_per_s, false);
                    sleep(TICK).await;
                }
            };
            let start = Instant::now();
            let ended = timeout(Duration::from_mins(10), async {
                tokio::select! { () = exchange.stalled() => {}, () = sends => {} }
            });
            assert_eq!(ended.await.is_ok(), ends, "{bytes_per_s}");
            assert!(PATIENCE <= start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_both_ways_may_rest_and_what_is_answered_ends() {
        let exchange = Exchange::default();
        exchange.sends_to(Some(digest()));
        exchange.begin_answer(None);
        let long = Duration::from_hours(1);
        assert!(timeout(long, exchange.stalled()).await.is_err());
        exchange.end_answer();
        // Sending more does not help.
        exchange.body_came(1 << 30, false);
        assert!(timeout(PATIENCE * 2, exchange.stalled()).await.is_ok());
        exchange.body_came(0, true);
        exchange.end_answer();
        assert!(timeout(long, exchange.stalled()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_watched_finds_its_exchange() {
        assert!(Exchange::current().is_none());
        let (_sender, end) = end();
        let found = Exchange::watch(async { Exchange::current().is_some() }, end.clone());
        assert_eq!(found.await, Some(true));
        let work = async {
            Exchange::current().unwrap().sends_to(Some(digest()));
            std::future::pending::<()>().await;
        };
        assert_eq!(Exchange::watch(work, end).await, None);
    }

    fn end() -> (watch::Sender<bool>, StreamEnd) {
        let (sender, ends) = watch::channel(false);
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1)));
        (sender, StreamEnd { ends, clock })
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_streams_and_nothing_else() {
        for (stream_from, ends) in [(Some(Duration::ZERO), true), (None, false)] {
            let (sender, end) = end();
            let work = async {
                Exchange::current().unwrap().begin_answer(stream_from);
                std::future::pending::<()>().await;
            };
            let mut watched = Box::pin(Exchange::watch(work, end));
            let minute = Duration::from_mins(1);
            assert!(timeout(minute, &mut watched).await.is_err());
            sender.send_replace(true);
            let ended = timeout(minute, &mut watched).await;
            assert_eq!(ended.is_ok(), ends, "{stream_from:?}");
        }
    }
}
