//! Administration requires an administrator, and its changes take effect on the next request.

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{Caller, Person, changed, password_of};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    (upstream, gateway)
}

fn patch(gateway: &Gateway, by: &Caller, account_id: &str, change: &Value) -> Response {
    gateway
        .request("PATCH", &format!("/auth/accounts/{account_id}"))
        .by(by)
        .json(change)
        .send()
}

#[test]
fn administration_is_for_administrators_and_ends_with_that() {
    let (_upstream, gateway) = gateway();
    let (root, second, anna) = (
        gateway.administrator("root"),
        gateway.administrator("second"),
        gateway.person("anna"),
    );
    let key = gateway.key(&second, &["auth:admin"]);
    gateway
        .get_by(&anna.caller(), "/admin/x")
        .refused(403, "role_missing");
    for caller in [anna.caller(), gateway.key(&anna, &[]).caller()] {
        gateway.get_by(&caller, "/auth/accounts").refused_as(403);
        patch(
            &gateway,
            &caller,
            &anna.account_id,
            &json!({"is_admin": true}),
        )
        .refused_as(403);
        gateway
            .get_by(&caller, &format!("/auth/roles?uid={}", root.uid))
            .refused_as(403);
    }
    gateway
        .get("/auth/accounts")
        .send()
        .refused(401, "credential_missing");
    let list = gateway.get_by(&root.caller(), "/auth/accounts").expect(200);
    assert!(
        list.json()["count"].as_u64() >= Some(3) && !list.text().contains("argon2"),
        "{}",
        list.text()
    );

    for caller in [second.caller(), key.caller()] {
        gateway.get_by(&caller, "/admin/x").expect(200);
        gateway.get_by(&caller, "/auth/accounts").expect(200);
    }
    patch(
        &gateway,
        &root.caller(),
        &second.account_id,
        &json!({"is_admin": false}),
    )
    .expect(200);
    for caller in [second.caller(), key.caller()] {
        gateway.get_by(&caller, "/admin/x").refused_as(403);
        gateway.get_by(&caller, "/auth/accounts").refused_as(403);
    }
}

#[test]
fn administrators_change_only_their_part_of_an_account() {
    let (_upstream, gateway) = gateway();
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    // Roles that are assigned in other ways cannot be assigned by name.
    for reserved in [
        "admin",
        "user",
        "pwchange",
        "list-42-manager",
        "a b",
        "a,b",
        "",
    ] {
        let answer = patch(
            &gateway,
            &root.caller(),
            &anna.account_id,
            &json!({"roles": [reserved]}),
        );
        assert!(
            matches!(answer.status, 400 | 403 | 422),
            "{reserved}: {}",
            answer.status
        );
    }
    for wrong in [
        json!({"username": "x"}),
        json!({"uid": "u-12345678"}),
        json!({"password": "x"}),
        json!({"status": "pending"}),
    ] {
        let answer = patch(&gateway, &root.caller(), &anna.account_id, &wrong);
        assert!(
            matches!(answer.status, 400 | 409 | 422),
            "{wrong}: {}",
            answer.status
        );
    }
}

#[test]
fn a_disabled_account_is_out_at_once_and_no_token_brings_it_back() {
    let (_upstream, gateway) = gateway();
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    let (key, reset) = (gateway.key(&anna, &[]), gateway.forgot("anna"));
    for caller in [anna.caller(), key.caller()] {
        gateway.get_by(&caller, "/protected/x").expect(200);
    }
    patch(
        &gateway,
        &root.caller(),
        &anna.account_id,
        &json!({"status": "disabled"}),
    )
    .expect(200);
    for caller in [anna.caller(), key.caller()] {
        gateway.get_by(&caller, "/protected/x").refused_as(401);
        gateway.get_by(&caller, "/auth/me").refused_as(401);
    }
    gateway.refresh(&anna.refresh).expect(400);
    gateway.try_login("anna", &anna.password).refused_as(401);
    gateway
        .set_password(&reset, &password_of("newer"))
        .refused(400, "token_invalid");
    patch(
        &gateway,
        &root.caller(),
        &anna.account_id,
        &json!({"status": "active"}),
    )
    .expect(200);
    gateway
        .get_by(&anna.caller(), "/protected/x")
        .refused_as(401);
    gateway
        .set_password(&reset, &password_of("newer"))
        .refused(400, "token_invalid");
    gateway.login("anna");
}

#[test]
fn a_password_that_must_change_allows_nothing_else() {
    let (upstream, gateway) = gateway();
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    gateway.member("anna", "42", "manager");
    patch(
        &gateway,
        &root.caller(),
        &anna.account_id,
        &json!({"password_must_change": true}),
    )
    .expect(200);
    let anna: Person = gateway.login("anna");
    let before = upstream.count();
    for path in ["/protected/x", "/member/42/x", "/optional/x"] {
        gateway
            .get_by(&anna.caller(), path)
            .refused(403, "password_must_change");
    }
    for path in ["/auth/apikeys", "/auth/sessions", "/auth/members/list/42"] {
        gateway.get_by(&anna.caller(), path).refused_as(403);
    }
    assert_eq!(
        gateway
            .get_by(&anna.caller(), "/auth/me")
            .expect(200)
            .json()["roles"],
        json!(["pwchange"])
    );
    assert_eq!(upstream.count(), before);
    let body = changed(&anna.password, &password_of("newer"));
    gateway.secret(&password_of("newer"));
    gateway
        .put("/auth/password")
        .by(&anna.caller())
        .json(&body)
        .send()
        .expect(200);
    gateway.get_by(&anna.caller(), "/member/42/x").expect(200);
}

#[test]
fn a_key_sets_memberships_only_with_the_scope_for_it() {
    let (_upstream, gateway) = gateway();
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    let (plain, able) = (
        gateway.key(&root, &[]),
        gateway.key(&root, &["auth:members"]),
    );
    let put = |key: &crate::harness::people::Key| {
        gateway
            .put(&format!("/auth/members/list/5/{}", anna.uid))
            .by(&key.caller())
            .json(&json!({"level": "member"}))
            .send()
    };
    put(&plain).refused_as(403);
    gateway
        .get_by(&anna.caller(), "/member/5/x")
        .refused_as(403);
    let answer = put(&able);
    // The role admin requires auth:admin; whether the scope suffices depends on the rights of the key's owner.
    if answer.status < 300 {
        gateway.get_by(&anna.caller(), "/member/5/x").expect(200);
    } else {
        answer.refused_as(403);
    }
    gateway
        .get_by(&able.caller(), "/auth/accounts")
        .refused_as(403);
    gateway.get_by(&able.caller(), "/admin/x").refused_as(403);
}
