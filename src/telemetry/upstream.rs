//! Prometheus metrics of upstream addresses.

use std::net::SocketAddr;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::telemetry::register::registered;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabels {
    upstream: String,
    address: String,
}

/// Failed connects, and the addresses that are skipped because of them.
#[derive(Debug, Default)]
pub struct UpstreamMetrics {
    ejected: Family<AddressLabels, Gauge>,
    connect_errors: Counter,
}

impl UpstreamMetrics {
    pub(in crate::telemetry) fn register(registry: &mut Registry) -> Self {
        Self {
            ejected: registered(
                registry,
                "upstream_address_ejected",
                "1: connecting to this address of an upstream failed, and it is skipped for a while",
            ),
            connect_errors: registered(
                registry,
                "upstream_connect_errors",
                "Connects to upstreams that failed",
            ),
        }
    }

    /// Counts a failed connect.
    pub fn connect_failed(&self) {
        self.connect_errors.inc();
    }

    /// Sets whether an address is ejected.
    pub fn ejected(&self, upstream: &str, address: SocketAddr, is_ejected: bool) {
        let labels = AddressLabels {
            upstream: upstream.to_owned(),
            address: address.to_string(),
        };
        if is_ejected {
            self.ejected.get_or_create(&labels).set(1);
        } else {
            self.ejected.remove(&labels);
        }
    }
}
