//! Creation of accounts, their changes by administrators, and the tokens mailed for them.

use crate::model::account::{Account, AccountStatus, OneTimeToken, Purpose};
use crate::model::id::UserId;
use crate::model::mail::QueuedMail;
use crate::store::bounds::TOKENS_MAX;
use crate::store::intents::{
    keys, mails, old_hashes, put_token, remove_sessions, remove_token, reserve, save_revoked,
    void_tokens,
};
use crate::store::{AccountChange, Creation, Result, Transaction, layout, reads};

pub(crate) fn register(
    tx: &mut Transaction<'_>,
    account: &Account,
    token: &OneTimeToken,
    mail: Option<&QueuedMail>,
    pending_max: Option<u64>,
) -> Result<bool> {
    debug_assert!(account.status == AccountStatus::Pending && account.uid == token.uid);
    let pending = tx.load(&layout::pending_count())?.unwrap_or(0);
    if pending_max.is_some_and(|max| max <= pending) {
        return Ok(false);
    }
    insert(tx, account)?;
    put_token(tx, token)?;
    mail.map_or(Ok(()), |mail| mails::put(tx, mail))?;
    Ok(true)
}

/// Decrements the count of pending accounts. Those of an older gateway's store were never counted.
pub(crate) fn no_longer_pending(tx: &mut Transaction<'_>) -> Result<()> {
    let pending = tx.load(&layout::pending_count())?.unwrap_or(0);
    tx.put(&layout::pending_count(), &pending.saturating_sub(1))
}

pub(crate) fn create(tx: &mut Transaction<'_>, account: &Account) -> Result<Creation> {
    if reads::reserves(account.status) {
        if tx.load(&layout::username(&account.username))?.is_some() {
            return Ok(Creation::UsernameTaken);
        }
        if tx.load(&layout::normalized(&account.identity))?.is_some() {
            return Ok(Creation::IdentityTaken);
        }
    }
    insert(tx, account)?;
    old_hashes::replaced(tx, None, account.password.as_ref())?;
    if reads::reserves(account.status) {
        reserve(tx, account)?;
    }
    Ok(Creation::Created)
}

pub(crate) fn put_token_of_account(
    tx: &mut Transaction<'_>,
    token: &OneTimeToken,
    mail: Option<&QueuedMail>,
) -> Result<bool> {
    let account = tx.load(&layout::account(&token.uid))?;
    if !account.is_some_and(|account| token.purpose.fits(account.status)) {
        return Ok(false);
    }
    if token.purpose == Purpose::ChangeIdentity {
        // One change at a time: a new request replaces the previous one.
        for digest in reads::token_digests(tx.records(), &token.uid)? {
            let other: Option<OneTimeToken> = tx.load(&layout::token(&digest))?;
            if let Some(other) = other.filter(|other| other.purpose == token.purpose) {
                remove_token(tx, &other.uid, &other.digest);
            }
        }
    }
    make_room(tx, &token.uid)?;
    put_token(tx, token)?;
    mail.map_or(Ok(()), |mail| mails::put(tx, mail))?;
    Ok(true)
}

/// Voids the tokens of an account that would expire first, to make room for one more.
fn make_room(tx: &mut Transaction<'_>, uid: &UserId) -> Result<()> {
    let digests = reads::token_digests(tx.records(), uid)?;
    let surplus = (digests.len() + 1).saturating_sub(TOKENS_MAX);
    if surplus == 0 {
        return Ok(());
    }
    let mut tokens = reads::load_all(tx.records(), digests.iter().map(layout::token))?;
    tokens.sort_by_key(|token| token.expires);
    for token in tokens.iter().take(surplus) {
        remove_token(tx, &token.uid, &token.digest);
    }
    Ok(())
}

pub(crate) fn update(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    change: AccountChange,
) -> Result<Option<Account>> {
    let Some(mut account) = tx.load(&layout::account(uid))? else {
        return Ok(None);
    };
    // An account never becomes pending again, and only its token activates a pending one.
    let changeable = reads::reserves(account.status);
    let status = change
        .status
        .filter(|&to| changeable && reads::reserves(to));
    if let Some(status) = status {
        account.status = status;
        if status == AccountStatus::Disabled {
            remove_sessions(tx, uid, None)?;
            void_tokens(tx, uid)?;
        }
    }
    account.is_admin = change.is_admin.unwrap_or(account.is_admin);
    if let Some(mut roles) = change.roles {
        roles.sort_unstable();
        roles.dedup();
        account.roles = roles;
    }
    if let Some(must_change) = change.password_must_change {
        account.password_must_change = must_change;
    }
    if let Some(suspended) = change.keys_suspended {
        keys::suspend_all(tx, uid, suspended)?;
    }
    save_revoked(tx, &mut account)?;
    Ok(Some(account))
}

pub(crate) fn insert(tx: &mut Transaction<'_>, account: &Account) -> Result<()> {
    tx.touch(&account.uid);
    if account.status == AccountStatus::Pending {
        let pending = tx.load(&layout::pending_count())?.unwrap_or(0);
        tx.put(&layout::pending_count(), &pending.saturating_add(1))?;
    }
    tx.put_new(&layout::account_id(&account.account_id), &account.uid)?;
    tx.put_new(&layout::account(&account.uid), account)
}
