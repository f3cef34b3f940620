//! The input of a decision: a request and its target.

use std::borrow::Cow;
use std::net::IpAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use crate::model::deny::DenyReason;
use crate::model::path::CanonicalPath;
use crate::route::head::host_of;
use crate::route::normalize::canonical;

/// A request to one of the gateway's own endpoints, with the parts that authenticate its caller.
#[derive(Clone, Copy, Debug)]
pub struct OwnView<'a> {
    /// The method, as sent.
    pub method: &'a http::Method,
    /// All header fields as the caller sent them.
    pub headers: &'a http::HeaderMap,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// The origin that the request was sent to, in the form of [`crate::auth::origin::origin_of`].
    pub origin: &'a str,
}

/// A request in the form in which the proxy and forward-auth pass it to the decision.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method, as sent.
    pub method: &'a http::Method,
    /// The host: lower case, without port and trailing dot.
    pub host: &'a str,
    /// The scheme used by the caller: `http` or `https`.
    pub scheme: &'a str,
    /// The host with its port, as named by the caller.
    pub authority: &'a str,
    /// The canonical path, which is matched and sent.
    pub path: &'a CanonicalPath,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// All header fields as the caller sent them.
    pub headers: &'a http::HeaderMap,
}

/// The target of a request, in the only form that is matched, logged and sent.
#[derive(Debug)]
pub struct Target {
    /// The host: lower case, without port and trailing dot.
    pub host: String,
    /// The host with its port, as sent.
    pub authority: String,
    /// The canonical path.
    pub path: CanonicalPath,
    /// The canonical path, and the query as received: the target for the upstream.
    pub path_and_query: PathAndQuery,
}

impl Target {
    /// Parses the target of a request.
    ///
    /// `authority`: host and port, as in `Host`. `raw`: the target in origin-form or absolute-form, as sent.
    ///
    /// # Errors
    /// [`DenyReason::RequestMalformed`] for an invalid authority, [`DenyReason::PathRefused`] for a path that
    /// [`canonical`] refuses.
    pub fn read(authority: &[u8], raw: &[u8]) -> Result<Self, DenyReason> {
        let host = host_of(authority).ok_or(DenyReason::RequestMalformed)?;
        let authority = std::str::from_utf8(authority).map_err(|_| DenyReason::RequestMalformed)?;
        let origin_form = origin_form(raw).ok_or(DenyReason::PathRefused)?;
        let read = canonical(&origin_form).map_err(|_| DenyReason::PathRefused)?;
        let text = match read.query {
            Some(query) => [read.path.as_str(), "?", &query].concat(),
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

    /// Replaces the host.
    ///
    /// # Errors
    /// [`DenyReason::RequestMalformed`] for an invalid host.
    pub fn at_host(self, authority: &str) -> Result<Self, DenyReason> {
        let host = host_of(authority.as_bytes()).ok_or(DenyReason::RequestMalformed)?;
        Ok(Self {
            host: host.to_ascii_lowercase(),
            authority: authority.to_owned(),
            ..self
        })
    }

    /// Returns the request of a client as the decision reads it. `client`: the address after trusted proxies. `scheme`:
    /// from [`Client::scheme`](crate::auth::client::Client::scheme).
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

/// Returns path and query of a target in origin-form or absolute-form; an absolute one without a path has `/`.
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
}
