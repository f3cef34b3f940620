//! Requests to the gateway's own endpoints, passed on in process.

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, OrErr};
use tokio::time::timeout;

use crate::auth::asked::{ForwardAuthQuestion, ForwardedDecision};
use crate::auth::client::Client;
use crate::auth::view::Target;
use crate::model::deny::DenyReason;
use crate::model::id::RequestId;
use crate::proxy::headers::{REQUEST_ID, content_length, id_value};
use crate::proxy::respond::{announce_end, send};
use crate::snapshot::{OWN_BODY_BYTES_MAX, OwnEndpoints, RequestScope, Snapshot};

/// Reads the whole request, passes it to the endpoints and writes the response; returns its status. [`DenyReason`]: it
/// was refused before any endpoint received it, and nothing was written.
///
/// # Errors
/// The read or write error if the caller has disconnected or its body violates HTTP.
pub async fn serve(
    session: &mut ServerSession,
    own: &dyn OwnEndpoints,
    target: &Target,
    scope: RequestScope,
) -> pingora::Result<Result<u16, DenyReason>> {
    let body = match whole_body(session, &scope.snapshot).await? {
        Ok(body) => body,
        Err(reason) => return Ok(Err(reason)),
    };
    let id = scope.id;
    let response = own.answer(request(session, target, scope, body)).await;
    write(session, response, id).await.map(Ok)
}

/// Does the same for a forward-auth request, and returns the decision as well. Its body is discarded.
///
/// # Errors
/// The same as [`serve`].
pub async fn verify(
    session: &mut ServerSession,
    own: &dyn OwnEndpoints,
    target: &Target,
    client: Client,
    (id, snapshot): (RequestId, &Snapshot),
) -> pingora::Result<Result<(u16, ForwardedDecision), DenyReason>> {
    if let Err(reason) = whole_body(session, snapshot).await? {
        return Ok(Err(reason));
    }
    let head = session.req_header();
    let question = ForwardAuthQuestion {
        method: &head.method,
        authority: &target.authority,
        path_and_query: &target.path_and_query,
        headers: &head.headers,
        client,
    };
    let (response, decision) = own.verify(&question, id, snapshot).await;
    let status = write(session, response, id).await?;
    Ok(Ok((status, decision)))
}

/// Writes a response; returns its status.
async fn write(
    session: &mut ServerSession,
    response: Response<Body>,
    id: RequestId,
) -> pingora::Result<u16> {
    let is_head = session.req_header().method == Method::HEAD;
    let status = response.status().as_u16();
    let (head, body) = take_apart(response, is_head, id).await?;
    announce_end(session);
    send(session, head, body).await?;
    Ok(status)
}

/// Reads the whole body of a request.
async fn whole_body(
    session: &mut ServerSession,
    snapshot: &Snapshot,
) -> pingora::Result<Result<Bytes, DenyReason>> {
    if session.is_body_empty() {
        return Ok(Ok(Bytes::new()));
    }
    // A body here is as short as a head, and has the same timeout, so that an endless body cannot hold a connection, or
    // a hundred streams of one.
    let patience = snapshot.config.limits.head_timeout;
    let Ok(read) = timeout(patience, read_body(session)).await else {
        return Ok(Err(DenyReason::BodyTimeout));
    };
    let body = read.map_err(Error::into_down)?;
    Ok(body.ok_or(DenyReason::BodyTooLarge))
}

/// Reads the body; `None` if it is larger than the limit.
async fn read_body(session: &mut ServerSession) -> pingora::Result<Option<Bytes>> {
    let head = session.req_header();
    let length = content_length(&head.headers);
    let length = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length.is_some_and(|length| OWN_BODY_BYTES_MAX < length) {
        return Ok(None);
    }
    if head.headers.contains_key(EXPECT) {
        session.write_continue_response().await?;
    }
    let mut body = BytesMut::with_capacity(length.unwrap_or(0));
    while let Some(piece) = session.read_request_body().await? {
        if OWN_BODY_BYTES_MAX < body.len() + piece.len() {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body.freeze()))
}

fn request(
    session: &ServerSession,
    target: &Target,
    scope: RequestScope,
    body: Bytes,
) -> Request<Bytes> {
    let head = session.req_header();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    // Origin-form, on HTTP/2 too, so that the endpoints receive one form only.
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

/// Converts a response for Pingora: its head with the proper framing, and its body, empty if none may follow.
async fn take_apart(
    response: Response<Body>,
    is_head: bool,
    id: RequestId,
) -> pingora::Result<(ResponseHeader, Bytes)> {
    let (mut parts, body) = response.into_parts();
    let mut body = if body.is_end_stream() {
        Bytes::new()
    } else {
        body.collect()
            .await
            .or_err(ErrorType::InternalError, "the body of an own answer")
            .map_err(Error::into_in)?
            .to_bytes()
    };
    let headers = &mut parts.headers;
    // The framing is set below; the other fields belong to a connection that this response never had.
    let length = headers.remove(CONTENT_LENGTH);
    for name in [TRANSFER_ENCODING, CONNECTION, UPGRADE] {
        headers.remove(name);
    }
    let has_no_body = matches!(parts.status.as_u16(), 204 | 304);
    if parts.status.is_informational() {
        let what = "one of the gateway's own endpoints answered with an interim status";
        return Err(Error::explain(ErrorType::InternalError, what).into_in());
    }
    if !has_no_body {
        // For HEAD, axum has removed the body and set its length.
        let announced = length.filter(|_| is_head);
        let length = announced.unwrap_or_else(|| body.len().into());
        headers.insert(CONTENT_LENGTH, length);
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID, id_value(id));
    if is_head || has_no_body {
        body.clear();
    }
    // Names are kept in lower case: the map for another case costs as much as the rest.
    Ok((parts.into(), body))
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
