//! From refusals and failures to answers: one table of statuses, codes and titles.

use std::any::Any;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::account::{AccountError, InvalidField};
use crate::auth::grant::{Stop, Unavailable};
use crate::limit::Limit;
use crate::model::deny::{DenyReason, challenge};
use crate::store::error::StoreError;
use crate::telemetry::log::with_causes;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is wrong, as the table below tells callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Kind {
    /// Refused by the decision core, under its own code.
    Denied(DenyReason),
    /// The same, about a request that a proxy has asked about.
    DeniedToProxy(DenyReason),
    NotFound,
    BodyMalformed,
    QueryMalformed,
    ContentType,
    ValueInvalid,
    TemplateUnknown,
    MethodUnknown,
    RegistrationClosed,
    LoginRefused,
    LoginLimited(Limit),
    LoginNeeded,
    TokenInvalid,
    PasswordWrong,
    PasswordMismatch,
    PasswordRefused,
    AccountChanged,
    AccountPending,
    OwnAccount,
    UsernameTaken,
    IdentityTaken,
    RoleReserved,
    ScopeUnknown,
    KeyLimit,
    MembershipLimit,
    LevelUnknown,
    MembershipChanged,
    StoreUnavailable,
    WriteUnknown,
    AuditUnavailable,
    RoleSourceUnavailable,
    IssuerUnavailable,
    SigningUnavailable,
    HashingBusy,
    LimitsFull,
    Internal,
}

impl Kind {
    /// Status, stable code, and a fixed sentence for people.
    pub(in crate::web) const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Denied(reason) => (reason.status(), reason.code(), reason.title()),
            Self::DeniedToProxy(reason) => {
                (reason.status_for_proxy(), reason.code(), reason.title())
            }
            Self::NotFound => (404, "not_found", "There is nothing here"),
            Self::BodyMalformed => (400, "body_malformed", "The body is not what this takes"),
            Self::QueryMalformed => (400, "query_malformed", "The query is not what this takes"),
            Self::ContentType => (415, "content_type", "The body is of another type"),
            Self::ValueInvalid => (422, "value_invalid", "A value breaks its rule"),
            Self::TemplateUnknown => (422, "template_unknown", "There is no such template"),
            Self::MethodUnknown => (422, "method_unknown", "There is no such way to log in"),
            Self::RegistrationClosed => (403, "registration_closed", "Nobody may register here"),
            Self::LoginRefused => (401, "login_refused", "The name or the password is wrong"),
            Self::LoginLimited(_) => (429, "login_limited", "Quota exceeded: try again later"),
            Self::LoginNeeded => (403, "login_needed", "This needs a login of the account"),
            Self::TokenInvalid => (400, "token_invalid", "The one-time token is not accepted"),
            Self::PasswordWrong => (403, "password_wrong", "The old password is wrong"),
            Self::PasswordMismatch => (422, "password_mismatch", "The two passwords differ"),
            Self::PasswordRefused => (422, "password_refused", "The new password is not taken"),
            Self::AccountChanged => (409, "account_changed", "The account has changed: try again"),
            Self::AccountPending => (409, "account_pending", "The account has no password yet"),
            Self::OwnAccount => (409, "own_account", "Nobody changes their own account here"),
            Self::UsernameTaken => (409, "username_taken", "The name belongs to another account"),
            Self::IdentityTaken => (
                409,
                "identity_taken",
                "The address belongs to another account",
            ),
            Self::RoleReserved => (
                422,
                "role_reserved",
                "A role among these is given otherwise",
            ),
            Self::ScopeUnknown => (422, "scope_unknown", "A scope among these is not declared"),
            Self::KeyLimit => (
                422,
                "apikey_limit",
                "The account has as many keys as it may have",
            ),
            Self::MembershipLimit => (
                422,
                "membership_limit",
                "The account, or the resource, has as many memberships as it may have",
            ),
            Self::LevelUnknown => (422, "level_unknown", "The level is not declared"),
            Self::MembershipChanged => (
                409,
                "membership_changed",
                "The membership has changed: try again",
            ),
            Self::StoreUnavailable => (503, Unavailable::Store.code(), "Try again soon"),
            Self::WriteUnknown => (
                503,
                "write_unknown",
                "Whether this was written is not known yet: look before you ask again",
            ),
            Self::AuditUnavailable => (503, "audit_unavailable", "Try again soon"),
            Self::RoleSourceUnavailable => (503, Unavailable::RoleSource.code(), "Try again soon"),
            Self::IssuerUnavailable => (503, Unavailable::Issuer.code(), "Try again soon"),
            Self::SigningUnavailable => (503, Unavailable::Signing.code(), "Try again soon"),
            Self::HashingBusy => (503, "hashing_busy", "Try again soon"),
            Self::LimitsFull => (503, "limits_full", "Try again soon"),
            Self::Internal => (500, "internal_error", "Something went wrong here"),
        }
    }
}

