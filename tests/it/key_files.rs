//! Lost or altered key files are detected at the start, and replaced only on the operator's command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use doorward::model::account::AccountStatus;
use doorward::store::sled::SledStore;
use doorward::store::{Creation, Store};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::gateway::Gateway;
use crate::harness::people::{Key, Person};
use crate::harness::routes::routes;
use crate::harness::run;
use crate::harness::upstream::Upstream;
use crate::store_contract::fixture;

/// Each key file, and a word from the description of what its replacement voids.
const FILES: [(&str, &str); 6] = [
    ("apikey.key", "every API key"),
    ("assertion.json", "every assertion"),
    ("count.key", "every counter"),
    ("mail.key", "every queued mail"),
    ("refresh.key", "every refresh whose answer was lost"),
    ("signing.json", "every access token"),
];

/// A gateway on disk, and the credentials that depend on its keys.
struct Ground {
    upstream: Upstream,
    gateway: Gateway,
    anna: Person,
    key: Key,
}

impl Ground {
    fn new() -> Self {
        let upstream = Upstream::start();
        let gateway = Gateway::start_on("sled", &routes(&upstream));
        let anna = gateway.person("anna");
        let key = gateway.key(&anna, &["reports:read"]);
        Self {
            upstream,
            gateway,
            anna,
            key,
        }
    }

    fn keys(&self) -> PathBuf {
        self.gateway.dir().join("store/keys")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.keys().join(name)
    }

    /// Expects that everything that depends on the keys works.
    #[track_caller]
    fn is_whole(&self) {
        let gateway = &self.gateway;
        gateway.get_by(&self.key.caller(), "/reports/x").expect(200);
        gateway
            .get_by(&self.anna.caller(), "/protected/x")
            .expect(200);
    }

    fn list(&self) -> Vec<Value> {
        let task = ["keys", "list", "--format", "json"];
        let text = self.gateway.cli(&task, "").done().stdout;
        serde_json::from_str(&text).unwrap()
    }

    fn state(&self, name: &str) -> String {
        let row = self.list().into_iter().find(|row| row["file"] == name);
        row.unwrap()["state"].as_str().unwrap().to_owned()
    }
}

