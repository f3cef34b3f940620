//! Password changes, authorized by a mailed token or by the old password.

use crate::model::account::{Account, AccountStatus, Digest, OneTimeToken, Purpose};
use crate::model::clock::Timestamp;
use crate::model::id::{SessionId, UserId};
use crate::store::intents::{
    accounts, keys, old_hashes, remove_sessions, remove_token, reserve, save_revoked, unchanged,
    void_tokens,
};
use crate::store::{Guarded, NewPassword, Result, Transaction, layout};

pub(crate) fn set_by_token(
    tx: &mut Transaction<'_>,
    digest: &Digest,
    password: NewPassword,
    now: Timestamp,
) -> Result<Option<Account>> {
    let Some(token) = tx.load::<OneTimeToken>(&layout::token(digest))? else {
        return Ok(None);
    };
    let account = tx.load(&layout::account(&token.uid))?;
    let fitting = account.filter(|account| token.purpose.fits(account.status));
    let (Some(mut account), true) = (fitting, token.is_live(now)) else {
        return Ok(None);
    };
    match token.purpose {
        Purpose::Confirm => {
            // The first account to set a password has won.
            if tx.load(&layout::username(&account.username))?.is_some()
                || tx.load(&layout::normalized(&account.identity))?.is_some()
            {
                remove_token(tx, &token.uid, &token.digest);
                return Ok(None);
            }
            reserve(tx, &account)?;
            accounts::no_longer_pending(tx)?;
            account.status = AccountStatus::Active;
        }
        Purpose::Reset => account.password_must_change = false,
        Purpose::ChangeIdentity => return Ok(None),
    }
    renew(tx, &mut account, password, None)?;
    Ok(Some(account))
}

pub(crate) fn change(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    standing: u64,
    password: NewPassword,
    keep: Option<&SessionId>,
) -> Result<Guarded<Account>> {
    let Some(mut account) = unchanged(tx, uid, standing)? else {
        return Ok(Guarded::Stale);
    };
    account.password_must_change = false;
    renew(tx, &mut account, password, keep)?;
    Ok(Guarded::Done(account))
}

/// Applies the consequences of every new password.
fn renew(
    tx: &mut Transaction<'_>,
    account: &mut Account,
    password: NewPassword,
    keep: Option<&SessionId>,
) -> Result<()> {
    old_hashes::replaced(tx, account.password.as_ref(), Some(&password.hash))?;
    account.password = Some(password.hash);
    void_tokens(tx, &account.uid)?;
    remove_sessions(tx, &account.uid, keep)?;
    if password.revoke_keys {
        keys::remove_all(tx, &account.uid)?;
    }
    save_revoked(tx, account)
}