/// A refusal or failure on its way out. [`crate::web::finish::finish`] writes its body, since it knows the request id.
#[derive(Clone, Debug)]
pub(in crate::web) struct Problem {
    pub(in crate::web) kind: Kind,
    /// For people: what about their request; no value of theirs.
    pub(in crate::web) detail: Option<String>,
    /// For the log only.
    pub(in crate::web) cause: Option<String>,
    /// In how many seconds it is worth another try, where that is known.
    pub(in crate::web) retry_after_s: Option<u32>,
}

impl Problem {
    /// Too many requests.
    pub(in crate::web) fn wait(secs: u32) -> Self {
        Self {
            retry_after_s: Some(secs),
            ..DenyReason::RateLimited.into()
        }
    }

    pub(in crate::web) fn because(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: Some(detail.into()),
            cause: None,
            retry_after_s: None,
        }
    }

    /// Too many wrong passwords.
    pub(in crate::web) fn login_limited(limit: Limit) -> Self {
        let wait = in_words(limit.wait);
        let detail = format!(
            "Too many wrong passwords came for this name, or from your network. Until there is room again none is \
             looked at, not even the right one. Try again in {wait}"
        );
        Self::because(Kind::LoginLimited(limit), detail)
    }

    fn failed(kind: Kind, cause: String) -> Self {
        Self {
            kind,
            detail: None,
            cause: Some(cause),
            retry_after_s: None,
        }
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            detail: None,
            cause: None,
            retry_after_s: None,
        }
    }
}

impl From<DenyReason> for Kind {
    fn from(reason: DenyReason) -> Self {
        Self::Denied(reason)
    }
}

impl From<DenyReason> for Problem {
    fn from(reason: DenyReason) -> Self {
        Kind::Denied(reason).into()
    }
}

impl From<Stop> for Problem {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Deny(reason) => reason.into(),
            Stop::Wait(secs) => Self::wait(secs),
            // The cause is in the log already: it was found by `auth`.
            Stop::Fail(Unavailable::Store) => Kind::StoreUnavailable.into(),
            Stop::Fail(Unavailable::RoleSource) => Kind::RoleSourceUnavailable.into(),
            Stop::Fail(Unavailable::Issuer) => Kind::IssuerUnavailable.into(),
            Stop::Fail(Unavailable::Signing) => Kind::SigningUnavailable.into(),
            Stop::Fail(Unavailable::Overloaded) => Kind::LimitsFull.into(),
        }
    }
}

