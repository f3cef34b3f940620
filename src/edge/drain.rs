//! How the doors close: what is told to whom, and what is waited for.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::Limits;
use crate::edge::connections::Connections;
use crate::model::clock::Clock;

/// Between two looks at the connections.
const TICK: Duration = Duration::from_millis(50);
/// A connection of HTTP/1 is idle, and is closed, once it has had no request for as long. One that had is asked again at any
/// moment, and what crosses with its end is lost; so it is told of its end with one more answer.
const IDLE: Duration = Duration::from_secs(1);
/// How long HTTP/2 has for its own goodbye (GOAWAY, RFC 9113 section 6.8) where no stream is open.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// Streams end at least so long before everything else does.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// How long connections are still accepted: those that the kernel has taken for us already would be reset.
pub(crate) const BACKLOG_TIME: Duration = Duration::from_millis(50);

/// How long a drain may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainLimits {
    /// Requests in flight.
    pub all: Duration,
    /// Streams that would go on by themselves.
    pub streams: Duration,
}

impl DrainLimits {
    pub(crate) fn of(limits: &Limits) -> Self {
        let all = limits.drain_timeout;
        // What was told to end needs a moment for it.
        let streams = limits
            .drain_stream_timeout
            .min(all.saturating_sub(LAST_MOMENT));
        Self { all, streams }
    }
}

/// Tells all connections of a drain, and goes on to end them until it is dropped. `end_streams`: called once streams have
/// had their time.
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
    let mut is_streams_end = false;
    loop {
        let took = begun.elapsed();
        let now = clock.elapsed();
        open.close_idle(now.saturating_sub(IDLE), GOODBYE_TIME <= took);
        if streams <= took {
            if !is_streams_end {
                is_streams_end = true;
                end_streams();
            }
            let cut = open.cut_streams(now);
            if 0 < cut {
                tracing::info!(
                    streams = cut,
                    "ended streams that would go on by themselves"
                );
            }
        }
        sleep(TICK).await;
    }
}
