//! Idle connections to upstreams.
//!
//! Each worker has a shard of its own, so that the lock of a shard is rarely held by another thread. A worker whose shard
//! has no connection to an address looks into the others before a new one is opened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::model::route::Upstream;
use crate::upstream::connection::UpstreamConnection;

/// Interval at which connections that are closed or too old are removed. Between two requests a connection is polled at
/// no other time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The idle connections of all upstreams.
#[derive(Debug)]
pub struct Pool {
    shards: Box<[Shard]>,
    /// Maximum number of idle connections of one shard.
    idle_max: usize,
}

/// The idle connections of one worker. The alignment keeps the locks of two shards in separate cache lines, of which
/// some processors fetch two at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<ShardState>);

#[derive(Debug, Default)]
struct ShardState {
    groups: BTreeMap<SocketAddr, Vec<IdleGroup>>,
    count: usize,
}

/// The idle connections of one upstream to one address, from the oldest to the newest. Upstreams share no connection,
/// even if their addresses are equal.
#[derive(Debug)]
struct IdleGroup {
    upstream: String,
    keepalive_timeout: Duration,
    idle: Vec<UpstreamConnection>,
}

impl Pool {
    /// Creates an empty pool for this number of workers, which keeps at most `idle_max` connections, rounded up to a
    /// multiple of the workers.
    #[must_use]
    pub fn new(workers: usize, idle_max: usize) -> Self {
        let workers = workers.max(1);
        Self {
            shards: (0..workers).map(|_| Shard::default()).collect(),
            idle_max: idle_max.div_ceil(workers),
        }
    }

    /// Takes the connection to an address that was used last, if one is usable at `now`.
    #[must_use]
    pub fn take(
        &self,
        upstream: &Upstream,
        address: SocketAddr,
        now: Instant,
    ) -> Option<UpstreamConnection> {
        let own = self.own_shard();
        let (before, after) = self.shards.split_at(own.min(self.shards.len()));
        let (mine, others) = after.split_first()?;
        let mut others = others.iter().chain(before);
        mine.take_usable(upstream, address, now, true)
            .or_else(|| others.find_map(|it| it.take_usable(upstream, address, now, false)))
    }

    /// Keeps a connection after an exchange, if it is still usable.
    pub fn keep(
        &self,
        upstream: &Upstream,
        address: SocketAddr,
        mut connection: UpstreamConnection,
    ) {
        if self.idle_max == 0 || !connection.is_usable() {
            return;
        }
        let Some(shard) = self.shards.get(self.own_shard()) else {
            return;
        };
        let evicted = shard.lock(true).and_then(|mut state| {
            let evicted = (self.idle_max <= state.count).then(|| state.evict());
            state.push(upstream, address, connection);
            evicted
        });
        drop(evicted);
    }

    /// Removes closed and old connections until the task is dropped.
    pub async fn keep_clean(self: Arc<Self>) {
        loop {
            sleep(SWEEP_EVERY).await;
            self.sweep(Instant::now());
        }
    }

    fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            let removed = shard.lock(true).map(|mut state| state.remove_unusable(now));
            drop(removed);
        }
    }

    /// Returns the index of the present thread's shard.
    fn own_shard(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static INDEX: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        INDEX.with(|index| index % self.shards.len())
    }
}

impl Shard {
    /// Locks the shard; `None`: another thread holds the lock, and the caller does not wait.
    fn lock(&self, waits: bool) -> Option<std::sync::MutexGuard<'_, ShardState>> {
        if waits {
            return Some(self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
        self.0.try_lock().ok()
    }

    /// Takes connections from the shard until one is usable. The others are closed, without the lock.
    fn take_usable(
        &self,
        upstream: &Upstream,
        address: SocketAddr,
        now: Instant,
        waits: bool,
    ) -> Option<UpstreamConnection> {
        loop {
            let mut connection = self.lock(waits)?.pop(&upstream.name, address)?;
            let age = now.saturating_duration_since(connection.idle_since);
            if age < upstream.keepalive_timeout && connection.is_usable_now() {
                return Some(connection);
            }
        }
    }
}

impl ShardState {
    fn pop(&mut self, upstream: &str, address: SocketAddr) -> Option<UpstreamConnection> {
        let groups = self.groups.get_mut(&address)?;
        let group = groups.iter_mut().find(|it| it.upstream == upstream)?;
        let connection = group.idle.pop()?;
        self.count -= 1;
        Some(connection)
    }

    fn push(&mut self, upstream: &Upstream, address: SocketAddr, connection: UpstreamConnection) {
        self.count += 1;
        let keepalive_timeout = upstream.keepalive_timeout;
        let groups = self.groups.entry(address).or_default();
        if let Some(group) = groups.iter_mut().find(|it| it.upstream == upstream.name) {
            group.keepalive_timeout = keepalive_timeout;
            return group.idle.push(connection);
        }
        groups.push(IdleGroup {
            upstream: upstream.name.clone(),
            keepalive_timeout,
            idle: vec![connection],
        });
    }

    /// Removes the oldest connection of the largest group.
    fn evict(&mut self) -> Option<UpstreamConnection> {
        let groups = self.groups.values_mut().flatten();
        let largest = groups.max_by_key(|it| it.idle.len())?;
        if largest.idle.is_empty() {
            return None;
        }
        self.count -= 1;
        Some(largest.idle.remove(0))
    }

