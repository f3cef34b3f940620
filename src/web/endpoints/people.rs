//! Registration, logins, sessions, and the caller's own data.

use serde_json::json;

use crate::web::api::{introspect, me, password, registration, roles, session, settings};
use crate::web::endpoints::OwnApi;
use crate::web::endpoints::examples::{
    JWT, list_example, login_example, me_example, person_example, session_example,
};
use crate::web::json_or_form::json_or_form;
use crate::web::openapi::{JSON, Operation, about};
use crate::web::portal::{login, start};

const REGISTRATION: &str = "Registration and passwords";
const LOGIN: &str = "Login and sessions";
const CALLER: &str = "The caller";
const ACCEPTED: &str = "Accepted; the answer does not depend on what exists.";

pub(in crate::web::endpoints) fn registrations(api: OwnApi) -> OwnApi {
    let person = json!({ "identity": "anna@example.org", "username": "anna", "name": "Anna" });
    let set = json!({
        "reset_token": "the token of the mail",
        "new_password": "correct horse battery", "verify_password": "correct horse battery",
    });
    api.post(
        "/register",
        json_or_form(registration::register, start::register),
        about(REGISTRATION, "register", "Registers a user and mails a token")
            .more("The answer is the same whether or not the name or the address is taken, unless the operator has \
                `account.reveal_existing` set.")
            .with_body(person)
            .answers(202, ACCEPTED, None)
            .with_response(202, json!({ "message": registration::ACCEPTED }))
            .answers(303, "A browser is redirected to the login page, which shows the same.", None)
            .refuses_on_page(&[403, 409, 422, 503]),
    )
    .put(
        "/password",
        password::set,
        about(REGISTRATION, "setPassword", "Sets a password with a mailed token or with the old one")
            .more("Either `reset_token`, or `old_password` with a login. Every other session of the account ends.")
            .with_body(set)
            .with_response(200, person_example()),
    )
    .post(
        "/forgot",
        json_or_form(password::forgot, start::forgot),
        about(REGISTRATION, "requestPasswordReset", "Mails a reset token, if the account exists")
            .more("One of `identity` and `username`. The answer is always the same, unless the operator has \
                `account.reveal_existing` set.")
            .with_body(json!({ "identity": "anna@example.org" }))
            .answers(202, ACCEPTED, None)
            .with_response(202, json!({ "message": password::ACCEPTED }))
            .answers(303, "A browser is redirected to the login page, which shows the same.", None)
            .refuses_on_page(&[404, 503]),
    )
}

pub(in crate::web::endpoints) fn logins(api: OwnApi) -> OwnApi {
    let token_form = json!({
        "grant_type": { "const": "refresh_token" },
        "refresh_token": { "type": "string", "minLength": 1 },
    });
    api.post(
            "/login",
            json_or_form(session::log_in, login::log_in),
            about(LOGIN, "logIn", "Logs in with name or address, and password")
                .more("A program sends JSON and gets tokens. A form comes from the login page: it needs the page's own \
                    `Origin`, sets the session cookie and redirects.")
                .with_body(json!({ "username": "anna", "password": "correct horse battery" }))
                .reads("rd", "URL to redirect the browser to, if the form has none.")
                .answers(200, "Logged in.", None)
                .with_response(200, login_example())
                .answers(303, "The browser is logged in and redirected.", None)
                .refuses_on_page(&[401, 429, 503]),
        )
        .post(
            "/logout",
            json_or_form(session::log_out, login::log_out),
            about(LOGIN, "logOut", "Ends the caller's session")
                .more("A form comes from one of the gateway's own pages: it needs the page's own `Origin`, clears the \
                    cookie and redirects, logged in or not.")
                .open_to(&[""])
                .may_lack_body()
                .answers(204, "The session has ended.", None)
                .answers(303, "The browser's session has ended; it is redirected.", None),
        )
        .post(
            "/token",
            session::refresh,
            about(LOGIN, "refreshTokens", "Refreshes the tokens of a login (RFC 6749 section 6)")
                .more("The refresh token rotates: the old one may be repeated for some seconds and yields the same \
                    successor; after that it ends the session.")
                .takes_form(&token_form, &["grant_type", "refresh_token"])
                .with_response(200, json!({
                    "access_token": JWT, "token_type": "Bearer", "expires_in": 900, "refresh_token": "dwr_…",
                })),
        )
        .post("/introspect", introspect::introspect, introspection())
}

