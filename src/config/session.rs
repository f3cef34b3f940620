//! `[session]`: sessions of browsers, which send an opaque cookie instead of a JWT.

use std::time::Duration;

use crate::config::forms::{flag, raw_text, seconds, texts};
use crate::config::keys::keys;
use crate::config::listen::{self, PublicUrl};
use crate::config::reader::SectionReader;

const ORIGIN: &str = "an origin such as https://app.example.com: http or https, host and port only";
const DOMAIN: &str = "a domain such as example.com, to which the host of public_url belongs";
const MONTH_S: u64 = 30 * 86_400;

keys! { pub(super) SessionKeys = "session"; {
    /// Unused that long, a session ends; the same for administrators. tokens.absolute_ttl_s bounds both.
    idle_ttl_s: Duration = seconds(1..=MONTH_S) => Duration::from_hours(2);
    admin_idle_ttl_s: Duration = seconds(1..=MONTH_S) => Duration::from_mins(15);
    /// A second cookie, __Secure-doorward, for this domain and its subdomains (https only): routes read that one, the gateway's
    /// own endpoints the first. "": one cookie for both.
    cookie_domain: String = raw_text(DOMAIN);
    /// Origins that a login may lead back to, such as "https://app.example.com"; public_url always may.
    return_to: Vec<String> = texts(ORIGIN, origin) => Vec::new();
    /// Send navigations that lack a login to the login page; every other caller is answered with 401.
    login_redirect: bool = flag() => true;
    /// Origins from which what a browser attaches by itself (the cookie, HTTP Basic, the token of an edge in front) may
    /// authenticate requests that change something on routes, beside the target's own.
    origins: Vec<String> = texts(ORIGIN, origin) => Vec::new();
    /// Origins whose scripts may call the gateway's own endpoints (CORS); never those for keys, passwords and administration.
    auth_origins: Vec<String> = texts(ORIGIN, origin) => Vec::new();
}}

/// Sessions of browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Idle time after which a session ends.
    pub idle_ttl: Duration,
    /// Idle time after which the session of an administrator ends.
    pub admin_idle_ttl: Duration,
    /// The domain of a second cookie, in lower case; `None`: there is no second cookie.
    pub cookie_domain: Option<String>,
    /// Origins beside `public_url` to which a login may lead back.
    pub return_to: Vec<String>,
    /// Whether navigations without a login are redirected to the login page.
    pub login_redirect: bool,
    /// Origins whose pages may send unsafe requests with a cookie to routes.
    pub origins: Vec<String>,
    /// Origins whose scripts may call those of the gateway's own endpoints that allow CORS.
    pub auth_origins: Vec<String>,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            idle_ttl: (SessionKeys::idle_ttl_s.default)(),
            admin_idle_ttl: (SessionKeys::admin_idle_ttl_s.default)(),
            cookie_domain: None,
            return_to: Vec::new(),
            login_redirect: true,
            origins: Vec::new(),
            auth_origins: Vec::new(),
        }
    }
}

pub(super) fn read(mut reader: SectionReader<'_>, public_url: &PublicUrl) -> SessionSettings {
    let settings = SessionSettings {
        idle_ttl: reader.get(&SessionKeys::idle_ttl_s),
        admin_idle_ttl: reader.get(&SessionKeys::admin_idle_ttl_s),
        cookie_domain: reader
            .text(&SessionKeys::cookie_domain, |text| domain(text, public_url))
            .filter(|domain| !domain.is_empty()),
        return_to: reader.get(&SessionKeys::return_to),
        login_redirect: reader.get(&SessionKeys::login_redirect),
        origins: reader.get(&SessionKeys::origins),
        auth_origins: reader.get(&SessionKeys::auth_origins),
    };
    if settings.cookie_domain.is_some() && public_url.scheme != "https" {
        reader.add(
            &SessionKeys::cookie_domain,
            "to find it left out, or a public_url that begins with https://",
        );
    }
    reader.finish();
    settings
}

/// Reads an origin in the form in which browsers write it (RFC 6454 section 6.2).
fn origin(text: &str) -> Option<String> {
    PublicUrl::parse(text).map(|url| url.text)
}

/// Reads a domain to which the host of `public_url` belongs. An empty text means none. Browsers accept neither a name
/// without a dot nor an address as the domain of a cookie.
fn domain(text: &str, public_url: &PublicUrl) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let domain = listen::host(text)?;
    let own = public_url.host();
    let is_above = own
        .strip_suffix(domain.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let is_address = own.parse::<std::net::IpAddr>().is_ok() || own.starts_with('[');
    (is_above && domain.contains('.') && !is_address).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        let cases = [
            ("https://App.example.com", "https://app.example.com"),
            ("https://app.example.com/", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ];
        for (text, wanted) in cases {
            assert_eq!(origin(text).as_deref(), Some(wanted), "{text}");
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://a/x",
            "https://u@a",
            "ftp://a",
        ] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cookie_domain_is_above_the_public_host() {
        let url = |text: &str| PublicUrl::parse(text).unwrap();
        let auth = url("https://auth.example.com:8443");
        for fits in ["example.com", "EXAMPLE.com", "auth.example.com"] {
            assert!(
                domain(fits, &auth).is_some_and(|it| !it.is_empty()),
                "{fits}"
            );
        }
        assert_eq!(domain("", &auth), Some(String::new()));
        for bad in [
            "com",
            "ample.com",
            "other.com",
            ".example.com",
            "*.example.com",
            "x.auth.example.com",
        ] {
            assert_eq!(domain(bad, &auth), None, "{bad}");
        }
        assert_eq!(domain("0.0.1", &url("https://127.0.0.1")), None);
        assert_eq!(domain("localhost", &url("https://localhost")), None);
    }
}
