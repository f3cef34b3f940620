//! Operations on all records: the purge, readiness, and the caching of records.

use std::sync::Arc;

use doorward::limit::KeptCounter;
use doorward::model::account::{AccountStatus, OneTimeToken, Purpose, Session};
use doorward::store::cached::Subjects;
use doorward::store::generations::Stamp;
use doorward::store::{AccountChange, Guarded, MembershipChange, Rotation, Store};

use crate::store_contract::fixture::{
    NOW, account, at, digest, key_id, membership, name, password, put_active, put_key, put_session,
    resource_id, rotation, session, session_id, session_ids, token, uid,
};
use crate::store_contract::outbox::mail;

pub(crate) async fn an_engine_says_that_it_can_write(store: Arc<dyn Store>) {
    for _ in 0..2 {
        store.ready().await.unwrap();
    }
    assert!(store.accounts(None, 9).await.unwrap().is_empty());
}

pub(crate) async fn counters_are_kept_beside_the_records(store: Arc<dyn Store>) {
    let counter = |count: u32| KeptCounter::Window {
        hits: vec![(at(1), count), (at(2), 1)],
        window: 600_000,
    };
    let row = KeptCounter::Row {
        count: 7,
        last: at(3),
        pause_max: 600_000,
    };
    let [first, second, third] = [b"la", b"lb", b"mc"].map(|key| key.to_vec());
    let changes = [
        (first.clone(), Some(counter(1))),
        (second.clone(), Some(row.clone())),
        (third.clone(), Some(counter(3))),
    ];
    store.keep_counters(&changes).await.unwrap();
    let changes = [(first.clone(), Some(counter(2))), (third, None)];
    store.keep_counters(&changes).await.unwrap();
    let mut found = store.counters().await.unwrap();
    found.sort_by_key(|(key, _)| key.clone());
    assert_eq!(found, [(first, counter(2)), (second, row)]);
    assert!(store.accounts(None, 9).await.unwrap().is_empty());
}

pub(crate) async fn a_purge_takes_what_has_expired_and_no_more(store: Arc<dyn Store>) {
    for number in [1, 5, 6] {
        put_active(&*store, number).await;
    }
    put_key(&*store, 1, 1).await;
    // More than one batch of a purge.
    for number in 1..=450 {
        put_session(&*store, number, [1, 5, 6][number as usize % 3]).await;
    }
    put_session(&*store, 451, 1).await;
    for number in [2, 3] {
        let pending = account(number, AccountStatus::Pending);
        let token = token(number, number, Purpose::Confirm);
        store.register(pending, token, None, None).await.unwrap();
    }
    let mut later = token(4, 3, Purpose::Confirm);
    later.expires = at(101);
    assert!(store.put_token(later, None).await.unwrap());
    let rotated = store.rotate_refresh(rotation(1, 1000, 1)).await.unwrap();
    assert!(matches!(rotated, Rotation::Rotated(_)));

    assert_eq!(store.purge(at(99)).await.unwrap(), 0);
    // 450 sessions, two tokens, and the account that no token can confirm any more.
    assert_eq!(store.purge(at(100)).await.unwrap(), 453);
    assert!(session_ids(&*store, 1).await.is_empty());
    assert_eq!(session_ids(&*store, 5).await, [session_id(1)]);
    assert_eq!(store.session(&session_id(2)).await.unwrap(), None);
    assert_eq!(store.account(&uid(2)).await.unwrap(), None);
    let id = account(2, AccountStatus::Pending).account_id;
    assert_eq!(store.account_by_id(&id).await.unwrap(), None);
    assert!(store.account(&uid(3)).await.unwrap().is_some());
    assert_eq!(store.one_time_token(&digest(3)).await.unwrap(), None);
    assert_eq!(store.purge(at(100)).await.unwrap(), 0);
    // A session, a token, an account; the active account and its key stay forever.
    assert_eq!(store.purge(at(10_000)).await.unwrap(), 3);
    assert_eq!(store.accounts(None, 9).await.unwrap().len(), 3);
    assert!(store.api_key(&key_id(1)).await.unwrap().is_some());
}

pub(crate) async fn what_was_made_while_the_clock_was_ahead_counts_for_nothing(
    store: Arc<dyn Store>,
) {
    const HOURS: u64 = 3600;
    const YEARS: u64 = 10 * 365 * 24 * HOURS;
    put_active(&*store, 1).await;
    put_key(&*store, 1, 1).await;
    for (number, ahead) in [(1, YEARS), (2, 2 * HOURS)] {
        let session = Session {
            created: at(ahead),
            last_seen: at(ahead),
            idle_end: at(ahead + 100),
            absolute_end: at(ahead + 1000),
            ..session(number, 1)
        };
        let created = store.create_session(session, 0, None).await.unwrap();
        assert_eq!(created, Guarded::Done(()));
        let token = OneTimeToken {
            created: at(ahead),
            expires: at(ahead + 100),
            ..token(number, 1, Purpose::Reset)
        };
        assert!(store.put_token(token, None).await.unwrap());
        store.put_mail(mail(number, ahead)).await.unwrap();
    }
    let used = [(key_id(1), at(YEARS))];
    store.note_keys_used(used.to_vec()).await.unwrap();

    let rotated = store.rotate_refresh(rotation(1, 9, 0)).await.unwrap();
    assert_eq!(rotated, Rotation::Unknown);
    let (made, x) = (digest(1), password("x"));
    let set = store.set_password_by_token(&made, x, NOW).await;
    assert_eq!(set.unwrap(), None);
    assert_eq!(
        store.purge(NOW).await.unwrap(),
        2,
        "the session and the token"
    );
    assert_eq!(session_ids(&*store, 1).await, [session_id(2)]);
    assert!(store.one_time_token(&digest(2)).await.unwrap().is_some());
    let due = store.due_mails(NOW, 9).await.unwrap();
    let due: Vec<_> = due.mails.into_iter().map(|due| due.id).collect();
    assert_eq!(due, [mail(1, 0).id]);
    store.note_keys_used(vec![(key_id(1), NOW)]).await.unwrap();
    let used = store.keys_used(&[key_id(1)]).await.unwrap();
    assert_eq!(used, [Some(NOW)]);
}