/// Writes a file with this mode.
fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Discards a command's output.
fn unheard(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

#[test]
fn another_key_file_refuses_the_start_until_it_is_put_back() {
    let ground = Ground::new();
    let gateway = &ground.gateway;
    gateway.stop();
    let other = Ground::new();
    other.gateway.stop();
    for (index, (name, _)) in FILES.into_iter().enumerate() {
        let path = ground.path(name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let neighbour = FILES[(index + 1) % FILES.len()].0;
        let cases = [
            ("missing", None),
            ("altered", Some(Vec::new())),
            ("altered", Some(flipped)),
            ("altered", Some(fs::read(ground.path(neighbour)).unwrap())),
            ("altered", Some(fs::read(other.path(name)).unwrap())),
        ];
        for (number, (state, bytes)) in cases.into_iter().enumerate() {
            match &bytes {
                Some(bytes) => put(&path, bytes),
                None => fs::remove_file(&path).unwrap(),
            }
            let refused = ground.gateway.refused_start();
            for part in [name, "doorward store restore", "doorward keys renew"] {
                let said = &refused.stderr;
                assert!(said.contains(part), "{name} {number}: {said}");
            }
            let checked = gateway.cli(&["store", "check"], "").with(1);
            assert!(
                checked.stderr.contains(name),
                "{name} {number}: {checked:?}"
            );
            let found = fs::read(&path).ok();
            assert!(found == bytes, "{name} {number}: it was written");
            if number < 2 {
                assert_eq!(ground.state(name), state, "{name} {number}");
            }
        }
        // Other commands do not create one either.
        for task in [&["account", "list"][..], &["account", "disable", "anna"]] {
            let refused = gateway.cli(task, "").with(1);
            assert!(refused.stderr.contains(name), "{name}: {refused:?}");
        }
        put(&path, &whole);
    }
    assert_eq!(
        gateway
            .cli(&["store", "check"], "")
            .done()
            .value("problems"),
        "0"
    );
    gateway.run();
    ground.is_whole();
}

#[test]
fn lost_key_files_are_renewed_on_the_operators_command() {
    let ground = Ground::new();
    let gateway = &ground.gateway;
    let refused = gateway
        .cli(&["keys", "renew", "apikey.key", "--yes"], "")
        .with(1);
    assert!(refused.stderr.contains("stop it first"), "{refused:?}");
    gateway.stop();
    for (name, voids) in FILES {
        let fitting = gateway.cli(&["keys", "renew", name, "--yes"], "").with(1);
        assert!(fitting.stderr.contains("nothing needs"), "{fitting:?}");
        assert!(fitting.stderr.contains(voids), "{fitting:?}");
    }
    // One is lost, and one is altered.
    let (lost, altered) = (ground.path("apikey.key"), ground.path("signing.json"));
    fs::remove_file(&lost).unwrap();
    put(&altered, b"something");
    for (name, voids) in [FILES[0], FILES[5]] {
        let asked = gateway.cli(&["keys", "renew", name], "").with(1);
        assert!(asked.stderr.contains(voids), "{asked:?}");
        assert!(asked.stderr.contains("--yes"), "{asked:?}");
    }
    assert!(!lost.exists());
    assert_eq!(fs::read(&altered).unwrap(), b"something");
    let made = gateway
        .cli(&["keys", "renew", "apikey.key", "--yes"], "")
        .done();
    assert!(
        made.stderr.contains("\"audit\":\"renew_key_file\""),
        "{made:?}"
    );
    assert!(
        made.stderr.contains("\"object\":\"apikey.key\""),
        "{made:?}"
    );
    assert_eq!(
        made.value("kept_aside"),
        "nothing; there was no file to replace"
    );
    assert_eq!(
        fs::metadata(&lost).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // The other one still prevents the start.
    let refused = ground.gateway.refused_start().stderr;
    assert!(!refused.contains("apikey.key"), "{refused}");
    assert!(refused.contains("signing.json"), "{refused}");
    let made = gateway
        .cli(&["keys", "renew", "signing.json", "--yes"], "")
        .done();
    assert_eq!(fs::read(made.value("kept_aside")).unwrap(), b"something");
    gateway.run();
    gateway
        .get_by(&ground.key.caller(), "/reports/x")
        .expect(401);
    gateway
        .get_by(&ground.anna.caller(), "/protected/x")
        .expect(401);
    // Records that depend on other files still work, and new ones can be created.
    gateway.refresh(&ground.anna.refresh).expect(200);
    let anna = gateway.login("anna");
    let key = gateway.key(&anna, &["reports:read"]);
    gateway.restart();
    gateway.get_by(&key.caller(), "/reports/x").expect(200);
    gateway.get_by(&anna.caller(), "/protected/x").expect(200);
    // With force, a right one is replaced too; the old one is kept.
    gateway.stop();
    let before = fs::read(&lost).unwrap();
    let forced = ["keys", "renew", "apikey.key", "--force", "--yes"];
    let made = gateway.cli(&forced, "").done();
    assert!(fs::read(made.value("kept_aside")).unwrap() == before);
    gateway.run();
    gateway.get_by(&key.caller(), "/reports/x").expect(401);
}

#[test]
fn the_list_shows_the_state_of_each_key_file() {
    let ground = Ground::new();
    let looks = || {
        for (row, (name, _)) in ground.list().iter().zip(FILES) {
            assert_eq!(row["file"], name);
            assert_eq!(row["state"], "fits", "{row}");
            assert_eq!(row["problem"], Value::Null);
            assert!(row["since"].as_str().unwrap().starts_with("20"));
            let count = row
                .get("keys")
                .map_or(0, |keys| keys.as_array().unwrap().len());
            let is_ring = ["assertion.json", "signing.json"].contains(&name);
            assert_eq!(count, if is_ring { 2 } else { 0 }, "{row}");
        }
    };
    looks();
    // A file that others can read is reported, but does not prevent the start.
    let path = ground.path("mail.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let list = ground.gateway.cli(&["keys", "list"], "").done().stdout;
    assert!(list.contains("chmod 600"), "{list}");
    assert!(list.contains("signs=access_token"), "{list}");
    let checked = ground.gateway.cli(&["store", "check"], "").with(1);
    assert!(checked.stderr.contains("mail.key"), "{checked:?}");
    ground.gateway.stop();
    ground.gateway.cli(&["store", "check"], "").with(1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    looks();
    ground.gateway.cli(&["store", "check"], "").done();
}

#[test]
fn no_backup_is_made_with_another_key_file_and_a_restore_brings_its_own() {
    let ground = Ground::new();
    let gateway = &ground.gateway;
    let backup = || gateway.cli(&["store", "backup"], "");
    let file = backup().done().value("file");
    let path = ground.path("apikey.key");
    let whole = fs::read(&path).unwrap();
    put(&path, &[7; 32]);
    let refused = backup().with(1);
    assert!(refused.stderr.contains("apikey.key"), "{refused:?}");
    let names = fs::read_dir(gateway.dir().join("store/backup")).unwrap();
    assert_eq!(names.count(), 1, "the good one is still there");
    gateway.cli(&["store", "export"], "").done();
    // Signing keys of another store are rejected.
    let other = Ground::new();
    other.gateway.stop();
    gateway.cli(&["keys", "rotate"], "").done();
    gateway.stop();
    fs::copy(other.path("signing.json"), ground.path("signing.json")).unwrap();
    let told = gateway.cli(&["store", "restore", &file], "").done();
    let fates = told.value("key_files");
    for fate in [
        "apikey.key (replaced)",
        "signing.json (replaced)",
        "assertion.json (kept)",
    ] {
        assert!(fates.contains(fate), "{fate}: {fates}");
    }
    assert!(fs::read(&path).unwrap() == whole);
    gateway.cli(&["store", "check"], "").done();
    gateway
        .cli(&["store", "check", "--backup", &file], "")
        .done();
    gateway.run();
    gateway.cli(&["apikey", "confirm", "anna"], "").done();
    gateway
        .get_by(&ground.key.caller(), "/reports/x")
        .expect(200);
    gateway.login("anna");
    assert!(ground.list().iter().all(|row| row["state"] == "fits"));
    gateway.restart();
}

#[test]
fn a_store_of_an_older_gateway_accepts_its_present_key_files() {
    let ground = Ground::new();
    ground.gateway.stop();
    // The records of an older gateway, without fingerprints of key files.
    let older = |name: &str| {
        let gateway = Gateway::prepare("sled", &routes(&ground.upstream));
        let dir = gateway.dir().join("store");
        let store = SledStore::open(&dir, std::sync::Arc::default()).unwrap();
        let account = fixture::account(1, AccountStatus::Active);
        assert_eq!(
            run(store.create_account(account)).unwrap(),
            Creation::Created
        );
        drop(store);
        fs::create_dir(dir.join("keys")).unwrap();
        for (file, _) in FILES.into_iter().filter(|(file, _)| *file != name) {
            fs::copy(ground.path(file), dir.join("keys").join(file)).unwrap();
        }
        gateway
    };
    let gateway = older("");
    gateway.run();
    assert!(
        gateway
            .stderr()
            .contains("the fingerprints of the key files")
    );
    gateway.stop();
    let file = gateway.dir().join("store/keys/count.key");
    put(&file, &[7; 32]);
    let refused = gateway.refused_start();
    assert!(refused.stderr.contains("count.key"), "{refused:?}");
    // A file that was lost before is detected as well, and a file that never existed is not missed.
    let gateway = older("apikey.key");
    let path = gateway.dir().join("store/keys/apikey.key");
    let refused = gateway.refused_start();
    assert!(
        refused.stderr.contains("apikey.key is missing"),
        "{refused:?}"
    );
    gateway.cli(&["store", "check"], "").with(1);
    fs::remove_file(gateway.dir().join("store/keys/mail.key")).unwrap();
    gateway
        .cli(&["keys", "renew", "apikey.key", "--yes"], "")
        .done();
    let refused = gateway.refused_start();
    assert!(
        refused.stderr.contains("mail.key is missing"),
        "{refused:?}"
    );
    gateway
        .cli(&["keys", "renew", "mail.key", "--yes"], "")
        .done();
    assert!(path.exists());
    gateway.run();
}

#[test]
fn a_first_start_that_is_cut_short_never_blocks_the_next() {
    let upstream = Upstream::start();
    for pause in (1..=12).map(|round| Duration::from_millis(50 * round)) {
        let gateway = Gateway::prepare("sled", &routes(&upstream));
        let mut command = gateway.command(&["serve"]);
        let mut child = unheard(&mut command).spawn().unwrap();
        std::thread::sleep(pause);
        let _ = child.kill();
        child.wait().unwrap();
        gateway.run();
        gateway.stop();
        gateway.cli(&["store", "check"], "").done();
    }
    // Each state between two steps: the store exists, and some of the files.
    for count in 0..=FILES.len() {
        let whole = Gateway::start_on("sled", &routes(&upstream));
        whole.stop();
        let gateway = Gateway::prepare("sled", &routes(&upstream));
        let dir = gateway.dir().join("store");
        drop(SledStore::open(&dir, std::sync::Arc::default()).unwrap());
        fs::create_dir(dir.join("keys")).unwrap();
        for (name, _) in FILES.into_iter().take(count) {
            fs::copy(
                whole.dir().join("store/keys").join(name),
                dir.join("keys").join(name),
            )
            .unwrap();
        }
        gateway.run();
        gateway.stop();
        gateway.cli(&["store", "check"], "").done();
    }
}

#[test]
fn a_rotation_that_is_cut_short_never_blocks_the_next_start() {
    let ground = Ground::new();
    let gateway = &ground.gateway;
    for round in 0..10 {
        let mut command = gateway.command(&["keys", "rotate"]);
        let mut rotation = unheard(&mut command).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 12 * round));
        gateway.signal(Signal::KILL);
        gateway.wait();
        rotation.wait().unwrap();
        gateway.run();
        assert!(ground.list().iter().all(|row| row["state"] == "fits"));
        gateway.login("anna");
    }
    gateway
        .get_by(&ground.key.caller(), "/reports/x")
        .expect(200);
}
