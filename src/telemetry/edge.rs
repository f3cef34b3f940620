//! Prometheus metrics of downstream connections.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::telemetry::register::RegisterMetric;

/// Connections and requests rejected to protect the service of others, and memory.
#[derive(Debug, Default)]
pub struct EdgeMetrics {
    /// Connections closed at once because their network had too many.
    pub connections_refused: Counter,
    /// Connections without a request closed to make room for others.
    pub connections_evicted: Counter,
    /// Connections closed because the caller sent too many HTTP/2 control frames.
    pub connections_flooding: Counter,
    /// Requests refused because too many were in flight, or memory was short.
    pub requests_refused: Counter,
    /// Connections closed at once because memory was short.
    pub connections_refused_for_memory: Counter,
    /// Memory in use, if memory is limited.
    pub memory_used_bytes: Gauge,
    /// The memory limit; 0: none.
    pub memory_limit_bytes: Gauge,
    /// 0: enough memory; 1: new connections are refused; 2: requests are refused too.
    pub memory_level: Gauge,
}

impl EdgeMetrics {
    pub(in crate::telemetry) fn register(registry: &mut Registry) -> Self {
        Self {
            connections_refused: registry.add(
                "connections_refused",
                "Connections closed at once because their network had too many",
            ),
            connections_evicted: registry.add(
                "connections_evicted",
                "Connections without a request, closed to make room for others",
            ),
            connections_flooding: registry.add(
                "connections_flooding",
                "Connections closed because of too many HTTP/2 control frames",
            ),
            requests_refused: registry.add(
                "requests_refused",
                "Requests refused because too many were in flight or memory was short",
            ),
            connections_refused_for_memory: registry.add(
                "connections_refused_for_memory",
                "Connections closed at once because memory was short",
            ),
            memory_used_bytes: registry
                .add("memory_used_bytes", "Memory in use, where it is limited"),
            memory_limit_bytes: registry.add(
                "memory_limit_bytes",
                "The limit on memory, 0 where there is none",
            ),
            memory_level: registry.add(
                "memory_level",
                "0: enough memory, 1: new connections are refused, 2: requests too",
            ),
        }
    }
}
