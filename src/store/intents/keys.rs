//! API keys.

use std::time::Duration;

use crate::model::api_key::{ApiKey, PreviousSecret};
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, UserId};
use crate::store::bounds::KEYS_MAX;
use crate::store::intents::{move_generation, unchanged};
use crate::store::{Guarded, KeyChange, Result, Transaction, layout, reads};

/// Minimum interval between two writes of one key's time of use.
const NOTE_EVERY: Duration = Duration::from_mins(1);

pub(crate) fn create(
    tx: &mut Transaction<'_>,
    key: &ApiKey,
    standing: u64,
) -> Result<Guarded<bool>> {
    let place = layout::api_key(key.id);
    if unchanged(tx, &key.uid, standing)?.is_none()
        || tx.load(&place)?.is_some()
        || tx.load(&layout::claimed_key_id(key.id))?.is_some()
    {
        return Ok(Guarded::Stale);
    }
    if KEYS_MAX <= reads::key_ids(tx.records(), &key.uid)?.len() {
        return Ok(Guarded::Done(false));
    }
    tx.put(&place, key)?;
    tx.put(&layout::api_key_of(&key.uid, key.id), &())?;
    Ok(Guarded::Done(true))
}

pub(crate) fn update(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    id: KeyId,
    standing: u64,
    change: KeyChange,
) -> Result<Guarded<Option<ApiKey>>> {
    if unchanged(tx, uid, standing)?.is_none() {
        return Ok(Guarded::Stale);
    }
    let place = layout::api_key(id);
    let Some(mut key) = tx.load(&place)?.filter(|key| key.uid == *uid) else {
        return Ok(Guarded::Done(None));
    };
    key.terms = change.terms.unwrap_or(key.terms);
    key.suspended = change.suspended.unwrap_or(key.suspended);
    if let Some(secret) = change.secret {
        let digest = key.digest;
        let overlap = secret.overlap_until;
        key.previous = overlap.map(|until| PreviousSecret { digest, until });
        key.digest = secret.digest;
    }
    tx.put(&place, &key)?;
    move_generation(tx, uid)?;
    Ok(Guarded::Done(Some(key)))
}

pub(crate) fn note_used(tx: &mut Transaction<'_>, uses: &[(KeyId, Timestamp)]) -> Result<()> {
    for (id, at) in uses {
        let place = layout::api_key_used(*id);
        let noted = tx.load(&place)?;
        let is_due = noted.is_none_or(|noted| noted.plus(NOTE_EVERY) <= *at || noted.is_ahead(*at));
        if is_due && tx.load(&layout::api_key(*id))?.is_some() {
            tx.put(&place, at)?;
        }
    }
    Ok(())
}

pub(crate) fn revoke(tx: &mut Transaction<'_>, uid: &UserId, id: KeyId) -> Result<bool> {
    let key = tx.load(&layout::api_key(id))?;
    if key.is_none_or(|key| key.uid != *uid) {
        return Ok(false);
    }
    remove(tx, uid, id);
    move_generation(tx, uid)?;
    Ok(true)
}

/// Suspends all keys of a uid, or lifts the suspension.
pub(crate) fn suspend_all(tx: &mut Transaction<'_>, uid: &UserId, suspended: bool) -> Result<()> {
    for id in reads::key_ids(tx.records(), uid)? {
        let place = layout::api_key(id);
        if let Some(mut key) = tx.load(&place)?.filter(|key| key.suspended != suspended) {
            key.suspended = suspended;
            tx.put(&place, &key)?;
        }
    }
    Ok(())
}

pub(crate) fn remove_all(tx: &mut Transaction<'_>, uid: &UserId) -> Result<()> {
    for id in reads::key_ids(tx.records(), uid)? {
        remove(tx, uid, id);
    }
    Ok(())
}

fn remove(tx: &mut Transaction<'_>, uid: &UserId, id: KeyId) {
    tx.touch(uid);
    tx.remove(&layout::api_key(id));
    tx.remove(&layout::api_key_of(uid, id));
    tx.remove(&layout::api_key_used(id));
}
