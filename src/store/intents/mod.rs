//! The implementation of each intent: pure steps on a transaction, the same for every engine.

pub(crate) mod accounts;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod mails;
pub(crate) mod members;
pub(crate) mod old_hashes;
pub(crate) mod passwords;
pub(crate) mod people;
pub(crate) mod purge;
pub(crate) mod sessions;
pub(crate) mod settings;

use crate::model::account::{Account, AccountStatus, Digest, OneTimeToken};
use crate::model::id::{SessionId, UserId};
use crate::store::{Result, Transaction, layout, reads};

/// Returns the account of a uid, if it may log in.
fn active(tx: &Transaction<'_>, uid: &UserId) -> Result<Option<Account>> {
    let account = tx.load(&layout::account(uid))?;
    Ok(account.filter(|account| account.status == AccountStatus::Active))
}

/// Returns the account of a uid, if it may log in and nothing but levels was revoked since `standing` was read.
fn unchanged(tx: &Transaction<'_>, uid: &UserId, standing: u64) -> Result<Option<Account>> {
    Ok(active(tx, uid)?.filter(|account| account.standing() == standing))
}

/// Overwrites an account and voids what is cached of it.
fn save(tx: &mut Transaction<'_>, account: &Account) -> Result<()> {
    tx.touch(&account.uid);
    tx.put(&layout::account(&account.uid), account)
}

/// Overwrites an account with its generation advanced.
fn save_revoked(tx: &mut Transaction<'_>, account: &mut Account) -> Result<()> {
    account.generation = account.generation.saturating_add(1);
    save(tx, account)
}

/// Like [`save_revoked`], where only levels or sessions were revoked: the standing is unchanged.
fn save_level_change(tx: &mut Transaction<'_>, account: &mut Account) -> Result<()> {
    account.level_changes = account.level_changes.saturating_add(1);
    save_revoked(tx, account)
}

/// Advances the generation of a uid, if there is such an account.
fn move_generation(tx: &mut Transaction<'_>, uid: &UserId) -> Result<()> {
    tx.touch(uid);
    match tx.load(&layout::account(uid))? {
        Some(mut account) => save_revoked(tx, &mut account),
        None => Ok(()),
    }
}

/// Reserves the name and address of an account.
fn reserve(tx: &mut Transaction<'_>, account: &Account) -> Result<()> {
    tx.put(&layout::username(&account.username), &account.uid)?;
    tx.put(&layout::folded(&account.identity), &account.uid)?;
    tx.put(&layout::normalized(&account.identity), &account.uid)
}

fn put_token(tx: &mut Transaction<'_>, token: &OneTimeToken) -> Result<()> {
    tx.put_new(&layout::token(&token.digest), token)?;
    tx.put(&layout::token_of(&token.uid, &token.digest), &())
}

fn remove_token(tx: &mut Transaction<'_>, uid: &UserId, digest: &Digest) {
    tx.remove(&layout::token(digest));
    tx.remove(&layout::token_of(uid, digest));
}

fn void_tokens(tx: &mut Transaction<'_>, uid: &UserId) -> Result<()> {
    for digest in reads::token_digests(tx.records(), uid)? {
        remove_token(tx, uid, &digest);
    }
    Ok(())
}

fn remove_session(tx: &mut Transaction<'_>, uid: &UserId, id: &SessionId) {
    tx.touch(uid);
    tx.remove(&layout::session(id));
    tx.remove(&layout::session_of(uid, id));
}

/// Ends all sessions of a uid except `keep`; returns their number.
fn remove_sessions(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    keep: Option<&SessionId>,
) -> Result<usize> {
    let mut ended = 0;
    for id in reads::session_ids(tx.records(), uid)? {
        if keep != Some(&id) {
            remove_session(tx, uid, &id);
            ended += 1;
        }
    }
    Ok(ended)
}
