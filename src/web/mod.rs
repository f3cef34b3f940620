//! Floor 6: the gateway's own endpoints over HTTP, and forward-auth over gRPC.
//!
//! A handler reads HTTP, asks one use case of `account`, and writes HTTP. Who is calling is told by the extractors of
//! `caller`, what a refusal looks like by the table in `error`, what every answer carries by `finish`.

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

use crate::auth::asked::{Judged, Question};
use crate::model::id::RequestId;
use crate::snapshot::{OWN_BODY_BYTES_MAX, OwnEndpoints, Refusal, RefusalPage, Snapshot};
use crate::web::openapi::{Api, Documented};
use crate::web::portal::Portal;
use crate::web::state::WebState;

/// Everything that the gateway serves itself, below a prefix and at [`crate::config::JWKS_PATH`].
#[derive(Debug)]
pub struct Endpoints {
    router: Router,
    questions: Documented,
    state: WebState,
}

impl Endpoints {
    /// `prefix`: such as `/auth`.
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
    /// There is no answer but 500 to a request without a [`crate::snapshot::RequestScope`].
    async fn answer(&self, request: Request<Bytes>) -> Response {
        match self.router.clone().oneshot(request.map(Body::from)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn page(&self, refusal: &Refusal<'_>) -> Option<RefusalPage> {
        self.state.portal.refusal(refusal)
    }

    async fn verify(
        &self,
        question: &Question<'_>,
        id: RequestId,
        snapshot: &Snapshot,
    ) -> (Response, Judged) {
        let (response, judged) =
            forward_auth::verify(question, snapshot, (id, &self.state.portal)).await;
        self.questions.look(&response, "forward-auth");
        // What lets a request pass is for no browser, and is read once for each request: it says no more than it must.
        if response.status().is_success() {
            return (response, judged);
        }
        (finish::finished(response, id, Some(snapshot)), judged)
    }
}

/// Puts around handlers what every answer needs: limits, CORS, and errors as problems whoever causes them.
fn dressed(own: Router, portal: Arc<Portal>) -> Router {
    own.fallback(api::not_found)
        .layer(middleware::from_fn(cors::share))
        .layer(DefaultBodyLimit::max(OWN_BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn_with_state(portal, finish::finish))
}
