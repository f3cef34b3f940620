//! The one place where a person's password is compared with what is at rest.

use crate::account::call::Call;
use crate::account::{AccountError, Accounts};
use crate::model::account::{Account, AccountStatus};
use crate::model::secret::Secret;

/// What a check of a password showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::account) enum PasswordCheck {
    /// It is the account's.
    Right {
        /// Its hash is old: hash it again.
        outdated: bool,
    },
    /// It is not, or there is no account, or none that is active: the work was the same.
    Wrong,
}

impl Accounts {
    /// Compares a password with an account's, as every endpoint does that takes one: log in, change the password,
    /// change the address. `name` is what the caller typed, or the name of the login that asks.
    ///
    /// # Errors
    /// [`AccountError`]; then nothing is known.
    pub(in crate::account) async fn check_password(
        &self,
        _call: &Call,
        _name: &str,
        account: Option<&Account>,
        password: Secret,
    ) -> Result<PasswordCheck, AccountError> {
        // A hash that may not open anything is not compared: a right password would be told by the shorter time.
        let active = account.filter(|account| account.status == AccountStatus::Active);
        let hash = active.and_then(|account| account.password.clone());
        let rounds = self.parts.store.old_hash_rounds_max().await?;
        let verdict = self
            .parts
            .passwords
            .verify_evenly(password, hash, rounds)
            .await?;
        Ok(if verdict.matches {
            PasswordCheck::Right {
                outdated: verdict.outdated,
            }
        } else {
            PasswordCheck::Wrong
        })
    }
}
