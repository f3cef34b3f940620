//! The gateway's listeners: bind, accept, drain.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::auth::client::is_trusted;
use crate::config::Config;
use crate::edge::budget::Budget;
use crate::edge::connections::Connections;
use crate::edge::drain::{BACKLOG_TIME, DrainLimits, end_connections};
use crate::edge::memory::Pressure;
use crate::edge::stream::{CallerStream, StreamLimits};
use crate::proxy::Gateway;
use crate::proxy::exchange::{Exchange, StreamEnd};
use crate::proxy::view::head_limits;
use crate::snapshot::Current;

/// Length of the kernel's accept queue.
const BACKLOG: u32 = 4096;
/// Pause before accepting again when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Concurrent requests on one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 100;
/// Allowance for a field list over the size of a head, because HTTP/2 counts each field larger (RFC 9113 section
/// 6.5.2).
const H2_FIELD_ROOM: usize = 32 * 1024;
/// Maximum number of bytes buffered in one stream for a caller that does not read.
const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Binds all addresses, or none. Called before the gateway reports that it is ready.
///
/// # Errors
/// [`ListenError`] for the first address that is in use or not local.
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    addresses.iter().map(|address| bind_one(*address)).collect()
}

/// Binds one address.
///
/// # Errors
/// [`ListenError`] if the address is in use or not local.
pub fn bind_one(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listen = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // Lets a restarted gateway bind while connections of the previous process are in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| ListenError { address, source })
}

/// Accepts the next connection. On a shortage of descriptors or memory, pauses and tries again.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut is_short = false;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Without this, an answer's last packet would wait for the acknowledgement of the previous one (Nagle's
                // algorithm).
                let _ = socket.set_nodelay(true);
                return (socket, peer);
            }
            Err(error) if is_shortage(&error) => {
                if !is_short {
                    is_short = true;
                    warn!(error = %error, "cannot accept connections for now");
                }
                sleep(ACCEPT_PAUSE).await;
            }
            // This one connection was closed before it was accepted.
            Err(error) => debug!(error = %error, "a connection was lost before it was accepted"),
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// The gateway's acceptor, shared by all its listeners.
pub struct Acceptor {
    gateway: Arc<Gateway>,
    multiplexed: Arc<MultiplexedGateway>,
    current: Arc<Current>,
    limits: StreamLimits,
    /// The open connections.
    pub(crate) open: Arc<Connections>,
    /// How short of memory the process is.
    pub(crate) pressure: Arc<Pressure>,
    tasks: TaskTracker,
    closing: watch::Sender<bool>,
    streams_end: watch::Sender<bool>,
}

impl Acceptor {
    /// Creates an acceptor for HTTP/1.1 and cleartext HTTP/2.
    ///
    /// The limits of connections and heads, the idle timeout and the number of workers come from `config`: changing
    /// them requires a restart.
    #[must_use]
    pub(crate) fn new(
        gateway: Gateway,
        current: Arc<Current>,
        config: &Config,
        budget: &Budget,
    ) -> Self {
        let limits = &config.limits;
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(limits.keepalive_timeout);
        let mut h2 = H2Options::default();
        // The guard checks the size of a head; HTTP/2 counts 32 bytes more per field, and one cookie may be hundreds of
        // fields.
        let list_bytes_max = limits.head_bytes_max + H2_FIELD_ROOM;
        h2.max_header_list_size(u32::try_from(list_bytes_max).unwrap_or(u32::MAX));
        h2.max_concurrent_streams(H2_STREAMS_MAX);
        h2.max_send_buffer_size(H2_SEND_BUFFER_BYTES);
        let gateway = Arc::new(gateway);
        let streams_end = watch::Sender::new(false);
        let end = StreamEnd {
            ends: streams_end.subscribe(),
            clock: Arc::clone(&current.load().services.clock),
        };
        Self {
            multiplexed: Arc::new(MultiplexedGateway {
                gateway: Arc::clone(&gateway),
                end,
                options,
                h2,
            }),
            gateway,
            limits: StreamLimits {
                head: head_limits(config),
                head_timeout: limits.head_timeout,
            },
            open: Connections::new(
                budget.connections,
                config.listen.connections_per_client_max,
                Arc::clone(&current.load().services.metrics),
            ),
            current,
            pressure: Arc::default(),
            tasks: TaskTracker::new(),
            closing: watch::Sender::new(false),
            streams_end,
        }
    }

