//! Changes that people make to their own accounts, changes that administrators make, settings, and the audit trail of
//! all of it.

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{Caller, address_of, password_of};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;
use crate::harness::wait_for;

fn gateway(extra: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("{extra}{}", routes(&upstream)));
    (upstream, gateway)
}

fn patch_me(gateway: &Gateway, caller: &Caller, body: &Value) -> Response {
    gateway
        .request("PATCH", "/auth/me")
        .by(caller)
        .json(body)
        .send()
}

#[test]
fn a_new_address_counts_once_its_token_is_posted_and_the_old_one_is_told() {
    let (_upstream, gateway) = gateway("");
    let anna = gateway.person("anna");
    let mailbox = gateway.mailbox();
    let change =
        json!({"identity": "new@example.org", "password": anna.password, "name": "Anna B."});
    let me = patch_me(&gateway, &anna.caller(), &change).expect(200);
    assert_eq!(
        (me.member("uid"), me.member("method")),
        (anna.uid.clone(), "jwt".to_owned())
    );
    let token = mailbox.token("new@example.org");
    assert!(mailbox.next(&anna.identity).text.contains("\"anna\""));
    gateway
        .try_login("new@example.org", &anna.password)
        .expect(401);
    // A mail scanner's GET, a password, another token: none of these confirms the address.
    let set = gateway
        .set_password(&token, "another one Sings-77")
        .expect(400);
    assert_eq!(set.member("code"), "token_invalid");

    let put = |token: &str| {
        gateway
            .put("/auth/me/identity")
            .json(&json!({"token": token}))
            .send()
    };
    assert_eq!(put("nonsense").expect(400).member("code"), "token_invalid");
    assert_eq!(put(&token).expect(200).member("uid"), anna.uid);
    put(&token).expect(400);
    assert!(mailbox.next(&anna.identity).subject.contains("changed"));
    gateway
        .try_login("new@example.org", &anna.password)
        .expect(200);
    gateway
        .try_login(&anna.identity, &anna.password)
        .expect(401);
    gateway.try_login("anna", &anna.password).expect(200);
    // The login that made the request stays active.
    gateway
        .get("/auth/me")
        .by(&anna.caller())
        .send()
        .expect(200);
}

#[test]
fn changing_ones_own_account_needs_a_login_and_the_address_also_the_password() {
    let (_upstream, gateway) = gateway("");
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    let cases = [
        (json!({"name": "Anna"}), 200),
        (json!({}), 400),
        (json!({"password": anna.password}), 400),
        (json!({"identity": "new@example.org"}), 400),
        (json!({"name": "Anna", "password": anna.password}), 400),
        (json!({"username": "berta"}), 400),
        (json!({"is_admin": true}), 400),
        (json!({"name": ""}), 422),
        (json!({"name": "a\nb"}), 422),
        (
            json!({"identity": "nothing", "password": anna.password}),
            422,
        ),
        (
            json!({"identity": "new@example.org", "password": "wrong"}),
            403,
        ),
    ];
    for (body, status) in cases {
        let answer = patch_me(&gateway, &anna.caller(), &body);
        assert_eq!(answer.status, status, "{body}");
    }
    patch_me(&gateway, &Caller::Anonymous, &json!({"name": "Anna"})).expect(401);
    patch_me(&gateway, &key.caller(), &json!({"name": "Anna"})).expect(403);
    let shown = gateway.cli(&["account", "show", "anna"], "").done();
    assert_eq!(
        (shown.value("name"), shown.value("identity")),
        ("Anna".to_owned(), anna.identity)
    );
}

#[test]
fn administrators_invite_while_registration_is_closed() {
    let (_upstream, gateway) = gateway("[account]\nregistration = \"invite\"\n");
    let root = gateway.administrator("root");
    let body = json!({"identity": "anna@example.org", "username": "anna", "name": "Anna"});
    gateway
        .post("/auth/register")
        .json(&body)
        .send()
        .expect(403);
    gateway
        .post("/auth/accounts")
        .json(&body)
        .send()
        .expect(401);
    let mailbox = gateway.mailbox();
    let mut invitation = body.clone();
    invitation["roles"] = json!(["editor"]);
    let made = gateway
        .post("/auth/accounts")
        .by(&root.caller())
        .json(&invitation)
        .send()
        .expect(201);
    assert_eq!(
        (made.member("status"), &made.json()["roles"]),
        ("pending".to_owned(), &json!(["editor"]))
    );
    let mail = mailbox.next("anna@example.org");
    assert_eq!(mail.subject, "An account has been created for you");
    assert!(mail.text.contains("\"anna\""), "{}", mail.text);
    let token = mail.token().unwrap();
    gateway.secret(&token);
    assert!(!made.text().contains(&token));
    gateway
        .set_password(&token, &password_of("anna"))
        .expect(200);
    let anna = gateway.login("anna");
    let roles = gateway
        .get("/auth/roles")
        .by(&anna.caller())
        .send()
        .expect(200);
    assert_eq!(roles.json()["roles"], json!(["editor", "user"]));
    gateway
        .post("/auth/accounts")
        .by(&anna.caller())
        .json(&body)
        .send()
        .expect(403);
    for (field, value, status) in [
        ("username", json!("anna"), 409),
        ("identity", json!("anna+1@example.org"), 409),
        ("roles", json!(["admin"]), 422),
        ("roles", json!(["list-1-member"]), 422),
        ("password", json!("secret"), 400),
    ] {
        let mut other = json!({"identity": "b@example.org", "username": "bert", "name": "B"});
        other[field] = value;
        let answer = gateway
            .post("/auth/accounts")
            .by(&root.caller())
            .json(&other)
            .send();
        assert_eq!(answer.status, status, "{other}");
    }
}

