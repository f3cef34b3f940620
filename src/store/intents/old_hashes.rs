//! Number of accounts that still have an old password hash, by its rounds: a failed login must cost as much as the most
//! expensive of them, and no longer does once the last one is rewritten.

use crate::model::account::PasswordHash;
use crate::store::{Records, Result, Transaction, layout};

/// Counts the replacement of one hash by another; `None`: no hash.
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

/// Returns the most rounds of any account's old hash; 0: there is none.
pub(crate) fn rounds_max(records: &dyn Records) -> Result<u32> {
    let counts = records.load(&layout::old_hashes())?.unwrap_or_default();
    Ok(counts.keys().next_back().copied().unwrap_or(0))
}
