//! Registration of metrics.

use std::fmt::Debug;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry};

/// The labels of a series, with values that are known when the program is built.
pub(in crate::telemetry) type FixedLabels<const N: usize> = [(&'static str, &'static str); N];

/// Registers metrics at zero, and returns the handles that count.
pub(in crate::telemetry) trait RegisterMetric {
    /// Registers a metric.
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M;

    /// Registers one series for each value of a label, and returns their handles in the order of the values.
    fn add_by<M, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> [M; N]
    where
        M: EncodeMetric + TypedMetric + Clone + Default + Debug + Send + Sync + 'static,
    {
        let family: Family<FixedLabels<1>, M> = self.add(name, help);
        values.map(|value| family.get_or_create_owned(&[(label, value)]))
    }
}

impl RegisterMetric for Registry {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.register(name, help, metric.clone());
        metric
    }
}

/// Counts one under the label with this index.
pub(in crate::telemetry) fn count(counters: &[Counter], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.inc();
    }
}
