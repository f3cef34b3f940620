//! A granted request on its way to an upstream, and the response on its way back.

use std::future::poll_fn;
use std::os::fd::RawFd;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts as RequestParts;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use pingora::http::ResponseHeader;
use pingora::protocols::SocketDigest;
use pingora::protocols::http::ServerSession;
use tokio::time::Instant;

use crate::model::deny::DenyReason;
use crate::proxy::context::{GrantedRequest, RequestContext, RequestProgress};
use crate::proxy::headers::{self, Forwarding};
use crate::proxy::respond::{self, ProxyFailure};
use crate::proxy::{Gateway, open_ended, tunnel};
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::exchange::{ExchangeLimits, UpstreamEvent, UpstreamExchange};
use crate::upstream::failure::{FailureKind, UpstreamFailure};

/// What happened next in an exchange: on the upstream's side, or on the caller's.
enum NextEvent {
    Upstream(Result<UpstreamEvent, UpstreamFailure>),
    Caller(pingora::Result<Option<Bytes>>),
}

impl Gateway {
    /// Sends a granted request to its upstream and the response to the caller.
    pub(super) async fn forward(
        &self,
        session: &mut ServerSession,
        ctx: &mut RequestContext,
    ) -> Result<(), ProxyFailure> {
        if !session.is_body_empty() {
            session.enable_retry_buffering();
        }
        loop {
            ctx.progress.begin_attempt();
            let Some(connection) = self.connect(session, ctx).await? else {
                continue;
            };
            match self.exchange(session, ctx, connection).await {
                Err(ProxyFailure::Upstream(failure))
                    if ctx.progress.attempts.may_resend(session, failure) =>
                {
                    ctx.progress.attempts.is_resent = true;
                }
                done => return done,
            }
        }
    }

    /// Takes or opens a connection to the upstream; `None`: the connect failed, and another address is worth an
    /// attempt.
    async fn connect(
        &self,
        session: &mut ServerSession,
        ctx: &mut RequestContext,
    ) -> Result<Option<UpstreamConnection>, ProxyFailure> {
        let upstream = ctx.granted()?.upstream;
        let snapshot = &ctx.progress.snapshot;
        let attempts = &ctx.progress.attempts;
        let (place, failed) = (attempts.next_address(), attempts.failed_connect);
        let elapsed = snapshot.services.clock.elapsed();
        let address = self.balancer.address(upstream, place, failed, elapsed);
        let address = address.ok_or(UpstreamFailure::unsent(FailureKind::ConnectNoRoute))?;
        // A tunnel ends its connection, and what is sent a second time must not meet a closed connection again.
        let reuses = !attempts.is_resent && !headers::asks_for_websocket(session.req_header());
        let kept = reuses.then(|| self.pool.take(upstream, address, Instant::now()));
        let kept = kept.flatten();
        let is_reused = kept.is_some();
        let opened = if let Some(connection) = kept {
            Ok(connection)
        } else {
            let limit = snapshot.config.limits.upstream_connect_timeout;
            UpstreamConnection::open(address, limit).await
        };
        let current = &mut ctx.progress.attempts.current;
        current.address = Some(address);
        current.is_reused = is_reused;
        let failure = match opened {
            Ok(connection) => {
                if !is_reused {
                    ctx.progress.note_connected(&self.balancer.ejections);
                }
                return Ok(Some(connection));
            }
            Err(failure) => failure,
        };
        let progress = &mut ctx.progress;
        let upstream = progress.upstream();
        if let Some(upstream) = upstream {
            progress.note_failed(&self.balancer.ejections, upstream, failure.kind);
        }
        let has_another = upstream.is_some_and(|upstream| 1 < upstream.addresses.len());
        // Nothing was sent, so a request of any method may try the next address, once.
        let is_first = progress.attempts.failed_connect.replace(address).is_none();
        if is_first && has_another {
            return Ok(None);
        }
        Err(failure.into())
    }

