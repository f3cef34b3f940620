//! What the decision sees of a request, and who the client is.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::model::deny::DenyReason;
use crate::model::path::CanonicalPath;
use crate::route::head::host_of;
use crate::route::normalize::canonical;

/// Where hops write whom they had the request from.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// By which scheme it came to a hop.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// For which host it came to a hop.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Most hops of a forwarding header that are looked at.
const HOPS_MAX: usize = 32;

/// A request to one of the gateway's own endpoints, as far as its caller is told by it.
#[derive(Clone, Copy, Debug)]
pub struct OwnView<'a> {
    /// The method, as sent.
    pub method: &'a http::Method,
    /// All header fields as the caller sent them.
    pub headers: &'a http::HeaderMap,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// The origin that the request was sent to, as [`crate::auth::origin::origin_of`] writes it.
    pub origin: &'a str,
}

/// A request, as the proxy and forward-auth alike hand it to the decision.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method, as sent.
    pub method: &'a http::Method,
    /// The host: lower case, without port and trailing dot.
    pub host: &'a str,
    /// The scheme that the caller used: `http` or `https`.
    pub scheme: &'a str,
    /// The host with its port, as the caller named it.
    pub authority: &'a str,
    /// The one path that is matched and sent.
    pub path: &'a CanonicalPath,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// All header fields as the caller sent them.
    pub headers: &'a http::HeaderMap,
}

/// What a request asks for, in the one form that is matched, logged and sent.
#[derive(Debug)]
pub struct Target {
    /// The host: lower case, without port and trailing dot.
    pub host: String,
    /// The host with its port, as sent.
    pub authority: String,
    /// The path that is matched.
    pub path: CanonicalPath,
    /// The path that is matched, and the query as it came: what is sent on.
    pub path_and_query: PathAndQuery,
}

impl Target {
    /// Reads what a request names.
    ///
    /// `authority`: host and port, as in `Host`. `raw`: the target in origin-form or absolute-form, as sent.
    ///
    /// # Errors
    /// [`DenyReason::RequestMalformed`] without a sound authority, [`DenyReason::PathRefused`] as
    /// [`canonical`] refuses a path.
    pub fn read(authority: &[u8], raw: &[u8]) -> Result<Self, DenyReason> {
        let host = host_of(authority).ok_or(DenyReason::RequestMalformed)?;
        let authority = std::str::from_utf8(authority).map_err(|_| DenyReason::RequestMalformed)?;
        let origin_form = origin_form(raw).ok_or(DenyReason::PathRefused)?;
        let read = canonical(&origin_form).map_err(|_| DenyReason::PathRefused)?;
        let text = match read.query {
            Some(query) => format!("{}?{query}", read.path),
            None => read.path.as_str().to_owned(),
        };
        let path_and_query =
            PathAndQuery::from_maybe_shared(text).map_err(|_| DenyReason::PathRefused)?;
        Ok(Self {
            host: host.to_ascii_lowercase(),
            authority: authority.to_owned(),
            path: read.path,
            path_and_query,
        })
    }

    /// The request of a client, known by its address after trusted proxies, as the decision sees it. `scheme`: as
    /// [`Client::scheme`] finds it.
    #[must_use]
    pub fn view<'a>(
        &'a self,
        method: &'a Method,
        scheme: &'a str,
        client: IpAddr,
        headers: &'a HeaderMap,
    ) -> RequestView<'a> {
        RequestView {
            method,
            host: &self.host,
            scheme,
            authority: &self.authority,
            path: &self.path,
            client,
            headers,
        }
    }
}

/// Path and query of a target in origin-form or absolute-form; an absolute one without a path asks for `/`.
fn origin_form(target: &[u8]) -> Option<Cow<'_, [u8]>> {
    if target.starts_with(b"/") {
        return Some(target.into());
    }
    let scheme_end = target.windows(3).position(|bytes| bytes == b"://")?;
    let rest = target.get(scheme_end + 3..)?;
    let begin = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let rest = rest.get(begin.unwrap_or(rest.len())..)?;
    if rest.starts_with(b"/") {
        return Some(rest.into());
    }
    Some([b"/", rest].concat().into())
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address, after trusted proxies.
    pub address: IpAddr,
    /// Whether the peer is a trusted proxy, whose forwarding headers are kept.
    pub peer_is_trusted: bool,
}

