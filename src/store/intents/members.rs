//! Memberships: each is stored twice, under its uid and under its resource, and counted under both.

use crate::model::access::{Membership, Name, ResourceId};
use crate::model::id::UserId;
use crate::store::bounds::{MEMBERS_MAX, MEMBERSHIPS_MAX};
use crate::store::intents::{active, save_level_change};
use crate::store::layout::{Prefix, RecordKey};
use crate::store::{MembershipChange, Result, Transaction, layout};

/// The maximum number of memberships of an account and of members of a resource.
#[derive(Clone, Copy)]
pub(crate) struct MembershipBounds {
    of_account: u64,
    of_resource: u64,
}

/// The bounds outside of tests.
pub(crate) const BOUNDS: MembershipBounds = MembershipBounds {
    of_account: MEMBERSHIPS_MAX,
    of_resource: MEMBERS_MAX,
};

pub(crate) fn set(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    membership: &Membership,
    expected: Option<&Name>,
    bounds: MembershipBounds,
) -> Result<MembershipChange> {
    let Some(mut account) = active(tx, uid)? else {
        return Ok(MembershipChange::NoAccount);
    };
    let Membership { resource, id, .. } = membership;
    let found = tx.load(&layout::membership(uid, resource, id))?;
    if found.as_ref() != expected {
        return Ok(MembershipChange::Conflict { found });
    }
    if found.is_none()
        && (bounds.of_account <= count_of_account(tx, uid)?
            || bounds.of_resource <= count_of_resource(tx, resource, id)?)
    {
        return Ok(MembershipChange::Full);
    }
    put(tx, uid, membership)?;
    save_level_change(tx, &mut account)?;
    Ok(MembershipChange::Done)
}

pub(crate) fn end(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    resource: &Name,
    id: &ResourceId,
    expected: &Name,
) -> Result<MembershipChange> {
    // Whatever the account's status: a membership that a disabled account would regain must be revocable.
    let Some(mut account) = tx.load(&layout::account(uid))? else {
        return Ok(MembershipChange::NoAccount);
    };
    let found = tx.load(&layout::membership(uid, resource, id))?;
    if found.as_ref() != Some(expected) {
        return Ok(MembershipChange::Conflict { found });
    }
    remove(tx, uid, resource, id)?;
    save_level_change(tx, &mut account)?;
    Ok(MembershipChange::Done)
}

/// Writes a membership, replacing the present one if there is any.
pub(crate) fn put(tx: &mut Transaction<'_>, uid: &UserId, membership: &Membership) -> Result<()> {
    let Membership {
        resource,
        id,
        level,
    } = membership;
    let place = layout::membership(uid, resource, id);
    if tx.load(&place)?.is_none() {
        let of_account = count_of_account(tx, uid)?.saturating_add(1);
        tx.put(&layout::membership_count(uid), &of_account)?;
        let of_resource = count_of_resource(tx, resource, id)?.saturating_add(1);
        tx.put(&layout::member_count(resource, id), &of_resource)?;
    }
    tx.put(&place, level)?;
    tx.put(&layout::member(resource, id, uid), level)
}

/// Removes an existing membership.
pub(crate) fn remove(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    resource: &Name,
    id: &ResourceId,
) -> Result<()> {
    count_down(tx, &layout::membership_count(uid))?;
    count_down(tx, &layout::member_count(resource, id))?;
    tx.remove(&layout::membership(uid, resource, id));
    tx.remove(&layout::member(resource, id, uid));
    Ok(())
}

fn count_of_account(tx: &Transaction<'_>, uid: &UserId) -> Result<u64> {
    let prefix = Prefix::of_uid(layout::MEMBERSHIP, uid);
    counted(tx, &layout::membership_count(uid), &prefix)
}

fn count_of_resource(tx: &Transaction<'_>, resource: &Name, id: &ResourceId) -> Result<u64> {
    let prefix = layout::members_of(resource, id);
    counted(tx, &layout::member_count(resource, id), &prefix)
}

/// Returns the stored count or, if none is stored, the number of entries.
fn counted(tx: &Transaction<'_>, place: &RecordKey<u64>, prefix: &Prefix) -> Result<u64> {
    if let Some(count) = tx.load(place)? {
        return Ok(count);
    }
    let names = tx.records().names(prefix)?;
    Ok(u64::try_from(names.len()).unwrap_or(u64::MAX))
}

