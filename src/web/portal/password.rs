//! GET, POST /confirm and /reset: what the links in mails open.
//!
//! A GET looks at nothing and consumes nothing: scanners of mail open every link.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;

use crate::account::password::{PasswordSet, WantedPassword};
use crate::model::account::Purpose;
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::api::password::problem;
use crate::web::body::PageForm;
use crate::web::caller::{OwnPage, call};
use crate::web::error::{Kind, Problem};
use crate::web::portal::{PASSWORD, Portal, parameter, see_other, words_of};

#[derive(Serialize)]
struct Filled<'a> {
    prefix: &'a str,
    title: &'static str,
    message: Option<String>,
    /// Whether the form is of any use.
    is_open: bool,
}

impl<'a> Filled<'a> {
    fn new(portal: &'a Portal, purpose: Purpose) -> Self {
        Self {
            prefix: &portal.prefix,
            title: match purpose {
                Purpose::Confirm => "Choose a password",
                Purpose::Reset => "Choose a new password",
            },
            message: None,
            is_open: true,
        }
    }
}

/// The page that ends a registration.
pub(in crate::web) async fn show_confirm(State(portal): State<Arc<Portal>>) -> Response {
    show(&portal, Purpose::Confirm)
}

/// The page that replaces a forgotten password.
pub(in crate::web) async fn show_reset(State(portal): State<Arc<Portal>>) -> Response {
    show(&portal, Purpose::Reset)
}

fn show(portal: &Portal, purpose: Purpose) -> Response {
    portal.page(PASSWORD, &Filled::new(portal, purpose), None)
}

/// Sets the first password.
pub(in crate::web) async fn confirm(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    RawQuery(query): RawQuery,
    form: PageForm,
) -> Result<Response, Problem> {
    set(&portal, &scope, Purpose::Confirm, query.as_deref(), form).await
}

/// Sets a new password.
pub(in crate::web) async fn reset(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    RawQuery(query): RawQuery,
    form: PageForm,
) -> Result<Response, Problem> {
    set(&portal, &scope, Purpose::Reset, query.as_deref(), form).await
}

async fn set(
    portal: &Portal,
    scope: &RequestScope,
    purpose: Purpose,
    query: Option<&str>,
    mut form: PageForm,
) -> Result<Response, Problem> {
    form.only(&["new_password", "verify_password"])?;
    let (Some(new), Some(verify)) = (form.take("new_password"), form.take("verify_password"))
    else {
        let detail = "new_password and verify_password are needed";
        return Err(Problem::because(Kind::BodyMalformed, detail));
    };
    let wanted = WantedPassword {
        new: Secret::new(new),
        verify: Secret::new(verify),
        revoke_keys: false,
    };
    let token = Secret::new(parameter(query, "token").unwrap_or_default());
    let accounts = &scope.snapshot.accounts;
    let outcome = accounts
        .set_password_by_link(&call(scope, None), token.expose(), purpose, wanted)
        .await;
    let problem = match outcome {
        Ok(PasswordSet::Done(_)) => {
            return see_other(&format!("{}?notice=password_set", portal.login_path()));
        }
        Ok(PasswordSet::Refused(refusal)) => problem(&refusal),
        Err(error) => error.into(),
    };
    let is_void = problem.kind == Kind::TokenInvalid;
    let message = if is_void {
        "This link was used already, or it is too old.".to_owned()
    } else {
        words_of(&problem)
    };
    let filled = Filled {
        message: Some(message),
        is_open: !is_void,
        ..Filled::new(portal, purpose)
    };
    Ok(portal.page_of_problem(problem, PASSWORD, &filled, None))
}
