//! API keys as a whole: changed, rotated, limited to networks, rates and resources, with the time of their last use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{Caller, Key, Person};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;
use crate::harness::wait_for;

/// The test sends as a trusted proxy would.
const TRUSTED: &str = "[listen]\ntrusted_proxies = [\"127.0.0.1/32\"]\n";

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    (upstream, gateway)
}

impl Gateway {
    #[track_caller]
    fn key_with(&self, owner: &Person, body: &Value) -> Key {
        let answer = self
            .post("/auth/apikeys")
            .by(&owner.caller())
            .json(body)
            .send()
            .expect(201);
        let key = Key {
            id: answer.member("id"),
            text: answer.member("apikey"),
        };
        self.secret(&key.text);
        key
    }

    fn patch(&self, owner: &Caller, key: &Key, body: &Value) -> Response {
        self.request("PATCH", &format!("/auth/apikeys/{}", key.id))
            .by(owner)
            .json(body)
            .send()
    }

    #[track_caller]
    fn rotate(&self, owner: &Person, key: &Key, body: &Value) -> Key {
        let target = format!("/auth/apikeys/{}/rotate", key.id);
        let answer = self
            .post(&target)
            .by(&owner.caller())
            .json(body)
            .send()
            .expect(200);
        assert_eq!(answer.member("id"), key.id);
        let text = answer.member("apikey");
        self.secret(&text);
        Key {
            id: key.id.clone(),
            text,
        }
    }

    fn status_of(&self, path: &str, key: &Key) -> u16 {
        self.get(path).by(&key.caller()).send().status
    }
}

#[test]
fn a_changed_key_applies_to_the_next_request() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &["reports:read"]);
    assert_eq!(gateway.status_of("/reports/x", &key), 200);
    let changed = gateway
        .patch(
            &anna.caller(),
            &key,
            &json!({"name": "nightly", "scopes": []}),
        )
        .expect(200);
    assert_eq!(
        (changed.member("name").as_str(), &changed.json()["scopes"]),
        ("nightly", &json!([]))
    );
    assert!(changed.json().get("apikey").is_none());
    assert_eq!(gateway.status_of("/reports/x", &key), 403);
    gateway
        .patch(
            &anna.caller(),
            &key,
            &json!({"scopes": ["reports:read", "reports:write"]}),
        )
        .expect(200);
    gateway
        .get("/reports/x")
        .by(&key.caller())
        .send()
        .expect(200);
    assert_eq!(
        upstream.last().header("x-auth-scopes"),
        Some("reports:read reports:write")
    );

    let terms = json!({
        "expires": "2999-01-01T00:00:00Z", "allow_from": ["127.0.0.9", "127.0.0.0/8"], "rate_per_minute": 600,
        "resources": [{"resource": "list", "id": "42", "level": "member"}],
    });
    let changed = gateway
        .patch(&anna.caller(), &key, &terms)
        .expect(200)
        .json();
    assert_eq!(
        changed["allow_from"],
        json!(["127.0.0.0/8", "127.0.0.9/32"])
    );
    assert_eq!(
        (&changed["rate_per_minute"], &changed["name"]),
        (&json!(600), &json!("nightly"))
    );
    assert_eq!(changed["resources"], terms["resources"]);
    // Omitted members stay unchanged, and null removes.
    let nothing =
        json!({"expires": null, "allow_from": null, "rate_per_minute": null, "resources": null});
    gateway.patch(&anna.caller(), &key, &json!({})).expect(200);
    let changed = gateway
        .patch(&anna.caller(), &key, &nothing)
        .expect(200)
        .json();
    for member in ["expires", "allow_from", "rate_per_minute", "resources"] {
        assert_eq!(changed[member], Value::Null, "{member}");
    }
    let shown = gateway
        .get(&format!("/auth/apikeys/{}", key.id))
        .by(&anna.caller())
        .send()
        .expect(200)
        .json();
    assert_eq!(
        (&shown["name"], &shown["scopes"]),
        (&json!("nightly"), &json!(["reports:read", "reports:write"]))
    );
}

