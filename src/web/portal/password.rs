//! GET, POST /confirm and /reset: what the links in mails open.
//!
//! A GET consumes nothing: scanners of mail open every link.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;

use crate::account::me::IdentityConfirmed;
use crate::account::password::{PasswordSet, WantedPassword};
use crate::model::account::Purpose;
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::api::password::problem;
use crate::web::body::PageForm;
use crate::web::caller::{Anybody, OwnPage, call};
use crate::web::error::{Kind, Problem};
use crate::web::portal::{PASSWORD, Portal, parameter, see_other, words_of};

#[derive(Serialize)]
struct Filled<'a> {
    prefix: &'a str,
    title: &'static str,
    message: Option<String>,
    /// What the button says.
    button: &'static str,
    /// Whether a password is asked for.
    sets_password: bool,
    /// Whether the form is of any use.
    is_open: bool,
}

impl<'a> Filled<'a> {
    fn new(portal: &'a Portal, purpose: Purpose) -> Self {
        let (title, button) = match purpose {
            Purpose::Confirm => ("Choose a password", "Set the password"),
            Purpose::Reset => ("Choose a new password", "Set the password"),
            Purpose::ChangeIdentity => ("Confirm your new address", "Use this address"),
        };
        Self {
            prefix: &portal.prefix,
            title,
            button,
            sets_password: purpose != Purpose::ChangeIdentity,
            message: None,
            is_open: true,
        }
    }
}

/// The page that ends a registration, or makes a new address count: the link tells which.
pub(in crate::web) async fn show_confirm(
    State(portal): State<Arc<Portal>>,
    Anybody(scope): Anybody,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let token = token_in(query.as_deref());
    Ok(show(&portal, confirms(&scope, &token).await?))
}

/// The page that replaces a forgotten password.
pub(in crate::web) async fn show_reset(State(portal): State<Arc<Portal>>) -> Response {
    show(&portal, Purpose::Reset)
}

fn show(portal: &Portal, purpose: Purpose) -> Response {
    portal.page(PASSWORD, &Filled::new(portal, purpose), None)
}

/// Sets the first password, or makes a new address count.
pub(in crate::web) async fn confirm(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    RawQuery(query): RawQuery,
    form: PageForm,
) -> Result<Response, Problem> {
    let token = token_in(query.as_deref());
    match confirms(&scope, &token).await? {
        Purpose::ChangeIdentity => change_identity(&portal, &scope, &token, &form).await,
        purpose => set(&portal, &scope, purpose, &token, form).await,
    }
}

/// The token of a link.
fn token_in(query: Option<&str>) -> Secret {
    Secret::new(parameter(query, "token").unwrap_or_default())
}

/// What a link of the confirm page is for; one that is for nothing any more ends no registration either.
async fn confirms(scope: &RequestScope, token: &Secret) -> Result<Purpose, Problem> {
    let found = scope.snapshot.accounts.token_purpose(token.expose()).await;
    let changes = found? == Some(Purpose::ChangeIdentity);
    Ok(if changes {
        Purpose::ChangeIdentity
    } else {
        Purpose::Confirm
    })
}

async fn change_identity(
    portal: &Portal,
    scope: &RequestScope,
    token: &Secret,
    form: &PageForm,
) -> Result<Response, Problem> {
    form.only(&[])?;
    let accounts = &scope.snapshot.accounts;
    let outcome = accounts
        .confirm_identity(&call(scope, None), token.expose())
        .await?;
    match outcome {
        IdentityConfirmed::Done(_) => {
            see_other(&format!("{}?notice=address_changed", portal.login_path()))
        }
        IdentityConfirmed::Refused => Ok(refused(
            portal,
            Purpose::ChangeIdentity,
            Kind::TokenInvalid.into(),
        )),
    }
}

/// Sets a new password.
pub(in crate::web) async fn reset(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    RawQuery(query): RawQuery,
    form: PageForm,
) -> Result<Response, Problem> {
    let token = token_in(query.as_deref());
    set(&portal, &scope, Purpose::Reset, &token, form).await
}

async fn set(
    portal: &Portal,
    scope: &RequestScope,
    purpose: Purpose,
    token: &Secret,
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
    Ok(refused(portal, purpose, problem))
}

/// The page again, with what is wrong; a link that is void has no form any more.
fn refused(portal: &Portal, purpose: Purpose, problem: Problem) -> Response {
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
    portal.page_of_problem(problem, PASSWORD, &filled, None)
}
