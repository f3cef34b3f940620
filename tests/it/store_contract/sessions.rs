//! Sessions and their refresh tokens.

use std::sync::Arc;

use doorward::model::account::{AccountStatus, CookieDigests, Session, SessionUse};
use doorward::store::{AccountChange, Guarded, RefreshRotation, Rotation, Store};

use crate::store_contract::fixture::{
    GRACE, at, digest, fifty, generation, hash, put_active, put_session, rotation, session,
    session_id, session_ids, uid,
};
use crate::store_contract::outbox::mail;

pub(crate) async fn a_session_is_written_under_the_generation_that_was_read(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let mut spent_too_often = session(1, 1);
    spent_too_often.spent = (100..120).map(digest).collect();
    let written = store
        .create_session(spent_too_often, 0, Some(hash("rehashed")))
        .await;
    assert_eq!(written.unwrap(), Guarded::Done(()));
    let found = store.session(&session_id(1)).await.unwrap().unwrap();
    assert_eq!(found.spent, (112..120).map(digest).collect::<Vec<_>>());
    let account = store.account(&uid(1)).await.unwrap().unwrap();
    // A login revokes nothing.
    assert_eq!(account.generation, 0);
    assert_eq!(account.password, Some(hash("rehashed")));

    let changed = store
        .update_account(&uid(1), AccountChange::default())
        .await;
    changed.unwrap();
    for (of, generation) in [(1, 0), (1, 2), (9, 0)] {
        let stale = store
            .create_session(session(2, of), generation, Some(hash("late")))
            .await;
        assert_eq!(stale.unwrap(), Guarded::Stale, "{of} {generation}");
    }
    assert_eq!(store.session(&session_id(2)).await.unwrap(), None);
    let account = store.account(&uid(1)).await.unwrap().unwrap();
    assert_eq!(account.password, Some(hash("rehashed")));
}

pub(crate) async fn fifty_refreshes_at_once_give_one_successor(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    put_session(&*store, 1, 1).await;
    let outcomes = fifty(&store, |store, _| async move {
        store.rotate_refresh(rotation(1, 2, 5)).await.unwrap()
    })
    .await;
    let expected = Session {
        refresh: digest(2),
        spent: vec![digest(1)],
        last_seen: at(5),
        rotated: at(5),
        idle_end: at(105),
        ..session(1, 1)
    };
    let rotated = Rotation::Rotated(expected.clone());
    assert_eq!(outcomes.iter().filter(|it| **it == rotated).count(), 1);
    let repeated = Rotation::Repeated(expected.clone());
    assert_eq!(outcomes.iter().filter(|it| **it == repeated).count(), 49);
    let found = store.session(&session_id(1)).await.unwrap();
    assert_eq!(found, Some(expected));
    assert_eq!(generation(&*store, 1).await, 0);
}

pub(crate) async fn a_refresh_token_that_comes_again_after_the_grace_ends_the_session(
    store: Arc<dyn Store>,
) {
    put_active(&*store, 1).await;
    let grace = GRACE.as_secs();
    // The repeated token, after rotations of 1 to 2 and 2 to 3 at second 5; whether that ends the session.
    let cases = [
        (2, 5 + grace - 1, false),
        (2, 5 + grace, true),
        (1, 5, true),
        (1, 5 + grace, true),
    ];
    for (presented, secs, ends) in cases {
        put_session(&*store, 1, 1).await;
        for (from, to) in [(1, 2), (2, 3)] {
            let rotated = store.rotate_refresh(rotation(from, to, 5)).await.unwrap();
            assert!(matches!(rotated, Rotation::Rotated(_)));
        }
        let before = generation(&*store, 1).await;
        let again = rotation(presented, presented + 1, secs);
        let outcome = store.rotate_refresh(again).await.unwrap();
        let is_reused = matches!(&outcome, Rotation::Reused(session) if session.uid == uid(1));
        assert_eq!(is_reused, ends, "{presented} at {secs}");
        let is_repeated =
            matches!(&outcome, Rotation::Repeated(session) if session.refresh == digest(3));
        assert_eq!(is_repeated, !ends, "{presented} at {secs}");
        let left = session_ids(&*store, 1).await;
        assert_eq!(left.is_empty(), ends, "{presented} at {secs}");
        let moved = generation(&*store, 1).await - before;
        assert_eq!(moved, u64::from(ends), "{presented} at {secs}");
        if ends {
            let current = store.rotate_refresh(rotation(3, 4, secs)).await.unwrap();
            assert_eq!(current, Rotation::Unknown);
        } else {
            assert!(store.end_session(&uid(1), &session_id(1)).await.unwrap());
        }
    }
}

