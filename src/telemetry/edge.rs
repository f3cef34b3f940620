//! What Prometheus reads of callers' connections.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::telemetry::register::registered;

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
        Self {
            connections_refused: registered(
                registry,
                "connections_refused",
                "Connections that were closed at once because their network had too many",
            ),
            connections_evicted: registered(
                registry,
                "connections_evicted",
                "Connections without a request that were closed to make room for others",
            ),
            connections_flooding: registered(
                registry,
                "connections_flooding",
                "Connections that were closed for too many HTTP/2 control frames",
            ),
            requests_refused: registered(
                registry,
                "requests_refused",
                "Requests that were refused because too many were in flight",
            ),
        }
    }
}
