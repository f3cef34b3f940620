//! What the decision sees of a request.

use std::net::IpAddr;

use crate::model::path::CanonicalPath;

/// A request, as the proxy and forward-auth alike hand it to the decision.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method, as sent.
    pub method: &'a http::Method,
    /// The host: lower case, without port and trailing dot.
    pub host: &'a str,
    /// The one path that is matched and sent.
    pub path: &'a CanonicalPath,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// All header fields as the caller sent them.
    pub headers: &'a http::HeaderMap,
}