#[test]
fn a_removed_account_is_gone_at_once_and_its_name_is_never_given_out_again() {
    let (_upstream, gateway) = gateway("");
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    let key = gateway.key(&anna, &[]);
    gateway.member("anna", "42", "manager");
    gateway
        .get("/protected/x")
        .by(&key.caller())
        .send()
        .expect(200);
    let place = format!("/auth/accounts/{}", anna.account_id);
    gateway.delete(&place).by(&anna.caller()).send().expect(403);
    gateway.delete(&place).by(&root.caller()).send().expect(204);
    for caller in [anna.caller(), key.caller()] {
        gateway.get("/protected/x").by(&caller).send().expect(401);
    }
    gateway.refresh(&anna.refresh).expect(400);
    gateway.try_login("anna", &anna.password).expect(401);
    gateway.delete(&place).by(&root.caller()).send().expect(404);
    gateway.get(&place).by(&root.caller()).send().expect(404);
    assert_eq!(
        gateway
            .cli(&["member", "list", "list", "42"], "")
            .done()
            .stdout,
        ""
    );
    let own = gateway
        .delete(&format!("/auth/accounts/{}", root.account_id))
        .by(&root.caller())
        .send();
    assert_eq!(own.expect(409).member("code"), "own_account");
    // The name is taken permanently, the address is free.
    let mailbox = gateway.mailbox();
    let body = json!({"identity": anna.identity, "username": "anna", "name": "Anna"});
    gateway
        .post("/auth/register")
        .json(&body)
        .send()
        .expect(202);
    assert!(mailbox.next(&anna.identity).token().is_none());
    let body = json!({"identity": anna.identity, "username": "anna2", "name": "Anna"});
    gateway
        .post("/auth/register")
        .json(&body)
        .send()
        .expect(202);
    gateway
        .set_password(&mailbox.token(&anna.identity), &password_of("anna2"))
        .expect(200);
}

#[test]
fn an_administrator_sees_and_ends_all_sessions_of_one_account() {
    let (_upstream, gateway) = gateway("");
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    let again = gateway.login("anna");
    let place = format!("/auth/accounts/{}/sessions", anna.account_id);
    for caller in [&anna.caller(), &Caller::Anonymous] {
        assert!([401, 403].contains(&gateway.get(&place).by(caller).send().status));
        assert!([401, 403].contains(&gateway.delete(&place).by(caller).send().status));
    }
    let list = gateway
        .get(&place)
        .by(&root.caller())
        .send()
        .expect(200)
        .json();
    assert_eq!(list["count"], 2);
    for field in ["id", "created", "last_seen", "from", "expires"] {
        assert!(list["items"][0][field].is_string(), "{field} {list}");
    }
    gateway.delete(&place).by(&root.caller()).send().expect(204);
    for caller in [anna.caller(), again.caller()] {
        gateway.get("/auth/me").by(&caller).send().expect(401);
    }
    gateway
        .get("/auth/me")
        .by(&root.caller())
        .send()
        .expect(200);
    gateway
        .delete("/auth/accounts/a-nothing0/sessions")
        .by(&root.caller())
        .send()
        .expect(404);
    assert_eq!(
        gateway
            .get(&place)
            .by(&root.caller())
            .send()
            .expect(200)
            .json()["count"],
        0
    );
}

#[test]
fn settings_are_ones_own_or_shared() {
    let (_upstream, gateway) = gateway("");
    let (root, anna, bert) = (
        gateway.administrator("root"),
        gateway.person("anna"),
        gateway.person("bert"),
    );
    let me = gateway
        .get("/auth/me")
        .by(&anna.caller())
        .send()
        .expect(200);
    let own = format!("/auth/settings/{}", me.member("settings_id"));
    let put =
        |path: &str, caller: &Caller, body: &Value| gateway.put(path).by(caller).json(body).send();
    let get = |path: &str, caller: &Caller| gateway.get(path).by(caller).send();
    assert_eq!(get(&own, &anna.caller()).expect(200).json(), json!({}));
    let document = json!({"lang": "de", "nested": {"a": [1, 2.5, null]}});
    assert_eq!(
        put(&own, &anna.caller(), &document).expect(200).json(),
        document
    );
    assert_eq!(get(&own, &anna.caller()).expect(200).json(), document);
    for caller in [&bert.caller(), &root.caller()] {
        get(&own, caller).expect(404);
        put(&own, caller, &document).expect(404);
    }
    let key = gateway.key(&anna, &[]);
    for path in [own.as_str(), "/auth/settings/global"] {
        get(path, &Caller::Anonymous).expect(401);
        get(path, &key.caller()).expect(403);
        put(path, &key.caller(), &document).expect(403);
    }
    let shared = "/auth/settings/global";
    put(shared, &anna.caller(), &document).expect(403);
    put(shared, &root.caller(), &document).expect(200);
    assert_eq!(get(shared, &bert.caller()).expect(200).json(), document);
    let long = |length: usize| json!({"a": "x".repeat(length - 8)});
    put(&own, &anna.caller(), &long(16 * 1024)).expect(200);
    put(&own, &anna.caller(), &long(16 * 1024 + 1)).expect(413);
    put(&own, &anna.caller(), &json!([1])).expect(400);
    get("/auth/settings/set-nothing0", &anna.caller()).expect(404);
}

