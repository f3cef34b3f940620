//! The command line, with and without a running gateway.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::harness::gateway::Gateway;
use crate::harness::now;
use crate::harness::people::{Caller, address_of, password_of};
use crate::harness::routes::{route, routes};
use crate::harness::tokens::part;
use crate::harness::upstream::Upstream;

fn add_task<'a>(username: &'a str, identity: &'a str) -> [&'a str; 9] {
    [
        "account",
        "add",
        username,
        "--identity",
        identity,
        "--name",
        "Operator",
        "--admin",
        "--password-stdin",
    ]
}

#[test]
fn a_fresh_store_has_no_accounts() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let list = gateway.cli(&["account", "list"], "").done();
    assert_eq!(list.stdout, "");
    for name in ["admin", "root", "doorward"] {
        for password in ["admin", "password", "doorward", "changeme"] {
            let body = serde_json::json!({"username": name, "password": password});
            let answer = gateway.post("/auth/login").json(&body).send();
            answer.refused(401, "login_refused");
        }
    }
}

#[test]
fn the_first_administrator_is_made_with_or_without_a_running_gateway() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("sled", &routes(&upstream));
    let ended = gateway
        .cli(
            &add_task("root", "root@example.org"),
            &format!("{}\n", password_of("root")),
        )
        .done();
    assert!(!ended.all().contains(&password_of("root")));
    assert_eq!(ended.value("status"), "active");
    gateway.run();
    let root = gateway.login("root");
    gateway.get_by(&root.caller(), "/auth/accounts").expect(200);
    // While the gateway runs, which sees the change at once.
    gateway
        .cli(
            &add_task("second", "second@example.org"),
            &password_of("second"),
        )
        .done();
    let second = gateway.login("second");
    gateway.get_by(&second.caller(), "/admin/x").expect(200);
    let list = gateway.cli(&["account", "list"], "").done();
    assert!(
        list.stdout.contains("username=root") && list.stdout.contains("username=second"),
        "{}",
        list.stdout
    );
    assert!(!list.stdout.contains("argon2"));
    for name in ["root", "root@example.org", &root.uid, &root.account_id] {
        assert_eq!(
            gateway
                .cli(&["account", "show", name], "")
                .done()
                .value("uid"),
            root.uid,
            "{name}"
        );
    }
    assert_eq!(gateway.stop().code(), Some(0));
    assert_eq!(
        gateway
            .cli(&["account", "show", "second"], "")
            .done()
            .value("uid"),
        second.uid
    );
}

#[test]
fn a_refused_command_exits_with_1_and_a_reason_without_the_secret() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    gateway.person("anna");
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (
            add_task("anna", "other@example.org").to_vec(),
            "entirely New 7 words",
        ),
        (
            add_task("other", "anna@example.org").to_vec(),
            "entirely New 7 words",
        ),
        (
            add_task("u-12345678", "x@example.org").to_vec(),
            "entirely New 7 words",
        ),
        (
            add_task("other", "no-address").to_vec(),
            "entirely New 7 words",
        ),
        (add_task("other", "x@example.org").to_vec(), "short"),
        (add_task("other", "x@example.org").to_vec(), ""),
        (vec!["account", "set-password", "anna"], "short"),
        (
            vec!["account", "set-password", "nobody"],
            "entirely New 7 words",
        ),
        (vec!["account", "disable", "nobody"], ""),
        (
            vec!["apikey", "create", "anna", "--scope", "unknown:scope"],
            "",
        ),
        (
            vec!["apikey", "create", "anna", "--scope", "auth:admin"],
            "",
        ),
        (
            vec![
                "apikey",
                "create",
                "anna",
                "--expires",
                "2001-01-01T00:00:00Z",
            ],
            "",
        ),
        (vec!["apikey", "revoke", "anna", "00000000"], ""),
        (vec!["member", "set", "anna", "list", "42", "emperor"], ""),
        (vec!["member", "set", "anna", "unknown", "42", "member"], ""),
        (vec!["member", "set", "anna", "list", "a b", "member"], ""),
        (vec!["member", "remove", "anna", "list", "42"], ""),
        (
            vec!["explain", "GET", "/protected/x", "--as", "u-nobody000"],
            "",
        ),
    ];
    for (task, stdin) in cases {
        let ended = gateway.cli(&task, stdin);
        assert!(matches!(ended.code, Some(1 | 3)), "{task:?}: {ended:?}");
        assert!(
            !ended.stderr.is_empty() || ended.code == Some(3),
            "{task:?} says nothing"
        );
        assert!(
            stdin.is_empty() || stdin == "short" || !ended.all().contains(stdin),
            "{task:?}: {}",
            ended.all()
        );
    }
    assert_eq!(gateway.cli(&["account", "nonsense"], "").code, Some(2));
}

