//! The gRPC listener: accept, serve, drain.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::auth::client::is_trusted;
use crate::edge::budget::Budget;
use crate::edge::listen::accept;
use crate::snapshot::Current;
use crate::web::forward_auth::grpc::ExtAuthz;

/// Lifetime of a connection from an untrusted address, which only receives refusals.
const STRANGER_LIFE: Duration = Duration::from_secs(10);
/// Concurrent requests on one connection.
const STREAMS_MAX: u32 = 256;
/// A request head holds the shared secret and little else.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of a request body in flight before any is read.
const WINDOW_BYTES: u32 = 64 * 1024;
/// Interval of keep-alive pings, which detect a proxy that vanished; it is disconnected after [`PING_TIMEOUT`].
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// After a graceful shutdown began, a connection without requests is closed after this, whether or not the proxy has
/// read the GOAWAY.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// The acceptor for forward-auth requests over gRPC.
#[derive(Debug)]
pub(crate) struct GrpcAcceptor {
    current: Arc<Current>,
    questions: ExtAuthz,
    proxies: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    /// Counts requests by its tokens.
    in_flight: TaskTracker,
    connections: TaskTracker,
    closing: watch::Sender<bool>,
}

impl GrpcAcceptor {
    /// Allows as many connections as the budget has.
    pub(crate) fn new(current: Arc<Current>, budget: &Budget) -> Self {
        Self {
            questions: ExtAuthz::new(Arc::clone(&current)),
            current,
            proxies: Arc::new(Semaphore::new(budget.grpc_connections)),
            strangers: Arc::new(Semaphore::new(budget.grpc_strangers)),
            in_flight: TaskTracker::new(),
            connections: TaskTracker::new(),
            closing: watch::Sender::new(false),
        }
    }

    /// Serves a listener until [`GrpcAcceptor::drain`] is called.
    pub(crate) async fn serve(&self, listener: TcpListener) {
        let mut closing = self.closing.subscribe();
        let mut is_closing = pin!(closing.wait_for(|is_closing| *is_closing));
        loop {
            let (socket, peer) = tokio::select! {
                biased;
                _ = &mut is_closing => return,
                accepted = accept(&listener) => accepted,
            };
            self.enter(socket, peer);
        }
    }

    fn enter(&self, socket: TcpStream, peer: SocketAddr) {
        let peer = peer.ip().to_canonical();
        let is_proxy = is_trusted(peer, &self.current.load().config.listen.trusted_proxies);
        // Untrusted callers must not use up the connections of the proxies.
        let room = if is_proxy {
            &self.proxies
        } else {
            &self.strangers
        };
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
            return debug!(client = %peer, "too many gRPC connections: a new one was refused");
        };
        let life = (!is_proxy).then_some(STRANGER_LIFE);
        let served = self.connection(socket, peer, permit);
        self.connections.spawn(async move {
            match life {
                Some(life) => drop(timeout(life, served).await),
                None => served.await,
            }
        });
    }

    /// Serves one connection to its end.
    fn connection(
        &self,
        socket: TcpStream,
        peer: IpAddr,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + use<> {
        let questions = self.questions.clone();
        let mut closing = self.closing.subscribe();
        let patience = self.current.load().config.limits.head_timeout;
        let (in_all, in_flight) = (self.in_flight.clone(), TaskTracker::new());
        let here = in_flight.clone();
        let service = service_fn(move |request| {
            let questions = questions.clone();
            let counted = [in_all.token(), here.token()];
            async move {
                let answer = questions.answer(peer, request).await;
                drop(counted);
                Ok::<_, Infallible>(answer)
            }
        });
        async move {
            // A connection without a request must neither delay a drain nor be waited for indefinitely.
            let mut first = [0];
            let is_asked = tokio::select! {
                biased;
                peeked = timeout(patience, socket.peek(&mut first)) => matches!(peeked, Ok(Ok(1))),
                _ = closing.wait_for(|is_closing| *is_closing) => false,
            };
            if !is_asked {
                return;
            }
            let serving = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(HEAD_BYTES_MAX)
                .initial_stream_window_size(WINDOW_BYTES)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            let mut serving = pin!(serving);
            let mut served = tokio::select! {
                biased;
                served = &mut serving => Some(served),
                _ = closing.wait_for(|is_closing| *is_closing) => None,
            };
            if served.is_none() {
                serving.as_mut().graceful_shutdown();
                served = tokio::select! {
                    served = serving => Some(served),
                    () = silence(&in_flight) => None,
                };
            }
            if let Some(Err(error)) = served {
                debug!(error = %error, "a gRPC connection failed");
            }
            drop(permit);
        }
    }

    /// Stops accepting, sends GOAWAY to the proxies and waits for requests in flight, at most for `limit`.
    pub(crate) async fn drain(&self, limit: Duration) {
        self.closing.send_replace(true);
        self.connections.close();
        // `busy` returns the number of requests that were cut.
        let _ = timeout(limit, self.connections.wait()).await;
    }

    /// Returns the number of requests in flight.
    pub(crate) fn busy(&self) -> usize {
        self.in_flight.len()
    }
}

/// Returns once no request is in flight, checked every [`GOODBYE_TIME`].
async fn silence(in_flight: &TaskTracker) {
    sleep(GOODBYE_TIME).await;
    while !in_flight.is_empty() {
        sleep(GOODBYE_TIME).await;
    }
}
