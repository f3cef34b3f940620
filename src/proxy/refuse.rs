//! Refusals: a problem document for programs, a page for people.

use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use crate::auth::navigation::wants_page;
use crate::auth::origin::origin_of;
use crate::model::deny::DenyReason;
use crate::proxy::Gateway;
use crate::proxy::context::{RequestProgress, RequestVerdict};
use crate::proxy::respond::{self, ProxyProblem};
use crate::proxy::view::{AdmittedRequest, named_origin};
use crate::snapshot::{RefusalPage, ShownRefusal};

impl Gateway {
    /// Refuses the request and sends the answer. `request` is `None` if its head was refused.
    pub(super) async fn refuse(
        &self,
        session: &mut ServerSession,
        request: Option<&AdmittedRequest>,
        progress: &mut RequestProgress,
        reason: DenyReason,
    ) -> pingora::Result<bool> {
        progress.deny(reason);
        let problem = ProxyProblem::from(reason);
        self.answer(session, request, progress, &problem).await
    }

    /// Sends a problem document to a program, or a page to a person.
    pub(super) async fn answer(
        &self,
        session: &mut ServerSession,
        request: Option<&AdmittedRequest>,
        progress: &mut RequestProgress,
        problem: &ProxyProblem,
    ) -> pingora::Result<bool> {
        progress.status = problem.status;
        let head = session.req_header();
        let refused = progress.refused.as_ref();
        let method = request.map(|request| &request.method);
        let method = method.or_else(|| refused?.method.as_ref());
        let page = if method.is_some_and(|method| wants_page(method, &head.headers)) {
            Box::pin(self.page(head, request, progress, problem)).await
        } else {
            None
        };
        respond::problem(session, problem, progress.id, page).await?;
        Ok(true)
    }

    async fn page(
        &self,
        head: &RequestHeader,
        request: Option<&AdmittedRequest>,
        progress: &RequestProgress,
        problem: &ProxyProblem,
    ) -> Option<RefusalPage> {
        let snapshot = &progress.snapshot;
        let (origin, asked, person) = if let Some(request) = request {
            let target = &request.target;
            let is_own = snapshot.serves_itself(&target.host, &target.path);
            // A query to the gateway's own pages may contain the token of a link, which no page may print.
            let asked = if is_own {
                target.path.as_str()
            } else {
                target.path_and_query.as_str()
            };
            let decided = match &progress.verdict {
                RequestVerdict::Decided(decision) => decision.identity().cloned(),
                _ => None,
            };
            // A request whose decision failed is not decided a second time.
            let person = match decided {
                None if problem.status < 500 => {
                    let (authorizer, client) = (&snapshot.authorizer, request.client.address);
                    authorizer.person(&head.headers, client, is_own).await
                }
                decided => decided,
            };
            (origin_of(request.scheme, &target.authority), asked, person)
        } else {
            // The path has more than one reading, so the page links to the root of the application. It names no person,
            // because the request is refused before it is counted among those that may use the store.
            let refused = progress.refused.as_ref()?;
            (named_origin(head, refused, snapshot)?, "", None)
        };
        self.own.page(&ShownRefusal {
            status: problem.status,
            code: problem.code,
            title: problem.title,
            retry_after_s: problem.retry_after_s(),
            id: progress.id,
            person: person.as_ref().and_then(|person| person.username()),
            asked: (&origin, asked),
            headers: &head.headers,
            snapshot,
        })
    }
}
