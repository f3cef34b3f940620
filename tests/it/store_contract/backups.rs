//! Backups as files: a snapshot of exactly one moment despite concurrent writes; refused in every damaged form;
//! restored in steps, none of which a start mistakes for a complete store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use doorward::model::account::{AccountStatus, Purpose};
use doorward::model::id::AccountId;
use doorward::store::backup::{self, BackupError, Backups, KeyFileFate};
use doorward::store::error::StoreError;
use doorward::store::sled::{self, SledStore};
use doorward::store::{ImportedPerson, Store};

use crate::store_contract::at_rest::{everything, open};
use crate::store_contract::fixture::{
    NOW, account, api_key, at, digest, import, key_id, put_active, put_key, put_session,
    session_id, token, uid,
};

fn opened(dir: &Path) -> (Arc<SledStore>, Backups) {
    let store = Arc::new(open(dir).unwrap());
    let backups = Backups::new(Arc::clone(&store), dir, 3);
    (store, backups)
}

async fn fill(store: &SledStore, count: u32) {
    let people = (1..=count).map(|number| ImportedPerson {
        place: number as usize,
        account: account(number, AccountStatus::Active),
        keys: vec![api_key(number, number)],
        memberships: Vec::new(),
    });
    import(store, people.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_one_moment_whatever_is_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (store, backups) = opened(dir.path());
    fill(&store, 3000).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let revoked = Arc::new(AtomicU32::new(0));
    // The keys are ordered against the walk, and are written both behind it and ahead of it.
    let writer = {
        let (store, is_over, revoked) = (Arc::clone(&store), is_over.clone(), revoked.clone());
        tokio::spawn(async move {
            for step in 1..=3000 {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let number = if step % 2 == 0 {
                    step / 2
                } else {
                    3000 - step / 2
                };
                let is_gone = store.revoke_api_key(&uid(number), &key_id(number)).await;
                assert!(is_gone.unwrap(), "{number}");
                put_key(&*store, 100_000 + step, number).await;
                revoked.store(step, Ordering::SeqCst);
            }
        })
    };
    while revoked.load(Ordering::SeqCst) < 20 {
        tokio::task::yield_now().await;
    }
    let before = revoked.load(Ordering::SeqCst);
    let made = tokio::task::block_in_place(|| backups.make(NOW).unwrap());
    let after = revoked.load(Ordering::SeqCst);
    is_over.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(before < after, "nothing was written meanwhile");
    assert!(backups.check().unwrap().problems.is_empty());
    drop((store, backups));

    let other = tempfile::tempdir().unwrap();
    let restored = backup::restore(other.path(), &made.path, at(9)).unwrap();
    assert_eq!(restored.accounts, 3000);
    let store = open(other.path()).unwrap();
    // Each step is two writes: the backup lies between two of them, and contains all writes before it.
    let mut seen = Vec::new();
    for step in 1..=after {
        seen.push(
            store
                .api_key(&key_id(100_000 + step))
                .await
                .unwrap()
                .is_some(),
        );
    }
    let whole = seen.iter().take_while(|is_there| **is_there).count();
    assert!(before as usize <= whole, "{before} {whole}");
    assert!(seen.iter().skip(whole).all(|is_there| !is_there));
    drop(store);
    assert!(sled::check(other.path()).unwrap().problems.is_empty());
}

#[tokio::test]
async fn only_the_newest_are_kept_and_nothing_else_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (store, backups) = opened(dir.path());
    put_active(&*store, 1).await;
    let place = dir.path().join("backup");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("notes"), "mine").unwrap();
    fs::write(
        place.join(".doorward-20000101T000000.000Z.backup.part"),
        "half",
    )
    .unwrap();
    let made: Vec<_> = (0..5).map(|n| backups.make(at(n)).unwrap()).collect();
    assert_eq!(made[4].removed, [made[1].path.clone()]);
    let mut names: Vec<_> = fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let kept = [
        &made[2].path,
        &made[3].path,
        &made[4].path,
        &place.join("notes"),
    ];
    assert_eq!(names.iter().collect::<Vec<_>>(), kept);
    assert_eq!(backups.newest(at(9)), Some(at(4)));
    let permissions = fs::metadata(&made[4].path).unwrap().permissions();
    assert_eq!(permissions.mode() & 0o777, 0o600);
    // Existing files are not overwritten.
    let again = backups.make_at(&made[4].path, NOW);
    assert!(
        matches!(again, Err(BackupError::Exists { .. })),
        "{again:?}"
    );
    let elsewhere = backups.make_at(&place.join("missing/x"), NOW);
    assert!(
        matches!(elsewhere, Err(BackupError::Io { .. })),
        "{elsewhere:?}"
    );
}

