//! A store that fails at any single read or write: 503, no partial change, and never an allow.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::account::test_kit::{OTHER, PASSWORD};
use crate::config::MailLimits;
use crate::model::id::UserId;
use crate::store::Store;
use crate::store::engine::Engine as _;
use crate::store::faulty::FaultyStore;
use crate::web::test_kit::{Answer, Gateway};

/// More reads and writes than any request makes.
const STEPS_MAX: i64 = 400;

/// Requests that still read or write after they are done, to warm a cache or send a notice: a failure there undoes
/// nothing.
const GO_ON: [&str; 2] = ["login", "change"];

fn start() -> (Arc<FaultyStore>, Gateway) {
    let store = Arc::new(FaultyStore::new());
    let gateway = Gateway::start_on(Arc::clone(&store) as Arc<dyn Store>, |_| {});
    (store, gateway)
}

/// Sends the request with the result of each write lost in turn, both for a write that was done and for one that was
/// not.
async fn lose_each(
    (store, gateway): &(Arc<FaultyStore>, Gateway),
    what: &str,
    ask: &mut impl AsyncFnMut(&Gateway) -> Answer,
) {
    for (step, is_done) in (0..STEPS_MAX).flat_map(|step| [(step, false), (step, true)]) {
        let before = store.everything().await;
        gateway.mailbox.take();
        store.lose_after(step);
        let answer = ask(gateway).await;
        let was_lost = store.has_failed();
        let is_read_by_nobody = step != 0 || before == store.everything().await;
        store.settle(is_done).await;
        let after = store.everything().await;
        store.put_back(before.clone()).await;
        gateway.mailbox.take();
        if !was_lost || answer.status == 200 && GO_ON.contains(&what) {
            return;
        }
        assert!(is_read_by_nobody, "{what}: what is not known is read");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "write_unknown"),
            "{what}, write {step}: {answer:?}"
        );
        assert_eq!(after == before, !is_done && step == 0, "{what}");
    }
}

/// Sends the request with each read and each write failing in turn, until none fails; returns that last response.
async fn fail_each(
    parts: &(Arc<FaultyStore>, Gateway),
    what: &str,
    mut ask: impl AsyncFnMut(&Gateway) -> Answer,
) -> Answer {
    lose_each(parts, what, &mut ask).await;
    let (store, gateway) = parts;
    for step in 0..STEPS_MAX {
        let before = store.everything().await;
        // Discards the mails of a failed attempt.
        gateway.mailbox.take();
        store.fail_after(step);
        let answer = ask(gateway).await;
        if !store.has_failed() {
            store.fail_after(-1);
            assert!(0 < step, "{what}: nothing has failed");
            return answer;
        }
        if answer.status == 200 && GO_ON.contains(&what) {
            return answer;
        }
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "store_unavailable"),
            "{what}, step {step}: {answer:?}"
        );
        assert!(
            !answer.header("retry-after").is_empty(),
            "{what}: {answer:?}"
        );
        assert!(!answer.text.contains("on purpose"), "{what}: {answer:?}");
        assert!(
            before == store.everything().await,
            "{what}, step {step}: something is half done"
        );
    }
    panic!("{what}: it never ends");
}