/// Decrements a count. A count of zero is removed, and a missing one stays missing.
fn count_down(tx: &mut Transaction<'_>, place: &RecordKey<u64>) -> Result<()> {
    match tx.load(place)? {
        None => {}
        Some(..=1) => tx.remove(place),
        Some(count) => tx.put(place, &(count - 1))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::test_kit::{account, uid};

    const SMALL: MembershipBounds = MembershipBounds {
        of_account: 2,
        of_resource: 3,
    };

    fn membership(id: &str, level: &str) -> Membership {
        Membership {
            resource: Name::parse("list").unwrap(),
            id: ResourceId::parse(id).unwrap(),
            level: Name::parse(level).unwrap(),
        }
    }

    fn put_account(tx: &mut Transaction<'_>, number: u32) {
        let account = account(number);
        tx.put(&layout::account(&account.uid), &account).unwrap();
    }

    #[test]
    fn there_is_room_for_so_many_of_an_account_and_of_a_resource() {
        let base = BTreeMap::new();
        let mut tx = Transaction::over(&base);
        for number in 1..=5 {
            put_account(&mut tx, number);
        }
        let mut change = |of, id: &str, level: &str, expected: Option<&str>| {
            let expected = expected.map(|level| Name::parse(level).unwrap());
            let membership = membership(id, level);
            set(&mut tx, &uid(of), &membership, expected.as_ref(), SMALL).unwrap()
        };
        assert_eq!(change(1, "1", "member", None), MembershipChange::Done);
        assert_eq!(change(1, "2", "member", None), MembershipChange::Done);
        assert_eq!(change(1, "3", "member", None), MembershipChange::Full);
        // A change of level is not another membership.
        let raised = change(1, "2", "manager", Some("member"));
        assert_eq!(raised, MembershipChange::Done);
        assert_eq!(change(2, "2", "member", None), MembershipChange::Done);
        assert_eq!(change(3, "2", "member", None), MembershipChange::Done);
        assert_eq!(change(4, "2", "member", None), MembershipChange::Full);
        // Ending one makes room on both sides.
        let (list, level) = (
            Name::parse("list").unwrap(),
            Name::parse("manager").unwrap(),
        );
        let id = ResourceId::parse("2").unwrap();
        let ended = end(&mut tx, &uid(1), &list, &id, &level).unwrap();
        assert_eq!(ended, MembershipChange::Done);
        for (of, id) in [(4, "2"), (1, "3")] {
            let change = set(&mut tx, &uid(of), &membership(id, "member"), None, SMALL);
            assert_eq!(change.unwrap(), MembershipChange::Done, "{of} {id}");
        }
    }

    #[test]
    fn what_an_older_gateway_did_not_count_is_counted_at_the_next_change() {
        let mut base = BTreeMap::new();
        let mut tx = Transaction::over(&base);
        put_account(&mut tx, 1);
        for id in ["1", "2"] {
            put(&mut tx, &uid(1), &membership(id, "member")).unwrap();
        }
        let (changes, _) = tx.into_parts();
        let counts = [layout::MEMBERSHIP_COUNT, layout::MEMBER_COUNT];
        let is_count = |key: &Vec<u8>| counts.iter().any(|kind| key.starts_with(&[*kind]));
        let old = changes.into_iter().filter(|(key, _)| !is_count(key));
        base.extend(old.map(|(key, value)| (key, value.unwrap())));
        let mut tx = Transaction::over(&base);
        let third = membership("3", "member");
        let change = set(&mut tx, &uid(1), &third, None, SMALL).unwrap();
        assert_eq!(change, MembershipChange::Full);
        let (list, member) = (Name::parse("list").unwrap(), Name::parse("member").unwrap());
        let ended = end(
            &mut tx,
            &uid(1),
            &list,
            &ResourceId::parse("1").unwrap(),
            &member,
        );
        assert_eq!(ended.unwrap(), MembershipChange::Done);
        let change = set(&mut tx, &uid(1), &third, None, SMALL).unwrap();
        assert_eq!(change, MembershipChange::Done);
        let count = tx.load(&layout::membership_count(&uid(1))).unwrap();
        assert_eq!(count, Some(2));
        // Counts of zero are removed.
        for id in ["2", "3"] {
            remove(&mut tx, &uid(1), &list, &ResourceId::parse(id).unwrap()).unwrap();
        }
        for kind in counts {
            assert!(tx.records().scan(&[kind], None, 9).unwrap().is_empty());
        }
    }
}
