//! Changes that people make to their own accounts, and the removal of accounts.

use crate::model::account::{Account, AccountStatus, Digest, OneTimeToken, PersonName, Purpose};
use crate::model::clock::Timestamp;
use crate::model::id::UserId;
use crate::store::intents::{
    accounts, active, keys, members, old_hashes, remove_sessions, remove_token, save, void_tokens,
};
use crate::store::{IdentityChange, Result, Transaction, layout, reads};

pub(crate) fn rename(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    name: PersonName,
) -> Result<Option<Account>> {
    let Some(mut account) = active(tx, uid)? else {
        return Ok(None);
    };
    account.name = name;
    save(tx, &account)?;
    Ok(Some(account))
}

pub(crate) fn change_identity(
    tx: &mut Transaction<'_>,
    digest: &Digest,
    now: Timestamp,
) -> Result<IdentityChange> {
    let token: Option<OneTimeToken> = tx.load(&layout::token(digest))?;
    let fits =
        |token: &OneTimeToken| token.purpose == Purpose::ChangeIdentity && token.is_live(now);
    let Some(token) = token.filter(fits) else {
        return Ok(IdentityChange::Invalid);
    };
    let (Some(mut account), Some(identity)) = (active(tx, &token.uid)?, token.identity.clone())
    else {
        return Ok(IdentityChange::Invalid);
    };
    // Another spelling of the account's own address is not a conflict.
    let owner = tx.load(&layout::normalized(&identity))?;
    if owner.is_some_and(|owner| owner != account.uid) {
        remove_token(tx, &token.uid, &token.digest);
        return Ok(IdentityChange::Taken);
    }
    tx.remove(&layout::folded(&account.identity));
    tx.remove(&layout::normalized(&account.identity));
    tx.put(&layout::folded(&identity), &account.uid)?;
    tx.put(&layout::normalized(&identity), &account.uid)?;
    let before = std::mem::replace(&mut account.identity, identity);
    // A reset token in the old mailbox must no longer open the account.
    void_tokens(tx, &account.uid)?;
    save(tx, &account)?;
    Ok(IdentityChange::Done { account, before })
}

/// Removes an account with everything that belongs to it. Its uid, and its name if it was ever active, stay taken
/// permanently.
pub(crate) fn remove(tx: &mut Transaction<'_>, uid: &UserId) -> Result<Option<Account>> {
    let Some(account) = tx.load::<Account>(&layout::account(uid))? else {
        return Ok(None);
    };
    tx.touch(uid);
    void_tokens(tx, uid)?;
    remove_sessions(tx, uid, None)?;
    keys::remove_all(tx, uid)?;
    for membership in reads::memberships_of(tx.records(), uid)? {
        members::remove(tx, uid, &membership.resource, &membership.id)?;
    }
    tx.remove(&layout::settings(Some(&account.settings_id)));
    tx.remove(&layout::networks(uid));
    if account.status == AccountStatus::Pending {
        accounts::no_longer_pending(tx)?;
    } else {
        tx.remove(&layout::folded(&account.identity));
        tx.remove(&layout::normalized(&account.identity));
    }
    old_hashes::replaced(tx, account.password.as_ref(), None)?;
    tx.remove(&layout::account_id(&account.account_id));
    tx.remove(&layout::account(uid));
    tx.put(&layout::removed(uid), &())?;
    Ok(Some(account))
}
