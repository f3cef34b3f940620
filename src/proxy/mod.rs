//! Floor 6: Pingora's phases.
//!
//! The life of a request: the stream lets a head through that the [`guard`] found sound; a context is born and takes the
//! one snapshot that the request sees; `request_filter` reads what is asked for and either hands it to the gateway's own
//! endpoints, or has it decided; a grant leads to an upstream, everything else to a problem. The record is written when
//! the context is dropped, on every way out.

pub mod attempt;
pub mod connection;
pub mod context;
pub mod exchange;
pub mod guard;
mod handshake;
pub mod headers;
pub mod in_flight;
pub mod local;
pub mod open_ended;
pub mod peer;
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
use crate::auth::method_override;
use crate::auth::origin::origin_of;
use crate::model::deny::DenyReason;
use crate::model::id::RequestIds;
use crate::model::route::Upstream;
use crate::proxy::context::{Fault, RequestContext, Verdict};
use crate::proxy::headers::Forwarding;
use crate::proxy::in_flight::InFlight;
use crate::proxy::respond::{Cause, Problem, cause_of};
use crate::proxy::view::{admit, is_longer};
use crate::snapshot::{Current, OwnEndpoints, OwnNotes, RequestScope};
use crate::upstream::balancer::Balancer;

/// The proxy: what Pingora asks at each phase.
#[derive(Debug)]
pub struct Gateway {
    current: Arc<Current>,
    own: Arc<dyn OwnEndpoints>,
    balancer: Balancer,
    in_flight: Arc<InFlight>,
    ids: RequestIds,
}

impl Gateway {
    /// `own`: the gateway's own endpoints. `echo`: where the built-in echo service listens, if it runs. `in_flight`: how many
    /// requests may be.
    #[must_use]
    pub fn new(
        current: Arc<Current>,
        own: Arc<dyn OwnEndpoints>,
        echo: Option<SocketAddr>,
        in_flight: Arc<InFlight>,
    ) -> Self {
        Self {
            current,
            own,
            balancer: Balancer::new(echo),
            in_flight,
            ids: RequestIds::seeded(),
        }
    }