#[tokio::test]
async fn names_later_than_now_neither_count_nor_go() {
    let dir = tempfile::tempdir().unwrap();
    let (store, backups) = opened(dir.path());
    put_active(&*store, 1).await;
    let backup = |secs| backups.make(at(secs)).unwrap();
    // The clock was wrong for a while.
    let late: Vec<_> = (0..3).map(|n| backup(1_000_000 + 10 * n)).collect();
    assert_eq!(backups.newest(at(0)), None);
    for n in 0..5 {
        let made = backup(n);
        assert!(made.path.exists(), "the one just made is gone");
        assert_eq!(made.later, 3);
        let goes = 3.min(usize::try_from(n).unwrap() + 1) + 3;
        let count = fs::read_dir(dir.path().join("backup")).unwrap().count();
        assert_eq!(count, goes, "{n}");
        assert_eq!(backups.newest(at(n)), Some(at(n)));
    }
    assert!(late.iter().all(|made| made.path.exists()));
    // The time in their names has been reached.
    let made = backup(1_000_015);
    assert_eq!((made.later, made.removed.len()), (1, 3));
    let made = backup(1_000_100);
    assert_eq!((made.later, made.removed.len()), (0, 2));
    let count = fs::read_dir(dir.path().join("backup")).unwrap().count();
    assert_eq!(count, 3);
}

/// Creates a store with one record of each kind, closes it, and returns its backup.
async fn saved(dir: &Path) -> PathBuf {
    let (store, backups) = opened(dir);
    put_active(&*store, 1).await;
    put_key(&*store, 1, 1).await;
    put_session(&*store, 1, 1).await;
    assert!(
        store
            .put_token(token(1, 1, Purpose::Reset), None)
            .await
            .unwrap()
    );
    fs::create_dir_all(dir.join("keys")).unwrap();
    fs::write(dir.join("keys/some.key"), [7; 32]).unwrap();
    backups.make(NOW).unwrap().path
}

