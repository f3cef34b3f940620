//! What concerns all records: the purge, readiness, and what is cached of them.

use std::sync::Arc;

use doorward::model::account::{AccountStatus, Purpose};
use doorward::store::cached::Subjects;
use doorward::store::{AccountChange, MembershipChange, Store};

use crate::store_contract::fixture::{
    NOW, account, at, digest, key_id, membership, name, password, put_active, put_key, put_session,
    resource_id, rotation, session_id, session_ids, token, uid,
};

pub(crate) async fn an_engine_says_that_it_can_write(store: Arc<dyn Store>) {
    for _ in 0..2 {
        store.ready().await.unwrap();
    }
    assert!(store.accounts(None, 9).await.unwrap().is_empty());
}

pub(crate) async fn a_purge_takes_what_has_expired_and_no_more(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    put_key(&*store, 1, 1).await;
    // More than one slice of a purge.
    for number in 1..=450 {
        put_session(&*store, number, 1).await;
    }
    for number in [2, 3] {
        let pending = account(number, AccountStatus::Pending);
        let token = token(number, number, Purpose::Confirm);
        store.register(pending, token).await.unwrap();
    }
    let mut later = token(4, 3, Purpose::Confirm);
    later.expires = at(101);
    assert!(store.put_token(later).await.unwrap());
    let rotated = store.rotate_refresh(rotation(1, 1000, 1)).await.unwrap();
    assert!(matches!(rotated, doorward::store::Rotation::Rotated(_)));

    assert_eq!(store.purge(at(99)).await.unwrap(), 0);
    // 449 sessions, two tokens, and the account that no token can confirm any more.
    assert_eq!(store.purge(at(100)).await.unwrap(), 452);
    assert_eq!(session_ids(&*store, 1).await, [session_id(1)]);
    assert_eq!(store.session(&session_id(2)).await.unwrap(), None);
    assert_eq!(store.account(&uid(2)).await.unwrap(), None);
    let id = account(2, AccountStatus::Pending).account_id;
    assert_eq!(store.account_by_id(&id).await.unwrap(), None);
    assert!(store.account(&uid(3)).await.unwrap().is_some());
    assert_eq!(store.one_time_token(&digest(3)).await.unwrap(), None);
    assert_eq!(store.purge(at(100)).await.unwrap(), 0);
    // A session, a token, an account; the active account and its key stay for ever.
    assert_eq!(store.purge(at(10_000)).await.unwrap(), 3);
    assert_eq!(store.accounts(None, 9).await.unwrap().len(), 1);
    assert!(store.api_key(&key_id(1)).await.unwrap().is_some());
}

/// Runs one change, then compares what is cached with what is there.
macro_rules! after {
    ($store:ident, $subjects:ident, $stamp:ident, $what:literal, $change:expr) => {
        let _ = $change.await.unwrap();
        assert!(!$store.generations().is_current($stamp), $what);
        let (subject, stamp) = $subjects.get(&uid(1)).await.unwrap().unwrap();
        $stamp = stamp;
        let account = $store.account(&uid(1)).await.unwrap().unwrap();
        assert_eq!(*subject.account, account, $what);
        let memberships = $store.memberships_of(&uid(1)).await.unwrap();
        assert_eq!(subject.memberships, memberships, $what);
    };
}

pub(crate) async fn every_revocation_voids_what_was_cached(store: Arc<dyn Store>) {
    let subjects = Subjects::new(Arc::clone(&store), 9);
    put_active(&*store, 1).await;
    for number in 1..=4 {
        put_session(&*store, number, 1).await;
    }
    put_key(&*store, 1, 1).await;
    assert!(store.put_token(token(9, 1, Purpose::Reset)).await.unwrap());
    let (_, mut stamp) = subjects.get(&uid(1)).await.unwrap().unwrap();
    let (list, id, level) = (name("list"), resource_id("42"), name("member"));
    let membership = membership("42", "member");
    after!(
        store,
        subjects,
        stamp,
        "membership set",
        store.set_membership(&uid(1), membership, None)
    );
    after!(
        store,
        subjects,
        stamp,
        "membership ended",
        store.end_membership(&uid(1), &list, &id, &level)
    );
    after!(
        store,
        subjects,
        stamp,
        "refreshed",
        store.rotate_refresh(rotation(1, 2, 1))
    );
    after!(
        store,
        subjects,
        stamp,
        "reused",
        store.rotate_refresh(rotation(1, 2, 99))
    );
    after!(
        store,
        subjects,
        stamp,
        "session ended",
        store.end_session(&uid(1), &session_id(2))
    );
    after!(
        store,
        subjects,
        stamp,
        "sessions ended",
        store.end_sessions(&uid(1), Some(&session_id(3)))
    );
    after!(
        store,
        subjects,
        stamp,
        "key revoked",
        store.revoke_api_key(&uid(1), &key_id(1))
    );
    after!(
        store,
        subjects,
        stamp,
        "password reset",
        store.set_password_by_token(&digest(9), password("a"), NOW)
    );
    let generation = store.account(&uid(1)).await.unwrap().unwrap().generation;
    after!(
        store,
        subjects,
        stamp,
        "password changed",
        store.change_password(&uid(1), generation, password("b"), None)
    );
    after!(
        store,
        subjects,
        stamp,
        "changed",
        store.update_account(&uid(1), AccountChange::default())
    );

    // What was refused or found nothing to do leaves the cache alone.
    let refused = store.end_membership(&uid(1), &list, &id, &level).await;
    assert!(matches!(refused, Ok(MembershipChange::Conflict { .. })));
    assert!(!store.end_session(&uid(1), &session_id(3)).await.unwrap());
    assert_eq!(store.end_sessions(&uid(1), None).await.unwrap(), 0);
    assert!(store.generations().is_current(stamp));
}
