//! Settings documents: one per account, and a shared one.

use crate::model::id::UserId;
use crate::store::error::Result;
use crate::store::intents::active;
use crate::store::layout;
use crate::store::transaction::Transaction;

/// Writes the document of an account, or the shared one; `false`: the account is not active.
pub(crate) fn put(
    tx: &mut Transaction<'_>,
    uid: Option<&UserId>,
    document: &String,
) -> Result<bool> {
    let id = match uid {
        None => None,
        Some(uid) => match active(tx, uid)? {
            Some(account) => Some(account.settings_id),
            None => return Ok(false),
        },
    };
    tx.put(&layout::settings(id.as_ref()), document)?;
    Ok(true)
}