#[test]
fn a_note_is_shown_to_the_owner_and_to_no_upstream() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let note = json!({"scopes": ["reports:read"], "note": "for the backups"});
    let key = gateway.key_with(&anna, &note);
    let shown = || {
        let path = format!("/auth/apikeys/{}", key.id);
        let answer = gateway.get(&path).by(&anna.caller()).send();
        answer.expect(200).json()["note"].clone()
    };
    assert_eq!(shown(), note["note"]);
    let called = gateway.get("/reports/x").by(&key.caller()).send();
    called.expect(200);
    let has_note = |(_, value): &(String, String)| value.contains("backups");
    assert!(!upstream.last().headers.iter().any(has_note));
    for (change, expected) in [
        (json!({"name": "other"}), &note["note"]),
        (json!({"note": "moved"}), &json!("moved")),
        (json!({"note": null}), &Value::Null),
    ] {
        gateway.patch(&anna.caller(), &key, &change).expect(200);
        assert_eq!(shown(), *expected, "{change}");
    }
}

#[test]
fn a_change_keeps_all_rules_and_changes_nothing_when_refused() {
    let (_upstream, gateway) = gateway();
    let (anna, root) = (gateway.person("anna"), gateway.administrator("root"));
    let key = gateway.key(&anna, &["reports:read"]);
    let cases = [
        (json!({"scopes": ["auth:admin"]}), 403),
        (json!({"scopes": ["unknown:x"]}), 422),
        (json!({"name": "x".repeat(65)}), 422),
        (json!({"expires": "2001-01-01T00:00:00Z"}), 422),
        (json!({"expires": "soon"}), 422),
        (json!({"allow_from": []}), 422),
        (json!({"allow_from": ["nowhere"]}), 422),
        (json!({"allow_from": ["::ffff:127.0.0.1"]}), 422),
        (json!({"rate_per_minute": 0}), 422),
        (json!({"note": "x".repeat(201)}), 422),
        (json!({"note": 7}), 400),
        (json!({"rate_per_minute": 100_001}), 422),
        (json!({"rate_per_minute": -1}), 400),
        (json!({"rate_per_minute": "9"}), 400),
        (
            json!({"resources": [{"resource": "event", "id": "1", "level": "member"}]}),
            422,
        ),
        (
            json!({"resources": [{"resource": "list", "id": "1", "level": "public"}]}),
            422,
        ),
        (json!({"resources": [{"resource": "list", "id": "1"}]}), 400),
        (json!({"uid": root.uid}), 400),
        (json!({"digest": "x"}), 400),
        (json!([]), 400),
    ];
    for (body, status) in cases {
        gateway
            .patch(&anna.caller(), &key, &body)
            .refused_as(status);
        if body.is_object() && body.get("digest").is_none() && body.get("uid").is_none() {
            gateway
                .post("/auth/apikeys")
                .by(&anna.caller())
                .json(&body)
                .send()
                .refused_as(status);
        }
    }
    assert_eq!(gateway.status_of("/reports/x", &key), 200);
}

#[test]
fn a_key_is_changed_by_a_login_of_its_owner_only() {
    let (_upstream, gateway) = gateway();
    let (anna, ben, root) = (
        gateway.person("anna"),
        gateway.person("ben"),
        gateway.administrator("root"),
    );
    let key = gateway.key(&anna, &["reports:read"]);
    for stranger in [ben.caller(), root.caller()] {
        gateway
            .patch(&stranger, &key, &json!({"name": "mine"}))
            .refused(404, "not_found");
        gateway
            .post(&format!("/auth/apikeys/{}/rotate", key.id))
            .by(&stranger)
            .json(&json!({}))
            .send()
            .refused(404, "not_found");
    }
    gateway
        .patch(&key.caller(), &key, &json!({"name": "own"}))
        .refused(403, "login_needed");
    gateway
        .patch(&Caller::Anonymous, &key, &json!({}))
        .refused(401, "credential_missing");
    // Administration cannot be limited, so a key with limits cannot administrate.
    let limits = json!({"scopes": ["auth:admin"], "resources": []});
    gateway
        .post("/auth/apikeys")
        .by(&root.caller())
        .json(&limits)
        .send()
        .refused(422, "value_invalid");
    let strong = gateway.key(&root, &["auth:admin"]);
    gateway
        .patch(&root.caller(), &strong, &json!({"resources": []}))
        .refused(422, "value_invalid");
    assert_eq!(
        (
            gateway.status_of("/reports/x", &key),
            gateway.status_of("/admin/x", &strong)
        ),
        (200, 200)
    );
}

