//! Permissions between accounts, and what each caller may know. `tests/it/rights.rs` tests every endpoint with every
//! kind of caller.

use serde_json::{Value, json};

use crate::account::test_kit::PASSWORD;
use crate::web::test_kit::Gateway;

#[tokio::test]
async fn keys_are_shown_once_and_only_the_whole_key_is_one() {
    let gateway = Gateway::start();
    let jwt = gateway.person("anna").await.text_of("jwt_token");
    let body = json!({ "name": "script", "scopes": ["lists:read"] });
    let made = gateway.ask("POST", "/auth/apikeys", &jwt, body).await;
    let (id, key) = (made.text_of("id"), made.text_of("apikey"));
    let me = gateway.get("/auth/me", &key).await;
    assert_eq!(me.json["method"], "apikey");
    assert_eq!(me.json["scopes"], json!(["lists:read"]));
    // After a successful use, the public part alone grants nothing.
    let other =
        crate::crypto::token::ApiKeyText::draw(crate::model::id::KeyId::parse(&id).unwrap());
    let forged = gateway.get("/auth/me", other.text().expose()).await;
    assert_eq!(
        (forged.status, forged.code().as_str()),
        (401, "api_key_invalid")
    );
    for path in ["/auth/apikeys".to_owned(), format!("/auth/apikeys/{id}")] {
        let shown = gateway.get(&path, &jwt).await;
        assert_eq!(shown.status, 200);
        assert!(
            !shown.text.contains(&key) && !shown.text.contains("apikey"),
            "{path}"
        );
    }
    let path = format!("/auth/apikeys/{id}");
    let bert = gateway.person("bert").await.text_of("jwt_token");
    assert_eq!(
        gateway
            .ask("DELETE", &path, &bert, Value::Null)
            .await
            .status,
        404
    );
    assert_eq!(
        gateway.ask("DELETE", &path, &jwt, Value::Null).await.status,
        204
    );
    assert_eq!(gateway.get("/auth/me", &key).await.status, 401);
    for (scopes, status, code) in [
        (json!(["lists:fly"]), 422, "scope_unknown"),
        (json!(["auth:admin"]), 403, "scope_missing"),
    ] {
        let body = json!({ "scopes": scopes });
        let refused = gateway.ask("POST", "/auth/apikeys", &jwt, body).await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code));
    }
}

#[tokio::test]
async fn introspection_tells_only_what_the_caller_may_know() {
    let gateway = Gateway::start();
    let login = gateway.person("anna").await;
    let anna = login.text_of("jwt_token");
    let bert = gateway.person("bert").await.text_of("jwt_token");
    let root = gateway.administrator("root").await.text_of("jwt_token");
    let key = async |maker: &str, scopes: Value| {
        let body = json!({ "scopes": scopes });
        let made = gateway.ask("POST", "/auth/apikeys", maker, body).await;
        made.text_of("apikey")
    };
    let annas = key(&anna, json!([])).await;
    let asker = key(&root, json!(["auth:introspect"])).await;
    let cases = [
        (&anna, anna.as_str(), true),
        (&anna, &annas, true),
        (&annas, &annas, true),
        (&annas, &anna, false),
        (&bert, &anna, false),
        (&bert, &annas, false),
        (&root, &anna, true),
        (&asker, &anna, true),
        (&asker, &annas, true),
        (&root, "nothing", false),
        (&root, "a.b.c", false),
        (&root, &login.text_of("refresh_token"), false),
    ];
    for (caller, token, active) in cases {
        let form = format!("token={token}&token_type_hint=x");
        let answer = gateway.form("/auth/introspect", caller, &form).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json["active"], active, "{token}");
        if !active {
            assert_eq!(answer.text, "{\"active\":false}");
        }
    }
    let own = gateway
        .form("/auth/introspect", &anna, &format!("token={anna}"))
        .await;
    assert_eq!(own.json["sub"], login.json["uid"]);
    assert_eq!(own.json["exp"], 1_800_000_900);
    assert_eq!(own.json["roles"], json!(["user"]));
    let nobody = gateway.form("/auth/introspect", "", "token=x").await;
    assert_eq!(
        (nobody.status, nobody.text_of("error").as_str()),
        (401, "invalid_client")
    );
    for form in ["", "token=", "token=a&token=b"] {
        let answer = gateway.form("/auth/introspect", &anna, form).await;
        assert_eq!(
            (answer.status, answer.text_of("error").as_str()),
            (400, "invalid_request")
        );
    }
}

#[tokio::test]
async fn memberships_count_on_the_next_request() {
    let gateway = Gateway::start();
    let root = gateway.administrator("root").await.text_of("jwt_token");
    let login = gateway.person("anna").await;
    let (anna, uid) = (login.text_of("jwt_token"), login.text_of("uid"));
    let path = format!("/auth/members/list/42/{uid}");
    let roles = "/auth/roles?resource=list&id=42";
    assert_eq!(gateway.get(roles, &anna).await.json["roles"], json!([]));
    let member = json!({ "level": "member" });
    let set = gateway.ask("PUT", &path, &root, member.clone()).await;
    assert_eq!(set.status, 200, "{set:?}");
    let expected = json!(["list-42-invitee", "list-42-member"]);
    assert_eq!(gateway.get(roles, &anna).await.json["roles"], expected);
    let asked = gateway.get(&format!("{roles}&uid={uid}"), &root).await;
    assert_eq!(asked.json["roles"], expected);
    let unknown = json!({ "level": "owner" });
    assert_eq!(gateway.ask("PUT", &path, &root, unknown).await.status, 422);
    assert_eq!(gateway.ask("PUT", &path, &anna, member).await.status, 403);
    assert_eq!(
        gateway
            .ask("DELETE", &path, &anna, Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(gateway.get(roles, &anna).await.json["roles"], json!([]));
    assert_eq!(
        gateway
            .ask("DELETE", &path, &root, Value::Null)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn administrators_change_others_and_not_themselves() {
    let gateway = Gateway::start();
    let login = gateway.administrator("root").await;
    let root = login.text_of("jwt_token");
    let anna = gateway.person("anna").await;
    let own = format!("/auth/accounts/{}", login.text_of("account_id"));
    let hers = format!("/auth/accounts/{}", anna.text_of("account_id"));
    let cases = [
        (&own, json!({ "is_admin": false }), 409),
        (&hers, json!({ "roles": ["admin"] }), 422),
        (&hers, json!({ "roles": ["a b"] }), 422),
        (&hers, json!({ "status": "pending" }), 422),
        (&hers, json!({ "username": "x" }), 400),
        (&hers, json!({ "roles": ["editor"] }), 200),
        (&hers, json!({ "status": "disabled" }), 200),
    ];
    for (path, body, status) in cases {
        let answer = gateway.ask("PATCH", path, &root, body.clone()).await;
        assert_eq!(answer.status, status, "{body} {answer:?}");
    }
    assert_eq!(
        gateway
            .get("/auth/me", &anna.text_of("jwt_token"))
            .await
            .status,
        401
    );
    assert_eq!(gateway.login("anna", PASSWORD).await.status, 401);
    let list = gateway.get("/auth/accounts", &root).await;
    assert_eq!(list.json["count"], 2);
    assert!(!list.text.contains("argon2"), "{}", list.text);
    assert_eq!(
        gateway.get("/auth/accounts?cursor=x", &root).await.status,
        422
    );
    assert_eq!(
        gateway.get("/auth/accounts?page=1", &root).await.status,
        400
    );
}
