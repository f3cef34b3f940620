//! The reasons for refusing a request: a closed list with the status and stable code of each.

/// A refusal. The code is part of the contract with callers and dashboards: its meaning never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The request's framing, Host or header fields break HTTP's rules.
    RequestMalformed,
    /// A header field's name has characters other than letters, digits, `-`, `_` and `.`.
    HeaderNameRefused,
    /// A header field names a method other than the request's own, and the route does not accept that.
    MethodOverrideRefused,
    /// The request target can be read as more than one path.
    PathRefused,
    /// The request target is longer than the limit.
    TargetTooLong,
    /// The head has too many fields or bytes.
    HeadTooLarge,
    /// A method that is never forwarded, such as TRACE or CONNECT.
    MethodRefused,
    /// No route matches host, path and method.
    NoRoute,
    /// A credential is required and none was sent.
    CredentialMissing,
    /// Two credentials at once, or one of them twice.
    CredentialConflict,
    /// The bearer token is not accepted.
    BearerInvalid,
    /// The bearer token has expired.
    BearerExpired,
    /// The session of the bearer token or cookie has ended, or its account may no longer act.
    SessionEnded,
    /// Unknown, wrong, revoked or expired API key; the caller does not learn which.
    ApiKeyInvalid,
    /// A cookie may not authenticate this request: it changes state, and comes from a page of a foreign origin.
    OriginRefused,
    /// Authenticated, but with none of the required roles.
    RoleMissing,
    /// Authenticated, but without a required scope.
    ScopeMissing,
    /// Allowed, but the identity headers are too large for a request head that upstreams accept.
    IdentityTooLarge,
    /// The account must change its password first.
    PasswordMustChange,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The rate limit of the credential or the caller is exceeded.
    RateLimited,
    /// A forward-auth request from an address that is not a trusted proxy.
    ForwarderRefused,
    /// A forward-auth request that describes no request, or more than one.
    ForwardMalformed,
}

impl DenyReason {
    /// Every reason once, for tables and metrics.
    pub const ALL: [Self; 24] = [
        Self::RequestMalformed,
        Self::HeaderNameRefused,
        Self::MethodOverrideRefused,
        Self::PathRefused,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::MethodRefused,
        Self::NoRoute,
        Self::CredentialMissing,
        Self::CredentialConflict,
        Self::BearerInvalid,
        Self::BearerExpired,
        Self::SessionEnded,
        Self::ApiKeyInvalid,
        Self::OriginRefused,
        Self::RoleMissing,
        Self::ScopeMissing,
        Self::IdentityTooLarge,
        Self::PasswordMustChange,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::RateLimited,
        Self::ForwarderRefused,
        Self::ForwardMalformed,
    ];

