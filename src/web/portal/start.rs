//! GET, POST /register and /forgot: how a person without a login, or without its password, gets one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use crate::snapshot::RequestScope;
use crate::web::api::{password, registration};
use crate::web::body::PageForm;
use crate::web::caller::Anybody;
use crate::web::error::{Kind, Problem};
use crate::web::portal::{FORGOT, Portal, REGISTER, may_register, see_other, words_of};

/// Longest text of a form that is shown again, in characters.
const SHOWN_CHARS_MAX: usize = 254;

#[derive(Default, Serialize)]
struct Filled<'a> {
    prefix: &'a str,
    message: Option<String>,
    /// Whether the form is of any use.
    is_open: bool,
    identity: String,
    username: String,
    name: String,
}

/// The page to register on.
pub(in crate::web) async fn show_register(
    State(portal): State<Arc<Portal>>,
    Anybody(scope): Anybody,
) -> Response {
    let filled = Filled {
        prefix: &portal.prefix,
        is_open: may_register(&scope),
        ..Filled::default()
    };
    if filled.is_open {
        portal.page(REGISTER, &filled, None)
    } else {
        refused(&portal, REGISTER, Kind::RegistrationClosed.into(), filled)
    }
}

/// The page to ask for a link on.
pub(in crate::web) async fn show_forgot(State(portal): State<Arc<Portal>>) -> Response {
    let filled = Filled {
        prefix: &portal.prefix,
        is_open: true,
        ..Filled::default()
    };
    portal.page(FORGOT, &filled, None)
}

/// Registers by the form, and leads to the login page, which says what comes next.
pub(in crate::web) async fn register(
    portal: &Portal,
    scope: &RequestScope,
    mut form: PageForm,
) -> Result<Response, Problem> {
    form.only(&["identity", "username", "name"])?;
    let (Some(identity), Some(username), Some(name)) = (
        form.take("identity"),
        form.take("username"),
        form.take("name"),
    ) else {
        let detail = "identity, username and name are needed";
        return Err(Problem::because(Kind::BodyMalformed, detail));
    };
    match registration::registered(scope, &identity, &username, &name).await {
        Ok(()) => see_other(&format!("{}?notice=registered", portal.login_path())),
        Err(problem) => {
            let filled = Filled {
                prefix: &portal.prefix,
                is_open: problem.kind != Kind::RegistrationClosed,
                identity: shown(&identity),
                username: shown(&username),
                name: shown(&name),
                message: None,
            };
            Ok(refused(portal, REGISTER, problem, filled))
        }
    }
}

/// Asks for a link by the form, and leads to the login page, which says what comes next.
pub(in crate::web) async fn forgot(
    portal: &Portal,
    scope: &RequestScope,
    mut form: PageForm,
) -> Result<Response, Problem> {
    form.only(&["username"])?;
    let Some(name) = form.take("username") else {
        return Err(Problem::because(Kind::BodyMalformed, "username is needed"));
    };
    match password::reset_requested(scope, &name).await {
        Ok(()) => see_other(&format!("{}?notice=reset_sent", portal.login_path())),
        Err(problem) => {
            let filled = Filled {
                prefix: &portal.prefix,
                is_open: true,
                username: shown(&name),
                ..Filled::default()
            };
            Ok(refused(portal, FORGOT, problem, filled))
        }
    }
}

fn refused(portal: &Portal, page: &str, problem: Problem, filled: Filled<'_>) -> Response {
    let message = match problem.kind {
        Kind::NotFound => "There is no such account.".to_owned(),
        _ => words_of(&problem),
    };
    let filled = Filled {
        message: Some(message),
        ..filled
    };
    portal.page_of_problem(problem, page, &filled, None)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}
