//! The session cookies: what they are called, and which one is read where.

use crate::config::{PublicUrl, SessionSettings};

/// Over https. Browsers take a cookie of this prefix from its own host only, over TLS, and for no other host.
pub(crate) const HOST: &str = "__Host-doorward";
/// Over plain http.
pub(crate) const PLAIN: &str = "doorward_session";
/// For the subdomains, over https.
pub(crate) const DOMAIN: &str = "__Secure-doorward";

/// Longest value that is looked at, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 200;

/// Which of a session's two secrets a cookie holds: one never stands for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind {
    /// That of the gateway's own host.
    Own,
    /// That of the subdomains.
    Domain,
}

/// A cookie to look for: its name, and what it holds.
pub type CookieName = (&'static str, CookieKind);

/// What the cookies are called under one configuration.
///
/// With a cookie domain, routes read only the cookie of the domain and the gateway's own endpoints only the other, so
/// that an application on a sibling host, which is sent the first, cannot act for its user at the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieNames {
    /// Whether they are sent over TLS only.
    pub is_secure: bool,
    /// Whether there is one for the subdomains.
    pub has_domain: bool,
}

impl CookieNames {
    pub(crate) fn new(public_url: &PublicUrl, settings: &SessionSettings) -> Self {
        let is_secure = public_url.scheme == "https";
        Self {
            is_secure,
            has_domain: is_secure && settings.cookie_domain.is_some(),
        }
    }

    /// The cookie of the gateway's own endpoints.
    #[must_use]
    pub const fn own(self) -> CookieName {
        let name = if self.is_secure { HOST } else { PLAIN };
        (name, CookieKind::Own)
    }

    /// The cookie of routes, and of forward-auth.
    #[must_use]
    pub const fn on_routes(self) -> CookieName {
        if self.has_domain {
            (DOMAIN, CookieKind::Domain)
        } else {
            self.own()
        }
    }
}
