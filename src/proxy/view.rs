//! Conversion of Pingora's request head to the input of a decision.

use std::sync::Arc;
use std::time::Duration;

use http::header::{COOKIE, EXPECT};
use http::{HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use crate::auth::client::Client;
use crate::auth::origin::origin_of;
use crate::auth::view::Target;
use crate::config::Config;
use crate::model::deny::DenyReason;
use crate::model::field_value::exactly_one;
use crate::model::id::RequestId;
use crate::proxy::connection::Connection;
use crate::proxy::guard::{HeadLimits, check_h2};
use crate::proxy::headers::REQUEST_ID;
use crate::snapshot::Snapshot;

/// Maximum time to write one piece (64 KiB at most) of an answer: the time that the slowest permitted reader needs.
const CALLER_WRITE_TIMEOUT: Duration = Duration::from_secs(75);

/// A request whose head was read and accepted.
#[derive(Debug)]
pub struct AdmittedRequest {
    /// The method, as sent.
    pub method: Method,
    /// The host and the path.
    pub target: Target,
    /// The caller's address, and the headers of the proxy in front that are trusted.
    pub client: Client,
    /// The scheme that the caller used: `http` or `https`.
    pub scheme: &'static str,
    /// The caller's connection.
    pub connection: Arc<Connection>,
}

/// The readable parts of a request whose head was refused.
#[derive(Debug)]
pub struct RefusedRequest {
    /// The reason.
    pub reason: DenyReason,
    /// The method, as sent; `None` if it could not be read.
    pub method: Option<Method>,
    /// The target as sent, without the query.
    pub target: String,
    /// The caller's address.
    pub client: Client,
}

/// Reads from the head what the decision needs, or refuses the request. A request id from a trusted proxy replaces
/// `id`.
pub(in crate::proxy) fn admit(
    session: &mut ServerSession,
    connection: Arc<Connection>,
    snapshot: &Snapshot,
    id: &mut RequestId,
) -> pingora::Result<Result<AdmittedRequest, RefusedRequest>> {
    session.set_write_timeout(Some(CALLER_WRITE_TIMEOUT));
    match session.req_header().version {
        // HTTP/1.0 has no interim responses (RFC 9110 section 15.2).
        Version::HTTP_10 => session.set_ignore_info_resp(true),
        Version::HTTP_2 => join_cookies(session.req_header_mut())?,
        _ => {}
    }
    let head = session.req_header();
    let listen = &snapshot.config.listen;
    let client = Client::find(
        connection.peer,
        &head.headers,
        &listen.trusted_proxies,
        listen.trusted_headers,
    );
    let refused = connection.take_refused();
    connection.begin_request(head.headers.contains_key(EXPECT));
    let refuse = |reason, method, target| {
        Ok(Err(RefusedRequest {
            reason,
            method,
            target,
            client,
        }))
    };
    if let Some(head) = refused {
        session.set_keepalive(None);
        let method = Method::from_bytes(head.method.as_bytes()).ok();
        return refuse(head.reason, method, head.target);
    }
    let read = read_target(head, &head_limits(&snapshot.config));
    let read = read.and_then(|target| as_forwarded(target, head, (client, snapshot), id));
    let (target, scheme) = match read {
        Ok(read) => read,
        Err(reason) => {
            let raw = String::from_utf8_lossy(head.raw_path());
            let path = raw.split('?').next().unwrap_or_default().to_owned();
            return refuse(reason, Some(head.method.clone()), path);
        }
    };
    Ok(Ok(AdmittedRequest {
        method: head.method.clone(),
        target,
        client,
        scheme,
        connection,
    }))
}

/// Joins the cookie fields of an HTTP/2 request into one (RFC 9113 section 8.2.3).
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

/// Applies the host, the scheme and the id that a trusted proxy states for the request it passes on. In a forward-auth
/// question all fields describe the request in question, so none is applied to the question itself.
fn as_forwarded(
    target: Target,
    head: &RequestHeader,
    (client, snapshot): (Client, &Snapshot),
    id: &mut RequestId,
) -> Result<(Target, &'static str), DenyReason> {
    if snapshot.is_question(target.path.as_str()) {
        return Ok((target, "http"));
    }
    let scheme = client.scheme(&head.headers, &snapshot.config.listen.public_url.scheme)?;
    if client.peer_is_trusted
        && let Some(forwarded) = exactly_one(&head.headers, &REQUEST_ID)
        && let Some(forwarded) = RequestId::parse(forwarded.as_bytes())
    {
        *id = forwarded;
    }
    let target = match client.authority(&head.headers)? {
        Some(authority) => target.at_host(authority)?,
        None => target,
    };
    Ok((target, scheme))
}

/// Returns the origin that a refused request names; `None` if it cannot be read, or for a forward-auth question, which
/// does not come from a person.
pub(in crate::proxy) fn named_origin(
    head: &RequestHeader,
    refused: &RefusedRequest,
    snapshot: &Snapshot,
) -> Option<String> {
    if snapshot.is_question(&refused.target) {
        return None;
    }
    let client = refused.client;
    let public = &snapshot.config.listen.public_url.scheme;
    let scheme = client.scheme(&head.headers, public).ok()?;
    let root = target_of(head, b"/").ok()?;
    let root = match client.authority(&head.headers).ok()? {
        Some(authority) => root.at_host(authority).ok()?,
        None => root,
    };
    Some(origin_of(scheme, &root.authority))
}

/// Reads the target of a head that the guard accepted; `raw` is the target as sent.
///
/// # Errors
/// The errors of [`Target::read`].
fn target_of(head: &RequestHeader, raw: &[u8]) -> Result<Target, DenyReason> {
    let authority = head.uri.authority().map(|it| it.as_str().as_bytes());
    let host_field = head.headers.get(http::header::HOST);
    let authority = host_field.map(HeaderValue::as_bytes).or(authority);
    Target::read(authority.unwrap_or_default(), raw)
}

/// Returns the limits of heads for the guard.
#[must_use]
pub fn head_limits(config: &Config) -> HeadLimits {
    HeadLimits {
        bytes_max: config.limits.head_bytes_max,
        fields_max: config.limits.head_fields_max,
        target_bytes_max: config.limits.target_bytes_max,
    }
}
