//! Responses for refusals, failures and errors.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, LOCATION, RETRY_AFTER,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorSource, ErrorType};

use crate::auth::grant::{Denial, Unavailable};
use crate::model::deny::{DenyReason, challenge};
use crate::model::error_code::ErrorCode;
use crate::model::id::RequestId;
use crate::model::problem::{MEDIA_TYPE, problem_json};
use crate::proxy::connection::Connection;
use crate::proxy::headers::{REQUEST_ID, content_length, id_value};
use crate::snapshot::RefusalPage;
use crate::upstream::failure::{FailureKind, UpstreamFailure};

/// The methods that are forwarded at all; `Allow` of a 405 if the route names none.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Maximum length of an unread body that is read after the response, so that the connection can be reused; with more,
/// it closes.
const DRAIN_BYTES_MAX: u64 = 64 * 1024;
/// Maximum time for reading it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// An error response: all that the caller learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProblem {
    /// Status.
    pub status: u16,
    /// Stable code.
    pub code: ErrorCode,
    /// A short fixed sentence.
    pub title: &'static str,
    extra: Option<ProblemExtra>,
}

/// The additional header field of some responses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ProblemExtra {
    /// `WWW-Authenticate`, with an error or bare.
    Challenge(Option<&'static str>),
    /// `Allow`
    Allow(Cow<'static, str>),
    /// `Retry-After`, in seconds.
    Retry(u32),
}

impl From<ErrorCode> for ProxyProblem {
    fn from(code: ErrorCode) -> Self {
        let (status, _, title) = code.row();
        Self {
            status,
            code,
            title,
            extra: None,
        }
    }
}

impl From<DenyReason> for ProxyProblem {
    fn from(reason: DenyReason) -> Self {
        Self::denied(ErrorCode::Denied(reason), reason)
    }
}

impl ProxyProblem {
    /// Creates the response for a fault of the gateway.
    #[must_use]
    pub fn own() -> Self {
        Self {
            title: "The gateway failed",
            ..ErrorCode::Internal.into()
        }
    }

    /// Returns the seconds until a retry is worthwhile, if known.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u32> {
        match self.extra {
            Some(ProblemExtra::Retry(secs)) => Some(secs),
            _ => None,
        }
    }

    /// Creates the response for a forward-auth proxy.
    #[must_use]
    pub fn for_proxy(reason: DenyReason) -> Self {
        Self::denied(ErrorCode::DeniedToProxy(reason), reason)
    }

    fn denied(code: ErrorCode, reason: DenyReason) -> Self {
        let problem = Self::from(code);
        let challenge = reason.challenge_error();
        let extra = match problem.status {
            401 => Some(ProblemExtra::Challenge(challenge)),
            405 => Some(ProblemExtra::Allow(METHODS.into())),
            429 => Some(ProblemExtra::Retry(1)),
            _ if challenge.is_some() => Some(ProblemExtra::Challenge(challenge)),
            _ => None,
        };
        Self { extra, ..problem }
    }
}

impl From<&Denial> for ProxyProblem {
    fn from(denial: &Denial) -> Self {
        let problem = Self::from(denial.reason);
        let wait = denial.retry_after_s.map(ProblemExtra::Retry);
        let methods = denial.methods.iter().map(Method::as_str);
        let methods: Vec<_> = methods.collect();
        let allow = (!methods.is_empty()).then(|| ProblemExtra::Allow(methods.join(", ").into()));
        Self {
            extra: wait.or(allow).or(problem.extra),
            ..problem
        }
    }
}

impl From<Unavailable> for ProxyProblem {
    fn from(cause: Unavailable) -> Self {
        Self {
            title: "The request cannot be decided at the moment",
            extra: Some(ProblemExtra::Retry(1)),
            ..cause.error_code().into()
        }
    }
}

/// Why a request got no response from its upstream or from the gateway's own endpoints, or not all of it.
#[derive(Debug)]
pub enum ProxyFailure {
    /// A fault of the caller's request.
    Refused(DenyReason),
    /// A fault of the upstream; the response is a 502 or 504.
    Upstream(UpstreamFailure),
    /// The caller has disconnected: no response is possible.
    CallerGone,
    /// A fault of the gateway: 500.
    Own(Box<Error>),
}

