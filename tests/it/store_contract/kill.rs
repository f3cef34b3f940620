//! sled: killed at any moment, the store opens again and contains everything that was acknowledged.

use std::collections::BTreeSet;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use doorward::store::Store;

use crate::store_contract::at_rest::open;
use crate::store_contract::fixture::{put_active, put_session, session_id, uid};

/// Passes a child its directory and the first number it may use.
const DIR_VARIABLE: &str = "DOORWARD_TEST_KILL_DIR";
const FIRST_VARIABLE: &str = "DOORWARD_TEST_KILL_FIRST";

/// How many numbers one child may use.
const NUMBERS: u32 = 1_000_000;
const TASKS: u32 = 8;

/// Not a test by itself: the children of the next test run it.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the parent tells its children by the environment"
)]
fn child() {
    let Some(dir) = env::var_os(DIR_VARIABLE) else {
        return;
    };
    let first = env::var_os(FIRST_VARIABLE).unwrap();
    let first: u32 = first.to_str().unwrap().parse().unwrap();
    let store: Arc<dyn Store> = Arc::new(open(Path::new(&dir)).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| tokio::spawn(write_for_ever(Arc::clone(&store), first + task)))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn write_for_ever(store: Arc<dyn Store>, first: u32) {
    let tell = |what: &str, number: u32| {
        // The line end distinguishes a truncated line from a whole one.
        writeln!(io::stdout().lock(), "\n{what} {number} acknowledged").unwrap();
    };
    for number in (first..).step_by(TASKS as usize) {
        put_active(&*store, number).await;
        tell("account", number);
        put_session(&*store, number, number).await;
        tell("session", number);
        if ends(number) {
            let ended = store.end_session(&uid(number), &session_id(number)).await;
            assert!(ended.unwrap());
            tell("end", number);
        }
    }
}

/// Whether the session of this number is ended after its creation.
fn ends(number: u32) -> bool {
    (number / TASKS).is_multiple_of(2)
}

/// Lets a child write into `dir` for a while, kills it, and returns the writes it acknowledged.
fn write_and_kill(dir: &Path, first: u32, span: Duration) -> BTreeSet<(String, u32)> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "store_contract::kill::child", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .env(FIRST_VARIABLE, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let listener = thread::spawn(move || {
        let mut heard = BTreeSet::new();
        for text in output.lines() {
            let text = text.unwrap();
            let words: Vec<_> = text.split(' ').collect();
            if let [what, number, "acknowledged"] = words.as_slice() {
                heard.insert(((*what).to_owned(), number.parse().unwrap()));
            }
        }
        heard
    });
    thread::sleep(span);
    child.kill().unwrap();
    child.wait().unwrap();
    listener.join().unwrap()
}

async fn assert_all_there(store: &dyn Store, heard: &BTreeSet<(String, u32)>, what: &str) {
    for (act, number) in heard {
        let session = store.session(&session_id(*number)).await.unwrap();
        let listed = store.sessions_of(&uid(*number)).await.unwrap();
        let holds = match act.as_str() {
            "account" => store.account(&uid(*number)).await.unwrap().is_some(),
            "session" => ends(*number) || (session.is_some() && listed.len() == 1),
            _ => session.is_none() && listed.is_empty(),
        };
        assert!(holds, "{what}: {act} {number} was acknowledged and is lost");
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_and_never_refuses_the_next_start() {
    let random = RandomState::new();
    // The first moments of a first start: each in a directory of its own.
    for round in 0..8_u64 {
        let dir = tempfile::tempdir().unwrap();
        let life = Duration::from_micros(random.hash_one(round) % 60_000);
        let heard = write_and_kill(dir.path(), 0, life);
        let store = open(dir.path()).unwrap();
        assert_all_there(&store, &heard, &format!("first start, {life:?}")).await;
    }
    // Later moments: one after another in the same directory.
    let dir = tempfile::tempdir().unwrap();
    let mut heard = BTreeSet::new();
    for round in 0..12_u32 {
        let life = Duration::from_micros(50_000 + random.hash_one(round) % 500_000);
        heard.append(&mut write_and_kill(dir.path(), round * NUMBERS, life));
        let store = open(dir.path()).unwrap();
        assert_all_there(&store, &heard, &format!("round {round}, {life:?}")).await;
    }
    assert!(!heard.is_empty(), "nothing was ever acknowledged");
}
