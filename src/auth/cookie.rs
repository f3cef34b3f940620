//! The session cookies: their names, and where each is read.

use crate::config::{PublicUrl, SessionSettings};

/// The cookie over https. Browsers accept a cookie with this prefix only from its own host, over TLS, and for no other
/// host.
pub(crate) const HOST: &str = "__Host-doorward";
/// The cookie over plain http.
pub(crate) const PLAIN: &str = "doorward_session";
/// The cookie for the subdomains, over https.
pub(crate) const DOMAIN: &str = "__Secure-doorward";

/// Maximum length of a value, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 200;

/// The session secret that a cookie holds: each of the two is accepted only from its own cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind {
    /// The cookie of the gateway's own host.
    Own,
    /// The cookie of the subdomains.
    Domain,
}

/// A cookie to look for: its name and kind.
pub type CookieName = (&'static str, CookieKind);

/// The names of the cookies under one configuration.
///
/// With a cookie domain, routes read only the cookie of the domain, and the gateway's own endpoints only the other one.
/// An application on a sibling host, which receives the first, thus cannot act for its user at the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieNames {
    /// Whether the cookies are sent over TLS only.
    pub is_secure: bool,
    /// Whether there is a cookie for the subdomains.
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

    /// Returns the cookie of the gateway's own endpoints.
    #[must_use]
    pub const fn own(self) -> CookieName {
        let name = if self.is_secure { HOST } else { PLAIN };
        (name, CookieKind::Own)
    }

    /// Returns the cookie of routes and of forward-auth.
    #[must_use]
    pub const fn on_routes(self) -> CookieName {
        if self.has_domain {
            (DOMAIN, CookieKind::Domain)
        } else {
            self.own()
        }
    }
}