    /// Returns the stable code: `snake_case`, used in the response's `code`, the access record and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::RequestMalformed => "request_malformed",
            Self::HeaderNameRefused => "header_name_refused",
            Self::MethodOverrideRefused => "method_override_refused",
            Self::PathRefused => "path_refused",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::MethodRefused => "method_refused",
            Self::NoRoute => "no_route",
            Self::CredentialMissing => "credential_missing",
            Self::CredentialConflict => "credential_conflict",
            Self::BearerInvalid => "bearer_invalid",
            Self::BearerExpired => "bearer_expired",
            Self::SessionEnded => "session_ended",
            Self::ApiKeyInvalid => "api_key_invalid",
            Self::OriginRefused => "origin_refused",
            Self::RoleMissing => "role_missing",
            Self::ScopeMissing => "scope_missing",
            Self::IdentityTooLarge => "identity_too_large",
            Self::PasswordMustChange => "password_must_change",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::RateLimited => "rate_limited",
            Self::ForwarderRefused => "forwarder_refused",
            Self::ForwardMalformed => "forward_malformed",
        }
    }

    /// Returns the HTTP status of the response on a route.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::RequestMalformed
            | Self::HeaderNameRefused
            | Self::MethodOverrideRefused
            | Self::PathRefused
            | Self::CredentialConflict
            | Self::ForwardMalformed => 400,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::MethodRefused => 405,
            Self::NoRoute => 404,
            Self::CredentialMissing
            | Self::BearerInvalid
            | Self::BearerExpired
            | Self::SessionEnded
            | Self::ApiKeyInvalid => 401,
            Self::OriginRefused
            | Self::RoleMissing
            | Self::ScopeMissing
            | Self::IdentityTooLarge
            | Self::PasswordMustChange
            | Self::ForwarderRefused => 403,
            Self::BodyTooLarge => 413,
            Self::BodyTimeout => 408,
            Self::RateLimited => 429,
        }
    }

    /// Returns the HTTP status of the response to a forward-auth proxy: 400 only for a mistake of that proxy; otherwise
    /// 401 or 403, the two refusals that every proxy understands. A refusal that no login can lift is 403.
    #[must_use]
    pub const fn status_for_proxy(self) -> u16 {
        match self {
            Self::ForwardMalformed => 400,
            Self::PathRefused | Self::MethodOverrideRefused => 403,
            other => match other.status() {
                403..=405 | 429 => 403,
                _ => 401,
            },
        }
    }

    /// Returns a short fixed sentence for humans.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::RequestMalformed => "The request breaks the rules of HTTP",
            Self::HeaderNameRefused => "A header name may hold letters, digits, -, _ and . only",
            Self::MethodOverrideRefused => "The method may not be named by a header here",
            Self::PathRefused => "The path can be read in more than one way",
            Self::TargetTooLong => "The request target is too long",
            Self::HeadTooLarge => "The request head is too large",
            Self::MethodRefused => "This method is not served here",
            Self::NoRoute => "Nothing is served here",
            Self::CredentialMissing => "A credential is needed",
            Self::CredentialConflict => "Send one credential, once",
            Self::BearerInvalid => "The bearer token is not accepted",
            Self::BearerExpired => "The bearer token has expired",
            Self::SessionEnded => "The session has ended",
            Self::ApiKeyInvalid => "The API key is not accepted",
            Self::OriginRefused => "A page of this origin may not do this",
            Self::RoleMissing => "None of the roles that this needs",
            Self::ScopeMissing => "A scope that this needs is missing",
            Self::IdentityTooLarge => "More roles or scopes than this service can be told",
            Self::PasswordMustChange => "The password must be changed first",
            Self::BodyTooLarge => "The body is too large",
            Self::BodyTimeout => "The body did not come in time",
            Self::RateLimited => "Too many requests: wait a while",
            Self::ForwarderRefused => "Only a trusted proxy may ask this",
            Self::ForwardMalformed => "The proxy in front describes no one request",
        }
    }

    /// Returns the `error` of the `WWW-Authenticate` challenge (RFC 6750 section 3.1); `None`: a bare challenge.
    #[must_use]
    pub const fn challenge_error(self) -> Option<&'static str> {
        match self {
            Self::BearerInvalid | Self::BearerExpired | Self::SessionEnded => Some("invalid_token"),
            Self::CredentialConflict => Some("invalid_request"),
            Self::ScopeMissing => Some("insufficient_scope"),
            _ => None,
        }
    }
}

/// Returns the challenge of a `WWW-Authenticate` field (RFC 6750 section 3): with the error, or bare if no token was
/// sent.
#[must_use]
pub fn challenge(error: Option<&str>) -> &'static str {
    match error {
        Some("invalid_token") => "Bearer realm=\"doorward\", error=\"invalid_token\"",
        Some("invalid_request") => "Bearer realm=\"doorward\", error=\"invalid_request\"",
        Some("insufficient_scope") => "Bearer realm=\"doorward\", error=\"insufficient_scope\"",
        _ => "Bearer realm=\"doorward\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_snake_case_and_statuses_refuse() {
        let codes: std::collections::BTreeSet<_> =
            DenyReason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), DenyReason::ALL.len());
        for reason in DenyReason::ALL {
            assert!(
                reason
                    .code()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{reason:?}"
            );
            assert!((400..500).contains(&reason.status()), "{reason:?}");
            let for_proxy = reason.status_for_proxy();
            assert!(matches!(for_proxy, 401 | 403) || reason == DenyReason::ForwardMalformed);
            let written = challenge(reason.challenge_error());
            let expected = reason.challenge_error().unwrap_or("realm=\"doorward");
            assert!(written.ends_with(&format!("{expected}\"")), "{reason:?}");
        }
    }
}
