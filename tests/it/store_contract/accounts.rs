//! Accounts: creation, lookup, change.

use std::sync::Arc;

use doorward::model::account::{AccountStatus, EmailAddress, OneTimeToken, Purpose, Username};
use doorward::model::id::AccountId;
use doorward::store::error::StoreError;
use doorward::store::{AccountChange, Creation, Guarded, Store};

use crate::store_contract::fixture::{
    account, api_key, digest, fifty, password, put_active, put_key, put_session, rival, role,
    session, session_ids, token, uid,
};

pub(crate) async fn accounts_are_found_by_every_name_once_they_are_active(store: Arc<dyn Store>) {
    let mut active = account(1, AccountStatus::Active);
    active.identity = EmailAddress::parse("An.Na+x@GMail.com").unwrap();
    assert_eq!(
        store.create_account(active.clone()).await.unwrap(),
        Creation::Created
    );
    let pending = account(2, AccountStatus::Pending);
    assert_eq!(
        store.create_account(pending.clone()).await.unwrap(),
        Creation::Created
    );
    for (account, by_name) in [(&active, true), (&pending, false)] {
        let expected = Some(account.clone());
        assert_eq!(store.account(&account.uid).await.unwrap(), expected);
        let by_id = store.account_by_id(&account.account_id).await.unwrap();
        assert_eq!(by_id, expected);
        let expected = expected.filter(|_| by_name);
        let found = store.account_by_username(&account.username).await.unwrap();
        assert_eq!(found, expected);
        let found = store.account_by_identity(&account.identity).await.unwrap();
        assert_eq!(found, expected);
    }
    // Login folds ASCII case and nothing else; registration folds more.
    let cases = [
        ("an.na+x@gmail.com", true, true),
        ("anna@gmail.com", false, true),
        ("an.na+y@gmail.com", false, true),
        ("annab@gmail.com", false, false),
        ("name2@example.org", false, false),
    ];
    for (text, found, taken) in cases {
        let identity = EmailAddress::parse(text).unwrap();
        let account = store.account_by_identity(&identity).await.unwrap();
        assert_eq!(account.is_some(), found, "{text}");
        let is_taken = store.identity_taken(&identity).await.unwrap();
        assert_eq!(is_taken, taken, "{text}");
    }
    assert_eq!(store.account(&uid(9)).await.unwrap(), None);
}

pub(crate) async fn accounts_are_listed_by_record_id(store: Arc<dyn Store>) {
    for number in [3, 1, 2, 5, 4] {
        let status = [AccountStatus::Active, AccountStatus::Pending];
        let status = status.into_iter().cycle().nth(number as usize).unwrap();
        let created = store.create_account(account(number, status)).await;
        assert_eq!(created.unwrap(), Creation::Created);
    }
    let id = |number| AccountId::parse(&format!("a-{number:08}")).unwrap();
    let cases: [(Option<u32>, usize, &[u32]); 5] = [
        (None, 10, &[1, 2, 3, 4, 5]),
        (None, 2, &[1, 2]),
        (Some(2), 2, &[3, 4]),
        (Some(5), 2, &[]),
        (None, 0, &[]),
    ];
    for (after, limit, expected) in cases {
        let found = store.accounts(after.map(id).as_ref(), limit).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|account| account.uid).collect();
        let expected: Vec<_> = expected.iter().copied().map(uid).collect();
        assert_eq!(found, expected, "{after:?} {limit}");
    }
}

pub(crate) async fn a_name_or_address_that_is_taken_is_told(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let disable = AccountChange {
        status: Some(AccountStatus::Disabled),
        ..AccountChange::default()
    };
    for change in [AccountChange::default(), disable] {
        store.update_account(&uid(1), change).await.unwrap();
        let mut same_name = account(2, AccountStatus::Active);
        same_name.username = Username::parse("NAME1").unwrap();
        let created = store.create_account(same_name).await.unwrap();
        assert_eq!(created, Creation::UsernameTaken);
        let mut same_address = account(2, AccountStatus::Active);
        same_address.identity = EmailAddress::parse("Name1+tag@example.org").unwrap();
        let created = store.create_account(same_address).await.unwrap();
        assert_eq!(created, Creation::IdentityTaken);
    }
    assert_eq!(store.account(&uid(2)).await.unwrap(), None);

    let outcomes = fifty(&store, |store, number| async move {
        let mut rival = rival(10 + number, &account(3, AccountStatus::Active));
        rival.status = AccountStatus::Active;
        store.create_account(rival).await.unwrap()
    })
    .await;
    let created = outcomes.iter().filter(|it| **it == Creation::Created);
    assert_eq!(created.count(), 1);
}

