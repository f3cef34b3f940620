//! What every response carries, and how errors are written.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use crate::auth::navigation::wants_page;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::RequestId;
use crate::model::problem::{MEDIA_TYPE, problem_json};
use crate::snapshot::{RefusalPage, RequestScope, ShownRefusal, Snapshot};
use crate::web::answer::FinishedBody;
use crate::web::error::{OAuthProblem, WebProblem, set_fields};
use crate::web::openapi::JSON;
use crate::web::portal::Portal;

/// Makes browsers use https only, for one year after each response.
const HSTS: &str = "max-age=31536000";

/// The body of an OAuth error (RFC 6749 section 5.2).
#[derive(Serialize)]
struct OAuthBody<'a> {
    error: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_description: Option<&'a str>,
}

/// Outermost layer: applies [`finished`] to every response, and shows a page to a person who is refused.
pub(in crate::web) async fn finish(
    State(portal): State<Arc<Portal>>,
    request: Request,
    next: Next,
) -> Response {
    let scope = request.extensions().get::<RequestScope>().cloned();
    let id = scope
        .as_ref()
        .map_or_else(|| RequestId::from_number(0), |scope| scope.id);
    let is_head = request.method() == Method::HEAD;
    let wants_page = wants_page(request.method(), request.headers());
    let person = scope
        .as_ref()
        .filter(|_| wants_page)
        .map(|scope| PageRequest {
            scope: scope.clone(),
            headers: request.headers().clone(),
            // The query may hold the one-time token of a link, which no page may print.
            path: request.uri().path().to_owned(),
        });
    let mut response = next.run(request).await;
    if WebProblem::of(&response).is_none()
        && let Some(problem) = unwritten(response.status())
    {
        response.extensions_mut().insert(problem);
    }
    if let (Some(scope), Some(problem)) = (&scope, WebProblem::of(&response)) {
        // No other place records the reason.
        let _ = scope.notes.reason.set(problem.kind.as_str());
    }
    if let Some(person) = person {
        response = person.shown(&portal, response).await;
    }
    let snapshot = scope.as_ref().map(|scope| &*scope.snapshot);
    let mut response = finished(response, id, snapshot);
    if is_head {
        *response.body_mut() = Body::empty();
    }
    response
}

/// The request of a person who expects a page.
struct PageRequest {
    scope: RequestScope,
    headers: HeaderMap,
    path: String,
}

impl PageRequest {
    /// Returns the response, with a page as its body if it is a refusal without one.
    async fn shown(self, portal: &Portal, response: Response) -> Response {
        if response.extensions().get::<FinishedBody>().is_some() {
            return response;
        }
        // The page of an OAuth error depends on its status alone.
        let found = response.extensions().get::<WebProblem>().cloned();
        let Some(problem) = found.or_else(|| unwritten(response.status())) else {
            return response;
        };
        let Self {
            scope,
            headers,
            path,
        } = self;
        let authorizer = &scope.snapshot.authorizer;
        // After a server error the person is not looked up: the lookup would probably fail as well.
        let person = if response.status().is_server_error() {
            None
        } else {
            authorizer.person(&headers, scope.client, true).await
        };
        let page = portal.refusal(&ShownRefusal {
            person: person.as_ref().and_then(|person| person.username()),
            asked: (&scope.origin, &path),
            ..refusal(&problem, &scope.snapshot, scope.id, &headers)
        });
        paged(response, problem, page)
    }
}

/// Returns what a page shows about a problem, without the person and address, which the caller may add.
pub(in crate::web) fn refusal<'a>(
    problem: &WebProblem,
    snapshot: &'a Snapshot,
    id: RequestId,
    headers: &'a HeaderMap,
) -> ShownRefusal<'a> {
    let (status, _, title) = problem.kind.row();
    let limit = problem.limit;
    let limited = limit.and_then(|limit| u32::try_from(limit.wait.as_secs() + 1).ok());
    ShownRefusal {
        status,
        code: problem.kind,
        title,
        retry_after_s: problem.retry_after_s.or(limited),
        id,
        person: None,
        asked: ("", "/"),
        headers,
        snapshot,
    }
}

