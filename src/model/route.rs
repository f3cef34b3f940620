//! Routes and upstreams as declared in the configuration, checked.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::access::{Name, Requirement};
use crate::model::credential::CredentialRules;
use crate::model::field_name::is_method_override;

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Matches itself.
    Literal(String),
    /// `{name}`: matches one non-empty segment.
    Capture(String),
}

/// A path pattern: literal and captured segments, and whether more may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// The segments between slashes, in order; `/` alone has one empty literal.
    pub segments: Vec<Segment>,
    /// Whether it ends in `/**`, which matches `/x/` and everything below, but not `/x`.
    pub tail: bool,
}

/// A host pattern: exact, in lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern(pub String);

/// The names of the identity headers for the upstreams of a route: the defaults unless the route renames them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaderNames {
    /// Default `x-auth-uid`.
    pub uid: http::HeaderName,
    /// Default `x-auth-username`.
    pub username: http::HeaderName,
    /// Default `x-auth-roles`.
    pub roles: http::HeaderName,
    /// Default `x-auth-scopes`.
    pub scopes: http::HeaderName,
    /// Default `x-auth-method`.
    pub method: http::HeaderName,
    /// Default `x-auth-key-id`.
    pub key_id: http::HeaderName,
    /// Default `x-auth-assertion`.
    pub assertion: http::HeaderName,
}

impl Default for IdentityHeaderNames {
    fn default() -> Self {
        use http::HeaderName;
        Self {
            uid: HeaderName::from_static("x-auth-uid"),
            username: HeaderName::from_static("x-auth-username"),
            roles: HeaderName::from_static("x-auth-roles"),
            scopes: HeaderName::from_static("x-auth-scopes"),
            method: HeaderName::from_static("x-auth-method"),
            key_id: HeaderName::from_static("x-auth-key-id"),
            assertion: HeaderName::from_static("x-auth-assertion"),
        }
    }
}

impl IdentityHeaderNames {
    /// Returns all seven, in a fixed order.
    #[must_use]
    pub fn all(&self) -> [&http::HeaderName; 7] {
        [
            &self.uid,
            &self.username,
            &self.roles,
            &self.scopes,
            &self.method,
            &self.key_id,
            &self.assertion,
        ]
    }
}

/// A route: its match, requirement and upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The pattern as written, which names the route in logs and metrics.
    pub text: String,
    /// The path pattern.
    pub path: PathPattern,
    /// The hosts; empty: all.
    pub hosts: Vec<HostPattern>,
    /// The methods, sorted; empty: all that are forwarded at all.
    pub methods: Vec<http::Method>,
    /// The requirement on the caller.
    pub require: Requirement,
    /// Index into the list of upstreams.
    pub upstream: usize,
    /// Names of the identity headers.
    pub identity_headers: IdentityHeaderNames,
    /// Whether `X-Auth-Roles` has every role, not only those that concern the request.
    pub all_roles: bool,
    /// The credentials that are accepted and those that are passed on.
    pub credentials: CredentialRules,
    /// Header fields of the caller that are passed on although they are removed, or refused, on other routes.
    pub pass_headers: Vec<http::HeaderName>,
    /// Whether `X-Auth-Assertion` is added.
    pub assertion: bool,
    /// Whether CORS preflights for its methods pass without a credential, which browsers never send with them.
    pub cors_preflight: bool,
}

impl Route {
    /// Returns the route without its path and methods: two routes that are then equal decide alike. A new key that
    /// neither decides nor reaches the upstream (timeouts, header fields of responses) must be cleared here too. The
    /// methods are kept where they decide: where a field may name a method other than the request's own. The hosts are
    /// kept, since one upstream may serve several.
    #[must_use]
    pub fn without_place(&self) -> Self {
        let is_override = |name: &http::HeaderName| is_method_override(name.as_str().as_bytes());
        let takes_override = self.pass_headers.iter().any(is_override);
        Self {
            text: String::new(),
            path: PathPattern {
                segments: Vec::new(),
                tail: true,
            },
            methods: if takes_override {
                self.methods.clone()
            } else {
                Vec::new()
            },
            ..self.clone()
        }
    }

    /// Returns a public route for every path.
    #[cfg(test)]
    pub(crate) fn bare() -> Self {
        Self {
            text: "/**".to_owned(),
            path: PathPattern {
                segments: Vec::new(),
                tail: true,
            },
            hosts: Vec::new(),
            methods: Vec::new(),
            require: Requirement::Public,
            upstream: 0,
            identity_headers: IdentityHeaderNames::default(),
            all_roles: false,
            credentials: CredentialRules::default(),
            pass_headers: Vec::new(),
            assertion: false,
            cors_preflight: false,
        }
    }
}

/// The address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// A socket address.
    Socket(SocketAddr),
    /// `builtin:echo`: a service inside this process on a loopback port.
    BuiltinEcho,
}

/// The service that routes point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name in the configuration.
    pub name: String,
    /// The addresses, at least one; used in round robin.
    pub addresses: Vec<UpstreamAddress>,
    /// The resources announced in the resource map.
    pub resources: Vec<Name>,
    /// Appended to `public_url` in the resource map.
    pub public_path: String,
    /// Whether it distinguishes `/A` from `/a`; if not, neither do decisions.
    pub case_sensitive: bool,
    /// Time for which an idle connection to it is kept.
    pub keepalive_timeout: Duration,
}
