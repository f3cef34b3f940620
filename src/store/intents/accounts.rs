//! Accounts coming to be and changed by administrators, and the tokens mailed for them.

use crate::model::account::{Account, AccountStatus, OneTimeToken};
use crate::model::id::UserId;
use crate::store::error::StoreError;
use crate::store::intents::{put_token, remove_sessions, reserve, save_revoked, void_tokens};
use crate::store::transaction::Transaction;
use crate::store::{AccountChange, Creation, layout, reads};

pub(crate) fn register(
    tx: &mut Transaction<'_>,
    account: &Account,
    token: &OneTimeToken,
) -> Result<(), StoreError> {
    debug_assert!(account.status == AccountStatus::Pending && account.uid == token.uid);
    insert(tx, account)?;
    put_token(tx, token)
}

pub(crate) fn create(tx: &mut Transaction<'_>, account: &Account) -> Result<Creation, StoreError> {
    if reads::reserves(account.status) {
        if reads::username_taken(tx.records(), &account.username)? {
            return Ok(Creation::UsernameTaken);
        }
        if reads::identity_taken(tx.records(), &account.identity)? {
            return Ok(Creation::IdentityTaken);
        }
    }
    insert(tx, account)?;
    if reads::reserves(account.status) {
        reserve(tx, account)?;
    }
    Ok(Creation::Created)
}

pub(crate) fn put_token_of_account(
    tx: &mut Transaction<'_>,
    token: &OneTimeToken,
) -> Result<bool, StoreError> {
    let account = tx.load(&layout::account(&token.uid))?;
    if !account.is_some_and(|account| token.purpose.fits(account.status)) {
        return Ok(false);
    }
    put_token(tx, token)?;
    Ok(true)
}

pub(crate) fn update(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    change: AccountChange,
) -> Result<Option<Account>, StoreError> {
    let Some(mut account) = tx.load(&layout::account(uid))? else {
        return Ok(None);
    };
    // Nothing makes an account pending again, and only its token makes a pending one active.
    let changeable = reads::reserves(account.status);
    if let Some(status) = change
        .status
        .filter(|&to| changeable && reads::reserves(to))
    {
        account.status = status;
        if status == AccountStatus::Disabled {
            remove_sessions(tx, uid, None)?;
            void_tokens(tx, uid)?;
        }
    }
    if let Some(is_admin) = change.is_admin {
        account.is_admin = is_admin;
    }
    if let Some(mut roles) = change.roles {
        roles.sort_unstable();
        roles.dedup();
        account.roles = roles;
    }
    if let Some(must_change) = change.password_must_change {
        account.password_must_change = must_change;
    }
    save_revoked(tx, &mut account)?;
    Ok(Some(account))
}

fn insert(tx: &mut Transaction<'_>, account: &Account) -> Result<(), StoreError> {
    tx.touch(&account.uid);
    tx.put_new(&layout::account_id(&account.account_id), &account.uid)?;
    tx.put_new(&layout::account(&account.uid), account)
}
