//! Roles on resources: exact ids, ordered levels, and every change applies to the next request.

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::Caller;
use crate::harness::routes::{route, routes};
use crate::harness::upstream::Upstream;

const LEVELS: [&str; 5] = ["public", "invitee", "member", "manager", "secret"];

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[roles]\nresources = [\"list\", \"event\"]\n{}{}",
        routes(&upstream),
        route(
            "/mixed/{event}/{list}/**",
            "{ any_role = [\"event-{event}-member\", \"list-{list}-member\", \"auditor\"] }"
        )
    ));
    (upstream, gateway)
}

fn set(gateway: &Gateway, by: &Caller, id: &str, uid: &str, level: &str) -> Response {
    gateway
        .put(&format!("/auth/members/list/{id}/{uid}"))
        .by(by)
        .json(&json!({"level": level}))
        .send()
}

fn patch(gateway: &Gateway, by: &Caller, account_id: &str, change: &Value) -> Response {
    gateway
        .request("PATCH", &format!("/auth/accounts/{account_id}"))
        .by(by)
        .json(change)
        .send()
}

#[test]
fn a_level_opens_itself_and_those_below_it() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    for (held, level) in LEVELS.iter().enumerate() {
        gateway.member("anna", "42", level);
        for (asked, route) in LEVELS.iter().enumerate().skip(1) {
            for caller in [anna.caller(), key.caller()] {
                let answer = gateway.get_by(&caller, &format!("/{route}/42/x"));
                if asked <= held {
                    answer.expect(200);
                } else {
                    answer.refused(403, "role_missing");
                }
            }
        }
    }
    gateway
        .cli(&["member", "remove", "anna", "list", "42"], "")
        .done();
    gateway
        .get_by(&anna.caller(), "/invitee/42/x")
        .refused(403, "role_missing");
}

#[test]
fn an_id_is_a_whole_segment_and_nothing_else() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    // The existing memberships: exact ids, and ids that look like parts of others.
    for id in ["4-2", "7", "a.b:c~d_e", "8-member", "Case"] {
        gateway.member("anna", id, "member");
    }
    let cases = [
        ("/member/4-2/x", 200),
        ("/member/42/x", 403),
        ("/member/4/x", 403),
        ("/member/2/x", 403),
        ("/member/4-2-member/x", 403),
        ("/member/7/x", 200),
        ("/member/07/x", 403),
        ("/member/7.0/x", 403),
        ("/member/77/x", 403),
        ("/member/-7/x", 403),
        ("/member/a.b:c~d_e/x", 200),
        ("/member/8-member/x", 200),
        ("/member/8/x", 403),
        ("/member/Case/x", 200),
        ("/member/case/x", 403),
        // Escapes of unreserved characters are equal to the characters. Any other escape is not part of an id, and if a
        // service could read one there nevertheless, the path is refused.
        ("/member/%37/x", 200),
        ("/member/4%2d2/x", 200),
        ("/member/a.b%3Ac~d_e/x", 400),
        ("/member/7%20/x", 400),
        ("/member/%E2%92%BA/x", 400),
        ("/member/7,8/x", 403),
        ("/member/7;x/x", 400),
        ("/member/7+/x", 403),
        ("/member/*/x", 403),
        ("/member/{id}/x", 403),
        ("/member/%7Bid%7D/x", 403),
        ("/member/7%2F8/x", 400),
        ("/member//x", 404),
        ("/member/7%00/x", 400),
    ];
    let found = cases.map(|(path, _)| (path, gateway.get_by(&anna.caller(), path).status));
    assert_eq!(found, cases);
    gateway.get_by(&anna.caller(), "/member/%37/x").expect(200);
    assert_eq!(upstream.last().target, "/member/7/x");
}

#[test]
fn roles_of_one_resource_do_not_open_another() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    gateway.member("anna", "1", "secret");
    gateway
        .cli(&["member", "set", "anna", "event", "2", "member"], "")
        .done();
    for (path, status) in [
        ("/mixed/1/2/x", 403),
        ("/mixed/2/2/x", 200),
        ("/mixed/1/1/x", 200),
        ("/mixed/9/9/x", 403),
    ] {
        gateway.get_by(&anna.caller(), path).expect(status);
    }
}

