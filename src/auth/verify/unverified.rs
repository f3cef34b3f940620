//! The reasons why a credential was not verified, for its caller and for operators.

use crate::auth::grant::{Stop, Unavailable};
use crate::crypto::jwt::JwtError;
use crate::model::deny::DenyReason;
use crate::model::id::KeyId;
use crate::model::refusal_fault::{AccountFault, KeyFaultKind, RefusalFault};
use crate::model::token_fault::{FaultKind, TokenFault};

/// A credential that was not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    /// The outcome of the decision; all that a caller learns.
    pub stop: Stop,
    /// The fault of the credential, as far as it is known, for operators.
    pub fault: Option<RefusalFault>,
}

impl From<Unverified> for Stop {
    fn from(unverified: Unverified) -> Self {
        unverified.stop
    }
}

impl From<Stop> for Unverified {
    fn from(stop: Stop) -> Self {
        Self { stop, fault: None }
    }
}

impl From<DenyReason> for Unverified {
    fn from(reason: DenyReason) -> Self {
        Stop::Deny(reason).into()
    }
}

impl From<Unavailable> for Unverified {
    fn from(cause: Unavailable) -> Self {
        Stop::Fail(cause).into()
    }
}

impl From<TokenFault> for Unverified {
    fn from(fault: TokenFault) -> Self {
        Self {
            stop: Stop::Deny(fault.kind.reason()),
            fault: Some(fault.into()),
        }
    }
}

impl From<FaultKind> for Unverified {
    fn from(kind: FaultKind) -> Self {
        TokenFault::from(kind).into()
    }
}

impl From<KeyFaultKind> for Unverified {
    fn from(kind: KeyFaultKind) -> Self {
        Self {
            stop: Stop::Deny(DenyReason::ApiKeyInvalid),
            fault: Some(kind.into()),
        }
    }
}

impl From<AccountFault> for Unverified {
    fn from(fault: AccountFault) -> Self {
        Self {
            stop: Stop::Deny(DenyReason::SessionEnded),
            fault: Some(RefusalFault::Account(fault)),
        }
    }
}

impl From<JwtError> for Unverified {
    fn from(error: JwtError) -> Self {
        let fault = match error {
            JwtError::TooLong => FaultKind::TooLong.into(),
            JwtError::Malformed => FaultKind::Malformed.into(),
            JwtError::Encrypted => FaultKind::Encrypted.into(),
            JwtError::Header => FaultKind::Header.into(),
            JwtError::Signature => FaultKind::Signature.into(),
            JwtError::NoKey => FaultKind::KeyUnknown.into(),
            JwtError::NoKid => FaultKind::KeyUnknown.with(error.to_string()),
            JwtError::UnknownAlgorithm | JwtError::OtherAlgorithm => {
                FaultKind::Algorithm.with(error.to_string())
            }
        };
        fault.into()
    }
}

impl Unverified {
    /// Creates the error for an API key whose secret matches, but which is not accepted.
    pub(in crate::auth) fn of_key(kind: KeyFaultKind, key_id: KeyId) -> Self {
        Self {
            stop: Stop::Deny(DenyReason::ApiKeyInvalid),
            fault: Some(kind.of_key(key_id).into()),
        }
    }

    /// Adds the name of the token's issuer, for operators.
    #[must_use]
    pub(in crate::auth) fn of_issuer(mut self, name: &str) -> Self {
        if let Some(RefusalFault::Token(fault)) = &mut self.fault {
            let gap = if fault.detail.is_empty() { "" } else { ", " };
            fault.detail = format!("{}{gap}issuer {name}", fault.detail).into();
        }
        self
    }

    /// Returns the text for operators: the code and the fault, or else the code of the refusal or failure.
    #[must_use]
    pub fn text(&self) -> String {
        let code = match self.stop {
            Stop::Deny(reason) => reason.code(),
            Stop::Wait(_) => DenyReason::RateLimited.code(),
            Stop::Fail(cause) => cause.code(),
        };
        match &self.fault {
            Some(fault) => format!("{code}: {fault}"),
            None => code.to_owned(),
        }
    }
}
