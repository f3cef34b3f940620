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

    /// Status on a route, stable code, and a short fixed sentence for people: the one table.
    const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::RequestMalformed => (
                400,
                "request_malformed",
                "The request breaks the rules of HTTP",
            ),
            Self::HeaderNameRefused => (
                400,
                "header_name_refused",
                "A header name may hold letters, digits, -, _ and . only",
            ),
            Self::MethodOverrideRefused => (
                400,
                "method_override_refused",
                "The method may not be named by a header here",
            ),
            Self::PathRefused => (
                400,
                "path_refused",
                "The path can be read in more than one way",
            ),
            Self::TargetTooLong => (414, "target_too_long", "The request target is too long"),
            Self::HeadTooLarge => (431, "head_too_large", "The request head is too large"),
            Self::MethodRefused => (405, "method_refused", "This method is not served here"),
            Self::NoRoute => (404, "no_route", "Nothing is served here"),
            Self::CredentialMissing => (401, "credential_missing", "A credential is needed"),
            Self::CredentialConflict => (400, "credential_conflict", "Send one credential, once"),
            Self::BearerInvalid => (401, "bearer_invalid", "The bearer token is not accepted"),
            Self::BearerExpired => (401, "bearer_expired", "The bearer token has expired"),
            Self::SessionEnded => (401, "session_ended", "The session has ended"),
            Self::ApiKeyInvalid => (401, "api_key_invalid", "The API key is not accepted"),
            Self::OriginRefused => (
                403,
                "origin_refused",
                "A page of this origin may not do this",
            ),
            Self::RoleMissing => (403, "role_missing", "None of the roles that this needs"),
            Self::ScopeMissing => (403, "scope_missing", "A scope that this needs is missing"),
            Self::IdentityTooLarge => (
                403,
                "identity_too_large",
                "More roles or scopes than this service can be told",
            ),
            Self::PasswordMustChange => (
                403,
                "password_must_change",
                "The password must be changed first",
            ),
            Self::BodyTooLarge => (413, "body_too_large", "The body is too large"),
            Self::BodyTimeout => (408, "body_timeout", "The body did not come in time"),
            Self::RateLimited => (429, "rate_limited", "Too many requests: wait a while"),
            Self::ForwarderRefused => (
                403,
                "forwarder_refused",
                "Only a trusted proxy may ask this",
            ),
            Self::ForwardMalformed => (
                400,
                "forward_malformed",
                "The proxy in front describes no one request",
            ),
        }
    }

    /// The stable code: `snake_case`, in the answer's `code`, the access record and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status it is answered with on a route.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().0
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
        self.row().2
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