#[test]
fn passwords_and_statuses_set_by_the_operator_count_at_once() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    gateway.get_by(&anna.caller(), "/protected/x").expect(200);
    let new = password_of("newer");
    gateway.secret(&new);
    let ended = gateway
        .cli(&["account", "set-password", "anna"], &format!("{new}\n"))
        .done();
    assert!(!ended.all().contains(&new));
    gateway
        .get_by(&anna.caller(), "/protected/x")
        .refused_as(401);
    let answer = gateway.try_login("anna", &new).expect(200);
    gateway.cli(&["account", "disable", "anna"], "").done();
    gateway
        .get("/protected/x")
        .bearer(&answer.member("jwt_token"))
        .send()
        .refused_as(401);
    gateway.try_login("anna", &new).refused_as(401);
    gateway.cli(&["account", "enable", "anna"], "").done();
    gateway.try_login("anna", &new).expect(200);
}

#[test]
fn keys_and_memberships_of_the_operator_work() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    gateway.person("anna");
    let task = [
        "apikey",
        "create",
        "anna",
        "--name",
        "backup",
        "--scope",
        "reports:read",
        "--expires",
        "2999-01-01T00:00:00Z",
    ];
    let ended = gateway.cli(&task, "").done();
    let (id, key) = (ended.value("id"), ended.value("apikey"));
    gateway.secret(&key);
    gateway
        .get("/reports/x")
        .by(&Caller::Key(key.clone()))
        .send()
        .expect(200);
    let list = gateway.cli(&["apikey", "list", "anna"], "").done();
    assert!(
        list.stdout.contains(&id) && !list.stdout.contains(&key),
        "{}",
        list.stdout
    );
    gateway.cli(&["apikey", "revoke", "anna", &id], "").done();
    gateway
        .get("/reports/x")
        .by(&Caller::Key(key))
        .send()
        .refused_as(401);
    gateway.member("anna", "4-2", "member");
    assert!(
        gateway
            .cli(&["member", "list", "list", "4-2"], "")
            .done()
            .stdout
            .contains("member")
    );
}

