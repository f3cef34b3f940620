//! The store that a command works on, the owner of the files it creates there, and its messages about both.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::cli::Ended;
use crate::harness::free_port;
use crate::harness::gateway::{BINARY, Gateway};
use crate::harness::people::password_of;
use crate::harness::routes::routes;
use crate::harness::tokens::Signer;
use crate::harness::upstream::Upstream;

/// A user and group id that exists on no machine.
const STRANGER: u32 = 42_424;

const ADD: [&str; 9] = [
    "account",
    "add",
    "root",
    "--identity",
    "root@example.org",
    "--name",
    "Root",
    "--admin",
    "--password-stdin",
];

/// Every command that reads and writes nothing.
const READS: [&[&str]; 7] = [
    &["account", "list"],
    &["account", "show", "root"],
    &["apikey", "list", "root"],
    &["member", "list", "list", "42"],
    &["keys", "list"],
    &["store", "check"],
    &["store", "export"],
];

/// A directory with a configuration in `conf/`, and another one as working directory.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["conf", "elsewhere"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        // Other users can enter, as they can enter /etc/doorward.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let ground = Self { dir };
        let text = format!(
            "[listen]\naddress = \"127.0.0.1:{}\"\nadmin_address = \"127.0.0.1:{}\"\n\
            [account]\nhash_threads = 1\n[[upstream]]\nname = \"a\"\naddresses = [\"127.0.0.1:9\"]\n\
            [[route]]\npath = \"/public/**\"\nupstream = \"a\"\nrequire = \"public\"\n",
            free_port(),
            free_port()
        );
        std::fs::write(ground.at("conf/doorward.toml"), text).unwrap();
        ground
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Returns a command in a directory, with this complete environment.
    fn command(&self, cwd: &str, env: &[(&str, &str)], task: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.envs(env.iter().copied());
        command.current_dir(self.at(cwd)).args(task);
        command
    }

    fn run(&self, cwd: &str, env: &[(&str, &str)], config: &str, task: &[&str]) -> Ended {
        let task = [task, &["--config", config]].concat();
        ended(&mut self.command(cwd, env, &task), &password_of("root"))
    }

    /// Returns all files and directories below, by their paths; except the engine's snapshots, each of which replaces
    /// the previous one.
    fn tree(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                }
                if !entry.file_name().to_string_lossy().starts_with("snap.") {
                    found.insert(entry.path());
                }
            }
        }
        found
    }
}

