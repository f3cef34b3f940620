//! The life of an account: register, passwords, log in, refresh, log out.

use serde_json::{Value, json};

use crate::account::test_kit::{OTHER, PASSWORD};
use crate::web::test_kit::Gateway;

#[tokio::test]
async fn a_life_from_registration_to_logout() {
    let gateway = Gateway::start();
    let login = gateway.person("anna").await;
    assert_eq!(login.status, 200);
    let mut members: Vec<_> = login.json.as_object().unwrap().keys().cloned().collect();
    members.sort();
    assert_eq!(
        members,
        [
            "account_id",
            "expires_in",
            "jwt_token",
            "refresh_token",
            "resources",
            "settings_id",
            "token_type",
            "uid",
            "username"
        ]
    );
    assert_eq!(login.json["token_type"], "Bearer");
    assert_eq!(login.json["expires_in"], 900);
    assert_eq!(login.json["resources"], json!({ "list": "http://door/l" }));
    let jwt = login.text_of("jwt_token");
    let me = gateway.get("/auth/me", &jwt).await;
    assert_eq!(me.status, 200);
    assert_eq!(me.json["uid"], login.json["uid"]);
    assert_eq!(me.json["roles"], json!(["user"]));
    assert_eq!(me.json["scopes"], json!(["lists:read", "lists:write"]));
    assert_eq!(me.json["method"], "jwt");

    let form = format!(
        "grant_type=refresh_token&refresh_token={}&unknown=1",
        login.text_of("refresh_token")
    );
    let refreshed = gateway.form("/auth/token", "", &form).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    let fresh = refreshed.text_of("access_token");

    let out = gateway
        .ask("POST", "/auth/logout", &fresh, Value::Null)
        .await;
    assert_eq!((out.status, out.text.as_str()), (204, ""));
    for jwt in [&jwt, &fresh] {
        let after = gateway.get("/auth/me", jwt).await;
        assert_eq!(
            (after.status, after.code().as_str()),
            (401, "session_ended")
        );
        assert!(after.header("www-authenticate").contains("invalid_token"));
    }
    let form = format!(
        "grant_type=refresh_token&refresh_token={}",
        refreshed.text_of("refresh_token")
    );
    let after = gateway.form("/auth/token", "", &form).await;
    assert_eq!(after.status, 400);
    assert_eq!(after.json["error"], "invalid_grant");
    assert_eq!(after.header("content-type"), "application/json");
}

/// Responses reveal neither a token nor whether an account exists.
#[tokio::test]
async fn register_and_forgot_answer_alike_and_tell_no_token() {
    let gateway = Gateway::start();
    gateway.person("anna").await;
    let mut bodies = Vec::new();
    for (identity, username) in [
        ("new@example.org", "newbie"),
        ("anna@example.org", "other"),
        ("other@example.org", "anna"),
    ] {
        let body = json!({ "identity": identity, "username": username, "name": "N" });
        let answer = gateway.ask("POST", "/auth/register", "", body).await;
        assert_eq!(answer.status, 202);
        bodies.push((answer.text, answer.headers));
    }
    gateway.mailbox.take();
    let mut forgotten = Vec::new();
    for body in [
        json!({ "username": "anna" }),
        json!({ "identity": "ANNA@example.org" }),
        json!({ "username": "nobody" }),
        json!({ "identity": "not an address" }),
    ] {
        let answer = gateway.ask("POST", "/auth/forgot", "", body).await;
        assert_eq!(answer.status, 202);
        forgotten.push((answer.text, answer.headers));
    }
    assert_eq!(gateway.mailbox.take().len(), 2);
    for answers in [bodies, forgotten] {
        assert!(
            answers.windows(2).all(|pair| pair[0] == pair[1]),
            "{answers:?}"
        );
    }
}

#[tokio::test]
async fn whoever_may_not_log_in_gets_one_answer() {
    let gateway = Gateway::start();
    gateway.person("anna").await;
    let mut answers = Vec::new();
    for (name, password) in [
        ("anna", OTHER),
        ("nobody", PASSWORD),
        ("a b", ""),
        ("@", "x"),
    ] {
        let answer = gateway.login(name, password).await;
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer realm=\"doorward\""
        );
        answers.push((answer.text, answer.headers));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_login_that_must_change_its_password_may_do_that_and_leave() {
    let gateway = Gateway::start();
    let root = gateway.administrator("root").await.text_of("jwt_token");
    let login = gateway.person("anna").await;
    let path = format!("/auth/accounts/{}", login.text_of("account_id"));
    let body = json!({ "password_must_change": true });
    let changed = gateway.ask("PATCH", &path, &root, body).await;
    assert_eq!(changed.json["password_must_change"], true, "{changed:?}");
    let jwt = gateway.login("anna", PASSWORD).await.text_of("jwt_token");
    let me = gateway.get("/auth/me", &jwt).await;
    assert_eq!(me.json["roles"], json!(["pwchange"]));
    for path in [
        "/auth/roles",
        "/auth/sessions",
        "/auth/apikeys",
        "/auth/members/list/1",
    ] {
        let answer = gateway.get(path, &jwt).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "password_must_change")
        );
    }
    let asked = gateway.form("/auth/introspect", &jwt, "token=x").await;
    assert_eq!(asked.status, 403);
    let body = json!({
        "new_password": OTHER, "verify_password": OTHER, "old_password": PASSWORD,
    });
    let set = gateway.ask("PUT", "/auth/password", &jwt, body).await;
    assert_eq!(set.status, 200, "{set:?}");
    assert_eq!(gateway.get("/auth/roles", &jwt).await.status, 200);
}

#[tokio::test]
async fn passwords_are_set_by_one_proof_and_by_ones_own() {
    let gateway = Gateway::start();
    let login = gateway.person("anna").await;
    let bert = gateway.person("bert").await;
    let jwt = login.text_of("jwt_token");
    let with = |more: Value| {
        let mut body = json!({ "new_password": OTHER, "verify_password": OTHER });
        let members = body.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        body
    };
    let bert_uid = bert.text_of("uid");
    let cases = [
        (with(json!({})), 400, "body_malformed"),
        (
            with(json!({ "reset_token": "x", "old_password": PASSWORD })),
            400,
            "body_malformed",
        ),
        (with(json!({ "reset_token": "x" })), 400, "token_invalid"),
        (
            with(json!({ "old_password": OTHER })),
            422,
            "password_refused",
        ),
        (
            with(json!({ "old_password": "Wrong-Guess-99" })),
            403,
            "password_wrong",
        ),
        (
            with(json!({ "old_password": PASSWORD, "uid": bert_uid })),
            404,
            "not_found",
        ),
        (
            with(json!({ "old_password": PASSWORD, "verify_password": "x" })),
            422,
            "password_mismatch",
        ),
        (
            with(json!({
                "old_password": PASSWORD, "new_password": "password", "verify_password": "password",
            })),
            422,
            "password_refused",
        ),
    ];
    for (body, status, code) in cases {
        let answer = gateway
            .ask("PUT", "/auth/password", &jwt, body.clone())
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{body}"
        );
    }
    let old = with(json!({ "old_password": PASSWORD, "uid": login.text_of("uid") }));
    let anonymous = gateway.ask("PUT", "/auth/password", "", old.clone()).await;
    assert_eq!(anonymous.status, 401);
    let set = gateway.ask("PUT", "/auth/password", &jwt, old).await;
    assert_eq!(set.status, 200);
    assert_eq!(set.json["username"], "anna");
}
