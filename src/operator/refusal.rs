//! Why a command of the operator's was not carried out, in words.

use crate::account::{AccountError, InvalidField};
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

impl From<InvalidField> for Stop {
    fn from(invalid: InvalidField) -> Self {
        Self::Refused(format!("{}: {}", invalid.field, invalid.expected))
    }
}

/// A refusal as the operator reads it: what stands in the way and what would help, then the code.
pub(crate) fn refused(code: &str) -> Stop {
    let why = match code {
        "not_found" => "there is no such account or membership",
        "username_taken" => "the name belongs to another account",
        "identity_taken" => "the address belongs to another account",
        "account_pending" => "the account is pending: the link in its mail sets the first password",
        "account_changed" | "membership_changed" => "it has changed meanwhile: try again",
        "scope_missing" => "scopes that begin with auth: go to administrators only",
        "apikey_limit" => "the account has as many keys as it may have: revoke one first",
        "membership_limit" => {
            "the account has as many memberships, or the resource as many members, as it may have"
        }
        "level_unknown" => "the level must be one of [roles] levels",
        _ => "this is refused",
    };
    Stop::Refused(format!("{why} ({code})"))
}
