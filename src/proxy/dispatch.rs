//! Where an admitted request goes: to the gateway's own endpoints, or to the decision and then to an upstream.

use std::sync::Arc;

use pingora::Error;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::auth::grant::Decision;
use crate::auth::method_override;
use crate::auth::origin::origin_of;
use crate::model::deny::DenyReason;
use crate::model::id::RequestId;
use crate::proxy::context::{AdmittedRequest, RequestContext, Verdict};
use crate::proxy::respond::Problem;
use crate::proxy::view::is_longer;
use crate::proxy::{Gateway, local, respond};
use crate::snapshot::{OwnNotes, RequestScope, Snapshot};

/// How a request goes on once its head was judged.
pub(super) enum Ending {
    /// It goes to its upstream, of whose addresses this one is tried first.
    Forwarded { first_address: usize },
    /// It was answered, with this status.
    Answered(u16),
    /// A browser is sent elsewhere.
    Redirected(String),
    /// It is refused.
    Refused(DenyReason),
    /// It is answered with this problem, and the verdict says why.
    Problem(Problem),
}

impl Gateway {
    /// Answers by the gateway's own endpoints: a request, or a proxy that asks about one of its own.
    pub(super) async fn serve_itself(
        &self,
        session: &mut Session,
        request: &AdmittedRequest,
        (id, snapshot): (RequestId, &Arc<Snapshot>),
        verdict: &mut Verdict,
    ) -> pingora::Result<Ending> {
        let (target, client) = (&request.target, request.downstream.client);
        if !snapshot.is_clear(&target.path) {
            return Ok(Ending::Refused(DenyReason::PathRefused));
        }
        let notes = Arc::<OwnNotes>::default();
        *verdict = Verdict::Local(Arc::clone(&notes));
        let served = if snapshot.is_question(target.path.as_str()) {
            let about = (id, &**snapshot);
            let asked = local::verify(session, &*self.own, target, client, about).await?;
            asked.map(|(status, judged)| {
                *verdict = Verdict::Asked(Box::new(judged));
                status
            })
        } else {
            if method_override::is_named(&session.req_header().headers) {
                return Ok(Ending::Refused(DenyReason::MethodOverrideRefused));
            }
            let scope = RequestScope {
                id,
                client: client.address,
                origin: origin_of(request.scheme, &target.authority),
                snapshot: Arc::clone(snapshot),
                notes,
            };
            local::serve(session, &*self.own, target, scope).await?
        };
        Ok(served.map_or_else(Ending::Refused, Ending::Answered))
    }

    /// Has the request decided.
    pub(super) async fn decide(
        &self,
        head: &RequestHeader,
        request: &AdmittedRequest,
        snapshot: &Snapshot,
    ) -> (Decision, Ending) {
        let (target, client) = (&request.target, request.downstream.client);
        let view = target.view(&head.method, request.scheme, client.address, &head.headers);
        let decision = snapshot.authorizer.decide(&view).await;
        let ending = match &decision {
            Decision::Allow(grant) => {
                let first_address = self.balancer.take(grant.route().upstream);
                if is_longer(head, snapshot.config.limits.body_bytes_max) {
                    Ending::Refused(DenyReason::BodyTooLarge)
                } else {
                    Ending::Forwarded { first_address }
                }
            }
            Decision::Deny(denial) => {
                let target = target.path_and_query.as_str();
                match snapshot.authorizer.instead_of(denial, &view, target) {
                    Some(location) => Ending::Redirected(location),
                    None => Ending::Problem(Problem::from(denial)),
                }
            }
            Decision::Fail(cause) => Ending::Problem(Problem::from(*cause)),
        };
        (decision, ending)
    }
}

/// Sends a browser elsewhere.
pub(super) async fn redirect(
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