impl Client {
    /// Walks the forwarding header from the right, as long as trusted proxies speak. What anybody else wrote is not
    /// believed, nor is what stands left of something that is no address.
    ///
    /// Source: RFC 7239 section 8.1.
    #[must_use]
    pub fn find(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
        let peer_is_trusted = is_trusted(peer);
        let mut address = peer;
        if peer_is_trusted {
            let fields: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
            let hops = fields
                .iter()
                .rev()
                .flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
            for hop in hops.take(HOPS_MAX) {
                let Some(named) = hop_address(hop) else { break };
                address = named;
                if !is_trusted(named) {
                    break;
                }
            }
        }
        Self {
            address,
            peer_is_trusted,
        }
    }
}

impl Client {
    /// The scheme that the caller used: what a trusted proxy says, if it says it once and well; else that of
    /// `public_url`, since TLS may end at a proxy that says nothing.
    #[must_use]
    pub fn scheme<'a>(self, headers: &'a HeaderMap, public: &'a str) -> &'a str {
        let mut values = headers.get_all(FORWARDED_PROTO).iter();
        let told = self.peer_is_trusted.then(|| values.next()).flatten();
        match told
            .filter(|_| values.next().is_none())
            .map(HeaderValue::as_bytes)
        {
            Some(b"http") => "http",
            Some(b"https") => "https",
            _ => public,
        }
    }
}

/// An address as hops write it: bare, with a port, in brackets or in quotes.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let text = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    let address = bare.parse().or_else(|_| with_port()).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(target: &str, host: &str) -> Result<Target, DenyReason> {
        Target::read(host.as_bytes(), target.as_bytes())
    }

    #[test]
    fn targets_come_in_one_form() {
        let cases = [
            ("/a?x=1", "A.b:80", "a.b", "/a?x=1"),
            ("/a?", "a.", "a", "/a?"),
            ("/%7Eu/%c3%a9", "a", "a", "/~u/%C3%A9"),
            ("http://a.b/x?y", "a.b", "a.b", "/x?y"),
            ("http://a.b", "a.b", "a.b", "/"),
            ("http://a.b?y=/", "a.b", "a.b", "/?y=/"),
            ("/", "[::1]:8080", "[::1]", "/"),
            ("/a//b%2f", "a", "a", "/a//b%2F"),
            ("/\u{e9}?\u{e9}=\"<", "a", "a", "/%C3%A9?%C3%A9=%22%3C"),
        ];
        for (target, host, wanted_host, wanted) in cases {
            let read = read(target, host).unwrap();
            assert_eq!(read.host, wanted_host, "{target}");
            assert_eq!(read.path_and_query, wanted, "{target}");
        }
    }

    #[test]
    fn doubtful_targets_are_refused() {
        for target in ["/a/../b", "/a\u{1}", "/%2e%2e/x", "*", "x", "http://a/../x"] {
            let refused = read(target, "a").unwrap_err();
            assert_eq!(refused, DenyReason::PathRefused, "{target}");
        }
        let refused = read("/", "a b").unwrap_err();
        assert_eq!(refused, DenyReason::RequestMalformed);
    }

    #[test]
    fn only_trusted_proxies_name_the_scheme() {
        let cases = [
            (true, &["https"][..], "https"),
            (true, &["http"], "http"),
            (true, &["https", "http"], "public"),
            (true, &["HTTPS"], "public"),
            (true, &["https, http"], "public"),
            (true, &[], "public"),
            (false, &["https"], "public"),
        ];
        for (peer_is_trusted, fields, wanted) in cases {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(FORWARDED_PROTO, HeaderValue::from_static(field));
            }
            let client = Client {
                address: "192.0.2.1".parse().unwrap(),
                peer_is_trusted,
            };
            assert_eq!(
                client.scheme(&headers, "public"),
                wanted,
                "{peer_is_trusted} {fields:?}"
            );
        }
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let cases = [
            ("192.0.2.1", vec!["1.1.1.1"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", vec!["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", vec!["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            (
                "10.0.0.1",
                vec!["6.6.6.6", "1.1.1.1", "10.0.0.2"],
                "1.1.1.1",
            ),
            ("10.0.0.1", vec!["1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1, _x, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["1.1.1.1:80"], "1.1.1.1"),
            ("10.0.0.1", vec!["\"[2001:db8::1]:80\""], "2001:db8::1"),
            ("10.0.0.1", vec!["[2001:db8::1]"], "2001:db8::1"),
            ("::1", vec!["::ffff:1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", vec!["1.1.1.1, "], "10.0.0.1"),
        ];
        for (peer, fields, wanted) in cases {
            let mut headers = HeaderMap::new();
            for field in &fields {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(field).unwrap());
            }
            let found = Client::find(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found.address.to_string(), wanted, "{peer} {fields:?}");
        }
    }
}
