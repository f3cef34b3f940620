//! Floor 5: the gateway's own endpoints over HTTP, and forward-auth over gRPC.
//!
//! A handler reads HTTP, asks one use case of `account`, and writes HTTP. Who is calling is told by the extractors of
//! `caller`, what a refusal looks like by the table in `error`, what every answer carries by `answer`.

mod answer;
mod api;
mod body;
mod caller;
mod cookie;
mod cors;
mod endpoints;
mod error;
pub mod forward_auth;
mod openapi;
mod pace;
mod portal;
#[cfg(test)]
mod test_kit;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use tower_http::catch_panic::CatchPanicLayer;

use crate::snapshot::OWN_BODY_BYTES_MAX;
use crate::web::portal::Portal;

/// Every path that the gateway serves itself, below `prefix` (such as `/auth`) and at [`crate::config::JWKS_PATH`].
///
/// Each request must carry a [`crate::snapshot::RequestScope`] as an extension: there is no answer but 500 without it.
pub fn router(prefix: &str) -> Router {
    let (own, questions, document) = endpoints::all(prefix).finish();
    let portal = Arc::new(Portal::new(prefix, document));
    dressed(
        own.with_state(Arc::clone(&portal)),
        questions.with_state(portal),
    )
}

/// Puts around handlers what every answer needs: limits, and errors as problems whoever causes them. Pages of other
/// origins may call `own`; `questions` are about requests to others, so their CORS is none of ours.
fn dressed(own: Router, questions: Router) -> Router {
    own.fallback(api::not_found)
        .layer(middleware::from_fn(cors::share))
        .merge(questions)
        .layer(DefaultBodyLimit::max(OWN_BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn(answer::finish))
}
