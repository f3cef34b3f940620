//! A lock-free histogram of durations; the one of the library locks for each observation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds in microseconds: from a cached refusal to a slow upstream.
const BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    2_500_000, 10_000_000,
];

#[derive(Debug, Default)]
struct Cells {
    /// One counter per bound.
    counts: [AtomicU64; BOUNDS_US.len()],
    /// The counter above all bounds.
    above: AtomicU64,
    /// The sum of all durations; enough for 580,000 years of consecutive requests.
    sum_us: AtomicU64,
}

/// A histogram of durations; clones share their counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram(Arc<Cells>);

impl Histogram {
    /// Counts one duration.
    pub(super) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.partition_point(|bound| *bound < us);
        let cell = self.0.counts.get(place).unwrap_or(&self.0.above);
        cell.fetch_add(1, Ordering::Relaxed);
        self.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let mut buckets: Vec<_> = BOUNDS_US
            .iter()
            .zip(&self.0.counts)
            .map(|(bound, count)| (Duration::from_micros(*bound).as_secs_f64(), load(count)))
            .collect();
        buckets.push((f64::INFINITY, load(&self.0.above)));
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_micros(load(&self.0.sum_us)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn durations_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::default();
        let mut registry = Registry::default();
        registry.register("took", "Time", histogram.clone());
        for us in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        for line in [
            "took_sum 20.000202",
            "took_count 5",
            "took_bucket{le=\"0.0001\"} 2",
            "took_bucket{le=\"0.00025\"} 3",
            "took_bucket{le=\"2.5\"} 3",
            "took_bucket{le=\"10.0\"} 4",
            "took_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
