//! Accounts that come from elsewhere with their keys and memberships: all of them or none.

use crate::store::error::StoreError;
use crate::store::intents::{accounts, members, old_hashes, reserve};
use crate::store::transaction::Transaction;
use crate::store::{ImportConflict, ImportedPerson, layout, reads};

/// What stands in the way of a person, in the order of [`ImportConflict`]; with the place of each.
pub(crate) fn conflicts(
    tx: &Transaction<'_>,
    people: &[ImportedPerson],
) -> Result<Vec<(usize, ImportConflict)>, StoreError> {
    let mut found = Vec::new();
    for (place, person) in people.iter().enumerate() {
        let account = &person.account;
        let records = tx.records();
        if tx.load(&layout::account(&account.uid))?.is_some()
            || tx.load(&layout::account_id(&account.account_id))?.is_some()
            || tx.load(&layout::removed(&account.uid))?.is_some()
        {
            found.push((place, ImportConflict::Uid));
        } else if reads::username_taken(records, &account.username)? {
            found.push((place, ImportConflict::Username));
        } else if reads::identity_taken(records, &account.identity)? {
            found.push((place, ImportConflict::Identity));
        }
        for key in &person.keys {
            if tx.load(&layout::api_key(key.id))?.is_some() {
                found.push((place, ImportConflict::KeyId(key.id)));
            }
        }
    }
    Ok(found)
}

/// Writes everybody, unless anything stands in anybody's way.
pub(crate) fn write(
    tx: &mut Transaction<'_>,
    people: &[ImportedPerson],
) -> Result<Vec<(usize, ImportConflict)>, StoreError> {
    let found = conflicts(tx, people)?;
    if !found.is_empty() {
        return Ok(found);
    }
    for person in people {
        let account = &person.account;
        accounts::insert(tx, account)?;
        reserve(tx, account)?;
        old_hashes::replaced(tx, None, account.password.as_ref())?;
        for key in &person.keys {
            tx.put_new(&layout::api_key(key.id), key)?;
            tx.put(&layout::api_key_of(&key.uid, key.id), &())?;
        }
        for membership in &person.memberships {
            members::put(tx, &account.uid, membership)?;
        }
    }
    Ok(Vec::new())
}
