//! Log in, refresh, log out: a session is accepted as long as it lives, and not one request longer.

use serde_json::json;

use crate::harness::epoch_s;
use crate::harness::gateway::Gateway;
use crate::harness::people::{Caller, Person, password_of};
use crate::harness::routes::routes;
use crate::harness::tokens::{claims_of, part};
use crate::harness::upstream::Upstream;

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    (upstream, gateway)
}

/// Whether the access token is accepted.
fn opens(gateway: &Gateway, token: &str) -> bool {
    let answer = gateway.get("/protected/x").bearer(token).send();
    if answer.status != 200 {
        answer.refused_as(401);
    }
    answer.status == 200
}

#[test]
fn a_login_by_name_or_address_returns_what_the_contract_lists() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    for name in [
        "anna",
        "ANNA",
        "Anna",
        "anna@example.org",
        "ANNA@Example.ORG",
    ] {
        let answer = gateway.try_login(name, &anna.password).expect(200);
        let json = answer.json();
        assert_eq!(json["token_type"], "Bearer", "{name}");
        assert_eq!(json["expires_in"], 900);
        assert_eq!(
            (&json["uid"], &json["account_id"]),
            (&json!(anna.uid), &json!(anna.account_id))
        );
        assert_eq!(json["username"], "anna");
        assert!(json["settings_id"].is_string(), "{json}");
        assert_eq!(
            json["resources"]["list"],
            format!("http://{}", gateway.address)
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(
            answer.header("set-cookie").is_none(),
            "only the form sets the cookie"
        );

        gateway
            .get("/protected/x")
            .bearer(&answer.member("jwt_token"))
            .send()
            .expect(200);
        let seen = upstream.last();
        assert_eq!(seen.header("x-auth-uid"), Some(anna.uid.as_str()));
        assert_eq!(seen.header("x-auth-username"), Some("anna"));
        assert_eq!(seen.header("x-auth-method"), Some("jwt"));
        assert_eq!(seen.header("x-auth-roles"), Some("user"));
        assert_eq!(seen.header("x-auth-key-id"), None);
    }
}

#[test]
fn an_access_token_holds_the_claims_of_the_contract_and_no_roles() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    assert_eq!(part(&anna.jwt, 0)["typ"], "at+jwt");
    assert_eq!(part(&anna.jwt, 0)["alg"], "ES256");
    let claims = claims_of(&anna.jwt);
    let mut names: Vec<_> = claims
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "acc", "aud", "exp", "iat", "iss", "jti", "scope", "sid", "sub"
        ]
    );
    assert_eq!(claims["sub"], anna.uid.as_str());
    assert_eq!(claims["acc"], anna.account_id.as_str());
    assert_eq!(claims["aud"], "doorward");
    let (issued, expires) = (
        claims["iat"].as_u64().unwrap(),
        claims["exp"].as_u64().unwrap(),
    );
    assert_eq!(expires - issued, 900);
    assert!(epoch_s().abs_diff(issued) < 60);
    // A login carries every declared scope except the gateway's own.
    assert_eq!(claims["scope"], "reports:read reports:write");

    let again = gateway.login("anna");
    assert_ne!(claims_of(&again.jwt)["jti"], claims["jti"]);
    assert_ne!(claims_of(&again.jwt)["sid"], claims["sid"]);
}

#[test]
fn whatever_is_wrong_a_login_is_refused_with_the_same_words() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    gateway.register("pending");
    let ben = gateway.person("ben");
    gateway.cli(&["account", "disable", "ben"], "").done();
    let wrong = "entirely Wrong 9 words";
    let cases = [
        ("nobody", wrong),
        ("nobody@example.org", wrong),
        ("anna", wrong),
        ("anna@example.org", wrong),
        ("anna", ""),
        ("pending", wrong),
        ("ben", &ben.password),
        ("ben@example.org", &ben.password),
        ("not a name", wrong),
        ("", wrong),
        ("u-12345678", wrong),
        (&anna.uid, &anna.password),
        (&anna.account_id, &anna.password),
        ("an na", &anna.password),
        ("anna", " seven anna hedgehogs Sing-4"),
        ("anna", "SEVEN ANNA HEDGEHOGS SING-4"),
        ("@", wrong),
        ("a@b@c", wrong),
    ];
    let mut first = None;
    for (name, password) in cases {
        let answer = gateway
            .post("/auth/login")
            .json(&json!({"username": name, "password": password}))
            .send();
        answer.refused_as(401);
        let neutral = answer.neutral();
        assert_eq!(
            *first.get_or_insert(neutral.clone()),
            neutral,
            "{name:?} {password:?}"
        );
    }
}

