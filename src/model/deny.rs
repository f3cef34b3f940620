//! Why a request is refused: one closed list, with the status and the stable code of each.

/// A refusal. The code is part of the contract with callers and dashboards: it never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The request's framing, Host or fields break HTTP's rules.
    RequestMalformed,
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
    /// The session behind the bearer token has ended, or its account may not act any more.
    SessionEnded,
    /// Unknown, wrong, revoked or expired API key: the caller is told no more than that.
    ApiKeyInvalid,
    /// Recognised, but none of the roles asked for.
    RoleMissing,
    /// Recognised, but a scope is missing.
    ScopeMissing,
    /// The account must change its password first.
    PasswordMustChange,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body did not come in time.
    BodyTimeout,
}

impl DenyReason {
    /// Every reason once: for tables and metrics.
    pub const ALL: [Self; 17] = [
        Self::RequestMalformed,
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
        Self::RoleMissing,
        Self::ScopeMissing,
        Self::PasswordMustChange,
        Self::BodyTooLarge,
        Self::BodyTimeout,
    ];

    /// The stable code: `snake_case`, in the answer's `code`, the access record and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::RequestMalformed => "request_malformed",
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
            Self::RoleMissing => "role_missing",
            Self::ScopeMissing => "scope_missing",
            Self::PasswordMustChange => "password_must_change",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
        }
    }

    /// The HTTP status it is answered with on a route.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::RequestMalformed | Self::PathRefused | Self::CredentialConflict => 400,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::MethodRefused => 405,
            Self::NoRoute => 404,
            Self::CredentialMissing
            | Self::BearerInvalid
            | Self::BearerExpired
            | Self::SessionEnded
            | Self::ApiKeyInvalid => 401,
            Self::RoleMissing | Self::ScopeMissing | Self::PasswordMustChange => 403,
            Self::BodyTooLarge => 413,
            Self::BodyTimeout => 408,
        }
    }

    /// A short fixed sentence for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::RequestMalformed => "The request breaks the rules of HTTP",
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
            Self::RoleMissing => "None of the roles that this needs",
            Self::ScopeMissing => "A scope that this needs is missing",
            Self::PasswordMustChange => "The password must be changed first",
            Self::BodyTooLarge => "The body is too large",
            Self::BodyTimeout => "The body did not come in time",
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
            let written = challenge(reason.challenge_error());
            let expected = reason.challenge_error().unwrap_or("realm=\"doorward");
            assert!(written.ends_with(&format!("{expected}\"")), "{reason:?}");
        }
    }
}