impl From<InvalidField> for Problem {
    fn from(invalid: InvalidField) -> Self {
        let detail = format!("{}: {}", invalid.field, invalid.expected);
        Self::because(Kind::ValueInvalid, detail)
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let kind = match error {
            AccountError::Store(StoreError::Unknown(_)) => Kind::WriteUnknown,
            AccountError::Store(_) => Kind::StoreUnavailable,
            // The cause is in the log already.
            AccountError::RoleSource(_) => return Kind::RoleSourceUnavailable.into(),
            AccountError::Busy(_) => Kind::HashingBusy,
            AccountError::Sign(_) => Kind::Internal,
            // The outputs are watched: the log has one line of it, and not one for each request.
            AccountError::Unrecorded(_) => return Kind::AuditUnavailable.into(),
            // No fault of ours, and under attack there are many: the metrics tell.
            AccountError::Uncounted => return Kind::LimitsFull.into(),
        };
        Self::failed(kind, with_causes(&error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, _, _) = self.kind.row();
        let mut response = status_code(status).into_response();
        let headers = response.headers_mut();
        let error = match self.kind {
            Kind::Denied(reason) | Kind::DeniedToProxy(reason) => reason.challenge_error(),
            _ => None,
        };
        if status == 401 || error.is_some() {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge(error)),
            );
        }
        if matches!(status, 429 | 503) || self.retry_after_s.is_some() {
            let secs = HeaderValue::from(self.retry_after_s.unwrap_or(1));
            headers.insert(header::RETRY_AFTER, secs);
        }
        if let Kind::LoginLimited(limit) = self.kind {
            put_limit(headers, limit);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A time to wait, rounded up: whoever waits for so long is not refused again.
pub(in crate::web) fn in_words(time: Duration) -> String {
    let secs = time.as_millis().div_ceil(1000).max(1);
    match secs {
        1 => "a second".to_owned(),
        2..=90 => format!("{secs} seconds"),
        secs => format!("{} minutes", secs.div_ceil(60)),
    }
}

/// Source: RFC 9110 section 10.2.3; draft-ietf-httpapi-ratelimit-headers-10 for the two structured fields.
fn put_limit(headers: &mut HeaderMap, limit: Limit) {
    let Limit { policy, quota, .. } = limit;
    let window = limit.window.as_secs();
    // Rounded up: whoever waits for so long is not refused again.
    let wait = limit.wait.as_micros().div_ceil(1_000_000);
    let fields = [
        (header::RETRY_AFTER, wait.to_string()),
        (
            RATE_LIMIT_POLICY,
            format!("\"{policy}\";q={quota};w={window}"),
        ),
        (RATE_LIMIT, format!("\"{policy}\";r=0;t={wait}")),
    ];
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// An error of the two OAuth endpoints (RFC 6749 section 5.2), with our own code beside the registered one.
#[derive(Clone, Debug)]
pub(in crate::web) struct OAuthProblem {
    status: u16,
    /// The registered error code.
    pub(in crate::web) error: &'static str,
    /// Ours.
    pub(in crate::web) code: &'static str,
    challenge: Option<&'static str>,
    /// The parameter that it is about.
    pub(in crate::web) parameter: Option<&'static str>,
    /// For the log only.
    pub(in crate::web) cause: Option<String>,
    retry_after_s: Option<u32>,
}

impl OAuthProblem {
    /// The body is no form.
    pub(in crate::web) const CONTENT_TYPE: Self = Self::new(400, "invalid_request", "content_type");
    /// A parameter is missing, or there twice.
    pub(in crate::web) const PARAMETER: Self = Self::new(400, "invalid_request", "body_malformed");
    pub(in crate::web) const GRANT_TYPE: Self =
        Self::new(400, "unsupported_grant_type", "grant_type_unsupported");
    pub(in crate::web) const REFRESH_TOKEN: Self =
        Self::new(400, "invalid_grant", "refresh_token_invalid");

    const fn new(status: u16, error: &'static str, code: &'static str) -> Self {
        Self {
            status,
            error,
            code,
            challenge: None,
            parameter: None,
            cause: None,
            retry_after_s: None,
        }
    }

    /// The same about this parameter.
    pub(in crate::web) fn of(self, parameter: &'static str) -> Self {
        Self {
            parameter: Some(parameter),
            ..self
        }
    }

    pub(in crate::web) const fn status(&self) -> u16 {
        self.status
    }
}

impl From<Problem> for OAuthProblem {
    fn from(problem: Problem) -> Self {
        let (status, code, _) = problem.kind.row();
        let error = match status {
            401 => "invalid_client",
            403 => "unauthorized_client",
            503 => "temporarily_unavailable",
            500 => "server_error",
            _ => "invalid_request",
        };
        let challenged = match problem.kind {
            Kind::Denied(reason) => reason.challenge_error(),
            _ => None,
        };
        Self {
            status,
            error,
            code,
            challenge: (status == 401).then(|| challenge(challenged)),
            parameter: None,
            cause: problem.cause,
            retry_after_s: problem.retry_after_s,
        }
    }
}

impl IntoResponse for OAuthProblem {
    fn into_response(self) -> Response {
        let mut response = status_code(self.status).into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if matches!(self.status, 429 | 503) {
            let secs = HeaderValue::from(self.retry_after_s.unwrap_or(1));
            headers.insert(header::RETRY_AFTER, secs);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// What a handler that panicked is answered with. The message may hold anything, so it is not written down; the panic
/// hook has told where it was.
pub(in crate::web) fn panicked(_panic: Box<dyn Any + Send + 'static>) -> Response {
    Problem::failed(Kind::Internal, "a handler panicked".to_owned()).into_response()
}

/// All statuses of the table are ones.
fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_in_whole_seconds_that_suffice() {
        for (wait_ms, told) in [(1, "1"), (1000, "1"), (411_001, "412")] {
            let limit = Limit {
                policy: "login",
                quota: 5,
                window: Duration::from_mins(10),
                wait: Duration::from_millis(wait_ms),
            };
            let response = Problem::from(Kind::LoginLimited(limit)).into_response();
            assert_eq!(response.status(), 429);
            let headers = response.headers();
            assert_eq!(headers[header::RETRY_AFTER], told);
            assert_eq!(headers[RATE_LIMIT_POLICY], "\"login\";q=5;w=600");
            assert_eq!(headers[RATE_LIMIT], format!("\"login\";r=0;t={told}"));
        }
    }

    #[test]
    fn what_cannot_be_counted_is_503() {
        let response = Problem::from(AccountError::Uncounted).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_time_to_wait_is_told_rounded_up() {
        let cases = [
            (1, "a second"),
            (1_001, "2 seconds"),
            (90_000, "90 seconds"),
            (90_001, "2 minutes"),
            (480_001, "9 minutes"),
        ];
        for (ms, told) in cases {
            assert_eq!(in_words(Duration::from_millis(ms)), told, "{ms}");
        }
    }
}
