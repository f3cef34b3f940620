//! What an asking proxy describes.
//!
//! The fields that carry the target's path name the family: one, or several that name the same target, for whoever could
//! add another one would choose what is judged. Nothing is guessed, and nothing that reads in two ways is believed.

use http::{HeaderMap, HeaderName, Method};

use crate::auth::asked::{ForwardAuthQuestion, ForwardedRequest};
use crate::auth::client::{host_named, scheme_named};
use crate::auth::strip::StripSet;
use crate::auth::view::Target;
use crate::model::deny::DenyReason;
use crate::model::field_name::FoldedName;
use crate::model::field_value::{RepeatedField, at_most_one};
use crate::model::forwarding::{FORWARDED_HOST, FORWARDED_PROTO, ForwardingField, web_scheme};
use crate::route::head::{check_method, host_of};
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
pub(super) enum Dialect {
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
    question: &ForwardAuthQuestion<'a>,
    snapshot: &'a Snapshot,
) -> Result<(Dialect, ForwardedRequest<'a>), DenyReason> {
    let headers = question.headers;
    if headers
        .keys()
        .any(|name| is_disguised(&snapshot.strip, name))
    {
        return Err(DenyReason::ForwardMalformed);
    }
    let config = &snapshot.config;
    let places = DescribedTargets::of(question, &config.listen.auth_prefix)?;
    let raw = places.first().filter(|_| places.are_one());
    let raw = raw.ok_or(DenyReason::ForwardMalformed)?;
    if config.limits.target_bytes_max < raw.len() {
        return Err(DenyReason::TargetTooLong);
    }
    let method = method(headers, places.appended.map(|_| question.method))?;
    let (scheme, authority) = origin(question, &places, &config.listen.public_url.scheme)?;
    let asked = ForwardedRequest {
        method,
        scheme,
        target: Target::read(authority.as_bytes(), raw.as_bytes())?,
        client: question.client.address,
        headers,
    };
    if is_host_doubtful(question, &places, &asked, snapshot) {
        return Err(DenyReason::ForwardMalformed);
    }
    Ok((places.family(), asked))
}

/// The targets that are described, as they were written.
struct DescribedTargets<'a> {
    url: Option<&'a str>,
    uri: Option<&'a str>,
    forwarded: Option<&'a str>,
    appended: Option<&'a str>,
}

impl<'a> DescribedTargets<'a> {
    fn of(question: &ForwardAuthQuestion<'a>, prefix: &str) -> Result<Self, DenyReason> {
        let headers = question.headers;
        Ok(Self {
            url: only(headers, &ORIGINAL_URL)?,
            uri: only(headers, &ORIGINAL_URI)?,
            forwarded: only(headers, &FORWARDED_URI)?,
            appended: appended(question, prefix),
        })
    }

    fn all(&self) -> impl Iterator<Item = &'a str> {
        let all = [self.url, self.uri, self.forwarded, self.appended];
        all.into_iter().flatten()
    }

    fn first(&self) -> Option<&'a str> {
        self.all().next()
    }

    /// What the answer is written for: nginx understands the least.
    const fn family(&self) -> Dialect {
        if self.url.is_some() || self.uri.is_some() {
            Dialect::Nginx
        } else if self.forwarded.is_some() {
            Dialect::Traefik
        } else {
            Dialect::Envoy
        }
    }

    /// Whether all that is described is described in `X-Forwarded-*`, by one hand.
    const fn are_forwarded_only(&self) -> bool {
        self.forwarded.is_some()
            && self.url.is_none()
            && self.uri.is_none()
            && self.appended.is_none()
    }

    /// Whether an absolute URL describes the request, and nothing else does.
    const fn are_url_only(&self) -> bool {
        self.url.is_some()
            && self.uri.is_none()
            && self.forwarded.is_none()
            && self.appended.is_none()
    }

    /// Whether all of them name one path and query. What cannot be read must be written alike.
    fn are_one(&self) -> bool {
        let path = |raw: &'a str| split_url(raw).map_or(raw, |(_, _, path)| path);
        let read = |raw: &str| Target::read(b"a", raw.as_bytes()).ok();
        let mut others = self.all().map(path);
        let Some(first) = others.next() else {
            return true;
        };
        others.all(|other| {
            let is_read_alike = || {
                let (first, other) = (read(first)?, read(other)?);
                Some(first.path_and_query == other.path_and_query)
            };
            first == other || is_read_alike() == Some(true)
        })
    }
}

