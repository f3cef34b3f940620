//! Settings documents: one per account, and a shared one.

use crate::model::id::UserId;
use crate::store::intents::active;
use crate::store::{Result, Transaction, layout};

/// Writes the document of an account, or the shared one; `false`: the account is not active.
pub(crate) fn put(
    tx: &mut Transaction<'_>,
    uid: Option<&UserId>,
    document: &String,
) -> Result<bool> {
    let account = uid.map_or(Ok(None), |uid| active(tx, uid))?;
    if uid.is_some() && account.is_none() {
        return Ok(false);
    }
    let id = account.map(|account| account.settings_id);
    tx.put(&layout::settings(id.as_ref()), document)?;
    Ok(true)
}
