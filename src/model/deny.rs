//! The reasons for refusing a request: a closed list with the status and stable code of each.

use crate::model::table::table;

table! {
    /// A refusal. The code is part of the contract with callers and dashboards: its meaning never changes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum DenyReason {
        /// The request's framing, Host or header fields break HTTP's rules.
        RequestMalformed => (400, "request_malformed", "The request violates HTTP"),
        /// A header field's name has characters other than letters, digits, `-`, `_` and `.`.
        HeaderNameRefused => (400, "header_name_refused", "A header name may contain only letters, digits, -, _ and ."),
        /// A header field names a method other than the request's own, and the route does not accept that.
        MethodOverrideRefused => (400, "method_override_refused", "No header may override the method here"),
        /// The request target can be read as more than one path.
        PathRefused => (400, "path_refused", "The path can be read in more than one way"),
        /// The request target is longer than the limit.
        TargetTooLong => (414, "target_too_long", "The request target is too long"),
        /// The head has too many fields or bytes.
        HeadTooLarge => (431, "head_too_large", "The request head is too large"),
        /// A method that is never forwarded, such as TRACE or CONNECT.
        MethodRefused => (405, "method_refused", "This method is not served here"),
        /// No route matches host, path and method.
        NoRoute => (404, "no_route", "No route matches the request"),
        /// A credential is required and none was sent.
        CredentialMissing => (401, "credential_missing", "A credential is required"),
        /// Two credentials at once, or one of them twice.
        CredentialConflict => (400, "credential_conflict", "Send exactly one credential"),
        /// The bearer token is not accepted.
        BearerInvalid => (401, "bearer_invalid", "The bearer token is not accepted"),
        /// The bearer token has expired.
        BearerExpired => (401, "bearer_expired", "The bearer token has expired"),
        /// The session of the bearer token or cookie has ended, or its account may no longer act.
        SessionEnded => (401, "session_ended", "The session has ended"),
        /// Unknown, wrong, revoked or expired API key; the caller does not learn which.
        ApiKeyInvalid => (401, "api_key_invalid", "The API key is not accepted"),
        /// A cookie may not authenticate this request: it changes state, and comes from a page of a foreign origin.
        OriginRefused => (403, "origin_refused", "Pages of this origin may not send this request"),
        /// Authenticated, but with none of the required roles.
        RoleMissing => (403, "role_missing", "The caller has none of the required roles"),
        /// Authenticated, but without a required scope.
        ScopeMissing => (403, "scope_missing", "The caller lacks a required scope"),
        /// Allowed, but the identity headers are too large for a request head that upstreams accept.
        IdentityTooLarge => (403, "identity_too_large", "The caller has more roles or scopes than can be passed to this service"),
        /// The account must change its password first.
        PasswordMustChange => (403, "password_must_change", "The password must be changed first"),
        /// The body is larger than the limit.
        BodyTooLarge => (413, "body_too_large", "The body is too large"),
        /// The body did not arrive in time.
        BodyTimeout => (408, "body_timeout", "The body did not arrive in time"),
        /// The rate limit of the credential or the caller is exceeded.
        RateLimited => (429, "rate_limited", "Too many requests: try again later"),
        /// A forward-auth request from an address that is not a trusted proxy.
        ForwarderRefused => (403, "forwarder_refused", "Only a trusted proxy may ask this"),
        /// A forward-auth request that describes no request, or more than one.
        ForwardMalformed => (400, "forward_malformed", "The question does not describe exactly one request"),
    }
    /// Returns the HTTP status on a route, the stable code in `snake_case`, and a short fixed sentence for humans.
    pub fn row() -> (u16, &'static str, &'static str);
    /// Returns the HTTP status of the response on a route.
    pub fn status() -> u16 = row.0;
    /// Returns the stable code, used in the response's `code`, the access record and metrics.
    pub fn code() -> &'static str = row.1;
    /// Returns a short fixed sentence for humans.
    pub fn title() -> &'static str = row.2;
}

impl DenyReason {
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