#[test]
fn a_rotation_shows_the_new_secret_once_and_keeps_the_old_for_the_overlap() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let first = gateway.key(&anna, &[]);
    assert_eq!(gateway.status_of("/protected/x", &first), 200);
    // Without a body it is an hour.
    let answer = gateway
        .post(&format!("/auth/apikeys/{}/rotate", first.id))
        .by(&anna.caller())
        .send()
        .expect(200);
    let second = Key {
        id: first.id.clone(),
        text: answer.member("apikey"),
    };
    gateway.secret(&second.text);
    assert_ne!(first.text, second.text);
    for key in [&first, &second, &first] {
        assert_eq!(gateway.status_of("/protected/x", key), 200);
        assert_eq!(
            upstream.last().header("x-auth-key-id"),
            Some(first.id.as_str())
        );
    }
    let shown = gateway
        .get(&format!("/auth/apikeys/{}", first.id))
        .by(&anna.caller())
        .send()
        .expect(200);
    assert!(!shown.member("overlap_until").is_empty() && shown.json().get("apikey").is_none());
    // Another rotation voids the secret before the last one, and an overlap of zero voids the last one.
    let third = gateway.rotate(&anna, &second, &json!({"overlap_s": 86_400}));
    let statuses = [&first, &second, &third].map(|key| gateway.status_of("/protected/x", key));
    assert_eq!(statuses, [401, 200, 200]);
    let fourth = gateway.rotate(&anna, &third, &json!({"overlap_s": 0}));
    let statuses = [&second, &third, &fourth].map(|key| gateway.status_of("/protected/x", key));
    assert_eq!(statuses, [401, 401, 200]);
    let fifth = gateway.rotate(&anna, &fourth, &json!({"overlap_s": 1}));
    wait_for("the end of the overlap", || {
        (gateway.status_of("/protected/x", &fourth) == 401).then_some(())
    });
    assert_eq!(gateway.status_of("/protected/x", &fifth), 200);
    let target = format!("/auth/apikeys/{}/rotate", first.id);
    for body in [
        json!({"overlap_s": 86_401}),
        json!({"overlap_s": -1}),
        json!({"overlap_s": "1"}),
        json!({"x": 1}),
    ] {
        let status = gateway
            .post(&target)
            .by(&anna.caller())
            .json(&body)
            .send()
            .status;
        assert!(matches!(status, 400 | 422), "{body}: {status}");
    }
    gateway
        .post(&target)
        .by(&fifth.caller())
        .json(&json!({}))
        .send()
        .refused(403, "login_needed");
    assert_eq!(gateway.status_of("/protected/x", &fifth), 200);
}

#[test]
fn a_key_is_good_from_its_networks_only_warm_or_not() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("{TRUSTED}{}", routes(&upstream)));
    let anna = gateway.person("anna");
    let body = json!({"allow_from": ["192.0.2.0/24", "2001:db8::/32"]});
    let (key, free) = (gateway.key_with(&anna, &body), gateway.key(&anna, &[]));
    let from = |address: &str, path: &str, key: &Key| {
        gateway
            .get(path)
            .by(&key.caller())
            .header("X-Forwarded-For", address)
            .send()
    };
    let unknown = from(
        "192.0.2.7",
        "/protected/x",
        &Key {
            id: String::new(),
            text: format!("{}x", key.text),
        },
    )
    .neutral();
    for _ in 0..3 {
        for path in ["/protected/x", "/auth/me", "/optional/x"] {
            for good in [
                "192.0.2.7",
                "2001:db8::9",
                "::ffff:192.0.2.8",
                "6.6.6.6, 192.0.2.9",
            ] {
                from(good, path, &key).expect(200);
            }
            for bad in [
                "192.0.3.7",
                "127.0.0.1",
                "2001:db9::1",
                "192.0.2.7, 192.0.3.7",
            ] {
                let refused = from(bad, path, &key);
                refused.refused(401, "api_key_invalid");
                if path == "/protected/x" {
                    assert_eq!(refused.neutral(), unknown, "{bad}");
                }
                from(bad, path, &free).expect(200);
            }
        }
    }
}