pub(crate) async fn a_refresh_of_anything_not_live_is_unknown(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    put_session(&*store, 1, 1).await;
    let other_session = RefreshRotation {
        session: session_id(2),
        ..rotation(1, 2, 5)
    };
    let cases = [other_session, rotation(7, 2, 5), rotation(1, 2, 100)];
    for (case, rotation) in cases.into_iter().enumerate() {
        let outcome = store.rotate_refresh(rotation).await.unwrap();
        assert_eq!(outcome, Rotation::Unknown, "{case}");
    }
    // In constant use it lives until its absolute end; it remembers eight of its spent tokens.
    for number in 1..=20 {
        let rotated = rotation(number, number + 1, u64::from(number) * 49);
        let outcome = store.rotate_refresh(rotated).await.unwrap();
        assert!(matches!(outcome, Rotation::Rotated(_)), "{number}");
    }
    let found = store.session(&session_id(1)).await.unwrap().unwrap();
    assert_eq!(found.spent, (13..21).map(digest).collect::<Vec<_>>());
    for (presented, secs) in [(12, 990), (21, 1000)] {
        let outcome = store.rotate_refresh(rotation(presented, 99, secs)).await;
        assert_eq!(outcome.unwrap(), Rotation::Unknown, "{presented}");
    }
    assert_eq!(session_ids(&*store, 1).await.len(), 1);

    put_active(&*store, 2).await;
    let change = AccountChange {
        status: Some(AccountStatus::Disabled),
        ..AccountChange::default()
    };
    store.update_account(&uid(1), change).await.unwrap();
    let outcome = store.rotate_refresh(rotation(21, 22, 990)).await.unwrap();
    assert_eq!(outcome, Rotation::Unknown);
}

pub(crate) async fn sessions_end_one_by_one_and_together(store: Arc<dyn Store>) {
    for number in [1, 2] {
        put_active(&*store, number).await;
    }
    for (number, of) in [(1, 1), (2, 1), (3, 1), (4, 2)] {
        put_session(&*store, number, of).await;
    }
    let end = async |of, number| {
        let ended = store.end_session(&uid(of), &session_id(number)).await;
        ended.unwrap()
    };
    // Sessions of another account are not found.
    for (of, number, done, moved) in [(1, 4, false, 0), (1, 1, true, 1), (1, 1, false, 1)] {
        assert_eq!(end(of, number).await, done, "{of} {number}");
        assert_eq!(generation(&*store, 1).await, moved, "{of} {number}");
    }
    let end_all = async |keep: Option<u32>| {
        let keep = keep.map(session_id);
        let ended = store.end_sessions(&uid(1), keep.as_ref()).await;
        (ended.unwrap(), generation(&*store, 1).await)
    };
    assert_eq!(end_all(Some(3)).await, (1, 2));
    assert_eq!(session_ids(&*store, 1).await, [session_id(3)]);
    assert_eq!(end_all(Some(3)).await, (0, 2));
    assert_eq!(end_all(None).await, (1, 3));
    assert_eq!(end_all(None).await, (0, 3));
    assert_eq!(session_ids(&*store, 2).await, [session_id(4)]);
    assert_eq!(generation(&*store, 2).await, 0);
}

pub(crate) async fn uses_of_cookies_move_the_end_and_void_nothing(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let cookies = |number| CookieDigests {
        own: digest(number),
        domain: None,
    };
    for (number, cookies) in [(1, Some(cookies(7))), (2, None), (3, Some(cookies(8)))] {
        let session = Session {
            cookies,
            ..session(number, 1)
        };
        let written = store.create_session(session, 0, None).await;
        assert_eq!(written.unwrap(), Guarded::Done(()));
    }
    let use_of = |number, secs| SessionUse {
        session: session_id(number),
        at: at(secs),
        idle_end: at(secs + 100),
    };
    let stamp = store.generations().stamp(&uid(1));
    let uses = vec![use_of(1, 60), use_of(2, 60), use_of(3, 100), use_of(9, 60)];
    store.note_session_uses(uses).await.unwrap();
    let ends = async || {
        let mut ends = Vec::new();
        for number in [1, 2, 3] {
            let found = store.session(&session_id(number)).await.unwrap().unwrap();
            ends.push((found.last_seen, found.idle_end));
        }
        ends
    };
    let untouched = (at(0), at(100));
    // The second has no cookie, the third had already ended, the last does not exist.
    assert_eq!(ends().await, [(at(60), at(160)), untouched, untouched]);
    store.note_session_uses(vec![use_of(1, 30)]).await.unwrap();
    assert_eq!(ends().await, [(at(60), at(160)), untouched, untouched]);
    assert!(store.generations().is_current(stamp));
    assert_eq!(generation(&*store, 1).await, 0);
}

pub(crate) async fn networks_are_remembered_with_the_mail_that_tells_of_them(
    store: Arc<dyn Store>,
) {
    put_active(&*store, 1).await;
    put_active(&*store, 2).await;
    let stamp = store.generations().stamp(&uid(1));
    let remember = async |of, number, mailed: Option<u32>| {
        let mail = mailed.map(|mailed| mail(mailed, 0));
        let network = digest(number);
        store
            .remember_network(&uid(of), network, mail)
            .await
            .unwrap()
    };
    assert!(store.networks_of(&uid(1)).await.unwrap().is_empty());
    assert!(remember(1, 0, None).await);
    assert!(remember(1, 1, Some(1)).await);
    // A known network, or an unknown account: neither the network nor the mail is written.
    assert!(!remember(1, 1, Some(2)).await);
    assert!(!remember(9, 1, Some(3)).await);
    assert_eq!(store.mail_count().await.unwrap(), 1);
    for number in 2..=16 {
        assert!(remember(1, number, None).await);
    }
    let known: Vec<_> = (1..=16).map(digest).collect();
    assert_eq!(store.networks_of(&uid(1)).await.unwrap(), known);
    assert!(store.networks_of(&uid(2)).await.unwrap().is_empty());
    assert!(store.generations().is_current(stamp));
    store.remove_account(&uid(1)).await.unwrap();
    assert!(store.networks_of(&uid(1)).await.unwrap().is_empty());
    assert!(!remember(1, 1, None).await);
}