/// Scheme and host: those of an absolute URL, else those that are told beside the path, else the question's own.
fn origin<'a>(
    question: &ForwardAuthQuestion<'a>,
    places: &DescribedTargets<'a>,
    public_scheme: &'a str,
) -> Result<(&'a str, &'a str), DenyReason> {
    let malformed = |_| DenyReason::ForwardMalformed;
    let host = host_named(question.headers).map_err(malformed)?;
    let scheme_counts =
        question.client.believed.has(ForwardingField::Proto) || places.are_forwarded_only();
    let scheme = single_scheme(question.headers)?.filter(|_| scheme_counts);
    let is_absolute = |raw: &str| !raw.starts_with('/');
    let Some(url) = places.url else {
        if places.all().any(is_absolute) {
            return Err(DenyReason::PathRefused);
        }
        let scheme = scheme.unwrap_or(public_scheme);
        return Ok((scheme, host.unwrap_or(question.authority)));
    };
    let (url_scheme, authority, _) = split_url(url).ok_or(DenyReason::ForwardMalformed)?;
    let url_scheme = web_scheme(url_scheme).ok_or(DenyReason::ForwardMalformed)?;
    if authority.contains(',') {
        return Err(DenyReason::ForwardMalformed);
    }
    // Beside a path, host and scheme of `X-Forwarded-*` describe a target too.
    let is_same_host = |host: &str| {
        let bare = |authority: &str| host_of(authority.as_bytes()).map(str::to_ascii_lowercase);
        bare(host) == bare(authority)
    };
    let is_one = host.is_none_or(is_same_host) && scheme.is_none_or(|scheme| scheme == url_scheme);
    if !places.are_url_only() && !is_one {
        return Err(DenyReason::ForwardMalformed);
    }
    Ok((url_scheme, authority))
}

/// Whether the decision depends on a host that may be the caller's word: a proxy that describes a request by some fields
/// need not overwrite the others. Then the host of the question itself must lead to the same route.
fn is_host_doubtful(
    question: &ForwardAuthQuestion<'_>,
    places: &DescribedTargets<'_>,
    asked: &ForwardedRequest<'_>,
    snapshot: &Snapshot,
) -> bool {
    let is_told = question.headers.contains_key(FORWARDED_HOST);
    // Where an absolute URL and `X-Forwarded-*` agree on the host, one of the two is the proxy's.
    let is_told_twice = places.uri.is_none() && places.appended.is_none();
    let is_believed = question.client.believed.has(ForwardingField::Host);
    let is_vouched_for = places.are_url_only()
        || places.are_forwarded_only()
        || is_told && (is_believed || is_told_twice);
    !is_vouched_for
        && host_of(question.authority.as_bytes()).is_none_or(|host| {
            let host = host.to_ascii_lowercase();
            host != asked.target.host && !snapshot.authorizer.is_one_route(&asked.view(), &host)
        })
}

/// What is appended to the endpoint's own path: a path from its slash on, and the query.
fn appended<'a>(question: &ForwardAuthQuestion<'a>, prefix: &str) -> Option<&'a str> {
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

/// Scheme, authority and the rest of an absolute URL.
fn split_url(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
    Some((scheme, authority, path))
}

/// The scheme that is told beside a path, once.
fn single_scheme(headers: &HeaderMap) -> Result<Option<&'static str>, DenyReason> {
    only(headers, &FORWARDED_PROTO)?;
    scheme_named(headers).map_err(|_| DenyReason::ForwardMalformed)
}

/// Whether a name is that of an identity header, or one that describes, in a spelling that some servers read as the same.
pub(super) fn is_disguised(strip: &StripSet, name: &HeaderName) -> bool {
    strip.is_disguised_identity(name) || is_twin(name)
}

/// Whether a name is one of [`DESCRIBING`] to other servers, but not to us.
fn is_twin(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && !name.windows(2).any(|w| w == b"--")
    {
        return false;
    }
    let folded = FoldedName::of(name);
    let is_alike = |known: &HeaderName| folded.whole() == Some(known.as_str().as_bytes());
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
    let first = at_most_one(headers, name).map_err(|RepeatedField| DenyReason::ForwardMalformed)?;
    first
        .map(|value| {
            std::str::from_utf8(value.as_bytes()).map_err(|_| DenyReason::RequestMalformed)
        })
        .transpose()
}
