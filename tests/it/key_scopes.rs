//! What a key may do: no more than its creator, no more than its scopes, and never manage the keys of its owner.

use serde_json::json;

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{Caller, Person};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    (upstream, gateway)
}

fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway
        .get("/protected/x")
        .by(&Caller::Key(key.to_owned()))
        .send()
        .status
}

#[test]
fn scopes_narrow_the_rights_of_a_key() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    gateway.member("anna", "42", "member");
    let keys = [
        &[][..],
        &["reports:read"],
        &["reports:read", "reports:write"],
    ];
    for (count, scopes) in keys.iter().enumerate() {
        let key = gateway.key(&anna, scopes).caller();
        let wanted = [
            ("/reports/x", 1 <= count),
            ("/both/42/x", 2 <= count),
            ("/member/42/x", true),
        ];
        for (path, may) in wanted {
            let answer = gateway.get_by(&key, path);
            if may {
                answer.expect(200);
            } else {
                answer.refused(403, "scope_missing");
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(
                    challenge.contains("error=\"insufficient_scope\""),
                    "{challenge}"
                );
            }
        }
    }
    // A login has all of them, and scopes never add roles.
    gateway.get_by(&anna.caller(), "/both/42/x").expect(200);
    gateway
        .get_by(&anna.caller(), "/both/43/x")
        .refused(403, "role_missing");
}

#[test]
fn a_key_gets_no_more_than_its_maker_has() {
    let (_upstream, gateway) = gateway();
    let (anna, root) = (gateway.person("anna"), gateway.administrator("root"));
    let make = |person: &Person, scopes: &[&str]| -> Response {
        gateway
            .post("/auth/apikeys")
            .by(&person.caller())
            .json(&json!({"scopes": scopes}))
            .send()
    };
    make(&anna, &["unknown:scope"]).refused_as(422);
    make(&anna, &["reports:read", "reports:read "]).refused_as(422);
    for own in ["auth:admin", "auth:members", "auth:introspect"] {
        let answer = make(&anna, &[own]);
        assert!(
            matches!(answer.status, 403 | 422),
            "{own}: {}",
            answer.status
        );
    }
    for wrong in [
        json!({"scopes": "reports:read"}),
        json!({"scopes": [1]}),
        json!({"name": 1}),
        json!({"uid": root.uid}),
        json!({"expires": 5}),
    ] {
        let answer = gateway
            .post("/auth/apikeys")
            .by(&anna.caller())
            .json(&wrong)
            .send();
        assert!(
            matches!(answer.status, 400 | 422),
            "{wrong}: {}",
            answer.status
        );
    }
    for expires in ["2001-01-01T00:00:00Z", "tomorrow", ""] {
        let answer = gateway
            .post("/auth/apikeys")
            .by(&anna.caller())
            .json(&json!({"expires": expires}))
            .send();
        assert!(
            matches!(answer.status, 400 | 422),
            "{expires}: {}",
            answer.status
        );
    }
    // A key has the role admin only with auth:admin, and only an administrator can grant that.
    let (plain, full) = (
        gateway.key(&root, &["reports:read"]),
        gateway.key(&root, &["auth:admin"]),
    );
    gateway.get_by(&root.caller(), "/admin/x").expect(200);
    gateway
        .get_by(&plain.caller(), "/admin/x")
        .refused(403, "role_missing");
    gateway.get_by(&full.caller(), "/admin/x").expect(200);
    gateway
        .get_by(&plain.caller(), "/auth/accounts")
        .refused_as(403);
    gateway.get_by(&full.caller(), "/auth/accounts").expect(200);
}

#[test]
fn only_owners_manage_keys_and_no_key_creates_keys() {
    let (_upstream, gateway) = gateway();
    let (anna, ben, root) = (
        gateway.person("anna"),
        gateway.person("ben"),
        gateway.administrator("root"),
    );
    let key = gateway.key(&anna, &[]);
    for other in [&ben, &root] {
        gateway
            .get_by(&other.caller(), &format!("/auth/apikeys/{}", key.id))
            .refused_as(404);
        gateway
            .delete(&format!("/auth/apikeys/{}", key.id))
            .by(&other.caller())
            .send()
            .refused_as(404);
        let list = gateway.get_by(&other.caller(), "/auth/apikeys").expect(200);
        assert!(!list.text().contains(&key.id));
    }
    assert_eq!(status(&gateway, &key.text), 200);
    for id in ["nothing0", "x", "..", "%00", "a/b"] {
        let status = gateway
            .delete(&format!("/auth/apikeys/{id}"))
            .by(&anna.caller())
            .send()
            .status;
        assert!(matches!(status, 400 | 404), "{id}: {status}");
    }
    let strong = gateway.key(&root, &["auth:admin", "auth:members"]);
    for caller in [key.caller(), strong.caller()] {
        for request in [
            gateway.get("/auth/apikeys"),
            gateway.post("/auth/apikeys").json(&json!({})),
            gateway.delete(&format!("/auth/apikeys/{}", key.id)),
        ] {
            request.by(&caller).send().refused_as(403);
        }
    }
    gateway
        .get("/auth/apikeys")
        .send()
        .refused(401, "credential_missing");
    let answer = gateway
        .put("/auth/apikeys")
        .by(&anna.caller())
        .json(&json!({}))
        .send();
    answer.refused_as(405);
    assert_eq!(status(&gateway, &key.text), 200);
}
