//! RFC 7662: introspection answers callers who may know, and shows all others every token as inactive.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::people::{Caller, Key};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

fn ask(gateway: &Gateway, by: &Caller, token: &str) -> Value {
    let request = gateway.post("/auth/introspect").by(by);
    request.form(&[("token", token)]).send().expect(200).json()
}

fn by_basic(gateway: &Gateway, user: &str, key: &Key) -> u16 {
    let pair = STANDARD.encode(format!("{user}:{}", key.text));
    let request = gateway.post("/auth/introspect");
    let request = request.header("Authorization", format!("Basic {pair}"));
    let answer = request.form(&[("token", &key.text)]).send();
    if answer.status == 200 {
        assert_eq!(answer.json()["active"], true);
    }
    answer.status
}

#[test]
fn introspection_answers_only_callers_who_may_know() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let (anna, ben, root) = (
        gateway.person("anna"),
        gateway.person("ben"),
        gateway.administrator("root"),
    );
    gateway.member("anna", "42", "member");
    let (key, other) = (
        gateway.key(&anna, &["reports:read"]),
        gateway.key(&ben, &[]),
    );
    let service = gateway.key(&root, &["auth:introspect"]);
    let ended = gateway.login("anna");
    gateway
        .post("/auth/logout")
        .bearer(&ended.jwt)
        .send()
        .expect(204);

    let told = ask(&gateway, &anna.caller(), &anna.jwt);
    assert_eq!(
        (&told["active"], &told["sub"]),
        (&json!(true), &json!(anna.uid))
    );
    assert_eq!(told["scope"], "reports:read reports:write");
    assert!(told["exp"].is_u64(), "{told}");
    let roles = told["roles"].as_array().unwrap();
    assert!(roles.contains(&json!("list-42-member")), "{told}");

    let nothing = json!({"active": false});
    let cases = [
        (anna.caller(), &key.text, true),
        (key.caller(), &key.text, true),
        (service.caller(), &anna.jwt, true),
        (service.caller(), &key.text, true),
        (root.caller(), &anna.jwt, true),
        (key.caller(), &anna.jwt, false),
        (ben.caller(), &anna.jwt, false),
        (ben.caller(), &key.text, false),
        (other.caller(), &key.text, false),
        (service.caller(), &ended.jwt, false),
        (root.caller(), &anna.refresh, false),
        (root.caller(), &anna.password, false),
    ];
    for (caller, token, is_told) in cases {
        let told = ask(&gateway, &caller, token);
        assert_eq!(told["active"], is_told, "{caller:?} about {token}");
        assert!(is_told || told == nothing, "{told}");
    }
    for token in ["nonsense", "a.b.c", "dwk_00000000.0"] {
        assert_eq!(ask(&gateway, &root.caller(), token), nothing, "{token}");
    }
}

#[test]
fn basic_carries_a_key_under_its_own_id_here_and_under_any_name_elsewhere() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let (key, other) = (gateway.key(&anna, &[]), gateway.key(&anna, &[]));
    assert_eq!(by_basic(&gateway, &key.id, &key), 200);
    for user in [other.id.as_str(), "", "anna"] {
        assert_eq!(by_basic(&gateway, user, &key), 401, "{user:?}");
    }
    for (user, path) in [("anna", "/protected/x"), ("", "/auth/me")] {
        let basic = STANDARD.encode(format!("{user}:{}", key.text));
        let request = gateway
            .get(path)
            .header("Authorization", format!("Basic {basic}"));
        request.send().expect(200);
    }
    let basic = STANDARD.encode(format!("{}:{}", key.id, key.text));
    let both = gateway
        .post("/auth/introspect")
        .header("Authorization", format!("Basic {basic}"))
        .header("X-Api-Key", &key.text);
    assert_eq!(both.form(&[("token", "x")]).send().status, 400);
}

#[test]
fn unrecognised_callers_may_not_ask() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let answer = gateway
        .post("/auth/introspect")
        .form(&[("token", &anna.jwt)])
        .send()
        .expect(401);
    assert!(answer.header("www-authenticate").is_some());
    let answer = gateway
        .post("/auth/introspect")
        .by(&anna.caller())
        .form(&[])
        .send()
        .expect(400);
    assert_eq!(answer.json()["error"], "invalid_request");
    gateway
        .get_by(&anna.caller(), "/auth/introspect")
        .refused_as(405);
}