#[test]
fn introspection_of_a_key_checks_the_network_of_the_asker() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("{TRUSTED}{}", routes(&upstream)));
    let anna = gateway.person("anna");
    let key = gateway.key_with(&anna, &json!({"allow_from": ["192.0.2.0/24"]}));
    let from = |address: &str| {
        let request = gateway.get("/protected/x").by(&key.caller());
        request.header("X-Forwarded-For", address).send()
    };
    let ask = |address: &str| {
        let request = gateway
            .post("/auth/introspect")
            .by(&anna.caller())
            .header("X-Forwarded-For", address);
        request
            .form(&[("token", &key.text)])
            .send()
            .expect(200)
            .json()["active"]
            .clone()
    };
    assert_eq!(
        (ask("192.0.2.7"), ask("192.0.3.7")),
        (json!(true), json!(false))
    );
    // The operator gets the same answer, and asking consumes nothing.
    let explain = ["explain", "GET", "/protected/x", "--apikey", "-"];
    gateway.cli(&explain, &key.text).with(3);
    gateway
        .cli(
            &[&explain[..], &["--from", "192.0.2.1"]].concat(),
            &key.text,
        )
        .done();
    gateway
        .patch(
            &anna.caller(),
            &key,
            &json!({"allow_from": ["192.0.3.0/24"]}),
        )
        .expect(200);
    from("192.0.2.7").refused(401, "api_key_invalid");
    from("192.0.3.7").expect(200);
}

#[test]
fn a_key_passes_no_more_often_than_its_rate() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let (key, other) = (
        gateway.key_with(&anna, &json!({"rate_per_minute": 5})),
        gateway.key(&anna, &[]),
    );
    for _ in 0..7 {
        gateway
            .cli(
                &["explain", "GET", "/protected/x", "--apikey", "-"],
                &key.text,
            )
            .done();
    }
    let paths = [
        "/protected/x",
        "/auth/me",
        "/protected/y",
        "/auth/roles",
        "/optional/x",
    ];
    for path in paths {
        gateway.get(path).by(&key.caller()).send().expect(200);
    }
    let before = upstream.count();
    for path in paths {
        let refused = gateway.get(path).by(&key.caller()).send();
        refused.refused(429, "rate_limited");
        let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=12).contains(&wait), "{wait}");
    }
    assert_eq!(upstream.count(), before);
    gateway
        .get("/public/x")
        .by(&key.caller())
        .send()
        .expect(200);
    assert_eq!(gateway.status_of("/protected/x", &other), 200);
    // Another secret of the same key does not bypass the limit, and a changed limit applies at once.
    let newer = gateway.rotate(&anna, &key, &json!({}));
    assert_eq!(gateway.status_of("/protected/x", &newer), 429);
    gateway
        .patch(&anna.caller(), &key, &json!({"rate_per_minute": null}))
        .expect(200);
    assert_eq!(
        (
            gateway.status_of("/protected/x", &key),
            gateway.status_of("/protected/x", &newer)
        ),
        (200, 200)
    );
    let body = gateway.admin_get("/metrics");
    assert!(
        body.text()
            .contains("doorward_refusals_total{reason=\"rate_limited\"} "),
        "{}",
        body.text()
    );
}

