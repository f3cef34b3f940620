//! Parses the request that an asking proxy describes over HTTP.
//!
//! The header fields with the target's path determine the dialect. There may be several only if they name the same
//! target; otherwise a caller who can add one would choose which request is decided. Nothing is guessed, and nothing
//! ambiguous is believed.

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

/// The header fields by which proxies describe a request. A variant spelling of one is refused, since it is no honest
/// mistake.
const DESCRIBING: [HeaderName; 7] = [
    FORWARDED_URI,
    FORWARDED_METHOD,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    ORIGINAL_URI,
    ORIGINAL_URL,
    ORIGINAL_METHOD,
];

/// A dialect: how a proxy describes a request, and which answers it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `X-Forwarded-Uri`: Traefik, Caddy and HAProxy.
    Traefik,
    /// `X-Original-URI`, or `X-Original-URL`, which is absolute.
    Nginx,
    /// Envoy: the path is appended to the endpoint's own, and the method is that of the question.
    Envoy,
}

/// Parses the described request.
///
/// # Errors
/// [`DenyReason::ForwardMalformed`] if the proxy does not describe exactly one request; other reasons are faults of the
/// proxy's caller.
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
    let raw = places.all().next().filter(|_| places.are_one());
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

/// The described targets, as written.
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

    /// Returns the dialect of the answer. nginx takes precedence, since it understands the fewest statuses.
    const fn family(&self) -> Dialect {
        if self.url.is_some() || self.uri.is_some() {
            Dialect::Nginx
        } else if self.forwarded.is_some() {
            Dialect::Traefik
        } else {
            Dialect::Envoy
        }
    }

    /// Whether only `X-Forwarded-*` describes the request, so that one proxy wrote all of it.
    fn are_forwarded_only(&self) -> bool {
        self.forwarded.is_some() && self.all().count() == 1
    }

    /// Whether only an absolute URL describes the request.
    fn are_url_only(&self) -> bool {
        self.url.is_some() && self.all().count() == 1
    }

    /// Whether all descriptions name the same path and query. Unparsable ones must be identical byte for byte.
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

/// Returns scheme and host: those of an absolute URL, else those of `X-Forwarded-*`, else the question's own.
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
    // Next to a path, `X-Forwarded-Host` and `X-Forwarded-Proto` describe a target too.
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

/// Whether the decision depends on a host that the caller may have chosen: a proxy that describes a request by some
/// fields need not overwrite the others. In that case the host of the question itself must lead to the same route.
fn is_host_doubtful(
    question: &ForwardAuthQuestion<'_>,
    places: &DescribedTargets<'_>,
    asked: &ForwardedRequest<'_>,
    snapshot: &Snapshot,
) -> bool {
    let is_told = question.headers.contains_key(FORWARDED_HOST);
    // If an absolute URL and `X-Forwarded-*` agree on the host, the proxy wrote one of the two.
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

/// Returns what is appended to the endpoint's own path: a path with its leading slash, and the query.
fn appended<'a>(question: &ForwardAuthQuestion<'a>, prefix: &str) -> Option<&'a str> {
    let asked = question.path_and_query.as_str();
    let rest = asked
        .strip_prefix(prefix)?
        .strip_prefix(FORWARD_AUTH_PATH)?;
    rest.starts_with('/').then_some(rest)
}

/// Returns the described method. `own` is the question's method, in dialects where it is also the request's.
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

/// Splits an absolute URL into scheme, authority and the rest.
fn split_url(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
    Some((scheme, authority, path))
}

/// Returns the scheme of `X-Forwarded-Proto`, which must not be repeated.
fn single_scheme(headers: &HeaderMap) -> Result<Option<&'static str>, DenyReason> {
    only(headers, &FORWARDED_PROTO)?;
    scheme_named(headers).map_err(|_| DenyReason::ForwardMalformed)
}

/// Whether a name is a variant spelling of an identity header or a describing field that some servers treat as the same
/// name.
pub(super) fn is_disguised(strip: &StripSet, name: &HeaderName) -> bool {
    strip.is_disguised_identity(name) || is_twin(name)
}

/// Whether other servers, but not this gateway, treat a name as one of [`DESCRIBING`].
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

/// Like [`only`], but also refuses a comma-separated list.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, DenyReason> {
    let value = only(headers, name)?;
    if value.is_some_and(|value| value.as_bytes().contains(&b',')) {
        return Err(DenyReason::ForwardMalformed);
    }
    Ok(value)
}

/// Returns the value of a field that must not be repeated. A target may contain raw UTF-8, as sent by the caller; every
/// other value is ASCII and checked where it is parsed.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, DenyReason> {
    let first = at_most_one(headers, name).map_err(|RepeatedField| DenyReason::ForwardMalformed)?;
    first
        .map(|value| {
            std::str::from_utf8(value.as_bytes()).map_err(|_| DenyReason::RequestMalformed)
        })
        .transpose()
}