    /// Sends the request on a connection, and passes the response on.
    async fn exchange(
        &self,
        session: &mut ServerSession,
        ctx: &mut RequestContext,
        connection: UpstreamConnection,
    ) -> Result<(), ProxyFailure> {
        let has_body = !session.is_body_empty();
        let head = upstream_head(session, ctx, has_body)?;
        let progress = &mut ctx.progress;
        let limits = ExchangeLimits::of(&progress.snapshot.config.limits);
        note_body_begins(progress, session, connection.fd());
        let mut exchange = UpstreamExchange::begin(connection, head, has_body, limits);
        // What an earlier attempt has read of the body comes first.
        let (kept, mut is_read) = (session.get_retry_buffer(), session.is_body_done());
        if kept.is_some() || (has_body && is_read) {
            send_body(progress, &mut exchange, kept, is_read)?;
        }
        loop {
            match next_event(session, &mut exchange, is_read).await {
                NextEvent::Caller(piece) => {
                    let piece = piece.map_err(ProxyFailure::of_caller)?;
                    is_read = piece.is_none() || session.is_body_done();
                    send_body(progress, &mut exchange, piece, is_read)?;
                }
                NextEvent::Upstream(event) => match event? {
                    UpstreamEvent::Interim(status, fields) => {
                        let head = interim(status, fields)?;
                        self.pass_head(session, progress, head, false).await?;
                    }
                    UpstreamEvent::Head(head) => {
                        let is_switch = head.status == StatusCode::SWITCHING_PROTOCOLS;
                        if is_switch && !exchange.is_request_taken() {
                            // The rest of the body would be lost.
                            return Err(ProxyFailure::of_upstream(FailureKind::Malformed));
                        }
                        let has_ended = exchange.has_response_ended();
                        self.pass_head(session, progress, head, has_ended).await?;
                        if is_switch {
                            return tunnel::pass(session, exchange, limits).await;
                        }
                    }
                    UpstreamEvent::Body(piece) => {
                        let is_end = exchange.has_response_ended();
                        let written = session.write_response_body(piece, is_end).await;
                        written.map_err(ProxyFailure::of_caller)?;
                    }
                    UpstreamEvent::End => break,
                },
            }
        }
        if !is_read {
            let ended = session.finish_body().await;
            ended.map_err(ProxyFailure::of_caller)?;
        }
        progress.downstream.end_answer();
        if has_body {
            // The caller has its response, whatever becomes of the rest.
            let _ = pass_rest(session, progress, &mut exchange, is_read).await;
            respond::linger(session);
        }
        if let Some(connection) = exchange.into_connection(Instant::now())
            && let (Some(upstream), Some(address)) =
                (progress.upstream(), progress.attempts.current.address)
        {
            self.pool.keep(upstream, address, connection);
        }
        Ok(())
    }

