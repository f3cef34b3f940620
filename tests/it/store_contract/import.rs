//! An import is staged, takes effect with one record, and is written or reverted step by step.

use std::sync::Arc;

use doorward::model::account::{AccountStatus, EmailAddress, Username};
use doorward::store::backup::{self, Backups};
use doorward::store::bounds::MEMBERSHIPS_MAX;
use doorward::store::sled;
use doorward::store::{Creation, Guarded, ImportConflict, ImportStep, ImportedPerson, Store};

use crate::store_contract::at_rest::{everything, open};
use crate::store_contract::fixture::{
    NOW, account, api_key, at, key_id, membership, name, put_active, resource_id, uid,
};

/// More than one step writes or reverts.
const PEOPLE: u32 = 150;

fn person(number: u32) -> ImportedPerson {
    ImportedPerson {
        place: number as usize,
        account: account(number, AccountStatus::Active),
        keys: vec![api_key(number, number)],
        memberships: vec![membership("42", "member")],
    }
}

fn people() -> Vec<ImportedPerson> {
    (1..=PEOPLE).map(person).collect()
}

/// Returns how many accounts exist, and how many of them with all of their records.
async fn there(store: &dyn Store) -> (u32, u32) {
    let (mut some, mut whole) = (0, 0);
    for number in 1..=PEOPLE {
        let found = store.account(&uid(number)).await.unwrap();
        let Some(found) = found else { continue };
        some += 1;
        let by_name = store.account_by_username(&found.username).await.unwrap();
        let by_address = store.account_by_identity(&found.identity).await.unwrap();
        let keys = store.api_keys_of(&uid(number)).await.unwrap();
        let memberships = store.memberships_of(&uid(number)).await.unwrap();
        let counted = (keys.len(), memberships.len());
        let is_whole = by_name.is_some() && by_address.is_some() && counted == (1, 1);
        whole += u32::from(is_whole);
    }
    (some, whole)
}

pub(crate) async fn people_are_nobody_until_all_of_them_count(store: Arc<dyn Store>) {
    assert_eq!(store.step_import().await.unwrap(), ImportStep::Over);
    assert_eq!(store.stage_import(people()).await.unwrap(), []);
    let one = account(1, AccountStatus::Active);
    assert_eq!(store.account(&one.uid).await.unwrap(), None);
    assert_eq!(
        store.account_by_username(&one.username).await.unwrap(),
        None
    );
    assert_eq!(
        store.account_by_identity(&one.identity).await.unwrap(),
        None
    );
    assert_eq!(store.identity_owner(&one.identity).await.unwrap(), None);
    assert_eq!(store.api_key(&key_id(1)).await.unwrap(), None);
    assert!(store.accounts(None, 9).await.unwrap().is_empty());
    let (list, id) = (name("list"), resource_id("42"));
    let members = store.members_of(&list, &id, None, 9).await.unwrap();
    assert_eq!(members, []);
    // The records of one account belong to no other.
    let mut other = account(1000, AccountStatus::Active);
    other.username = one.username.clone();
    let created = store.create_account(other.clone()).await.unwrap();
    assert_eq!(created, Creation::UsernameTaken);
    other.username = Username::parse("other").unwrap();
    other.identity = one.identity.clone();
    let created = store.create_account(other.clone()).await.unwrap();
    assert_eq!(created, Creation::IdentityTaken);
    other.identity = EmailAddress::parse("other@example.org").unwrap();
    let created = store.create_account(other).await.unwrap();
    assert_eq!(created, Creation::Created);
    let made = store.create_api_key(api_key(1, 1000), 0).await.unwrap();
    assert_eq!(made, Guarded::Stale);

    let stamp = store.generations().stamp(&one.uid);
    store.commit_import().await.unwrap();
    let mut written = 0;
    loop {
        match store.step_import().await.unwrap() {
            ImportStep::Written(uids) => written += u32::try_from(uids.len()).unwrap(),
            ImportStep::Over => break,
            other @ ImportStep::TakenBack(_) => panic!("{other:?}"),
        }
        let (some, whole) = there(&*store).await;
        assert_eq!((some, whole), (written, written));
    }
    assert_eq!(written, PEOPLE);
    assert!(!store.generations().is_current(stamp));
    let made = store.create_api_key(api_key(2000, 1), 0).await.unwrap();
    assert_eq!(made, Guarded::Done(true));
    // The next import is independent.
    assert_eq!(store.stage_import(vec![person(500)]).await.unwrap(), []);
    let step = store.step_import().await.unwrap();
    assert_eq!(step, ImportStep::TakenBack(1));
}

