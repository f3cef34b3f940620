//! The records of an import in progress.

use serde::{Deserialize, Serialize};

use crate::model::access::Membership;
use crate::model::account::Account;
use crate::model::api_key::ApiKey;
use crate::model::id::UserId;

/// A piece of a staged person. The last piece has the account, so that it appears together with everything that belongs
/// to it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Staged {
    pub(crate) uid: UserId,
    pub(crate) account: Option<Account>,
    pub(crate) keys: Vec<ApiKey>,
    pub(crate) memberships: Vec<Membership>,
}

impl Staged {
    /// Estimates how many records change when this piece is written.
    pub(crate) fn changes(&self) -> usize {
        let account = self.account.as_ref().map_or(0, |_| 6);
        2 + account + 3 * self.keys.len() + 4 * self.memberships.len()
    }
}