    /// Passes on the head of a response. `has_ended`: no body follows.
    async fn pass_head(
        &self,
        session: &mut ServerSession,
        progress: &mut RequestProgress,
        mut head: Parts,
        has_ended: bool,
    ) -> Result<(), ProxyFailure> {
        let status = head.status;
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        let is_asked_for = !is_switch || headers::asks_for_websocket(session.req_header());
        if !is_asked_for || !headers::frame_once(&mut head.headers, head.version) {
            return Err(ProxyFailure::of_upstream(FailureKind::Malformed));
        }
        if is_switch || !status.is_informational() {
            progress.status = status.as_u16();
        }
        if let Some(connection) = &progress.downstream.connection {
            match status {
                StatusCode::SWITCHING_PROTOCOLS => connection.upgrade(),
                StatusCode::CONTINUE => connection.begin_body(),
                _ => {}
            }
        }
        headers::to_caller(
            &mut head.headers,
            status,
            &progress.snapshot.strip,
            progress.id,
        );
        let is_final = !status.is_informational();
        if is_final {
            let headers = &mut head.headers;
            let has_no_body = has_ended || respond::is_bodyless(session, status, headers);
            if !has_no_body && !is_framed(headers) {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            respond::fit_version(session, headers);
            // Kept connections count too: otherwise an address with long-lived connections would remain ejected.
            progress.note_connected(&self.balancer.ejections);
            respond::announce_end(session);
            progress.begin_answer(open_ended::stream_age(headers));
            if has_no_body {
                progress.downstream.end_answer();
            }
        }
        head.version = Version::HTTP_11;
        let head = response_header(head);
        let written = respond::write_head(session, head, is_final && has_ended).await;
        written.map_err(ProxyFailure::of_caller)
    }
}

/// Builds the head for the upstream.
fn upstream_head(
    session: &ServerSession,
    ctx: &RequestContext,
    has_body: bool,
) -> Result<RequestParts, ProxyFailure> {
    let GrantedRequest { request, grant, .. } = ctx.granted()?;
    let forwarding = Forwarding {
        strip: &ctx.progress.snapshot.strip,
        route: grant.route(),
        target: &request.target,
        scheme: request.scheme,
        request_id: ctx.progress.id,
        peer: &request.connection.peer_value,
        believed: request.client.believed,
    };
    let identity = grant.identity_headers();
    headers::to_upstream(session.req_header(), &forwarding, identity, has_body)
        .map_err(ProxyFailure::Refused)
}

/// Waits for the upstream, and meanwhile for the body of the caller, or for its leaving. `is_read`: the whole body was
/// read, after which HTTP/2 may still report that it was not.
async fn next_event(
    session: &mut ServerSession,
    exchange: &mut UpstreamExchange,
    is_read: bool,
) -> NextEvent {
    let room = exchange.body_room().filter(|_| !is_read);
    let read = async {
        if let Some(room) = room {
            room.emptied().await;
        }
        session.read_body_or_idle(is_read).await
    };
    tokio::select! {
        biased;
        event = poll_fn(|cx| exchange.poll_event(cx)) => NextEvent::Upstream(event),
        piece = read => NextEvent::Caller(piece),
    }
}

/// Passes on the rest of a body whose response was sent already, until the upstream has all of it or accepts no more.
/// `is_read`: the whole body was read from the caller.
async fn pass_rest(
    session: &mut ServerSession,
    progress: &mut RequestProgress,
    exchange: &mut UpstreamExchange,
    mut is_read: bool,
) -> Result<(), ProxyFailure> {
    loop {
        let room = exchange.body_room().filter(|_| !is_read);
        let read = async {
            if let Some(room) = &room {
                room.emptied().await;
            }
            session.read_body_or_idle(false).await
        };
        let piece = tokio::select! {
            biased;
            () = poll_fn(|cx| exchange.poll_rest(cx)) => return Ok(()),
            piece = read, if room.is_some() => piece,
        };
        let piece = piece.map_err(ProxyFailure::of_caller)?;
        is_read = piece.is_none() || session.is_body_done();
        send_body(progress, exchange, piece, is_read)?;
    }
}

/// Sends a piece of the body to the upstream.
fn send_body(
    progress: &mut RequestProgress,
    exchange: &mut UpstreamExchange,
    piece: Option<Bytes>,
    is_end: bool,
) -> Result<(), ProxyFailure> {
    let bytes_max = progress.snapshot.config.limits.body_bytes_max;
    let bytes = piece.as_ref().map_or(0, |piece| piece.len() as u64);
    let attempt = &mut progress.attempts.current;
    attempt.body_bytes += bytes;
    if let Some(watch) = &progress.downstream.exchange {
        watch.body_came(bytes, is_end);
    }
    if bytes_max != 0 && bytes_max < attempt.body_bytes {
        return Err(ProxyFailure::Refused(DenyReason::BodyTooLarge));
    }
    exchange.send_body(piece, is_end);
    Ok(())
}

/// Lets the watch of an HTTP/2 exchange know the connection that a body is sent on.
fn note_body_begins(progress: &RequestProgress, session: &mut ServerSession, fd: RawFd) {
    if let Some(watch) = &progress.downstream.exchange
        && !session.is_body_done()
    {
        watch.sends_to(Some(Arc::new(SocketDigest::from_raw_fd(fd))));
    }
}

/// Whether the end of a body is determined otherwise than by the end of the connection.
fn is_framed(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(CONTENT_LENGTH)
}

fn interim(status: StatusCode, headers: HeaderMap) -> Result<Parts, ProxyFailure> {
    let response = http::Response::builder().status(status).body(());
    let response = response.map_err(|_| ProxyFailure::own("an interim response"))?;
    let mut parts = response.into_parts().0;
    parts.headers = headers;
    Ok(parts)
}

/// Converts the head of a response for Pingora. Names are kept in lower case: the map for another case costs as much as
/// the rest.
fn response_header(head: Parts) -> ResponseHeader {
    let reason = head.extensions.get::<ReasonPhrase>().cloned();
    let mut head = ResponseHeader::from(head);
    if let Some(reason) = reason
        .as_ref()
        .and_then(|it| std::str::from_utf8(it.as_bytes()).ok())
    {
        // Fails for no text that hyper accepts.
        let _ = head.set_reason_phrase(Some(reason));
    }
    head
}
