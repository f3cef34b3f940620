//! Backups of the real binary: made under load, restored, interrupted, refused.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use doorward::model::account::{AccountStatus, PasswordHash};
use doorward::store::ImportedPerson;
use doorward::store::sled::SledStore;
use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::people::{Caller, Key, password_of};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;
use crate::harness::wait_for;
use crate::store_contract::fixture;

/// Enough for a backup and a restore to take some tens of milliseconds.
const PEOPLE: u32 = 2000;

fn gateway(extra: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &format!("{extra}{}", routes(&upstream)));
    (upstream, gateway)
}

/// Returns the names in the backup directory.
fn names(gateway: &Gateway) -> Vec<String> {
    let entries = std::fs::read_dir(place(gateway)).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn is_partial(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|it| it == "part")
}

fn place(gateway: &Gateway) -> PathBuf {
    gateway.dir().join("store/backup")
}

fn backup(gateway: &Gateway) -> PathBuf {
    PathBuf::from(gateway.cli(&["store", "backup"], "").done().value("file"))
}

fn restore(gateway: &Gateway, file: &Path) -> crate::harness::cli::Ended {
    gateway.cli(&["store", "restore", file.to_str().unwrap()], "")
}

/// Fills the store of a stopped gateway with many accounts.
fn fill(gateway: &Gateway) {
    let people = (1..=PEOPLE).map(|number| ImportedPerson {
        place: number as usize,
        account: doorward::model::account::Account {
            password: Some(PasswordHash::new(
                "$5$rounds=5000$secretsalt$hashhash".to_owned(),
            )),
            ..fixture::account(number, AccountStatus::Active)
        },
        keys: vec![fixture::api_key(number, number)],
        memberships: vec![fixture::membership("42", "member")],
    });
    let people = people.collect();
    let store = SledStore::open(&gateway.dir().join("store"), std::sync::Arc::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(fixture::import(&store, people));
}

#[test]
fn a_backup_under_load_holds_all_that_was_acknowledged_before() {
    let (_upstream, gateway) = gateway("");
    let people: Vec<_> = (0..4)
        .map(|n| gateway.person(&format!("anna{n}")))
        .collect();
    let made: Mutex<Vec<Key>> = Mutex::default();
    let is_over = AtomicBool::new(false);
    let (file, before) = std::thread::scope(|scope| {
        for person in &people {
            let (gateway, made, is_over) = (&gateway, &made, &is_over);
            scope.spawn(move || {
                for _ in 0..45 {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let key = gateway.key(person, &["reports:read"]);
                    made.lock().unwrap().push(key);
                }
            });
        }
        wait_for("some keys", || {
            (12 < made.lock().unwrap().len()).then_some(())
        });
        let before = made.lock().unwrap().clone();
        let file = backup(&gateway);
        is_over.store(true, Ordering::SeqCst);
        (file, before)
    });
    let reset = gateway.forgot("anna0");
    let anna = &people[0];
    gateway.stop();
    let told = restore(&gateway, &file).done();
    for (name, value) in [("accounts", "4"), ("sessions_ended", "4")] {
        assert_eq!(told.value(name), value, "{told:?}");
    }
    assert!(told.value("missing_from") < told.value("missing_to"));
    assert!(told.value("missing_writes").parse::<u64>().unwrap() != 0);
    assert!(
        told.stderr
            .contains("Passwords, statuses and memberships are those of the backup")
    );
    assert!(
        told.stderr.contains("\"audit\":\"restore_store\""),
        "{told:?}"
    );
    gateway.run();
    // Sessions, tokens and keys do not become active again.
    gateway
        .get_by(&anna.caller(), "/protected/x")
        .refused(401, "session_ended");
    gateway.refresh(&anna.refresh).expect(400);
    gateway
        .set_password(&reset, &password_of("newer"))
        .refused(400, "token_invalid");
    for key in &before {
        gateway
            .get_by(&key.caller(), "/reports/x")
            .refused(401, "api_key_invalid");
    }
    // But all of the keys are listed, waiting for confirmation.
    for number in 0..4 {
        gateway
            .cli(&["apikey", "confirm", &format!("anna{number}")], "")
            .done();
    }
    for key in &before {
        gateway.get_by(&key.caller(), "/reports/x").expect(200);
    }
    gateway.login("anna0");
}

/// Expects that the operator sees that a key is suspended.
#[track_caller]
fn is_explained(gateway: &Gateway, key: &Key) {
    let task = ["explain", "GET", "/reports/x", "--apikey", &key.text];
    let explained = gateway.cli(&task, "");
    let said = format!(
        "doorward apikey confirm ACCOUNT reactivates it; key {}",
        key.id
    );
    assert!(explained.stdout.contains(&said), "{}", explained.all());
}

#[test]
fn a_suspended_key_is_confirmed_by_its_owner_or_an_administrator() {
    let (_upstream, gateway) = gateway("");
    let anna = gateway.person("anna");
    gateway.administrator("root");
    let keys: Vec<_> = (0..4)
        .map(|_| gateway.key(&anna, &["reports:read"]))
        .collect();
    let file = backup(&gateway);
    gateway.stop();
    assert_eq!(
        restore(&gateway, &file).done().value("apikeys_suspended"),
        "4"
    );
    gateway.run();
    let (login, admin) = (
        gateway.login("anna").caller(),
        gateway.login("root").caller(),
    );
    let list = gateway.get_by(&login, "/auth/apikeys").expect(200).json();
    let items = list["items"].as_array().unwrap();
    assert!(
        items.iter().all(|item| item["suspended"] == json!(true)),
        "{list}"
    );
    assert_eq!(items.len(), 4);
    let status = |key: &Key| gateway.get_by(&key.caller(), "/reports/x").status;
    let confirm = |caller: &Caller, key: &Key, body: &Value| {
        let target = format!("/auth/apikeys/{}", key.id);
        gateway
            .request("PATCH", &target)
            .by(caller)
            .json(body)
            .send()
    };
    // A suspended key cannot confirm itself, and its refusal does not reveal that it exists.
    confirm(&keys[0].caller(), &keys[0], &json!({"suspended": false})).refused_as(401);
    is_explained(&gateway, &keys[0]);
    let asked = gateway
        .post("/auth/introspect")
        .by(&login)
        .form(&[("token", keys[0].text.as_str())])
        .send()
        .expect(200);
    assert_eq!(asked.json(), json!({"active": false}));
    let shown = confirm(&login, &keys[0], &json!({"suspended": false})).expect(200);
    assert_eq!(shown.json()["suspended"], json!(false));
    assert_eq!(
        keys.iter().map(status).collect::<Vec<_>>(),
        [200, 401, 401, 401]
    );
    gateway
        .cli(&["apikey", "confirm", "anna", &keys[1].id], "")
        .done();
    assert_eq!(
        keys.iter().map(status).collect::<Vec<_>>(),
        [200, 200, 401, 401]
    );
    // An administrator cannot confirm a single key of another account, only all of its keys.
    confirm(&admin, &keys[2], &json!({"suspended": false})).refused(404, "not_found");
    let target = format!("/auth/accounts/{}", anna.account_id);
    let change = |value| {
        let body = json!({"apikeys_suspended": value});
        gateway
            .request("PATCH", &target)
            .by(&admin)
            .json(&body)
            .send()
            .expect(200);
    };
    change(false);
    assert_eq!(keys.iter().map(status).collect::<Vec<_>>(), [200; 4]);
    change(true);
    assert_eq!(keys.iter().map(status).collect::<Vec<_>>(), [401; 4]);
}

#[test]
fn a_kill_in_the_middle_of_a_backup_leaves_whole_ones_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    gateway.stop();
    fill(&gateway);
    gateway.run();
    let mut cut = 0;
    for round in 0..10_u64 {
        let mut command = gateway.command(&["store", "backup"]);
        let mut child = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let before = names(&gateway).len();
        // From its first byte on, and somewhat later each time.
        wait_for("a backup that has begun", || {
            let has_begun = names(&gateway).iter().any(|name| is_partial(name));
            (has_begun || before < names(&gateway).len()).then_some(())
        });
        std::thread::sleep(Duration::from_millis(7 * round));
        gateway.kill();
        child.wait().unwrap();
        cut += usize::from(names(&gateway).iter().any(|name| is_partial(name)));
        for name in names(&gateway) {
            if name.ends_with(".backup") {
                let file = place(&gateway).join(name);
                let task = ["store", "check", "--backup", file.to_str().unwrap()];
                gateway.cli(&task, "").done();
            }
        }
        gateway.run();
    }
    assert!(0 < cut, "no backup was cut short");
    let file = backup(&gateway);
    let left = names(&gateway);
    assert!(
        left.iter().all(|name| name.ends_with(".backup")),
        "{left:?}"
    );
    gateway.cli(&["store", "check"], "").done();
    assert!(file.exists());
}

