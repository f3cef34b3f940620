//! The cause of a refusal, for operators and never for callers: the `fault` of the access record and of `explain`.

use std::fmt;

use crate::model::account::AccountStatus;
use crate::model::id::KeyId;
use crate::model::table::table;
use crate::model::token_fault::TokenFault;

/// The cause of a refusal. Its code is part of logs: its meaning never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalFault {
    /// A fault of a bearer token.
    Token(TokenFault),
    /// A fault of an API key.
    ApiKey(KeyFault),
    /// A fault of a session's account.
    Account(AccountFault),
    /// A fault of a proxy that asks for a decision.
    Forwarder(ForwarderFault),
}

/// A fault of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFault {
    /// The kind of fault.
    pub kind: KeyFaultKind,
    /// The id of the key, if its secret was presented.
    pub key_id: Option<KeyId>,
}

table! {
    /// The reasons why an API key is not accepted.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum KeyFaultKind {
        /// The text does not have the form of a key, or its checksum is wrong.
        Malformed => ("malformed", "the text does not have the form of a key, or its checksum is wrong"),
        /// No key has this id: it was revoked, or never existed.
        Unknown => ("unknown", "no key has this id: it was revoked, or never existed"),
        /// The secret does not match the key.
        Secret => ("secret", "the secret does not match the key"),
        /// The key, or this secret of it, has expired.
        Expired => ("expired", "the key, or this secret of it, has expired"),
        /// A restore has suspended the key.
        Suspended => ("suspended", "the key has been suspended since a restore; doorward apikey confirm ACCOUNT reactivates it"),
        /// The client's address is outside the networks of the key.
        Network => ("network", "the client's address is outside allow_from of the key"),
        /// The account of the key may not act.
        Account(fault: AccountFault) => fault.row(),
    }
    /// Returns the stable code and the sentence for operators.
    fn row() -> (&'static str, &'static str);
}

table! {
    /// The reasons why an account may not act.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum AccountFault {
        /// The account does not exist.
        Unknown => ("account_unknown", "the account does not exist"),
        /// The account has no password yet.
        Pending => ("account_pending", "the account is pending: no password is set yet"),
        /// The account is disabled.
        Disabled => ("account_disabled", "the account is disabled"),
    }
    /// Returns the stable code and the sentence for operators.
    fn row() -> (&'static str, &'static str);
}

table! {
    /// The reasons why a proxy may not ask for a decision.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ForwarderFault {
        /// Its address is not in `listen.trusted_proxies`.
        Address => ("address", "the proxy's address is not in listen.trusted_proxies"),
        /// `X-Doorward-Secret` is missing, wrong or sent twice.
        Secret => ("secret", "X-Doorward-Secret is missing, wrong or sent twice"),
    }
    /// Returns the stable code and the sentence for operators.
    fn row() -> (&'static str, &'static str);
}

impl RefusalFault {
    const fn row(&self) -> (&'static str, &'static str) {
        match self {
            Self::Token(fault) => fault.kind.row(),
            Self::ApiKey(fault) => fault.kind.row(),
            Self::Account(fault) => fault.row(),
            Self::Forwarder(fault) => fault.row(),
        }
    }

    /// Returns the stable code, `snake_case`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.row().0
    }

    /// Returns the id of the API key whose secret was presented.
    #[must_use]
    pub const fn key_id(&self) -> Option<&KeyId> {
        match self {
            Self::ApiKey(fault) => fault.key_id.as_ref(),
            _ => None,
        }
    }
}

impl KeyFaultKind {
    /// Returns a fault of this kind, for a key whose secret was presented.
    #[must_use]
    pub const fn of_key(self, key_id: KeyId) -> KeyFault {
        KeyFault {
            kind: self,
            key_id: Some(key_id),
        }
    }
}

impl AccountFault {
    /// Returns why an account of this status may not act; `None`: it may.
    #[must_use]
    pub const fn of(status: AccountStatus) -> Option<Self> {
        match status {
            AccountStatus::Active => None,
            AccountStatus::Pending => Some(Self::Pending),
            AccountStatus::Disabled => Some(Self::Disabled),
        }
    }
}

impl fmt::Display for RefusalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Token(fault) = self {
            return fault.fmt(f);
        }
        let (code, text) = self.row();
        write!(f, "{code}: {text}")?;
        match self.key_id() {
            Some(key_id) => write!(f, "; key {}", key_id.as_str()),
            None => Ok(()),
        }
    }
}

impl From<TokenFault> for RefusalFault {
    fn from(fault: TokenFault) -> Self {
        Self::Token(fault)
    }
}

impl From<KeyFault> for RefusalFault {
    fn from(fault: KeyFault) -> Self {
        Self::ApiKey(fault)
    }
}

impl From<KeyFaultKind> for RefusalFault {
    fn from(kind: KeyFaultKind) -> Self {
        Self::ApiKey(KeyFault { kind, key_id: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_where_its_secret_was_presented() {
        let key_id = KeyId::parse("abcd1234").unwrap();
        let known = RefusalFault::from(KeyFaultKind::Expired.of_key(key_id));
        assert_eq!((known.code(), known.key_id()), ("expired", Some(&key_id)));
        assert!(known.to_string().ends_with("; key abcd1234"), "{known}");
        let guessed = RefusalFault::from(KeyFaultKind::Secret);
        assert_eq!((guessed.code(), guessed.key_id()), ("secret", None));
        assert_eq!(
            guessed.to_string(),
            "secret: the secret does not match the key"
        );
    }

    #[test]
    fn what_an_account_lacks_is_told_by_its_status() {
        for (status, code) in [
            (AccountStatus::Active, None),
            (AccountStatus::Pending, Some("account_pending")),
            (AccountStatus::Disabled, Some("account_disabled")),
        ] {
            assert_eq!(AccountFault::of(status).map(|fault| fault.row().0), code);
        }
    }
}
