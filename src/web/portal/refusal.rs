//! The page that a person gets in place of a problem document: what is wrong, who is logged in, and what to do next.
//!
//! It may appear under an application's host, which serves nothing of the gateway, so its style is inline and its links
//! are absolute.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

use crate::auth::return_to::ReturnTo;
use crate::crypto::digest::sha256;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::snapshot::{RefusalPage, ShownRefusal};
use crate::web::error::in_words;
use crate::web::portal::{Portal, REFUSAL, STYLE, in_query};

#[derive(Serialize)]
struct RefusalFields<'a> {
    style: Value,
    title: &'a str,
    advice: String,
    person: Option<&'a str>,
    login: String,
    change: Option<String>,
    back: Option<String>,
    status: u16,
    code: &'a str,
    request_id: &'a str,
}

impl Portal {
    /// Renders the page of a refusal; `None` if rendering fails.
    pub(in crate::web) fn refusal(&self, refusal: &ShownRefusal<'_>) -> Option<RefusalPage> {
        let (origin, path_and_query) = refusal.asked;
        let return_to = refusal.snapshot.authorizer.return_to();
        let here = format!("{origin}{path_and_query}");
        let rd = return_to
            .accept(&here)
            .map_or(String::new(), |here| format!("rd={}", in_query(&here.url)));
        let public = &refusal.snapshot.config.listen.public_url.text;
        let page = |path: &str, query: &[&str]| {
            let query: Vec<_> = query.iter().filter(|it| !it.is_empty()).copied().collect();
            let join = if query.is_empty() { "" } else { "?" };
            format!("{public}{}{path}{join}{}", self.prefix, query.join("&"))
        };
        let another = refusal.person.map_or("", |_| "as=another");
        let owes = refusal.code.reason() == Some(DenyReason::PasswordMustChange);
        let filled = RefusalFields {
            style: Value::from_safe_string(STYLE.to_owned()),
            title: refusal.title,
            advice: advice(refusal),
            person: refusal.person,
            login: page("/login", &[another, &rd]),
            change: owes.then(|| page("/password", &[&rd])),
            back: self.back(refusal, return_to, &here),
            status: refusal.status,
            code: refusal.code.as_str(),
            request_id: refusal.id.as_str(),
        };
        let template = self.environment.get_template(REFUSAL).ok()?;
        let html = template.render(Serde(&filled)).ok()?;
        let fields = fields()?;
        Some(RefusalPage { html, fields })
    }

    /// Returns the page that the person came from, if it belongs to the same application or is a permitted destination
    /// of a login; otherwise the application's start page.
    fn back(&self, refusal: &ShownRefusal<'_>, return_to: &ReturnTo, here: &str) -> Option<String> {
        let (origin, path_and_query) = refusal.asked;
        let referer = refusal.headers.get(header::REFERER);
        let referer = referer.and_then(|value| value.to_str().ok());
        // The query of a gateway page may hold the one-time token of a link, which no page may print.
        let public = &refusal.snapshot.config.listen.public_url.text;
        let is_ours = |url: &str| {
            let behind = url
                .strip_prefix(public)
                .or_else(|| url.strip_prefix(origin));
            behind.is_some_and(|path| path.starts_with(&self.prefix))
        };
        let is_known = |url: &&str| {
            let behind = url.strip_prefix(origin);
            let is_own = behind.is_some_and(|rest| rest.starts_with('/'));
            *url != here
                && !is_ours(url)
                && (is_own || (url.contains("://") && return_to.accept(url).is_some()))
        };
        let start = (path_and_query != "/").then(|| format!("{origin}/"));
        referer.filter(is_known).map(str::to_owned).or(start)
    }
}

/// Returns the header fields. The policy forbids loading, sending and framing; only the inline style is allowed, by its
/// digest.
fn fields() -> Option<Vec<(HeaderName, HeaderValue)>> {
    let digest = STANDARD.encode(sha256(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    );
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
    ];
    fields
        .into_iter()
        .map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?)))
        .collect()
}

/// Returns what is missing and what the person can do.
fn advice(refusal: &ShownRefusal<'_>) -> String {
    let text = match (refusal.code, refusal.code.reason()) {
        (_, Some(DenyReason::RoleMissing)) => {
            "Your account lacks a role that this page requires. The administrator can give it to you; or log in as \
             another account that has it."
        }
        (_, Some(DenyReason::ScopeMissing)) => "Your login is not allowed to do this.",
        (_, Some(DenyReason::PasswordMustChange)) => {
            "Choose a new password first: until then you cannot use anything else."
        }
        (_, Some(DenyReason::CredentialMissing | DenyReason::SessionEnded)) => {
            "This page requires a login, and you are not logged in."
        }
        (
            _,
            Some(
                DenyReason::BearerInvalid
                | DenyReason::BearerExpired
                | DenyReason::ApiKeyInvalid
                | DenyReason::CredentialConflict,
            ),
        ) => "The credential that your browser sent is not accepted here.",
        (_, Some(DenyReason::OriginRefused)) => {
            "The page that sent this request may not act in your name. Go back, reload it and try again."
        }
        (ErrorCode::NotFound, _) | (_, Some(DenyReason::NoRoute)) => {
            "There is nothing at this address. Check that it is spelled correctly."
        }
        (_, Some(DenyReason::PathRefused)) => "This address is ambiguous, so it is refused.",
        (_, Some(DenyReason::MethodRefused)) => {
            "This address does not accept this kind of request."
        }
        (ErrorCode::RegistrationClosed, _) => "Ask the administrator for an invitation.",
        _ => match refusal.status {
            429 => return format!("Try again in {}.", wait(refusal)),
            503 => return format!("This is not your fault. Try again in {}.", wait(refusal)),
            500..=599 => {
                "This is not your fault. If it continues, send the administrator the request number below."
            }
            _ => "The administrator can find the details with the request number below.",
        },
    };
    text.to_owned()
}

fn wait(refusal: &ShownRefusal<'_>) -> String {
    let secs = refusal.retry_after_s.unwrap_or(1);
    in_words(std::time::Duration::from_secs(secs.into()))
}
