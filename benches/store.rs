//! Durable writes to the embedded store: `logins/1` and `logins/32` write sessions from this many tasks at once, each
//! acknowledged only when it is on disk. `items/s` is writes per second, on the disk that holds `target`.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use doorward::model::account::{
    Account, AccountStatus, Digest, EmailAddress, PersonName, Session, Username,
};
use doorward::model::clock::Timestamp;
use doorward::model::field::CheckedField as _;
use doorward::model::id::{AccountId, SessionId, SettingsId, UserId};
use doorward::store::sled::SledStore;
use doorward::store::{Creation, Guarded, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Number of writes per sample, whatever the number of writers.
const WRITES: u64 = 1024;
const ACCOUNTS: u64 = 1000;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 32], sample_count = 20, sample_size = 1)]
fn logins(bencher: Bencher<'_, '_>, writers: u64) {
    let (runtime, dir, store) = filled();
    let next = Arc::new(AtomicU64::new(0));
    bencher.counter(ItemsCount::new(WRITES)).bench_local(|| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|_| {
                    tokio::spawn(write(
                        Arc::clone(&store),
                        Arc::clone(&next),
                        WRITES / writers,
                    ))
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
    drop((store, dir));
}

#[divan::bench(sample_count = 20, sample_size = 1000)]
fn read_account(bencher: Bencher<'_, '_>) {
    let (runtime, dir, store) = filled();
    let uid = uid(7);
    bencher.bench_local(|| runtime.block_on(store.account(&uid)).unwrap());
    drop((store, dir));
}

fn filled() -> (Runtime, TempDir, Arc<dyn Store>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    // Not in the system's temporary directory, which may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(dir.path(), Arc::default()).unwrap());
    runtime.block_on(async {
        for number in 0..ACCOUNTS {
            let created = store.create_account(account(number)).await;
            assert_eq!(created.unwrap(), Creation::Created);
        }
    });
    (runtime, dir, store)
}

async fn write(store: Arc<dyn Store>, next: Arc<AtomicU64>, count: u64) {
    for _ in 0..count {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let written = store.create_session(session(number), 0, None).await;
        assert_eq!(written.unwrap(), Guarded::Done(()));
    }
}

fn uid(number: u64) -> UserId {
    UserId::parse(&format!("u-{number:08}")).unwrap()
}

fn account(number: u64) -> Account {
    let username = format!("name{number}");
    Account {
        uid: uid(number),
        account_id: AccountId::parse(&format!("a-{number:08}")).unwrap(),
        identity: EmailAddress::parse(&format!("{username}@example.org")).unwrap(),
        username: Username::parse(&username).unwrap(),
        name: PersonName::check(username).unwrap(),
        status: AccountStatus::Active,
        is_admin: false,
        roles: Vec::new(),
        settings_id: SettingsId::parse(&format!("set-{number:08}")).unwrap(),
        password_must_change: false,
        password: None,
        generation: 0,
        level_changes: 0,
        created: Timestamp::from_secs(1),
    }
}

fn session(number: u64) -> Session {
    let at = Timestamp::from_secs(1);
    Session {
        id: SessionId::parse(&format!("s-{number:08}")).unwrap(),
        uid: uid(number % ACCOUNTS),
        created: at,
        last_seen: at,
        from: "192.0.2.1".to_owned(),
        idle_end: at,
        absolute_end: at,
        refresh: Digest([7; 32]),
        spent: Vec::new(),
        rotated: at,
        cookies: None,
    }
}
