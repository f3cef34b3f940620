//! The ways in which a use case ends without a result.

use crate::account::AccountError;
use crate::crypto::password::HashError;
use crate::crypto::ring::SignError;
use crate::limit::ReachedLimit;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::field::InvalidField;
use crate::store::error::StoreError;
use crate::telemetry::output::Unrecorded;

/// Why a use case has no result. The `?` operator converts both refusals and failures into it.
#[derive(Debug)]
pub enum Halt<R> {
    /// The use case refuses. Nothing was changed.
    Refused(R),
    /// The use case could not be carried out.
    Failed(AccountError),
}

/// A refusal of a use case.
pub trait Refuses {
    /// Returns the codes for the API document: those of the refusal, as far as its type determines them, and those of
    /// failures that the use case may have and most use cases do not.
    #[must_use]
    fn documented() -> Vec<ErrorCode> {
        Vec::new()
    }

    /// Returns the code in the response.
    fn code(&self) -> ErrorCode;

    /// Returns the outcome in the audit trail, which may be more specific than the response.
    fn outcome(&self) -> &'static str {
        self.code().as_str()
    }

    /// Returns a sentence about the request for its sender, without any value of the request.
    fn detail(&self) -> Option<String> {
        None
    }

    /// Returns the limit that is used up, if the refusal is about one.
    fn limit(&self) -> Option<ReachedLimit> {
        None
    }
}

/// Declares the refusals of a use case, one row each: the variant, the value that it holds, its error code and, if the
/// audit trail is more specific than the response, the outcome there. The held value is a refusal itself and provides
/// the detail and the limit.
///
/// `or` adds the refusals of a step that the use case shares with others, and `fails` the codes of failures that most
/// use cases do not have.
macro_rules! refusals {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident {
            $($(#[$doc:meta])* $variant:ident $(($held:ty))? => $code:expr $(=> $outcome:expr)?,)*
        }
        $(or $step:ident($refusal:ty))*
        $(fails $failures:expr)?
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$doc])* $variant $(($held))?,)*
            $(#[doc = concat!("A [`", stringify!($refusal), "`].")] $step($refusal),)*
        }

        impl $crate::account::halt::Refuses for $name {
            fn documented() -> Vec<ErrorCode> {
                [
                    vec![$($code),*],
                    $(<$refusal>::documented(),)*
                    $($failures.to_vec(),)?
                ]
                .concat()
            }

            fn code(&self) -> ErrorCode {
                match self {
                    $(Self::$variant { .. } => $code,)*
                    $(Self::$step(refusal) => refusal.code(),)*
                }
            }

            fn outcome(&self) -> &'static str {
                $($(
                    if matches!(self, Self::$variant { .. }) {
                        return $outcome;
                    }
                )?)*
                $(
                    if let Self::$step(refusal) = self {
                        return refusal.outcome();
                    }
                )*
                self.code().as_str()
            }

            fn detail(&self) -> Option<String> {
                $($(
                    if let Self::$variant(held) = self {
                        return <$held>::detail(held);
                    }
                )?)*
                $(
                    if let Self::$step(refusal) = self {
                        return refusal.detail();
                    }
                )*
                None
            }

            fn limit(&self) -> Option<$crate::limit::ReachedLimit> {
                $($(
                    if let Self::$variant(held) = self {
                        return <$held>::limit(held);
                    }
                )?)*
                $(
                    if let Self::$step(refusal) = self {
                        return refusal.limit();
                    }
                )*
                None
            }
        }

        $(
            impl From<$refusal> for $name {
                fn from(refusal: $refusal) -> Self {
                    Self::$step(refusal)
                }
            }

            impl From<$refusal> for $crate::account::halt::Halt<$name> {
                fn from(refusal: $refusal) -> Self {
                    Self::Refused(refusal.into())
                }
            }

            impl From<$crate::account::halt::Halt<$refusal>> for $crate::account::halt::Halt<$name> {
                fn from(halt: $crate::account::halt::Halt<$refusal>) -> Self {
                    match halt {
                        $crate::account::halt::Halt::Refused(refusal) => refusal.into(),
                        $crate::account::halt::Halt::Failed(error) => Self::Failed(error),
                    }
                }
            }
        )*
    };
}
pub(crate) use refusals;

/// The account has no record with that id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFound;

/// Converts the existence of a record into a result.
pub(in crate::account) fn found(was_there: bool) -> Result<(), Halt<NotFound>> {
    if was_there {
        Ok(())
    } else {
        Err(NotFound.into())
    }
}

impl Refuses for NotFound {
    fn documented() -> Vec<ErrorCode> {
        vec![ErrorCode::NotFound]
    }

    fn code(&self) -> ErrorCode {
        ErrorCode::NotFound
    }
}

impl Refuses for InvalidField {
    fn documented() -> Vec<ErrorCode> {
        vec![ErrorCode::ValueInvalid]
    }

    fn code(&self) -> ErrorCode {
        ErrorCode::ValueInvalid
    }

    fn detail(&self) -> Option<String> {
        Some(format!("{}: {}", self.field, self.expected))
    }
}

impl Refuses for ReachedLimit {
    fn code(&self) -> ErrorCode {
        ErrorCode::LoginLimited
    }

    fn limit(&self) -> Option<ReachedLimit> {
        Some(*self)
    }
}

impl Refuses for ErrorCode {
    fn code(&self) -> ErrorCode {
        *self
    }
}

impl Refuses for DenyReason {
    fn code(&self) -> ErrorCode {
        (*self).into()
    }
}

impl<R: Refuses> From<R> for Halt<R> {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal)
    }
}

impl<R> From<AccountError> for Halt<R> {
    fn from(error: AccountError) -> Self {
        Self::Failed(error)
    }
}

impl<R> From<StoreError> for Halt<R> {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl<R> From<HashError> for Halt<R> {
    fn from(error: HashError) -> Self {
        Self::Failed(error.into())
    }
}

impl<R> From<SignError> for Halt<R> {
    fn from(error: SignError) -> Self {
        Self::Failed(error.into())
    }
}

impl<R> From<Unrecorded> for Halt<R> {
    fn from(error: Unrecorded) -> Self {
        Self::Failed(error.into())
    }
}
