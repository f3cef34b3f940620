//! Prometheus metrics of upstream addresses.

use std::net::SocketAddr;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::telemetry::register::RegisterMetric;

/// Failed connects, and the addresses that are skipped because of them; clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct UpstreamMetrics {
    ejected: Family<[(&'static str, String); 2], Gauge>,
    /// Failed connects.
    pub connect_errors: Counter,
}

impl UpstreamMetrics {
    pub(in crate::telemetry) fn register(registry: &mut Registry) -> Self {
        Self {
            ejected: registry.add("upstream_address_ejected",
                "1: connecting to this address of an upstream failed, and it is skipped for a while",
            ),
            connect_errors: registry.add("upstream_connect_errors",
                "Failed attempts to connect to upstreams",
            ),
        }
    }

    /// Sets whether an address is ejected.
    pub fn ejected(&self, upstream: &str, address: SocketAddr, is_ejected: bool) {
        let address = address.to_string();
        let labels = [("upstream", upstream.to_owned()), ("address", address)];
        if is_ejected {
            self.ejected.get_or_create(&labels).set(1);
        } else {
            self.ejected.remove(&labels);
        }
    }
}
