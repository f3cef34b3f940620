//! Error codes of responses: one table with the status, the code and the title of each.

use crate::model::deny::DenyReason;
use crate::model::table::table;

table! {
    /// Why a caller receives an error. The code is part of the contract with callers: its meaning never changes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[expect(missing_docs, reason = "each title in the table says what is wrong")]
    pub enum ErrorCode {
        /// Denied by the decision core, under its own code.
        Denied(reason: DenyReason) => reason.row(),
        /// The same, in the response to a proxy that asks about another caller's request.
        DeniedToProxy(reason: DenyReason) => (reason.status_for_proxy(), reason.code(), reason.title()),
        NotFound => (404, "not_found", "Not found"),
        BodyMalformed => (400, "body_malformed", "The body is malformed"),
        QueryMalformed => (400, "query_malformed", "The query is malformed"),
        ContentType => (415, "content_type", "The content type is not supported"),
        ValueInvalid => (422, "value_invalid", "A value violates its rule"),
        TemplateUnknown => (422, "template_unknown", "The template does not exist"),
        MethodUnknown => (422, "method_unknown", "The login method does not exist"),
        GrantTypeUnsupported => (400, "grant_type_unsupported", "The grant type is not supported"),
        RefreshTokenInvalid => (400, "refresh_token_invalid", "The refresh token is not accepted"),
        RegistrationClosed => (403, "registration_closed", "Registration is closed"),
        LoginRefused => (401, "login_refused", "The name or the password is wrong"),
        LoginLimited => (429, "login_limited", "Quota exceeded: try again later"),
        LoginNeeded => (403, "login_needed", "This requires a login of the account itself"),
        TokenInvalid => (400, "token_invalid", "The one-time token is not accepted"),
        PasswordWrong => (403, "password_wrong", "The old password is wrong"),
        PasswordMismatch => (422, "password_mismatch", "The two passwords differ"),
        PasswordRefused => (422, "password_refused", "The new password is not accepted"),
        AccountChanged => (409, "account_changed", "The account has changed: try again"),
        AccountPending => (409, "account_pending", "The account has no password yet"),
        OwnAccount => (409, "own_account", "You cannot change your own account here"),
        UsernameTaken => (409, "username_taken", "The name belongs to another account"),
        IdentityTaken => (409, "identity_taken", "The address belongs to another account"),
        RoleReserved => (422, "role_reserved", "One of the roles is reserved and cannot be assigned here"),
        ScopeUnknown => (422, "scope_unknown", "One of the scopes is not declared"),
        KeyLimit => (422, "apikey_limit", "The account has the maximum number of keys"),
        MembershipLimit => (422, "membership_limit", "The account or the resource has the maximum number of memberships"),
        LevelUnknown => (422, "level_unknown", "The level is not declared"),
        MembershipChanged => (409, "membership_changed", "The membership has changed: try again"),
        StoreUnavailable => (503, "store_unavailable", "Try again soon"),
        WriteUnknown => (503, "write_unknown", "The outcome of the write is not known yet: check it before you try again"),
        AuditUnavailable => (503, "audit_unavailable", "Try again soon"),
        RoleSourceUnavailable => (503, "role_source_unavailable", "Try again soon"),
        IssuerUnavailable => (503, "issuer_unavailable", "Try again soon"),
        SigningUnavailable => (503, "signing_unavailable", "Try again soon"),
        HashingBusy => (503, "hashing_busy", "Try again soon"),
        LimitsFull => (503, "limits_full", "Try again soon"),
        Overloaded => (503, "overloaded", "Try again soon"),
        UpstreamUnreachable => (502, "upstream_unreachable", "The service behind this cannot be reached"),
        UpstreamTimeout => (504, "upstream_timeout", "The service behind this did not answer in time"),
        UpstreamError => (502, "upstream_error", "The service behind this sent an invalid answer"),
        Internal => (500, "internal_error", "Something went wrong here"),
    }
    /// Returns the status, the stable code in `snake_case`, and a fixed sentence for people.
    pub fn row() -> (u16, &'static str, &'static str);
    /// Returns the stable code, used in the response's `code`, the audit trail, the access record and metrics.
    pub fn as_str() -> &'static str = row.1;
}

impl ErrorCode {
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
