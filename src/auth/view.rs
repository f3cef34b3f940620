//! What the decision sees of a request.

use std::net::IpAddr;

use crate::model::path::CanonicalPath;

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
