//! Pages for people, and documents.

use serde_json::json;

use crate::config::JWKS_PATH;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::web::api::jwks;
use crate::web::endpoints::OwnApi;
use crate::web::openapi::{self, COOKIE, JSON, Operation, about};
use crate::web::portal;

const PAGES: &str = "Pages";
const DOCUMENTS: &str = "Documents";

pub(in crate::web::endpoints) fn pages(api: OwnApi) -> OwnApi {
    links(api).get(
        "/login",
        portal::login::show,
        about(PAGES, "showLoginPage", "The login page, or a page that shows who is logged in")
            .open_to(&["", COOKIE])
            .reads("rd", "URL to return to after the login; its origin must be listed by the operator.")
            .reads("as", "`another`: shows the form even if the browser is logged in.")
            .reads(
                "notice",
                "Completed action to confirm: `password_set`, `password_changed`, `address_changed`, `logged_out`, `registered` or \
                 `reset_sent`.",
            )
            .shows_page()
            // The page itself answers every refusal of a credential but this one.
            .refuses(&[DenyReason::RateLimited.into(), ErrorCode::StoreUnavailable, ErrorCode::IssuerUnavailable]),
    )
    .get(
        "/register",
        portal::start::show_register,
        about(PAGES, "showRegisterPage", "The registration page")
            .shows_page()
            // The only refusal of a registration that needs no form.
            .refuses(&[ErrorCode::RegistrationClosed])
            .refuses_on_page(&[403]),
    )
    .get(
        "/forgot",
        portal::start::show_forgot,
        about(PAGES, "showForgotPage", "The page to request a link for a forgotten password").shows_page(),
    )
    .get(
        "/password",
        portal::change::show,
        about(PAGES, "showPasswordPage", "The page that changes the caller's password")
            .open_to(&["", COOKIE])
            .reads("rd", "URL to return to after the change; its origin must be listed by the operator.")
            .shows_page()
            .answers(303, "The browser is not logged in: it is redirected to the login page, and back afterwards.", None)
            .recognises(),
    )
    .post("/password", portal::change::change, change_of_password())
    .get("/assets/portal.css", portal::style, file("getPageStyle", "The style of the pages", "text/css"))
}

/// Adds the pages that the links in mails open.
fn links(api: OwnApi) -> OwnApi {
    let token = |operation: Operation| operation.reads("token", "The token of the link.");
    let passwords =
        json!({ "new_password": { "type": "string" }, "verify_password": { "type": "string" } });
    let posts = |id, summary| {
        token(about(PAGES, id, summary))
            .answers(
                303,
                "Done; the browser is redirected to the login page.",
                None,
            )
            .refuses_on_page(&[400, 422, 503])
    };
    api.get(
        "/confirm",
        portal::password::show_confirm,
        token(about(PAGES, "showConfirmPage", "The page that completes a registration or confirms a new address"))
            .more("It does not consume the token.")
            .shows_page()
            .refuses_on_page(&[400]),
    )
    .post(
        "/confirm",
        portal::password::confirm,
        posts("submitConfirmPage", "Sets the first password, or confirms a new address")
            .more("Only for the page itself, checked by its `Origin`. A registration sends both passwords, an address sends nothing.")
            .takes_form(&passwords, &[]),
    )
    .get(
        "/reset",
        portal::password::show_reset,
        token(about(PAGES, "showResetPage", "The page that replaces a forgotten password"))
            .more("It does not consume the token.")
            .shows_page()
            .refuses_on_page(&[400]),
    )
    .post(
        "/reset",
        portal::password::reset,
        posts("submitResetPage", "Sets a new password")
            .more("Only for the page itself, checked by its `Origin`."),
    )
}

fn change_of_password() -> Operation {
    about(PAGES, "submitPasswordPage", "Changes the caller's password")
        .more("Only for the page itself, checked by its `Origin`.")
        .open_to(&["", COOKIE])
        .answers(
            303,
            "Done, or the browser is not logged in; it is redirected.",
            None,
        )
        .recognises()
        .refuses_on_page(&[403, 409, 422, 429, 503])
}

pub(in crate::web::endpoints) fn documents(api: OwnApi) -> OwnApi {
    let key_set = json!({
        "type": "object", "required": ["keys"],
        "properties": { "keys": { "type": "array", "items": { "type": "object", "required": ["kty"] } } },
    });
    api.get(
        JWKS_PATH,
        jwks::show,
        about(
            DOCUMENTS,
            "getSigningKeys",
            "The public signing keys (RFC 7517)",
        )
        .answers(
            200,
            "The key set.",
            Some(("application/jwk-set+json", key_set)),
        ),
    )
    .get(
        "/openapi.json",
        openapi::document,
        about(DOCUMENTS, "getOpenApiDocument", "This document").answers(
            200,
            "The document.",
            Some((JSON, json!({ "type": "object", "required": ["openapi"] }))),
        ),
    )
    .get(
        "/docs",
        openapi::show,
        about(DOCUMENTS, "showDocs", "A page to try the endpoints").shows_page(),
    )
    .get(
        "/assets/docs.js",
        openapi::script,
        file(
            "getDocsScript",
            "The script of that page",
            "text/javascript",
        ),
    )
    .get(
        "/assets/docs.css",
        openapi::style,
        file("getDocsStyle", "The style of that page", "text/css"),
    )
}

fn file(id: &'static str, summary: &'static str, media_type: &'static str) -> Operation {
    about(DOCUMENTS, id, summary).answers(
        200,
        "The file.",
        Some((media_type, json!({ "type": "string" }))),
    )
}
