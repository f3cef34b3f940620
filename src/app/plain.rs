//! Small HTTP/1 servers of our own, beside the gateway: the admin listener and the echo.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::app::listen::accept;

/// Bytes of a connection that are read ahead: no head is longer.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How much a side listener takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// From the moment a head may begin to its last byte: an idle connection is closed after this.
    pub head_timeout: Duration,
}

/// Serves a listener with one function until the task is dropped: HTTP/1 with keep-alive.
pub(super) async fn serve<H, F>(listener: TcpListener, bounds: Bounds, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(bounds.connections_max));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let (socket, _) = accept(&listener).await;
        // An answer's last packet would wait for the acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        while connections.try_join_next().is_some() {}
        let handler = handler.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(bounds.head_timeout)
                .max_buf_size(BUFFER_BYTES_MAX)
                .serve_connection(TokioIo::new(socket), service)
                .await;
            if let Err(error) = served {
                debug!(error = %error, "a connection of a side listener broke");
            }
            drop(permit);
        });
    }
}