/// Returns the response with a page as its body and the same status; `None` leaves it unchanged.
pub(in crate::web) fn paged(
    mut response: Response,
    problem: WebProblem,
    page: Option<RefusalPage>,
) -> Response {
    let Some(page) = page else {
        return response;
    };
    let extensions = response.extensions_mut();
    extensions.insert(problem);
    extensions.insert(FinishedBody);
    let length = HeaderValue::from(page.html.len());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length);
    for (name, value) in page.fields {
        headers.insert(name, value);
    }
    *response.body_mut() = Body::from(page.html);
    response
}

/// Writes the bodies of errors, whatever their origin, and the header fields of every response.
pub(in crate::web) fn finished(
    mut response: Response,
    id: RequestId,
    snapshot: Option<&Snapshot>,
) -> Response {
    if let (Some(snapshot), Some(problem)) = (snapshot, response.extensions().get::<WebProblem>()) {
        let metrics = &snapshot.services.metrics;
        let counter = match problem.kind {
            ErrorCode::HashingBusy => Some(&metrics.password_pool_busy),
            ErrorCode::StoreUnavailable | ErrorCode::WriteUnknown => Some(&metrics.store_errors),
            ErrorCode::LoginLimited => Some(&metrics.logins_limited),
            ErrorCode::LimitsFull => Some(&metrics.limits_full),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.inc();
        }
    }
    if let Some(body) = error_body(&mut response, id) {
        let length = HeaderValue::from(body.len());
        *response.body_mut() = Body::from(body);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
    }
    put_common_fields(response.headers_mut(), id);
    if snapshot.is_some_and(|it| it.config.listen.public_url.scheme == "https") {
        let value = HeaderValue::from_static(HSTS);
        response
            .headers_mut()
            .insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response
}

/// Returns the body of an error and sets its content type; `None` if the response is no error or already has its body.
fn error_body(response: &mut Response, id: RequestId) -> Option<String> {
    let is_written = response.extensions_mut().remove::<FinishedBody>().is_some();
    let (body, media_type, cause) =
        if let Some(oauth) = response.extensions_mut().remove::<OAuthProblem>() {
            let (_, code, error) = oauth.row();
            let body = serde_json::to_string(&OAuthBody {
                error,
                code,
                request_id: id.as_str(),
                error_description: oauth.description(),
            });
            (body.unwrap_or_default(), JSON, oauth.0.cause)
        } else {
            let problem = response.extensions_mut().remove::<WebProblem>()?;
            let (status, code, title) = problem.kind.row();
            let body = problem_json(code, title, status, id, problem.detail.as_deref());
            (body, MEDIA_TYPE, problem.cause)
        };
    if let Some(cause) = cause {
        tracing::error!(request_id = id.as_str(), cause, "a request failed");
    }
    if is_written {
        return None;
    }
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Some(body)
}

/// Returns the problem for a bare status set by axum: 404, 405, or one that no handler should return.
fn unwritten(status: StatusCode) -> Option<WebProblem> {
    let kind = match status {
        StatusCode::NOT_FOUND => ErrorCode::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::Denied(DenyReason::MethodRefused),
        status if status.is_client_error() => ErrorCode::BodyMalformed,
        status if status.is_server_error() => ErrorCode::Internal,
        _ => return None,
    };
    Some(kind.into())
}

/// Sets the header fields of every response.
///
/// Source: OWASP ASVS 5.0 section 3.4; RFC 6749 section 5.1 for `no-store`.
fn put_common_fields(headers: &mut HeaderMap, id: RequestId) {
    let fields = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    set_fields(headers, fields);
    // Pages for people set their own values.
    let defaults = [
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in defaults {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    let id_field = HeaderName::from_static("x-request-id");
    set_fields(headers, [(id_field, id.as_str())]);
}
