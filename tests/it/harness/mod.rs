//! The harness of the tests: the real binary, a recording upstream and raw sockets, without any of the gateway's own
//! code.

pub(crate) mod browser;
pub(crate) mod cli;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod issuer;
pub(crate) mod mailbox;
pub(crate) mod people;
pub(crate) mod request;
pub(crate) mod routes;
pub(crate) mod smtp;
pub(crate) mod tokens;
pub(crate) mod tools;
pub(crate) mod upstream;

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Maximum wait for an expected event: far more than a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// Pause between two checks.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// Returns the current time, for all tests.
#[expect(
    clippy::disallowed_methods,
    reason = "tests measure how long the real binary takes"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the seconds since 1970, for claims.
#[expect(
    clippy::disallowed_methods,
    reason = "the real binary judges claims by the real time"
)]
pub(crate) fn epoch_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Polls until there is a result; fails the test if none comes in time.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited without a result for {what}"
        );
        std::thread::sleep(LOOK);
    }
}

/// Far longer than any answer takes.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Runs a future to its end, on this thread, and within [`SOON`].
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(SOON, work)
            .await
            .expect("it took too long")
    })
}

/// Returns an unused port: below the system's range for outgoing connections, and never the same twice in one process.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 200).unwrap() * 100;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs the same function on several threads at once and returns all results.
pub(crate) fn at_once<T: Send>(count: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let gate = std::sync::Barrier::new(count);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..count)
            .map(|index| {
                let (gate, run) = (&gate, &run);
                scope.spawn(move || {
                    gate.wait();
                    run(index)
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .collect()
    })
}