#[test]
fn a_key_with_resources_has_those_and_never_more_than_its_owner() {
    let (upstream, gateway) = gateway();
    let root = gateway.administrator("root");
    gateway.member("root", "42", "manager");
    gateway.member("root", "43", "manager");
    let body = json!({"scopes": ["auth:members"], "resources": [limit("42", "member"), limit("44", "secret")]});
    let key = gateway.key_with(&root, &body);
    let cases = [
        ("/member/42/x", 200),
        ("/invitee/42/x", 200),
        ("/manager/42/x", 403),
        ("/member/43/x", 403),
        ("/member/44/x", 403),
        ("/admin/x", 403),
        ("/protected/x", 200),
    ];
    for (path, status) in cases {
        assert_eq!(gateway.status_of(path, &key), status, "{path}");
    }
    gateway
        .get("/member/42/x")
        .by(&key.caller())
        .send()
        .expect(200);
    assert_eq!(
        upstream.last().header("x-auth-roles"),
        Some("user list-42-invitee list-42-member")
    );
    let roles = gateway
        .get("/auth/roles")
        .by(&key.caller())
        .send()
        .expect(200)
        .json();
    assert_eq!(
        roles["roles"],
        json!(["user", "list-42-invitee", "list-42-member"])
    );
}

/// A resource role on a list, as a key's limit.
fn limit(id: &str, level: &str) -> Value {
    json!({"resource": "list", "id": id, "level": level})
}

#[test]
fn a_key_with_resources_manages_no_others() {
    let (_upstream, gateway) = gateway();
    let root = gateway.administrator("root");
    gateway.member("root", "42", "manager");
    gateway.member("root", "43", "manager");
    let body = json!({"scopes": ["auth:members"], "resources": [limit("42", "member")]});
    let key = gateway.key_with(&root, &body);
    // Nor can it manage a resource outside of its limits, whatever its owner may do.
    let ben = gateway.person("ben");
    for (id, status) in [("42", 403), ("43", 403)] {
        let target = format!("/auth/members/list/{id}/{}", ben.uid);
        gateway
            .put(&target)
            .by(&key.caller())
            .json(&json!({"level": "invitee"}))
            .send()
            .refused_as(status);
    }
    gateway
        .patch(
            &root.caller(),
            &key,
            &json!({"resources": [limit("42", "manager")]}),
        )
        .expect(200);
    let target = format!("/auth/members/list/42/{}", ben.uid);
    gateway
        .put(&target)
        .by(&key.caller())
        .json(&json!({"level": "invitee"}))
        .send()
        .expect(200);
    gateway
        .delete(&format!("/auth/members/list/43/{}", root.uid))
        .by(&key.caller())
        .send()
        .refused_as(403);
}

#[test]
fn a_key_with_resources_loses_what_its_owner_loses() {
    let (_upstream, gateway) = gateway();
    let root = gateway.administrator("root");
    gateway.member("root", "42", "manager");
    gateway.member("root", "43", "manager");
    let key = gateway.key_with(&root, &json!({"resources": [limit("42", "manager")]}));
    assert_eq!(gateway.status_of("/manager/42/x", &key), 200);
    // If the owner loses a role, the key loses it at once, and gets it back with the owner.
    gateway.member("root", "42", "invitee");
    assert_eq!(
        (
            gateway.status_of("/member/42/x", &key),
            gateway.status_of("/invitee/42/x", &key)
        ),
        (403, 200)
    );
    gateway
        .cli(&["member", "remove", "root", "list", "42"], "")
        .done();
    assert_eq!(gateway.status_of("/invitee/42/x", &key), 403);
    gateway.member("root", "44", "member");
    gateway
        .patch(&root.caller(), &key, &json!({"resources": []}))
        .expect(200);
    assert_eq!(gateway.status_of("/member/44/x", &key), 403);
    gateway
        .patch(&root.caller(), &key, &json!({"resources": null}))
        .expect(200);
    assert_eq!(
        (
            gateway.status_of("/member/44/x", &key),
            gateway.status_of("/member/43/x", &key)
        ),
        (200, 200)
    );
}

