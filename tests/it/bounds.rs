//! The contents of an account and the identity headers for an upstream are bounded; lists are paged.

use serde_json::{Value, json};

use crate::harness::at_once;
use crate::harness::gateway::Gateway;
use crate::harness::people::Caller;
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

/// A route that sends its service all roles.
const ALL: &str = "[[route]]\npath = \"/all/**\"\nupstream = \"main\"\nrequire = \"authenticated\"\nall_roles = true\n";

/// Returns all items of a list, page by page, and the number of pages.
fn pages(gateway: &Gateway, by: &Caller, path: &str) -> (Vec<Value>, usize) {
    let (mut items, mut count) = (Vec::new(), 0);
    let mut next: Option<String> = None;
    loop {
        let query = next.map_or_else(String::new, |cursor| format!("?cursor={cursor}"));
        let page = gateway
            .get_by(by, &format!("{path}{query}"))
            .expect(200)
            .json();
        let these = page["items"].as_array().unwrap();
        assert_eq!(page["count"], these.len());
        items.extend(these.iter().cloned());
        count += 1;
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            return (items, count);
        }
    }
}

#[test]
fn keys_made_at_once_are_no_more_than_one_account_may_have() {
    let gateway = Gateway::start_on("sled", "");
    let anna = gateway.person("anna");
    let statuses = at_once(67, |number| {
        let body = json!({"name": format!("key {number}")});
        let made = gateway
            .post("/auth/apikeys")
            .by(&anna.caller())
            .json(&body)
            .send();
        if made.status == 201 {
            gateway.secret(&made.member("apikey"));
        } else {
            made.refused(422, "apikey_limit");
        }
        made.status
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 50);
    let (keys, _) = pages(&gateway, &anna.caller(), "/auth/apikeys");
    assert_eq!(keys.len(), 50);
    let first = keys[0]["id"].as_str().unwrap();
    let rest = gateway.get_by(&anna.caller(), &format!("/auth/apikeys?cursor={first}"));
    assert_eq!(rest.expect(200).json()["count"], 49);
    for path in ["/auth/apikeys", "/auth/sessions", "/auth/members/list/42"] {
        let root = gateway.administrator(&format!("root{}", path.len()));
        let answer = gateway.get_by(&root.caller(), &format!("{path}?cursor=*"));
        answer.refused(422, "value_invalid");
        let answer = gateway.get_by(&root.caller(), &format!("{path}?page=2"));
        answer.refused(400, "query_malformed");
    }
}

#[test]
fn the_oldest_of_too_many_sessions_ends_and_all_are_listed_in_pages() {
    let gateway = Gateway::start("[account]\nhash_threads = 2\n");
    let anna = gateway.person("anna");
    let again = gateway.login("anna");
    let second = gateway.login("anna");
    let mut last = gateway.login("anna");
    for _ in 4..202 {
        last = gateway.login("anna");
    }
    let (sessions, count) = pages(&gateway, &last.caller(), "/auth/sessions");
    assert_eq!((sessions.len(), count), (200, 2));
    for (person, is_live) in [
        (&anna, false),
        (&again, false),
        (&second, true),
        (&last, true),
    ] {
        let answer = gateway.get_by(&person.caller(), "/auth/me");
        if is_live {
            answer.expect(200);
        } else {
            answer.refused(401, "session_ended");
        }
    }
    let root = gateway.administrator("root");
    let path = format!("/auth/accounts/{}/sessions", anna.account_id);
    assert_eq!(pages(&gateway, &root.caller(), &path).1, 2);
}

/// Others assign the roles: a service must never get a head that it refuses to read.
#[test]
fn memberships_that_others_give_make_no_head_too_large() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("{}{ALL}", routes(&upstream)));
    let anna = gateway.person("anna");
    let root = gateway.administrator("root");
    let give = |number: usize| {
        gateway
            .put(&format!("/auth/members/list/number-{number}/{}", anna.uid))
            .by(&root.caller())
            .json(&json!({"level": "member"}))
            .send()
            .expect(200);
    };
    (0..100).for_each(give);
    gateway.get_by(&anna.caller(), "/all/x").expect(200);
    let roles = upstream.last().header("x-auth-roles").unwrap().to_owned();
    assert!(roles.contains("list-number-99-member"), "{roles}");
    (100..400).for_each(give);
    let before = upstream.count();
    let refused = gateway.get_by(&anna.caller(), "/all/x");
    refused.refused(403, "identity_too_large");
    assert_eq!(upstream.count(), before);
    // Where a service gets only the roles that concern the request, nothing has changed.
    gateway.get_by(&anna.caller(), "/protected/x").expect(200);
    gateway
        .get_by(&anna.caller(), "/member/number-399/x")
        .expect(200);
    // Every member can leave.
    for number in 100..400 {
        let place = format!("/auth/members/list/number-{number}/{}", anna.uid);
        gateway.delete(&place).by(&anna.caller()).send().expect(204);
    }
    gateway.get_by(&anna.caller(), "/all/x").expect(200);
}
