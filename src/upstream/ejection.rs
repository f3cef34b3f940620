//! Ejection: addresses of upstreams that could not be connected to are skipped for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::telemetry::upstream::UpstreamMetrics;

/// How long an address is skipped after its first failed connect; each further failure doubles it.
const EJECTED_FOR_MIN: Duration = Duration::from_secs(10);
/// Maximum time an address is skipped.
const EJECTED_FOR_MAX: Duration = Duration::from_mins(5);

#[derive(Debug)]
struct Ejected {
    upstream: String,
    span: Duration,
    /// When the address is retried, in milliseconds of the monotonic clock.
    until_ms: AtomicU64,
    /// Whether the retry has begun.
    is_tried: AtomicBool,
}

impl Ejected {
    /// Whether this request is the one that retries the address. Only one does, because each may wait for as long as a
    /// connect takes to fail.
    fn is_due(&self, now: Duration) -> bool {
        let retry = |until_ms| (until_ms <= millis(now)).then(|| millis(now + self.span));
        let is_due = self
            .until_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, retry)
            .is_ok();
        if is_due {
            self.is_tried.store(true, Ordering::Relaxed);
        }
        is_due
    }

    /// Whether no retry was due since the address failed. The only address of an upstream is tried by every request, due
    /// or not.
    fn is_fresh(&self, now: Duration) -> bool {
        !self.is_tried.load(Ordering::Relaxed)
            && millis(now) < self.until_ms.load(Ordering::Relaxed)
    }
}

/// The skipped addresses. Outlives reloads, since it concerns addresses and not a configuration.
///
/// While no address is skipped, a check costs one atomic read.
#[derive(Debug, Default)]
pub struct Ejections {
    addresses: ArcSwap<HashMap<SocketAddr, Arc<Ejected>>>,
    /// Held while the map is replaced.
    replacing: Mutex<()>,
    metrics: UpstreamMetrics,
}

impl Ejections {
    /// Creates an empty set, whose changes are shown in `metrics`.
    pub(super) fn new(metrics: UpstreamMetrics) -> Self {
        Self {
            metrics,
            ..Self::default()
        }
    }

    /// Whether an address may be used at `now`.
    #[must_use]
    pub fn is_usable(&self, address: SocketAddr, now: Duration) -> bool {
        let addresses = self.addresses.load();
        addresses.is_empty() || addresses.get(&address).is_none_or(|it| it.is_due(now))
    }

    /// Records a failed connect to an address of this upstream.
    pub fn failed(&self, upstream: &str, address: SocketAddr, now: Duration) {
        self.metrics.connect_errors.inc();
        let _replacing = self.lock();
        let known = self.addresses.load().get(&address).map(Arc::clone);
        let span = match &known {
            // One outage may fail many requests in flight: it counts once until the address is tried again.
            Some(ejected) if ejected.is_fresh(now) => return,
            Some(ejected) => (ejected.span * 2).min(EJECTED_FOR_MAX),
            None => EJECTED_FOR_MIN,
        };
        if known.is_none() {
            warn!(upstream.name = upstream, upstream.address = %address, retry_s = span.as_secs(), "cannot connect to an address of an upstream: it is skipped while others answer");
            self.metrics.ejected(upstream, address, true);
        }
        let ejected = Ejected {
            upstream: upstream.to_owned(),
            span,
            until_ms: AtomicU64::new(millis(now + span)),
            is_tried: AtomicBool::new(false),
        };
        self.replace(now, |addresses| {
            addresses.insert(address, Arc::new(ejected));
        });
    }

    /// Records a successful connect.
    pub fn connected(&self, address: SocketAddr, now: Duration) {
        if !self.addresses.load().contains_key(&address) {
            return;
        }
        let _replacing = self.lock();
        let Some(ejected) = self.addresses.load().get(&address).map(Arc::clone) else {
            return;
        };
        info!(upstream.name = ejected.upstream, upstream.address = %address, "an address of an upstream accepts connections again");
        self.metrics.ejected(&ejected.upstream, address, false);
        self.replace(now, |addresses| {
            addresses.remove(&address);
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        self.replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the map, and removes addresses that nothing has tried for long: a reload has dropped them.
    fn replace(&self, now: Duration, change: impl FnOnce(&mut HashMap<SocketAddr, Arc<Ejected>>)) {
        let mut addresses = HashMap::clone(&self.addresses.load());
        addresses.retain(|address, ejected| {
            let until_ms = ejected.until_ms.load(Ordering::Relaxed);
            let is_present = millis(now) < until_ms + millis(EJECTED_FOR_MAX);
            if !is_present {
                self.metrics.ejected(&ejected.upstream, *address, false);
            }
            is_present
        });
        change(&mut addresses);
        self.addresses.store(Arc::new(addresses));
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_tries_a_skipped_address_again_after_a_time_that_doubles() {
        let ejections = Ejections::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 9001));
        let mut now = Duration::from_secs(1000);
        assert!(ejections.is_usable(address, now));
        for wanted_s in [10, 20, 40, 80, 160, 300, 300] {
            // Five requests were in flight when it failed.
            for _ in 0..5 {
                ejections.failed("lists", address, now);
            }
            now += Duration::from_millis(wanted_s * 1000 - 1);
            assert!(!ejections.is_usable(address, now), "{wanted_s}");
            now += Duration::from_millis(1);
            assert!(ejections.is_usable(address, now), "{wanted_s}");
            assert!(!ejections.is_usable(address, now), "two at once");
        }
        ejections.connected(address, now);
        assert!(ejections.is_usable(address, now));
        // The only address of an upstream is tried without being due, and each span counts one failure.
        ejections.failed("lists", address, now);
        for wanted_s in [10, 20, 40] {
            now += Duration::from_secs(wanted_s);
            ejections.failed("lists", address, now);
            ejections.failed("lists", address, now);
            assert!(!ejections.is_usable(address, now), "{wanted_s}");
        }
        ejections.connected(address, now);
        // The next outage begins with the shortest time.
        ejections.failed("lists", address, now);
        assert!(ejections.is_usable(address, now + EJECTED_FOR_MIN));
    }
}