pub(crate) async fn people_who_are_taken_back_leave_nothing(store: Arc<dyn Store>) {
    assert_eq!(store.stage_import(people()).await.unwrap(), []);
    let mut gone = 0;
    loop {
        match store.step_import().await.unwrap() {
            ImportStep::TakenBack(count) => gone += count,
            ImportStep::Over => break,
            other @ ImportStep::Written(_) => panic!("{other:?}"),
        }
        assert_eq!(there(&*store).await, (0, 0));
    }
    assert_eq!(gone, PEOPLE as usize);
    for number in [1, PEOPLE] {
        put_active(&*store, number).await;
        let made = store.create_api_key(api_key(number, number), 0).await;
        assert_eq!(made.unwrap(), Guarded::Done(true));
    }
}

pub(crate) async fn what_stands_in_the_way_of_an_import_is_told(store: Arc<dyn Store>) {
    put_active(&*store, 1).await;
    put_active(&*store, 2).await;
    put_active(&*store, 3).await;
    let made = store.create_api_key(api_key(4, 3), 0).await.unwrap();
    assert_eq!(made, Guarded::Done(true));
    store.remove_account(&uid(2)).await.unwrap();
    let like = |place: usize, of: u32, what: &str| {
        let (mut person, other) = (
            person(u32::try_from(place).unwrap()),
            account(of, AccountStatus::Active),
        );
        match what {
            "id" => person.account.account_id = other.account_id,
            "name" => person.account.username = other.username,
            "address" => person.account.identity = other.identity,
            _ => person.keys = vec![api_key(of, u32::try_from(place).unwrap())],
        }
        person
    };
    let people = vec![
        person(1),
        person(2),
        like(11, 3, "id"),
        like(12, 3, "name"),
        like(13, 2, "name"),
        like(14, 3, "address"),
        like(15, 4, "key"),
        person(20),
        like(21, 20, "id"),
        like(22, 20, "name"),
        like(23, 20, "address"),
        like(24, 20, "key"),
        // The address of a removed account is free.
        like(25, 2, "address"),
    ];
    let conflicts = [
        (1, ImportConflict::Uid),
        (2, ImportConflict::Uid),
        (11, ImportConflict::Uid),
        (12, ImportConflict::Username),
        (13, ImportConflict::Username),
        (14, ImportConflict::Identity),
        (15, ImportConflict::KeyId(key_id(4))),
        (21, ImportConflict::StagedAccountId),
        (22, ImportConflict::StagedUsername),
        (23, ImportConflict::StagedIdentity),
        (24, ImportConflict::StagedKeyId(key_id(20))),
    ];
    assert_eq!(store.stage_import(people).await.unwrap(), conflicts);
    store.commit_import().await.unwrap();
    while store.step_import().await.unwrap() != ImportStep::Over {}
    for (number, is_there) in [
        (12, false),
        (15, true),
        (20, true),
        (21, false),
        (24, true),
        (25, true),
    ] {
        let found = store.account(&uid(number)).await.unwrap();
        assert_eq!(found.is_some(), is_there, "{number}");
    }
    let owner = store.api_key(&key_id(20)).await.unwrap().unwrap().uid;
    assert_eq!(owner, uid(20));
}

