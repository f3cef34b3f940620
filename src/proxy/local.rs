//! The gateway's own endpoints: a request handed to their router, in process.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, OrErr};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::auth::asked::Judged;
use crate::auth::view::Target;
use crate::model::deny::DenyReason;
use crate::model::id::RequestId;
use crate::proxy::headers::{REQUEST_ID, id_value};
use crate::snapshot::{OWN_BODY_BYTES_MAX, RequestScope};

/// How a request to the gateway's own endpoints ended.
#[derive(Debug)]
#[must_use]
pub enum Local {
    /// It was answered.
    Answered {
        /// With this status.
        status: u16,
        /// What was decided, if it was a question about another request.
        judged: Option<Arc<Judged>>,
    },
    /// It is refused before any endpoint saw it; nothing was written yet.
    Refused(DenyReason),
}

/// Reads the whole request, asks the router, writes its answer.
///
/// # Errors
/// When the caller is gone or its body breaks HTTP's rules.
pub async fn serve(
    session: &mut Session,
    router: &Router,
    target: &Target,
    scope: RequestScope,
) -> pingora::Result<Local> {
    // A body here is as short as a head, and has as long to come: nobody holds a connection, or a hundred streams of one,
    // by a body without an end.
    let patience = scope.snapshot.config.limits.head_timeout;
    let Ok(read) = timeout(patience, read_body(session)).await else {
        return Ok(Local::Refused(DenyReason::BodyTimeout));
    };
    let Some(body) = read.map_err(Error::into_down)? else {
        return Ok(Local::Refused(DenyReason::BodyTooLarge));
    };
    let id = scope.id;
    let request = request(session, target, scope, body);
    let is_head = request.method() == Method::HEAD;
    let mut response = match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    let judged = response.extensions_mut().remove();
    let (head, body) = take_apart(response, is_head, id).await?;
    let is_bodyless = body.is_empty();
    session
        .write_response_header(Box::new(head), is_bodyless)
        .await
        .map_err(Error::into_down)?;
    if !is_bodyless {
        session
            .write_response_body(Some(body), true)
            .await
            .map_err(Error::into_down)?;
    }
    Ok(Local::Answered { status, judged })
}

/// The whole body; `None` if it is larger than the limit.
async fn read_body(session: &mut Session) -> pingora::Result<Option<Bytes>> {
    if session.is_body_empty() {
        return Ok(Some(Bytes::new()));
    }
    let head = session.req_header();
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| OWN_BODY_BYTES_MAX < length) {
        return Ok(None);
    }
    if head.headers.contains_key(EXPECT) {
        session.downstream_session.write_continue_response().await?;
    }
    let mut body = BytesMut::with_capacity(length.unwrap_or(0));
    while let Some(piece) = session.downstream_session.read_request_body().await? {
        if OWN_BODY_BYTES_MAX < body.len() + piece.len() {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body.freeze()))
}

fn request(session: &Session, target: &Target, scope: RequestScope, body: Bytes) -> Request<Body> {
    let head = session.req_header();
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = head.method.clone();
    // Origin-form, on HTTP/2 too: the endpoints see one form of everything.
    *request.uri_mut() = Uri::from(target.path_and_query.clone());
    *request.headers_mut() = head.headers.clone();
    if !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(&target.authority)
    {
        request.headers_mut().insert(HOST, host);
    }
    request.extensions_mut().insert(scope);
    request
}

/// The answer as Pingora writes it: its head with the framing that fits, and its body, empty where none may follow.
async fn take_apart(
    response: Response<Body>,
    is_head: bool,
    id: RequestId,
) -> pingora::Result<(ResponseHeader, Bytes)> {
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .or_err(ErrorType::InternalError, "the body of an own answer")
        .map_err(Error::into_in)?
        .to_bytes();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 3))?;
    for (name, value) in &parts.headers {
        // The framing is written below; the others belong to a connection that this answer never had.
        let is_framing =
            [&CONTENT_LENGTH, &TRANSFER_ENCODING, &CONNECTION, &UPGRADE].contains(&name);
        if !is_framing {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    let has_no_body = matches!(
        parts.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    if parts.status.is_informational() {
        return Err(Error::explain(
            ErrorType::InternalError,
            "an own endpoint answered with an interim status",
        )
        .into_in());
    }
    if !has_no_body {
        // axum has emptied the body of an answer to HEAD, and told its length.
        let told = parts.headers.get(CONTENT_LENGTH).filter(|_| is_head);
        let length = told
            .cloned()
            .unwrap_or_else(|| HeaderValue::from(body.len()));
        head.insert_header(CONTENT_LENGTH, length)?;
    }
    if !parts.headers.contains_key(CACHE_CONTROL) {
        head.insert_header(CACHE_CONTROL, "no-store")?;
    }
    head.insert_header(REQUEST_ID, id_value(id))?;
    let body = if is_head || has_no_body {
        Bytes::new()
    } else {
        body
    };
    Ok((head, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn written(status: u16, body: &'static str, is_head: bool) -> (ResponseHeader, Bytes) {
        let response = Response::builder()
            .status(status)
            .header("content-length", body.len())
            .header("connection", "close")
            .header("x-own", "1")
            .body(Body::from(body))
            .unwrap();
        let id = RequestId::from_number(1);
        take_apart(response, is_head, id).await.unwrap()
    }

    #[tokio::test]
    async fn answers_are_framed_as_their_status_and_method_ask() {
        for (status, body, is_head, length, left) in [
            (200, "hello", false, Some("5"), "hello"),
            (200, "hello", true, Some("5"), ""),
            (200, "", false, Some("0"), ""),
            (204, "", false, None, ""),
            (304, "", false, None, ""),
            (404, "no", false, Some("2"), "no"),
        ] {
            let (head, rest) = written(status, body, is_head).await;
            let told = head
                .headers
                .get(CONTENT_LENGTH)
                .map(|it| it.to_str().unwrap());
            assert_eq!(
                (told, rest.as_ref()),
                (length, left.as_bytes()),
                "{status} {is_head}"
            );
            assert!(!head.headers.contains_key(CONNECTION));
            assert_eq!(head.headers.get("x-own").unwrap(), "1");
            assert_eq!(head.headers.get(CACHE_CONTROL).unwrap(), "no-store");
            assert_eq!(head.headers.get(REQUEST_ID).unwrap(), "0000000000000001");
        }
    }
}