#[test]
fn the_socket_and_the_keys_are_their_owners_alone() {
    let upstream = Upstream::start();
    for engine in ["sled", "memory"] {
        let gateway = Gateway::start_on(engine, &routes(&upstream));
        let mode = |name: &str| {
            std::fs::metadata(gateway.dir().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode("store/admin.sock"), 0o600, "{engine}");
        assert_eq!(mode("store"), 0o700, "{engine}");
        if engine == "sled" {
            let mut dirs = vec![gateway.dir().join("store")];
            while let Some(dir) = dirs.pop() {
                for entry in std::fs::read_dir(dir).unwrap() {
                    let entry = entry.unwrap();
                    let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                    assert_eq!(mode & 0o077, 0, "{:?} is open to others", entry.path());
                    if entry.file_type().unwrap().is_dir() {
                        dirs.push(entry.path());
                    }
                }
            }
        }
        gateway.stop();
        assert!(
            !gateway.dir().join("store/admin.sock").exists(),
            "{engine}: a socket that nobody serves"
        );
        gateway.run();
    }
}

#[test]
fn keys_rotate_without_a_gap() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let anna = gateway.person("anna");
    let published = || {
        let json = gateway
            .get("/.well-known/jwks.json")
            .send()
            .expect(200)
            .json();
        let keys = json["keys"].as_array().unwrap().clone();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = published();
    let kid = |jwt: &str| part(jwt, 0)["kid"].as_str().unwrap().to_owned();
    assert!(before.contains(&kid(&anna.jwt)));
    gateway.cli(&["keys", "rotate"], "").done();
    let later = gateway.login("anna");
    assert_ne!(kid(&later.jwt), kid(&anna.jwt));
    assert!(
        before.contains(&kid(&later.jwt)),
        "a key signs that was not published before"
    );
    assert!(
        published().contains(&kid(&anna.jwt)),
        "a key is gone while its tokens live"
    );
    for _ in 0..2 {
        for person in [&anna, &later] {
            gateway.get_by(&person.caller(), "/protected/x").expect(200);
        }
        gateway.restart();
    }
    let list = gateway.cli(&["keys", "list"], "").done();
    assert!(list.stdout.contains(&kid(&later.jwt)), "{}", list.stdout);
}

#[test]
fn explain_shows_the_decision_of_the_gateway() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "{}{}",
        routes(&upstream),
        route("/hosted/**", "\"public\"")
    ));
    let anna = gateway.person("anna");
    gateway.member("anna", "42", "member");
    let key = gateway.key(&anna, &[]);
    let ended = gateway.login("anna");
    gateway
        .post("/auth/logout")
        .bearer(&ended.jwt)
        .send()
        .expect(204);
    let cases: Vec<(&str, Vec<&str>, i32, &str)> = vec![
        ("/public/x", vec![], 0, "allow"),
        ("http://any.test/public/x?y", vec![], 0, "allow"),
        ("/protected/x", vec![], 3, "deny credential_missing"),
        ("/protected/x", vec!["--token", &anna.jwt], 0, "allow"),
        (
            "/protected/x",
            vec!["--token", &ended.jwt],
            3,
            "deny session_ended",
        ),
        (
            "/protected/x",
            vec!["--token", "nonsense"],
            3,
            "deny bearer_invalid",
        ),
        ("/protected/x", vec!["--apikey", &key.text], 0, "allow"),
        (
            "/protected/x",
            vec!["--apikey", "nonsense"],
            3,
            "deny api_key_invalid",
        ),
        ("/member/42/x", vec!["--as", &anna.uid], 0, "allow"),
        (
            "/member/43/x",
            vec!["--as", &anna.uid],
            3,
            "deny role_missing",
        ),
        (
            "/reports/x",
            vec!["--apikey", &key.text],
            3,
            "deny scope_missing",
        ),
        ("/nowhere", vec!["--as", &anna.uid], 3, "deny no_route"),
        (
            "/protected/x",
            vec!["--as", "u-nobody000"],
            3,
            "deny session_ended",
        ),
        ("/public/../protected/x", vec![], 3, "deny path_refused"),
    ];
    for (url, caller, code, first) in cases {
        let task = [vec!["explain", "GET", url], caller].concat();
        let ended = gateway.cli(&task, "");
        assert_eq!(
            (ended.code, ended.stdout.lines().next()),
            (Some(code), Some(first)),
            "{task:?}: {}",
            ended.all()
        );
        assert!(
            !ended.all().contains(&anna.jwt) && !ended.all().contains(&key.text),
            "{task:?} shows a credential"
        );
    }
    let ended = gateway
        .cli(
            &["explain", "GET", "/member/42/x", "--token", "-"],
            &anna.jwt,
        )
        .done();
    assert!(
        ended.stdout.contains(&anna.uid) && ended.stdout.contains("list-42-member"),
        "{}",
        ended.stdout
    );
    assert_eq!(upstream.count(), 0, "explaining sends nothing");
    assert_eq!(
        gateway
            .cli(
                &["explain", "GET", "/x", "--token", "a", "--apikey", "b"],
                ""
            )
            .code,
        Some(2)
    );
}