pub(crate) async fn ids_are_never_written_over(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    put_session(&*store, 1, 1).await;
    let before = store.account(&uid(1)).await.unwrap();
    let mut second = account(2, AccountStatus::Pending);
    second.uid = uid(1);
    let mut third = account(2, AccountStatus::Pending);
    third.account_id = account(1, AccountStatus::Pending).account_id;
    for collider in [second, third] {
        let token = token(1, 1, Purpose::Confirm);
        let token = OneTimeToken {
            uid: collider.uid.clone(),
            ..token
        };
        let registered = store.register(collider.clone(), token, None, None).await;
        assert!(matches!(registered, Err(StoreError::Collision { .. })));
        let created = store.create_account(collider).await;
        assert!(matches!(created, Err(StoreError::Collision { .. })));
    }
    let again = store.create_session(session(1, 1), 0, None).await;
    assert!(matches!(again, Err(StoreError::Collision { .. })));
    assert_eq!(store.account(&uid(1)).await.unwrap(), before);
    assert_eq!(store.one_time_token(&digest(1)).await.unwrap(), None);
    assert_eq!(store.accounts(None, 9).await.unwrap().len(), 1);
}

pub(crate) async fn disabling_ends_sessions_and_tokens_and_keeps_the_rest(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    put_session(&*store, 1, 1).await;
    put_key(&*store, 1, 1).await;
    assert!(
        store
            .put_token(token(1, 1, Purpose::Reset), None)
            .await
            .unwrap()
    );
    let set = async |status| {
        let change = AccountChange {
            status: Some(status),
            ..AccountChange::default()
        };
        store
            .update_account(&uid(1), change)
            .await
            .unwrap()
            .unwrap()
    };
    let disabled = set(AccountStatus::Disabled).await;
    assert_eq!(disabled.status, AccountStatus::Disabled);
    assert_eq!(disabled.generation, 1);
    assert!(session_ids(&*store, 1).await.is_empty());
    assert_eq!(store.one_time_token(&digest(1)).await.unwrap(), None);
    assert_eq!(store.api_keys_of(&uid(1)).await.unwrap().len(), 1);
    // Nothing can begin while the account is disabled.
    let session = store.create_session(session(2, 1), 1, None).await.unwrap();
    assert_eq!(session, Guarded::Stale);
    let key = store.create_api_key(api_key(2, 1), 1).await.unwrap();
    assert_eq!(key, Guarded::Stale);
    let changed = store
        .change_password(&uid(1), 1, password("new"), None)
        .await;
    assert_eq!(changed.unwrap(), Guarded::Stale);
    assert_eq!(
        set(AccountStatus::Active).await.status,
        AccountStatus::Active
    );
    assert_eq!(
        set(AccountStatus::Pending).await.status,
        AccountStatus::Active
    );
    let found = store.account_by_username(&disabled.username).await.unwrap();
    assert_eq!(found.unwrap().uid, uid(1));
}

pub(crate) async fn administrators_change_what_they_name(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    let change = AccountChange {
        status: None,
        is_admin: Some(true),
        roles: Some(vec![role("b"), role("a"), role("b")]),
        password_must_change: Some(true),
        keys_suspended: None,
    };
    let changed = store.update_account(&uid(1), change.clone()).await;
    let mut expected = account(1, AccountStatus::Active);
    expected.is_admin = true;
    expected.roles = vec![role("a"), role("b")];
    expected.password_must_change = true;
    expected.generation = 1;
    assert_eq!(changed.unwrap(), Some(expected.clone()));
    let changed = store
        .update_account(&uid(1), AccountChange::default())
        .await;
    expected.generation = 2;
    assert_eq!(changed.unwrap(), Some(expected.clone()));
    assert_eq!(store.account(&uid(1)).await.unwrap(), Some(expected));
    assert_eq!(store.update_account(&uid(2), change).await.unwrap(), None);

    let pending = account(3, AccountStatus::Pending);
    let token = token(3, 3, Purpose::Confirm);
    store
        .register(pending.clone(), token, None, None)
        .await
        .unwrap();
    for status in [AccountStatus::Active, AccountStatus::Disabled] {
        let change = AccountChange {
            status: Some(status),
            ..AccountChange::default()
        };
        let changed = store.update_account(&uid(3), change).await.unwrap();
        assert_eq!(changed.unwrap().status, AccountStatus::Pending);
        assert!(!store.identity_taken(&pending.identity).await.unwrap());
    }
}
