//! GET /login; POST /login and /logout as forms.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::AccountError;
use crate::account::login::{OpenedSession, SessionCarrier};
use crate::auth::grant::Stop;
use crate::auth::return_to::LoginDestination;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::identity::{AuthnMethod, Identity};
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::api::{password, registration};
use crate::web::body::PageForm;
use crate::web::caller::{AnyRequest, OwnPage, call, owes_password, own_view, session_of};
use crate::web::cookie;
use crate::web::error::WebProblem;
use crate::web::portal::{
    LOGIN, Portal, destination, may_register, parameter, see_other, shown_again, words_of,
};

/// The values of the login page's template.
#[derive(Default, Serialize)]
struct LoginFields<'a> {
    /// The name of the logged-in person.
    person: Option<&'a str>,
    must_change: bool,
    /// The path of the page that changes the password.
    change: Option<&'a str>,
    /// The probable reason why a logged-in person was sent here again, if they were.
    astray: Option<&'static str>,
    /// The name of the logged-in person while they log in as another.
    other: Option<&'a str>,
    /// Whether registration is open.
    may_register: bool,
    /// The error message.
    message: Option<String>,
    /// The success message.
    notice: Option<&'static str>,
    username: &'a str,
    back: Option<&'a str>,
    back_origin: Option<&'a str>,
}

impl<'a> LoginFields<'a> {
    fn new(scope: &RequestScope, back: Option<&'a LoginDestination>) -> Self {
        Self {
            may_register: may_register(scope),
            back: back.map(|back| back.url.as_str()),
            back_origin: back.map(|back| back.origin.as_str()),
            ..Self::default()
        }
    }
}

