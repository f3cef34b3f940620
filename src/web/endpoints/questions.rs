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
    about("Forward-auth", "", "Decides about a request that another proxy has received")
        .more("Only proxies in `listen.trusted_proxies` may ask, and must send the secret if one is set. One field \
            carries the target's path and names the dialect, or several that name the same: `X-Forwarded-Uri` (Traefik, \
            Caddy, HAProxy), `X-Original-URI` or `X-Original-URL` (nginx); without any, the path appended to this one \
            (Envoy), and the request's own method. \
            400 means a mistake of the asking proxy; 401 and 403 are about the request.")
        .open_to(&["", BEARER, COOKIE, API_KEY])
        .reads_field("X-Doorward-Secret", "Authenticates the asking proxy, if the operator has set a secret.")
        .reads_field("X-Forwarded-Uri", "Target of the request.")
        .reads_field("X-Forwarded-Method", "Method of the request, together with `X-Forwarded-Uri`.")
        .reads_field("X-Original-URI", "Target of the request.")
        .reads_field("X-Original-URL", "Target of the request, as an absolute URL.")
        .reads_field("X-Original-Method", "Method of the request, together with the two fields of nginx.")
        .answers(
            200,
            "The request may pass, with these identity headers in place of its own: each is present, and empty if it has no value.",
            None,
        )
        .answers(302, "The browser should be redirected to the login page; for nginx this is 401 with `Location`.", None)
        // The answers are those of the decision core, whose type has no list of failures.
        .refuses(&DenyReason::ALL.map(ErrorCode::DeniedToProxy))
        .refuses(&[ErrorCode::StoreUnavailable, ErrorCode::RoleSourceUnavailable, ErrorCode::SigningUnavailable])
        .refuses(&[ErrorCode::IssuerUnavailable])
}
