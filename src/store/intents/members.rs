//! Memberships: each stands twice, under its uid and under its resource.

use crate::model::access::{Membership, Name, ResourceId};
use crate::model::id::UserId;
use crate::store::error::StoreError;
use crate::store::intents::{active, save_revoked};
use crate::store::transaction::Transaction;
use crate::store::{MembershipChange, layout};

pub(crate) fn set(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    membership: &Membership,
    expected: Option<&Name>,
) -> Result<MembershipChange, StoreError> {
    let Some(mut account) = active(tx, uid)? else {
        return Ok(MembershipChange::NoAccount);
    };
    let Membership {
        resource,
        id,
        level,
    } = membership;
    let place = layout::membership(uid, resource, id);
    let found = tx.load(&place)?;
    if found.as_ref() != expected {
        return Ok(MembershipChange::Conflict { found });
    }
    tx.put(&place, level)?;
    tx.put(&layout::member(resource, id, uid), level)?;
    account.level_changes = account.level_changes.saturating_add(1);
    save_revoked(tx, &mut account)?;
    Ok(MembershipChange::Done)
}

pub(crate) fn end(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    resource: &Name,
    id: &ResourceId,
    expected: &Name,
) -> Result<MembershipChange, StoreError> {
    // Whatever its status: what a disabled account would have again must be revocable meanwhile.
    let Some(mut account) = tx.load(&layout::account(uid))? else {
        return Ok(MembershipChange::NoAccount);
    };
    let place = layout::membership(uid, resource, id);
    let found = tx.load(&place)?;
    if found.as_ref() != Some(expected) {
        return Ok(MembershipChange::Conflict { found });
    }
    tx.remove(&place);
    tx.remove(&layout::member(resource, id, uid));
    account.level_changes = account.level_changes.saturating_add(1);
    save_revoked(tx, &mut account)?;
    Ok(MembershipChange::Done)
}
