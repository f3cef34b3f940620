//! The outcomes of a decision, and the proof of an allow.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::auth::caller::Caller;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::identity::{AuthnMethod, Identity};
use crate::model::refusal_fault::RefusalFault;
use crate::model::route::Route;

/// The decision about a request.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// The request may pass; the grant is the only proof of it.
    Allow(Grant),
    /// The request may not pass.
    Deny(Denial),
    /// The request could not be decided: 503.
    Fail(Unavailable),
}

impl Decision {
    /// Returns the proof of an allow.
    #[must_use]
    pub const fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Allow(grant) => Some(grant),
            Self::Deny(_) | Self::Fail(_) => None,
        }
    }

    /// Returns the reason of a refusal.
    #[must_use]
    pub const fn deny_reason(&self) -> Option<DenyReason> {
        match self {
            Self::Deny(denial) => Some(denial.reason),
            Self::Allow(_) | Self::Fail(_) => None,
        }
    }

    /// Returns the stable code of the refusal or failure.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Allow(_) => None,
            Self::Deny(denial) => Some(denial.reason.code()),
            Self::Fail(cause) => Some(cause.code()),
        }
    }

    /// Returns the fault behind a refusal, for operators.
    #[must_use]
    pub const fn fault(&self) -> Option<&RefusalFault> {
        match self {
            Self::Deny(denial) => denial.fault.as_ref(),
            Self::Allow(_) | Self::Fail(_) => None,
        }
    }

    /// Returns the matched route, as far as it is known.
    #[must_use]
    pub const fn route(&self) -> Option<&Arc<Route>> {
        match self {
            Self::Allow(grant) => Some(&grant.route),
            Self::Deny(denial) => denial.route.as_ref(),
            Self::Fail(_) => None,
        }
    }

    /// The caller, as far as that is known.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Allow(grant) => grant.identity(),
            Self::Deny(denial) => denial.identity.as_ref(),
            Self::Fail(_) => None,
        }
    }
}

/// A refusal, with the known facts of the request, for the access record.
#[derive(Clone, Debug)]
pub struct Denial {
    /// The reason.
    pub reason: DenyReason,
    /// The fault behind it, for operators.
    pub fault: Option<RefusalFault>,
    /// The matched route, if there is one.
    pub route: Option<Arc<Route>>,
    /// The caller, if authenticated.
    pub identity: Option<Arc<Identity>>,
    /// Seconds until a retry is worthwhile, if known.
    pub retry_after_s: Option<u32>,
    /// The methods that the pattern accepts, if only the method is refused; empty: all that are forwarded at all.
    pub methods: Vec<http::Method>,
}

/// The reasons why no decision could be made. The cause is logged where it is found; the caller learns only that there
/// was a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// The store did not answer.
    Store,
    /// A role source did not answer, and its last answer is too old.
    RoleSource,
    /// A foreign issuer does not answer, and the cached answer is too old.
    Issuer,
    /// The assertion for the upstream could not be signed.
    Signing,
    /// More requests are in flight than the gateway has room for.
    Overloaded,
}

impl Unavailable {
    /// Returns its row in the table of error codes.
    #[must_use]
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::Store => ErrorCode::StoreUnavailable,
            Self::RoleSource => ErrorCode::RoleSourceUnavailable,
            Self::Issuer => ErrorCode::IssuerUnavailable,
            Self::Signing => ErrorCode::SigningUnavailable,
            Self::Overloaded => ErrorCode::Overloaded,
        }
    }

    /// Returns the stable code, used in the response and the access record.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.error_code().as_str()
    }
}

/// The ways in which a step of the pipeline stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A refusal.
    Deny(DenyReason),
    /// A refusal with [`DenyReason::RateLimited`], and the wait in whole seconds.
    Wait(u32),
    /// A failure.
    Fail(Unavailable),
}

impl From<DenyReason> for Stop {
    fn from(reason: DenyReason) -> Self {
        Self::Deny(reason)
    }
}

impl From<Unavailable> for Stop {
    fn from(cause: Unavailable) -> Self {
        Self::Fail(cause)
    }
}

/// Proof that a request may pass to one upstream, with the identity headers for it. Only `auth` creates one.
#[derive(Debug)]
pub struct Grant {
    route: Arc<Route>,
    caller: Option<Arc<Caller>>,
    roles: Option<HeaderValue>,
    assertion: Option<HeaderValue>,
}

impl Grant {
    /// Creates a grant; `roles` is the ready-made value of the roles that concern this request.
    pub(super) fn new(
        route: Arc<Route>,
        caller: Option<Arc<Caller>>,
        roles: Option<HeaderValue>,
    ) -> Self {
        Self {
            route,
            caller,
            roles,
            assertion: None,
        }
    }

    /// Adds the assertion for the upstream.
    pub(super) fn with_assertion(self, assertion: HeaderValue) -> Self {
        Self {
            assertion: Some(assertion),
            ..self
        }
    }

    /// Returns the caller and the roles that the upstream receives.
    pub(super) const fn caller_and_roles(&self) -> (Option<&Arc<Caller>>, Option<&HeaderValue>) {
        (self.caller.as_ref(), self.roles.as_ref())
    }

    /// Returns the matched route.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Returns the caller, if authenticated.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.caller.as_ref().map(|caller| &caller.identity)
    }

    /// Returns the identity headers to set after every copy of the caller's has been removed: those with a value.
    pub fn identity_headers(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        let fields = self.identity_fields().into_iter();
        fields.filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// Returns all identity headers of the route; `None`: no value for this name.
    #[must_use]
    pub fn identity_fields(&self) -> [(&HeaderName, Option<HeaderValue>); 7] {
        let names = &self.route.identity_headers;
        let caller = self.caller.as_deref();
        let method = caller.map_or(AuthnMethod::Anonymous, |caller| caller.identity.method);
        [
            (&names.uid, caller.and_then(|caller| caller.uid.clone())),
            (
                &names.username,
                caller.and_then(|caller| caller.username.clone()),
            ),
            (&names.roles, self.roles.clone()),
            (
                &names.scopes,
                caller.and_then(|caller| caller.scopes.clone()),
            ),
            (
                &names.method,
                Some(HeaderValue::from_static(method.as_str())),
            ),
            (
                &names.key_id,
                caller.and_then(|caller| caller.key_id.clone()),
            ),
            (&names.assertion, self.assertion.clone()),
        ]
    }
}
