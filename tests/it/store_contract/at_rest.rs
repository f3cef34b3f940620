//! sled: the files of a closed store, and the permissions on them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use doorward::model::account::Purpose;
use doorward::store::error::StoreError;
use doorward::store::generations::Generations;
use doorward::store::sled::SledStore;
use doorward::store::{MembershipChange, Store};

use crate::store_contract::fixture::{
    digest, membership, name, put_active, put_key, put_session, resource_id, session_id, token, uid,
};

/// Opens the store of a directory, with generations of its own.
pub(crate) fn open(dir: &Path) -> Result<SledStore, StoreError> {
    SledStore::open(dir, Arc::default())
}

/// Returns all records as lines of text.
pub(crate) async fn everything(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    for account in store.accounts(None, usize::MAX).await? {
        let sessions = store.sessions_of(&account.uid).await?;
        let keys = store.api_keys_of(&account.uid).await?;
        let memberships = store.memberships_of(&account.uid).await?;
        let found = store.account_by_username(&account.username).await?;
        let taken = store.identity_taken(&account.identity).await?;
        let found = found.map(|account| account.uid);
        lines.push(format!(
            "{account:?} {sessions:?} {keys:?} {memberships:?} {found:?} {taken}"
        ));
    }
    lines.push(format!("{:?}", store.one_time_token(&digest(1)).await?));
    let members = store
        .members_of(&name("list"), &resource_id("42"), None, 9)
        .await?;
    lines.push(format!("{members:?}"));
    Ok(lines)
}

#[tokio::test]
async fn all_is_there_after_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    put_active(&store, 1).await;
    put_key(&store, 1, 1).await;
    assert!(
        store
            .put_token(token(1, 1, Purpose::Reset), None)
            .await
            .unwrap()
    );
    let set = store
        .set_membership(&uid(1), membership("42", "member"), None)
        .await;
    assert_eq!(set.unwrap(), MembershipChange::Done);
    for number in [1, 2] {
        put_session(&store, number, 1).await;
    }
    assert!(store.end_session(&uid(1), &session_id(1)).await.unwrap());
    let before = everything(&store).await.unwrap();
    drop(store);
    for _ in 0..2 {
        let generations = Arc::new(Generations::new());
        let stamp = generations.stamp(&uid(1));
        let store = SledStore::open(dir.path(), Arc::clone(&generations)).unwrap();
        assert!(!generations.is_current(stamp));
        assert_eq!(everything(&store).await.unwrap(), before);
    }
}

#[tokio::test]
async fn a_second_open_fails_and_leaves_the_first_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let second = open(dir.path());
    assert!(
        matches!(second, Err(StoreError::Locked { .. })),
        "{second:?}"
    );
    put_active(&first, 1).await;
    drop(first);
    let third = open(dir.path()).unwrap();
    assert!(third.account(&uid(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn nobody_else_can_read_it() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("store");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    drop(open(&dir).unwrap());
    for (path, mode) in [
        ("", 0o700),
        ("db", 0o700),
        ("db/db", 0o600),
        ("census", 0o600),
        ("lock", 0o600),
    ] {
        let found = fs::metadata(dir.join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
}
