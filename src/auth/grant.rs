//! The three ends of a decision, and the proof of an allow.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::auth::caller::Caller;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::KeyId;
use crate::model::identity::{AuthnMethod, Identity};
use crate::model::refusal_fault::RefusalFault;
use crate::model::route::Route;

/// What was decided about a request.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// It may pass, and nothing else may stand for this proof.
    Allow(Grant),
    /// It may not.
    Deny(Denial),
    /// It could not be decided: 503.
    Fail(Unavailable),
}

impl Decision {
    /// The proof of an allow.
    #[must_use]
    pub const fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Allow(grant) => Some(grant),
            Self::Deny(_) | Self::Fail(_) => None,
        }
    }

    /// Why it may not pass.
    #[must_use]
    pub const fn deny_reason(&self) -> Option<DenyReason> {
        match self {
            Self::Deny(denial) => Some(denial.reason),
            Self::Allow(_) | Self::Fail(_) => None,
        }
    }

    /// The stable code of what keeps it from passing.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Allow(_) => None,
            Self::Deny(denial) => Some(denial.reason.code()),
            Self::Fail(cause) => Some(cause.code()),
        }
    }

    /// What operators learn beside the reason why it may not pass.
    #[must_use]
    pub const fn fault(&self) -> Option<&RefusalFault> {
        match self {
            Self::Deny(denial) => denial.fault.as_ref(),
            Self::Allow(_) | Self::Fail(_) => None,
        }
    }

    /// The route that matched, as far as that is known.
    #[must_use]
    pub const fn route(&self) -> Option<&Arc<Route>> {
        match self {
            Self::Allow(grant) => Some(&grant.route),
            Self::Deny(denial) => denial.route.as_ref(),
            Self::Fail(_) => None,
        }
    }

    /// The API key that was presented, accepted or not, if its secret was.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        let identity = self.identity();
        let accepted = identity.and_then(|identity| identity.key_id.as_ref());
        accepted.or_else(|| self.fault()?.key_id())
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

/// A refusal, with what is known about the request, for the record.
#[derive(Clone, Debug)]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// What operators learn beside the reason.
    pub fault: Option<RefusalFault>,
    /// The route, if one matched.
    pub route: Option<Arc<Route>>,
    /// The caller, if recognised.
    pub identity: Option<Arc<Identity>>,
    /// In how many seconds it is worth another try, if it is known.
    pub retry_after_s: Option<u32>,
    /// The methods that the pattern takes, where the method alone is refused; none: those that pass at all.
    pub methods: Vec<http::Method>,
}

/// Why no decision could be made. The cause is logged where it is found; the caller learns only that it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// The store did not answer.
    Store,
    /// A role source did not answer, and its last answer is too old.
    RoleSource,
    /// A foreign issuer does not answer, and what is known of it is too old.
    Issuer,
    /// What the route promises its upstream could not be signed.
    Signing,
    /// More requests are under way than the gateway has room for.
    Overloaded,
}

impl Unavailable {
    /// Its row in the table of error codes.
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

    /// The stable code, in the answer and the record.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.error_code().as_str()
    }
}

/// The ways a step of the pipeline stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A refusal.
    Deny(DenyReason),
    /// A refusal as [`DenyReason::RateLimited`], for so many whole seconds.
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

/// Proof that a request may pass to one upstream, and what that upstream is told. Only `auth` makes one.
#[derive(Debug)]
pub struct Grant {
    route: Arc<Route>,
    caller: Option<Arc<Caller>>,
    roles: Option<HeaderValue>,
    assertion: Option<HeaderValue>,
}

impl Grant {
    /// `roles`: the roles that concern this request, ready to be sent.
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

    /// The same, vouched for towards the upstream.
    pub(super) fn with_assertion(self, assertion: HeaderValue) -> Self {
        Self {
            assertion: Some(assertion),
            ..self
        }
    }

    /// What the upstream is told of the caller, as the values of identity headers.
    pub(super) const fn told(&self) -> (Option<&Arc<Caller>>, Option<&HeaderValue>) {
        (self.caller.as_ref(), self.roles.as_ref())
    }

    /// The route that matched.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The caller, if recognised.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.caller.as_ref().map(|caller| &caller.identity)
    }

    /// The identity headers to set, after every copy of the caller's has been removed: those that hold something.
    pub fn identity_headers(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        let fields = self.identity_fields().into_iter();
        fields.filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// All identity headers of the route; `None`: there is nothing to tell under this name.
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
