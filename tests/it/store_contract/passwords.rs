//! New passwords, and the one-time tokens that allow them.

use std::sync::Arc;

use doorward::model::account::{AccountStatus, EmailAddress, OneTimeToken, Purpose, Username};
use doorward::store::{AccountChange, Creation, Guarded, IdentityChange, NewPassword, Store};

use crate::store_contract::fixture::{
    NOW, account, at, digest, fifty, generation, hash, key_id, password, put_active, put_key,
    put_session, rival, session_id, session_ids, token, uid,
};

pub(crate) async fn pending_accounts_reserve_nothing_and_the_first_password_wins(
    store: Arc<dyn Store>,
) {
    let first = account(1, AccountStatus::Pending);
    for number in 1..=3 {
        let rival = rival(number, &first);
        let token = token(number, number, Purpose::Confirm);
        store.register(rival, token, None, None).await.unwrap();
    }
    assert!(!store.identity_taken(&first.identity).await.unwrap());
    let set = async |number| {
        let set = store
            .set_password_by_token(&digest(number), password("new"), NOW)
            .await;
        set.unwrap()
    };
    let winner = set(2).await.unwrap();
    assert_eq!(winner.uid, uid(2));
    assert_eq!(winner.status, AccountStatus::Active);
    assert_eq!(winner.password, Some(hash("new")));
    let found = store.account_by_username(&first.username).await.unwrap();
    assert_eq!(found, Some(winner.clone()));
    let found = store.account_by_identity(&first.identity).await.unwrap();
    assert_eq!(found, Some(winner));
    for loser in [1, 3] {
        assert_eq!(set(loser).await, None);
        let void = store.one_time_token(&digest(loser)).await.unwrap();
        assert_eq!(void, None, "{loser}");
        let account = store.account(&uid(loser)).await.unwrap().unwrap();
        assert_eq!(account.status, AccountStatus::Pending);
    }
    // A different name with the same address, and the reverse.
    let mut other_name = rival(4, &first);
    other_name.username = Username::parse("other").unwrap();
    let mut other_address = rival(5, &first);
    other_address.identity = EmailAddress::parse("other@example.org").unwrap();
    for (number, rival) in [(4, other_name), (5, other_address)] {
        let token = token(number, number, Purpose::Confirm);
        store.register(rival, token, None, None).await.unwrap();
        assert_eq!(set(number).await, None, "{number}");
    }
}

pub(crate) async fn a_one_time_token_is_used_once(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let token = token(1, 1, Purpose::Reset);
    assert!(store.put_token(token, None).await.unwrap());
    let outcomes = fifty(&store, |store, number| async move {
        let password = password(&number.to_string());
        let set = store.set_password_by_token(&digest(1), password, NOW).await;
        set.unwrap()
    })
    .await;
    let mut done = outcomes.into_iter().flatten();
    let winner = done.next().unwrap();
    assert_eq!(done.next(), None);
    assert_eq!(store.account(&uid(1)).await.unwrap(), Some(winner));
    assert_eq!(store.one_time_token(&digest(1)).await.unwrap(), None);
}

pub(crate) async fn an_address_changes_once_by_a_token_of_its_own(store: Arc<dyn Store>) {
    for number in 1..=2 {
        put_active(&*store, number).await;
    }
    let change = async |number| store.change_identity(&digest(number), NOW).await.unwrap();
    let to = |number, purpose, address: &str| OneTimeToken {
        identity: Some(EmailAddress::parse(address).unwrap()),
        ..token(number, 1, purpose)
    };
    let put = async |token| assert!(store.put_token(token, None).await.unwrap());
    // A reset token does not confirm, and a token for a taken address is void.
    put(to(1, Purpose::Reset, "new@example.org")).await;
    assert_eq!(change(1).await, IdentityChange::Invalid);
    put(to(2, Purpose::ChangeIdentity, "Name2+x@example.org")).await;
    assert_eq!(change(2).await, IdentityChange::Taken);
    assert_eq!(change(2).await, IdentityChange::Invalid);

    put(to(3, Purpose::ChangeIdentity, "new@example.org")).await;
    let outcomes = fifty(&store, |store, _| async move {
        store.change_identity(&digest(3), NOW).await.unwrap()
    })
    .await;
    let is_done = |outcome: &&IdentityChange| matches!(outcome, IdentityChange::Done { .. });
    assert_eq!(outcomes.iter().filter(is_done).count(), 1);
    let others = outcomes.iter().filter(|outcome| !is_done(outcome));
    assert!(others.into_iter().all(|it| *it == IdentityChange::Invalid));
    let new = EmailAddress::parse("new@example.org").unwrap();
    let found = store.account_by_identity(&new).await.unwrap().unwrap();
    assert_eq!(found.uid, uid(1));
    let before = account(1, AccountStatus::Active).identity;
    assert!(!store.identity_taken(&before).await.unwrap());
    // Tokens in the old mailbox are void.
    assert_eq!(store.one_time_token(&digest(1)).await.unwrap(), None);
}

