//! Edits of header fields: strip first, then insert the gateway's own.

mod hop;

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, SET_COOKIE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};
use pingora::http::RequestHeader;

use crate::auth::strip::{StripSet, cookie_name};
use crate::auth::view::Target;
use crate::model::credential::CredentialRules;
use crate::model::deny::DenyReason;
use crate::model::field_value::exactly_one;
use crate::model::forwarding::{
    FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, ForwardingField, TrustedFields,
};
use crate::model::id::RequestId;
use crate::model::route::Route;
pub(in crate::proxy) use crate::proxy::headers::hop::asks_for_websocket;
use crate::proxy::headers::hop::{NamedFields, is_hop_by_hop};

/// The header field of the request's id, towards upstreams and callers.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum number of fields that the gateway adds; space for them is reserved once.
const ADDED_MAX: usize = 16;

/// The facts for an upstream in addition to the identity.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The fields to remove.
    pub strip: &'a StripSet,
    /// The route; its `pass_headers` and rules exempt some fields.
    pub route: &'a Route,
    /// The matched form of the target, with the host that was decided about.
    pub target: &'a Target,
    /// The scheme that was decided about.
    pub scheme: &'static str,
    /// The request's id.
    pub request_id: RequestId,
    /// The peer's address.
    pub peer: &'a HeaderValue,
    /// The forwarding fields of the peer that are believed, and kept.
    pub believed: TrustedFields,
}

/// Returns the length of the body that a head announces.
pub(in crate::proxy) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Builds the upstream's head from the caller's: leaves out the fields about the caller's connection and every field that
/// is the gateway's to set, in every spelling, then sets exactly one of each. `has_body`: a body follows.
///
/// Names are sent in lower case, and the target is the matched one.
///
/// # Errors
/// If the `Connection` field of the caller names what it may not name.
// INVARIANT: no field of a caller is taken for an identity by an upstream (tests::identity_is_ours_whatever_is_sent).
pub fn to_upstream<'a>(
    head: &RequestHeader,
    forwarding: &Forwarding<'_>,
    identity: impl IntoIterator<Item = (&'a HeaderName, HeaderValue)>,
    has_body: bool,
) -> Result<Parts, DenyReason> {
    let named = NamedFields::read(&head.headers)?;
    let mut headers = HeaderMap::with_capacity(head.headers.len() + ADDED_MAX);
    for (name, value) in &head.headers {
        let ends_here = is_hop_by_hop(name)
            || named.has(name)
            || forwarding
                .strip
                .strips(name, &head.headers, forwarding.route);
        if !ends_here {
            headers.append(name.clone(), value.clone());
        }
    }
    let rules = forwarding.route.credentials;
    forwarding.strip.strip_cookies(&mut headers, rules);

    for (name, value) in identity {
        headers.insert(name.clone(), value);
    }
    headers.insert(REQUEST_ID, id_value(forwarding.request_id));
    headers.insert(FORWARDED_FOR, forwarded_for(&head.headers, forwarding));
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(forwarding.scheme));
    for (field, reads_well) in KEPT {
        let name = field.name();
        if forwarding.believed.has(field)
            && !named.has(&name)
            && let Some(value) = sound(&head.headers, &name, reads_well)
        {
            headers.insert(name, value);
        }
    }
    name_host(&mut headers, &forwarding.target.authority);
    if asks_for_websocket(head) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = head.method.clone();
    parts.uri = Uri::from(forwarding.target.path_and_query.clone());
    parts.headers = headers;
    Ok(parts)
}

/// Sends the upstream only the host that was decided about.
fn name_host(headers: &mut HeaderMap, authority: &str) {
    let sent = headers.get(HOST).cloned();
    let sent = sent.filter(|host| host.as_bytes() == authority.as_bytes());
    let host = sent.or_else(|| {
        let host = HeaderValue::from_str(authority).ok()?;
        headers.insert(HOST, host.clone());
        Some(host)
    });
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
}

/// Returns the name under which a browser sends back the cookie of a `Set-Cookie`. It sends a cookie without a name as
/// its bare value, so in `=name=value` the value contains the name (RFC 6265bis section 5.8.3).
fn cookie_set(field: &[u8]) -> &[u8] {
    let pair = field.split(|byte| *byte == b';').next().unwrap_or_default();
    let mut pair = pair.trim_ascii();
    while let Some(value) = pair.strip_prefix(b"=") {
        pair = value.trim_ascii();
    }
    cookie_name(pair)
}

