//! Performs acts through the store, in the same way as the use cases.

use crate::model::access::Membership;
use crate::model::account::AccountStatus;
use crate::store::error::{Result, StoreError};
use crate::store::model_check::ModelAction;
use crate::store::model_check::known::{
    ModelState, api_key, key_id, level, list, resource, session, session_id,
};
use crate::store::test_kit::{account, uid};
use crate::store::{AccountChange, Creation, Guarded, MembershipChange, Store};

/// Performs an act; the present state is read first, as the use cases do.
pub(super) async fn perform(
    store: &dyn Store,
    known: &ModelState,
    act: ModelAction,
    serial: u32,
) -> Result<()> {
    let person = |number: u32| known.people.get(&number);
    match act {
        ModelAction::Create(number) => {
            let is_new = !known.people.contains_key(&number) && !known.removed.contains(&number);
            let created = store.create_account(account(number)).await;
            match created {
                // The uid belonged to a removed account, whose name is taken.
                Err(StoreError::Collision { .. }) => assert!(!is_new),
                created => assert_eq!(created? == Creation::Created, is_new),
            }
        }
        ModelAction::Disable(number) | ModelAction::Enable(number) => {
            let is_enabled = matches!(act, ModelAction::Enable(_));
            let status = [AccountStatus::Disabled, AccountStatus::Active][usize::from(is_enabled)];
            let change = AccountChange {
                status: Some(status),
                ..AccountChange::default()
            };
            let changed = store.update_account(&uid(number), change).await?;
            assert_eq!(changed.is_some(), person(number).is_some());
        }
        ModelAction::Remove(number) => {
            let removed = store.remove_account(&uid(number)).await?;
            assert_eq!(removed.is_some(), person(number).is_some());
        }
        act => perform_rights(store, known, act, serial).await?,
    }
    Ok(())
}

/// Performs acts on what an account has.
async fn perform_rights(
    store: &dyn Store,
    known: &ModelState,
    act: ModelAction,
    serial: u32,
) -> Result<()> {
    let standing = async |number| {
        let account = store.account(&uid(number)).await?;
        Ok::<_, StoreError>(account.map_or(0, |account| account.standing()))
    };
    let person = |number: u32| known.people.get(&number);
    match act {
        ModelAction::Login(number) => {
            let standing = standing(number).await?;
            let made = store.create_session(session(serial, number), standing, None);
            let is_active = person(number).is_some_and(|it| it.is_active);
            assert_eq!(made.await? == Guarded::Done(()), is_active);
        }
        ModelAction::LogoutOne(number) => {
            let first = person(number).and_then(|it| it.sessions.first().cloned());
            let id = first.clone().unwrap_or_else(|| session_id(serial));
            let ended = store.end_session(&uid(number), &id).await?;
            assert_eq!(ended, first.is_some());
        }
        ModelAction::LogoutAll(number) => {
            let count = person(number).map_or(0, |it| it.sessions.len());
            assert_eq!(store.end_sessions(&uid(number), None).await?, count);
        }
        ModelAction::MakeKey(number) => {
            let standing = standing(number).await?;
            let made = store.create_api_key(api_key(serial, number), standing);
            let is_active = person(number).is_some_and(|it| it.is_active);
            assert_eq!(made.await? == Guarded::Done(true), is_active);
        }
        ModelAction::RevokeKey(number) => {
            let first = person(number).and_then(|it| it.keys.first().copied());
            let id = first.unwrap_or_else(|| key_id(serial));
            let revoked = store.revoke_api_key(&uid(number), &id).await?;
            assert_eq!(revoked, first.is_some());
        }
        ModelAction::Join(number, of, rank) => {
            let found = person(number).and_then(|it| it.levels.get(&of));
            let membership = Membership {
                resource: list(),
                id: resource(of),
                level: level(rank),
            };
            let expected = found.map(|rank| level(*rank));
            let uid = uid(number);
            let set = store.set_membership(&uid, membership, expected.as_ref());
            let is_active = person(number).is_some_and(|it| it.is_active);
            assert_eq!(set.await? == MembershipChange::Done, is_active);
        }
        ModelAction::Leave(number, of) => {
            let found = person(number).and_then(|it| it.levels.get(&of));
            let expected = level(found.copied().unwrap_or_default());
            let (uid, list, id) = (uid(number), list(), resource(of));
            let ended = store.end_membership(&uid, &list, &id, &expected).await?;
            assert_eq!(ended == MembershipChange::Done, found.is_some());
        }
        _ => {}
    }
    Ok(())
}