#[test]
fn a_login_that_breaks_the_form_is_refused() {
    let (_upstream, gateway) = gateway();
    let cases = [
        (
            r#"{"username": "anna", "password": "x", "is_admin": true}"#,
            400,
        ),
        (r#"{"username": "anna"}"#, 400),
        (r#"{"username": "anna", "password": 7}"#, 400),
        (r#"{"username": ["anna"], "password": "x"}"#, 400),
        (r#"{"username": "anna", "password": "x""#, 400),
        (
            r#"{"username": "anna", "username": "ben", "password": "x"}"#,
            400,
        ),
        ("[]", 400),
        ("", 400),
        ("null", 400),
    ];
    for (body, status) in cases {
        let answer = gateway
            .post("/auth/login")
            .header("Content-Type", "application/json")
            .body(body)
            .send();
        assert!(
            answer.status == status || answer.status == 422,
            "{body}: {} {}",
            answer.status,
            answer.text()
        );
        answer.refused_as(answer.status);
    }
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let answer = gateway
        .post("/auth/login")
        .header("Content-Type", "application/json")
        .body(deep)
        .send();
    assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
    gateway
        .post("/auth/login")
        .header("Content-Type", "text/plain")
        .body("{}")
        .send()
        .refused_as(415);
    gateway
        .post("/auth/login")
        .body("{}")
        .send()
        .refused_as(415);
    let answer = gateway.delete("/auth/login").send();
    answer.refused_as(405);
    assert!(answer.header("allow").unwrap().contains("POST"));
}

#[test]
fn logout_counts_on_the_next_request() {
    let (_upstream, gateway) = gateway();
    let (anna, other) = (gateway.person("anna"), gateway.login("anna"));
    for _ in 0..5 {
        assert!(opens(&gateway, &anna.jwt) && opens(&gateway, &other.jwt));
    }
    let answer = gateway
        .post("/auth/logout")
        .bearer(&anna.jwt)
        .send()
        .expect(204);
    assert!(answer.body.is_empty());
    gateway
        .get("/protected/x")
        .bearer(&anna.jwt)
        .send()
        .refused(401, "session_ended");
    gateway
        .get("/optional/x")
        .bearer(&anna.jwt)
        .send()
        .refused(401, "session_ended");
    gateway
        .get("/auth/me")
        .bearer(&anna.jwt)
        .send()
        .refused_as(401);
    gateway
        .post("/auth/logout")
        .bearer(&anna.jwt)
        .send()
        .refused_as(401);
    gateway.refresh(&anna.refresh).expect(400);
    assert!(opens(&gateway, &other.jwt));
    gateway
        .get("/public/x")
        .bearer(&anna.jwt)
        .send()
        .expect(200);
    gateway
        .post("/auth/logout")
        .send()
        .refused(401, "credential_missing");
    gateway
        .get("/auth/logout")
        .bearer(&other.jwt)
        .send()
        .refused_as(405);
}

#[test]
fn people_see_and_end_their_own_sessions_only() {
    let (_upstream, gateway) = gateway();
    let (anna, other, ben) = (
        gateway.person("anna"),
        gateway.login("anna"),
        gateway.person("ben"),
    );
    let id_of = |person: &Person| claims_of(&person.jwt)["sid"].as_str().unwrap().to_owned();
    let list = gateway
        .get("/auth/sessions")
        .bearer(&anna.jwt)
        .send()
        .expect(200);
    for secret in [&anna.jwt, &anna.refresh, &other.refresh] {
        assert!(!list.text().contains(secret.as_str()));
    }
    let list = list.json();
    assert_eq!(list["count"], 2, "{list}");
    let ids: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert!(
        ids.contains(&id_of(&anna).as_str()) && ids.contains(&id_of(&other).as_str()),
        "{list}"
    );
    // Sessions of other accounts are not found.
    gateway
        .delete(&format!("/auth/sessions/{}", id_of(&ben)))
        .bearer(&anna.jwt)
        .send()
        .refused_as(404);
    assert!(opens(&gateway, &ben.jwt));
    gateway
        .delete(&format!("/auth/sessions/{}", id_of(&other)))
        .bearer(&anna.jwt)
        .send()
        .expect(204);
    assert!(!opens(&gateway, &other.jwt) && opens(&gateway, &anna.jwt));
    gateway.refresh(&other.refresh).expect(400);
    gateway
        .delete(&format!("/auth/sessions/{}", id_of(&other)))
        .bearer(&anna.jwt)
        .send()
        .refused_as(404);

    let third = gateway.login("anna");
    gateway
        .delete("/auth/sessions")
        .bearer(&anna.jwt)
        .send()
        .expect(204);
    assert!(!opens(&gateway, &third.jwt) && opens(&gateway, &ben.jwt));
    for caller in [Caller::Anonymous, gateway.key(&ben, &[]).caller()] {
        let status = gateway.get_by(&caller, "/auth/sessions").status;
        assert!(matches!(status, 401 | 403), "{caller:?}: {status}");
    }
}

#[test]
fn me_returns_the_callers_identity() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    gateway.member("anna", "42", "member");
    let key = gateway.key(&anna, &["reports:read"]);
    let scopes = [
        (
            anna.caller(),
            json!(["reports:read", "reports:write"]),
            "jwt",
        ),
        (key.caller(), json!(["reports:read"]), "apikey"),
    ];
    for (caller, scopes, method) in scopes {
        let me = gateway.get_by(&caller, "/auth/me").expect(200).json();
        assert_eq!(
            (&me["uid"], &me["account_id"]),
            (&json!(anna.uid), &json!(anna.account_id))
        );
        assert_eq!(
            (&me["username"], &me["method"]),
            (&json!("anna"), &json!(method))
        );
        assert_eq!(me["scopes"], scopes);
        assert_eq!(
            me["roles"],
            json!(["user", "list-42-invitee", "list-42-member"])
        );
        assert!(
            me["settings_id"].is_string() && me["resources"]["list"].is_string(),
            "{me}"
        );
    }
    gateway
        .get("/auth/me")
        .send()
        .refused(401, "credential_missing");
    gateway
        .get(&format!("/auth/me?access_token={}", anna.jwt))
        .send()
        .refused(401, "credential_missing");
}

#[test]
fn kinds_of_secrets_cannot_stand_for_each_other() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    let reset = gateway.forgot("anna");
    // A whole API key is recognised by its form, and may be sent as a bearer token.
    gateway
        .get("/protected/x")
        .bearer(&key.text)
        .send()
        .expect(200);
    for token in [&anna.refresh, &reset, &anna.password, &anna.uid] {
        gateway
            .get("/protected/x")
            .bearer(token)
            .send()
            .refused(401, "bearer_invalid");
        gateway
            .get("/auth/me")
            .bearer(token)
            .send()
            .refused(401, "bearer_invalid");
    }
    for token in [&anna.refresh, &reset, &anna.uid] {
        gateway
            .get("/protected/x")
            .by(&Caller::Key(token.clone()))
            .send()
            .refused(401, "api_key_invalid");
    }
    // A JWT is longer than any key.
    assert_eq!(
        gateway
            .get("/protected/x")
            .by(&Caller::Key(anna.jwt.clone()))
            .send()
            .status,
        401
    );
    for token in [&anna.jwt, &key.text, &reset] {
        gateway.refresh(token).expect(400);
    }
    for token in [&anna.jwt, &anna.refresh, &key.text] {
        gateway
            .set_password(token, &password_of("other"))
            .refused(400, "token_invalid");
    }
    for token in [&anna.jwt, &anna.refresh, &key.text, &reset] {
        let request = gateway
            .get("/protected/x")
            .header("Cookie", format!("doorward_session={token}"));
        request.send().refused(401, "session_ended");
    }
    gateway
        .set_password(&reset, &password_of("newer"))
        .expect(200);
}
