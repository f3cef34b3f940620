//! One request and its response on a connection to an upstream.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts as RequestParts;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::Body as _;
use hyper::body::Incoming;
use hyper::ext::on_informational;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::Limits;
use crate::upstream::body::{BodySlot, RequestBody};
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::failure::{FailureKind, UpstreamFailure};

/// What an upstream has sent.
#[derive(Debug)]
pub enum UpstreamEvent {
    /// An interim response (1xx) other than 101.
    Interim(StatusCode, HeaderMap),
    /// The head of the response.
    Head(ResponseParts),
    /// A piece of its body.
    Body(Bytes),
    /// The end of its body. Nothing follows.
    End,
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeLimits {
    /// Maximum time of waiting for the next bytes of the response, also while the caller still sends its body.
    pub read: Duration,
    /// Maximum time of waiting until the upstream accepts bytes of the request.
    pub write: Duration,
}

impl ExchangeLimits {
    /// Returns the limits of the configuration.
    #[must_use]
    pub const fn of(limits: &Limits) -> Self {
        Self {
            read: limits.upstream_read_timeout,
            write: limits.upstream_write_timeout,
        }
    }
}

/// Maximum number of interim responses to one request.
const INTERIMS_MAX: usize = 100;

/// The interim responses that were received and not passed on yet.
#[derive(Debug, Default)]
struct InterimHeads {
    heads: VecDeque<(StatusCode, HeaderMap)>,
    /// How many there were in all.
    count: usize,
}

type ResponseFuture = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

enum ResponseState {
    Awaited(ResponseFuture),
    Body(Incoming),
    Ended,
}

/// The room for one piece of a request's body, which the exchange empties when it is polled.
#[derive(Debug)]
pub struct BodyRoom(Arc<BodySlot>);

impl BodyRoom {
    /// Completes when the room is empty. To be polled by the task of the exchange, after the exchange: no other event
    /// wakes it.
    pub async fn emptied(&self) {
        poll_fn(|_| {
            if self.0.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// An exchange in progress. The task that owns it does all reading and writing, by polling it.
pub struct UpstreamExchange {
    connection: UpstreamConnection,
    response: ResponseState,
    /// The body on its way to the upstream; `None`: the request has none.
    body: Option<Arc<BodySlot>>,
    interims: Arc<Mutex<InterimHeads>>,
    /// Whether the response is HTTP/1.1. After an older one hyper goes on speaking HTTP/1.0 on the connection, so it is
    /// not used again.
    is_http11: bool,
    limits: ExchangeLimits,
    /// Whether it waits for the upstream to accept bytes, and not for bytes from it.
    is_write_wait: bool,
}

impl UpstreamExchange {
    /// Begins to send a request. `has_body`: its body follows in pieces, framed as its header fields say.
    #[must_use]
    pub fn begin(
        mut connection: UpstreamConnection,
        head: RequestParts,
        has_body: bool,
        limits: ExchangeLimits,
    ) -> Self {
        connection.progress.begin();
        connection.deadline.clear();
        let body = has_body.then(Arc::<BodySlot>::default);
        let sent = body.as_ref().map_or(RequestBody::Empty, |slot| {
            RequestBody::Pieces(Arc::clone(slot))
        });
        let mut request = Request::from_parts(head, sent);
        let interims = Arc::<Mutex<InterimHeads>>::default();
        let received = Arc::clone(&interims);
        on_informational(&mut request, move |response| {
            let mut interims = received.lock().unwrap_or_else(PoisonError::into_inner);
            interims.count += 1;
            if interims.count <= INTERIMS_MAX {
                let head = (response.status(), response.headers().clone());
                interims.heads.push_back(head);
            }
        });
        let response = Box::pin(connection.sender.send_request(request));
        Self {
            connection,
            response: ResponseState::Awaited(response),
            body,
            interims,
            is_http11: false,
            limits,
            is_write_wait: false,
        }
    }

    /// Returns the room for the next piece of the request's body; `None`: the request has no body.
    #[must_use]
    pub fn body_room(&self) -> Option<BodyRoom> {
        self.body.as_ref().map(|slot| BodyRoom(Arc::clone(slot)))
    }

    /// Accepts the next piece of the request's body. `is_end`: no piece follows.
    pub fn send_body(&mut self, piece: Option<Bytes>, is_end: bool) {
        if let Some(slot) = &self.body {
            slot.fill(piece, is_end);
            self.connection.deadline.clear();
        }
    }

    /// Sends and receives until the upstream has sent something.
    ///
    /// # Errors
    /// If the upstream, or the time it has, failed. The exchange is over.
    pub fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<UpstreamEvent, UpstreamFailure>> {
        match self.poll_response(cx) {
            Poll::Ready(event) => {
                self.connection.deadline.clear();
                Poll::Ready(event)
            }
            Poll::Pending => self.poll_deadline(cx).map(Err),
        }
    }

    /// Sends the rest of the request's body after the end of the response. Completes when all of it was sent, or when the
    /// upstream accepts no more of it. While it is pending, the next piece may be given to [`Self::send_body`].
    pub fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has_ended = self.connection.poll_driver(cx);
        let Some(body) = &self.body else {
            return Poll::Ready(());
        };
        let progress = &self.connection.progress;
        let is_blocked = progress.is_write_blocked();
        let is_over = has_ended || progress.has_write_failed() || body.is_abandoned();
        if is_over || (body.is_exhausted() && !is_blocked) {
            return Poll::Ready(());
        }
        if body.is_empty() && !body.is_exhausted() && !is_blocked {
            // The pace of the caller has a limit of its own.
            self.connection.deadline.clear();
            return Poll::Pending;
        }
        self.poll_deadline(cx).map(|_| ())
    }

    /// Whether the whole response was received.
    #[must_use]
    pub fn has_response_ended(&self) -> bool {
        match &self.response {
            ResponseState::Awaited(_) => false,
            ResponseState::Body(body) => body.is_end_stream(),
            ResponseState::Ended => true,
        }
    }

    /// Whether hyper has taken the whole request for sending.
    #[must_use]
    pub fn is_request_taken(&self) -> bool {
        self.body.as_ref().is_none_or(|slot| slot.is_exhausted())
    }

    /// Returns the connection, which is idle since `now`, if the whole request was sent and the whole response received.
    #[must_use]
    pub fn into_connection(mut self, now: Instant) -> Option<UpstreamConnection> {
        let is_whole = self.is_request_taken() && self.has_response_ended() && self.is_http11;
        self.connection.idle_since = now;
        is_whole.then_some(self.connection)
    }

    /// Returns the socket after a switch to another protocol, and the bytes of that protocol that were read already.
    #[must_use]
    pub fn into_socket(self) -> (TcpStream, Bytes) {
        self.connection.into_socket()
    }

    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<UpstreamEvent, UpstreamFailure>> {
        let body = match &mut self.response {
            ResponseState::Awaited(_) => return self.poll_head(cx),
            ResponseState::Body(body) => body,
            ResponseState::Ended => return Poll::Ready(Ok(UpstreamEvent::End)),
        };
        loop {
            if body.is_end_stream() {
                break;
            }
            let mut frame = Pin::new(&mut *body).poll_frame(cx);
            if frame.is_pending() {
                self.connection.poll_driver(cx);
                frame = Pin::new(&mut *body).poll_frame(cx);
            }
            match ready!(frame) {
                None => break,
                // Trailers end here: what they say was not known when the head was checked.
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Ok(UpstreamEvent::Body(piece)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(self.failure(&error))),
            }
        }
        self.response = ResponseState::Ended;
        Poll::Ready(Ok(UpstreamEvent::End))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<UpstreamEvent, UpstreamFailure>> {
        if let Some(interim) = self.next_interim() {
            return Poll::Ready(interim);
        }
        let has_ended = self.connection.poll_driver(cx);
        if let Some(interim) = self.next_interim() {
            return Poll::Ready(interim);
        }
        let ResponseState::Awaited(response) = &mut self.response else {
            return Poll::Ready(Ok(UpstreamEvent::End));
        };
        match response.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => {
                let (head, body) = response.into_parts();
                self.is_http11 = head.version == Version::HTTP_11;
                self.response = ResponseState::Body(body);
                Poll::Ready(Ok(UpstreamEvent::Head(head)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.failure(&error))),
            Poll::Pending if has_ended => Poll::Ready(Err(self.fail(FailureKind::Closed))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Returns the next interim response that was received, or a failure if there were too many.
    fn next_interim(&self) -> Option<Result<UpstreamEvent, UpstreamFailure>> {
        let (interim, count) = {
            let mut interims = self.interims.lock().unwrap_or_else(PoisonError::into_inner);
            (interims.heads.pop_front(), interims.count)
        };
        if INTERIMS_MAX < count {
            return Some(Err(self.fail(FailureKind::Malformed)));
        }
        interim.map(|(status, headers)| Ok(UpstreamEvent::Interim(status, headers)))
    }

    /// Completes when the upstream has exceeded its time.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<UpstreamFailure> {
        let is_write_wait = self.connection.progress.is_write_blocked();
        let has_moved = self.connection.progress.take_moved();
        if has_moved || is_write_wait != self.is_write_wait {
            self.is_write_wait = is_write_wait;
            self.connection.deadline.clear();
        }
        let (limit, kind) = if is_write_wait {
            (self.limits.write, FailureKind::WriteTimedout)
        } else {
            (self.limits.read, FailureKind::ReadTimedout)
        };
        let deadline = &mut self.connection.deadline;
        // It is set when a wait begins.
        if !deadline.is_set() {
            deadline.start(limit);
        }
        ready!(deadline.poll_passed(cx));
        Poll::Ready(self.fail(kind))
    }

    fn failure(&self, error: &hyper::Error) -> UpstreamFailure {
        let source = std::error::Error::source(error);
        let io = source.and_then(|it| it.downcast_ref::<std::io::Error>());
        let kind = match io.map(std::io::Error::kind) {
            Some(ErrorKind::UnexpectedEof) => FailureKind::Closed,
            // Chunks that cannot be read.
            Some(ErrorKind::InvalidData | ErrorKind::InvalidInput) => FailureKind::Malformed,
            Some(_) => FailureKind::Read,
            None if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
                FailureKind::Closed
            }
            None => FailureKind::Malformed,
        };
        self.fail(kind)
    }

    fn fail(&self, kind: FailureKind) -> UpstreamFailure {
        let progress = &self.connection.progress;
        let is_broken = matches!(kind, FailureKind::Closed | FailureKind::Read);
        UpstreamFailure {
            kind,
            is_unsent: is_broken && !progress.has_written(),
            is_unanswered: is_broken && !progress.has_read(),
        }
    }
}

impl std::fmt::Debug for UpstreamExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamExchange")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
