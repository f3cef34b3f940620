//! Who is refused is told: a program by a problem document, a person by a page.

use pingora::Error;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::auth::navigation::wants_page;
use crate::auth::origin::origin_of;
use crate::model::deny::DenyReason;
use crate::proxy::Gateway;
use crate::proxy::context::{RequestContext, Stage, Verdict};
use crate::proxy::respond::{self, Problem};
use crate::proxy::view::named_origin;
use crate::snapshot::{Refusal, RefusalPage};

impl Gateway {
    /// Refuses, and says so.
    pub(super) async fn refuse(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        reason: DenyReason,
    ) -> pingora::Result<bool> {
        ctx.deny(reason);
        self.answer(session, ctx, &Problem::from(reason)).await
    }

    /// Answers a program by a problem document, and a person by a page.
    pub(super) async fn answer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        problem: &Problem,
    ) -> pingora::Result<bool> {
        ctx.status = problem.status;
        let head = session.req_header();
        let wants_page = ctx
            .method()
            .is_some_and(|method| wants_page(method, &head.headers));
        let page = if wants_page {
            Box::pin(self.page(head, ctx, problem)).await
        } else {
            None
        };
        respond::problem(session, problem, ctx.id, page)
            .await
            .map_err(Error::into_down)?;
        Ok(true)
    }

    async fn page(
        &self,
        head: &RequestHeader,
        ctx: &RequestContext,
        problem: &Problem,
    ) -> Option<RefusalPage> {
        let request = match &ctx.stage {
            Stage::Admitted(request) => request,
            Stage::Refused(request) => {
                // The page leads to where the application begins, for the path has no one reading. It does not say who is
                // logged in: the request is refused before it has a place among those that may use the store.
                let origin = named_origin(head, request, &ctx.snapshot)?;
                let refusal = told(head, ctx, problem, None, (&origin, ""));
                return self.own.page(&refusal);
            }
            Stage::Arrived => return None,
        };
        let (target, client) = (&request.target, request.downstream.client);
        let headers = &head.headers;
        let snapshot = &ctx.snapshot;
        let origin = origin_of(request.scheme, &target.authority);
        let decided = match &ctx.verdict {
            Verdict::Decided(decision) => decision.identity().cloned(),
            _ => None,
        };
        let is_own = snapshot.serves_itself(&target.host, &target.path);
        // A query of ours may hold the token of a link, which no page prints.
        let asked = if is_own {
            target.path.as_str()
        } else {
            target.path_and_query.as_str()
        };
        // What cannot be decided is not asked once more.
        let person = match decided {
            None if problem.status < 500 => {
                let authorizer = &snapshot.authorizer;
                authorizer.person(headers, client.address, is_own).await
            }
            decided => decided,
        };
        let username = person.as_ref().and_then(|person| person.username());
        let refusal = told(head, ctx, problem, username, (&origin, asked));
        self.own.page(&refusal)
    }
}

/// What a page tells of a problem.
fn told<'a>(
    head: &'a RequestHeader,
    ctx: &'a RequestContext,
    problem: &Problem,
    person: Option<&'a str>,
    asked: (&'a str, &'a str),
) -> Refusal<'a> {
    Refusal {
        status: problem.status,
        code: problem.code,
        title: problem.title,
        retry_after_s: problem.retry_after_s(),
        id: ctx.id,
        person,
        asked,
        headers: &head.headers,
        snapshot: &ctx.snapshot,
    }
}
