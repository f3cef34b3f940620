//! People who come from elsewhere with their keys and memberships: all of them or none, in steps that hold nobody up.
//!
//! First all are *staged*: kept as pieces that nothing else reads, with their names, addresses and ids taken. Then one
//! record says that they count. From there on each step writes some of them and removes their pieces, and a start goes on
//! with what a crash has left. Where there is no such record each step takes some of them back instead.

use serde::{Deserialize, Serialize};

use crate::model::access::Membership;
use crate::model::account::Account;
use crate::model::api_key::ApiKey;
use crate::model::id::UserId;
use crate::store::error::StoreError;
use crate::store::intents::{accounts, members, old_hashes, reserve};
use crate::store::layout::Key;
use crate::store::transaction::{Records, Transaction};
use crate::store::{ImportConflict, ImportStep, ImportedPerson, layout, record};

/// Keys and memberships in one piece at most: as a record it must stay below 64 KiB, whatever they are called.
const PIECE_KEYS: usize = 8;
const PIECE_MEMBERSHIPS: usize = 64;

/// Pieces that one step looks at, and records that it then changes, at most or with one piece more: some milliseconds of
/// the writer's time.
const STEP_PIECES: usize = 64;
const STEP_CHANGES: usize = 400;

/// A piece of a person. The last piece has the account, so that it comes to be with all that is its own.
#[derive(Serialize, Deserialize)]
pub(crate) struct Staged {
    pub(crate) uid: UserId,
    pub(crate) account: Option<Account>,
    pub(crate) keys: Vec<ApiKey>,
    pub(crate) memberships: Vec<Membership>,
}

impl Staged {
    /// About how many records it changes when it is written.
    fn changes(&self) -> usize {
        let account = self.account.as_ref().map_or(0, |_| 6);
        2 + account + 3 * self.keys.len() + 4 * self.memberships.len()
    }
}

/// Stages those whom nothing stands in the way of, and tells of the others what does, with their places. A key whose id is
/// taken is told and left out.
pub(crate) fn stage(
    tx: &mut Transaction<'_>,
    people: Vec<ImportedPerson>,
) -> Result<Vec<(usize, ImportConflict)>, StoreError> {
    let mut found = Vec::new();
    for mut person in people {
        if let Some(conflict) = conflict(tx, &person.account)? {
            found.push((person.place, conflict));
            continue;
        }
        let uid = person.account.uid.clone();
        let mut keys = Vec::with_capacity(person.keys.len());
        for key in std::mem::take(&mut person.keys) {
            let claim = layout::claimed_key_id(key.id);
            if tx.load(&layout::api_key(key.id))?.is_some() {
                found.push((person.place, ImportConflict::KeyId(key.id)));
            } else if tx.load(&claim)?.is_some() {
                found.push((person.place, ImportConflict::StagedKeyId(key.id)));
            } else {
                tx.put(&claim, &uid)?;
                keys.push(key);
            }
        }
        person.keys = keys;
        reserve(tx, &person.account)?;
        tx.put(
            &layout::claimed_account_id(&person.account.account_id),
            &uid,
        )?;
        let place = person.place;
        for (number, piece) in pieces(person).iter().enumerate() {
            tx.put_new(&layout::staged(place, number), piece)?;
        }
    }
    Ok(found)
}

fn conflict(tx: &Transaction<'_>, account: &Account) -> Result<Option<ImportConflict>, StoreError> {
    if tx.load(&layout::account(&account.uid))?.is_some()
        || tx.load(&layout::account_id(&account.account_id))?.is_some()
        || tx.load(&layout::removed(&account.uid))?.is_some()
    {
        return Ok(Some(ImportConflict::Uid));
    }
    if let Some(owner) = tx.load(&layout::username(&account.username))? {
        return Ok(Some(if is_staged(tx, &owner)? {
            ImportConflict::StagedUsername
        } else {
            ImportConflict::Username
        }));
    }
    if let Some(owner) = tx.load(&layout::normalized(&account.identity))? {
        return Ok(Some(if is_staged(tx, &owner)? {
            ImportConflict::StagedIdentity
        } else {
            ImportConflict::Identity
        }));
    }
    let claim = layout::claimed_account_id(&account.account_id);
    Ok(tx.load(&claim)?.map(|_| ImportConflict::StagedAccountId))
}

/// Whether somebody who has a name or an address is only to come.
fn is_staged(tx: &Transaction<'_>, owner: &UserId) -> Result<bool, StoreError> {
    Ok(tx.load(&layout::account(owner))?.is_none() && tx.load(&layout::removed(owner))?.is_none())
}

