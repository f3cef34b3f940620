//! Floor 7: the gateway's own endpoints over HTTP, and forward-auth over gRPC.
//!
//! A handler reads HTTP, calls one use case of `account`, and writes HTTP. The extractors of `caller` recognise the
//! caller, the table in `error` defines refusals, and `finish` adds what every response carries.

mod answer;
mod api;
mod body;
mod caller;
mod cookie;
mod cors;
mod cursor;
mod endpoints;
mod error;
mod finish;
pub mod forward_auth;
mod json_or_form;
mod malformed;
mod openapi;
mod pace;
mod portal;
mod state;
#[cfg(test)]
mod test_kit;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::Response;
use bytes::Bytes;
use http::Request;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::asked::{ForwardAuthQuestion, ForwardedDecision};
use crate::model::id::RequestId;
use crate::snapshot::{OWN_BODY_BYTES_MAX, OwnEndpoints, RefusalPage, ShownRefusal, Snapshot};
use crate::web::openapi::{Api, Documented};
use crate::web::portal::Portal;
use crate::web::state::WebState;

/// The endpoints that the gateway serves itself, below a prefix and at [`crate::config::JWKS_PATH`].
#[derive(Debug)]
pub struct Endpoints {
    router: Router,
    questions: Documented,
    state: WebState,
}

impl Endpoints {
    /// Builds the endpoints below `prefix`, such as `/auth`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self::of(prefix, endpoints::all(prefix))
    }

    fn of(prefix: &str, api: Api<WebState>) -> Self {
        let (router, questions, document) = api.finish();
        let state = WebState {
            portal: Arc::new(Portal::new(prefix)),
            document: Arc::new(document),
        };
        Self {
            router: dressed(router.with_state(state.clone()), Arc::clone(&state.portal)),
            questions,
            state,
        }
    }
}

#[async_trait]
impl OwnEndpoints for Endpoints {
    /// Answers a request; one without a [`crate::snapshot::RequestScope`] gets 500.
    async fn answer(&self, request: Request<Bytes>) -> Response {
        match self.router.clone().oneshot(request.map(Body::from)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn page(&self, refusal: &ShownRefusal<'_>) -> Option<RefusalPage> {
        self.state.portal.refusal(refusal)
    }

    async fn verify(
        &self,
        question: &ForwardAuthQuestion<'_>,
        id: RequestId,
        snapshot: &Snapshot,
    ) -> (Response, ForwardedDecision) {
        let (response, judged) =
            forward_auth::verify(question, snapshot, (id, &self.state.portal)).await;
        self.questions.look(&response, "forward-auth");
        // An allow is read by a proxy on every request and never by a browser, so it carries only the necessary header
        // fields.
        if response.status().is_success() {
            return (response, judged);
        }
        (finish::finished(response, id, Some(snapshot)), judged)
    }
}

/// Wraps the handlers in what every response needs: limits, CORS, and errors as problem documents, whatever their
/// origin.
fn dressed(own: Router, portal: Arc<Portal>) -> Router {
    own.fallback(api::not_found)
        .layer(middleware::from_fn(cors::share))
        .layer(DefaultBodyLimit::max(OWN_BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn_with_state(portal, finish::finish))
}
