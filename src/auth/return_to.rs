//! The URLs that a login may lead to: the protection against open redirects.

use crate::auth::cookie::CookieNames;
use crate::config::{PublicUrl, SessionSettings};

/// Maximum length of a URL to return to, in bytes: encoded into another query it still fits a request target.
const URL_BYTES_MAX: usize = 2048;

/// The origins that a login may lead to.
#[derive(Clone, Debug)]
pub struct ReturnTo {
    /// `public_url` first.
    origins: Vec<AllowedOrigin>,
}

/// A configured origin.
#[derive(Clone, Debug)]
struct AllowedOrigin {
    text: String,
    has_cookie: bool,
}

/// A URL that a login may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginDestination {
    /// The absolute URL, in visible ASCII.
    pub url: String,
    /// The configured origin.
    pub origin: String,
    /// Whether browsers send the cookie of a login there.
    pub has_cookie: bool,
}

impl ReturnTo {
    pub(crate) fn new(public_url: &PublicUrl, settings: &SessionSettings) -> Self {
        let origins = std::iter::once(&public_url.text).chain(&settings.return_to);
        let origins = origins.map(|text| AllowedOrigin {
            text: text.clone(),
            has_cookie: has_cookie(text, public_url, settings),
        });
        Self {
            origins: origins.collect(),
        }
    }

    /// Accepts a URL from a caller if it is on one of the origins; a path alone is on `public_url`.
    ///
    /// No parser is involved: the text must begin with an origin exactly as configured, so it cannot be read in two
    /// ways.
    #[must_use]
    pub fn accept(&self, url: &str) -> Option<LoginDestination> {
        let reads_one_way = url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        if !reads_one_way || URL_BYTES_MAX < url.len() {
            return None;
        }
        let (origin, rest) = if url.starts_with('/') {
            (self.origins.first()?, url)
        } else {
            self.origins
                .iter()
                .find_map(|origin| Some((origin, behind(&origin.text, url)?)))?
        };
        let is_one_path = !rest.starts_with("//");
        is_one_path.then(|| LoginDestination {
            url: format!("{}{rest}", origin.text),
            origin: origin.text.clone(),
            has_cookie: origin.has_cookie,
        })
    }
}

/// Whether browsers send the cookie of routes to an origin. Cookies ignore ports.
///
/// Source: RFC 6265bis section 5.7.3 (retrieval).
fn has_cookie(origin: &str, public_url: &PublicUrl, settings: &SessionSettings) -> bool {
    let Some(place) = PublicUrl::parse(origin) else {
        return false;
    };
    let names = CookieNames::new(public_url, settings);
    let host = place.host();
    let is_in_domain = |domain: &String| {
        let above = host.strip_suffix(domain.as_str());
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    let is_there = match settings.cookie_domain.as_ref().filter(|_| names.has_domain) {
        Some(domain) => is_in_domain(domain),
        None => host == public_url.host(),
    };
    is_there && (!names.is_secure || place.scheme == "https")
}

/// Returns the part of a URL after an origin: empty, a path, a query or a fragment, so that the authority ends there.
fn behind<'a>(origin: &str, url: &'a str) -> Option<&'a str> {
    let rest = url.strip_prefix(origin)?;
    (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn return_to() -> ReturnTo {
        let settings = SessionSettings {
            return_to: vec![
                "https://app.example.com".to_owned(),
                "http://dev:3000".to_owned(),
            ],
            ..SessionSettings::default()
        };
        ReturnTo::new(
            &PublicUrl::parse("https://auth.example.com").unwrap(),
            &settings,
        )
    }

    #[test]
    fn exact_origins_are_taken() {
        let cases = [
            ("https://app.example.com", "https://app.example.com"),
            (
                "https://app.example.com/a?b=c#d",
                "https://app.example.com/a?b=c#d",
            ),
            (
                "https://app.example.com?x=//evil.org",
                "https://app.example.com?x=//evil.org",
            ),
            (
                "https://app.example.com/a//b",
                "https://app.example.com/a//b",
            ),
            ("http://dev:3000/", "http://dev:3000/"),
            ("https://auth.example.com/x", "https://auth.example.com/x"),
            ("/x?y", "https://auth.example.com/x?y"),
            ("/", "https://auth.example.com/"),
        ];
        for (url, wanted) in cases {
            assert_eq!(return_to().accept(url).unwrap().url, wanted, "{url}");
        }
    }

    #[test]
    fn the_cookie_of_a_login_goes_to_its_host_or_its_domain() {
        let own = "https://auth.example.com";
        let cases = [
            (own, None, own, true),
            (own, None, "https://auth.example.com:8443", true),
            (own, None, "http://auth.example.com", false),
            (own, None, "https://app.example.com", false),
            ("http://a.test:80", None, "http://a.test:3000", true),
            ("http://a.test", None, "https://a.test", true),
            ("http://[::1]:8080", None, "http://[::1]:3000", true),
            ("http://[::1]:8080", None, "http://[::2]:3000", false),
            (own, Some("example.com"), own, true),
            (own, Some("example.com"), "https://example.com:444", true),
            (own, Some("example.com"), "https://a.b.example.com", true),
            (own, Some("example.com"), "https://aexample.com", false),
            (own, Some("example.com"), "http://app.example.com", false),
        ];
        for (public, domain, origin, wanted) in cases {
            let settings = SessionSettings {
                cookie_domain: domain.map(str::to_owned),
                return_to: vec![origin.to_owned()],
                ..SessionSettings::default()
            };
            let return_to = ReturnTo::new(&PublicUrl::parse(public).unwrap(), &settings);
            let taken = return_to.accept(&format!("{origin}/x")).unwrap();
            assert_eq!(taken.has_cookie, wanted, "{public} {domain:?} {origin}");
        }
    }

    #[test]
    fn nothing_else_is() {
        let long = format!("https://app.example.com/{}", "x".repeat(2048));
        for url in [
            "",
            "x",
            "evil.org",
            "//evil.org",
            "//app.example.com",
            "///evil.org",
            "/\\evil.org",
            "\\\\evil.org",
            "https:evil.org",
            "https:/app.example.com",
            "https:///app.example.com",
            "https://evil.org",
            "https://app.example.com.evil.org",
            "https://app.example.com@evil.org",
            "https://app.example.com:443/",
            "https://app.example.com:@evil.org",
            "https://app.example.com%2eevil.org",
            "https://app.example.com\\.evil.org",
            "https://app.example.com//evil.org",
            "https://user@app.example.com/",
            "https://app.example.co",
            "http://app.example.com/",
            "HTTPS://app.example.com/",
            "http://dev/",
            "http://dev:30000/",
            "javascript:alert(1)",
            "data:text/html,x",
            " https://app.example.com/",
            "https://app.example.com/\u{e9}",
            "https://app.example.com/a b",
            "https://app.example.com/\r\nSet-Cookie: a=b",
            "https://app.example.com/\t",
            "https://app.example.com/a\\b",
            "/\tevil.org",
            &long,
        ] {
            assert_eq!(return_to().accept(url), None, "{url:?}");
        }
    }
}