fn introspection() -> Operation {
    let form = json!({
        "token": { "type": "string", "minLength": 1, "description": "A JWT or an API key." },
        "token_type_hint": { "type": "string", "description": "Ignored." },
    });
    about(LOGIN, "introspectToken", "Introspects a token or API key (RFC 7662)")
        .more("An API key may ask about itself, a login about its own account; other questions need the scope `auth:introspect` \
            or an administrator's login. The answer is exactly `{\"active\": false}` for everything that the caller may not know.")
        .takes_form(&form, &["token"])
        .with_response(200, json!({ "active": false }))
}

pub(in crate::web::endpoints) fn sessions(api: OwnApi) -> OwnApi {
    api.get(
        "/sessions",
        session::list,
        about(
            LOGIN,
            "listSessions",
            "Lists the caller's sessions, page by page",
        )
        .with_response(200, list_example(&session_example())),
    )
    .delete(
        "/sessions",
        session::end_all,
        about(
            LOGIN,
            "endSessions",
            "Ends all of the caller's sessions, including this one",
        ),
    )
    .get(
        "/sessions/{id}",
        session::show,
        about(LOGIN, "getSession", "Returns one of the caller's sessions")
            .with_response(200, session_example()),
    )
    .delete(
        "/sessions/{id}",
        session::end,
        about(LOGIN, "endSession", "Ends one of the caller's sessions"),
    )
}

pub(in crate::web::endpoints) fn callers(api: OwnApi) -> OwnApi {
    api.get(
        "/me",
        me::show,
        about(CALLER, "getMe", "Returns the caller's identity, as recognised for this request")
            .more("A foreign identity has no account here, and therefore no `account_id` or `settings_id`.")
            .with_response(200, me_example()),
    )
    .patch(
        "/me",
        me::change,
        about(CALLER, "updateMe", "Changes the caller's name, or mails a token to a new address")
            .more("`name`, or `identity` with `password`. The answer is the same whether or not the address is taken.")
            .with_body(json!({ "name": "Anna A." }))
            .with_response(200, me_example()),
    )
    .put(
        "/me/identity",
        me::confirm_identity,
        about(CALLER, "confirmIdentity", "Confirms the new address with the token mailed to it")
            .with_body(json!({ "token": "the token of the mail" }))
            .with_response(200, person_example()),
    )
    .get(
        "/methods",
        me::methods,
        about(CALLER, "listMethods", "Returns the ways to log in and to register that are open").with_response(200, json!({
            "items": [{ "name": "password" }], "count": 1,
            "policies": { "registration": "open", "password_length_min": 8, "password_classes_min": 3 },
        })),
    )
}

pub(in crate::web::endpoints) fn roles(api: OwnApi) -> OwnApi {
    api.get(
        "/roles",
        roles::show,
        about(CALLER, "listRoles", "Returns the caller's roles, or those of an account that an administrator names")
            .with_response(200, json!({ "roles": ["user", "list-42-invitee", "list-42-member"] })),
    )
    .post(
        "/roles/refresh",
        roles::refresh,
        about(CALLER, "refreshRoles", "Reloads the caller's roles on one resource")
            .more("`changed`: they differ from those of the caller's previous request. `force` bypasses every cache \
                and is rate limited.")
            .with_body(json!({ "resource": "list", "id": "42" }))
            .with_response(200, json!({ "roles": ["list-42-invitee", "list-42-member"], "changed": true })),
    )
    .get(
        "/settings/{id}",
        settings::show,
        about(CALLER, "getSettings", "Returns a settings document: the caller's own or `global`")
            .answers(200, "The document.", Some((JSON, json!({ "type": "object" }))))
            .with_response(200, json!({ "theme": "dark" })),
    )
    .put(
        "/settings/{id}",
        settings::put,
        about(CALLER, "setSettings", "Replaces a settings document")
            .more("At most 16 KiB. `global` is for administrators.")
            .with_body(json!({ "theme": "dark" }))
            .answers(200, "The document.", Some((JSON, json!({ "type": "object" }))))
            .with_response(200, json!({ "theme": "dark" })),
    )
}
