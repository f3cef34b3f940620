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
mod error;
pub mod forward_auth;
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
use axum::routing::{get, post, put};
use tower_http::catch_panic::CatchPanicLayer;

use crate::config::JWKS_PATH;
use crate::snapshot::OWN_BODY_BYTES_MAX;
use crate::web::api::{
    accounts, jwks, keys, me, members, password, registration, roles, session, settings,
};
use crate::web::portal::{Portal, login};

/// Every path that the gateway serves itself, below `prefix` (such as `/auth`) and at [`JWKS_PATH`].
///
/// Each request must carry a [`crate::snapshot::RequestScope`] as an extension: there is no answer but 500 without it.
pub fn router(prefix: &str) -> Router {
    let own = Router::new()
        .route("/register", post(registration::register))
        .route(
            "/password",
            put(password::set)
                .get(portal::change::show)
                .post(portal::change::change),
        )
        .route("/forgot", post(password::forgot))
        .route("/login", get(login::show).post(session::log_in))
        .route("/token", post(session::refresh))
        .route("/logout", post(session::log_out))
        .route("/sessions", get(session::list).delete(session::end_all))
        .route("/sessions/{id}", get(session::show).delete(session::end))
        .route(
            "/confirm",
            get(portal::password::show_confirm).post(portal::password::confirm),
        )
        .route(
            "/reset",
            get(portal::password::show_reset).post(portal::password::reset),
        )
        .route("/assets/portal.css", get(portal::style))
        .route("/me", get(me::show).patch(me::change))
        .route("/me/identity", put(me::confirm_identity))
        .route("/methods", get(me::methods))
        .route("/introspect", post(api::introspect::introspect))
        .route("/apikeys", get(keys::list).post(keys::create))
        .route(
            "/apikeys/{id}",
            get(keys::show).patch(keys::change).delete(keys::revoke),
        )
        .route("/apikeys/{id}/rotate", post(keys::rotate))
        .route("/roles", get(roles::show))
        .route("/roles/refresh", post(roles::refresh))
        .route("/members/{resource}/{id}", get(members::list))
        .route(
            "/members/{resource}/{id}/{uid}",
            get(members::show).put(members::set).delete(members::end),
        )
        .route("/settings/{id}", get(settings::show).put(settings::put))
        .route("/accounts", get(accounts::list).post(accounts::invite))
        .route(
            "/accounts/{account_id}",
            get(accounts::show)
                .patch(accounts::change)
                .delete(accounts::remove),
        )
        .route(
            "/accounts/{account_id}/sessions",
            get(accounts::sessions).delete(accounts::end_sessions),
        );
    dressed(
        Router::new()
            .nest(prefix, own.with_state(Arc::new(Portal::new(prefix))))
            .route(JWKS_PATH, get(jwks::show)),
        forward_auth::router(prefix),
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
