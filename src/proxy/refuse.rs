//! Who is refused is told: a program by a problem document, a person by a page.

use http::HeaderMap;
use pingora::Error;
use pingora::proxy::Session;

use crate::auth::navigation::wants_page;
use crate::auth::origin::origin_of;
use crate::model::deny::DenyReason;
use crate::proxy::Gateway;
use crate::proxy::context::{RequestContext, Verdict};
use crate::proxy::respond::{self, Problem};
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
        let headers = &session.req_header().headers;
        let wants_page = ctx
            .method
            .as_ref()
            .is_some_and(|method| wants_page(method, headers));
        let page = if wants_page {
            Box::pin(self.page(headers, ctx, problem)).await
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
        headers: &HeaderMap,
        ctx: &RequestContext,
        problem: &Problem,
    ) -> Option<RefusalPage> {
        let (Some(target), Some(client)) = (&ctx.target, ctx.client) else {
            return None;
        };
        let snapshot = &ctx.snapshot;
        let origin = origin_of(ctx.scheme, &target.authority);
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
        self.own.page(&Refusal {
            status: problem.status,
            code: problem.code,
            title: problem.title,
            retry_after_s: problem.retry_after_s(),
            id: ctx.id,
            person: person.as_ref().and_then(|person| person.username()),
            asked: (&origin, asked),
            headers,
            snapshot,
        })
    }
}
