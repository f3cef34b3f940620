//! Routes and upstreams as the configuration declares them, checked.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::access::{Name, Requirement};
use crate::model::credential::CredentialRules;
use crate::model::field_name::is_method_override;

/// One piece of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Matches itself.
    Literal(String),
    /// `{name}`: matches one segment that is not empty.
    Capture(String),
}

/// A path pattern: literal and captured segments, and whether anything may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// The segments between slashes, in order; `/` alone has one empty literal.
    pub segments: Vec<Segment>,
    /// `/**` at the end: matches `/x/` and all below, not `/x`.
    pub tail: bool,
}

/// A host pattern: exact, in lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern(pub String);

/// How identity headers are named towards the upstreams of a route: the default names unless the route renames them.
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
    /// All seven, in a fixed order.
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

/// A route: what matches, what it asks, where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The pattern as written: names the route in logs and metrics.
    pub text: String,
    /// What paths match.
    pub path: PathPattern,
    /// Which hosts; empty: all.
    pub hosts: Vec<HostPattern>,
    /// Which methods, sorted; empty: all that pass at all.
    pub methods: Vec<http::Method>,
    /// What it asks of its caller.
    pub require: Requirement,
    /// Index into the list of upstreams.
    pub upstream: usize,
    /// Names of the identity headers.
    pub identity_headers: IdentityHeaderNames,
    /// `X-Auth-Roles` carries every role, not only those that concern the request.
    pub all_roles: bool,
    /// Which credentials count, and which are passed on.
    pub credentials: CredentialRules,
    /// Fields of the caller's that are passed on though they are removed, or refused, elsewhere.
    pub pass_headers: Vec<http::HeaderName>,
    /// `X-Auth-Assertion` is added.
    pub assertion: bool,
    /// CORS preflights for its methods pass without a credential, which browsers never send with one.
    pub cors_preflight: bool,
}

impl Route {
    /// The route without its path and its methods: two that are equal then are decided alike. What neither decides nor
    /// reaches the upstream (time limits, fields of answers) is to be left out here too. The methods stay where they decide:
    /// where another one than the request's own may be named among them. The hosts stay, for one upstream may serve several.
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

    /// One for everything that asks for nothing.
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

/// Where an upstream answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// An address of the network.
    Socket(SocketAddr),
    /// `builtin:echo`: a service inside this process on a loopback port.
    BuiltinEcho,
}

/// The service behind us that routes point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: String,
    /// Where it answers, at least one; asked in turn.
    pub addresses: Vec<UpstreamAddress>,
    /// What the resource map announces.
    pub resources: Vec<Name>,
    /// Appended to `public_url` in the resource map.
    pub public_path: String,
    /// It keeps `/A` and `/a` apart; else requests are decided as if it did not.
    pub case_sensitive: bool,
    /// How long an idle connection to it is kept.
    pub keepalive_timeout: Duration,
}
