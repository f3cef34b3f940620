//! Dispatch of an admitted request: to the gateway's own endpoints, or to the decision and then to an upstream.

use std::sync::Arc;

use pingora::protocols::http::ServerSession;

use crate::auth::grant::Decision;
use crate::auth::method_override;
use crate::auth::origin::origin_of;
use crate::model::deny::DenyReason;
use crate::proxy::context::{RequestProgress, RequestVerdict};
use crate::proxy::headers::content_length;
use crate::proxy::respond::ProxyProblem;
use crate::proxy::view::AdmittedRequest;
use crate::proxy::{Gateway, local, respond};
use crate::snapshot::{EndpointNotes, RequestScope};

impl Gateway {
    /// Answers by the gateway's own endpoints: either a request to them, or a question by a proxy about another
    /// request.
    pub(super) async fn serve_itself(
        &self,
        session: &mut ServerSession,
        request: &AdmittedRequest,
        progress: &mut RequestProgress,
    ) -> pingora::Result<bool> {
        let AdmittedRequest { target, client, .. } = request;
        let snapshot = Arc::clone(&progress.snapshot);
        if !snapshot.is_clear(&target.path) {
            let reason = DenyReason::PathRefused;
            return self.refuse(session, Some(request), progress, reason).await;
        }
        let notes = Arc::<EndpointNotes>::default();
        progress.verdict = RequestVerdict::Local(Arc::clone(&notes));
        let served = if snapshot.is_question(target.path.as_str()) {
            let about = (progress.id, &*snapshot);
            let answered = local::verify(session, &*self.own, target, *client, about).await?;
            answered.map(|(status, forwarded)| (status, RequestVerdict::Asked(Box::new(forwarded))))
        } else if method_override::is_named(&session.req_header().headers) {
            Err(DenyReason::MethodOverrideRefused)
        } else {
            let scope = RequestScope {
                id: progress.id,
                client: client.address,
                origin: origin_of(request.scheme, &target.authority),
                snapshot,
                notes: Arc::clone(&notes),
            };
            let answered = local::serve(session, &*self.own, target, scope).await?;
            answered.map(|status| (status, RequestVerdict::Local(notes)))
        };
        match served {
            Ok((status, verdict)) => {
                progress.status = status;
                progress.verdict = verdict;
                Ok(true)
            }
            Err(reason) => self.refuse(session, Some(request), progress, reason).await,
        }
    }

    /// Decides the request; returns whether it was answered.
    pub(super) async fn decide(
        &self,
        session: &mut ServerSession,
        request: &AdmittedRequest,
        progress: &mut RequestProgress,
    ) -> pingora::Result<bool> {
        let head = session.req_header();
        let (target, client) = (&request.target, request.client.address);
        let view = target.view(&head.method, request.scheme, client, &head.headers);
        let authorizer = &progress.snapshot.authorizer;
        let decision = authorizer.decide(&view).await;
        let problem = match &decision {
            Decision::Allow(grant) => {
                progress.attempts.first_address = self.balancer.take(grant.route().upstream);
                let bytes_max = progress.snapshot.config.limits.body_bytes_max;
                let length = content_length(&head.headers).unwrap_or(0);
                let is_too_large = bytes_max != 0 && bytes_max < length;
                progress.verdict = RequestVerdict::Decided(decision);
                if is_too_large {
                    let reason = DenyReason::BodyTooLarge;
                    return self.refuse(session, Some(request), progress, reason).await;
                }
                return Ok(false);
            }
            Decision::Deny(denial) => {
                let target = target.path_and_query.as_str();
                if let Some(location) = authorizer.instead_of(denial, &view, target, false) {
                    progress.verdict = RequestVerdict::Decided(decision);
                    progress.status = 302;
                    respond::redirect(session, &location, progress.id).await?;
                    return Ok(true);
                }
                ProxyProblem::from(denial)
            }
            Decision::Fail(cause) => ProxyProblem::from(*cause),
        };
        progress.verdict = RequestVerdict::Decided(decision);
        self.answer(session, Some(request), progress, &problem)
            .await
    }
}
