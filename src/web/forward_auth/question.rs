//! What an asking proxy describes.
//!
//! The field that carries the target's path names the family, and there must be exactly one: whoever can add a second one
//! would choose what is judged. Nothing is guessed, and nothing that reads in two ways is believed.

use http::{HeaderMap, HeaderName, Method};

use crate::auth::asked::{Asked, Question};
use crate::auth::strip::StripSet;
use crate::auth::view::{FORWARDED_HOST, FORWARDED_PROTO, Target};
use crate::model::deny::DenyReason;
use crate::route::head::check_method;
use crate::snapshot::{FORWARD_AUTH_PATH, Snapshot};

const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");

/// The fields by which proxies describe a request; another spelling of one is nobody's honest mistake.
const DESCRIBING: [HeaderName; 7] = [
    FORWARDED_URI,
    FORWARDED_METHOD,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    ORIGINAL_URI,
    ORIGINAL_URL,
    ORIGINAL_METHOD,
];

/// How a proxy describes a request, and what it understands of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// `X-Forwarded-Uri`: Traefik, Caddy and HAProxy.
    Traefik,
    /// `X-Original-URI`, or `X-Original-URL`, which is absolute.
    Nginx,
    /// The path appended to the endpoint's own, and the method its own: Envoy.
    Envoy,
}

/// Reads the question.
///
/// # Errors
/// [`DenyReason::ForwardMalformed`] where the proxy describes no one request; the other reasons are mistakes of its
/// caller's.
pub(super) fn read<'a>(
    question: &Question<'a>,
    snapshot: &'a Snapshot,
) -> Result<(Family, Asked<'a>), DenyReason> {
    let headers = question.headers;
    if headers
        .keys()
        .any(|name| is_disguised(&snapshot.strip, name))
    {
        return Err(DenyReason::ForwardMalformed);
    }
    let config = &snapshot.config;
    let (family, raw) = target(question, &config.listen.auth_prefix)?;
    if config.limits.target_bytes_max < raw.len() {
        return Err(DenyReason::TargetTooLong);
    }
    let method = method(
        headers,
        (family == Family::Envoy).then_some(question.method),
    )?;
    let host = single(headers, &FORWARDED_HOST)?;
    let scheme = single(headers, &FORWARDED_PROTO)?
        .map(web_scheme)
        .transpose()?;
    let (scheme, authority) = if headers.contains_key(ORIGINAL_URL) {
        split_url(raw)?
    } else if raw.starts_with('/') {
        let public = config.listen.public_url.scheme.as_str();
        (scheme.unwrap_or(public), host.unwrap_or(question.authority))
    } else {
        return Err(DenyReason::PathRefused);
    };
    let asked = Asked {
        method,
        scheme,
        target: Target::read(authority.as_bytes(), raw.as_bytes())?,
        client: question.client.address,
        headers,
    };
    Ok((family, asked))
}

/// The one target that is described, as it was written, and by which family.
fn target<'a>(question: &Question<'a>, prefix: &str) -> Result<(Family, &'a str), DenyReason> {
    let headers = question.headers;
    let places = [
        (Family::Traefik, only(headers, &FORWARDED_URI)?),
        (Family::Nginx, only(headers, &ORIGINAL_URI)?),
        (Family::Nginx, only(headers, &ORIGINAL_URL)?),
        (Family::Envoy, appended(question, prefix)),
    ];
    let mut found = places
        .into_iter()
        .filter_map(|(family, raw)| Some((family, raw?)));
    match (found.next(), found.next()) {
        (Some(target), None) => Ok(target),
        _ => Err(DenyReason::ForwardMalformed),
    }
}

/// What is appended to the endpoint's own path: a path from its slash on, and the query.
fn appended<'a>(question: &Question<'a>, prefix: &str) -> Option<&'a str> {
    let asked = question.path_and_query.as_str();
    let rest = asked
        .strip_prefix(prefix)?
        .strip_prefix(FORWARD_AUTH_PATH)?;
    rest.starts_with('/').then_some(rest)
}

/// The one method that is described; `own`: the question's, where that is the request's.
fn method(headers: &HeaderMap, own: Option<&Method>) -> Result<Method, DenyReason> {
    let described = [
        single(headers, &FORWARDED_METHOD)?,
        single(headers, &ORIGINAL_METHOD)?,
        own.map(Method::as_str),
    ];
    let mut described = described.into_iter().flatten();
    let method = described.next().ok_or(DenyReason::ForwardMalformed)?;
    if described.any(|other| other != method) {
        return Err(DenyReason::ForwardMalformed);
    }
    check_method(method.as_bytes())?;
    Method::from_bytes(method.as_bytes()).map_err(|_| DenyReason::RequestMalformed)
}

/// Scheme and authority of an absolute URL.
fn split_url(url: &str) -> Result<(&'static str, &str), DenyReason> {
    let (scheme, rest) = url.split_once("://").ok_or(DenyReason::ForwardMalformed)?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains(',') {
        return Err(DenyReason::ForwardMalformed);
    }
    Ok((web_scheme(scheme)?, authority))
}

/// A scheme as it stands in an `Origin`: some proxies tell WebSocket handshakes by schemes of their own.
pub(super) fn web_scheme(text: &str) -> Result<&'static str, DenyReason> {
    match text {
        "http" | "ws" => Ok("http"),
        "https" | "wss" => Ok("https"),
        _ => Err(DenyReason::ForwardMalformed),
    }
}

/// Whether a name is that of an identity header, or one that describes, in a spelling that some servers read as the same.
pub(super) fn is_disguised(strip: &StripSet, name: &HeaderName) -> bool {
    strip.is_disguised_identity(name) || is_twin(name)
}

/// Whether a name is one of [`DESCRIBING`] to servers that read `_` and `.` as `-`, but not to us.
fn is_twin(name: &HeaderName) -> bool {
    let is_plain = |b: &u8| !matches!(b, b'_' | b'.');
    if name.as_str().as_bytes().iter().all(is_plain) {
        return false;
    }
    let is_alike = |known: &HeaderName| {
        let pairs = known.as_str().bytes().zip(name.as_str().bytes());
        name.as_str().len() == known.as_str().len()
            && pairs
                .into_iter()
                .all(|(known, b)| known == b || (known == b'-' && matches!(b, b'_' | b'.')))
    };
    DESCRIBING.iter().any(is_alike)
}

/// As [`only`], for a value that no list may stand for.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, DenyReason> {
    let value = only(headers, name)?;
    if value.is_some_and(|value| value.as_bytes().contains(&b',')) {
        return Err(DenyReason::ForwardMalformed);
    }
    Ok(value)
}

/// The value of a field that may come once. A target may hold raw UTF-8, as its caller sent it; all else is ASCII and is
/// checked where it is read.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, DenyReason> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(DenyReason::ForwardMalformed);
    }
    first
        .map(|value| {
            std::str::from_utf8(value.as_bytes()).map_err(|_| DenyReason::RequestMalformed)
        })
        .transpose()
}