pub(crate) async fn a_one_time_token_has_its_purpose_and_its_time(store: Arc<dyn Store>) {
    let statuses = [
        AccountStatus::Pending,
        AccountStatus::Active,
        AccountStatus::Disabled,
    ];
    for (number, status) in (1..).zip(statuses) {
        let created = store.create_account(account(number, status)).await;
        assert_eq!(created.unwrap(), Creation::Created);
        for purpose in [Purpose::Confirm, Purpose::Reset] {
            let fits = match purpose {
                Purpose::Confirm => status == AccountStatus::Pending,
                Purpose::Reset | Purpose::ChangeIdentity => status == AccountStatus::Active,
            };
            let number = number * 10 + u32::from(purpose == Purpose::Reset);
            let token = token(number, number / 10, purpose);
            let put = store.put_token(token.clone(), None).await.unwrap();
            assert_eq!(put, fits, "{status:?} {purpose:?}");
            let found = store.one_time_token(&token.digest).await.unwrap();
            assert_eq!(found, Some(token).filter(|_| fits));
        }
    }
    assert!(
        !store
            .put_token(token(99, 99, Purpose::Reset), None)
            .await
            .unwrap()
    );
    let cases = [
        (21, at(100), false),
        (21, at(101), false),
        (98, NOW, false),
        (21, at(99), true),
        (21, at(99), false),
    ];
    for (number, now, done) in cases {
        let set = store
            .set_password_by_token(&digest(number), password("new"), now)
            .await;
        assert_eq!(set.unwrap().is_some(), done, "{number} {now:?}");
    }
}

pub(crate) async fn a_password_by_token_ends_what_was_before(store: Arc<dyn Store>) {
    for (number, revoke_keys) in [(1, false), (2, true)] {
        let mut account = account(number, AccountStatus::Active);
        account.password_must_change = true;
        assert_eq!(
            store.create_account(account).await.unwrap(),
            Creation::Created
        );
        put_session(&*store, number, number).await;
        put_key(&*store, number, number).await;
        for token_number in [number * 10, number * 10 + 1] {
            let token = token(token_number, number, Purpose::Reset);
            assert!(store.put_token(token, None).await.unwrap());
        }
        let before = generation(&*store, number).await;
        let password = NewPassword {
            hash: hash("new"),
            revoke_keys,
        };
        let set = store
            .set_password_by_token(&digest(number * 10), password, NOW)
            .await;
        let account = set.unwrap().unwrap();
        assert_eq!(account.generation, before + 1);
        assert_eq!(account.password, Some(hash("new")));
        assert!(!account.password_must_change);
        assert_eq!(store.account(&uid(number)).await.unwrap(), Some(account));
        assert!(session_ids(&*store, number).await.is_empty());
        let session = store.session(&session_id(number)).await.unwrap();
        assert_eq!(session, None);
        let other = store.one_time_token(&digest(number * 10 + 1)).await;
        assert_eq!(other.unwrap(), None);
        let keys = store.api_keys_of(&uid(number)).await.unwrap();
        assert_eq!(keys.is_empty(), revoke_keys);
        let key = store.api_key(&key_id(number)).await.unwrap();
        assert_eq!(key.is_none(), revoke_keys);
    }
}

pub(crate) async fn a_password_change_is_refused_after_any_other_change(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    for number in [1, 2, 3] {
        put_session(&*store, number, 1).await;
    }
    assert!(
        store
            .put_token(token(1, 1, Purpose::Reset), None)
            .await
            .unwrap()
    );
    let keep = session_id(2);
    let change = async |generation| {
        let changed = store
            .change_password(&uid(1), generation, password("new"), Some(&keep))
            .await;
        changed.unwrap()
    };
    let read = generation(&*store, 1).await;
    let must_change = AccountChange {
        password_must_change: Some(true),
        ..AccountChange::default()
    };
    store.update_account(&uid(1), must_change).await.unwrap();
    assert_eq!(change(read).await, Guarded::Stale);
    assert_eq!(session_ids(&*store, 1).await.len(), 3);
    let Guarded::Done(account) = change(read + 1).await else {
        unreachable!("the generation is the one that is there");
    };
    assert_eq!(account.generation, read + 2);
    assert!(!account.password_must_change);
    assert_eq!(session_ids(&*store, 1).await, [session_id(2)]);
    assert_eq!(store.one_time_token(&digest(1)).await.unwrap(), None);
    assert_eq!(change(read + 1).await, Guarded::Stale);
}
