//! Floor 7: Pingora's phases.
//!
//! The life of a request: the [`guard`] checks its head on the connection's stream; a [`context`] is created with the
//! one snapshot that the request uses; `request_filter` reads the target, and either passes the request to the
//! gateway's own endpoints or has it decided; a grant leads to an upstream, any other decision to a problem document.
//! The access record is written when the context is dropped, however the request ends.

pub mod attempt;
pub mod connection;
pub mod context;
mod dispatch;
pub mod exchange;
pub mod guard;
mod handshake;
pub mod headers;
pub mod in_flight;
pub mod local;
pub mod open_ended;
mod refuse;
pub mod respond;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tracing::{error, warn};

use crate::auth::grant::{Decision, Unavailable};
use crate::model::id::RequestIds;
use crate::proxy::attempt::peer;
use crate::proxy::connection::Connection;
use crate::proxy::context::{
    GrantedRequest, RequestContext, RequestFault, RequestProgress, RequestVerdict,
};
use crate::proxy::headers::Forwarding;
use crate::proxy::in_flight::InFlight;
use crate::proxy::respond::{PingoraFailure, ProxyProblem, cause_of};
use crate::proxy::view::admit;
use crate::snapshot::{Current, OwnEndpoints};
use crate::upstream::balancer::Balancer;

/// The proxy, which Pingora calls at each phase.
#[derive(Debug)]
pub struct Gateway {
    current: Arc<Current>,
    own: Arc<dyn OwnEndpoints>,
    balancer: Balancer,
    in_flight: Arc<InFlight>,
    ids: RequestIds,
}