#[test]
fn a_kill_in_the_middle_of_a_restore_is_mended_by_another() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    gateway.stop();
    fill(&gateway);
    let file = backup(&gateway);
    let safe = gateway.dir().join("safe.backup");
    std::fs::rename(&file, &safe).unwrap();
    let total = gateway.cli(&["store", "check"], "").done().value("records");
    let start = crate::harness::now();
    restore(&gateway, &safe).done();
    let took = start.elapsed();
    let mut cut = 0;
    for round in 1..=8 {
        let mut command = gateway.command(&["store", "restore", safe.to_str().unwrap()]);
        let mut child = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(took * round / 8);
        let _ = child.kill();
        cut += usize::from(!child.wait().unwrap().success());
        // Complete, or refused, but never something else.
        let checked = gateway.cli(&["store", "check"], "");
        let listed = gateway.cli(&["account", "list"], "");
        if listed.code == Some(0) {
            assert_eq!(listed.stdout.lines().count(), PEOPLE as usize);
            assert_eq!(checked.value("records"), total);
        } else {
            assert!(
                listed.stderr.contains("doorward store restore"),
                "{listed:?}"
            );
            restore(&gateway, &safe).done();
            assert_eq!(
                gateway.cli(&["store", "check"], "").done().value("records"),
                total
            );
        }
    }
    assert!(0 < cut, "no restore was cut short");
    gateway.run();
}