/// Returns the hops so far: the list of a trusted proxy followed by the peer; for any other peer, the peer alone.
fn forwarded_for(headers: &HeaderMap, forwarding: &Forwarding<'_>) -> HeaderValue {
    let is_believed = forwarding.believed.has(ForwardingField::For);
    if !is_believed || !headers.contains_key(FORWARDED_FOR) {
        return forwarding.peer.clone();
    }
    let mut hops = Vec::new();
    for field in headers.get_all(FORWARDED_FOR) {
        hops.extend_from_slice(field.as_bytes().trim_ascii());
        hops.extend_from_slice(b", ");
    }
    hops.extend_from_slice(forwarding.peer.as_bytes());
    HeaderValue::from_bytes(&hops).unwrap_or_else(|_| forwarding.peer.clone())
}

/// Returns the value of a field, if it occurs once and is valid.
fn sound(headers: &HeaderMap, name: &HeaderName, reads_well: ValueCheck) -> Option<HeaderValue> {
    let value = exactly_one(headers, name)?;
    value.to_str().is_ok_and(reads_well).then(|| value.clone())
}

/// A check of a field's value.
type ValueCheck = fn(&str) -> bool;

/// Fields of a trusted proxy that are passed on unchanged, and the checks of their values.
const KEPT: [(ForwardingField, ValueCheck); 3] = [
    (ForwardingField::Port, is_port),
    (ForwardingField::Prefix, is_prefix),
    (ForwardingField::RealIp, |text| {
        text.parse::<IpAddr>().is_ok()
    }),
];

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| 0 < port)
}

/// Whether a prefix is a path without detours: upstreams build links with it.
fn is_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+=:@".contains(&byte);
    let mut segments = text.split('/').skip(1);
    text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(fits)
        && segments.all(|segment| segment != "." && segment != "..")
}

/// Returns an id as a field value.
#[must_use]
pub fn id_value(id: RequestId) -> HeaderValue {
    // The characters of an id are always allowed in a value.
    HeaderValue::from_str(id.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether the end of an upstream's response is determined in exactly one way: one length, or chunks and no other
/// coding. hyper accepts more. A length beside a coding is removed, since the coding counts (RFC 9112 section 6.3).
pub fn frame_once(headers: &mut HeaderMap, version: Version) -> bool {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_length = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let is_sound = lengths.next().is_none_or(is_length)
        // HTTP/1.0 has no chunks (RFC 9112 section 6.1).
        && codings
            .next()
            .is_none_or(|it| is_chunked(it) && version != Version::HTTP_10);
    is_sound && lengths.next().is_none() && codings.next().is_none()
}

/// Cleans an upstream's response: it can set neither the gateway's cookies nor an identity, fields about the upstream
/// connection are removed, and it has the request's id.
pub fn to_caller(headers: &mut HeaderMap, status: StatusCode, strip: &StripSet, id: RequestId) {
    // Checked once: most responses have no such field.
    let may_name = headers.contains_key(CONNECTION);
    let is_about_upgrade = matches!(
        status,
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED
    );
    let is_removed = |name: &&HeaderName| {
        // The first two are about the upstream connection, as is an offer of another protocol; trailers are dropped.
        matches!(name.as_str(), "keep-alive" | "proxy-connection" | "trailer")
            || (**name == UPGRADE && !is_about_upgrade)
            || strip.is_identity(name)
            || (may_name && is_named(name, headers))
    };
    let names: Vec<_> = headers.keys().filter(is_removed).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        headers.remove(CONNECTION);
    }
    if status == StatusCode::NO_CONTENT || status.is_informational() {
        // No body follows, whatever these fields say, and a reader who believed them would take the next response for
        // it (RFC 9110 section 8.6; RFC 9112 section 6.1).
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
    }
    let rules = CredentialRules::default();
    let sets_ours = |value: &HeaderValue| strip.strips_cookie(cookie_set(value.as_bytes()), rules);
    if headers.get_all(SET_COOKIE).iter().any(sets_ours) {
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().cloned().collect();
        headers.remove(SET_COOKIE);
        for cookie in cookies.into_iter().filter(|value| !sets_ours(value)) {
            headers.append(SET_COOKIE, cookie);
        }
    }
    headers.insert(REQUEST_ID, id_value(id));
}

/// Whether `Connection` names this field, which then ends here (RFC 9110 section 7.6.1). Fields of the framing and of an
/// upgrade are exempt, because they have rules of their own.
fn is_named(name: &HeaderName, headers: &HeaderMap) -> bool {
    let has_own_rule = [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE].contains(name);
    let named = |field: &HeaderValue| {
        let mut tokens = field.as_bytes().split(|byte| *byte == b',');
        tokens.any(|token| {
            token
                .trim_ascii()
                .eq_ignore_ascii_case(name.as_str().as_bytes())
        })
    };
    !has_own_rule && headers.get_all(CONNECTION).iter().any(named)
}

#[cfg(test)]
mod tests;