fn ended(command: &mut Command, stdin: &str) -> Ended {
    use std::io::Write;
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn mode_of(dir: &Path) -> u32 {
    std::fs::metadata(dir).unwrap().permissions().mode() & 0o7777
}

/// Creates a directory that every user can enter.
fn open_directory(dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn one_store_wherever_the_command_runs() {
    let ground = Ground::new();
    let store = ground.at("conf/data/doorward");
    let made = ground
        .run("elsewhere", &[], "../conf/doorward.toml", &ADD)
        .done();
    let said = format!("store {}: created and opened", store.display());
    assert!(made.stderr.contains(&said), "{}", made.stderr);
    assert!(
        made.stderr.contains("no gateway is running"),
        "{}",
        made.stderr
    );
    assert!(store.join("db").is_dir());
    let whole = ground.at("conf/doorward.toml").display().to_string();
    for (cwd, config) in [
        (".", "conf/doorward.toml"),
        ("conf", "doorward.toml"),
        ("elsewhere", whole.as_str()),
    ] {
        let list = ground.run(cwd, &[], config, &["account", "list"]).done();
        assert!(
            list.stdout.contains("username=root"),
            "{cwd}: {}",
            list.all()
        );
        assert!(
            !list.stderr.contains("store "),
            "a reading command has nothing to say: {}",
            list.stderr
        );
    }
    let again = ground
        .run(
            ".",
            &[],
            "conf/doorward.toml",
            &["account", "disable", "root"],
        )
        .done();
    let said = format!("store {}: opened; no gateway is running", store.display());
    assert!(again.stderr.contains(&said), "{}", again.stderr);
    assert_eq!(
        std::fs::read_dir(ground.at("elsewhere")).unwrap().count(),
        0
    );
}

#[test]
fn every_relative_path_begins_at_the_file_or_at_the_state_directory() {
    let ground = Ground::new();
    // Paths from the environment, and systemd's directory.
    ground
        .run(
            ".",
            &[("DOORWARD__STORE__PATH", "other")],
            "conf/doorward.toml",
            &ADD,
        )
        .done();
    assert!(ground.at("conf/other/db").is_dir());
    let state = ground.at("elsewhere/state").display().to_string();
    let mail = [
        ("STATE_DIRECTORY", state.as_str()),
        ("DOORWARD__STORE__PATH", "mine"),
    ];
    let invited = &ADD[..7];
    ground.run(".", &mail, "conf/doorward.toml", invited).done();
    assert!(ground.at("elsewhere/state/mine/db").is_dir());
    assert!(ground.at("elsewhere/state/data/mail").is_dir());
    let key = ground.at("conf/keys.json");
    std::fs::write(
        &key,
        serde_json::json!({ "keys": [Signer::es256().jwk("k")] }).to_string(),
    )
    .unwrap();
    let issuer =
        "[[issuer]]\nname = \"a\"\nissuer = \"a\"\naudience = [\"a\"]\njwks_file = \"keys.json\"\n";
    std::fs::write(ground.at("conf/with-issuer.toml"), issuer).unwrap();
    ground
        .run("elsewhere", &[], "../conf/with-issuer.toml", &["check"])
        .done();
    std::fs::remove_file(key).unwrap();
    let lacking = ground
        .run("elsewhere", &[], "../conf/with-issuer.toml", &["check"])
        .with(1);
    let hint = format!(
        "relative paths are resolved against {}",
        ground.at("conf").display()
    );
    assert!(lacking.stderr.contains(&hint), "{}", lacking.stderr);
}

#[test]
fn commands_that_read_make_nothing() {
    let ground = Ground::new();
    let config = "conf/doorward.toml";
    let bare = ground.tree();
    let store = ground.at("conf/data/doorward").display().to_string();
    let no_change: [&[&str]; 3] = [
        &["account", "disable", "root"],
        &["keys", "rotate"],
        &["store", "backup"],
    ];
    for task in READS.into_iter().chain(no_change) {
        let ended = ground.run(".", &[], config, task).with(1);
        assert!(
            ended.stderr.contains(&format!("no store in {store}")),
            "{task:?}: {}",
            ended.stderr
        );
        assert_eq!(ground.tree(), bare, "{task:?}");
    }
    for engine in ["sled", "memory"] {
        let env = [("DOORWARD__STORE__ENGINE", engine)];
        let ended = ground
            .run(".", &env, config, &["explain", "GET", "/public/x"])
            .done();
        assert_eq!(
            ended.stderr.contains(&store),
            engine == "sled",
            "{}",
            ended.stderr
        );
        ground
            .run(".", &env, config, &["token", "verify", "a.b.c"])
            .with(3);
        assert_eq!(ground.tree(), bare, "{engine}");
    }
    ground.run(".", &[], config, &ADD).done();
    let whole = ground.tree();
    for task in READS {
        ground.run(".", &[], config, task).done();
        assert_eq!(ground.tree(), whole, "{task:?}");
    }
    ground
        .run(".", &[], config, &["explain", "GET", "/public/x"])
        .done();
    assert_eq!(ground.tree(), whole);
    // A lost key is reported, not replaced.
    std::fs::remove_file(ground.at("conf/data/doorward/keys/apikey.key")).unwrap();
    let ended = ground.run(".", &[], config, &["account", "list"]).with(1);
    assert!(ended.stderr.contains("apikey.key"), "{}", ended.stderr);
    assert!(!ground.at("conf/data/doorward/keys/apikey.key").exists());
}

#[test]
fn a_store_is_made_only_where_that_is_allowed() {
    let ground = Ground::new();
    let config = "conf/doorward.toml";
    let never = [("DOORWARD__STORE__CREATE", "never")];
    let store = ground.at("conf/data/doorward").display().to_string();
    let before = ground.tree();
    let tasks: [&[&str]; 3] = [&["serve"], &["check"], &ADD];
    for task in tasks {
        let ended = ground.run(".", &never, config, task).with(1);
        for part in [store.as_str(), "store.create", "doorward store restore"] {
            assert!(ended.stderr.contains(part), "{task:?}: {}", ended.stderr);
        }
        assert_eq!(ground.tree(), before, "{task:?}");
    }
    ground.run(".", &[], config, &ADD).done();
    for task in [&["check"][..], &["account", "list"]] {
        ground.run(".", &never, config, task).done();
    }
}

#[test]
fn the_start_logs_which_store_it_has_opened() {
    let upstream = Upstream::start();
    let routes = routes(&upstream);
    let gateway = Gateway::start_on("sled", &routes);
    let store = gateway.dir().join("store");
    let says = |line: &str| {
        let said = gateway.stderr();
        said.lines().filter(|it| it.contains(line)).count()
    };
    let made = "an empty one was created";
    assert_eq!(says(made), 1);
    let opened = format!("store opened path={} engine=\"sled\"", store.display());
    assert_eq!(says(&opened), 1, "{}", gateway.stderr());
    assert_eq!(says("accounts=0"), 1, "{}", gateway.stderr());
    gateway.person("anna");
    gateway.configure(&format!("[store]\ncreate = \"never\"\n{routes}"));
    gateway.restart();
    assert_eq!((says(made), says(&opened), says("accounts=1")), (1, 2, 1));
    assert_eq!(says("made=\"20"), 2, "{}", gateway.stderr());
    gateway.stop();
    // A volume that is not mounted.
    let away = gateway.dir().join("away");
    std::fs::rename(&store, &away).unwrap();
    std::fs::create_dir(&store).unwrap();
    let refused = gateway.refused_start();
    assert!(refused.stderr.contains("store.create"), "{refused:?}");
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0);
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    gateway.run();
    gateway.login("anna");
}

#[test]
fn a_store_that_was_left_at_the_old_place_is_named_and_no_second_one_begun() {
    let ground = Ground::new();
    let old = ground.at("data/doorward").display().to_string();
    let by_name = [("DOORWARD__STORE__PATH", old.as_str())];
    ground.run(".", &by_name, "conf/doorward.toml", &ADD).done();
    let before = ground.tree();
    let new = ground.at("conf/data/doorward").display().to_string();
    let tasks: [&[&str]; 5] = [
        &["serve"],
        &["check"],
        &ADD,
        &["account", "list"],
        &["explain", "GET", "/public/x"],
    ];
    for task in tasks {
        let ended = ground.run(".", &[], "conf/doorward.toml", task).with(1);
        for place in [&old, &new] {
            assert!(ended.stderr.contains(place), "{task:?}: {}", ended.stderr);
        }
        assert_eq!(ground.tree(), before, "{task:?}");
    }
    // Elsewhere this command cannot know of it; if both places have a store, the configuration counts.
    std::fs::create_dir_all(ground.at("conf/data")).unwrap();
    std::fs::rename(ground.at("data/doorward"), ground.at("conf/data/doorward")).unwrap();
    ground
        .run(".", &[], "conf/doorward.toml", &["account", "list"])
        .done();
}

#[test]
fn files_are_made_as_the_owner_of_the_directory_or_not_at_all() {
    let ground = Ground::new();
    let config = "conf/doorward.toml";
    if !is_root() {
        // A directory of root is refused, and nothing is attempted there.
        let env = [("DOORWARD__STORE__PATH", "/usr")];
        for task in [&ADD[..], &["account", "list"]] {
            let ended = ground.run(".", &env, config, task).with(1);
            assert!(ended.stderr.contains("belongs to root"), "{}", ended.stderr);
            assert!(ended.stderr.contains("sudo -u root"), "{}", ended.stderr);
        }
        return;
    }
    let data = ground.at("conf/data");
    std::fs::create_dir(&data).unwrap();
    chown(&data, Some(STRANGER), Some(STRANGER)).unwrap();
    let made = ground.run(".", &[], config, &ADD).done();
    assert!(
        made.stderr.contains(&format!("as uid {STRANGER}")),
        "{}",
        made.stderr
    );
    for task in READS
        .into_iter()
        .chain([&["keys", "rotate"] as &[&str], &["store", "backup"]])
    {
        ground.run(".", &[], config, task).done();
        owned_by(&data, STRANGER);
    }
    let export = ground.at("elsewhere/records.jsonl").display().to_string();
    ground
        .run(".", &[], config, &["store", "export", "--to", &export])
        .done();
    owned_by(&data, STRANGER);
    // Other users get a message with the owner.
    let as_user = |uid: u32, task: &[&str]| {
        let task = [task, &["--config", config]].concat();
        let mut command = ground.command(".", &[], &task);
        ended(command.uid(uid).gid(uid), "")
    };
    for task in [
        &["account", "list"] as &[&str],
        &["keys", "rotate"],
        &["store", "check"],
        &["serve"],
    ] {
        let ended = as_user(STRANGER + 1, task).with(1);
        let said = format!("sudo -u '#{STRANGER}'");
        assert!(ended.stderr.contains(&said), "{task:?}: {}", ended.stderr);
    }
    as_user(STRANGER, &["account", "list"]).done();
    // A file that an older command left behind as root's is reported with the remedy.
    let key = ground.at("conf/data/doorward/keys/mail.key");
    chown(&key, Some(0), Some(0)).unwrap();
    for task in [&["account", "list"] as &[&str], &["serve"]] {
        let ended = as_user(STRANGER, task).with(1);
        let remedy = format!("chown -R {STRANGER}:{STRANGER}");
        for part in [key.to_str().unwrap(), remedy.as_str()] {
            assert!(ended.stderr.contains(part), "{task:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_directory_of_other_files_is_neither_changed_nor_used() {
    let ground = Ground::new();
    let config = "conf/doorward.toml";
    let other = ground.at("elsewhere/etc");
    open_directory(&other);
    std::fs::write(other.join("passwd"), "").unwrap();
    let before = ground.tree();
    let path = other.display().to_string();
    let tasks: [&[&str]; 4] = [&ADD, &["serve"], &["check"], &["account", "list"]];
    for task in tasks {
        let env = [("DOORWARD__STORE__PATH", path.as_str())];
        let ended = ground.run(".", &env, config, task).with(1);
        for part in [
            path.as_str(),
            "contains other files",
            "passwd",
            "store.path",
        ] {
            assert!(ended.stderr.contains(part), "{task:?}: {}", ended.stderr);
        }
        assert_eq!(ground.tree(), before, "{task:?}");
        assert_eq!(mode_of(&other), 0o755, "{task:?}");
    }
    let env = [
        ("DOORWARD__STORE__PATH", path.as_str()),
        ("DOORWARD__STORE__ENGINE", "memory"),
    ];
    let ended = ground.run(".", &env, config, &["serve"]).with(1);
    assert!(
        ended.stderr.contains("contains other files"),
        "{}",
        ended.stderr
    );
    assert_eq!(mode_of(&other), 0o755);
    // An empty directory counts as no store, and so does one whose records were moved away.
    let empty = ground.at("elsewhere/empty");
    open_directory(&empty);
    let path = empty.display().to_string();
    let env = [("DOORWARD__STORE__PATH", path.as_str())];
    ground.run(".", &env, config, &ADD).done();
    assert_eq!(mode_of(&empty), 0o700);
    std::fs::rename(empty.join("db"), ground.at("elsewhere/db")).unwrap();
    std::fs::remove_file(empty.join("census")).unwrap();
    let again = ground.run(".", &env, config, &ADD).done();
    assert!(
        again.stderr.contains("created and opened"),
        "{}",
        again.stderr
    );
    // Files of others next to a store do not prevent its use.
    std::fs::write(empty.join("note"), "").unwrap();
    ground.run(".", &env, config, &["account", "list"]).done();
}

#[test]
fn root_follows_no_link_that_another_user_may_have_planted() {
    let ground = Ground::new();
    let config = "conf/doorward.toml";
    let target = ground.at("elsewhere/target");
    open_directory(&target);
    let link = ground.at("elsewhere/link");
    symlink(&target, &link).unwrap();
    let run = |path: &Path| {
        let path = path.display().to_string();
        let env = [("DOORWARD__STORE__PATH", path.as_str())];
        ground.run(".", &env, config, &ADD)
    };
    if !is_root() {
        run(&link).done();
        return;
    }
    let dangling = ground.at("elsewhere/dangling");
    symlink(ground.at("elsewhere/nothing"), &dangling).unwrap();
    let way = ground.at("elsewhere/way");
    symlink(&target, &way).unwrap();
    lchown(&way, Some(STRANGER), Some(STRANGER)).unwrap();
    let before = ground.tree();
    for (path, named) in [
        (link.clone(), &link),
        // With a trailing slash.
        (link.join(""), &link),
        (dangling.clone(), &dangling),
        (way.join("store"), &way),
    ] {
        let ended = run(&path).with(1);
        let said = format!("{} is a symbolic link", named.display());
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
        assert_eq!(ground.tree(), before, "{}", path.display());
        assert_eq!(mode_of(&target), 0o755, "{}", path.display());
    }
    // A link of root's on the way is part of the machine's layout.
    run(&link.join("store")).done();
    assert!(target.join("store/db").is_dir());
}

#[test]
fn no_second_store_is_begun_while_a_gateway_answers() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let other = gateway.dir().join("other");
    let add = || {
        let mut command = gateway.command(&ADD);
        ended(
            command.env("DOORWARD__STORE__PATH", &other),
            &password_of("root"),
        )
    };
    let refused = add().with(1);
    let admin = gateway.admin.to_string();
    let place = other.display().to_string();
    for part in [admin.as_str(), place.as_str(), "STATE_DIRECTORY=/var/lib/"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(!other.exists());
    assert!(gateway.stop().success());
    add().done();
    assert!(other.join("db").is_dir());
}

#[test]
fn no_store_is_begun_while_something_has_the_gateways_first_address() {
    let ground = Ground::new();
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let env = [("DOORWARD__LISTEN__ADDRESS", address.as_str())];
    let before = ground.tree();
    let refused = ground.run(".", &env, "conf/doorward.toml", &ADD).with(1);
    assert!(refused.stderr.contains(&address), "{}", refused.stderr);
    assert_eq!(ground.tree(), before);
    drop(listener);
    ground.run(".", &env, "conf/doorward.toml", &ADD).done();
    // An existing store is used whatever listens.
    let _listener = TcpListener::bind(&address).unwrap();
    ground
        .run(
            ".",
            &env,
            "conf/doorward.toml",
            &["account", "disable", "root"],
        )
        .done();
}

#[track_caller]
fn owned_by(dir: &Path, uid: u32) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        assert_eq!(metadata.uid(), uid, "{}", path.display());
        if metadata.is_dir() {
            owned_by(&path, uid);
        }
    }
}

#[test]
fn the_holder_of_the_store_is_named() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let made = gateway.cli(&ADD, &password_of("root")).done();
    let said = format!(
        "store {}: through the running gateway",
        gateway.dir().join("store").display()
    );
    assert!(made.stderr.contains(&said), "{}", made.stderr);
    let list = gateway.cli(&["account", "list"], "").done();
    assert_eq!(list.stderr, "", "a reading command has nothing to say");
    // Another process on the same store, which finds no socket, reports its holder.
    std::fs::rename(
        gateway.dir().join("store/admin.sock"),
        gateway.dir().join("hidden"),
    )
    .unwrap();
    let pid = std::fs::read_to_string(gateway.dir().join("store/lock")).unwrap();
    let ended = gateway.cli(&["store", "check"], "").with(1);
    assert!(
        ended.stderr.contains(&format!("pid {}", pid.trim())),
        "{}",
        ended.stderr
    );
    std::fs::rename(
        gateway.dir().join("hidden"),
        gateway.dir().join("store/admin.sock"),
    )
    .unwrap();
}

#[test]
fn a_missing_configuration_is_reported_with_its_path() {
    let ground = Ground::new();
    let looked = ground
        .at("elsewhere/config/doorward.toml")
        .display()
        .to_string();
    for task in [&["serve"] as &[&str], &["check"], &["account", "list"]] {
        let ended = ended(&mut ground.command("elsewhere", &[], task), "").with(1);
        assert!(ended.stderr.contains(&looked), "{}", ended.stderr);
        assert!(ended.stderr.contains("--config"), "{}", ended.stderr);
    }
    // If the environment contains everything, an empty file is enough.
    std::fs::write(ground.at("elsewhere/empty.toml"), "").unwrap();
    let env = [
        ("DOORWARD__STORE__ENGINE", "memory"),
        ("DOORWARD__LISTEN__ADDRESS", "127.0.0.1:7"),
    ];
    let ended = ground
        .run("elsewhere", &env, "empty.toml", &["check"])
        .done();
    assert!(ended.stdout.contains("can be used"), "{}", ended.all());
}
