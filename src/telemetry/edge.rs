//! What Prometheus reads of callers' connections.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// What was turned away so that others can be served.
#[derive(Debug, Default)]
pub struct EdgeMetrics {
    /// Connections that were closed at once because their network had too many.
    pub connections_refused: Counter,
    /// Connections without a request that were closed to make room for others.
    pub connections_evicted: Counter,
    /// Connections that were closed because the caller sent too many HTTP/2 control frames.
    pub connections_flooding: Counter,
    /// Requests that were refused because too many were in flight.
    pub requests_refused: Counter,
}

impl EdgeMetrics {
    pub(in crate::telemetry) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            (
                "connections_refused",
                "Connections that were closed at once because their network had too many",
                &metrics.connections_refused,
            ),
            (
                "connections_evicted",
                "Connections without a request that were closed to make room for others",
                &metrics.connections_evicted,
            ),
            (
                "connections_flooding",
                "Connections that were closed for too many HTTP/2 control frames",
                &metrics.connections_flooding,
            ),
            (
                "requests_refused",
                "Requests that were refused because too many were in flight",
                &metrics.requests_refused,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}