impl Gateway {
    /// Creates a proxy. `own`: the gateway's own endpoints. `echo`: the address of the built-in echo service, if it
    /// runs. `in_flight`: the limit of requests in flight.
    #[must_use]
    pub fn new(
        current: Arc<Current>,
        own: Arc<dyn OwnEndpoints>,
        echo: Option<SocketAddr>,
        in_flight: Arc<InFlight>,
    ) -> Self {
        let metrics = current.load().services.metrics.upstreams.clone();
        Self {
            current,
            own,
            balancer: Balancer::new(echo, metrics),
            in_flight,
            ids: RequestIds::seeded(),
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(self.ids.draw(), self.current.load())
    }

    /// Adds no modules: Pingora's default is a disabled compressor.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<bool> {
        let progress = &mut ctx.progress;
        let Some(connection) = Connection::of(session.digest()).cloned() else {
            // Only the gateway's own streams check heads.
            let cause = "a stream without a guard";
            return Err(Error::explain(ErrorType::InternalError, cause).into_in());
        };
        progress.downstream.is_serial = session.as_http1().is_some();
        let RequestProgress { snapshot, id, .. } = progress;
        let admitted = admit(session, Arc::clone(&connection), snapshot, id)?;
        progress.downstream.connection = Some(Arc::clone(&connection));
        let request = match admitted {
            Ok(request) => ctx.admitted.insert(request),
            Err(refused) => {
                let reason = refused.reason;
                let is_question = progress.snapshot.is_question(&refused.target);
                progress.refused = Some(refused);
                if is_question {
                    progress.deny(reason);
                    let problem = ProxyProblem::for_proxy(reason);
                    return self.answer(session, None, progress, &problem).await;
                }
                return self.refuse(session, None, progress, reason).await;
            }
        };
        progress.downstream.place = self.in_flight.enter(connection.network_requests.get());
        if progress.downstream.place.is_none() {
            let cause = Unavailable::Overloaded;
            let metrics = &progress.snapshot.services.metrics;
            metrics.edge.requests_refused.inc();
            progress.verdict = RequestVerdict::Decided(Decision::Fail(cause));
            let problem = ProxyProblem::from(cause);
            return self
                .answer(session, Some(request), progress, &problem)
                .await;
        }
        let target = &request.target;
        if progress.snapshot.serves_itself(&target.host, &target.path) {
            self.serve_itself(session, request, progress).await
        } else {
            self.decide(session, request, progress).await
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<Box<HttpPeer>> {
        ctx.progress.begin_attempt();
        let upstream = ctx.granted()?.upstream;
        let RequestProgress {
            id,
            snapshot,
            attempts,
            ..
        } = &ctx.progress;
        let (place, now) = (attempts.next_address(), snapshot.services.clock.elapsed());
        let address = self.balancer.address(upstream, place, now);
        let address = address.ok_or_else(|| {
            Error::explain(
                ErrorType::ConnectNoRoute,
                "the built-in echo is not running",
            )
            .into_up()
        })?;
        let is_handshake = session.is_upgrade_req();
        let fresh = (attempts.is_resent || is_handshake).then_some(*id);
        let mut peer = peer(upstream, address, &snapshot.config.limits, fresh);
        if is_handshake {
            handshake::prepare(&mut peer);
        }
        ctx.progress.attempts.current.address = Some(address);
        Ok(Box::new(peer))
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        digest: Option<&Digest>,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let socket = digest.and_then(|digest| digest.socket_digest.as_ref());
        let progress = &mut ctx.progress;
        if let Some(exchange) = &progress.downstream.exchange
            && !session.is_body_done()
        {
            exchange.sends_to(socket.map(Arc::clone));
        }
        if reused {
            let attempt = &mut progress.attempts.current;
            return attempt.check_kept(socket.map(Arc::as_ref));
        }
        progress.note_connected(&self.balancer.ejections);
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut e: Box<Error>,
    ) -> Box<Error> {
        let progress = &mut ctx.progress;
        let upstream = progress.upstream();
        if let Some(upstream) = upstream {
            progress.note_failed(&self.balancer.ejections, upstream, e.etype());
        }
        let has_another = upstream.is_some_and(|upstream| 1 < upstream.addresses.len());
        // Nothing was sent, so a request of any method may try the next address, once.
        progress.attempts.failed_connects += 1;
        e.set_retry(progress.attempts.failed_connects == 1 && has_another);
        e
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
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
        headers::to_upstream(upstream_request, &forwarding, grant.identity_headers());
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let progress = &mut ctx.progress;
        let attempt = &mut progress.attempts.current;
        attempt.is_body_begun = true;
        // INVARIANT: a body ends once. Pingora would write an empty last piece as the chunk that ends a body, and then
        // end the body again (tests/it: a_body_ends_once_at_the_upstream_whatever_it_came_in).
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let bytes_max = progress.snapshot.config.limits.body_bytes_max;
        let bytes = body.as_ref().map_or(0, |piece| piece.len() as u64);
        attempt.body_bytes += bytes;
        if let Some(exchange) = &progress.downstream.exchange {
            exchange.body_came(bytes, end_of_stream);
        }
        if bytes_max != 0 && bytes_max < attempt.body_bytes && !session.was_upgraded() {
            return Err(Error::explain(
                ErrorType::HTTPStatus(413),
                "the body is too large",
            ));
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        upstream_response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let status = upstream_response.status;
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        let is_asked_for = !is_switch || session.is_upgrade_req();
        if !is_asked_for || !headers::is_framed_once(upstream_response) {
            return Err(
                Error::explain(ErrorType::InvalidHTTPHeader, "ambiguous framing").into_up(),
            );
        }
        let progress = &mut ctx.progress;
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
        headers::to_caller(upstream_response, &progress.snapshot.strip, progress.id)?;
        respond::fit_version(session, upstream_response);
        if !status.is_informational() {
            // Kept connections count too: otherwise an address with long-lived connections would remain ejected.
            progress.note_connected(&self.balancer.ejections);
            respond::announce_end(session);
            progress.begin_answer(open_ended::stream_age(upstream_response));
            if respond::is_bodyless(session, upstream_response) {
                progress.downstream.end_answer();
            }
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> pingora::Result<Option<Duration>> {
        if end_of_stream {
            ctx.progress.downstream.end_answer();
        }
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut RequestContext,
        client_reused: bool,
    ) -> Box<Error> {
        let attempts = &mut ctx.progress.attempts;
        let may_resend = attempts.may_resend(session, &mut e, client_reused);
        attempts.is_resent = true;
        e.set_retry(may_resend);
        e
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        let RequestContext { admitted, progress } = ctx;
        let connection = progress.downstream.connection.as_ref();
        let body_fault = connection.and_then(|it| it.body_fault.get());
        let cause = match (cause_of(e), body_fault) {
            (PingoraFailure::CallerGone, Some(reason)) => PingoraFailure::Refused(*reason),
            (other, _) => other,
        };
        let problem = match cause {
            PingoraFailure::Refused(reason) => {
                progress.deny(reason);
                Some(ProxyProblem::from(reason))
            }
            PingoraFailure::Upstream(problem) => {
                let name = progress.upstream().map_or("", |upstream| &upstream.name);
                let address = progress.attempts.current.address;
                warn!(request.id = %progress.id, upstream.name = name, code = problem.code.as_str(), cause = e.etype().as_str(), address = address.map(tracing::field::display), "an upstream failed");
                progress.fault = Some(RequestFault::Upstream(problem.code));
                Some(problem)
            }
            PingoraFailure::CallerGone => {
                progress.fault = Some(RequestFault::Caller);
                None
            }
            PingoraFailure::Own(problem) => {
                error!(request.id = %progress.id, cause = e.etype().as_str(), context = e.context.as_ref().map_or("", |it| it.as_str()), "a request failed in the gateway");
                progress.fault = Some(RequestFault::Own);
                Some(problem)
            }
        };
        let is_open = session
            .response_written()
            .is_none_or(|head| head.status.is_informational() && head.status != 101);
        if let Some(problem) = problem.filter(|_| is_open) {
            session.set_keepalive(None);
            // The caller may be gone by now; then nothing needs to be done.
            let _ = self
                .answer(session, admitted.as_ref(), progress, &problem)
                .await;
            if session.as_http1().is_some() {
                session.shutdown().await;
            }
        }
        FailToProxy {
            error_code: progress.status,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut RequestContext) {
        ctx.progress.bytes_sent = session.body_bytes_sent() as u64;
    }

    /// Suppresses Pingora's own log lines, which contain the query. The gateway logs an error where it handles it.
    fn suppress_error_log(
        &self,
        _session: &Session,
        _ctx: &RequestContext,
        _error: &Error,
    ) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &RequestContext,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, _session: &Session, ctx: &RequestContext) -> String {
        ctx.progress.id.to_string()
    }
}
