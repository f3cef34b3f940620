//! How many accounts still have an old password hash, by its rounds: a failed login has to cost as much as with the
//! dearest of them, and no longer once the last one is rewritten.

use crate::model::account::PasswordHash;
use crate::store::error::Result;
use crate::store::layout;
use crate::store::transaction::{Records, Transaction};

/// Counts one hash that takes another one's place; `None`: there is none.
pub(crate) fn replaced(
    tx: &mut Transaction<'_>,
    before: Option<&PasswordHash>,
    after: Option<&PasswordHash>,
) -> Result<()> {
    let rounds = |hash: Option<&PasswordHash>| hash.and_then(PasswordHash::sha_crypt_rounds);
    let (before, after) = (rounds(before), rounds(after));
    if before == after {
        return Ok(());
    }
    let mut counts = tx.load(&layout::old_hashes())?.unwrap_or_default();
    if let Some(before) = before {
        let count = counts.entry(before).or_insert(0);
        *count = count.saturating_sub(1);
        counts.retain(|_, count| 0 < *count);
    }
    if let Some(after) = after {
        *counts.entry(after).or_insert(0) += 1;
    }
    tx.put(&layout::old_hashes(), &counts)
}

/// The most rounds that any account's hash has; 0: none is old.
pub(crate) fn rounds_max(records: &dyn Records) -> Result<u32> {
    let counts = records.load(&layout::old_hashes())?.unwrap_or_default();
    Ok(counts.keys().next_back().copied().unwrap_or(0))
}
