//! GET, POST /password: whoever is logged in by a cookie changes the password, because they want to or because they must.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::form_urlencoded::byte_serialize;

use crate::account::password::WantedPassword;
use crate::auth::grant::Stop;
use crate::auth::return_to::Destination;
use crate::model::deny::DenyReason;
use crate::model::identity::{AuthnMethod, Identity, Principal};
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::body::PageForm;
use crate::web::caller::{Anybody, OwnPage, call, own_view};
use crate::web::error::{Kind, Problem};
use crate::web::portal::{
    CHANGE, Portal, destination, owes_password, parameter, password_rules, see_other, words_of,
};

#[derive(Serialize)]
struct Filled<'a> {
    /// Who is logged in.
    person: &'a str,
    must_change: bool,
    /// What a new password must be like.
    rules: String,
    /// What went wrong.
    message: Option<String>,
    back: Option<&'a str>,
}

impl<'a> Filled<'a> {
    fn new(scope: &RequestScope, identity: &'a Identity, back: Option<&'a Destination>) -> Self {
        Self {
            rules: password_rules(scope),
            person: identity.username().unwrap_or_default(),
            must_change: owes_password(identity),
            message: None,
            back: back.map(|back| back.url.as_str()),
        }
    }
}

/// The page that changes the password of whoever is logged in; whoever is not logs in first.
pub(in crate::web) async fn show(
    State(portal): State<Arc<Portal>>,
    Anybody(scope): Anybody,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let back = destination(&scope, parameter(query.as_deref(), "rd"));
    let Some(identity) = logged_in(&scope, &Method::GET, &headers).await? else {
        return to_login(&portal, back.as_ref());
    };
    let filled = Filled::new(&scope, &identity, back.as_ref());
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

/// Changes it, and leads on.
pub(in crate::web) async fn change(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    headers: HeaderMap,
    PageForm(form): PageForm<ChangeForm>,
) -> Result<Response, Problem> {
    let back = destination(&scope, form.rd);
    let found = logged_in(&scope, &Method::POST, &headers).await?;
    let Some(identity) = found else {
        return to_login(&portal, back.as_ref());
    };
    let Principal::Own {
        account,
        session: Some(session),
    } = &identity.principal
    else {
        return Err(Kind::LoginNeeded.into());
    };
    let wanted = WantedPassword {
        new: form.new_password,
        verify: form.verify_password,
        revoke_keys: false,
    };
    let accounts = &scope.snapshot.accounts;
    let call = call(&scope, Some(&identity));
    let who = (&account.uid, session);
    let changed = accounts
        .change_password(&call, who, form.old_password, wanted)
        .await;
    let problem = match changed {
        Ok(_) => return lead_on(&portal, back.as_ref()),
        Err(halt) => Problem::from(halt),
    };
    let filled = Filled {
        message: Some(words_of(&problem)),
        ..Filled::new(&scope, &identity, back.as_ref())
    };
    Ok(portal.page_of_problem(problem, CHANGE, &filled, back.as_ref()))
}

/// Whose session the cookie stands for, if it does.
async fn logged_in(
    scope: &RequestScope,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Arc<Identity>>, Problem> {
    let view = own_view(scope, method, headers);
    match scope.recognise(&view).await {
        Ok(found) => Ok(found.filter(|identity| identity.method == AuthnMethod::Session)),
        Err(Stop::Deny(DenyReason::SessionEnded)) => Ok(None),
        Err(stop) => Err(stop.into()),
    }
}

/// To the login page, and from there to this one again.
fn to_login(portal: &Portal, back: Option<&Destination>) -> Result<Response, Problem> {
    let here = portal.change_path(back);
    let here: String = byte_serialize(here.as_bytes()).collect();
    see_other(&format!("{}?rd={here}", portal.login_path()))
}

fn lead_on(portal: &Portal, back: Option<&Destination>) -> Result<Response, Problem> {
    match back {
        Some(back) => see_other(&back.url),
        None => portal.lead_to_login("password_changed"),
    }
}
