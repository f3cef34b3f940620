//! From refusals and failures to answers.

use std::any::Any;
use std::marker::PhantomData;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::account::AccountError;
use crate::account::halt::{Halt, Refuses};
use crate::auth::grant::{Stop, Unavailable};
use crate::limit::Limit;
use crate::model::deny::{DenyReason, challenge};
use crate::model::error_code::ErrorCode;
pub(in crate::web) use crate::model::error_code::ErrorCode as Kind;
use crate::store::error::StoreError;
use crate::telemetry::log::with_causes;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A refusal or failure on its way out. [`crate::web::finish::finish`] writes its body, since it knows the request id.
#[derive(Clone, Debug)]
pub(in crate::web) struct Problem {
    pub(in crate::web) kind: ErrorCode,
    /// For people: what about their request; no value of theirs.
    pub(in crate::web) detail: Option<String>,
    /// For the log only.
    pub(in crate::web) cause: Option<String>,
    /// The limit that is used up, if it is about one.
    pub(in crate::web) limit: Option<Limit>,
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

    pub(in crate::web) fn because(kind: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..kind.into()
        }
    }

    fn failed(kind: ErrorCode, cause: String) -> Self {
        Self {
            cause: Some(cause),
            ..kind.into()
        }
    }
}

impl<R: Refuses> From<R> for Problem {
    fn from(refusal: R) -> Self {
        let limit = refusal.limit();
        Self {
            kind: refusal.code(),
            detail: refusal.detail().or_else(|| limit.map(used_up)),
            cause: None,
            limit,
            retry_after_s: None,
        }
    }
}

impl<R: Refuses> From<Halt<R>> for Problem {
    fn from(halt: Halt<R>) -> Self {
        match halt {
            Halt::Refused(refusal) => refusal.into(),
            Halt::Failed(error) => error.into(),
        }
    }
}

/// A problem of a handler whose use case refuses as `R` says. The document reads the codes from this type.
#[derive(Debug)]
pub(in crate::web) struct Refused<R>(Problem, PhantomData<fn() -> R>);

impl<T, R> From<T> for Refused<R>
where
    Problem: From<T>,
{
    fn from(source: T) -> Self {
        Self(source.into(), PhantomData)
    }
}

impl<R> IntoResponse for Refused<R> {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// What is said of too many wrong passwords.
fn used_up(limit: Limit) -> String {
    let wait = in_words(limit.wait);
    format!(
        "Too many wrong passwords came for this name, or from your network. Until there is room again none is \
         looked at, not even the right one. Try again in {wait}"
    )
}

impl From<Stop> for Problem {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Deny(reason) => reason.into(),
            Stop::Wait(secs) => Self::wait(secs),
            // The cause is in the log already: it was found by `auth`.
            Stop::Fail(Unavailable::Overloaded) => ErrorCode::LimitsFull.into(),
            Stop::Fail(cause) => cause.error_code().into(),
        }
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let kind = match error {
            AccountError::Store(StoreError::Unknown(_)) => ErrorCode::WriteUnknown,
            AccountError::Store(_) => ErrorCode::StoreUnavailable,
            // The cause is in the log already.
            AccountError::RoleSource(_) => return ErrorCode::RoleSourceUnavailable.into(),
            AccountError::Busy(_) => ErrorCode::HashingBusy,
            AccountError::Sign(_) => ErrorCode::Internal,
            // The outputs are watched: the log has one line of it, and not one for each request.
            AccountError::Unrecorded(_) => return ErrorCode::AuditUnavailable.into(),
            // No fault of ours, and under attack there are many: the metrics tell.
            AccountError::Uncounted => return ErrorCode::LimitsFull.into(),
        };
        Self::failed(kind, with_causes(&error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, _, _) = self.kind.row();
        let mut response = status_code(status).into_response();
        let headers = response.headers_mut();
        let error = self.kind.reason().and_then(DenyReason::challenge_error);
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
        if let Some(limit) = self.limit {
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
    pub(in crate::web) const CONTENT_TYPE: Self =
        Self::new(400, "invalid_request", ErrorCode::ContentType);
    /// A parameter is missing, or there twice.
    pub(in crate::web) const PARAMETER: Self =
        Self::new(400, "invalid_request", ErrorCode::BodyMalformed);
    pub(in crate::web) const GRANT_TYPE: Self = Self::new(
        400,
        "unsupported_grant_type",
        ErrorCode::GrantTypeUnsupported,
    );
    pub(in crate::web) const REFRESH_TOKEN: Self =
        Self::new(400, "invalid_grant", ErrorCode::RefreshTokenInvalid);

    const fn new(status: u16, error: &'static str, code: ErrorCode) -> Self {
        Self {
            status,
            error,
            code: code.as_str(),
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

impl<T> From<T> for OAuthProblem
where
    Problem: From<T>,
{
    fn from(source: T) -> Self {
        let problem = Problem::from(source);
        let (status, code, _) = problem.kind.row();
        let error = match (problem.kind, status) {
            (ErrorCode::GrantTypeUnsupported, _) => "unsupported_grant_type",
            (ErrorCode::RefreshTokenInvalid, _) => "invalid_grant",
            (_, 401) => "invalid_client",
            (_, 403) => "unauthorized_client",
            (_, 503) => "temporarily_unavailable",
            (_, 500) => "server_error",
            _ => "invalid_request",
        };
        let challenged = problem.kind.reason().and_then(DenyReason::challenge_error);
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
    Problem::failed(ErrorCode::Internal, "a handler panicked".to_owned()).into_response()
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
            let problem = Problem {
                limit: Some(limit),
                ..ErrorCode::LoginLimited.into()
            };
            let response = problem.into_response();
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