#[test]
fn the_last_use_is_shown_and_survives_a_restart() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let anna = gateway.person("anna");
    let (key, idle) = (gateway.key(&anna, &[]), gateway.key(&anna, &[]));
    let used = |key: &Key, owner: &Person| {
        let shown = gateway
            .get(&format!("/auth/apikeys/{}", key.id))
            .by(&owner.caller())
            .send()
            .expect(200);
        shown.json()["last_used"].as_str().map(str::to_owned)
    };
    assert_eq!(used(&key, &anna), None);
    for _ in 0..50 {
        assert_eq!(gateway.status_of("/protected/x", &key), 200);
    }
    let at = wait_for("the last use", || used(&key, &anna));
    for _ in 0..50 {
        assert_eq!(gateway.status_of("/protected/x", &key), 200);
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        used(&key, &anna).as_ref(),
        Some(&at),
        "noted more than once a minute"
    );
    assert_eq!(used(&idle, &anna), None);
    gateway.restart();
    assert_eq!(gateway.status_of("/protected/x", &key), 200);
    let list = gateway
        .get("/auth/apikeys")
        .by(&anna.caller())
        .send()
        .expect(200)
        .json();
    let all: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["last_used"].as_str())
        .collect();
    assert_eq!(all, [at]);
    let told = gateway.cli(&["apikey", "list", "anna"], "").done();
    assert!(told.stdout.contains("last_used"), "{}", told.stdout);
}

#[test]
fn the_operator_creates_keys_with_every_limit() {
    let (_upstream, gateway) = gateway();
    gateway.person("anna");
    gateway.member("anna", "42", "manager");
    let task = [
        "apikey",
        "create",
        "anna",
        "--name",
        "job",
        "--allow-from",
        "127.0.0.0/8",
        "--rate-per-minute",
        "3",
        "--resource",
        "list/42/member",
    ];
    let made = gateway.cli(&task, "").done();
    let key = Key {
        id: made.value("id"),
        text: made.value("apikey"),
    };
    gateway.secret(&key.text);
    assert_eq!(
        (
            gateway.status_of("/member/42/x", &key),
            gateway.status_of("/manager/42/x", &key)
        ),
        (200, 403)
    );
    assert_eq!(
        (
            gateway.status_of("/member/42/x", &key),
            gateway.status_of("/member/42/x", &key)
        ),
        (200, 429)
    );
    for wrong in [
        ["--resource", "list/42"],
        ["--resource", "event/42/member"],
        ["--allow-from", "x"],
        ["--rate-per-minute", "0"],
    ] {
        let ended = gateway.cli(
            &[&["apikey", "create", "anna"][..], &wrong[..]].concat(),
            "",
        );
        assert_eq!(ended.code, Some(1), "{}", ended.all());
    }
}

/// Sends requests on four threads while a key ends; returns for each thread how many passed, and how many of them too
/// late.
fn while_it_ends(gateway: &Gateway, key: &Key, end: impl FnOnce()) -> Vec<(usize, usize)> {
    let (is_ended, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let ask = || {
        let mut connection = gateway.connect();
        let (mut passed, mut late) = (0, 0);
        while !is_over.load(Ordering::SeqCst) {
            let was_ended = is_ended.load(Ordering::SeqCst);
            let request = gateway.get("/protected/x").by(&key.caller());
            let status = request.send_on(&mut connection).status;
            assert!(matches!(status, 200 | 401), "{status}");
            passed += usize::from(status == 200);
            late += usize::from(was_ended && status == 200);
        }
        (passed, late)
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        std::thread::sleep(Duration::from_millis(200));
        end();
        is_ended.store(true, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(200));
        is_over.store(true, Ordering::SeqCst);
        let counts = callers.into_iter().map(|caller| caller.join().unwrap());
        counts.collect()
    })
}

/// A change that ends or narrows a key applies to every request that begins after its answer.
#[test]
fn nothing_passes_late_under_load_from_four_threads() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    for way in ["deleted", "rotated", "moved", "deleted again"] {
        let key = gateway.key(&anna, &[]);
        let counts = while_it_ends(&gateway, &key, || match way {
            "rotated" => {
                gateway.rotate(&anna, &key, &json!({"overlap_s": 0}));
            }
            "moved" => {
                let elsewhere = json!({"allow_from": ["192.0.2.1"]});
                gateway.patch(&anna.caller(), &key, &elsewhere).expect(200);
            }
            _ => {
                let target = format!("/auth/apikeys/{}", key.id);
                gateway
                    .delete(&target)
                    .by(&anna.caller())
                    .send()
                    .expect(204);
            }
        });
        for (passed, late) in counts {
            assert!(
                0 < passed && late == 0,
                "{way}: {late} of {passed} passed late"
            );
        }
    }
}