fn pieces(person: ImportedPerson) -> Vec<Staged> {
    let uid = person.account.uid.clone();
    let (mut keys, mut memberships) = (person.keys, person.memberships);
    let mut pieces = Vec::new();
    loop {
        let more_keys = keys.split_off(keys.len().min(PIECE_KEYS));
        let more_memberships = memberships.split_off(memberships.len().min(PIECE_MEMBERSHIPS));
        pieces.push(Staged {
            uid: uid.clone(),
            account: None,
            keys: std::mem::replace(&mut keys, more_keys),
            memberships: std::mem::replace(&mut memberships, more_memberships),
        });
        if keys.is_empty() && memberships.is_empty() {
            break;
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.account = Some(person.account);
    }
    pieces
}

/// Says that all that is staged counts.
pub(crate) fn commit(tx: &mut Transaction<'_>) -> Result<(), StoreError> {
    tx.put(&layout::import(), &())
}

/// Looks for what the next step is about: pieces, by what comes after the kind in their keys, and whether there is a record
/// that says that they count.
pub(crate) fn look(records: &dyn Records) -> Result<(Vec<Vec<u8>>, bool), StoreError> {
    let prefix = layout::all_staged();
    let (mut pieces, mut changes) = (Vec::new(), 0);
    for (key, value) in records.scan(prefix.bytes(), None, STEP_PIECES)? {
        if STEP_CHANGES <= changes {
            break;
        }
        let rest = prefix.rest(&key);
        changes += record::decode(&staged(rest), &value)?.changes();
        pieces.push(rest.to_vec());
    }
    Ok((pieces, records.load(&layout::import())?.is_some()))
}

fn staged(rest: &[u8]) -> Key<Staged> {
    Key::raw(layout::STAGED, rest)
}

/// Writes pieces if they count, else takes them back. Whether they do is read anew: what was seen before may have been a write
/// that a failing disk did not keep.
pub(crate) fn step(tx: &mut Transaction<'_>, pieces: &[Vec<u8>]) -> Result<ImportStep, StoreError> {
    if tx.load(&layout::import())?.is_some() {
        write(tx, pieces).map(ImportStep::Written)
    } else {
        take_back(tx, pieces).map(ImportStep::TakenBack)
    }
}

/// Gives the accounts that are there now.
fn write(tx: &mut Transaction<'_>, pieces: &[Vec<u8>]) -> Result<Vec<UserId>, StoreError> {
    let mut written = Vec::new();
    for rest in pieces {
        let Some(piece) = tx.load(&staged(rest))? else {
            continue;
        };
        for key in &piece.keys {
            tx.remove(&layout::claimed_key_id(key.id));
            tx.put_new(&layout::api_key(key.id), key)?;
            tx.put(&layout::api_key_of(&key.uid, key.id), &())?;
        }
        for membership in &piece.memberships {
            members::put(tx, &piece.uid, membership)?;
        }
        if let Some(account) = &piece.account {
            tx.remove(&layout::claimed_account_id(&account.account_id));
            accounts::insert(tx, account)?;
            reserve(tx, account)?;
            old_hashes::replaced(tx, None, account.password.as_ref())?;
            written.push(piece.uid);
        }
        tx.remove(&staged(rest));
    }
    Ok(written)
}

/// Gives how many accounts will not come.
fn take_back(tx: &mut Transaction<'_>, pieces: &[Vec<u8>]) -> Result<usize, StoreError> {
    let mut gone = 0;
    for rest in pieces {
        let Some(piece) = tx.load(&staged(rest))? else {
            continue;
        };
        for key in &piece.keys {
            tx.remove(&layout::claimed_key_id(key.id));
        }
        if let Some(account) = &piece.account {
            tx.remove(&layout::claimed_account_id(&account.account_id));
            tx.remove(&layout::username(&account.username));
            tx.remove(&layout::folded(&account.identity));
            tx.remove(&layout::normalized(&account.identity));
            gone += 1;
        }
        tx.remove(&staged(rest));
    }
    Ok(gone)
}

/// Ends an import of which nothing is staged any more.
#[expect(clippy::unnecessary_wraps, reason = "it has the form of an intent")]
pub(crate) fn end(tx: &mut Transaction<'_>) -> Result<(), StoreError> {
    tx.remove(&layout::import());
    Ok(())
}