    /// Serves a listener until `BACKLOG_TIME` after a drain has begun. While no permit is free, further connections wait
    /// in the kernel's queue.
    pub async fn serve(&self, listener: TcpListener) {
        // A drain waits for this loop too.
        let _accepting = self.tasks.token();
        let mut closing = self.closing.subscribe();
        let end = async {
            // Fails only without a sender, which means the end too.
            let _ = closing.wait_for(|is_closing| *is_closing).await;
            sleep(BACKLOG_TIME).await;
        };
        tokio::pin!(end);
        loop {
            let next = async {
                let permit = self.open.room().await?;
                Some((permit, accept(&listener).await))
            };
            let accepted = tokio::select! {
                biased;
                () = &mut end => None,
                accepted = next => accepted,
            };
            let Some((permit, (socket, peer))) = accepted else {
                return;
            };
            self.enter(socket, peer, permit);
        }
    }

    fn enter(&self, socket: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        if !self.pressure.takes_connections() {
            let services = &self.current.load().services;
            services.metrics.edge.connections_refused_for_memory.inc();
            return;
        }
        let fd = socket.as_raw_fd();
        let stream = match CallerStream::new(socket, fd, peer, self.limits) {
            Ok(stream) => Box::new(stream),
            Err(error) => return warn!(error = %error, "a connection could not be set up"),
        };
        let snapshot = self.current.load();
        let connection = stream.connection();
        let trusted = &snapshot.config.listen.trusted_proxies;
        let is_trusted = is_trusted(connection.peer, trusted);
        connection.end_request(snapshot.services.clock.elapsed());
        let Some(place) = self.open.enter(connection, is_trusted, permit) else {
            return debug!(client = %peer, "a network has reached its maximum number of connections");
        };
        let (gateway, multiplexed) = (Arc::clone(&self.gateway), Arc::clone(&self.multiplexed));
        let (current, closing) = (Arc::clone(&self.current), self.closing.subscribe());
        self.tasks.spawn(async move {
            let mut stream = stream;
            if stream.first_bytes().await.is_ok() {
                match stream.see_preface().await {
                    Ok(true) => drop(multiplexed.process_new(stream, &closing).await),
                    Ok(false) => serve_http1(&gateway, &current, stream).await,
                    Err(_) => {}
                }
            }
            drop(place);
        });
    }

    /// Stops accepting, announces the end on every connection and waits for requests in flight, at most for the time in
    /// `limits`. Dropping the future early leaves the remaining connections to be cut.
    pub(crate) async fn drain(&self, limits: DrainLimits) {
        self.closing.send_replace(true);
        self.tasks.close();
        let clock = Arc::clone(&self.current.load().services.clock);
        let ending = end_connections(&self.open, &*clock, limits.streams, || {
            // The streams are woken once, although this runs at every check.
            self.streams_end
                .send_if_modified(|is_end| !std::mem::replace(is_end, true));
        });
        tokio::select! {
            () = ending => {}
            _ = timeout(limits.all, self.tasks.wait()) => {}
        }
    }

    /// Returns the number of connections with a request in flight that is not a stream.
    pub(crate) fn busy(&self) -> usize {
        let now = self.current.load().services.clock.elapsed();
        self.open.busy(now)
    }
}

/// Serves the requests of an HTTP/1 connection one after the other. Between requests Pingora does not hold the
/// connection, because its future and buffers for a request take more than 20 KiB (docs/benchmarks.md).
async fn serve_http1(
    gateway: &Gateway,
    current: &Current,
    mut stream: Box<CallerStream<TcpStream>>,
) {
    loop {
        let idle = current.load().config.limits.keepalive_timeout;
        if !stream.head(idle).await {
            return;
        }
        let session = ServerSession::new_http1(stream);
        let Some(io) = Box::pin(gateway.serve(session)).await else {
            return;
        };
        match io.into_any().downcast() {
            Ok(own) => stream = own,
            // Unreachable: the session was created from this stream type.
            Err(_) => return,
        }
    }
}

/// The gateway for HTTP/2; each stream is watched separately.
struct MultiplexedGateway {
    gateway: Arc<Gateway>,
    end: StreamEnd,
    options: HttpServerOptions,
    h2: H2Options,
}

#[async_trait]
impl HttpServerApp for MultiplexedGateway {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        _shutdown: &watch::Receiver<bool>,
    ) -> Option<ReusedHttpStream> {
        let served = self.gateway.serve(session);
        // Dropping the future that serves a stream resets the stream. No stream can be used again.
        Exchange::watch(served, self.end.clone()).await;
        None
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.h2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
