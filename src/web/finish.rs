//! What every answer carries, and how errors are written.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use crate::auth::navigation::wants_page;
use crate::model::deny::DenyReason;
use crate::model::id::RequestId;
use crate::model::problem::{MEDIA_TYPE, problem_json_with_detail};
use crate::snapshot::{Refusal, RefusalPage, RequestScope, Snapshot};
use crate::web::answer::Written;
use crate::web::error::{Kind, OAuthProblem, Problem};
use crate::web::portal::Portal;

/// For a year browsers come by https only, once they came so.
const HSTS: &str = "max-age=31536000";

/// An OAuth error as it is written (RFC 6749 section 5.2).
#[derive(Serialize)]
struct OAuthBody<'a> {
    error: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_description: Option<String>,
}

/// Outermost layer: [`finished`] for every answer, and a page for a person who is refused.
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
    let person = scope.as_ref().filter(|_| wants_page).map(|scope| Waiting {
        scope: scope.clone(),
        headers: request.headers().clone(),
        // A query here may hold the token of a link, which no page prints.
        path: request.uri().path().to_owned(),
    });
    let mut response = next.run(request).await;
    if let (Some(scope), Some(code)) = (&scope, code_of(&response)) {
        // The only place that notes it.
        let _ = scope.notes.reason.set(code);
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

/// A person who waits for a page.
struct Waiting {
    scope: RequestScope,
    headers: HeaderMap,
    path: String,
}

impl Waiting {
    /// The answer, as a page if it is a refusal that is none yet.
    async fn shown(self, portal: &Portal, response: Response) -> Response {
        if response.extensions().get::<Written>().is_some() {
            return response;
        }
        let found = response.extensions().get::<Problem>().cloned();
        let Some(problem) = found.or_else(|| unwritten(response.status())) else {
            return response;
        };
        let Self {
            scope,
            headers,
            path,
        } = self;
        let authorizer = &scope.snapshot.authorizer;
        // What cannot be answered is not asked once more.
        let person = if response.status().is_server_error() {
            None
        } else {
            authorizer.person(&headers, scope.client, true).await
        };
        let page = portal.refusal(&Refusal {
            person: person.as_ref().and_then(|person| person.username()),
            asked: (&scope.origin, &path),
            ..refusal(&problem, &scope.snapshot, scope.id, &headers)
        });
        paged(response, problem, page)
    }
}

/// What a page says of a problem whose request nobody has asked for, as far as is known.
pub(in crate::web) fn refusal<'a>(
    problem: &Problem,
    snapshot: &'a Snapshot,
    id: RequestId,
    headers: &'a HeaderMap,
) -> Refusal<'a> {
    let (status, _, title) = problem.kind.row();
    let limit = problem.limit;
    let limited = limit.and_then(|limit| u32::try_from(limit.wait.as_secs() + 1).ok());
    Refusal {
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

/// The answer with a page as its body; its head stays.
pub(in crate::web) fn paged(
    mut response: Response,
    problem: Problem,
    page: Option<RefusalPage>,
) -> Response {
    let Some(page) = page else {
        return response;
    };
    let extensions = response.extensions_mut();
    extensions.insert(problem);
    extensions.insert(Written);
    let length = HeaderValue::from(page.html.len());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length);
    for (name, value) in page.fields {
        headers.insert(name, value);
    }
    *response.body_mut() = Body::from(page.html);
    response
}

/// Writes the bodies of errors, whoever caused them, and the header fields of every answer.
pub(in crate::web) fn finished(
    mut response: Response,
    id: RequestId,
    snapshot: Option<&Snapshot>,
) -> Response {
    if let (Some(snapshot), Some(problem)) = (snapshot, response.extensions().get::<Problem>()) {
        let metrics = &snapshot.services.metrics;
        match problem.kind {
            Kind::HashingBusy => metrics.password_pool_busy(),
            Kind::StoreUnavailable | Kind::WriteUnknown => metrics.store_error(),
            Kind::LoginLimited => metrics.login_limited(),
            Kind::LimitsFull => metrics.limits_full(),
            _ => {}
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

/// The body of an error, with its content type set; `None`: the answer is none, or is written already.
fn error_body(response: &mut Response, id: RequestId) -> Option<String> {
    let is_written = response.extensions_mut().remove::<Written>().is_some();
    let (body, media_type, cause) =
        if let Some(oauth) = response.extensions_mut().remove::<OAuthProblem>() {
            let body = serde_json::to_string(&OAuthBody {
                error: oauth.error,
                code: oauth.code,
                request_id: id.as_str(),
                error_description: oauth
                    .parameter
                    .map(|name| format!("{name}: once, and not empty")),
            });
            (body.unwrap_or_default(), "application/json", oauth.cause)
        } else {
            let problem = response
                .extensions_mut()
                .remove::<Problem>()
                .or_else(|| unwritten(response.status()))?;
            let (status, code, title) = problem.kind.row();
            let body = problem_json_with_detail(code, title, status, id, problem.detail.as_deref());
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

/// The stable code of an answer that tells of a problem.
fn code_of(response: &Response) -> Option<&'static str> {
    if let Some(oauth) = response.extensions().get::<OAuthProblem>() {
        return Some(oauth.code);
    }
    let (_, code, _) = match response.extensions().get::<Problem>() {
        Some(problem) => problem.kind.row(),
        None => unwritten(response.status())?.kind.row(),
    };
    Some(code)
}

/// The problem that a bare status of axum's own means: 404 and 405, or something that no handler should let out.
fn unwritten(status: StatusCode) -> Option<Problem> {
    let kind = match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Kind::Denied(DenyReason::MethodRefused),
        status if status.is_client_error() => Kind::BodyMalformed,
        status if status.is_server_error() => Kind::Internal,
        _ => return None,
    };
    Some(kind.into())
}

/// Source: OWASP ASVS 5.0 section 3.4; RFC 6749 section 5.1 for `no-store`.
fn put_common_fields(headers: &mut HeaderMap, id: RequestId) {
    let fields = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fields {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages for people have their own.
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
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
}
