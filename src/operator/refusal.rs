//! The texts of refused and failed commands of the operator.

use crate::account::AccountError;
use crate::account::halt::{Halt, Refuses};
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::telemetry::log::with_causes;

/// The reason why a command has no result, as a text for the operator.
pub(crate) enum CommandStop {
    Refused(String),
    Failed(String),
}

impl From<AccountError> for CommandStop {
    fn from(error: AccountError) -> Self {
        Self::Failed(with_causes(&error))
    }
}

impl<R: Refuses> From<R> for CommandStop {
    fn from(refusal: R) -> Self {
        let detail = refusal.detail();
        Self::Refused(detail.unwrap_or_else(|| advice(refusal.code())))
    }
}

impl<R: Refuses> From<Halt<R>> for CommandStop {
    fn from(halt: Halt<R>) -> Self {
        match halt {
            Halt::Refused(refusal) => refusal.into(),
            Halt::Failed(error) => error.into(),
        }
    }
}

/// Returns the text of a refusal for the operator: the reason or the remedy, then the code.
fn advice(refused: ErrorCode) -> String {
    let why = match refused {
        ErrorCode::NotFound => "there is no such account or membership",
        ErrorCode::UsernameTaken => "the name belongs to another account",
        ErrorCode::IdentityTaken => "the address belongs to another account",
        ErrorCode::AccountPending => {
            "the account is pending: the link in its mail sets the first password"
        }
        ErrorCode::AccountChanged | ErrorCode::MembershipChanged => {
            "it was changed at the same time: try again"
        }
        ErrorCode::Denied(DenyReason::ScopeMissing) => {
            "only administrators can have scopes that begin with auth:"
        }
        ErrorCode::KeyLimit => "the account has the maximum number of keys: revoke one first",
        ErrorCode::MembershipLimit => {
            "the account has the maximum number of memberships, or the resource of members"
        }
        ErrorCode::LevelUnknown => "the level must be one of [roles] levels",
        _ => "the change is refused",
    };
    format!("{why} ({})", refused.as_str())
}