#[tokio::test]
async fn every_damage_of_a_backup_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path()).await;
    let whole = fs::read(&path).unwrap();
    let looked = |bytes: &[u8]| {
        let path = dir.path().join("damaged");
        fs::write(&path, bytes).unwrap();
        backup::look_through(&path)
    };
    assert!(looked(&whole).is_ok());
    for at in 0..whole.len() {
        for bit in [0, 7] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(looked(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
    for length in 0..whole.len() {
        assert!(looked(&whole[..length]).is_err(), "{length} bytes");
    }
    let longer = [whole.as_slice(), b"x"].concat();
    assert!(matches!(looked(&longer), Err(BackupError::Damaged { .. })));
    for foreign in [&b""[..], b"{}", b"PK\x03\x04 something else entirely"] {
        let outcome = looked(foreign);
        assert!(
            matches!(outcome, Err(BackupError::Foreign { .. })),
            "{outcome:?}"
        );
    }
    // Another version with a right checksum was written by a newer gateway.
    let mut newer = whole.clone();
    newer[16] = 2;
    assert!(matches!(looked(&newer), Err(BackupError::Damaged { .. })));
    let body = newer.len() - 4;
    let sum = crc32fast::hash(&newer[..body]);
    newer[body..].copy_from_slice(&sum.to_le_bytes());
    let outcome = looked(&newer);
    assert!(
        matches!(
            outcome,
            Err(BackupError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ),
        "{outcome:?}"
    );
    // None of them changes anything.
    let target = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged");
    assert!(backup::restore(target.path(), &damaged, NOW).is_err());
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_restore_revives_nothing_that_was_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path()).await;
    let before = open(dir.path())
        .unwrap()
        .account(&uid(1))
        .await
        .unwrap()
        .unwrap();
    // Since the backup: another key file, another account.
    put_active(&open(dir.path()).unwrap(), 2).await;
    fs::write(dir.path().join("keys/some.key"), [8; 32]).unwrap();
    let restored = backup::restore(dir.path(), &path, at(60)).unwrap();
    assert_eq!(
        (restored.contents.as_of, restored.at, restored.accounts),
        (NOW, at(60), 1)
    );
    assert!(restored.writes_missing.is_some_and(|count| 0 < count));
    assert_eq!(
        (
            restored.sessions_ended,
            restored.tokens_voided,
            restored.keys_suspended
        ),
        (1, 1, 1)
    );
    let fates = [("some.key".to_owned(), KeyFileFate::Replaced)];
    assert_eq!(restored.key_files, fates);
    assert_eq!(fs::read(dir.path().join("keys/some.key")).unwrap(), [7; 32]);

    let store = open(dir.path()).unwrap();
    let account = store.account(&uid(1)).await.unwrap().unwrap();
    assert!(before.generation < account.generation);
    assert_eq!(store.account(&uid(2)).await.unwrap(), None);
    assert_eq!(store.session(&session_id(1)).await.unwrap(), None);
    assert_eq!(store.sessions_of(&uid(1)).await.unwrap(), []);
    assert_eq!(store.one_time_token(&digest(1)).await.unwrap(), None);
    assert!(store.api_key(&key_id(1)).await.unwrap().unwrap().suspended);
    drop(store);
    // The replaced store is kept, and can be opened.
    let kept = restored.kept.unwrap();
    assert_eq!(fs::read(kept.join("keys/some.key")).unwrap(), [8; 32]);
    let store = open(&kept).unwrap();
    assert!(store.account(&uid(2)).await.unwrap().is_some());
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts a store into a state between two steps of a restore; the second directory contains the result.
type Step = fn(&Path, &Path);

#[tokio::test]
async fn a_restore_that_is_cut_short_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path()).await;
    let outer = tempfile::tempdir().unwrap();
    let backup_file = outer.path().join("backup");
    fs::copy(&path, &backup_file).unwrap();
    let done = outer.path().join("done");
    copy_tree(dir.path(), &done);
    backup::restore(&done, &backup_file, at(60)).unwrap();
    // Each state between two steps, built from the states before and after.
    let steps: [(&str, Step); 3] = [
        ("the census is the new one", |state, done| {
            fs::create_dir(state.join("restore.new")).unwrap();
            fs::copy(done.join("census"), state.join("census")).unwrap();
        }),
        ("the old database is aside", |state, done| {
            fs::copy(done.join("census"), state.join("census")).unwrap();
            fs::create_dir(state.join("aside")).unwrap();
            fs::rename(state.join("db"), state.join("aside/db")).unwrap();
        }),
        ("all but the stage is done", |state, done| {
            fs::copy(done.join("census"), state.join("census")).unwrap();
            fs::rename(state.join("db"), state.join("aside")).unwrap();
            copy_tree(&done.join("db"), &state.join("db"));
            fs::create_dir(state.join("restore.new")).unwrap();
        }),
    ];
    for (index, (what, step)) in steps.into_iter().enumerate() {
        let state = outer.path().join(index.to_string());
        copy_tree(dir.path(), &state);
        step(&state, &done);
        let is_whole = index == 2;
        match open(&state) {
            Ok(store) => {
                assert!(is_whole, "{what}: it has started");
                assert!(store.api_key(&key_id(1)).await.unwrap().unwrap().suspended);
            }
            Err(error) => {
                assert!(!is_whole, "{what}: {error}");
                assert!(
                    matches!(error, StoreError::Refused { .. }),
                    "{what}: {error:?}"
                );
                let says_what_to_do = error.to_string().contains("repeat it");
                assert_eq!(
                    says_what_to_do,
                    state.join("restore.new").exists(),
                    "{error}"
                );
                assert!(!sled::check(&state).unwrap().problems.is_empty(), "{what}");
            }
        }
        backup::restore(&state, &backup_file, at(61)).unwrap();
        assert!(!state.join("restore.new").exists());
        let store = open(&state).unwrap();
        let id = AccountId::parse("a-00000001").unwrap();
        assert!(store.account_by_id(&id).await.unwrap().is_some(), "{what}");
    }
}

#[tokio::test]
async fn a_store_that_is_open_is_neither_checked_nor_restored_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path()).await;
    let store = open(dir.path()).unwrap();
    let before = everything(&store).await.unwrap();
    let checked = sled::check(dir.path());
    assert!(
        matches!(checked, Err(StoreError::Locked { .. })),
        "{checked:?}"
    );
    let restored = backup::restore(dir.path(), &path, at(60));
    let is_locked = matches!(restored, Err(BackupError::Store(StoreError::Locked { .. })));
    assert!(is_locked, "{restored:?}");
    assert_eq!(everything(&store).await.unwrap(), before);
}

#[tokio::test]
async fn a_check_reports_the_damage_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path()).await;
    let findings = sled::check(dir.path()).unwrap();
    assert!(findings.problems.is_empty(), "{findings:?}");
    assert!(8 < findings.records);
    let file = dir.path().join("db/db");
    let mut bytes = fs::read(&file).unwrap();
    let place = bytes
        .windows(5)
        .position(|window| window == b"name1")
        .unwrap();
    bytes[place] ^= 1;
    fs::write(&file, &bytes).unwrap();
    for _ in 0..2 {
        let findings = sled::check(dir.path()).unwrap();
        assert!(!findings.problems.is_empty());
        assert!(fs::read(&file).unwrap() == bytes, "the check has written");
    }
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    let findings = sled::check(dir.path()).unwrap();
    assert_eq!(findings.problems, ["the database is missing"]);
}