#[test]
fn existing_accounts_are_revealed_only_where_configured() {
    let (_upstream, gateway) =
        gateway("[account]\nreveal_existing = true\nreset_administrators = true\n");
    gateway.administrator("root");
    gateway.person("anna");
    let register = |identity: &str, username: &str| {
        let body = json!({"identity": identity, "username": username, "name": "N."});
        gateway.post("/auth/register").json(&body).send()
    };
    assert_eq!(
        register("anna@example.org", "bert")
            .expect(409)
            .member("code"),
        "identity_taken"
    );
    assert_eq!(
        register("bert@example.org", "anna")
            .expect(409)
            .member("code"),
        "username_taken"
    );
    let forgot = |name: &str| {
        gateway
            .post("/auth/forgot")
            .json(&json!({"username": name}))
            .send()
    };
    assert_eq!(forgot("nobody").expect(404).member("code"), "not_found");
    let mailbox = gateway.mailbox();
    forgot("root").expect(202);
    mailbox.token(&address_of("root"));
}

/// Returns the audit events so far.
fn trail(gateway: &Gateway) -> Vec<Value> {
    let text = gateway.stdout();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get("audit").is_some()).collect()
}

#[test]
fn each_attempt_and_change_is_one_line_that_tells_who_what_from_where_and_how_it_ended() {
    let (_upstream, gateway) = gateway("");
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    let refused = gateway.try_login("anna", "wrong-Password-1").expect(401);
    gateway.try_login("nobody", "wrong-Password-1").expect(401);
    let path = format!("/auth/accounts/{}", anna.account_id);
    gateway
        .request("PATCH", &path)
        .by(&root.caller())
        .json(&json!({"status": "disabled"}))
        .send()
        .expect(200);
    let find = |action: &str, outcome: &str, subject: Value| {
        wait_for("an audit event", || {
            let fits = |it: &Value| {
                it["audit"] == action && it["outcome"] == outcome && it["subject"] == subject
            };
            trail(&gateway).into_iter().find(fits)
        })
    };
    let made = find("create_account", "ok", json!(root.uid));
    assert_eq!(
        (&made["actor"], &made["from"]),
        (&json!("cli"), &Value::Null)
    );
    let event = find("log_in", "login_refused", json!(anna.uid));
    assert_eq!(
        (&event["actor"], &event["from"]),
        (&Value::Null, &json!("127.0.0.1"))
    );
    assert_eq!(event["request_id"], refused.header("x-request-id").unwrap());
    find("log_in", "login_refused", Value::Null);
    let changed = find("change_account", "ok", json!(anna.uid));
    assert_eq!(changed["actor"], json!(root.uid));
    for event in trail(&gateway) {
        let names: Vec<_> = event
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let known = [
            "actor",
            "audit",
            "from",
            "object",
            "outcome",
            "request_id",
            "subject",
            "time",
        ];
        assert_eq!(names, known, "{event}");
    }
    assert!(
        !gateway.stderr().contains("log_in"),
        "the log is another place"
    );
}

/// Otherwise a user could request any address and see in their own mailbox whether another account has it.
#[test]
fn requesting_an_address_reveals_nothing_about_its_owner() {
    let (_upstream, gateway) = gateway("");
    let anna = gateway.person("anna");
    gateway.person("bert");
    let mailbox = gateway.mailbox();
    let ask = |identity: &str| {
        let body = json!({"identity": identity, "password": anna.password});
        patch_me(&gateway, &anna.caller(), &body)
            .expect(200)
            .neutral()
    };
    let mut seen = Vec::new();
    for (address, subject) in [
        ("bert@example.org", "account"),
        ("free@example.org", "address"),
    ] {
        let answer = ask("mine@example.net");
        let token = mailbox.token("mine@example.net");
        let notice = mailbox.next(&anna.identity).subject;
        assert_eq!(ask(address), answer);
        assert!(mailbox.next(address).subject.contains(subject));
        assert_eq!(mailbox.next(&anna.identity).subject, notice);
        // The previous token is void.
        let body = json!({"token": token});
        let confirmed = gateway.put("/auth/me/identity").json(&body).send();
        seen.push(confirmed.expect(400).neutral());
    }
    assert_eq!(seen[0], seen[1]);
    assert!(mailbox.unread(&anna.identity).is_none());
}
