//! Why a request is refused: one closed list, with the status and the stable code of each.

/// A refusal. The code is part of the contract with callers and dashboards: it never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The request's framing, Host or fields break HTTP's rules.
    RequestMalformed,
    /// A field's name holds other characters than letters, digits, `-`, `_` and `.`.
    HeaderNameRefused,
    /// A field names another method than the request's own, where the route does not take that.
    MethodOverrideRefused,
    /// The target can be read as more than one path.
    PathRefused,
    /// The target is longer than the limit.
    TargetTooLong,
    /// The head has too many fields or bytes.
    HeadTooLarge,
    /// A method that never passes, such as TRACE or CONNECT.
    MethodRefused,
    /// No route matches host, path and method.
    NoRoute,
    /// A credential is asked for and none came.
    CredentialMissing,
    /// Two credentials at once, or one of them twice.
    CredentialConflict,
    /// The bearer token is not one that is accepted here.
    BearerInvalid,
    /// The bearer token was good once.
    BearerExpired,
    /// The session behind the bearer token or cookie has ended, or its account may not act any more.
    SessionEnded,
    /// Unknown, wrong, revoked or expired API key: the caller is told no more than that.
    ApiKeyInvalid,
    /// A cookie may not authenticate this: it changes something, and was sent from a page of a foreign origin.
    OriginRefused,
    /// Recognised, but none of the roles asked for.
    RoleMissing,
    /// Recognised, but a scope is missing.
    ScopeMissing,
    /// Permitted, but what the upstream would be told of the caller fits into no head that upstreams take.
    IdentityTooLarge,
    /// The account must change its password first.
    PasswordMustChange,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body did not come in time.
    BodyTimeout,
    /// More requests than the credential or the caller may send.
    RateLimited,
    /// Who asks for a decision about another request is no proxy that may.
    ForwarderRefused,
    /// What a proxy asks about reads in no way, or in more than one.
    ForwardMalformed,
}

impl DenyReason {
    /// Every reason once: for tables and metrics.
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

    /// The stable code: `snake_case`, in the answer's `code`, the access record and metrics.
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

    /// The HTTP status it is answered with on a route.
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

    /// The HTTP status it is answered with to a proxy that asks about the request of another: 400 only for a mistake of
    /// that proxy's; else 401 or 403, the two refusals that every proxy understands. What no login can mend is 403.
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

    /// A short fixed sentence for people.
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

    /// The `error` of the `WWW-Authenticate` challenge (RFC 6750 section 3.1); `None`: a bare challenge.
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

/// The challenge of a `WWW-Authenticate` field (RFC 6750 section 3): with the error, or bare where no token came.
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
