//! Bounded numbers are counted inside the transaction that adds to them.

use std::sync::Arc;

use doorward::model::account::{AccountStatus, Purpose, Session};
use doorward::store::bounds::{KEYS_MAX, SESSIONS_MAX, TOKENS_MAX};
use doorward::store::{Guarded, MembershipChange, Store};

use crate::store_contract::fixture::{
    account, api_key, at, digest, fifty, generation, key_id, membership, name, password,
    put_active, put_session, resource_id, session, session_id, standing, token, uid,
};

pub(crate) async fn keys_at_once_stay_within_their_bound(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    for round in 0..2 {
        let outcomes = fifty(&store, |store, number| async move {
            let key = api_key(round * 50 + number, 1);
            store.create_api_key(key, 0).await.unwrap()
        })
        .await;
        let made = outcomes.iter().filter(|it| **it == Guarded::Done(true));
        assert_eq!(made.count(), if round == 0 { KEYS_MAX } else { 0 });
    }
    assert!(store.revoke_api_key(&uid(1), &key_id(7)).await.unwrap());
    let standing = standing(&*store, 1).await;
    for expected in [true, false] {
        let key = api_key(if expected { 200 } else { 201 }, 1);
        let made = store.create_api_key(key, standing).await;
        assert_eq!(made.unwrap(), Guarded::Done(expected));
    }
}

pub(crate) async fn one_login_too_many_ends_the_session_that_was_not_used(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let (used, ended, last) = (1, 2, u32::try_from(SESSIONS_MAX).unwrap());
    for number in 1..=last {
        let seen = if number == used { 50 } else { 10 };
        let session = Session {
            last_seen: at(seen),
            idle_end: if number == ended { at(20) } else { at(100) },
            ..session(number, 1)
        };
        let written = store.create_session(session, 0, None).await;
        assert_eq!(written.unwrap(), Guarded::Done(()));
    }
    assert_eq!(generation(&*store, 1).await, 0);
    let stamp = store.generations().stamp(&uid(1));
    let begin = async |number| {
        let session = Session {
            created: at(30),
            last_seen: at(30),
            ..session(number, 1)
        };
        let written = store.create_session(session, 0, None).await;
        assert_eq!(written.unwrap(), Guarded::Done(()), "{number}");
    };
    // Expired ones are removed first, then unused ones, never used ones.
    for number in 1..=5 {
        begin(last + number).await;
    }
    assert!(!store.generations().is_current(stamp));
    let left = store.sessions_of(&uid(1)).await.unwrap();
    assert_eq!(left.len(), SESSIONS_MAX);
    let is_there = |number| left.iter().any(|session| session.id == session_id(number));
    assert!(is_there(used) && !is_there(ended));
    assert!((1..=5).all(|number| is_there(last + number)));
    assert_eq!(generation(&*store, 1).await, 5);
    assert_eq!(
        standing(&*store, 1).await,
        0,
        "no other login is refused for it"
    );
    // Sessions of other accounts do not count.
    put_active(&*store, 2).await;
    put_session(&*store, 9000, 2).await;
    assert_eq!(
        store.sessions_of(&uid(1)).await.unwrap().len(),
        SESSIONS_MAX
    );
}

pub(crate) async fn one_token_too_many_voids_the_one_that_ends_first(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let last = u32::try_from(TOKENS_MAX).unwrap() + 1;
    for number in 1..=last {
        let mut reset = token(number, 1, Purpose::Reset);
        reset.expires = at(if number == 3 { 50 } else { 100 });
        assert!(store.put_token(reset, None).await.unwrap());
    }
    for number in 1..=last {
        let found = store.one_time_token(&digest(number)).await.unwrap();
        assert_eq!(found.is_some(), number != 3, "{number}");
    }
}

pub(crate) async fn pending_accounts_of_strangers_are_so_many(store: Arc<dyn Store>) {
    let register = async |number, max| {
        let pending = account(number, AccountStatus::Pending);
        let confirm = token(number, number, Purpose::Confirm);
        store.register(pending, confirm, None, max).await.unwrap()
    };
    for (number, written) in [(1, true), (2, true), (3, true), (4, false)] {
        assert_eq!(register(number, Some(3)).await, written, "{number}");
    }
    assert_eq!(store.account(&uid(4)).await.unwrap(), None);
    assert_eq!(store.one_time_token(&digest(4)).await.unwrap(), None);
    // Invited accounts are never refused, and count.
    assert!(register(5, None).await);
    // One is confirmed, one removed, one expires: of four, two are left once two of them are gone.
    let set = store
        .set_password_by_token(&digest(1), password("hash"), at(0))
        .await;
    assert!(set.unwrap().is_some());
    assert!(store.remove_account(&uid(2)).await.unwrap().is_some());
    assert!(register(6, Some(3)).await);
    assert!(!register(7, Some(3)).await);
    assert!(0 < store.purge(at(100)).await.unwrap());
    assert!(register(8, Some(1)).await);
    assert!(!register(9, Some(1)).await);
}

pub(crate) async fn memberships_are_looked_up_and_paged(store: Arc<dyn Store>) {
    for number in 1..=5 {
        put_active(&*store, number).await;
        let set = store
            .set_membership(&uid(number), membership("42", "member"), None)
            .await;
        assert_eq!(set.unwrap(), MembershipChange::Done);
    }
    let (list, id) = (name("list"), resource_id("42"));
    for (of, id, found) in [(1, "42", true), (1, "4", false), (9, "42", false)] {
        let level = store.membership(&uid(of), &list, &resource_id(id)).await;
        assert_eq!(level.unwrap(), found.then(|| name("member")), "{of} {id}");
    }
    let page = async |after: Option<u32>, limit| {
        let after = after.map(uid);
        let page = store.members_of(&list, &id, after.as_ref(), limit).await;
        let uids = page.unwrap().into_iter().map(|(uid, _)| uid);
        uids.collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, [uid(1), uid(2)]);
    assert_eq!(page(Some(2), 2).await, [uid(3), uid(4)]);
    // The next page works even if the account at the cursor was removed meanwhile.
    assert!(store.remove_account(&uid(4)).await.unwrap().is_some());
    assert_eq!(page(Some(4), 2).await, [uid(5)]);
    assert!(page(Some(5), 2).await.is_empty());
}
