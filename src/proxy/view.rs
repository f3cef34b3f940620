//! From Pingora's head to what the decision sees.

use std::time::Duration;

use http::header::{COOKIE, EXPECT};
use http::{HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::auth::client::Client;
use crate::auth::origin::origin_of;
use crate::auth::view::Target;
use crate::config::Config;
use crate::model::deny::DenyReason;
use crate::model::field_value::exactly_one;
use crate::model::id::RequestId;
use crate::proxy::connection::Connection;
use crate::proxy::context::{AdmittedRequest, Downstream, RefusedRequest, RequestContext, Stage};
use crate::proxy::guard::{HeadLimits, check_h2};
use crate::proxy::headers::{REQUEST_ID, content_length};
use crate::snapshot::Snapshot;

/// Longest time for one piece (64 KiB at most) of an answer: what the slowest permitted reader takes.
const CALLER_WRITE_TIMEOUT: Duration = Duration::from_secs(75);

/// Judges the head and reads from it what the decision needs; [`Stage::Arrived`] if the stream has no guard.
pub(in crate::proxy) fn admit(
    session: &mut Session,
    ctx: &mut RequestContext,
) -> pingora::Result<Stage> {
    let Some(connection) = Connection::of(session.digest()).cloned() else {
        return Ok(Stage::Arrived);
    };
    session.set_write_timeout(Some(CALLER_WRITE_TIMEOUT));
    match session.req_header().version {
        // No interim answer but the switch to another protocol (RFC 9110 section 15.2).
        Version::HTTP_10 => session.as_downstream_mut().set_ignore_info_resp(true),
        Version::HTTP_2 => join_cookies(session.req_header_mut())?,
        _ => {}
    }

    let head = session.req_header();
    let listen = &ctx.snapshot.config.listen;
    let client = Client::find(
        connection.peer(),
        &head.headers,
        &listen.trusted_proxies,
        listen.trusted_headers,
    );
    let refused = connection.take_refused();
    connection.begin_request(head.headers.contains_key(EXPECT));
    let downstream = Downstream {
        connection,
        client,
        is_serial: session.as_http1().is_some(),
    };
    if let Some(refused) = refused {
        session.set_keepalive(None);
        return Ok(Stage::Refused(RefusedRequest {
            downstream,
            method: Method::from_bytes(refused.method.as_bytes()).ok(),
            target: refused.target,
            reason: refused.reason,
        }));
    }
    let method = head.method.clone();
    let read = read_target(head, &head_limits(&ctx.snapshot.config))
        .and_then(|target| as_forwarded(target, head, client, ctx));
    Ok(match read {
        Ok((target, scheme)) => Stage::Admitted(AdmittedRequest {
            downstream,
            method,
            target,
            scheme,
        }),
        Err(reason) => {
            let raw = String::from_utf8_lossy(head.raw_path());
            Stage::Refused(RefusedRequest {
                downstream,
                method: Some(method),
                target: raw.split('?').next().unwrap_or_default().to_owned(),
                reason,
            })
        }
    })
}

/// Makes one field of the crumbs that a cookie may come in over HTTP/2 (RFC 9113 section 8.2.3).
fn join_cookies(head: &mut RequestHeader) -> pingora::Result<()> {
    let mut crumbs = head.headers.get_all(COOKIE).iter();
    let Some(first) = crumbs.next() else {
        return Ok(());
    };
    let mut joined = Vec::new();
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if joined.is_empty() {
        return Ok(());
    }
    joined.splice(..0, first.as_bytes().iter().copied());
    head.insert_header(COOKIE, joined)
}

fn read_target(head: &RequestHeader, limits: &HeadLimits) -> Result<Target, DenyReason> {
    if head.version == Version::HTTP_2 {
        check_h2(head, limits)?;
    }
    target_of(head, head.raw_path())
}

/// What a trusted proxy says of the request that it passes on: its host, its scheme and its id. In a question all fields
/// but those that describe a request are those of that request, and none is about the question.
fn as_forwarded(
    target: Target,
    head: &RequestHeader,
    client: Client,
    ctx: &mut RequestContext,
) -> Result<(Target, &'static str), DenyReason> {
    if ctx.snapshot.is_question(target.path.as_str()) {
        return Ok((target, "http"));
    }
    let public = &ctx.snapshot.config.listen.public_url.scheme;
    let scheme = client.scheme(&head.headers, public)?;
    if client.peer_is_trusted
        && let Some(id) = exactly_one(&head.headers, &REQUEST_ID)
        && let Some(id) = RequestId::parse(id.as_bytes())
    {
        ctx.id = id;
    }
    let target = match client.authority(&head.headers)? {
        Some(authority) => target.at_host(authority)?,
        None => target,
    };
    Ok((target, scheme))
}

/// The origin that a request names whose path cannot be read; `None` where that cannot be read either, and for a question,
/// which no person asks.
pub(in crate::proxy) fn named_origin(
    head: &RequestHeader,
    request: &RefusedRequest,
    snapshot: &Snapshot,
) -> Option<String> {
    if snapshot.is_question(&request.target) {
        return None;
    }
    let client = request.downstream.client;
    let public = &snapshot.config.listen.public_url.scheme;
    let scheme = client.scheme(&head.headers, public).ok()?;
    let root = target_of(head, b"/").ok()?;
    let root = match client.authority(&head.headers).ok()? {
        Some(authority) => root.at_host(authority).ok()?,
        None => root,
    };
    Some(origin_of(scheme, &root.authority))
}

/// What a head that the guard let pass asks for, with a target as sent.
///
/// # Errors
/// As [`Target::read`].
fn target_of(head: &RequestHeader, raw: &[u8]) -> Result<Target, DenyReason> {
    let authority = head.uri.authority().map(|it| it.as_str().as_bytes());
    let host_field = head.headers.get(http::header::HOST);
    let authority = host_field.map(HeaderValue::as_bytes).or(authority);
    Target::read(authority.unwrap_or_default(), raw)
}

/// Whether the body is announced to be longer than `bytes_max`; 0: no limit.
pub(in crate::proxy) fn is_longer(head: &RequestHeader, bytes_max: u64) -> bool {
    bytes_max != 0 && content_length(&head.headers).is_some_and(|length| bytes_max < length)
}

/// The limits on heads, as the guard takes them.
#[must_use]
pub fn head_limits(config: &Config) -> HeadLimits {
    HeadLimits {
        bytes_max: config.limits.head_bytes_max,
        fields_max: config.limits.head_fields_max,
        target_bytes_max: config.limits.target_bytes_max,
    }
}
