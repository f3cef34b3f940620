//! Registration of metrics.

use prometheus_client::registry::{Metric, Registry};

/// Registers a metric at zero, and returns the handle that counts.
pub(in crate::telemetry) fn registered<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
