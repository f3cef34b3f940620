//! Floor 7: requests, from the head to the end of the response.
//!
//! The life of a request: the [`guard`] checks its head on the connection's stream; a [`context`] is created with the
//! one snapshot that the request uses; the gateway reads the target, and either passes the request to its own endpoints
//! or decides it; a grant leads to an upstream, any other decision to a problem document. Pingora reads the request and
//! writes the response; hyper, behind `upstream`, speaks to the upstream. The access record is written when the context
//! is dropped, however the request ends.

pub mod attempt;
pub mod connection;
pub mod context;
mod dispatch;
pub mod exchange;
mod forward;
pub mod guard;
pub mod headers;
pub mod in_flight;
pub mod local;
pub mod open_ended;
mod refuse;
pub mod respond;
mod tunnel;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;

use pingora::ErrorType;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use tracing::{error, warn};

use crate::auth::grant::{Decision, Unavailable};
use crate::model::id::RequestIds;
use crate::proxy::connection::Connection;
use crate::proxy::context::{RequestContext, RequestFault, RequestProgress, RequestVerdict};
use crate::proxy::in_flight::InFlight;
use crate::proxy::respond::{ProxyFailure, ProxyProblem};
use crate::proxy::view::admit;
use crate::snapshot::{Current, OwnEndpoints};
use crate::upstream::balancer::Balancer;
use crate::upstream::pool::Pool;

/// The proxy, which serves one request at a time of a connection or of an HTTP/2 stream.
#[derive(Debug)]
pub struct Gateway {
    current: Arc<Current>,
    own: Arc<dyn OwnEndpoints>,
    balancer: Balancer,
    pool: Arc<Pool>,
    in_flight: Arc<InFlight>,
    ids: RequestIds,
}

impl Gateway {
    /// Creates a proxy. `own`: the gateway's own endpoints. `echo`: the address of the built-in echo service, if it
    /// runs. `pool`: the idle connections to upstreams. `in_flight`: the limit of requests in flight.
    #[must_use]
    pub fn new(
        current: Arc<Current>,
        own: Arc<dyn OwnEndpoints>,
        echo: Option<SocketAddr>,
        pool: Arc<Pool>,
        in_flight: Arc<InFlight>,
    ) -> Self {
        let metrics = current.load().services.metrics.upstreams.clone();
        Self {
            current,
            own,
            balancer: Balancer::new(echo, metrics),
            pool,
            in_flight,
            ids: RequestIds::seeded(),
        }
    }

    /// Serves the next request of an HTTP/1 connection, or the request of an HTTP/2 stream. Returns the connection if
    /// another request may follow on it.
    pub async fn serve(&self, mut session: ServerSession) -> Option<Stream> {
        if !read_head(&mut session).await {
            return None;
        }
        let mut ctx = RequestContext::new(self.ids.draw(), self.current.load());
        let served = self.respond(&mut session, &mut ctx).await;
        let is_served = served.is_ok();
        if let Err(failure) = served {
            self.fail(&mut session, &mut ctx, failure).await;
        }
        ctx.progress.bytes_sent = session.body_bytes_sent() as u64;
        if !is_served {
            return None;
        }
        // The context is dropped after this: only then may the next head be read.
        let reusable = session.finish().await.ok().flatten()?;
        Some(reusable.into_parts().0)
    }

    async fn respond(
        &self,
        session: &mut ServerSession,
        ctx: &mut RequestContext,
    ) -> Result<(), ProxyFailure> {
        let is_answered = self.answer_itself(session, ctx).await?;
        if !is_answered {
            self.forward(session, ctx).await?;
        }
        Ok(())
    }

    /// Answers the request, unless it is granted; returns whether it did.
    async fn answer_itself(
        &self,
        session: &mut ServerSession,
        ctx: &mut RequestContext,
    ) -> Result<bool, ProxyFailure> {
        let progress = &mut ctx.progress;
        let Some(connection) = Connection::of(session.digest()).cloned() else {
            // Only the gateway's own streams check heads.
            return Err(ProxyFailure::own("a stream without a guard"));
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
                    return Ok(self.answer(session, None, progress, &problem).await?);
                }
                return Ok(self.refuse(session, None, progress, reason).await?);
            }
        };
        progress.downstream.place = self.in_flight.enter(connection.network_requests.get());
        if progress.downstream.place.is_none() {
            let cause = Unavailable::Overloaded;
            let metrics = &progress.snapshot.services.metrics;
            metrics.edge.requests_refused.inc();
            progress.verdict = RequestVerdict::Decided(Decision::Fail(cause));
            let problem = ProxyProblem::from(cause);
            let answered = self.answer(session, Some(request), progress, &problem);
            return Ok(answered.await?);
        }
        let target = &request.target;
        if progress.snapshot.serves_itself(&target.host, &target.path) {
            Ok(self.serve_itself(session, request, progress).await?)
        } else {
            Ok(self.decide(session, request, progress).await?)
        }
    }

    /// Records a failure, and answers it if no response has begun. The connection is not used again.
    async fn fail(
        &self,
        session: &mut ServerSession,
        ctx: &mut RequestContext,
        failure: ProxyFailure,
    ) {
        let RequestContext { admitted, progress } = ctx;
        let connection = progress.downstream.connection.as_ref();
        let body_fault = connection.and_then(|it| it.body_fault.get());
        let failure = match (failure, body_fault) {
            (ProxyFailure::CallerGone, Some(reason)) => ProxyFailure::Refused(*reason),
            (other, _) => other,
        };
        let problem = match failure {
            ProxyFailure::Refused(reason) => {
                progress.deny(reason);
                ProxyProblem::from(reason)
            }
            ProxyFailure::Upstream(failure) => {
                let name = progress.upstream().map_or("", |upstream| &upstream.name);
                let address = progress.attempts.current.address;
                let code = failure.kind.code();
                warn!(request.id = %progress.id, upstream.name = name, code = code.as_str(), cause = failure.kind.as_str(), address = address.map(tracing::field::display), "an upstream failed");
                progress.fault = Some(RequestFault::Upstream(code));
                code.into()
            }
            ProxyFailure::CallerGone => {
                progress.fault = Some(RequestFault::Caller);
                return;
            }
            ProxyFailure::Own(e) => {
                error!(request.id = %progress.id, cause = e.etype().as_str(), context = e.context.as_ref().map_or("", |it| it.as_str()), "a request failed in the gateway");
                progress.fault = Some(RequestFault::Own);
                ProxyProblem::own()
            }
        };
        let is_open = session
            .response_written()
            .is_none_or(|head| head.status.is_informational() && head.status != 101);
        if is_open {
            session.set_keepalive(None);
            // The caller may be gone by now; then nothing needs to be done.
            let _ = self
                .answer(session, admitted.as_ref(), progress, &problem)
                .await;
            if session.as_http1().is_some() {
                respond::linger(session);
                session.shutdown().await;
            }
        }
    }
}

/// Reads the head of the next request; returns whether there is one. A head that Pingora rejects is answered here.
async fn read_head(session: &mut ServerSession) -> bool {
    let answered = match session.read_request().await {
        Ok(has_come) => return has_come,
        Err(error) if *error.etype() == ErrorType::InvalidHTTPHeader => 400,
        Err(_) => return false,
    };
    // The caller may be gone by now; then nothing needs to be done.
    let _ = session.respond_error(answered).await;
    session.shutdown().await;
    false
}
