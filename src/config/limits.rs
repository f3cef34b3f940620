//! `[limits]`: limits of heads, bodies, connections, requests and timeouts.

use std::time::Duration;

use crate::config::forms::{mebibytes, millis, number};
use crate::config::reader::SectionReader;
use crate::config::settings::settings;

const HOUR_MS: u64 = 3_600_000;
/// Limits of Pingora.
const HEAD_BYTES: u64 = 1 << 20;
const HEAD_FIELDS: u64 = 256;
const MIB: u64 = 1 << 20;

settings! {
/// Limits of heads, bodies, connections, requests and timeouts.
pub struct Limits {}
LimitKeys = "limits"; {
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
    head_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(10), as head_timeout, restart limits.head_timeout;
    /// A request body towards an upstream, in bytes; 0: no limit. A body, and the reading of an answer, must keep 1 KiB/s after 10 s
    /// of patience, which cannot be configured: else 408 body_timeout, or the stream is reset.
    body_bytes_max: u64 = number(0..=1 << 50) => 10 * MIB;
    /// An idle connection of a caller is closed after this.
    keepalive_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1), as keepalive_timeout, restart limits.keepalive_timeout;
    /// Connections of callers at once. When they are nearly all taken, those that have waited longest without a request are closed.
    connections_max: usize = number(1..=1_000_000) => 10_000, restart limits.connections_max;
    /// Requests in flight; above: 503. 0: what the file descriptors of the process allow, less a reserve for the store, the admin
    /// listener and the logs; and one client network, trusted proxies excepted, may have half of them.
    requests_max: usize = number(0..=10_000_000) => 0, restart limits.requests_max;
    /// Memory of the process in MiB. Above 80 % of it, less 19 MiB for each thread that hashes passwords, new connections are
    /// closed at once and those that have waited longest without a request make room; above 90 % requests get 503. 0: the limit of
    /// the container or the systemd unit (MemoryMax), if there is one.
    memory_max_mb: u64 = mebibytes(0..=1 << 20) => 0, as memory_bytes_max, restart limits.memory_bytes_max;
    /// To connect to an upstream; between two reads from it; between two writes to it.
    upstream_connect_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(5), as upstream_connect_timeout;
    upstream_read_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1), as upstream_read_timeout;
    upstream_write_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1), as upstream_write_timeout;
    /// Idle connections to upstreams that are kept.
    upstream_idle_max: usize = number(0..=100_000) => 128, restart limits.upstream_idle_max;
    /// After SIGTERM, requests in flight may take this long; of these, event streams, gRPC and answers without a length that have
    /// run for 10 s, this long: they would go on by themselves. WebSockets are closed at once (1001, going away).
    drain_timeout_ms: Duration = millis(0..=HOUR_MS) => Duration::from_secs(30), as drain_timeout;
    drain_stream_timeout_ms: Duration = millis(0..=HOUR_MS) => Duration::from_secs(5), as drain_stream_timeout;
}}

pub(super) fn read(reader: &mut SectionReader<'_>) -> Limits {
    let limits = Limits::read(reader);
    if limits.head_bytes_max < limits.target_bytes_max {
        reader.add(
            &LimitKeys::target_bytes_max,
            "no more than `head_bytes_max`",
        );
    }
    limits
}
