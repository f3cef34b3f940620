//! A change to an account that happens while a login waits for its hash wins over that login.

use serde_json::{Value, json};

use crate::harness::at_once;
use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{Person, address_of, changed, password_of, wanted};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

/// Concurrent logins with one hashing thread: enough for the change to happen between two of them, and few enough for
/// its queue.
const LOGINS: usize = 4;

/// A password with an old kind of hash: its login rehashes it, and waits for the one thread a second time.
const OLD_PASSWORD: &str = "we have a short salt string but not a short password";
const OLD_HASH: &str = "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/";

/// Returns anna, with an old hash and no login yet.
fn imported(gateway: &Gateway) -> Person {
    gateway.secret(OLD_PASSWORD);
    let person = json!({"model": "Person", "id": "x-00000001", "name": "A.", "identity": address_of("anna")});
    let account = json!({
        "model": "Account", "id": "x-00000002", "uid": "x-00000001", "name": "anna", "password": OLD_HASH,
    });
    let file = gateway.dir().join("export.jsonl");
    std::fs::write(&file, format!("{person}\n{account}\n")).unwrap();
    let file = file.to_str().unwrap();
    gateway.cli(&["account", "import", file], "").done();
    Person {
        identity: address_of("anna"),
        password: OLD_PASSWORD.to_owned(),
        uid: "u-x-00000001".to_owned(),
        account_id: "a-x-00000002".to_owned(),
        jwt: String::new(),
        refresh: String::new(),
    }
}

/// Applies one change to anna while she logs in: no login that began before it may be accepted after it.
fn wins(anna: impl Fn(&Gateway) -> Person, happens: impl Fn(&Gateway, &Person, &Person) + Sync) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[account]\nhash_threads = 1\nlockout_attempts = 1000\n{}",
        routes(&upstream)
    ));
    let root = gateway.administrator("root");
    let anna = anna(&gateway);
    let gone = std::sync::Barrier::new(LOGINS + 1);
    let statuses = at_once(LOGINS + 1, |index| {
        if index == 0 {
            happens(&gateway, &root, &anna);
            gone.wait();
            return 0;
        }
        let login = gateway.try_login("anna", &anna.password);
        gone.wait();
        if login.status == 200 {
            let jwt = login.member("jwt_token");
            let answer = gateway.get("/protected/x").bearer(&jwt).send();
            answer.refused(401, "session_ended");
            gateway.refresh(&login.member("refresh_token")).expect(400);
        }
        login.status
    });
    let may = |status: &u16| matches!(status, 0 | 200 | 401 | 503);
    assert!(statuses.iter().all(may), "{statuses:?}");
    gateway
        .try_login("anna", &anna.password)
        .refused(401, "login_refused");
    assert_eq!(upstream.count(), 0);
}

fn patch(gateway: &Gateway, root: &Person, anna: &Person, body: &Value) {
    gateway
        .request("PATCH", &format!("/auth/accounts/{}", anna.account_id))
        .by(&root.caller())
        .json(body)
        .send()
        .expect(200);
}

#[test]
fn an_account_that_is_disabled_during_the_login_is_out() {
    wins(imported, |gateway, root, anna| {
        patch(gateway, root, anna, &json!({"status": "disabled"}));
    });
}

#[test]
fn an_account_that_is_removed_during_the_login_is_out() {
    wins(imported, |gateway, root, anna| {
        let place = format!("/auth/accounts/{}", anna.account_id);
        gateway.delete(&place).by(&root.caller()).send().expect(204);
    });
}

/// Repeats the request while the hashing pool is full.
fn until_taken(ask: impl Fn() -> Response) {
    loop {
        let answer = ask();
        if answer.status != 503 {
            answer.expect(200);
            return;
        }
    }
}

#[test]
fn a_password_that_is_changed_during_the_login_is_void() {
    wins(
        |gateway| gateway.person("anna"),
        |gateway, _, anna| {
            let body = changed(&anna.password, &password_of("newer"));
            until_taken(|| {
                gateway
                    .put("/auth/password")
                    .by(&anna.caller())
                    .json(&body)
                    .send()
            });
        },
    );
}

#[test]
fn a_password_that_is_reset_during_the_login_is_void() {
    wins(imported, |gateway, _, _| {
        let token = gateway.forgot("anna");
        let body = wanted(&token, &password_of("newer"));
        until_taken(|| gateway.put("/auth/password").json(&body).send());
    });
}
