//! The open connections of callers, and admission of further ones.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::model::client_network::client_network;
use crate::proxy::connection::Connection;
use crate::telemetry::metrics::Metrics;

/// One in this many connections is kept free by closing idle ones.
const ROOM_SHARE: usize = 16;
/// One in this many connections is closed at a time, so that not every new connection has to search for the oldest.
const EVICTED_SHARE: usize = 64;
/// Interval between attempts to close idle connections while no permit is free.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct OpenConnections {
    last_id: u64,
    all: HashMap<u64, Arc<Connection>>,
    networks: HashMap<IpAddr, Network>,
    is_draining: bool,
}

/// The connections and requests in flight of one client network.
#[derive(Debug, Default)]
struct Network {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

/// All open connections of callers.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    per_client_max: usize,
    places: Arc<Semaphore>,
    open: Mutex<OpenConnections>,
    metrics: Arc<Metrics>,
}

/// The registration of one open connection; dropping it releases its permit.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    connections: Arc<Connections>,
    id: u64,
    network: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    /// `per_client_max`: maximum number of connections of one client network; 0 means no limit.
    pub(crate) fn new(max: usize, per_client_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_client_max,
            places: Arc::new(Semaphore::new(max)),
            open: Mutex::default(),
            metrics,
        })
    }

    /// Waits for a permit for one more connection, closing idle connections meanwhile.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let room = Arc::clone(&self.places).acquire_owned();
            match timeout(LOOK_AGAIN, room).await {
                Ok(permit) => return permit.ok(),
                Err(_) => self.make_room(&self.lock()),
            }
        }
    }

    /// Registers a connection. Returns `None` if its network already has its maximum. A trusted proxy (`is_trusted`)
    /// carries the connections of many callers and is not counted.
    pub(crate) fn enter(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        is_trusted: bool,
        permit: OwnedSemaphorePermit,
    ) -> Option<ConnectionPermit> {
        let address = (!is_trusted).then(|| client_network(connection.peer));
        let mut open = self.lock();
        if let Some(address) = address {
            let network = open.networks.entry(address).or_default();
            if self.per_client_max != 0 && self.per_client_max <= network.connections {
                self.metrics.edge.connections_refused.inc();
                return None;
            }
            network.connections += 1;
            connection.join_network(Arc::clone(&network.requests));
        }
        open.last_id += 1;
        let id = open.last_id;
        open.all.insert(id, Arc::clone(connection));
        if open.is_draining {
            connection.go_away();
        }
        self.make_room(&open);
        Some(ConnectionPermit {
            connections: Arc::clone(self),
            id,
            network: address,
            _permit: permit,
        })
    }

    /// Closes the connections that have been idle longest if nearly all permits are taken.
    fn make_room(&self, open: &OpenConnections) {
        let room = self.max / ROOM_SHARE;
        if open.all.len() + room < self.max {
            return;
        }
        let closing = open.all.values().filter(|it| it.closing.is_set()).count();
        if open.all.len() - closing + room < self.max {
            return;
        }
        self.close_oldest(open, self.max / EVICTED_SHARE + 1);
    }

    /// Closes some of the connections that have been idle longest, because memory is short.
    pub(crate) fn close_oldest_idle(&self) {
        let open = self.lock();
        self.close_oldest(&open, open.all.len() / EVICTED_SHARE + 1);
    }

    fn close_oldest(&self, open: &OpenConnections, count: usize) {
        let mut idle: Vec<_> = open
            .all
            .values()
            .filter(|it| !it.closing.is_set())
            .filter_map(|it| it.idle_since().map(|since| (since, it)))
            .collect();
        let count = count.min(idle.len());
        if let Some(last) = count.checked_sub(1) {
            idle.select_nth_unstable_by_key(last, |(since, _)| *since);
        }
        for (_, connection) in idle.iter().take(count) {
            self.metrics.edge.connections_evicted.inc();
            connection.close_when_idle();
        }
    }

    /// Begins a drain: the next answer on each connection is its last, and each WebSocket is closed. Returns the number
    /// of `WebSockets`.
    pub(crate) fn go_away(&self) -> usize {
        let mut open = self.lock();
        open.is_draining = true;
        for connection in open.all.values() {
            connection.go_away();
        }
        open.all.values().filter(|it| it.upgraded.is_set()).count()
    }

    /// Closes connections without a request since `idle_since`. HTTP/2 connections are included only if
    /// `with_multiplexed` is set; otherwise they close by GOAWAY.
    pub(crate) fn close_idle(&self, idle_since: Duration, with_multiplexed: bool) {
        let is_idle = |it: &&Arc<Connection>| {
            let since = it.idle_since();
            since.is_some_and(|since| u128::from(since) <= idle_since.as_millis())
        };
        for connection in self.lock().all.values().filter(is_idle) {
            if with_multiplexed || !connection.multiplexed.is_set() {
                connection.close_when_idle();
            }
        }
    }

    /// Ends the HTTP/1 streams in flight and returns how many it has ended.
    pub(crate) fn cut_streams(&self, now: Duration) -> usize {
        let open = self.lock();
        let streams = open.all.values().filter(|it| it.is_streaming(now));
        let cut = streams.filter(|it| !it.cut_off.is_set()).map(|it| it.cut());
        cut.count()
    }

    /// Returns the number of connections with a request in flight that is not a stream.
    pub(crate) fn busy(&self, now: Duration) -> usize {
        let open = self.lock();
        let busy = open.all.values().filter(|it| it.idle_since().is_none());
        busy.filter(|it| !it.is_streaming(now)).count()
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(connection) = open.all.remove(&self.id)
            && connection.flooding.is_set()
        {
            self.connections.metrics.edge.connections_flooding.inc();
        }
        if let Some(network) = self.network
            && let Some(counted) = open.networks.get_mut(&network)
        {
            counted.connections -= 1;
            // A request may outlive its connection for a moment; it then counts in the old counter, which does no harm.
            if counted.connections == 0 {
                open.networks.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    async fn enter(
        all: &Arc<Connections>,
        peer: &str,
        idle_since_ms: u64,
    ) -> Option<(ConnectionPermit, Arc<Connection>)> {
        let address: IpAddr = peer.parse().unwrap();
        let connection = Arc::new(Connection::new(SocketAddr::from((address, 1))));
        connection.end_request(Duration::from_millis(idle_since_ms));
        let permit = all.room().await.unwrap();
        let place = all.enter(&connection, false, permit)?;
        Some((place, connection))
    }

    #[tokio::test]
    async fn a_network_has_its_share_and_no_more() {
        let all = Connections::new(100, 2, Arc::new(Metrics::new()));
        let mut kept = Vec::new();
        for (peer, fits) in [
            ("192.0.2.1", true),
            ("192.0.2.1", true),
            ("192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
            ("2001:db8::ffff:2", true),
            ("2001:db8::3", false),
            ("2001:db8:0:1::3", true),
        ] {
            let place = enter(&all, peer, 0).await;
            assert_eq!(place.is_some(), fits, "{peer}");
            kept.extend(place);
        }
        kept.clear();
        assert!(all.lock().networks.is_empty());
        assert_eq!(all.places.available_permits(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_connection_makes_room_and_a_busy_one_never() {
        let all = Connections::new(3, 0, Arc::new(Metrics::new()));
        let mut kept = Vec::new();
        for since in [5, 3, 4] {
            kept.push(enter(&all, "192.0.2.1", since).await.unwrap());
        }
        let closing = |kept: &[(ConnectionPermit, Arc<Connection>)]| -> Vec<_> {
            kept.iter().map(|(_, it)| it.closing.is_set()).collect()
        };
        assert_eq!(closing(&kept), [false, true, false]);
        kept.remove(1);
        // A connection with a request is never closed.
        kept[1].1.begin_request(false);
        kept.push(enter(&all, "192.0.2.1", 9).await.unwrap());
        assert_eq!(closing(&kept), [true, false, false]);
        // Without a free permit, the next one waits until a connection ends.
        kept[2].1.begin_request(false);
        let waits = timeout(Duration::from_secs(1), all.room()).await;
        assert!(waits.is_err());
        kept.remove(0);
        assert!(all.room().await.is_some());
    }
}
