//! Names of headers that a configuration may choose.

use http::HeaderName;

use crate::model::field_name::{FoldedName, is_method_override};

/// The default name of the header that carries API keys.
pub(super) const API_KEY: &str = "x-api-key";

/// The expectation that is reported for such a name.
pub(super) const EXPECTED: &str = "a header name such as X-Remote-User: letters, digits and -, not one that HTTP, \
     proxies or credentials use";

/// Names that have a meaning in HTTP, in proxies or in the gateway.
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
    "x-real-ip",
    "x-request-id",
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
    "x-rewrite-",
];

/// Reads a name that has no other meaning.
pub(super) fn name(text: &str) -> Option<HeaderName> {
    well_formed(text).filter(|name| !is_taken(name))
}

/// Reads a name that has one spelling only: many servers read underscores, and dashes at the ends or in a row, as one
/// dash.
pub(super) fn well_formed(text: &str) -> Option<HeaderName> {
    let folded = FoldedName::of(text.as_bytes());
    folded.whole().filter(|_| folded.is_as_written())?;
    text.parse().ok()
}

/// Whether HTTP, proxies or credentials use a name.
pub(super) fn is_taken(name: &HeaderName) -> bool {
    let name = name.as_str();
    let begins = |beginning: &&str| name.starts_with(*beginning);
    TAKEN.contains(&name)
        || is_method_override(name.as_bytes())
        || TAKEN_BEGINNINGS.iter().any(begins)
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
            "Remote--User",
            "Remote-User-",
            "X-Method-Override",
            "a b",
            "a:",
            "Sec-Fetch-Mode",
            "X-Original-URL",
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