#[test]
fn a_lost_directory_comes_back_with_its_keys() {
    let (_upstream, gateway) = gateway("");
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &["reports:read"]);
    let elsewhere = gateway.dir().join("safe");
    std::fs::create_dir(&elsewhere).unwrap();
    let told = gateway
        .cli(
            &["store", "backup", "--to", elsewhere.to_str().unwrap()],
            "",
        )
        .done();
    let file = PathBuf::from(told.value("file"));
    assert_eq!(file.parent(), Some(elsewhere.as_path()));
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // An existing backup is never overwritten.
    let again = gateway
        .cli(&["store", "backup", "--to", file.to_str().unwrap()], "")
        .with(1);
    assert!(again.stderr.contains("already exists"), "{again:?}");
    // Not next to a running gateway.
    let refused = restore(&gateway, &file).with(1);
    assert!(refused.stderr.contains("stop it first"), "{refused:?}");
    gateway.get_by(&key.caller(), "/reports/x").expect(200);
    gateway.stop();
    std::fs::remove_dir_all(gateway.dir().join("store")).unwrap();
    let told = restore(&gateway, &file).done();
    assert!(
        told.value("key_files").contains("signing.json (restored)"),
        "{told:?}"
    );
    assert!(
        told.value("key_files")
            .contains("assertion.json (restored)"),
        "{told:?}"
    );
    assert_eq!(
        told.value("kept_aside"),
        "nothing; there was no file to replace"
    );
    gateway.run();
    gateway.login("anna");
    gateway.cli(&["apikey", "confirm", "anna"], "").done();
    gateway.get_by(&key.caller(), "/reports/x").expect(200);
    // Signing keys that were rotated since then are not reverted.
    gateway.cli(&["keys", "rotate"], "").done();
    let ring = gateway.dir().join("store/keys/signing.json");
    let rotated = std::fs::read(&ring).unwrap();
    gateway.stop();
    let told = restore(&gateway, &file).done();
    assert!(
        told.value("key_files").contains("signing.json (kept)"),
        "{told:?}"
    );
    assert!(
        !told
            .value("key_files")
            .contains("assertion.json (replaced)")
    );
    assert!(std::fs::read(&ring).unwrap() == rotated);
    gateway.run();
    gateway.login("anna");
}

#[test]
fn a_damaged_store_is_reported_and_restored() {
    let (_upstream, gateway) = gateway("");
    gateway.person("anna");
    let file = backup(&gateway);
    let told = gateway.cli(&["store", "check"], "").done();
    assert_eq!(told.value("problems"), "0");
    gateway.stop();
    gateway.cli(&["store", "check"], "").done();
    let db = gateway.dir().join("store/db/db");
    let mut bytes = std::fs::read(&db).unwrap();
    let place = bytes.windows(4).position(|it| it == b"anna").unwrap();
    bytes[place] ^= 1;
    std::fs::write(&db, &bytes).unwrap();
    let told = gateway.cli(&["store", "check"], "").with(1);
    assert!(told.stderr.contains("with problems"), "{told:?}");
    assert!(
        std::fs::read(&db).unwrap() == bytes,
        "the check has written"
    );
    let refused = gateway.cli(&["account", "list"], "").with(1);
    assert!(
        refused.stderr.contains("doorward store restore"),
        "{refused:?}"
    );
    // The engine may have written when it was opened.
    let bytes = std::fs::read(&db).unwrap();
    // Damaged backups change nothing.
    let whole = std::fs::read(&file).unwrap();
    let bad = gateway.dir().join("bad.backup");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for (bytes, why) in [
        (&flipped[..], "damaged"),
        (&whole[..whole.len() - 9], "truncated"),
        (b"something else", "is not a backup"),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        let bad = bad.to_str().unwrap();
        for task in [
            &["store", "restore", bad][..],
            &["store", "check", "--backup", bad],
        ] {
            let refused = gateway.cli(task, "").with(1);
            assert!(refused.stderr.contains(why), "{why}: {refused:?}");
        }
        assert!(!gateway.dir().join("store/restore.new").exists());
    }
    assert!(
        std::fs::read(&db).unwrap() == bytes,
        "a refused restore has written"
    );
    let told = restore(&gateway, &file).done();
    let kept = PathBuf::from(told.value("kept_aside"));
    assert!(std::fs::read(kept.join("db/db")).unwrap() == bytes);
    gateway.run();
    gateway.login("anna");
}

