//! `[limits]`: limits of heads, bodies, connections, requests and timeouts.

use std::time::Duration;

use crate::config::forms::{millis, number};
use crate::config::keys::keys;
use crate::config::reader::SectionReader;

const HOUR_MS: u64 = 3_600_000;
/// Limits of Pingora.
const HEAD_BYTES: u64 = 1 << 20;
const HEAD_FIELDS: u64 = 256;
const MIB: u64 = 1 << 20;

keys! { pub(super) LimitKeys = "limits"; {
    /// The head of a request: request line and fields, in bytes; and how many fields.
    head_bytes_max: usize = number(1024..=HEAD_BYTES) => 32 * 1024, restart limits.head_bytes_max;
    head_fields_max: usize = number(8..=HEAD_FIELDS) => 100, restart limits.head_fields_max;
    /// The request target in bytes.
    target_bytes_max: usize = number(64..=HEAD_BYTES) => 8 * 1024, restart limits.target_bytes_max;
    /// One identity header towards an upstream, in bytes, such as X-Auth-Roles on a route with `all_roles`: who has more roles or
    /// scopes is refused with 403 identity_too_large, where the upstream would answer 400. Most servers take 8 KiB for one field.
    identity_header_bytes_max: usize = number(256..=64 * 1024) => 8000;
    /// From connecting to the first byte, and from the first byte of a head to its last; as long again for a body to the gateway's
    /// own endpoints.
    head_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(10), restart limits.head_timeout;
    /// A request body towards an upstream, in bytes; 0: no limit. A body, and the reading of an answer, must keep 1 KiB/s after 10 s
    /// of patience, which cannot be configured: else 408 body_timeout, or the stream is reset.
    body_bytes_max: u64 = number(0..=1 << 50) => 10 * MIB;
    /// An idle connection of a caller is closed after this.
    keepalive_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1), restart limits.keepalive_timeout;
    /// Connections of callers at once. When they are nearly all taken, those that have waited longest without a request are closed.
    connections_max: usize = number(1..=1_000_000) => 10_000, restart limits.connections_max;
    /// Requests in flight; above: 503. 0: what the file descriptors of the process allow, less a reserve for the store, the admin
    /// listener and the logs; and one client network, trusted proxies excepted, may have half of them.
    requests_max: usize = number(0..=10_000_000) => 0, restart limits.requests_max;
    /// Memory of the process in MiB. Above 80 % of it, less 19 MiB for each thread that hashes passwords, new connections are
    /// closed at once and those that have waited longest without a request make room; above 90 % requests get 503. 0: the limit of
    /// the container or the systemd unit (MemoryMax), if there is one.
    memory_max_mb: u64 = number(0..=1 << 20) => 0, restart limits.memory_bytes_max;
    /// To connect to an upstream; between two reads from it; between two writes to it.
    upstream_connect_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(5);
    upstream_read_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1);
    upstream_write_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1);
    /// Idle connections to upstreams that are kept.
    upstream_idle_max: usize = number(0..=100_000) => 128, restart limits.upstream_idle_max;
    /// After SIGTERM, requests in flight may take this long; of these, event streams, gRPC and answers without a length that have
    /// run for 10 s, this long: they would go on by themselves. WebSockets are closed at once (1001, going away).
    drain_timeout_ms: Duration = millis(0..=HOUR_MS) => Duration::from_secs(30);
    drain_stream_timeout_ms: Duration = millis(0..=HOUR_MS) => Duration::from_secs(5);
}}

/// Limits of heads, bodies, connections, requests and timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum length of a head: request line and fields.
    pub head_bytes_max: usize,
    /// Maximum number of fields of a head.
    pub head_fields_max: usize,
    /// Maximum length of the request target.
    pub target_bytes_max: usize,
    /// Maximum time from the connection to the first byte, from the first byte of a head to its last, and for a body to
    /// the gateway's own endpoints.
    pub head_timeout: Duration,
    /// Maximum length of a request body towards an upstream; 0: no limit.
    pub body_bytes_max: u64,
    /// Time after which an idle connection of a caller is closed.
    pub keepalive_timeout: Duration,
    /// Maximum number of connections of callers.
    pub connections_max: usize,
    /// Maximum length of one identity header towards an upstream.
    pub identity_header_bytes_max: usize,
    /// Maximum number of requests in flight; 0: as many as the file descriptors allow, less a reserve, of which one
    /// client network may have half.
    pub requests_max: usize,
    /// Maximum time to connect to an upstream.
    pub upstream_connect_timeout: Duration,
    /// Maximum time between two reads from an upstream.
    pub upstream_read_timeout: Duration,
    /// Maximum time between two writes to an upstream.
    pub upstream_write_timeout: Duration,
    /// Maximum number of idle connections to all upstreams together.
    pub upstream_idle_max: usize,
    /// Maximum time of requests in flight after SIGTERM.
    pub drain_timeout: Duration,
    /// Maximum time of streams after SIGTERM.
    pub drain_stream_timeout: Duration,
    /// Maximum memory of the process, in bytes; 0: the limit of the container.
    pub memory_bytes_max: u64,
}

pub(super) fn read(mut reader: SectionReader<'_>) -> Limits {
    let limits = Limits {
        head_timeout: reader.get(&LimitKeys::head_timeout_ms),
        keepalive_timeout: reader.get(&LimitKeys::keepalive_timeout_ms),
        upstream_connect_timeout: reader.get(&LimitKeys::upstream_connect_timeout_ms),
        upstream_read_timeout: reader.get(&LimitKeys::upstream_read_timeout_ms),
        upstream_write_timeout: reader.get(&LimitKeys::upstream_write_timeout_ms),
        drain_timeout: reader.get(&LimitKeys::drain_timeout_ms),
        drain_stream_timeout: reader.get(&LimitKeys::drain_stream_timeout_ms),
        head_bytes_max: reader.get(&LimitKeys::head_bytes_max),
        head_fields_max: reader.get(&LimitKeys::head_fields_max),
        target_bytes_max: reader.get(&LimitKeys::target_bytes_max),
        identity_header_bytes_max: reader.get(&LimitKeys::identity_header_bytes_max),
        connections_max: reader.get(&LimitKeys::connections_max),
        requests_max: reader.get(&LimitKeys::requests_max),
        upstream_idle_max: reader.get(&LimitKeys::upstream_idle_max),
        body_bytes_max: reader.get(&LimitKeys::body_bytes_max),
        memory_bytes_max: reader.get(&LimitKeys::memory_max_mb).saturating_mul(MIB),
    };
    if limits.head_bytes_max < limits.target_bytes_max {
        reader.add(
            &LimitKeys::target_bytes_max,
            "no more than `head_bytes_max`",
        );
    }
    reader.finish();
    limits
}
