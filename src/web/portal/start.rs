//! GET, POST /register and /forgot: how a person without a login, or without its password, gets one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::web::api::{password, registration};
use crate::web::body::PageForm;
use crate::web::caller::{Anybody, OwnPage};
use crate::web::error::{Kind, Problem};
use crate::web::portal::{FORGOT, Portal, REGISTER, may_register, words_of};

/// Longest text of a form that is shown again, in characters.
const SHOWN_CHARS_MAX: usize = 254;

#[derive(Default, Serialize)]
struct Filled {
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
        is_open: true,
        ..Filled::default()
    };
    portal.page(FORGOT, &filled, None)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct RegisterForm {
    identity: String,
    username: String,
    name: String,
}

/// Registers by the form, and leads to the login page, which says what comes next.
pub(in crate::web) async fn register(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    PageForm(form): PageForm<RegisterForm>,
) -> Result<Response, Problem> {
    match registration::registered(&scope, &form.identity, &form.username, &form.name).await {
        Ok(()) => portal.lead_to_login("registered"),
        Err(problem) => {
            let filled = Filled {
                is_open: problem.kind != Kind::RegistrationClosed,
                identity: shown(&form.identity),
                username: shown(&form.username),
                name: shown(&form.name),
                message: None,
            };
            Ok(refused(&portal, REGISTER, problem, filled))
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct ForgotForm {
    /// The name or the address.
    username: String,
}

/// Asks for a link by the form, and leads to the login page, which says what comes next.
pub(in crate::web) async fn forgot(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    PageForm(form): PageForm<ForgotForm>,
) -> Result<Response, Problem> {
    match password::reset_requested(&scope, &form.username).await {
        Ok(()) => portal.lead_to_login("reset_sent"),
        Err(problem) => {
            let filled = Filled {
                is_open: true,
                username: shown(&form.username),
                ..Filled::default()
            };
            Ok(refused(&portal, FORGOT, problem, filled))
        }
    }
}

fn refused(portal: &Portal, page: &str, problem: Problem, filled: Filled) -> Response {
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
