//! sled: whatever happens to the files, acknowledged records are never silently missing.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use doorward::store::Store;
use doorward::store::error::StoreError;
use tempfile::TempDir;

use crate::store_contract::at_rest::{everything, open};
use crate::store_contract::fixture::{put_active, put_session};

const ACCOUNTS: u32 = 200;

/// Damages the files of a store.
type Damage = fn(&Path);

/// Returns a closed store with some accounts, and its contents.
async fn sample() -> (TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for number in 0..ACCOUNTS {
        put_active(&store, number).await;
        put_session(&store, number, number).await;
    }
    let all = everything(&store).await.unwrap();
    drop(store);
    (dir, all)
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn remove_snapshots(dir: &Path) {
    for entry in fs::read_dir(dir.join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("snap.")
        {
            fs::remove_file(path).unwrap();
        }
    }
}

fn truncate(dir: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(dir.join("db/db"));
    file.unwrap().set_len(length).unwrap();
}

/// Opens a damaged store: either it is refused, or everything is present. Returns whether it was opened.
async fn assert_found(dir: &Path, all: &[String], what: &str) -> bool {
    match open(dir) {
        Err(error) => {
            assert!(
                matches!(
                    error,
                    StoreError::Refused { .. } | StoreError::Engine { .. }
                ),
                "{what}: {error}"
            );
            true
        }
        Ok(store) => {
            let found = everything(&store).await;
            assert_eq!(found.unwrap(), all, "{what}");
            false
        }
    }
}

#[tokio::test]
async fn bytes_that_changed_are_found() {
    let (dir, all) = sample().await;
    let length = fs::metadata(dir.path().join("db/db")).unwrap().len();
    let mut found = 0;
    for place in 0..16 {
        let copy = copy(dir.path());
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .open(copy.path().join("db/db"))
            .unwrap();
        // Spread over the file, at uneven offsets.
        let offset = (length / 16 * place + 4_321 * place) % (length - 8);
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset).unwrap();
        file.write_all_at(&bytes.map(|byte| !byte), offset).unwrap();
        found += u32::from(assert_found(copy.path(), &all, &format!("byte {offset}")).await);
    }
    assert!(0 < found, "no damage was felt: the test damages nothing");
}

#[tokio::test]
async fn a_file_cut_short_is_found() {
    let (dir, all) = sample().await;
    let length = fs::metadata(dir.path().join("db/db")).unwrap().len();
    for part in 0..6 {
        for with_snapshots in [true, false] {
            let copy = copy(dir.path());
            let left = length / 6 * part;
            truncate(copy.path(), left);
            if !with_snapshots {
                remove_snapshots(copy.path());
            }
            let what = format!("{left} of {length} bytes, snapshots {with_snapshots}");
            let found = assert_found(copy.path(), &all, &what).await;
            assert!(found, "{what}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_that_a_kill_left_unfinished_is_in_nobodys_way() {
    let (dir, all) = sample().await;
    for length in [0, 5, 13, 4096] {
        let copy = copy(dir.path());
        // sled writes a snapshot under this name, and renames it when it is complete.
        let unfinished = copy.path().join("db/snap.7FFFFFFFFFFFFFFF.generating");
        fs::write(&unfinished, vec![7; length]).unwrap();
        let store = open(copy.path()).unwrap();
        assert_eq!(everything(&store).await.unwrap(), all, "{length} bytes");
        assert!(!unfinished.exists());
    }
}

#[tokio::test]
async fn a_missing_part_is_found_and_the_remedy_named() {
    let (dir, _) = sample().await;
    let cases: [(&str, Damage); 6] = [
        ("no database", |dir| {
            fs::remove_dir_all(dir.join("db")).unwrap();
        }),
        ("no data file", |dir| {
            fs::remove_file(dir.join("db/db")).unwrap();
        }),
        ("no data file, no census", |dir| {
            fs::remove_file(dir.join("db/db")).unwrap();
            fs::remove_file(dir.join("census")).unwrap();
        }),
        ("a new database", |dir| {
            fs::remove_dir_all(dir.join("db")).unwrap();
            let db = sled::open(dir.join("db")).unwrap();
            db.insert(b"a", b"b").unwrap();
        }),
        ("a damaged census", |dir| {
            fs::write(dir.join("census"), b"what?").unwrap();
        }),
        ("one record gone", |dir| {
            let db = sled::open(dir.join("db")).unwrap();
            let (key, _) = db.iter().nth(300).unwrap().unwrap();
            db.remove(key).unwrap();
        }),
    ];
    for (what, damage) in cases {
        let copy = copy(dir.path());
        damage(copy.path());
        for _ in 0..2 {
            // The first refusal has repaired nothing.
            let error = open(copy.path()).unwrap_err();
            assert!(
                matches!(error, StoreError::Refused { .. }),
                "{what}: {error:?}"
            );
            let text = error.to_string();
            for part in [
                "`doorward store restore FILE`",
                "to start with an empty store",
            ] {
                assert!(text.contains(part), "{what}: {text}");
            }
        }
        // The remedy.
        fs::remove_dir_all(copy.path().join("db")).unwrap_or_default();
        fs::remove_file(copy.path().join("census")).unwrap_or_default();
        let store = open(copy.path()).unwrap();
        assert!(store.accounts(None, 9).await.unwrap().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_database_that_has_gone_back_is_found() {
    let (dir, all) = sample().await;
    let old = copy(dir.path());
    let store = open(dir.path()).unwrap();
    put_active(&store, ACCOUNTS).await;
    drop(store);
    let census = fs::read(dir.path().join("census")).unwrap();
    fs::write(old.path().join("census"), census).unwrap();
    let error = open(old.path()).unwrap_err();
    assert!(error.to_string().contains("gone back"), "{error}");
    // The reverse, as after a crash before the copy: a store that is ahead of its copy, or without one, is whole.
    fs::remove_file(old.path().join("census")).unwrap();
    assert!(!assert_found(old.path(), &all, "without a copy").await);
    let census = fs::read(old.path().join("census")).unwrap();
    fs::write(dir.path().join("census"), census).unwrap();
    let store = open(dir.path()).unwrap();
    let accounts = store.accounts(None, usize::MAX).await.unwrap();
    assert_eq!(accounts.len(), all.len() - 2 + 1);
}

#[tokio::test]
async fn records_of_a_newer_gateway_are_refused() {
    let (dir, _) = sample().await;
    let db = sled::open(dir.path().join("db")).unwrap();
    let (key, value) = db.iter().nth(5).unwrap().unwrap();
    let (version, body) = (2, &value[5..]);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(&key);
    hasher.update(body);
    let sum = hasher.finalize().to_le_bytes();
    db.insert(&key, [&[version], &sum[..], body].concat())
        .unwrap();
    drop(db);
    let error = open(dir.path()).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 2, known: 1 }),
        "{error:?}"
    );
}
