//! Why a command of the operator's was not carried out, in words.

use crate::account::AccountError;
use crate::account::halt::{Halt, Refuses};
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::telemetry::log::with_causes;

/// Why a command gave no value: for the operator to read.
pub(crate) enum Stop {
    Refused(String),
    Failed(String),
}

impl From<AccountError> for Stop {
    fn from(error: AccountError) -> Self {
        Self::Failed(with_causes(&error))
    }
}

impl<R: Refuses> From<R> for Stop {
    fn from(refusal: R) -> Self {
        let detail = refusal.detail();
        Self::Refused(detail.unwrap_or_else(|| advice(refusal.code())))
    }
}

impl<R: Refuses> From<Halt<R>> for Stop {
    fn from(halt: Halt<R>) -> Self {
        match halt {
            Halt::Refused(refusal) => refusal.into(),
            Halt::Failed(error) => error.into(),
        }
    }
}

/// A refusal as the operator reads it: what stands in the way and what would help, then the code.
fn advice(refused: ErrorCode) -> String {
    let why = match refused {
        ErrorCode::NotFound => "there is no such account or membership",
        ErrorCode::UsernameTaken => "the name belongs to another account",
        ErrorCode::IdentityTaken => "the address belongs to another account",
        ErrorCode::AccountPending => {
            "the account is pending: the link in its mail sets the first password"
        }
        ErrorCode::AccountChanged | ErrorCode::MembershipChanged => {
            "it has changed meanwhile: try again"
        }
        ErrorCode::Denied(DenyReason::ScopeMissing) => {
            "scopes that begin with auth: go to administrators only"
        }
        ErrorCode::KeyLimit => "the account has as many keys as it may have: revoke one first",
        ErrorCode::MembershipLimit => {
            "the account has as many memberships, or the resource as many members, as it may have"
        }
        ErrorCode::LevelUnknown => "the level must be one of [roles] levels",
        _ => "this is refused",
    };
    format!("{why} ({})", refused.as_str())
}
