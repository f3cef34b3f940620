//! Small HTTP/1 servers of our own, beside the gateway: the admin listener and the echo.

use std::convert::Infallible;
use std::future::Future;
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

/// A head must be there within this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Bytes of a connection that are read ahead.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Serves a listener with one function until the task is dropped.
///
/// HTTP/1 with keep-alive; at most 256 connections at once, more wait to be accepted; heads of at most 64 KiB within ten
/// seconds.
pub(super) async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    static PERMITS: Semaphore = Semaphore::const_new(CONNECTIONS_MAX);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = PERMITS.acquire().await else {
            return;
        };
        let (socket, _) = accept(&listener).await;
        while connections.try_join_next().is_some() {}
        let handler = handler.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
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
