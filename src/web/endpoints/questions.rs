//! The endpoints of forward-auth.

use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::snapshot::FORWARD_AUTH_PATH;
use crate::web::endpoints::OwnApi;
use crate::web::openapi::{API_KEY, BEARER, COOKIE, Operation, about};

/// Adds the paths that other proxies call.
pub(in crate::web::endpoints) fn forward_auth(api: OwnApi) -> OwnApi {
    let path = FORWARD_AUTH_PATH;
    api.questions(path, question())
        .questions(&format!("{path}/"), question())
        .questions(
            &format!("{path}/{{*target}}"),
            question().takes_rest_of_path(),
        )
}

fn question() -> Operation {
    about("Forward-auth", "", "Asks whether a request may pass that another proxy has got")
        .more("Only proxies in `listen.trusted_proxies` may ask, with the secret if one is set. One field \
            carries the target's path and names the dialect, or several that name the same: `X-Forwarded-Uri` (Traefik, \
            Caddy, HAProxy), `X-Original-URI` or `X-Original-URL` (nginx); without any, the path appended to this one \
            (Envoy), and the request's own method. \
            400 is a mistake of the asking proxy, 401 and 403 are about the request.")
        .open_to(&["", BEARER, COOKIE, API_KEY])
        .reads_field("X-Doorward-Secret", "Shows that the asking proxy is one of ours, if the operator has set a secret.")
        .reads_field("X-Forwarded-Uri", "The target.")
        .reads_field("X-Forwarded-Method", "The method, beside `X-Forwarded-Uri`.")
        .reads_field("X-Original-URI", "The target.")
        .reads_field("X-Original-URL", "The target, absolute.")
        .reads_field("X-Original-Method", "The method, beside the two of nginx.")
        .answers(
            200,
            "It may pass, with these identity headers in place of its own: each is there, empty where there is nothing.",
            None,
        )
        .answers(302, "A browser is to be sent to the login page; to nginx that is 401 with `Location`.", None)
        // The answers are those of the decision core, whose type has no list of failures.
        .refuses(&DenyReason::ALL.map(ErrorCode::DeniedToProxy))
        .refuses(&[ErrorCode::StoreUnavailable, ErrorCode::RoleSourceUnavailable, ErrorCode::SigningUnavailable])
        .refuses(&[ErrorCode::IssuerUnavailable])
}
