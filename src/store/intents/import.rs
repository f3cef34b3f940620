//! Import of people with their keys and memberships: all of them or none, in short steps that do not delay other
//! writes.
//!
//! First everyone is *staged*: stored as pieces that only the import reads, with their names, addresses and ids taken.
//! Then one record commits the import. From then on each step writes some people and removes their pieces; after a
//! crash, the next start continues. Without that record, each step removes some of the staged people instead.

use crate::model::account::Account;
use crate::model::id::UserId;
use crate::store::intents::{accounts, members, old_hashes, reserve};
use crate::store::layout::{Prefix, RecordKey};
use crate::store::staged::Staged;
use crate::store::{
    ImportConflict, ImportStep, ImportedPerson, Records, Result, Transaction, layout, record,
};

/// Maximum number of keys and memberships in one piece: as a record it must stay below 64 KiB, however long their names
/// are.
const PIECE_KEYS: usize = 8;
const PIECE_MEMBERSHIPS: usize = 64;

/// Pieces that one step reads, and records that it then changes, at most or with one piece more: a few milliseconds of
/// the writer's time.
const STEP_PIECES: usize = 64;
const STEP_CHANGES: usize = 400;

/// Stages the people without conflicts; returns the conflicts of the others, with their places. A key whose id is taken
/// is left out and reported as a conflict.
pub(crate) fn stage(
    tx: &mut Transaction<'_>,
    people: Vec<ImportedPerson>,
) -> Result<Vec<(usize, ImportConflict)>> {
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
        let claim = layout::claimed_account_id(&person.account.account_id);
        tx.put(&claim, &uid)?;
        let place = person.place;
        for (number, piece) in pieces(person).iter().enumerate() {
            tx.put_new(&layout::staged(place, number), piece)?;
        }
    }
    Ok(found)
}

fn conflict(tx: &Transaction<'_>, account: &Account) -> Result<Option<ImportConflict>> {
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

/// Whether the owner of a name or an address is only staged.
fn is_staged(tx: &Transaction<'_>, owner: &UserId) -> Result<bool> {
    Ok(tx.load(&layout::account(owner))?.is_none() && tx.load(&layout::removed(owner))?.is_none())
}

fn pieces(person: ImportedPerson) -> Vec<Staged> {
    let of_keys = person.keys.len().div_ceil(PIECE_KEYS);
    let of_memberships = person.memberships.len().div_ceil(PIECE_MEMBERSHIPS);
    let (mut keys, mut memberships) = (person.keys.into_iter(), person.memberships.into_iter());
    let mut pieces = Vec::new();
    for _ in 0..of_keys.max(of_memberships).max(1) {
        pieces.push(Staged {
            uid: person.account.uid.clone(),
            account: None,
            keys: keys.by_ref().take(PIECE_KEYS).collect(),
            memberships: memberships.by_ref().take(PIECE_MEMBERSHIPS).collect(),
        });
    }
    if let Some(last) = pieces.last_mut() {
        last.account = Some(person.account);
    }
    pieces
}

/// Commits everything that is staged.
pub(crate) fn commit(tx: &mut Transaction<'_>) -> Result<()> {
    tx.put(&layout::import(), &())
}

/// Reads the input of the next step: the pieces, by the part of their keys after the kind, and whether the import is
/// committed.
pub(crate) fn look(records: &dyn Records) -> Result<(Vec<Vec<u8>>, bool)> {
    let prefix = Prefix::kind(layout::STAGED);
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

fn staged(rest: &[u8]) -> RecordKey<Staged> {
    RecordKey::raw(layout::STAGED, rest)
}

/// Writes pieces if the import is committed, otherwise removes them. The commit record is read again here: the earlier
/// read may have seen a write that a failing disk did not keep.
pub(crate) fn step(tx: &mut Transaction<'_>, pieces: &[Vec<u8>]) -> Result<ImportStep> {
    let is_committed = tx.load(&layout::import())?.is_some();
    let mut done = Vec::new();
    for rest in pieces {
        let Some(piece) = tx.load(&staged(rest))? else {
            continue;
        };
        tx.remove(&staged(rest));
        remove_claims(tx, &piece);
        if is_committed {
            write(tx, &piece)?;
        } else if let Some(account) = &piece.account {
            tx.remove(&layout::username(&account.username));
            tx.remove(&layout::folded(&account.identity));
            tx.remove(&layout::normalized(&account.identity));
        }
        done.extend(piece.account.map(|account| account.uid));
    }
    Ok(if is_committed {
        ImportStep::Written(done)
    } else {
        ImportStep::TakenBack(done.len())
    })
}

/// Writes what a piece contains.
fn write(tx: &mut Transaction<'_>, piece: &Staged) -> Result<()> {
    for key in &piece.keys {
        tx.put_new(&layout::api_key(key.id), key)?;
        tx.put(&layout::api_key_of(&key.uid, key.id), &())?;
    }
    for membership in &piece.memberships {
        members::put(tx, &piece.uid, membership)?;
    }
    if let Some(account) = &piece.account {
        accounts::insert(tx, account)?;
        reserve(tx, account)?;
        old_hashes::replaced(tx, None, account.password.as_ref())?;
    }
    Ok(())
}

/// Frees the ids claimed by a piece.
fn remove_claims(tx: &mut Transaction<'_>, piece: &Staged) {
    for key in &piece.keys {
        tx.remove(&layout::claimed_key_id(key.id));
    }
    if let Some(account) = &piece.account {
        tx.remove(&layout::claimed_account_id(&account.account_id));
    }
}

/// Ends an import of which nothing is left staged.
#[expect(clippy::unnecessary_wraps, reason = "it has the form of an intent")]
pub(crate) fn end(tx: &mut Transaction<'_>) -> Result<()> {
    tx.remove(&layout::import());
    Ok(())
}
