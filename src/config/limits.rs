//! `[limits]`: how much one caller may ask for.

use std::time::Duration;

use crate::config::reader::Reader;

/// How much one caller may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole head: request line and fields. Default 32 KiB.
    pub head_bytes_max: usize,
    /// Fields of a head. Default 100.
    pub head_fields_max: usize,
    /// The request target. Default 8 KiB.
    pub target_bytes_max: usize,
    /// From a head's first byte to its last, and again for a body to the gateway's own endpoints. Default 10 s.
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
    /// Requests in flight at once; 0: what the descriptors of the process allow, less a reserve. Default 0.
    pub requests_max: usize,
    /// To connect to an upstream. Default 5 s.
    pub upstream_connect_timeout: Duration,
    /// Between two reads from an upstream. Default 60 s.
    pub upstream_read_timeout: Duration,
    /// Between two writes to an upstream. Default 60 s.
    pub upstream_write_timeout: Duration,
    /// Idle connections kept per upstream service. Default 128.
    pub upstream_idle_max: usize,
    /// After SIGTERM, requests in flight may take this long. Default 30 s.
    pub drain_timeout: Duration,
    /// Of these, streams that would go on by themselves. Default 5 s.
    pub drain_stream_timeout: Duration,
    /// Memory of the process, in bytes; 0: the container's own limit. Default 0.
    pub memory_bytes_max: u64,
}

const HOUR_MS: u64 = 3_600_000;
/// Pingora reads no head above 1 MiB and no more than 256 fields.
const HEAD_BYTES: u64 = 1 << 20;
const HEAD_FIELDS: u64 = 256;
const MIB: u64 = 1 << 20;
const MEMORY_MB: u64 = 1 << 20;

pub(super) fn read(mut reader: Reader<'_>) -> Limits {
    let mut timeout = |key: &str, default_ms: u64, min: u64| {
        reader
            .millis(key, min..=HOUR_MS)
            .unwrap_or(Duration::from_millis(default_ms))
    };
    let head_timeout = timeout("head_timeout_ms", 10_000, 1);
    let keepalive_timeout = timeout("keepalive_timeout_ms", 60_000, 1);
    let upstream_connect_timeout = timeout("upstream_connect_timeout_ms", 5_000, 1);
    let upstream_read_timeout = timeout("upstream_read_timeout_ms", 60_000, 1);
    let upstream_write_timeout = timeout("upstream_write_timeout_ms", 60_000, 1);
    let drain_timeout = timeout("drain_timeout_ms", 30_000, 0);
    let drain_stream_timeout = timeout("drain_stream_timeout_ms", 5_000, 0);
    let mut count = |key: &str, default: usize, min: u64, max: u64| {
        reader.count(key, min..=max).unwrap_or(default)
    };
    let limits = Limits {
        head_bytes_max: count("head_bytes_max", 32 * 1024, 1024, HEAD_BYTES),
        head_fields_max: count("head_fields_max", 100, 8, HEAD_FIELDS),
        target_bytes_max: count("target_bytes_max", 8 * 1024, 64, HEAD_BYTES),
        identity_header_bytes_max: count("identity_header_bytes_max", 8000, 256, 64 * 1024),
        connections_max: count("connections_max", 10_000, 1, 1_000_000),
        requests_max: count("requests_max", 0, 0, 10_000_000),
        upstream_idle_max: count("upstream_idle_max", 128, 0, 100_000),
        body_bytes_max: reader
            .number("body_bytes_max", 0..=1 << 50)
            .unwrap_or(10 * 1024 * 1024),
        head_timeout,
        keepalive_timeout,
        upstream_connect_timeout,
        upstream_read_timeout,
        upstream_write_timeout,
        drain_timeout,
        drain_stream_timeout,
        memory_bytes_max: reader
            .number("memory_max_mb", 0..=MEMORY_MB)
            .unwrap_or(0)
            .saturating_mul(MIB),
    };
    if limits.head_bytes_max < limits.target_bytes_max {
        reader.add("target_bytes_max", "no more than `head_bytes_max`");
    }
    reader.finish();
    limits
}