#[test]
fn the_roles_header_has_the_roles_that_concern_the_path() {
    let upstream = Upstream::start();
    let all = "[[route]]\npath = \"/all/{id}/**\"\nupstream = \"main\"\nrequire = \"authenticated\"\nall_roles = true\n";
    let one =
        "[[route]]\npath = \"/one/{id}/**\"\nupstream = \"main\"\nrequire = \"authenticated\"\n";
    let gateway = Gateway::start(&format!("{}{all}{one}", routes(&upstream)));
    let root = gateway.administrator("root");
    let anna = gateway.person("anna");
    patch(
        &gateway,
        &root.caller(),
        &anna.account_id,
        &json!({"roles": ["auditor", "crew"]}),
    )
    .expect(200);
    gateway.member("anna", "1", "member");
    gateway.member("anna", "2", "invitee");
    let cases = [
        ("/one/1/x", "auditor crew list-1-invitee list-1-member user"),
        ("/one/2/x", "auditor crew list-2-invitee user"),
        ("/one/3/x", "auditor crew user"),
        ("/protected/1/x", "auditor crew user"),
        (
            "/all/3/x",
            "auditor crew list-1-invitee list-1-member list-2-invitee user",
        ),
    ];
    for (path, wanted) in cases {
        gateway.get_by(&anna.caller(), path).expect(200);
        let seen = upstream.last();
        let mut roles: Vec<_> = seen.header("x-auth-roles").unwrap().split(' ').collect();
        roles.sort_unstable();
        assert_eq!(roles.join(" "), wanted, "{path}");
    }
    gateway.get_by(&anna.caller(), "/public/1/x").expect(200);
    assert_eq!(
        upstream.last().header("x-auth-roles"),
        None,
        "public routes look at nobody"
    );
}

#[test]
fn a_change_of_membership_counts_on_the_next_request() {
    let (_upstream, gateway) = gateway();
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    let key = gateway.key(&anna, &[]);
    let statuses = || {
        [anna.caller(), key.caller()].map(|caller| gateway.get_by(&caller, "/member/5/x").status)
    };
    for _ in 0..10 {
        assert_eq!(statuses(), [403, 403]);
        set(&gateway, &root.caller(), "5", &anna.uid, "member").is_one_of(&[200, 201, 204]);
        assert_eq!(statuses(), [200, 200]);
        set(&gateway, &root.caller(), "5", &anna.uid, "invitee").is_one_of(&[200, 201, 204]);
        assert_eq!(statuses(), [403, 403]);
        set(&gateway, &root.caller(), "5", &anna.uid, "manager").is_one_of(&[200, 201, 204]);
        assert_eq!(statuses(), [200, 200]);
        gateway
            .delete(&format!("/auth/members/list/5/{}", anna.uid))
            .by(&root.caller())
            .send()
            .is_one_of(&[200, 204]);
    }
}

#[test]
fn managers_go_no_higher_than_themselves_and_no_further_than_their_resource() {
    let (_upstream, gateway) = gateway();
    let [manager, member, ben, boss] =
        ["manny", "memo", "ben", "boss"].map(|name| gateway.person(name));
    gateway.member("manny", "5", "manager");
    gateway.member("memo", "5", "member");
    gateway.member("boss", "5", "secret");
    let by = manager.caller();
    for (level, may) in [
        ("invitee", true),
        ("member", true),
        ("manager", true),
        ("secret", false),
    ] {
        let answer = set(&gateway, &by, "5", &ben.uid, level);
        if may {
            answer.is_one_of(&[200, 201, 204]);
        } else {
            answer.refused_as(403);
        }
    }
    // Members above one's own level cannot be raised or lowered, and no manager can raise themselves.
    set(&gateway, &by, "5", &boss.uid, "invitee").refused_as(403);
    gateway
        .delete(&format!("/auth/members/list/5/{}", boss.uid))
        .by(&by)
        .send()
        .refused_as(403);
    set(&gateway, &by, "5", &manager.uid, "secret").refused_as(403);
    gateway.get_by(&boss.caller(), "/secret/5/x").expect(200);
    // On another resource a manager has no rights; neither has a member below manager.
    for (caller, id) in [
        (&manager, "6"),
        (&manager, "5-x"),
        (&member, "5"),
        (&ben, "6"),
    ] {
        set(&gateway, &caller.caller(), id, &boss.uid, "invitee").refused_as(403);
        gateway
            .delete(&format!("/auth/members/list/{id}/{}", boss.uid))
            .by(&caller.caller())
            .send()
            .refused_as(403);
        gateway
            .get_by(&caller.caller(), &format!("/auth/members/list/{id}"))
            .refused_as(403);
    }
    let list = gateway
        .get_by(&by, "/auth/members/list/5")
        .expect(200)
        .json();
    assert_eq!(list["count"], 4, "{list}");
    set(&gateway, &Caller::Anonymous, "5", &ben.uid, "member").refused(401, "credential_missing");
    // A key needs the scope for it, whatever its owner may do.
    let key = gateway.key(&manager, &[]);
    set(&gateway, &key.caller(), "5", &ben.uid, "invitee").refused_as(403);
}

