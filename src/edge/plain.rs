//! Small HTTP/1 servers beside the proxy: the admin listener and the echo.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

use crate::edge::listen::accept;

/// Maximum number of bytes read ahead on a connection; also limits the length of a head.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Creates a response that is not cached; `field`: one more header field.
pub(crate) fn response(
    status: StatusCode,
    kind: &'static str,
    field: Option<(HeaderName, &'static str)>,
    body: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let (kind, not_stored) = ((CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store"));
    for (name, value) in [Some(kind), field, Some(not_stored)].into_iter().flatten() {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Serves HTTP/1 with keep-alive on a listener until the task is dropped; `handler` answers each request.
///
/// Above `connections_max`, a new connection replaces the oldest without a request, or waits. `head_timeout`: time from
/// the moment a head may begin to its last byte; an idle connection is closed after this.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    connections_max: usize,
    head_timeout: Duration,
    handler: H,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut open = VecDeque::new();
    loop {
        let (socket, _) = accept(&listener).await;
        make_room(&mut connections, &mut open, connections_max).await;
        let handler = handler.clone();
        let is_busy = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_busy);
        let task = connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                let busy = Arc::clone(&busy);
                async move {
                    busy.store(true, Ordering::Release);
                    let answer = answer.await;
                    busy.store(false, Ordering::Release);
                    Ok::<_, Infallible>(answer)
                }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head_timeout)
                .max_buf_size(BUFFER_BYTES_MAX)
                .serve_connection(TokioIo::new(socket), service)
                .await;
            if let Err(error) = served {
                debug!(error = %error, "a connection of a secondary listener failed");
            }
        });
        open.push_back(SideConnection { task, is_busy });
    }
}

/// One connection; the queue is ordered from oldest to newest.
struct SideConnection {
    task: AbortHandle,
    is_busy: Arc<AtomicBool>,
}

/// Aborts the oldest connection without a request while there are too many, so that idle connections cannot lock others
/// out.
async fn make_room(connections: &mut JoinSet<()>, open: &mut VecDeque<SideConnection>, max: usize) {
    while connections.try_join_next().is_some() {}
    while max <= connections.len() {
        open.retain(|it| !it.task.is_finished());
        let oldest = open
            .iter()
            .position(|it| !it.is_busy.load(Ordering::Acquire));
        if let Some(oldest) = oldest.and_then(|place| open.remove(place)) {
            oldest.task.abort();
        }
        connections.join_next().await;
    }
    if 2 * max <= open.len() {
        open.retain(|it| !it.task.is_finished());
    }
}