impl ProxyFailure {
    /// Returns the failure of reading from a caller or writing to it.
    // Consumes the error, so that it can be given to `map_err`.
    pub(in crate::proxy) fn of_caller(error: Box<Error>) -> Self {
        Self::from(error.into_down())
    }

    /// Creates the failure of an upstream in the middle of an exchange.
    pub(in crate::proxy) const fn of_upstream(kind: FailureKind) -> Self {
        Self::Upstream(UpstreamFailure::partial(kind))
    }

    /// Creates a failure of the gateway.
    pub(in crate::proxy) fn own(context: &'static str) -> Self {
        Self::Own(Error::explain(ErrorType::InternalError, context).into_in())
    }
}

impl From<UpstreamFailure> for ProxyFailure {
    fn from(failure: UpstreamFailure) -> Self {
        Self::Upstream(failure)
    }
}

impl From<Box<Error>> for ProxyFailure {
    fn from(error: Box<Error>) -> Self {
        match (error.esource(), error.etype()) {
            (
                ErrorSource::Downstream,
                ErrorType::ReadError
                | ErrorType::ReadTimedout
                | ErrorType::WriteError
                | ErrorType::WriteTimedout
                | ErrorType::ConnectionClosed
                // The stream was reset.
                | ErrorType::H2Error,
            ) => Self::CallerGone,
            (ErrorSource::Downstream, _) => Self::Refused(DenyReason::RequestMalformed),
            _ => Self::Own(error),
        }
    }
}

/// Writes a problem, and leaves the connection so that nothing unread can be taken for a request: a small body is read
/// and discarded, otherwise the connection closes. `page`: the page for a human instead of the document.
///
/// # Errors
/// The write error if the caller has disconnected.
pub async fn problem(
    session: &mut ServerSession,
    problem: &ProxyProblem,
    id: RequestId,
    page: Option<RefusalPage>,
) -> pingora::Result<()> {
    settle_body(session);
    let mut head = ResponseHeader::build(problem.status, Some(10))?;
    let body = if let Some(page) = page {
        for (name, value) in page.fields {
            head.insert_header(name, value)?;
        }
        page.html
    } else {
        head.insert_header(CONTENT_TYPE, MEDIA_TYPE)?;
        problem_json(
            problem.code.as_str(),
            problem.title,
            problem.status,
            id,
            None,
        )
    };
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(REQUEST_ID, id_value(id))?;
    match &problem.extra {
        Some(ProblemExtra::Challenge(error)) => {
            head.insert_header(WWW_AUTHENTICATE, challenge(*error))?;
        }
        Some(ProblemExtra::Allow(methods)) => head.insert_header(ALLOW, &**methods)?,
        Some(ProblemExtra::Retry(secs)) => head.insert_header(RETRY_AFTER, secs.to_string())?,
        None => {}
    }
    let body = match session.req_header().method {
        Method::HEAD => Bytes::new(),
        _ => Bytes::from(body),
    };
    send(session, head, body).await
}

/// Sends a response; an empty body ends it with its head.
///
/// # Errors
/// The write error if the caller has disconnected.
pub(in crate::proxy) async fn send(
    session: &mut ServerSession,
    head: ResponseHeader,
    body: Bytes,
) -> pingora::Result<()> {
    let is_bodyless = body.is_empty();
    let mut sent = session.write_response_header(Box::new(head)).await;
    if sent.is_ok() && !is_bodyless {
        sent = session.write_response_body(body, true).await;
    }
    sent.map_err(Error::into_down)
}

/// Redirects a browser to the login page, and leaves the connection like [`problem`].
///
/// # Errors
/// The write error if the caller has disconnected.
pub async fn redirect(
    session: &mut ServerSession,
    location: &str,
    id: RequestId,
) -> pingora::Result<()> {
    settle_body(session);
    let mut head = ResponseHeader::build(302, Some(5))?;
    head.insert_header(LOCATION, location)?;
    head.insert_header(CONTENT_LENGTH, 0)?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(REQUEST_ID, id_value(id))?;
    send(session, head, Bytes::new()).await
}

