//! API keys and memberships.

use std::sync::Arc;

use doorward::model::account::AccountStatus;
use doorward::model::api_key::{KeyName, KeyTerms, Networks, PreviousSecret, Rate};
use doorward::model::field::CheckedField;
use doorward::store::{
    AccountChange, Creation, Guarded, KeyChange, MembershipChange, NewSecret, Store,
};

use crate::store_contract::fixture::{
    account, api_key, at, digest, fifty, generation, key_id, membership, name, password,
    put_active, put_key, resource_id, session, standing, uid,
};

pub(crate) async fn api_keys_are_guarded_listed_and_revoked(store: Arc<dyn Store>) {
    for number in [1, 2] {
        put_active(&*store, number).await;
    }
    for number in [3, 1, 2] {
        put_key(&*store, number, 1).await;
    }
    // A new key revokes nothing.
    assert_eq!(generation(&*store, 1).await, 0);
    let found = store.api_key(&key_id(3)).await.unwrap();
    assert_eq!(found, Some(api_key(3, 1)));
    // An outdated generation, an id in use, an unknown account.
    for (number, of, generation) in [(4, 1, 1), (3, 2, 0), (4, 9, 0)] {
        let created = store.create_api_key(api_key(number, of), generation).await;
        assert_eq!(created.unwrap(), Guarded::Stale, "{number} {of}");
    }
    let outcomes = fifty(&store, |store, number| async move {
        let mut key = api_key(5, 2);
        key.digest = digest(number);
        store.create_api_key(key, 0).await.unwrap()
    })
    .await;
    let created = outcomes.iter().filter(|it| **it == Guarded::Done(true));
    assert_eq!(created.count(), 1);
    let listed = async |of| {
        let keys = store.api_keys_of(&uid(of)).await.unwrap();
        keys.into_iter().map(|key| key.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(1).await, [key_id(1), key_id(2), key_id(3)]);
    for (of, number, done) in [(2, 1, false), (1, 2, true), (1, 2, false), (1, 9, false)] {
        let revoked = store.revoke_api_key(&uid(of), &key_id(number)).await;
        assert_eq!(revoked.unwrap(), done, "{of} {number}");
    }
    assert_eq!(listed(1).await, [key_id(1), key_id(3)]);
    assert_eq!(listed(2).await, [key_id(5)]);
    assert_eq!(store.api_key(&key_id(2)).await.unwrap(), None);
    assert_eq!(generation(&*store, 1).await, 1);
}

pub(crate) async fn api_keys_change_under_the_generation_that_was_read(store: Arc<dyn Store>) {
    for number in [1, 2] {
        put_active(&*store, number).await;
        put_key(&*store, number, number).await;
    }
    let update = async |of, number, generation, change| {
        let (uid, id) = (uid(of), key_id(number));
        let updated = store.update_api_key(&uid, &id, generation, change).await;
        updated.unwrap()
    };
    let named = || KeyChange {
        terms: Some(KeyTerms {
            name: KeyName::check("other".to_owned()).unwrap(),
            ..KeyTerms::default()
        }),
        ..KeyChange::default()
    };
    for (of, number, generation) in [(1, 1, 1), (9, 1, 0)] {
        let outcome = update(of, number, generation, named()).await;
        assert_eq!(outcome, Guarded::Stale, "{of} {number}");
    }
    for (of, number) in [(1, 2), (1, 9)] {
        let outcome = update(of, number, 0, named()).await;
        assert_eq!(outcome, Guarded::Done(None), "{of} {number}");
    }
    assert_eq!(generation(&*store, 1).await, 0);
    let stamp = store.generations().stamp(&uid(1));
    let mut expected = api_key(1, 1);
    expected.terms.name = KeyName::check("other".to_owned()).unwrap();
    let outcome = update(1, 1, 0, named()).await;
    assert_eq!(outcome, Guarded::Done(Some(expected.clone())));
    assert!(!store.generations().is_current(stamp));
    expected.terms.expires = Some(at(50));
    expected.terms.allow_from = Networks::check(vec!["192.0.2.0/24".to_owned()]).unwrap();
    expected.terms.rate_per_minute = Rate::check(7);
    expected.terms.resources = Some(vec![membership("42", "member")]);
    let terms = KeyChange {
        terms: Some(expected.terms.clone()),
        ..KeyChange::default()
    };
    let outcome = update(1, 1, 1, terms).await;
    assert_eq!(outcome, Guarded::Done(Some(expected.clone())));
    let rotated = |number, overlap_until| KeyChange {
        secret: Some(NewSecret {
            digest: digest(number),
            overlap_until,
        }),
        ..KeyChange::default()
    };
    let old = expected.digest;
    expected.digest = digest(8);
    expected.previous = Some(PreviousSecret {
        digest: old,
        until: at(60),
    });
    let outcome = update(1, 1, 2, rotated(8, Some(at(60)))).await;
    assert_eq!(outcome, Guarded::Done(Some(expected.clone())));
    expected.digest = digest(9);
    expected.previous = None;
    let outcome = update(1, 1, 3, rotated(9, None)).await;
    assert_eq!(outcome, Guarded::Done(Some(expected.clone())));
    assert_eq!(store.api_key(&key_id(1)).await.unwrap(), Some(expected));
    assert_eq!(generation(&*store, 1).await, 4);
    assert_eq!(generation(&*store, 2).await, 0);
}

pub(crate) async fn uses_of_keys_are_noted_beside_their_records(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    for number in [1, 2] {
        put_key(&*store, number, 1).await;
    }
    let ids = [key_id(1), key_id(2), key_id(9)];
    let used = async || store.keys_used(&ids).await.unwrap();
    assert_eq!(used().await, [None, None, None]);
    let stamp = store.generations().stamp(&uid(1));
    let note = async |notes: &[(u32, u64)]| {
        let notes = notes
            .iter()
            .map(|(number, secs)| (key_id(*number), at(*secs)));
        store.note_keys_used(notes.collect()).await.unwrap();
    };
    note(&[(1, 10), (9, 10), (2, 20)]).await;
    assert_eq!(used().await, [Some(at(10)), Some(at(20)), None]);
    // At most once per minute, and never backwards.
    note(&[(1, 69), (2, 5)]).await;
    assert_eq!(used().await, [Some(at(10)), Some(at(20)), None]);
    note(&[(1, 70), (1, 71)]).await;
    assert_eq!(used().await, [Some(at(70)), Some(at(20)), None]);
    assert!(store.generations().is_current(stamp));
    assert_eq!(generation(&*store, 1).await, 0);
    assert_eq!(
        store.api_key(&key_id(1)).await.unwrap(),
        Some(api_key(1, 1))
    );
    // Revoking a key removes its time of use, and a late note does not restore it.
    assert!(store.revoke_api_key(&uid(1), &key_id(1)).await.unwrap());
    note(&[(1, 500)]).await;
    assert_eq!(used().await, [None, Some(at(20)), None]);
}

pub(crate) async fn a_membership_changes_from_the_level_that_was_seen(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let created = store
        .create_account(account(2, AccountStatus::Pending))
        .await;
    assert_eq!(created.unwrap(), Creation::Created);
    let set = async |of, level, expected: Option<&str>| {
        let expected = expected.map(name);
        let set = store
            .set_membership(&uid(of), membership("42", level), expected.as_ref())
            .await;
        set.unwrap()
    };
    let end = async |of, id, expected| {
        let (list, expected) = (name("list"), name(expected));
        let ended = store
            .end_membership(&uid(of), &list, &resource_id(id), &expected)
            .await;
        ended.unwrap()
    };
    let conflict = |level: Option<&str>| MembershipChange::Conflict {
        found: level.map(name),
    };
    for nobody in [2, 9] {
        assert_eq!(
            set(nobody, "member", None).await,
            MembershipChange::NoAccount
        );
    }
    assert_eq!(end(9, "42", "member").await, MembershipChange::NoAccount);
    assert_eq!(set(1, "member", Some("invitee")).await, conflict(None));
    assert_eq!(end(1, "42", "member").await, conflict(None));
    assert_eq!(generation(&*store, 1).await, 0);
    assert_eq!(set(1, "member", None).await, MembershipChange::Done);
    assert_eq!(generation(&*store, 1).await, 1);
    assert_eq!(set(1, "manager", None).await, conflict(Some("member")));
    let changed = set(1, "manager", Some("member")).await;
    assert_eq!(changed, MembershipChange::Done);
    assert_eq!(end(1, "42", "member").await, conflict(Some("manager")));
    assert_eq!(end(1, "4", "manager").await, conflict(None));
    // A right that a disabled account would get back can be removed, but not raised.
    let change = AccountChange {
        status: Some(AccountStatus::Disabled),
        ..AccountChange::default()
    };
    store.update_account(&uid(1), change).await.unwrap();
    let raised = set(1, "secret", Some("manager")).await;
    assert_eq!(raised, MembershipChange::NoAccount);
    assert_eq!(end(1, "42", "manager").await, MembershipChange::Done);
    assert_eq!(generation(&*store, 1).await, 4);
    assert!(store.memberships_of(&uid(1)).await.unwrap().is_empty());

    put_active(&*store, 3).await;
    let outcomes = fifty(&store, |store, number| async move {
        let level = format!("level{number}");
        let set = store
            .set_membership(&uid(3), membership("42", &level), None)
            .await;
        set.unwrap()
    })
    .await;
    let done = outcomes.iter().filter(|it| **it == MembershipChange::Done);
    assert_eq!(done.count(), 1);
}

pub(crate) async fn memberships_are_listed_both_ways(store: Arc<dyn Store>) {
    for number in [2, 1, 3] {
        put_active(&*store, number).await;
    }
    let memberships = [
        (2, membership("4", "member")),
        (1, membership("4-2", "manager")),
        (1, membership("42", "member")),
        (1, membership("4", "invitee")),
    ];
    for (of, membership) in memberships {
        let set = store.set_membership(&uid(of), membership, None).await;
        assert_eq!(set.unwrap(), MembershipChange::Done);
    }
    let listed = store.memberships_of(&uid(1)).await.unwrap();
    let expected = [
        membership("4", "invitee"),
        membership("4-2", "manager"),
        membership("42", "member"),
    ];
    assert_eq!(listed, expected);
    assert!(listed.is_sorted());
    assert!(store.memberships_of(&uid(3)).await.unwrap().is_empty());
    let list = name("list");
    let members = store
        .members_of(&list, &resource_id("4"), None, 9)
        .await
        .unwrap();
    assert_eq!(
        members,
        [(uid(1), name("invitee")), (uid(2), name("member"))]
    );
    let members = store
        .members_of(&list, &resource_id("2"), None, 9)
        .await
        .unwrap();
    assert!(members.is_empty());
    let ended = store
        .end_membership(&uid(2), &list, &resource_id("4"), &name("member"))
        .await;
    assert_eq!(ended.unwrap(), MembershipChange::Done);
    assert!(store.memberships_of(&uid(2)).await.unwrap().is_empty());
    let members = store
        .members_of(&list, &resource_id("4"), None, 9)
        .await
        .unwrap();
    assert_eq!(members, [(uid(1), name("invitee"))]);
}

pub(crate) async fn a_level_that_others_set_hinders_no_slow_write(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let read = standing(&*store, 1).await;
    let (none, member) = (None, Some(name("member")));
    for (level, expected) in [("member", &none), ("manager", &member)] {
        let set = store
            .set_membership(&uid(1), membership("42", level), expected.as_ref())
            .await;
        assert_eq!(set.unwrap(), MembershipChange::Done);
    }
    let ended = store
        .end_membership(&uid(1), &name("list"), &resource_id("42"), &name("manager"))
        .await;
    assert_eq!(ended.unwrap(), MembershipChange::Done);
    assert_eq!(generation(&*store, 1).await, 3);

    let written = store.create_session(session(1, 1), read, None).await;
    assert_eq!(written.unwrap(), Guarded::Done(()));
    let written = store.create_api_key(api_key(1, 1), read).await;
    assert_eq!(written.unwrap(), Guarded::Done(true));
    let changed = store
        .change_password(&uid(1), read, password("new"), None)
        .await;
    assert!(matches!(changed.unwrap(), Guarded::Done(_)));
    // Everything else still works.
    let late = store.create_session(session(2, 1), read, None).await;
    assert_eq!(late.unwrap(), Guarded::Stale);
}
