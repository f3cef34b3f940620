//! GET, POST /register and /forgot: for people without an account, or without its password.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::register::NewPerson;
use crate::model::error_code::ErrorCode;
use crate::web::api::{password, registration};
use crate::web::body::PageForm;
use crate::web::caller::{AnyRequest, OwnPage};
use crate::web::error::WebProblem;
use crate::web::portal::{FORGOT, Portal, REGISTER, may_register, shown_again, words_of};

#[derive(Default, Serialize)]
struct StartFields {
    message: Option<String>,
    /// Whether the form is shown.
    is_open: bool,
    identity: String,
    username: String,
    name: String,
}

/// Shows the registration page.
pub(in crate::web) async fn show_register(
    State(portal): State<Arc<Portal>>,
    AnyRequest(scope): AnyRequest,
) -> Response {
    let filled = StartFields {
        is_open: may_register(&scope),
        ..StartFields::default()
    };
    if filled.is_open {
        portal.page(REGISTER, &filled, None)
    } else {
        refused(
            &portal,
            REGISTER,
            ErrorCode::RegistrationClosed.into(),
            filled,
        )
    }
}

/// Shows the page to request a reset link.
pub(in crate::web) async fn show_forgot(State(portal): State<Arc<Portal>>) -> Response {
    let filled = StartFields {
        is_open: true,
        ..StartFields::default()
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

/// Registers by the form and redirects to the login page, which says what to do next.
pub(in crate::web) async fn register(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    PageForm(form): PageForm<RegisterForm>,
) -> Result<Response, WebProblem> {
    let person = NewPerson::parse(&form.identity, &form.username, &form.name);
    let registered = match person {
        Ok(person) => registration::registered(&scope, person).await,
        Err(invalid) => Err(invalid.into()),
    };
    match registered {
        Ok(()) => portal.lead_to_login("registered"),
        Err(problem) => {
            let filled = StartFields {
                is_open: problem.kind != ErrorCode::RegistrationClosed,
                identity: shown_again(&form.identity),
                username: shown_again(&form.username),
                name: shown_again(&form.name),
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

/// Requests a reset link by the form and redirects to the login page, which says what to do next.
pub(in crate::web) async fn forgot(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    PageForm(form): PageForm<ForgotForm>,
) -> Result<Response, WebProblem> {
    match password::reset_requested(&scope, &form.username).await {
        Ok(()) => portal.lead_to_login("reset_sent"),
        Err(problem) => {
            let filled = StartFields {
                is_open: true,
                username: shown_again(&form.username),
                ..StartFields::default()
            };
            Ok(refused(&portal, FORGOT, problem, filled))
        }
    }
}

fn refused(portal: &Portal, page: &str, problem: WebProblem, filled: StartFields) -> Response {
    let message = match problem.kind {
        ErrorCode::NotFound => "This account does not exist.".to_owned(),
        _ => words_of(&problem),
    };
    let filled = StartFields {
        message: Some(message),
        ..filled
    };
    portal.page_of_problem(problem, page, &filled, None)
}
