//! Converts refusals and failures into responses.

use std::any::Any;
use std::marker::PhantomData;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::account::AccountError;
use crate::account::halt::{Halt, Refuses};
use crate::auth::grant::{Stop, Unavailable};
use crate::limit::ReachedLimit;
use crate::model::deny::{DenyReason, challenge};
use crate::model::error_code::ErrorCode;
use crate::store::error::StoreError;
use crate::telemetry::log::with_causes;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A refusal or failure to be answered. [`crate::web::finish::finish`], which knows the request id, writes its body.
#[derive(Clone, Debug)]
pub(in crate::web) struct WebProblem {
    pub(in crate::web) kind: ErrorCode,
    /// What is wrong with the request, for people; contains no value of the request.
    pub(in crate::web) detail: Option<String>,
    /// Only logged.
    pub(in crate::web) cause: Option<String>,
    /// The exhausted limit, if there is one.
    pub(in crate::web) limit: Option<ReachedLimit>,
    /// Seconds until a retry is useful, where known.
    pub(in crate::web) retry_after_s: Option<u32>,
}

impl WebProblem {
    /// Returns the problem that a response reports.
    pub(in crate::web) fn of(response: &Response) -> Option<&Self> {
        let extensions = response.extensions();
        let oauth = extensions.get::<OAuthProblem>();
        oauth.map(|oauth| &oauth.0).or_else(|| extensions.get())
    }

    /// A refusal by the rate limiter: too many requests.
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

impl<R: Refuses> From<R> for WebProblem {
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

impl<R: Refuses> From<Halt<R>> for WebProblem {
    fn from(halt: Halt<R>) -> Self {
        match halt {
            Halt::Refused(refusal) => refusal.into(),
            Halt::Failed(error) => error.into(),
        }
    }
}

/// A problem, in the format `P`, of a handler that refuses with `R`: one type of refusals or a tuple of several. The API
/// document reads the codes from these types.
#[derive(Debug)]
pub(in crate::web) struct Refused<R, P = WebProblem>(P, PhantomData<fn() -> R>);

impl<T, R> From<T> for Refused<R>
where
    WebProblem: From<T>,
{
    fn from(source: T) -> Self {
        Self(source.into(), PhantomData)
    }
}

impl<T, R> From<T> for Refused<R, OAuthProblem>
where
    OAuthProblem: From<T>,
{
    fn from(source: T) -> Self {
        Self(source.into(), PhantomData)
    }
}

impl<R, P: IntoResponse> IntoResponse for Refused<R, P> {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// Returns the detail for too many wrong passwords.
fn used_up(limit: ReachedLimit) -> String {
    let wait = in_words(limit.wait);
    format!(
        "There were too many wrong passwords for this name or from your network. Until you may try again, no password is \
         checked, not even the right one. Try again in {wait}"
    )
}

impl From<Stop> for WebProblem {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Deny(reason) => reason.into(),
            Stop::Wait(secs) => Self::wait(secs),
            // `auth`, where the failure arose, has logged the cause.
            Stop::Fail(Unavailable::Overloaded) => ErrorCode::LimitsFull.into(),
            Stop::Fail(cause) => cause.error_code().into(),
        }
    }
}

impl From<AccountError> for WebProblem {
    fn from(error: AccountError) -> Self {
        let kind = match error {
            AccountError::Store(StoreError::Unknown(_)) => ErrorCode::WriteUnknown,
            AccountError::Store(_) => ErrorCode::StoreUnavailable,
            // The cause is already logged.
            AccountError::RoleSource(_) => return ErrorCode::RoleSourceUnavailable.into(),
            AccountError::Busy(_) => ErrorCode::HashingBusy,
            AccountError::Sign(_) => ErrorCode::Internal,
            // The outputs are monitored: the log has one line for the outage, not one per request.
            AccountError::Unrecorded(_) => return ErrorCode::AuditUnavailable.into(),
            // Not a fault of the gateway, and frequent under attack: the metrics count it.
            AccountError::Uncounted => return ErrorCode::LimitsFull.into(),
        };
        Self::failed(kind, with_causes(&error))
    }
}

impl IntoResponse for WebProblem {
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

/// Returns a waiting time in words, rounded up so that a retry after it is not refused again.
pub(in crate::web) fn in_words(time: Duration) -> String {
    let secs = time.as_millis().div_ceil(1000).max(1);
    match secs {
        1 => "a second".to_owned(),
        2..=90 => format!("{secs} seconds"),
        secs => format!("{} minutes", secs.div_ceil(60)),
    }
}

/// Sets the header fields that report an exhausted limit.
///
/// Source: RFC 9110 section 10.2.3; draft-ietf-httpapi-ratelimit-headers-10 for the two structured fields.
fn put_limit(headers: &mut HeaderMap, limit: ReachedLimit) {
    let ReachedLimit { policy, quota, .. } = limit;
    let window = limit.window.as_secs();
    // Rounded up, so that a retry after this time is not refused again.
    let wait = limit.wait.as_micros().div_ceil(1_000_000);
    let fields = [
        (header::RETRY_AFTER, wait.to_string()),
        (
            RATE_LIMIT_POLICY,
            format!("\"{policy}\";q={quota};w={window}"),
        ),
        (RATE_LIMIT, format!("\"{policy}\";r=0;t={wait}")),
    ];
    set_fields(headers, fields);
}

/// Sets header fields. A value that no header field can hold is omitted.
pub(in crate::web) fn set_fields<V: AsRef<str>>(
    headers: &mut HeaderMap,
    fields: impl IntoIterator<Item = (HeaderName, V)>,
) {
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            headers.insert(name, value);
        }
    }
}