    /// Answers by the gateway's own endpoints: a request, or a proxy that asks about one of its own.
    async fn serve_itself(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<bool> {
        let (Some(target), Some(client)) = (&ctx.target, ctx.client) else {
            return Ok(false);
        };
        if !ctx.snapshot.is_clear(&target.path) {
            return self.refuse(session, ctx, DenyReason::PathRefused).await;
        }
        let notes = Arc::<OwnNotes>::default();
        ctx.verdict = Verdict::Local(Arc::clone(&notes));
        let served = if ctx.snapshot.is_question(target.path.as_str()) {
            let about = (ctx.id, &*ctx.snapshot);
            let asked = local::verify(session, &*self.own, target, client, about).await?;
            asked.map(|(status, judged)| (status, Verdict::Asked(Box::new(judged))))
        } else {
            if method_override::is_named(&session.req_header().headers) {
                return self
                    .refuse(session, ctx, DenyReason::MethodOverrideRefused)
                    .await;
            }
            let scope = RequestScope {
                id: ctx.id,
                client: client.address,
                origin: origin_of(ctx.scheme, &target.authority),
                snapshot: Arc::clone(&ctx.snapshot),
                notes: Arc::clone(&notes),
            };
            let answered = local::serve(session, &*self.own, target, scope).await?;
            answered.map(|status| (status, Verdict::Local(notes)))
        };
        match served {
            Ok((status, verdict)) => {
                ctx.status = status;
                ctx.verdict = verdict;
                Ok(true)
            }
            Err(reason) => self.refuse(session, ctx, reason).await,
        }
    }

    /// Has the request decided; `true`: it was answered.
    async fn decide(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<bool> {
        let (Some(target), Some(client)) = (&ctx.target, ctx.client) else {
            return Ok(false);
        };
        let head = session.req_header();
        let view = target.view(&head.method, ctx.scheme, client.address, &head.headers);
        match ctx.snapshot.authorizer.decide(&view).await {
            Decision::Allow(grant) => {
                ctx.first_address = self.balancer.take(grant.route().upstream);
                let is_too_large = is_longer(head, ctx.snapshot.config.limits.body_bytes_max);
                ctx.verdict = Verdict::Decided(Decision::Allow(grant));
                if is_too_large {
                    return self.refuse(session, ctx, DenyReason::BodyTooLarge).await;
                }
                Ok(false)
            }
            Decision::Deny(denial) => {
                let problem = Problem::from(&denial);
                let target = target.path_and_query.as_str();
                let instead = ctx.snapshot.authorizer.instead_of(&denial, &view, target);
                ctx.verdict = Verdict::Decided(Decision::Deny(denial));
                if let Some(location) = instead {
                    return redirect(session, ctx, &location).await;
                }
                self.answer(session, ctx, &problem).await
            }
            Decision::Fail(cause) => {
                ctx.verdict = Verdict::Decided(Decision::Fail(cause));
                self.answer(session, ctx, &Problem::from(cause)).await
            }
        }
    }
}

/// Sends a browser elsewhere.
async fn redirect(
    session: &mut Session,
    ctx: &mut RequestContext,
    location: &str,
) -> pingora::Result<bool> {
    ctx.status = 302;
    respond::redirect(session, location, ctx.id)
        .await
        .map_err(Error::into_down)?;
    Ok(true)
}

/// The upstream that a granted request goes to. None without a grant: this is where that rule holds.
// INVARIANT: nothing reaches an upstream without a grant (tests/it: every refusal's upstream log is empty).
fn granted_upstream(ctx: &RequestContext) -> pingora::Result<&Upstream> {
    let upstream = ctx
        .grant()
        .and_then(|grant| ctx.snapshot.config.upstreams.get(grant.route().upstream));
    upstream.ok_or_else(|| Error::explain(ErrorType::InternalError, "no grant").into_in())
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(self.ids.draw(), self.current.load())
    }

    /// No modules: the default one would compress answers.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<bool> {
        if let Err(reason) = admit(session, ctx)? {
            if ctx.snapshot.is_question(&ctx.raw_target) {
                ctx.deny(reason);
                return self.answer(session, ctx, &Problem::for_proxy(reason)).await;
            }
            return self.refuse(session, ctx, reason).await;
        }
        let network = ctx.connection.as_ref().and_then(|it| it.network_requests());
        ctx.place = self.in_flight.enter(network);
        if ctx.place.is_none() {
            let cause = Unavailable::Overloaded;
            ctx.snapshot.services.metrics.edge().requests_refused.inc();
            ctx.verdict = Verdict::Decided(Decision::Fail(cause));
            return self.answer(session, ctx, &Problem::from(cause)).await;
        }
        let is_own = ctx
            .target
            .as_ref()
            .is_some_and(|target| ctx.snapshot.serves_itself(&target.host, &target.path));
        if is_own {
            self.serve_itself(session, ctx).await
        } else {
            self.decide(session, ctx).await
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<Box<HttpPeer>> {
        ctx.begin_attempt();
        let upstream = granted_upstream(ctx)?;
        let place = ctx.first_address.wrapping_add(ctx.failed_connects);
        let now = ctx.snapshot.services.clock.elapsed();
        let address = self.balancer.address(upstream, place, now).ok_or_else(|| {
            Error::explain(ErrorType::ConnectNoRoute, "the built-in echo does not run").into_up()
        })?;
        let limits = &ctx.snapshot.config.limits;
        let is_handshake = session.is_upgrade_req();
        let fresh = (ctx.is_resent || is_handshake).then_some(ctx.id);
        let mut peer = peer::peer(upstream, address, limits, fresh);
        if is_handshake {
            handshake::prepare(&mut peer);
        }
        ctx.attempt.address = Some(address);
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
        if let Some(exchange) = &ctx.exchange
            && !session.is_body_done()
        {
            exchange.sends_to(socket.map(Arc::clone));
        }
        if reused {
            return ctx.attempt.check_kept(socket.map(Arc::as_ref));
        }
        attempt::note_connected(ctx, self.balancer.ejections());
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut e: Box<Error>,
    ) -> Box<Error> {
        if let Ok(upstream) = granted_upstream(ctx) {
            attempt::note_failed(ctx, upstream, self.balancer.ejections(), e.etype());
        }
        // Nothing was sent, so any method may try the next address, once.
        ctx.failed_connects += 1;
        let has_another = granted_upstream(ctx).is_ok_and(|upstream| 1 < upstream.addresses.len());
        e.set_retry(ctx.failed_connects == 1 && has_another);
        e
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let (Some(grant), Some(target), Some(connection), Some(client)) =
            (ctx.grant(), &ctx.target, &ctx.connection, ctx.client)
        else {
            return Err(Error::explain(ErrorType::InternalError, "no grant").into_in());
        };
        let forwarding = Forwarding {
            strip: &ctx.snapshot.strip,
            route: grant.route(),
            target,
            scheme: ctx.scheme,
            request_id: ctx.id,
            peer: connection.peer_value(),
            believed: client.believed,
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
        ctx.attempt.is_body_begun = true;
        // INVARIANT: a body ends once. Pingora would write an empty last piece as the chunk that ends a body, and then end
        // the body (tests/it: a_body_ends_once_at_the_upstream_whatever_it_came_in).
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let bytes_max = ctx.snapshot.config.limits.body_bytes_max;
        let bytes = body.as_ref().map_or(0, |piece| piece.len() as u64);
        ctx.attempt.body_bytes += bytes;
        if let Some(exchange) = &ctx.exchange {
            exchange.body_came(bytes, end_of_stream);
        }
        if bytes_max != 0 && bytes_max < ctx.attempt.body_bytes && !session.was_upgraded() {
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
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "doubtful framing").into_up());
        }
        if is_switch || !status.is_informational() {
            ctx.status = status.as_u16();
        }
        if is_switch && let Some(connection) = &ctx.connection {
            connection.upgrade();
        }
        headers::to_caller(upstream_response, &ctx.snapshot.strip, ctx.id)?;
        respond::fit_version(session, upstream_response);
        if status == StatusCode::CONTINUE {
            ctx.begin_body();
        } else if !status.is_informational() {
            // By a kept connection too: otherwise an address whose connections last would stay skipped.
            attempt::note_connected(ctx, self.balancer.ejections());
            respond::announce_end(session);
            ctx.begin_answer(open_ended::stream_age(upstream_response));
            if respond::is_bodyless(session, upstream_response) {
                ctx.end_answer();
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
            ctx.end_answer();
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
        let may_resend = attempt::may_resend(session, ctx, &mut e, client_reused);
        ctx.is_resent = true;
        e.set_retry(may_resend);
        e
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        let connection = ctx.connection.as_ref();
        let cause = match (cause_of(e), connection) {
            (Cause::CallerGone, Some(it)) if it.is_body_malformed() => {
                Cause::Refused(DenyReason::RequestMalformed)
            }
            (Cause::CallerGone, Some(it)) if it.is_body_late() => {
                Cause::Refused(DenyReason::BodyTimeout)
            }
            (other, _) => other,
        };
        let problem = match cause {
            Cause::Refused(reason) => {
                ctx.deny(reason);
                Some(Problem::from(reason))
            }
            Cause::Upstream(problem) => {
                let name = granted_upstream(ctx).map_or("", |upstream| &upstream.name);
                warn!(request.id = %ctx.id, upstream.name = name, code = problem.code.as_str(), cause = e.etype().as_str(), address = ctx.attempt.address.map(tracing::field::display), "an upstream failed");
                ctx.fault = Some(Fault::Upstream(problem.code));
                Some(problem)
            }
            Cause::CallerGone => {
                ctx.fault = Some(Fault::Caller);
                None
            }
            Cause::Own(problem) => {
                error!(request.id = %ctx.id, cause = e.etype().as_str(), context = e.context.as_ref().map_or("", |it| it.as_str()), "a request failed here");
                ctx.fault = Some(Fault::Own);
                Some(problem)
            }
        };
        let is_open = session
            .response_written()
            .is_none_or(|head| head.status.is_informational() && head.status != 101);
        if let Some(problem) = problem.filter(|_| is_open) {
            session.set_keepalive(None);
            // The caller may be gone by now: then there is no one to tell.
            let _ = self.answer(session, ctx, &problem).await;
            if session.as_http1().is_some() {
                session.shutdown().await;
            }
        }
        FailToProxy {
            error_code: ctx.status,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut RequestContext) {
        ctx.bytes_sent = session.body_bytes_sent() as u64;
    }

    /// Pingora's own lines carry the query; ours are written where the error is handled.
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
        ctx.id.to_string()
    }
}