#[test]
fn malformed_memberships_are_refused() {
    let (_upstream, gateway) = gateway();
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    let by = root.caller();
    let put = |path: &str, body: &Value| gateway.put(path).by(&by).json(body).send();
    let member = json!({"level": "member"});
    let cases = [
        (
            format!("/auth/members/list/5/{}", anna.uid),
            json!({"level": "emperor"}),
            [422, 422],
        ),
        (
            format!("/auth/members/list/5/{}", anna.uid),
            json!({"level": "member", "x": 1}),
            [400, 400],
        ),
        (
            format!("/auth/members/list/5/{}", anna.uid),
            json!({"level": 2}),
            [400, 422],
        ),
        (
            format!("/auth/members/list/5/{}", anna.uid),
            json!({}),
            [400, 422],
        ),
        (
            format!("/auth/members/unknown/5/{}", anna.uid),
            member.clone(),
            [404, 422],
        ),
        (
            format!("/auth/members/List/5/{}", anna.uid),
            member.clone(),
            [404, 422],
        ),
        (
            format!("/auth/members/list/a%20b/{}", anna.uid),
            member.clone(),
            [404, 422],
        ),
        (
            format!("/auth/members/list/{}/{}", "x".repeat(129), anna.uid),
            member.clone(),
            [404, 422],
        ),
        (
            "/auth/members/list/5/u-nobody000".to_owned(),
            member.clone(),
            [404, 404],
        ),
        ("/auth/members/list/5/anna".to_owned(), member, [404, 422]),
    ];
    for (path, body, statuses) in cases {
        let answer = put(&path, &body);
        assert!(
            statuses.contains(&answer.status),
            "{path} {body}: {}",
            answer.status
        );
        answer.refused_as(answer.status);
    }
    gateway
        .delete(&format!("/auth/members/list/5/{}", anna.uid))
        .by(&by)
        .send()
        .refused_as(404);
}

#[test]
fn the_roles_endpoint_returns_the_callers_roles() {
    let (_upstream, gateway) = gateway();
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    gateway.member("anna", "1", "member");
    gateway
        .cli(&["member", "set", "anna", "event", "1", "invitee"], "")
        .done();
    let cases = [
        (
            "",
            json!(["user", "event-1-invitee", "list-1-invitee", "list-1-member"]),
        ),
        ("?resource=list", json!(["list-1-invitee", "list-1-member"])),
        (
            "?resource=list&id=1",
            json!(["list-1-invitee", "list-1-member"]),
        ),
        ("?resource=list&id=2", json!([])),
        ("?resource=event&id=1", json!(["event-1-invitee"])),
    ];
    for (query, wanted) in cases {
        let answer = gateway
            .get_by(&anna.caller(), &format!("/auth/roles{query}"))
            .expect(200);
        assert_eq!(sorted(&answer.json()["roles"]), sorted(&wanted), "{query}");
        let separator = if query.is_empty() { '?' } else { '&' };
        let path = format!("/auth/roles{query}{separator}uid={}", anna.uid);
        let answer = gateway.get_by(&root.caller(), &path).expect(200);
        assert_eq!(
            sorted(&answer.json()["roles"]),
            sorted(&wanted),
            "{query} by an administrator"
        );
    }
    gateway
        .get("/auth/roles")
        .send()
        .refused(401, "credential_missing");
    gateway
        .get_by(&root.caller(), "/auth/roles?uid=u-nobody000")
        .refused_as(404);
}

fn sorted(roles: &Value) -> Vec<String> {
    let mut roles: Vec<_> = roles
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role.as_str().unwrap().to_owned())
        .collect();
    roles.sort();
    roles
}

impl Response {
    /// Expects one of these statuses where the contract names none.
    #[track_caller]
    fn is_one_of(&self, statuses: &[u16]) {
        assert!(
            statuses.contains(&self.status),
            "{}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
    }
}