/// Writes the head of an upstream's response. `is_end`: no body follows; over HTTP/2 the head then ends the stream.
///
/// # Errors
/// The write error if the caller has disconnected.
pub(in crate::proxy) async fn write_head(
    session: &mut ServerSession,
    head: ResponseHeader,
    is_end: bool,
) -> pingora::Result<()> {
    match session {
        ServerSession::H2(stream) => stream.write_response_header(Box::new(head), is_end),
        other => other.write_response_header(Box::new(head)).await,
    }
}

/// Adapts an upstream's response to the caller's version. A caller with HTTP/1.0 does not support chunks: without a
/// length its response ends with the connection (RFC 9112 section 6.3).
pub(in crate::proxy) fn fit_version(session: &mut ServerSession, headers: &mut HeaderMap) {
    let is_old = session.req_header().version == Version::HTTP_10;
    if is_old && headers.remove(TRANSFER_ENCODING).is_some() {
        session.set_keepalive(None);
    }
}

/// Whether no body follows the head of a response.
pub(in crate::proxy) fn is_bodyless(
    session: &ServerSession,
    status: StatusCode,
    headers: &HeaderMap,
) -> bool {
    session.req_header().method == Method::HEAD
        || matches!(status.as_u16(), 204 | 304)
        || headers.get(CONTENT_LENGTH).is_some_and(|it| it == "0")
}

/// Announces in the response that the connection ends with it, if the gateway drains: the caller's next request then
/// uses another connection instead of being lost.
pub fn announce_end(session: &mut ServerSession) {
    if Connection::of(session.digest()).is_some_and(|it| it.going_away.is_set()) {
        session.set_keepalive(None);
    }
}

/// Decides whether an unread body is drained or the connection closed.
fn settle_body(session: &mut ServerSession) {
    announce_end(session);
    if !is_body_still_coming(session) {
        return;
    }
    let head = session.req_header();
    let is_small = content_length(&head.headers).is_some_and(|length| length <= DRAIN_BYTES_MAX);
    // A caller that waits for `100 Continue` will not send the body now.
    let drains = is_small && !head.headers.contains_key(EXPECT);
    if drains {
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
    } else {
        linger(session);
    }
}

/// Whether an HTTP/1 connection is still occupied by the body of the request. An HTTP/2 connection serves other streams
/// meanwhile.
fn is_body_still_coming(session: &mut ServerSession) -> bool {
    session.as_http1().is_some() && !session.is_body_done()
}

/// Keeps the connection for a moment at its end, if the caller is still sending its body.
pub(in crate::proxy) fn linger(session: &mut ServerSession) {
    if is_body_still_coming(session)
        && let Some(connection) = Connection::of(session.digest())
    {
        connection.linger();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_field() {
        for reason in DenyReason::ALL {
            let problem = ProxyProblem::from(reason);
            let wanted = match (reason.status(), reason.challenge_error()) {
                (401, error) => Some(ProblemExtra::Challenge(error)),
                (_, Some(error)) => Some(ProblemExtra::Challenge(Some(error))),
                (405, None) => Some(ProblemExtra::Allow(METHODS.into())),
                (429, None) => Some(ProblemExtra::Retry(1)),
                (_, None) => None,
            };
            assert_eq!(problem.extra, wanted, "{reason:?}");
        }
    }

    #[test]
    fn errors_tell_what_broke_and_nothing_else() {
        let malformed = failure(ErrorType::InvalidHTTPHeader, ErrorSource::Downstream);
        assert!(matches!(
            malformed,
            ProxyFailure::Refused(DenyReason::RequestMalformed)
        ));
        for kind in [ErrorType::ReadError, ErrorType::H2Error] {
            let gone = failure(kind, ErrorSource::Downstream);
            assert!(matches!(gone, ProxyFailure::CallerGone));
        }
        for source in [ErrorSource::Internal, ErrorSource::Unset] {
            assert!(matches!(
                failure(ErrorType::InternalError, source),
                ProxyFailure::Own(_)
            ));
        }
    }

    fn failure(kind: ErrorType, source: ErrorSource) -> ProxyFailure {
        let mut error = Error::new(kind);
        error.esource = source;
        error.into()
    }
}
