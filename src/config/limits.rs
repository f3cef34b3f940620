//! `[limits]`: bounds on heads, bodies, connections, requests and waits.

use std::time::Duration;

use crate::config::forms::{millis, number};
use crate::config::keys::keys;
use crate::config::reader::Reader;

const HOUR_MS: u64 = 3_600_000;
/// Pingora reads no head above 1 MiB and no more than 256 fields.
const HEAD_BYTES: u64 = 1 << 20;
const HEAD_FIELDS: u64 = 256;
const MIB: u64 = 1 << 20;

keys! { pub(super) LimitKeys = "limits"; {
    head_bytes_max: usize = number(1024..=HEAD_BYTES) => 32 * 1024, restart limits.head_bytes_max;
    head_fields_max: usize = number(8..=HEAD_FIELDS) => 100, restart limits.head_fields_max;
    target_bytes_max: usize = number(64..=HEAD_BYTES) => 8 * 1024, restart limits.target_bytes_max;
    identity_header_bytes_max: usize = number(256..=64 * 1024) => 8000;
    head_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(10), restart limits.head_timeout;
    body_bytes_max: u64 = number(0..=1 << 50) => 10 * MIB;
    keepalive_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1), restart limits.keepalive_timeout;
    connections_max: usize = number(1..=1_000_000) => 10_000, restart limits.connections_max;
    requests_max: usize = number(0..=10_000_000) => 0, restart limits.requests_max;
    memory_max_mb: u64 = number(0..=1 << 20) => 0, restart limits.memory_bytes_max;
    upstream_connect_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(5);
    upstream_read_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1);
    upstream_write_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1);
    upstream_idle_max: usize = number(0..=100_000) => 128, restart limits.upstream_idle_max;
    drain_timeout_ms: Duration = millis(0..=HOUR_MS) => Duration::from_secs(30);
    drain_stream_timeout_ms: Duration = millis(0..=HOUR_MS) => Duration::from_secs(5);
}}

/// Bounds on heads, bodies, connections, requests and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole head: request line and fields. Default 32 KiB.
    pub head_bytes_max: usize,
    /// Fields of a head. Default 100.
    pub head_fields_max: usize,
    /// The request target. Default 8 KiB.
    pub target_bytes_max: usize,
    /// From connecting to the first byte, from a head's first byte to its last, and again for a body to the gateway's own
    /// endpoints. Default 10 s.
    pub head_timeout: Duration,
    /// A request body towards an upstream; 0: no limit. Default 10 MiB.
    pub body_bytes_max: u64,
    /// An idle connection of a caller is closed after this. Default 60 s.
    pub keepalive_timeout: Duration,
    /// Connections of callers at once. Default 10,000.
    pub connections_max: usize,
    /// One identity header towards an upstream: `X-Auth-Roles` with all roles may be long. Default 8,000, so that with its
    /// name it fits into the 8 KiB that most servers take for one field.
    pub identity_header_bytes_max: usize,
    /// Requests in flight at once; 0: what the descriptors of the process allow, less a reserve, and one client network
    /// has half of them. Default 0.
    pub requests_max: usize,
    /// To connect to an upstream. Default 5 s.
    pub upstream_connect_timeout: Duration,
    /// Between two reads from an upstream. Default 60 s.
    pub upstream_read_timeout: Duration,
    /// Between two writes to an upstream. Default 60 s.
    pub upstream_write_timeout: Duration,
    /// Idle connections kept, to all upstreams together. Default 128.
    pub upstream_idle_max: usize,
    /// After SIGTERM, requests in flight may take this long. Default 30 s.
    pub drain_timeout: Duration,
    /// Of these, streams that would go on by themselves. Default 5 s.
    pub drain_stream_timeout: Duration,
    /// Memory of the process, in bytes; 0: the container's own limit. Default 0.
    pub memory_bytes_max: u64,
}

pub(super) fn read(mut reader: Reader<'_>) -> Limits {
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
