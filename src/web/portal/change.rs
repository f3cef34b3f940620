//! GET, POST /password: a person logged in by a cookie changes the password, by choice or because they must.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::password::{PasswordChangeRefusal, WantedPassword};
use crate::auth::grant::Stop;
use crate::auth::return_to::LoginDestination;
use crate::model::deny::DenyReason;
use crate::model::identity::{AuthnMethod, Identity};
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::body::PageForm;
use crate::web::caller::{AnyRequest, OwnPage, call, owes_password, own_view, session_of};
use crate::web::error::{Refused, WebProblem};
use crate::web::portal::{
    CHANGE, Portal, destination, in_query, parameter, password_rules, see_other, words_of,
};

#[derive(Serialize)]
struct ChangeFields<'a> {
    /// The name of the logged-in person.
    person: &'a str,
    must_change: bool,
    /// The rules for a new password.
    rules: String,
    /// The error message.
    message: Option<String>,
    back: Option<&'a str>,
}

impl<'a> ChangeFields<'a> {
    fn new(
        scope: &RequestScope,
        identity: &'a Identity,
        back: Option<&'a LoginDestination>,
    ) -> Self {
        Self {
            rules: password_rules(scope),
            person: identity.username().unwrap_or_default(),
            must_change: owes_password(identity),
            message: None,
            back: back.map(|back| back.url.as_str()),
        }
    }
}

/// Shows the page that changes the password; without a login, redirects to the login page first.
pub(in crate::web) async fn show(
    State(portal): State<Arc<Portal>>,
    AnyRequest(scope): AnyRequest,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, WebProblem> {
    let back = destination(&scope, parameter(query.as_deref(), "rd"));
    let Some(identity) = logged_in(&scope, &Method::GET, &headers).await? else {
        return to_login(&portal, back.as_ref());
    };
    let filled = ChangeFields::new(&scope, &identity, back.as_ref());
    Ok(portal.page(CHANGE, &filled, back.as_ref()))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct ChangeForm {
    #[schemars(with = "String")]
    old_password: Secret,
    #[schemars(with = "String")]
    new_password: Secret,
    #[schemars(with = "String")]
    verify_password: Secret,
    /// Where the browser is led to, if the operator lists its origin.
    rd: Option<String>,
}

/// Changes the password and redirects.
pub(in crate::web) async fn change(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    headers: HeaderMap,
    PageForm(form): PageForm<ChangeForm>,
) -> Result<Response, Refused<PasswordChangeRefusal>> {
    let back = destination(&scope, form.rd);
    let found = logged_in(&scope, &Method::POST, &headers).await?;
    let login = found.as_deref().and_then(|it| Some((it, session_of(it)?)));
    let Some((identity, (account, session))) = login else {
        return Ok(to_login(&portal, back.as_ref())?);
    };
    let wanted = WantedPassword {
        new: form.new_password,
        verify: form.verify_password,
        revoke_keys: false,
    };
    let accounts = &scope.snapshot.accounts;
    let call = call(&scope, Some(identity));
    let who = (&account.uid, session);
    let changed = accounts
        .change_password(&call, who, form.old_password, wanted)
        .await;
    let problem = match changed {
        Ok(_) => return Ok(lead_on(&portal, back.as_ref())?),
        Err(halt) => WebProblem::from(halt),
    };
    let filled = ChangeFields {
        message: Some(words_of(&problem)),
        ..ChangeFields::new(&scope, identity, back.as_ref())
    };
    Ok(portal.page_of_problem(problem, CHANGE, &filled, back.as_ref()))
}

/// Returns the identity of the cookie's session; `None` without one.
async fn logged_in(
    scope: &RequestScope,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Arc<Identity>>, WebProblem> {
    let view = own_view(scope, method, headers);
    match scope.recognise(&view).await {
        Ok(found) => Ok(found.filter(|identity| identity.method == AuthnMethod::Session)),
        Err(Stop::Deny(DenyReason::SessionEnded)) => Ok(None),
        Err(stop) => Err(stop.into()),
    }
}

/// Redirects to the login page, which leads back to this one.
fn to_login(portal: &Portal, back: Option<&LoginDestination>) -> Result<Response, WebProblem> {
    let here = in_query(&portal.change_path(back));
    see_other(&format!("{}?rd={here}", portal.login_path()))
}

fn lead_on(portal: &Portal, back: Option<&LoginDestination>) -> Result<Response, WebProblem> {
    match back {
        Some(back) => see_other(&back.url),
        None => portal.lead_to_login("password_changed"),
    }
}
