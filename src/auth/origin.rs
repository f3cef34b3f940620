//! The origins from which a browser may be made to send requests.
//!
//! A browser attaches its cookies to requests that any page makes it send, so a request that changes state is accepted
//! only if its `Origin` is allowed.

use http::{HeaderMap, HeaderName, Method, header};

use crate::auth::method_override;
use crate::model::field_value::exactly_one;

/// Present in a WebSocket handshake even if a proxy has removed `Upgrade`.
const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// Whether a request that a cookie authenticates must come from a page that may send it: it changes state, or it opens
/// a channel that could, which browsers do not confine to its own origin.
///
/// Source: RFC 9110 section 9.2.1; RFC 6455 section 10.2.
#[must_use]
pub fn is_guarded(method: &Method, headers: &HeaderMap) -> bool {
    let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let upgrades = |value: &http::HeaderValue| {
        let text = value.as_bytes().to_ascii_lowercase();
        text.windows(9).any(|window| window == b"websocket")
    };
    // A framework may use a method named in a field.
    !is_safe
        || method_override::is_named(headers)
        || headers.contains_key(WEBSOCKET_KEY)
        || headers.get_all(header::UPGRADE).iter().any(upgrades)
}

/// Returns an origin as browsers write it (RFC 6454 section 6.2): lower case, without the scheme's default port.
///
/// `authority`: the host, with or without a port, as in `Host`.
#[must_use]
pub fn origin_of(scheme: &str, authority: &str) -> String {
    let own_port = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(own_port).unwrap_or(authority);
    format!("{scheme}://{}", authority.to_ascii_lowercase())
}

/// Whether the request has exactly one `Origin`, and it is allowed.
pub(crate) fn comes_from<'a>(
    headers: &HeaderMap,
    mut allowed: impl Iterator<Item = &'a str>,
) -> bool {
    exactly_one(headers, &header::ORIGIN)
        .is_some_and(|origin| allowed.any(|allowed| origin.as_bytes() == allowed.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn what_changes_something_and_websockets_are_guarded() {
        let cases = [
            ("GET", &[][..], false),
            ("HEAD", &[], false),
            ("OPTIONS", &[], false),
            ("POST", &[], true),
            ("DELETE", &[], true),
            ("PURGE", &[], true),
            ("get", &[], true),
            ("GET", &[("x-http-method-override", "DELETE")], true),
            ("GET", &[("sec-websocket-key", "x")], true),
            ("GET", &[("upgrade", "h2c, WebSocket")], true),
            ("GET", &[("upgrade", "h2c")], false),
        ];
        for (method, fields, guarded) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(
                is_guarded(&method, &headers(fields)),
                guarded,
                "{method} {fields:?}"
            );
        }
    }

    #[test]
    fn origins_are_compared_whole() {
        let own = origin_of("https", "App.Example.com:443");
        assert_eq!(own, "https://app.example.com");
        assert_eq!(origin_of("http", "a:80"), "http://a");
        assert_eq!(origin_of("https", "a:80"), "https://a:80");
        assert_eq!(origin_of("http", "[::1]:8080"), "http://[::1]:8080");
        let cases = [
            (&[("origin", "https://app.example.com")][..], true),
            (&[("origin", "https://other.example.com")], true),
            (&[("origin", "https://app.example.com.evil.org")], false),
            (&[("origin", "https://app.example.co")], false),
            (&[("origin", "https://app.example.com:443")], false),
            (&[("origin", "http://app.example.com")], false),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (&[], false),
            (
                &[
                    ("origin", "https://app.example.com"),
                    ("origin", "https://app.example.com"),
                ],
                false,
            ),
        ];
        for (fields, allowed) in cases {
            let list = [own.as_str(), "https://other.example.com"];
            assert_eq!(
                comes_from(&headers(fields), list.into_iter()),
                allowed,
                "{fields:?}"
            );
        }
    }
}