pub(crate) async fn people_with_very_many_memberships_come_whole(store: Arc<dyn Store>) {
    let mut person = person(1);
    let count = u32::try_from(MEMBERSHIPS_MAX).unwrap();
    person.memberships = (0..count)
        .map(|id| membership(&id.to_string(), "member"))
        .collect();
    person.keys = (0..50).map(|number| api_key(number, 1)).collect();
    assert_eq!(store.stage_import(vec![person]).await.unwrap(), []);
    store.commit_import().await.unwrap();
    loop {
        let step = store.step_import().await.unwrap();
        if step == ImportStep::Over {
            break;
        }
        // No account exists without all of its records.
        let is_there = store.account(&uid(1)).await.unwrap().is_some();
        let memberships = store.memberships_of(&uid(1)).await.unwrap();
        let is_whole = memberships.len() == count as usize;
        assert_eq!(
            is_there,
            is_whole && step == ImportStep::Written(vec![uid(1)])
        );
    }
    assert_eq!(store.api_keys_of(&uid(1)).await.unwrap().len(), 50);
}

#[tokio::test]
async fn an_import_that_is_cut_short_anywhere_is_all_there_or_not_at_all() {
    let mut is_over = false;
    let mut cut = 0;
    while !is_over {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        put_active(&store, 1000).await;
        let before = everything(&store).await.unwrap();
        let mut left = cut;
        // One operation after another, until the store is closed as if by a crash between two of them.
        let mut may = || {
            left -= 1;
            0 <= left
        };
        let mut counts = false;
        'import: {
            for slice in people().chunks(50) {
                if !may() {
                    break 'import;
                }
                assert_eq!(store.stage_import(slice.to_vec()).await.unwrap(), []);
            }
            if !may() {
                break 'import;
            }
            store.commit_import().await.unwrap();
            counts = true;
            while may() {
                if store.step_import().await.unwrap() == ImportStep::Over {
                    is_over = true;
                    break;
                }
            }
        }
        drop(store);
        let store = open(dir.path()).unwrap();
        while store.step_import().await.unwrap() != ImportStep::Over {}
        let expected = if counts { (PEOPLE, PEOPLE) } else { (0, 0) };
        assert_eq!(there(&store).await, expected, "after {cut} operations");
        if !counts {
            assert_eq!(
                everything(&store).await.unwrap(),
                before,
                "after {cut} operations"
            );
        }
        cut += 1;
    }
    assert!(7 < cut, "{cut} operations are too few");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_an_import_under_way_restores_to_all_of_it_or_nothing() {
    for counts in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(open(dir.path()).unwrap());
        let backups = Backups::new(Arc::clone(&store), dir.path(), 3);
        assert_eq!(store.stage_import(people()).await.unwrap(), []);
        if counts {
            store.commit_import().await.unwrap();
            let step = store.step_import().await.unwrap();
            assert!(matches!(step, ImportStep::Written(_)), "{step:?}");
        }
        let made = tokio::task::block_in_place(|| backups.make(NOW).unwrap());
        let mut lines = Vec::new();
        backup::export(&made.path, &mut lines).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        let count = |kind: &str| lines.matches(&format!("\"kind\":\"{kind}\"")).count();
        let expected = if counts { PEOPLE } else { 0 };
        for kind in ["account", "apikey", "membership"] {
            assert_eq!(count(kind), expected as usize, "{kind}");
        }

        let other = tempfile::tempdir().unwrap();
        backup::restore(other.path(), &made.path, at(9)).unwrap();
        let restored = open(other.path()).unwrap();
        while restored.step_import().await.unwrap() != ImportStep::Over {}
        assert_eq!(there(&restored).await, (expected, expected));
        // Everything issued since the backup is void, whether the account came before or after it.
        for number in [1, PEOPLE] {
            let found = restored.account(&uid(number)).await.unwrap();
            assert!(found.is_none_or(|account| account.generation == 1));
            let key = restored.api_key(&key_id(number)).await.unwrap();
            assert!(key.is_none_or(|key| key.suspended));
        }
        drop(restored);
        assert!(sled::check(other.path()).unwrap().problems.is_empty());
    }
}