    fn remove_unusable(&mut self, now: Instant) -> Vec<UpstreamConnection> {
        let mut removed = Vec::new();
        for groups in self.groups.values_mut() {
            for group in &mut *groups {
                let timeout = group.keepalive_timeout;
                removed.extend(group.idle.extract_if(.., |connection| {
                    let age = now.saturating_duration_since(connection.idle_since);
                    timeout <= age || !connection.is_usable()
                }));
            }
            groups.retain(|group| !group.idle.is_empty());
        }
        self.groups.retain(|_, groups| !groups.is_empty());
        self.count -= removed.len();
        removed
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn upstream(name: &str) -> Upstream {
        Upstream {
            name: name.to_owned(),
            addresses: Vec::new(),
            resources: Vec::new(),
            public_path: String::new(),
            case_sensitive: false,
            keepalive_timeout: Duration::from_mins(1),
        }
    }

    struct Service(TcpListener);

    impl Service {
        async fn start() -> Self {
            Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
        }

        fn address(&self) -> SocketAddr {
            self.0.local_addr().unwrap()
        }

        /// Opens a connection; returns the service's end too.
        async fn connect(&self) -> (UpstreamConnection, TcpStream) {
            let opened = UpstreamConnection::open(self.address(), LIMIT);
            let (opened, accepted) = tokio::join!(opened, self.0.accept());
            let mut connection = opened.unwrap();
            // The first poll makes it ready for requests.
            assert!(connection.is_usable());
            (connection, accepted.unwrap().0)
        }
    }

    fn pool(idle_max: usize) -> Pool {
        Pool::new(1, idle_max)
    }

    #[tokio::test]
    async fn the_connection_that_was_used_last_is_taken_first_and_by_its_upstream_alone() {
        let (service, pool, now) = (Service::start().await, pool(8), Instant::now());
        let (lists, users) = (upstream("lists"), upstream("users"));
        let (first, _one) = service.connect().await;
        let (second, _two) = service.connect().await;
        let fds = [second.fd(), first.fd()];
        pool.keep(&lists, service.address(), first);
        pool.keep(&lists, service.address(), second);
        assert!(pool.take(&users, service.address(), now).is_none());
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(pool.take(&lists, elsewhere, now).is_none());
        let mut taken = Vec::new();
        while let Some(connection) = pool.take(&lists, service.address(), now) {
            taken.push(connection);
        }
        let taken: Vec<_> = taken.iter().map(UpstreamConnection::fd).collect();
        assert_eq!(taken, fds);
    }

    #[tokio::test]
    async fn a_connection_that_closed_or_sent_something_is_not_taken() {
        let (service, pool, now) = (Service::start().await, pool(8), Instant::now());
        let lists = upstream("lists");
        for bytes in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"\r\n",
        ] {
            let (connection, mut theirs) = service.connect().await;
            pool.keep(&lists, service.address(), connection);
            theirs.write_all(bytes).await.unwrap();
            if bytes.is_empty() {
                drop(theirs);
            } else {
                theirs.flush().await.unwrap();
            }
            // The system has it then, but the runtime has not noticed it: nothing was awaited since.
            std::thread::sleep(Duration::from_millis(20));
            assert!(
                pool.take(&lists, service.address(), now).is_none(),
                "{bytes:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_too_old_is_neither_taken_nor_kept_by_the_sweep() {
        let (service, pool, now) = (Service::start().await, pool(8), Instant::now());
        let lists = upstream("lists");
        let (connection, mut theirs) = service.connect().await;
        pool.keep(&lists, service.address(), connection);
        pool.sweep(now);
        let later = now + LIMIT + Duration::from_mins(1);
        pool.sweep(later);
        // It is closed, although no request came.
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
        let (connection, _theirs) = service.connect().await;
        pool.keep(&lists, service.address(), connection);
        assert!(pool.take(&lists, service.address(), later).is_none());
    }

    #[tokio::test]
    async fn a_full_pool_closes_the_oldest_of_the_upstream_that_has_most() {
        let (service, pool, now) = (Service::start().await, pool(3), Instant::now());
        let (lists, users) = (upstream("lists"), upstream("users"));
        let mut theirs = Vec::new();
        for owner in [&users, &lists, &lists, &lists] {
            let (connection, end) = service.connect().await;
            pool.keep(owner, service.address(), connection);
            theirs.push(end);
        }
        assert_eq!(theirs[1].read(&mut [0]).await.unwrap(), 0);
        assert!(pool.take(&users, service.address(), now).is_some());
        assert!(pool.take(&lists, service.address(), now).is_some());
        assert!(pool.take(&lists, service.address(), now).is_some());
        assert!(pool.take(&lists, service.address(), now).is_none());
        let (connection, _end) = service.connect().await;
        let none = Pool::new(1, 0);
        none.keep(&lists, service.address(), connection);
        assert!(none.take(&lists, service.address(), now).is_none());
    }

    #[tokio::test]
    async fn a_worker_takes_what_another_has_kept() {
        let (service, now) = (Service::start().await, Instant::now());
        let pool = Pool::new(2, 8);
        let lists = upstream("lists");
        for _ in 0..4 {
            let (connection, _theirs) = service.connect().await;
            pool.keep(&lists, service.address(), connection);
            let taken = std::thread::scope(|scope| {
                let other = scope.spawn(|| pool.take(&lists, service.address(), now).is_some());
                other.join().unwrap()
            });
            assert!(taken);
        }
    }
}