#[tokio::test]
async fn a_failing_store_lets_nobody_in_and_leaves_nothing_half_done() {
    let parts = start();
    let body = json!({ "identity": "anna@example.org", "username": "anna", "name": "A" });
    let ask = async |gateway: &Gateway| {
        gateway
            .ask("POST", "/auth/register", "", body.clone())
            .await
    };
    assert_eq!(fail_each(&parts, "register", ask).await.status, 202);

    let token = parts.1.mailbox.token();
    let body = json!({
        "new_password": PASSWORD, "verify_password": PASSWORD, "reset_token": token,
    });
    let ask =
        async |gateway: &Gateway| gateway.ask("PUT", "/auth/password", "", body.clone()).await;
    assert_eq!(fail_each(&parts, "confirm", ask).await.status, 200);

    let ask = async |gateway: &Gateway| gateway.login("anna", PASSWORD).await;
    let login = fail_each(&parts, "login", ask).await;
    assert_eq!(login.status, 200, "{login:?}");
    let jwt = login.text_of("jwt_token");

    // Invalidates everything cached about the account.
    let uid = UserId::parse(&login.text_of("uid")).unwrap();
    parts.0.generations().touch(&uid);
    let ask = async |gateway: &Gateway| gateway.get("/auth/roles", &jwt).await;
    assert_eq!(fail_each(&parts, "a decision", ask).await.status, 200);

    let ask = async |gateway: &Gateway| {
        let body = json!({ "name": "script", "scopes": ["lists:read"] });
        gateway.ask("POST", "/auth/apikeys", &jwt, body).await
    };
    let made = fail_each(&parts, "an API key", ask).await;
    assert_eq!(made.status, 201, "{made:?}");
    let key = made.text_of("apikey");
    let ask = async |gateway: &Gateway| gateway.get("/auth/me", &key).await;
    assert_eq!(fail_each(&parts, "a key's decision", ask).await.status, 200);

    let refresh = login.text_of("refresh_token");
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    parts.0.fail_after(0);
    let refused = parts.1.form("/auth/token", "", &form).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(parts.1.form("/auth/token", "", &form).await.status, 200);

    let ask = async |gateway: &Gateway| {
        let body = json!({
            "new_password": OTHER, "verify_password": OTHER, "old_password": PASSWORD,
        });
        gateway.ask("PUT", "/auth/password", &jwt, body).await
    };
    assert_eq!(fail_each(&parts, "change", ask).await.status, 200);

    let ask =
        async |gateway: &Gateway| gateway.ask("POST", "/auth/logout", &jwt, Value::Null).await;
    assert_eq!(fail_each(&parts, "logout", ask).await.status, 204);
}

/// A gateway that sends three mails per hour to an address, and ten for a network.
fn start_with_few_mails() -> (Arc<FaultyStore>, Gateway) {
    let store = Arc::new(FaultyStore::new());
    let gateway = Gateway::start_on(Arc::clone(&store) as Arc<dyn Store>, |config| {
        config.mail.limits = MailLimits {
            per_address_per_hour: 3,
            per_network_per_hour: 10,
            per_hour: 100,
        };
    });
    (store, gateway)
}

async fn register(gateway: &Gateway) -> u16 {
    let body = json!({ "identity": "anna@example.org", "username": "anna", "name": "A" });
    let answer = gateway.ask("POST", "/auth/register", "", body).await;
    answer.status
}

async fn forgot(gateway: &Gateway, name: &str) -> u16 {
    let body = json!({ "username": name });
    let answer = gateway.ask("POST", "/auth/forgot", "", body).await;
    answer.status
}

#[tokio::test]
async fn requests_that_failed_use_up_nobodys_mails() {
    let (store, gateway) = start_with_few_mails();
    let mut failures = 0;
    for round in 0..30 {
        store.fail_after(round % 3);
        failures += usize::from(register(&gateway).await == 503);
        store.fail_after(-1);
    }
    assert_eq!(failures, 30);
    gateway.mailbox.take();
    for _ in 0..5 {
        assert_eq!(register(&gateway).await, 202);
    }
    assert_eq!(gateway.mailbox.take().len(), 3);
}

#[tokio::test]
async fn a_failing_store_tells_nobody_who_has_an_account() {
    let (store, gateway) = start_with_few_mails();
    assert_eq!(register(&gateway).await, 202);
    let body = json!({
        "new_password": PASSWORD, "verify_password": PASSWORD, "reset_token": gateway.mailbox.token(),
    });
    let set = gateway.ask("PUT", "/auth/password", "", body).await;
    assert_eq!(set.status, 200, "{set:?}");
    for name in ["anna", "nobody"] {
        store.fail_after(0);
        assert_eq!(forgot(&gateway, name).await, 503, "{name}: nothing is read");
        store.fail_after(-1);
        store.lose_after(0);
        assert_eq!(
            forgot(&gateway, name).await,
            503,
            "{name}: nothing is written"
        );
        store.settle(false).await;
        assert_eq!(forgot(&gateway, name).await, 202, "{name}");
    }
}
