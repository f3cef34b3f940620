//! The limit of the hashing pool's queue, in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::clock::{Clock, SystemClock};

/// Assumed duration of one hash before the first is measured.
const HASH_US_FIRST: u64 = 20_000;
/// Minimum assumed time of one hash, which limits the number of queued jobs.
const HASH_US_MIN: u64 = 1_000;
/// The part of the difference by which each measured hash moves the estimate.
const WEIGHT: u64 = 8;

/// The number of hashes that are queued or in progress, and the time of one.
#[derive(Debug)]
pub(super) struct QueueLoad {
    threads: u64,
    wait_max_us: u64,
    hashes: AtomicU64,
    /// Moving average of the time of one hash, which grows under load.
    hash_us: AtomicU64,
    clock: SystemClock,
}

/// A place in the queue, which is released when it is dropped.
#[derive(Debug)]
pub(super) struct QueuePlace {
    load: Arc<QueueLoad>,
    hashes: u64,
}

impl QueueLoad {
    pub(super) fn new(threads: usize, wait_max: Duration) -> Self {
        Self {
            threads: u64::try_from(threads).unwrap_or(u64::MAX),
            wait_max_us: micros(wait_max),
            hashes: AtomicU64::new(0),
            hash_us: AtomicU64::new(HASH_US_FIRST),
            clock: SystemClock::new(),
        }
    }

    /// Reserves a place for a job of this many hashes; `None`: the jobs before it take too long. An idle thread accepts any job.
    pub(super) fn enter(self: &Arc<Self>, hashes: u64) -> Option<QueuePlace> {
        let ahead = self.hashes.fetch_add(hashes, Ordering::Relaxed);
        // Dropping it releases the hashes if there is no room.
        let place = QueuePlace {
            load: Arc::clone(self),
            hashes,
        };
        let wait_us = ahead.saturating_mul(self.hash_us.load(Ordering::Relaxed)) / self.threads;
        (ahead < self.threads || wait_us <= self.wait_max_us).then_some(place)
    }

    fn measured(&self, took: Duration, hashes: u64) {
        let took = (micros(took) / hashes.max(1)).max(HASH_US_MIN);
        let before = self.hash_us.load(Ordering::Relaxed);
        let after = (before * (WEIGHT - 1)).saturating_add(took) / WEIGHT;
        // Of two concurrent measurements one is lost, which does not matter.
        self.hash_us
            .store(after.max(HASH_US_MIN), Ordering::Relaxed);
    }
}

impl QueuePlace {
    /// Runs the job of this place, and measures its time.
    pub(super) fn measure<T>(self, job: impl FnOnce() -> T) -> T {
        let started = self.load.clock.elapsed();
        let result = job();
        let took = self.load.clock.elapsed().saturating_sub(started);
        self.load.measured(took, self.hashes);
        result
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.load.hashes.fetch_sub(self.hashes, Ordering::Relaxed);
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(threads: usize, wait_ms: u64) -> Arc<QueueLoad> {
        Arc::new(QueueLoad::new(threads, Duration::from_millis(wait_ms)))
    }

    /// Returns how many jobs of this many hashes get a place at once.
    fn places(load: &Arc<QueueLoad>, hashes: u64) -> usize {
        let places: Vec<_> = std::iter::from_fn(|| load.enter(hashes)).collect();
        places.len()
    }

    #[test]
    fn a_queue_is_as_long_as_its_time() {
        // At 20 ms per hash.
        for (threads, wait_ms, hashes, expected) in [
            (1, 2000, 1, 101),
            (2, 2000, 1, 201),
            (1, 2000, 2, 51),
            (4, 0, 1, 4),
            (1, 0, 2, 1),
        ] {
            let load = load(threads, wait_ms);
            for _ in 0..2 {
                assert_eq!(
                    places(&load, hashes),
                    expected,
                    "{threads} {wait_ms} {hashes}"
                );
                assert_eq!(load.hashes.load(Ordering::Relaxed), 0, "all are given up");
            }
        }
    }

    #[test]
    fn it_is_shorter_where_hashes_take_longer_and_never_endless() {
        let load = load(1, 2000);
        for _ in 0..100 {
            load.measured(Duration::from_millis(200), 1);
        }
        assert!((10..=12).contains(&places(&load, 1)));
        for _ in 0..100 {
            load.measured(Duration::from_nanos(1), 2);
        }
        assert!(places(&load, 1) <= 2001);
    }
}