/// The cached records of account 1, and the stamp under which they were read.
struct Cached {
    store: Arc<dyn Store>,
    subjects: Subjects,
    stamp: Stamp,
}

impl Cached {
    async fn of(store: &Arc<dyn Store>) -> Self {
        let subjects = Subjects::new(Arc::clone(store), 9);
        let (_, stamp) = subjects.get(&uid(1)).await.unwrap().unwrap();
        Self {
            store: Arc::clone(store),
            subjects,
            stamp,
        }
    }

    /// Expects that a change has just invalidated the cache, and that reading again yields the current records.
    async fn assert_follows(&mut self, what: &str) {
        let is_current = self.store.generations().is_current(self.stamp);
        assert!(!is_current, "{what}");
        let (subject, stamp) = self.subjects.get(&uid(1)).await.unwrap().unwrap();
        self.stamp = stamp;
        let account = self.store.account(&uid(1)).await.unwrap().unwrap();
        assert_eq!(*subject.account, account, "{what}");
        let memberships = self.store.memberships_of(&uid(1)).await.unwrap();
        assert_eq!(subject.memberships, memberships, "{what}");
    }
}

pub(crate) async fn every_change_of_rights_voids_what_was_cached(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    put_key(&*store, 1, 1).await;
    let mut cached = Cached::of(&store).await;
    let (list, id, level) = (name("list"), resource_id("42"), name("member"));

    let membership = membership("42", "member");
    let set = store.set_membership(&uid(1), membership, None).await;
    assert_eq!(set.unwrap(), MembershipChange::Done);
    cached.assert_follows("membership set").await;
    let end = async || store.end_membership(&uid(1), &list, &id, &level).await;
    assert_eq!(end().await.unwrap(), MembershipChange::Done);
    cached.assert_follows("membership ended").await;
    let revoke = async || store.revoke_api_key(&uid(1), &key_id(1)).await;
    assert!(revoke().await.unwrap());
    cached.assert_follows("key revoked").await;
    let change = AccountChange::default();
    let changed = store.update_account(&uid(1), change).await.unwrap();
    assert!(changed.is_some());
    cached.assert_follows("account changed").await;

    // A change that found nothing to do does not invalidate the cache.
    let conflict = MembershipChange::Conflict { found: None };
    assert_eq!(end().await.unwrap(), conflict);
    assert!(!revoke().await.unwrap());
    assert!(store.generations().is_current(cached.stamp));
}

pub(crate) async fn every_end_of_logins_voids_what_was_cached(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    for number in 1..=4 {
        put_session(&*store, number, 1).await;
    }
    assert!(
        store
            .put_token(token(9, 1, Purpose::Reset), None)
            .await
            .unwrap()
    );
    let mut cached = Cached::of(&store).await;

    let rotated = store.rotate_refresh(rotation(1, 2, 1)).await.unwrap();
    assert!(matches!(rotated, Rotation::Rotated(_)));
    cached.assert_follows("refreshed").await;
    let reused = store.rotate_refresh(rotation(1, 2, 99)).await.unwrap();
    assert!(matches!(reused, Rotation::Reused(_)));
    cached.assert_follows("reused").await;
    let end = async || store.end_session(&uid(1), &session_id(2)).await;
    assert!(end().await.unwrap());
    cached.assert_follows("session ended").await;
    let end_all = async || store.end_sessions(&uid(1), None).await;
    assert_eq!(end_all().await.unwrap(), 2);
    cached.assert_follows("sessions ended").await;
    let reset = async || {
        let password = password("reset");
        store.set_password_by_token(&digest(9), password, NOW).await
    };
    let account = reset().await.unwrap().unwrap();
    cached.assert_follows("password reset").await;
    let changed = store
        .change_password(&uid(1), account.generation, password("changed"), None)
        .await;
    assert!(matches!(changed, Ok(Guarded::Done(_))));
    cached.assert_follows("password changed").await;

    // A change that found nothing to do does not invalidate the cache.
    assert!(!end().await.unwrap());
    assert_eq!(end_all().await.unwrap(), 0);
    assert_eq!(reset().await.unwrap(), None);
    assert!(store.generations().is_current(cached.stamp));
}
