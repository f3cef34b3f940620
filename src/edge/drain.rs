//! Graceful shutdown: what each connection is sent, and how long it is waited for.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::Limits;
use crate::edge::connections::Connections;
use crate::model::clock::Clock;

/// Interval between checks of the connections.
const TICK: Duration = Duration::from_millis(50);
/// An HTTP/1 connection without a request for this long is closed. A caller that just made a request may send the next
/// at any moment, and a request that crosses the close is lost; such a connection ends with one more answer instead.
const IDLE: Duration = Duration::from_secs(1);
/// Time for HTTP/2 connections without open streams to close by GOAWAY (RFC 9113 section 6.8).
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// Minimum time between the end of streams and the end of the drain.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// Connections are accepted for this long after a drain begins: those already in the kernel's queue would be reset.
pub(crate) const BACKLOG_TIME: Duration = Duration::from_millis(50);

/// The deadlines of a drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainLimits {
    /// For requests in flight.
    pub all: Duration,
    /// For streams, which would not end by themselves.
    pub streams: Duration,
}

impl DrainLimits {
    pub(crate) fn of(limits: &Limits) -> Self {
        let all = limits.drain_timeout;
        // A stream that is cut needs a moment to end.
        let before_end = all.saturating_sub(LAST_MOMENT);
        let streams = limits.drain_stream_timeout.min(before_end);
        Self { all, streams }
    }
}

/// Announces the drain on all connections and keeps ending them until it is dropped. `end_streams` is called at every
/// check after the time for streams.
pub(crate) async fn end_connections(
    open: &Connections,
    clock: &dyn Clock,
    streams: Duration,
    end_streams: impl Fn(),
) {
    let begun = Instant::now();
    let websockets = open.go_away();
    if 0 < websockets {
        tracing::info!(websockets, "closing WebSockets");
    }
    loop {
        let took = begun.elapsed();
        let now = clock.elapsed();
        open.close_idle(now.saturating_sub(IDLE), GOODBYE_TIME <= took);
        if streams <= took {
            end_streams();
            let cut = open.cut_streams(now);
            if 0 < cut {
                tracing::info!(
                    streams = cut,
                    "ended streams that would not end by themselves"
                );
            }
        }
        sleep(TICK).await;
    }
}
