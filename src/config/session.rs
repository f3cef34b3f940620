//! `[session]`: sessions of browsers, which send an opaque cookie instead of a JWT.

use std::time::Duration;

use crate::config::forms::{flag, or_none, seconds, text, texts};
use crate::config::listen::{self, PublicUrl};
use crate::config::reader::SectionReader;
use crate::config::settings::settings;

const ORIGIN: &str = "an origin such as https://app.example.com: http or https, host and port only";
const DOMAIN: &str = "a domain such as example.com, to which the host of public_url belongs";
const MONTH_S: u64 = 30 * 86_400;

settings! {
/// Sessions of browsers.
pub struct SessionSettings {}
SessionKeys = "session"; {
    /// Idle time after which a session ends, and the same for administrators. tokens.absolute_ttl_s limits both.
    idle_ttl_s: Duration = seconds(1..=MONTH_S) => Duration::from_hours(2), as idle_ttl;
    admin_idle_ttl_s: Duration = seconds(1..=MONTH_S) => Duration::from_mins(15), as admin_idle_ttl;
    /// Domain of a second cookie, __Secure-doorward, which its subdomains receive too (https only): routes read the second
    /// cookie, and the gateway's own endpoints the first. "": one cookie for both.
    cookie_domain: Option<String> = or_none(text(DOMAIN, listen::host)) => None;
    /// Origins to which a login may return, such as "https://app.example.com", beside public_url.
    return_to: Vec<String> = texts(ORIGIN, origin) => Vec::new();
    /// Whether navigations without a login are redirected to the login page; every other caller is answered with 401.
    login_redirect: bool = flag() => true;
    /// Origins, beside the target's own, whose requests that change something on routes may be authenticated by what a
    /// browser attaches by itself (the cookie, HTTP Basic, the token of an edge in front).
    origins: Vec<String> = texts(ORIGIN, origin) => Vec::new();
    /// Origins whose scripts may call the gateway's own endpoints (CORS), except those for keys, passwords and
    /// administration.
    auth_origins: Vec<String> = texts(ORIGIN, origin) => Vec::new();
}}

#[cfg(test)]
impl Default for SessionSettings {
    fn default() -> Self {
        let env = crate::config::EnvOverlay::default();
        crate::config::Config::parse("", &env).unwrap().0.session
    }
}

pub(super) fn read(reader: &mut SectionReader<'_>, public_url: &PublicUrl) -> SessionSettings {
    let settings = SessionSettings::read(reader);
    if let Some(domain) = &settings.cookie_domain {
        if !is_above(domain, public_url) {
            reader.add(&SessionKeys::cookie_domain, DOMAIN);
        } else if public_url.scheme != "https" {
            reader.add(
                &SessionKeys::cookie_domain,
                "no value, or a public_url that starts with https://",
            );
        }
    }
    settings
}

/// Reads an origin in the form in which browsers write it (RFC 6454 section 6.2).
fn origin(text: &str) -> Option<String> {
    PublicUrl::parse(text).map(|url| url.text)
}

/// Whether the host of `public_url` belongs to a domain. Browsers accept neither a name without a dot nor an address as
/// the domain of a cookie.
fn is_above(domain: &str, public_url: &PublicUrl) -> bool {
    let own = public_url.host();
    let is_end = own
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let is_address = own.parse::<std::net::IpAddr>().is_ok() || own.starts_with('[');
    is_end && domain.contains('.') && !is_address
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
        let fits =
            |text: &str, url: &PublicUrl| listen::host(text).is_some_and(|it| is_above(&it, url));
        for good in ["example.com", "EXAMPLE.com", "auth.example.com"] {
            assert!(fits(good, &auth), "{good}");
        }
        for bad in [
            "com",
            "ample.com",
            "other.com",
            ".example.com",
            "*.example.com",
            "x.auth.example.com",
        ] {
            assert!(!fits(bad, &auth), "{bad}");
        }
        assert!(!fits("0.0.1", &url("https://127.0.0.1")));
        assert!(!fits("localhost", &url("https://localhost")));
    }
}
