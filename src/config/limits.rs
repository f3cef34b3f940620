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
    /// Maximum length of a request head (request line and fields) in bytes, and maximum number of its fields.
    head_bytes_max: usize = number(1024..=HEAD_BYTES) => 32 * 1024, restart limits.head_bytes_max;
    head_fields_max: usize = number(8..=HEAD_FIELDS) => 100, restart limits.head_fields_max;
    /// Maximum length of a request target in bytes.
    target_bytes_max: usize = number(64..=HEAD_BYTES) => 8 * 1024, restart limits.target_bytes_max;
    /// Maximum length of one identity header towards an upstream in bytes, such as X-Auth-Roles on a route with `all_roles`.
    /// A caller with more roles or scopes is refused with 403 identity_too_large, since the upstream would answer 400. Most
    /// servers accept 8 KiB for one field.
    identity_header_bytes_max: usize = number(256..=64 * 1024) => 8000;
    /// Maximum time from the connection to the first byte, from the first byte of a head to its last, and for a body to the
    /// gateway's own endpoints.
    head_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(10), as head_timeout, restart limits.head_timeout;
    /// Maximum length of a request body towards an upstream in bytes; 0: no limit. After the first 10 s, a caller must send a
    /// body, and read a response, at 1 KiB/s or more; otherwise the answer is 408 body_timeout, or the stream is reset. This
    /// rate cannot be configured.
    body_bytes_max: u64 = number(0..=1 << 50) => 10 * MIB;
    /// Time after which an idle connection of a caller is closed.
    keepalive_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1), as keepalive_timeout, restart limits.keepalive_timeout;
    /// Maximum number of connections of callers. When nearly all are in use, those that have waited longest without a request
    /// are closed.
    connections_max: usize = number(1..=1_000_000) => 10_000, restart limits.connections_max;
    /// Maximum number of requests in flight; further requests are answered with 503. 0: as many as the file descriptors of
    /// the process allow, less a reserve for the store, the admin listener and the logs; one client network may then have
    /// half of them, and trusted proxies all.
    requests_max: usize = number(0..=10_000_000) => 0, restart limits.requests_max;
    /// Maximum memory of the process in MiB. Above 80 % of it, less 19 MiB for each thread that hashes passwords, new
    /// connections are closed at once, and the connections that have waited longest without a request are closed too; above
    /// 90 %, requests are answered with 503. 0: the limit of the container or the systemd unit (MemoryMax), if it has one.
    memory_max_mb: u64 = mebibytes(0..=1 << 20) => 0, as memory_bytes_max, restart limits.memory_bytes_max;
    /// Maximum time to connect to an upstream, between two reads from it, and between two writes to it.
    upstream_connect_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(5), as upstream_connect_timeout;
    upstream_read_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1), as upstream_read_timeout;
    upstream_write_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1), as upstream_write_timeout;
    /// Idle connections to upstreams that are kept.
    upstream_idle_max: usize = number(0..=100_000) => 128, restart limits.upstream_idle_max;
    /// Maximum time of requests in flight after SIGTERM; and of event streams, gRPC and responses without a length that have
    /// run for 10 s, which may never end by themselves. WebSockets are closed at once (1001, going away).
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
