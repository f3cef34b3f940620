//! What Prometheus reads of callers' connections.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
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
    /// Requests that were refused because too many were in flight, or memory was short.
    pub requests_refused: Counter,
    /// Connections that were closed at once because memory was short.
    pub connections_refused_for_memory: Counter,
    /// Memory in use, as far as it is limited.
    pub memory_used_bytes: Gauge,
    /// The limit; 0: there is none.
    pub memory_limit_bytes: Gauge,
    /// 0: enough memory; 1: new connections are refused; 2: requests too.
    pub memory_level: Gauge,
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
                "Requests that were refused because too many were in flight or memory was short",
                &metrics.requests_refused,
            ),
            (
                "connections_refused_for_memory",
                "Connections that were closed at once because memory was short",
                &metrics.connections_refused_for_memory,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            (
                "memory_used_bytes",
                "Memory in use, where it is limited",
                &metrics.memory_used_bytes,
            ),
            (
                "memory_limit_bytes",
                "The limit on memory, 0 where there is none",
                &metrics.memory_limit_bytes,
            ),
            (
                "memory_level",
                "0: enough memory, 1: new connections are refused, 2: requests too",
                &metrics.memory_level,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        metrics
    }
}
