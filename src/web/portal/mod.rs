//! The pages for browsers: log in, register, confirm, reset, change the password. They work without JavaScript and
//! contain none.
//!
//! A page prints only fixed texts, the request id, the person's own name and input, and URLs that it may lead to; the
//! template engine escapes them. The token of a link remains in the page's URL, to which the form posts.

pub(in crate::web) mod change;
pub(in crate::web) mod login;
pub(in crate::web) mod password;
mod refusal;
pub(in crate::web) mod start;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;
use url::form_urlencoded::byte_serialize;

use crate::account::password_rules::PasswordRules;
use crate::auth::return_to::LoginDestination;
use crate::config::Registration;
use crate::model::error_code::ErrorCode;
use crate::snapshot::RequestScope;
use crate::web::answer::{FinishedBody, text};
use crate::web::error::{WebProblem, set_fields};

const LOGIN: &str = "login.html";
const PASSWORD: &str = "password.html";
const CHANGE: &str = "change.html";
const REGISTER: &str = "register.html";
const FORGOT: &str = "forgot.html";
const REFUSAL: &str = "refusal.html";
const STYLE: &str = concat!(include_str!("palette.css"), include_str!("portal.css"));

/// The pages, as parsed templates.
#[derive(Debug)]
pub(in crate::web) struct Portal {
    environment: Environment<'static>,
    /// Path of the gateway's own endpoints.
    prefix: String,
}

impl Portal {
    pub(in crate::web) fn new(prefix: &str) -> Self {
        let mut environment = Environment::empty();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_global("prefix", prefix);
        for (name, source) in [
            (LOGIN, include_str!("templates/login.html")),
            (PASSWORD, include_str!("templates/password.html")),
            (CHANGE, include_str!("templates/change.html")),
            (REGISTER, include_str!("templates/register.html")),
            (FORGOT, include_str!("templates/forgot.html")),
            (REFUSAL, include_str!("templates/refusal.html")),
        ] {
            // A template that does not parse is missing when its page is shown (test `every_page_is_shown`).
            if let Err(error) = environment.add_template(name, source) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a page cannot be rendered"
                );
            }
        }
        Self {
            environment,
            prefix: prefix.to_owned(),
        }
    }

    /// Renders a page as a response. `back` is the destination to which its form may redirect.
    fn page(
        &self,
        name: &str,
        filled: &impl Serialize,
        back: Option<&LoginDestination>,
    ) -> Response {
        let html = self
            .environment
            .get_template(name)
            .and_then(|template| template.render(Serde(filled)));
        let Ok(html) = html else {
            return WebProblem::from(ErrorCode::Internal).into_response();
        };
        let mut response = html.into_response();
        dress(response.headers_mut(), back);
        response.extensions_mut().insert(FinishedBody);
        response
    }

    /// Renders a page that shows an error, with the status and header fields of the problem.
    fn page_of_problem(
        &self,
        problem: WebProblem,
        name: &str,
        filled: &impl Serialize,
        back: Option<&LoginDestination>,
    ) -> Response {
        let page = self.page(name, filled, back);
        if page.status() != StatusCode::OK {
            return page;
        }
        let (head, body) = page.into_parts();
        let mut response = problem.into_response();
        *response.body_mut() = body;
        response.headers_mut().extend(head.headers);
        response.extensions_mut().insert(FinishedBody);
        response
    }

    /// Returns the path of the login page.
    fn login_path(&self) -> String {
        format!("{}/login", self.prefix)
    }

    /// Redirects to the login page, which shows this success message.
    fn lead_to_login(&self, notice: &str) -> Result<Response, WebProblem> {
        see_other(&format!("{}?notice={notice}", self.login_path()))
    }

    /// Returns the path of the page that changes the password and then redirects to `back`.
    fn change_path(&self, back: Option<&LoginDestination>) -> String {
        let path = format!("{}/password", self.prefix);
        match back {
            Some(back) => format!("{path}?rd={}", in_query(&back.url)),
            None => path,
        }
    }
}

/// Escapes the value of a query parameter.
fn in_query(value: &str) -> String {
    byte_serialize(value.as_bytes()).collect()
}

/// Returns the beginning of a name that a form shows again, at most as long as an e-mail address.
fn shown_again(name: &str) -> String {
    name.chars().take(254).collect()
}

/// Sets the header fields of every page. `form-action` also applies to the redirect after a form, so it includes the
/// origin of the destination.
///
/// With `no-referrer`, browsers would send `Origin: null` with a form, and the gateway could not recognise its own
/// page.
fn dress(headers: &mut HeaderMap, back: Option<&LoginDestination>) {
    let back = back.map_or(String::new(), |back| format!(" {}", back.origin));
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self'{back}; frame-ancestors 'none'; base-uri 'none'"
    );
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
    ];
    set_fields(headers, fields);
}

/// Returns the text that a page shows for a problem.
fn words_of(problem: &WebProblem) -> String {
    if let (ErrorCode::LoginLimited, Some(detail)) = (&problem.kind, &problem.detail) {
        return format!("{detail}.");
    }
    let (_, _, title) = problem.kind.row();
    match &problem.detail {
        Some(detail) => format!("{title}: {detail}."),
        None => format!("{title}."),
    }
}

/// Returns the requested destination if the operator lists its origin.
fn destination(scope: &RequestScope, rd: Option<String>) -> Option<LoginDestination> {
    scope.snapshot.authorizer.return_to().accept(&rd?)
}

/// Whether registration is open.
fn may_register(scope: &RequestScope) -> bool {
    scope.snapshot.config.account.registration == Registration::Open
}

/// Returns the password rules as a text for people.
fn password_rules(scope: &RequestScope) -> String {
    PasswordRules::of(&scope.snapshot.config.account).text()
}

/// Redirects a browser to another page by GET.
fn see_other(location: &str) -> Result<Response, WebProblem> {
    let location = HeaderValue::from_str(location).map_err(|_| ErrorCode::Internal)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}

/// Returns the style sheet of the pages.
pub(in crate::web) async fn style() -> Response {
    text("text/css; charset=utf-8", STYLE)
}

/// Returns the only value of a parameter of a raw query; `None` if it is repeated.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut values = pairs.filter(|(have, _)| have == name);
    let first = values.next()?;
    values.next().is_none().then(|| first.1.into_owned())
}