#[test]
fn backups_are_automatic_and_their_failure_affects_no_request() {
    let (_upstream, gateway) = gateway("[store]\nbackup_every_s = 1\nbackup_keep = 2\n");
    let anna = gateway.person("anna");
    let metric = |name: &str| {
        let answer = gateway.admin_get("/metrics");
        let text = answer.text();
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let first = wait_for("a backup", || {
        names(&gateway)
            .into_iter()
            .find(|name| name.ends_with(".backup"))
    });
    wait_for("the first one to go", || {
        let names = names(&gateway);
        assert!(
            names.iter().filter(|it| it.ends_with(".backup")).count() <= 3,
            "{names:?}"
        );
        (!names.contains(&first)).then_some(())
    });
    assert!(metric("doorward_backup_last_success_timestamp_seconds") != 0);
    assert_eq!(metric("doorward_backup_errors_total"), 0);
    // No space left for another one.
    std::fs::remove_dir_all(place(&gateway)).unwrap();
    std::fs::write(place(&gateway), "in the way").unwrap();
    wait_for("a backup that fails", || {
        (metric("doorward_backup_errors_total") != 0).then_some(())
    });
    // Another thread writes the log.
    wait_for("a line about it", || {
        let line = "the backup failed";
        gateway.stderr().contains(line).then_some(())
    });
    assert_eq!(gateway.readiness().unwrap().status, 200);
    gateway.get_by(&anna.caller(), "/protected/x").expect(200);
    gateway.key(&anna, &[]);
    std::fs::remove_file(place(&gateway)).unwrap();
    wait_for("another backup", || {
        names(&gateway)
            .iter()
            .any(|name| name.ends_with(".backup"))
            .then_some(())
    });
}

#[test]
fn an_export_holds_everything_but_secrets() {
    let (_upstream, gateway) =
        gateway("[mail]\ntransport = \"sendmail\"\nsendmail_command = \"/bin/false\"\n");
    let root = gateway.administrator("root");
    let key = gateway.key(&root, &["reports:read"]);
    gateway.member("root", "42", "member");
    let body = json!({"identity": "new@example.org", "username": "new", "name": "N"});
    gateway
        .post("/auth/register")
        .json(&body)
        .send()
        .expect(202);
    let running = gateway.cli(&["store", "export"], "").done();
    assert!(
        !names(&gateway)
            .iter()
            .any(|name| name.starts_with("export")),
        "the copy is left"
    );
    let to = gateway.dir().join("records.jsonl");
    gateway.stop();
    gateway
        .cli(&["store", "export", "--to", to.to_str().unwrap()], "")
        .done();
    assert_eq!(
        std::fs::metadata(&to).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = gateway
        .cli(&["store", "export", "--to", to.to_str().unwrap()], "")
        .with(1);
    assert!(again.stderr.contains("already exists"), "{again:?}");
    for text in [running.stdout, std::fs::read_to_string(&to).unwrap()] {
        let lines: Vec<Value> = text
            .lines()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        assert_eq!(lines[0]["kind"], "doorward_export");
        assert_eq!(lines[0]["version"], 1);
        let of = |kind: &'static str| lines.iter().filter(move |line| line["kind"] == kind);
        for (kind, count) in [
            ("account", 2),
            ("apikey", 1),
            ("session", 1),
            ("membership", 1),
            ("one_time_token", 1),
            ("mail", 1),
        ] {
            assert_eq!(of(kind).count(), count, "{kind}: {text}");
        }
        assert!(of("account").any(|it| it["username"] == "root" && it["password"] == "argon2id"));
        let secrets = [&key.text[9..], &root.password, &root.jwt, &root.refresh];
        for secret in
            secrets
                .into_iter()
                .chain(["$argon2", "\"digest\"", "\"sealed\"", "\"refresh\""])
        {
            assert!(!text.contains(secret), "a secret in {text}");
        }
    }
    gateway.run();
}

#[test]
fn records_in_memory_have_nothing_to_save() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for task in [
        &["store", "backup"][..],
        &["store", "check"],
        &["store", "export"],
    ] {
        let refused = gateway.cli(task, "").with(1);
        assert!(refused.stderr.contains("memory"), "{task:?}: {refused:?}");
    }
}
