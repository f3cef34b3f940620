//! Records for the tests of the store: everything in a record follows from its number.

use std::sync::Arc;
use std::time::Duration;

use doorward::model::access::{Membership, Name, ResourceId, Role};
use doorward::model::account::{
    Account, AccountStatus, Digest, EmailAddress, OneTimeToken, PasswordHash, PersonName, Purpose,
    Session, Username,
};
use doorward::model::api_key::{ApiKey, KeyName, KeyTerms};
use doorward::model::clock::Timestamp;
use doorward::model::field::CheckedField as _;
use doorward::model::id::{AccountId, KeyId, SessionId, SettingsId, UserId};
use doorward::store::{
    Creation, Guarded, ImportStep, ImportedPerson, NewPassword, RefreshRotation, Store,
};

/// The time at which everything is created.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_000_000);
/// How long a spent refresh token may be repeated.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

pub(crate) fn at(secs: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(secs))
}

pub(crate) fn uid(number: u32) -> UserId {
    UserId::parse(&format!("u-{number:08}")).unwrap()
}

pub(crate) fn session_id(number: u32) -> SessionId {
    SessionId::parse(&format!("s-{number:08}")).unwrap()
}

pub(crate) fn key_id(number: u32) -> KeyId {
    KeyId::parse(&format!("{number:08}")).unwrap()
}

pub(crate) fn digest(number: u32) -> Digest {
    let mut bytes = [0; 32];
    for (byte, value) in bytes.iter_mut().zip(number.to_be_bytes()) {
        *byte = value;
    }
    Digest(bytes)
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn resource_id(text: &str) -> ResourceId {
    ResourceId::parse(text).unwrap()
}

pub(crate) fn role(text: &str) -> Role {
    Role::parse(text).unwrap()
}

pub(crate) fn membership(id: &str, level: &str) -> Membership {
    Membership {
        resource: name("list"),
        id: resource_id(id),
        level: name(level),
    }
}

pub(crate) fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

pub(crate) fn password(text: &str) -> NewPassword {
    NewPassword {
        hash: hash(text),
        revoke_keys: false,
    }
}

pub(crate) fn account(number: u32, status: AccountStatus) -> Account {
    let username = format!("name{number}");
    Account {
        uid: uid(number),
        account_id: AccountId::parse(&format!("a-{number:08}")).unwrap(),
        identity: EmailAddress::parse(&format!("{username}@example.org")).unwrap(),
        username: Username::parse(&username).unwrap(),
        name: PersonName::check(username).unwrap(),
        status,
        is_admin: false,
        roles: Vec::new(),
        settings_id: SettingsId::parse(&format!("set-{number:08}")).unwrap(),
        password_must_change: false,
        password: None,
        generation: 0,
        level_changes: 0,
        created: NOW,
    }
}

/// Returns an account with the name and address of another.
pub(crate) fn rival(number: u32, of: &Account) -> Account {
    Account {
        username: of.username.clone(),
        identity: of.identity.clone(),
        ..account(number, AccountStatus::Pending)
    }
}

pub(crate) fn session(number: u32, of: u32) -> Session {
    Session {
        id: session_id(number),
        uid: uid(of),
        created: NOW,
        last_seen: NOW,
        from: "192.0.2.1".to_owned(),
        idle_end: at(100),
        absolute_end: at(1000),
        refresh: digest(number),
        spent: Vec::new(),
        rotated: NOW,
        cookies: None,
    }
}

pub(crate) fn api_key(number: u32, of: u32) -> ApiKey {
    ApiKey {
        id: key_id(number),
        uid: uid(of),
        terms: KeyTerms {
            name: KeyName::check(format!("key {number}")).unwrap(),
            ..KeyTerms::default()
        },
        digest: digest(number),
        created: NOW,
        previous: None,
        suspended: false,
    }
}

pub(crate) fn token(number: u32, of: u32, purpose: Purpose) -> OneTimeToken {
    OneTimeToken {
        digest: digest(number),
        purpose,
        uid: uid(of),
        created: NOW,
        expires: at(100),
        identity: None,
    }
}

/// Returns a rotation of `session_id(1)`.
pub(crate) fn rotation(presented: u32, successor: u32, secs: u64) -> RefreshRotation {
    RefreshRotation {
        session: session_id(1),
        presented: digest(presented),
        successor: digest(successor),
        now: at(secs),
        grace: GRACE,
        idle_end: at(secs + 100),
    }
}

/// Writes an active account of this number.
pub(crate) async fn put_active(store: &dyn Store, number: u32) {
    let created = store
        .create_account(account(number, AccountStatus::Active))
        .await;
    assert_eq!(created.unwrap(), Creation::Created);
}

/// Writes a session under the current state of the account.
pub(crate) async fn put_session(store: &dyn Store, number: u32, of: u32) {
    let standing = standing(store, of).await;
    let created = store
        .create_session(session(number, of), standing, None)
        .await;
    assert_eq!(created.unwrap(), Guarded::Done(()));
}

/// Writes an API key under the current state of the account.
pub(crate) async fn put_key(store: &dyn Store, number: u32, of: u32) {
    let standing = standing(store, of).await;
    let created = store.create_api_key(api_key(number, of), standing).await;
    assert_eq!(created.unwrap(), Guarded::Done(true));
}

/// Returns the `standing` that a slow check of the account would have read now.
pub(crate) async fn standing(store: &dyn Store, of: u32) -> u64 {
    store.account(&uid(of)).await.unwrap().unwrap().standing()
}

/// Imports people who conflict with nothing.
pub(crate) async fn import(store: &dyn Store, people: Vec<ImportedPerson>) {
    assert_eq!(store.stage_import(people).await.unwrap(), []);
    store.commit_import().await.unwrap();
    while store.step_import().await.unwrap() != ImportStep::Over {}
}

/// Returns the account's current generation.
pub(crate) async fn generation(store: &dyn Store, of: u32) -> u64 {
    store.account(&uid(of)).await.unwrap().unwrap().generation
}

/// Returns the numbers of the sessions of an account.
pub(crate) async fn session_ids(store: &dyn Store, of: u32) -> Vec<SessionId> {
    let sessions = store.sessions_of(&uid(of)).await.unwrap();
    sessions.into_iter().map(|session| session.id).collect()
}

/// Runs 50 futures of a kind concurrently, and returns all results.
pub(crate) async fn fifty<T, F>(
    store: &Arc<dyn Store>,
    act: impl Fn(Arc<dyn Store>, u32) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..50)
        .map(|number| tokio::spawn(act(Arc::clone(store), number)))
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}
