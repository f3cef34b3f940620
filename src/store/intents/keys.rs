//! API keys.

use crate::model::account::ApiKey;
use crate::model::id::{KeyId, UserId};
use crate::store::error::StoreError;
use crate::store::intents::{move_generation, unchanged};
use crate::store::transaction::Transaction;
use crate::store::{Guarded, layout, reads};

pub(crate) fn create(
    tx: &mut Transaction<'_>,
    key: &ApiKey,
    standing: u64,
) -> Result<Guarded<()>, StoreError> {
    let place = layout::api_key(key.id);
    if unchanged(tx, &key.uid, standing)?.is_none() || tx.load(&place)?.is_some() {
        return Ok(Guarded::Stale);
    }
    tx.put(&place, key)?;
    tx.put(&layout::api_key_of(&key.uid, key.id), &())?;
    Ok(Guarded::Done(()))
}

pub(crate) fn revoke(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    id: KeyId,
) -> Result<bool, StoreError> {
    let key = tx.load(&layout::api_key(id))?;
    if key.is_none_or(|key| key.uid != *uid) {
        return Ok(false);
    }
    remove(tx, uid, id);
    move_generation(tx, uid)?;
    Ok(true)
}

pub(crate) fn remove_all(tx: &mut Transaction<'_>, uid: &UserId) -> Result<(), StoreError> {
    for id in reads::key_ids(tx.records(), uid)? {
        remove(tx, uid, id);
    }
    Ok(())
}

fn remove(tx: &mut Transaction<'_>, uid: &UserId, id: KeyId) {
    tx.touch(uid);
    tx.remove(&layout::api_key(id));
    tx.remove(&layout::api_key_of(uid, id));
}
