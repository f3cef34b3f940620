//! Names of headers that a configuration may choose.

use http::HeaderName;

/// Where API keys come unless configured otherwise.
pub(super) const API_KEY: &str = "x-api-key";

/// What such a name is.
pub(super) const EXPECTED: &str = "a header name such as X-Remote-User: letters, digits and -, not one that HTTP, \
     proxies or credentials use";

/// Names with a meaning of their own: hop-by-hop, framing, routing, conditions, credentials, forwarding, our own.
const TAKEN: &[&str] = &[
    "authorization",
    "connection",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "max-forwards",
    "origin",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-doorward-secret",
    "x-http-method",
    "x-http-method-override",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

const TAKEN_BEGINNINGS: &[&str] = &[
    "accept",
    "access-control-",
    "cache-",
    "content-",
    "http2-",
    "if-",
    "sec-",
    "x-forwarded-",
    "x-original-",
];

/// Takes a name that nothing else uses. Underscores are refused: many servers read them as dashes.
pub(super) fn name(text: &str) -> Option<HeaderName> {
    let chars_fit = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !chars_fit || 64 < text.len() {
        return None;
    }
    let name: HeaderName = text.parse().ok()?;
    let is_taken = TAKEN.contains(&name.as_str())
        || TAKEN_BEGINNINGS
            .iter()
            .any(|beginning| name.as_str().starts_with(beginning));
    (!is_taken).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_meaning_of_their_own_are_refused() {
        for good in ["Remote-User", "X-Api-Key", "x-auth-uid"] {
            assert!(name(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "Host",
            "AUTHORIZATION",
            "Content-Length",
            "X-Forwarded-For",
            "Transfer-Encoding",
            "Remote_User",
            "a b",
            "a:",
            "Sec-Fetch-Mode",
            "X-Original-URL",
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