/// Shows the login page, or who is logged in. It never redirects on its own: a redirect loop ends here, with a message
/// about the probable cause.
pub(in crate::web) async fn show(
    State(portal): State<Arc<Portal>>,
    AnyRequest(scope): AnyRequest,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, WebProblem> {
    let authorizer = &scope.snapshot.authorizer;
    let view = own_view(&scope, &Method::GET, &headers);
    let found = scope.recognise(&view).await;
    let back = destination(&scope, parameter(query.as_deref(), "rd"));
    let change = portal.change_path(back.as_ref());
    let notice = parameter(query.as_deref(), "notice");
    let mut filled = LoginFields::new(&scope, back.as_ref());
    filled.notice = match notice.as_deref() {
        Some("password_set") => Some("The password is set. Log in with it."),
        Some("address_changed") => Some("Your new address is confirmed."),
        Some("logged_out") => Some("You are logged out."),
        Some("registered") => Some(registration::ACCEPTED),
        Some("reset_sent") => Some(password::ACCEPTED),
        _ => None,
    };
    match found {
        Ok(Some(identity))
            if identity.method == AuthnMethod::Session
                && parameter(query.as_deref(), "as").as_deref() == Some("another") =>
        {
            filled.other = identity.username();
            Ok(portal.page(LOGIN, &filled, back.as_ref()))
        }
        Ok(Some(identity)) if identity.method == AuthnMethod::Session => {
            filled.person = identity.username();
            filled.must_change = owes_password(&identity);
            filled.change = Some(&change);
            let is_changed = notice.as_deref() == Some("password_changed");
            filled.notice =
                is_changed.then_some("The password is changed. All other logins have ended.");
            let way = back.as_ref().map(|back| back.url.as_str());
            if cookie::is_way_marked(&headers, way) {
                let counts = authorizer.counts_on_routes(&view).await?;
                filled.astray = Some(astray(back.as_ref(), counts));
            }
            let mut page = portal.page(LOGIN, &filled, back.as_ref());
            cookie::mark_way(page.headers_mut(), &scope.snapshot, way);
            Ok(page)
        }
        Err(Stop::Deny(DenyReason::SessionEnded)) => {
            let mut page = portal.page(LOGIN, &filled, back.as_ref());
            cookie::clear(page.headers_mut(), &scope.snapshot);
            Ok(page)
        }
        Ok(_) | Err(Stop::Deny(_)) => Ok(portal.page(LOGIN, &filled, back.as_ref())),
        Err(stop @ (Stop::Wait(_) | Stop::Fail(_))) => Err(stop.into()),
    }
}

/// Returns the probable cause of a login that has no effect at its destination. `counts` says whether this browser's
/// cookie for routes is accepted.
const fn astray(back: Option<&LoginDestination>, counts: bool) -> &'static str {
    match back {
        Some(back) if !back.has_cookie => {
            "your login does not reach it: the cookie is not valid for that address. The administrator can change that."
        }
        _ if !counts => {
            "your browser has no usable cookie for it: allow cookies, log out and log in again."
        }
        Some(_) => "your login is lost on the way there: contact the administrator.",
        None => "it is not set up for this login: contact the administrator.",
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct LoginForm {
    /// The name or the address.
    username: String,
    #[schemars(with = "String")]
    password: Secret,
    /// Where the browser is led to, if the operator lists its origin.
    rd: Option<String>,
}

/// Logs in by the form: sets the cookies and redirects.
pub(in crate::web) async fn log_in(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    PageForm(form): PageForm<LoginForm>,
) -> Result<Response, WebProblem> {
    let rd = form.rd.or_else(|| parameter(query.as_deref(), "rd"));
    let back = destination(&scope, rd);
    let accounts = &scope.snapshot.accounts;
    let opened = accounts
        .login(
            &call(&scope, None),
            &form.username,
            form.password,
            SessionCarrier::Browser,
        )
        .await;
    match opened {
        Ok(opened) => {
            end_former(&scope, &headers).await;
            lead_back(&portal, &scope, &opened, back.as_ref())
        }
        Err(halt) => {
            let problem = WebProblem::from(halt);
            let shown = shown_again(&form.username);
            let filled = LoginFields {
                message: Some(words_of(&problem)),
                username: &shown,
                ..LoginFields::new(&scope, back.as_ref())
            };
            Ok(portal.page_of_problem(problem, LOGIN, &filled, back.as_ref()))
        }
    }
}

fn lead_back(
    portal: &Portal,
    scope: &RequestScope,
    opened: &OpenedSession,
    back: Option<&LoginDestination>,
) -> Result<Response, WebProblem> {
    let mut response = match back {
        // Until a required change of password, nothing else is accessible.
        _ if opened.account.password_must_change => see_other(&portal.change_path(back))?,
        Some(back) => see_other(&back.url)?,
        None => see_other(&portal.login_path())?,
    };
    let cookies = opened.cookies.as_ref().ok_or(ErrorCode::Internal)?;
    let headers = response.headers_mut();
    cookie::set(headers, &scope.snapshot, cookies);
    if let Some(back) = back {
        cookie::mark_way(headers, &scope.snapshot, Some(&back.url));
    }
    Ok(response)
}

/// Ends the browser's former session, whose cookie is now replaced. On failure the session remains until it expires.
async fn end_former(scope: &RequestScope, headers: &HeaderMap) {
    let view = own_view(scope, &Method::POST, headers);
    let Ok(Some(identity)) = scope.recognise(&view).await else {
        return;
    };
    if identity.method == AuthnMethod::Session {
        let _ = end_session(scope, &identity).await;
    }
}

async fn end_session(scope: &RequestScope, identity: &Identity) -> Result<(), AccountError> {
    let Some((account, session)) = session_of(identity) else {
        return Ok(());
    };
    let accounts = &scope.snapshot.accounts;
    let call = call(scope, Some(identity));
    accounts.log_out(&call, &account.uid, session).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct LogoutForm {
    /// Where the browser is led to, if the operator lists its origin.
    rd: Option<String>,
}

/// Logs out by the form, with or without a login: deletes the cookies and redirects.
pub(in crate::web) async fn log_out(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    headers: HeaderMap,
    PageForm(form): PageForm<LogoutForm>,
) -> Result<Response, WebProblem> {
    let back = destination(&scope, form.rd);
    let view = own_view(&scope, &Method::POST, &headers);
    match scope.recognise(&view).await {
        Ok(Some(identity)) => end_session(&scope, &identity).await?,
        Ok(None) | Err(Stop::Deny(DenyReason::SessionEnded)) => {}
        Err(stop) => return Err(stop.into()),
    }
    let mut response = match back {
        Some(back) => see_other(&back.url)?,
        None => portal.lead_to_login("logged_out")?,
    };
    cookie::clear(response.headers_mut(), &scope.snapshot);
    Ok(response)
}
