//! Floor 5: the gateway's own endpoints over HTTP.
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
    let (own, document) = endpoints::all(prefix).finish();
    dressed(own.with_state(Arc::new(Portal::new(prefix, document))))
}

/// Puts around handlers what every answer needs: limits, and errors as problems whoever causes them.
fn dressed(router: Router) -> Router {
    router
        .fallback(api::not_found)
        .layer(DefaultBodyLimit::max(OWN_BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn(cors::share))
        .layer(middleware::from_fn(answer::finish))
}
