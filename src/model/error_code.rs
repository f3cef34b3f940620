//! Error codes of responses: one table with the status, the code and the title of each.

use crate::model::deny::DenyReason;

/// Why a caller receives an error. The code is part of the contract with callers: its meaning never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each title in the table says what is wrong")]
pub enum ErrorCode {
    /// Denied by the decision core, under its own code.
    Denied(DenyReason),
    /// The same, in the response to a proxy that asks about another caller's request.
    DeniedToProxy(DenyReason),
    NotFound,
    BodyMalformed,
    QueryMalformed,
    ContentType,
    ValueInvalid,
    TemplateUnknown,
    MethodUnknown,
    GrantTypeUnsupported,
    RefreshTokenInvalid,
    RegistrationClosed,
    LoginRefused,
    LoginLimited,
    LoginNeeded,
    TokenInvalid,
    PasswordWrong,
    PasswordMismatch,
    PasswordRefused,
    AccountChanged,
    AccountPending,
    OwnAccount,
    UsernameTaken,
    IdentityTaken,
    RoleReserved,
    ScopeUnknown,
    KeyLimit,
    MembershipLimit,
    LevelUnknown,
    MembershipChanged,
    StoreUnavailable,
    WriteUnknown,
    AuditUnavailable,
    RoleSourceUnavailable,
    IssuerUnavailable,
    SigningUnavailable,
    HashingBusy,
    LimitsFull,
    Overloaded,
    UpstreamUnreachable,
    UpstreamTimeout,
    UpstreamError,
    Internal,
}

impl ErrorCode {
    /// Returns the status, the stable code in `snake_case`, and a fixed sentence for people.
    #[must_use]
    pub const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Denied(reason) => reason.row(),
            Self::DeniedToProxy(reason) => {
                let (_, code, title) = reason.row();
                (reason.status_for_proxy(), code, title)
            }
            Self::NotFound => (404, "not_found", "There is nothing here"),
            Self::BodyMalformed => (400, "body_malformed", "The body is not what this takes"),
            Self::QueryMalformed => (400, "query_malformed", "The query is not what this takes"),
            Self::ContentType => (415, "content_type", "The body is of another type"),
            Self::ValueInvalid => (422, "value_invalid", "A value breaks its rule"),
            Self::TemplateUnknown => (422, "template_unknown", "There is no such template"),
            Self::MethodUnknown => (422, "method_unknown", "There is no such way to log in"),
            Self::GrantTypeUnsupported => {
                (400, "grant_type_unsupported", "There is no such grant type")
            }
            Self::RefreshTokenInvalid => (
                400,
                "refresh_token_invalid",
                "The refresh token is not accepted",
            ),
            Self::RegistrationClosed => (403, "registration_closed", "Nobody may register here"),
            Self::LoginRefused => (401, "login_refused", "The name or the password is wrong"),
            Self::LoginLimited => (429, "login_limited", "Quota exceeded: try again later"),
            Self::LoginNeeded => (403, "login_needed", "This needs a login of the account"),
            Self::TokenInvalid => (400, "token_invalid", "The one-time token is not accepted"),
            Self::PasswordWrong => (403, "password_wrong", "The old password is wrong"),
            Self::PasswordMismatch => (422, "password_mismatch", "The two passwords differ"),
            Self::PasswordRefused => (422, "password_refused", "The new password is not taken"),
            Self::AccountChanged => (409, "account_changed", "The account has changed: try again"),
            Self::AccountPending => (409, "account_pending", "The account has no password yet"),
            Self::OwnAccount => (409, "own_account", "Nobody changes their own account here"),
            Self::UsernameTaken => (409, "username_taken", "The name belongs to another account"),
            Self::IdentityTaken => (
                409,
                "identity_taken",
                "The address belongs to another account",
            ),
            Self::RoleReserved => (
                422,
                "role_reserved",
                "A role among these is given otherwise",
            ),
            Self::ScopeUnknown => (422, "scope_unknown", "A scope among these is not declared"),
            Self::KeyLimit => (
                422,
                "apikey_limit",
                "The account has as many keys as it may have",
            ),
            Self::MembershipLimit => (
                422,
                "membership_limit",
                "The account, or the resource, has as many memberships as it may have",
            ),
            Self::LevelUnknown => (422, "level_unknown", "The level is not declared"),
            Self::MembershipChanged => (
                409,
                "membership_changed",
                "The membership has changed: try again",
            ),
            failure => failure.row_of_failure(),
        }
    }

    /// Like [`ErrorCode::row`], for errors that the request did not cause.
    const fn row_of_failure(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::StoreUnavailable => (503, "store_unavailable", "Try again soon"),
            Self::WriteUnknown => (
                503,
                "write_unknown",
                "Whether this was written is not known yet: look before you ask again",
            ),
            Self::AuditUnavailable => (503, "audit_unavailable", "Try again soon"),
            Self::RoleSourceUnavailable => (503, "role_source_unavailable", "Try again soon"),
            Self::IssuerUnavailable => (503, "issuer_unavailable", "Try again soon"),
            Self::SigningUnavailable => (503, "signing_unavailable", "Try again soon"),
            Self::HashingBusy => (503, "hashing_busy", "Try again soon"),
            Self::LimitsFull => (503, "limits_full", "Try again soon"),
            Self::Overloaded => (503, "overloaded", "Try again soon"),
            Self::UpstreamUnreachable => (
                502,
                "upstream_unreachable",
                "The service behind this cannot be reached",
            ),
            Self::UpstreamTimeout => (
                504,
                "upstream_timeout",
                "The service behind this did not answer in time",
            ),
            Self::UpstreamError => (
                502,
                "upstream_error",
                "The service behind this did not answer as it should",
            ),
            _ => (500, "internal_error", "Something went wrong here"),
        }
    }

    /// Returns the stable code, used in the response's `code`, the audit trail, the access record and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// Returns the reason, if the decision core denied the request.
    #[must_use]
    pub const fn reason(self) -> Option<DenyReason> {
        match self {
            Self::Denied(reason) | Self::DeniedToProxy(reason) => Some(reason),
            _ => None,
        }
    }
}

impl From<DenyReason> for ErrorCode {
    fn from(reason: DenyReason) -> Self {
        Self::Denied(reason)
    }
}