/// An error of the two OAuth endpoints (RFC 6749 section 5.2), with the gateway's own code next to the registered one.
#[derive(Clone, Debug)]
pub(in crate::web) struct OAuthProblem(pub(in crate::web) WebProblem);

impl OAuthProblem {
    /// Returns the status, the gateway's own code and the registered error code.
    pub(in crate::web) const fn row(&self) -> (u16, &'static str, &'static str) {
        let (status, code, _) = self.0.kind.row();
        let (status, error) = match (self.0.kind, status) {
            (ErrorCode::GrantTypeUnsupported, _) => (status, "unsupported_grant_type"),
            (ErrorCode::RefreshTokenInvalid, _) => (status, "invalid_grant"),
            // The RFC has no other status for a request that is not a form.
            (ErrorCode::ContentType, _) => (400, "invalid_request"),
            (_, 401) => (status, "invalid_client"),
            (_, 403) => (status, "unauthorized_client"),
            (_, 503) => (status, "temporarily_unavailable"),
            (_, 500) => (status, "server_error"),
            _ => (status, "invalid_request"),
        };
        (status, code, error)
    }

    /// Returns what is wrong with the form; no other detail reaches a client of these endpoints.
    pub(in crate::web) fn description(&self) -> Option<&str> {
        let is_form = self.0.kind == ErrorCode::BodyMalformed;
        self.0.detail.as_deref().filter(|_| is_form)
    }
}

impl<T> From<T> for OAuthProblem
where
    WebProblem: From<T>,
{
    fn from(source: T) -> Self {
        Self(source.into())
    }
}

impl IntoResponse for OAuthProblem {
    fn into_response(self) -> Response {
        let mut response = self.0.clone().into_response();
        let (status, ..) = self.row();
        *response.status_mut() = status_code(status);
        if status != 401 {
            response.headers_mut().remove(header::WWW_AUTHENTICATE);
        }
        response.extensions_mut().remove::<WebProblem>();
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns the response to a panic of a handler. The panic message may contain anything, so it is not logged; the panic
/// hook has logged the location.
pub(in crate::web) fn panicked(_panic: Box<dyn Any + Send + 'static>) -> Response {
    WebProblem::failed(ErrorCode::Internal, "a handler panicked".to_owned()).into_response()
}

/// Converts a status of the error table; all of them are valid.
fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oauth_client_learns_what_is_wrong_with_its_form_and_nothing_else() {
        let described = |kind| {
            let problem = OAuthProblem(WebProblem::because(kind, "a detail"));
            problem.description().map(str::to_owned)
        };
        assert_eq!(described(ErrorCode::BodyMalformed).unwrap(), "a detail");
        for kind in [ErrorCode::ValueInvalid, ErrorCode::Internal] {
            assert_eq!(described(kind), None, "{kind:?}");
        }
    }

    #[test]
    fn a_limit_is_told_in_whole_seconds_that_suffice() {
        for (wait_ms, told) in [(1, "1"), (1000, "1"), (411_001, "412")] {
            let limit = ReachedLimit {
                policy: "login",
                quota: 5,
                window: Duration::from_mins(10),
                wait: Duration::from_millis(wait_ms),
            };
            let problem = WebProblem {
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
        let response = WebProblem::from(AccountError::Uncounted).into_response();
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