#[test]
fn a_second_server_on_the_same_store_fails_clearly_and_harms_nobody() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let anna = gateway.person("anna");
    let other = Gateway::prepare(
        "sled",
        &format!(
            "[store]\npath = \"{}\"\n{}",
            gateway.dir().join("store").display(),
            routes(&upstream)
        ),
    );
    let output = other.command(&["serve"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("another") || text.contains("in use") || text.contains("lock"),
        "not clear: {text}"
    );
    gateway.get_by(&anna.caller(), "/protected/x").expect(200);
    gateway.cli(&["account", "list"], "").done();
    gateway.restart();
    gateway.login("anna");
}

#[test]
fn check_reports_all_problems_and_no_values() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("memory", &routes(&upstream));
    gateway.cli(&["check"], "").done();
    gateway.cli(&["check", "--strict"], "").done();
    gateway.configure(&format!(
        "[listen]\naddress = \"nonsense-value\"\nadmin_token = \"a secret with spaces\"\nunknwon = 1\n[store]\nengin = \"sled\"\n[tokens]\naccess_ttl_s = -5\n{}",
        routes(&upstream)
    ));
    let ended = gateway.cli(&["check"], "").with(1);
    for place in [
        "listen.address",
        "unknwon",
        "store.engin",
        "tokens.access_ttl_s",
    ] {
        assert!(
            ended.stderr.contains(place),
            "{place} is missing: {}",
            ended.stderr
        );
    }
    assert!(
        !ended.all().contains("a secret with spaces"),
        "{}",
        ended.all()
    );
    gateway.write_config("[listen\naddress = \"a-secret-value-1\"");
    let ended = gateway.cli(&["check"], "").with(1);
    assert!(!ended.all().contains("a-secret-value-1"), "{}", ended.all());
    std::fs::remove_file(gateway.config()).unwrap();
    gateway.cli(&["check"], "").with(1);
    // A configuration that every user can write is not read.
    gateway.configure(&routes(&upstream));
    std::fs::set_permissions(gateway.config(), std::fs::Permissions::from_mode(0o666)).unwrap();
    gateway.cli(&["check"], "").with(1);
}

#[test]
fn records_in_memory_do_not_exist_without_their_gateway() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("memory", &routes(&upstream));
    // An account that would be removed at once must not be reported as created.
    gateway
        .cli(&add_task("root", &address_of("root")), &password_of("root"))
        .with(1);
    gateway.cli(&["keys", "rotate"], "").with(1);
    gateway.cli(&["explain", "GET", "/public/x"], "").done();
}

#[test]
fn silent_peers_on_the_socket_keep_no_command_waiting() {
    let gateway = Gateway::start("");
    let socket = gateway.dir().join("store/admin.sock");
    let silent: Vec<_> = (0..20)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    for _ in 0..2 {
        let start = now();
        gateway.cli(&["account", "list"], "").done();
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    drop(silent);
}

#[test]
fn a_pending_account_is_found_and_said_to_be_pending() {
    let gateway = Gateway::start("");
    let identity = ["--identity", "zed@example.org", "--name", "Zed"];
    let added = gateway.cli(&[&["account", "add", "zed"][..], &identity].concat(), "");
    assert!(
        added.stdout.contains("sent to zed@example.org"),
        "{}",
        added.all()
    );
    let uid = added.value("uid");
    for name in ["zed", "zed@example.org", &uid] {
        for task in [
            vec!["member", "set", name, "list", "1", "member"],
            vec!["apikey", "create", name, "--name", "test"],
            vec!["account", "disable", name],
        ] {
            let ended = gateway.cli(&task, "");
            assert_eq!(ended.code, Some(1), "{task:?}: {}", ended.all());
            assert!(ended.stderr.contains("is pending"), "{}", ended.all());
        }
        let explained = gateway.cli(&["explain", "GET", "/x", "--as", name], "");
        assert!(
            !explained.stderr.contains("no such account"),
            "{}",
            explained.all()
        );
    }
    let twice = gateway.cli(&[&["account", "add", "zed"][..], &identity].concat(), "");
    assert_eq!(twice.code, Some(0), "{}", twice.all());
    let shown = gateway.cli(&["account", "show", "zed"], "");
    assert!(
        shown.stderr.contains("name one by its uid"),
        "{}",
        shown.all()
    );
}
