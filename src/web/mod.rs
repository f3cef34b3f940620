//! Floor 5: the gateway's own endpoints over HTTP.
//!
//! A handler reads HTTP, asks one use case of `account`, and writes HTTP. Who is calling is told by the extractors of
//! `caller`, what a refusal looks like by the table in `error`, what every answer carries by `answer`.

mod answer;
mod api;
mod body;
mod caller;
mod error;
mod pace;
#[cfg(test)]
mod test_kit;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post, put};
use tower_http::catch_panic::CatchPanicLayer;

use crate::config::JWKS_PATH;
use crate::snapshot::OWN_BODY_BYTES_MAX;
use crate::web::api::{accounts, jwks, keys, me, members, password, registration, roles, session};

/// Every path that the gateway serves itself, below `prefix` (such as `/auth`) and at [`JWKS_PATH`].
///
/// Each request must carry a [`crate::snapshot::RequestScope`] as an extension: there is no answer but 500 without it.
pub fn router(prefix: &str) -> Router {
    let own = Router::new()
        .route("/register", post(registration::register))
        .route("/password", put(password::set))
        .route("/forgot", post(password::forgot))
        .route("/login", post(session::log_in))
        .route("/token", post(session::refresh))
        .route("/logout", post(session::log_out))
        .route("/sessions", get(session::list).delete(session::end_all))
        .route("/sessions/{id}", get(session::show).delete(session::end))
        .route("/me", get(me::show))
        .route("/methods", get(me::methods))
        .route("/introspect", post(api::introspect::introspect))
        .route("/apikeys", get(keys::list).post(keys::create))
        .route("/apikeys/{id}", get(keys::show).delete(keys::revoke))
        .route("/roles", get(roles::show))
        .route("/members/{resource}/{id}", get(members::list))
        .route(
            "/members/{resource}/{id}/{uid}",
            get(members::show).put(members::set).delete(members::end),
        )
        .route("/accounts", get(accounts::list))
        .route(
            "/accounts/{account_id}",
            get(accounts::show).patch(accounts::change),
        );
    dressed(
        Router::new()
            .nest(prefix, own)
            .route(JWKS_PATH, get(jwks::show)),
    )
}

/// Puts around handlers what every answer needs: limits, and errors as problems whoever causes them.
fn dressed(router: Router) -> Router {
    router
        .fallback(api::not_found)
        .layer(DefaultBodyLimit::max(OWN_BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn(answer::finish))
}
