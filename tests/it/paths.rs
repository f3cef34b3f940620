//! One path is matched and sent: what can be read in two ways reaches nobody.

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

/// Each beginning is put before each trick.
const BEGINNINGS: [&str; 3] = ["/public/", "/public/a/", "/nowhere/"];

/// What two readers may take for different paths.
const TRICKS: &[&str] = &[
    "../protected/x",
    "a/../../protected/x",
    "./x",
    "a/.",
    "a/..",
    "..",
    ".",
    "%2e%2e/protected/x",
    "%2E%2E/protected/x",
    ".%2e/protected/x",
    "%2e./protected/x",
    "%2e/x",
    "a/%2e%2e",
    "..%2fprotected/x",
    "..%2Fprotected/x",
    "%2e%2e%2fprotected/x",
    "..%5cprotected/x",
    "..\\protected\\x",
    "a\\b",
    "%5c",
    "a%2fb",
    "a%2Fb",
    "%2f",
    "/x",
    "a//b",
    "a///b",
    "%00",
    "a%00.html",
    "%0d%0aX-Auth-Uid:%20x",
    "%0a",
    "%09",
    "%7f",
    "%25",
    "%252e%252e/x",
    "%252f",
    "%3b",
    "%3f",
    "%3Fx",
    "%23",
    "a%23b",
    "%zz",
    "%",
    "%1",
    "%u002e",
    "%c0%ae%c0%ae/x",
    "%c0%af",
    "%ff",
    "%e0%80%ae",
    "%ed%a0%80",
    "..;/protected/x",
    "..;x=y/protected/x",
    ".;/x",
    ";/x",
    "a/;x/b",
    "%2e%2e;/x",
    "%EF%BC%8E%EF%BC%8E/x",
    "%EF%BC%8Fx",
    "%E2%80%A5/x",
    "x#fragment",
    "#",
    "x?y#z",
    "{x}",
    "x^y",
    "..%20/x",
    "%20../x",
];

#[test]
fn doubtful_paths_are_400_and_reach_no_upstream() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let mut wrong = Vec::new();
    for beginning in BEGINNINGS {
        for trick in TRICKS {
            let target = format!("{beginning}{trick}");
            let answer = gateway.get(&target).send();
            if answer.status != 400 {
                wrong.push(format!("{target}: {}", answer.status));
                continue;
            }
            // In our form, and not the bare one of the parser behind the guard.
            if answer.body.is_empty() {
                wrong.push(format!("{target}: bare"));
            }
        }
    }
    for target in [
        "//public/x",
        "//protected/x",
        "*",
        "public/x",
        "http://{host}/public/../x",
        "http://{host}//public/x",
    ] {
        for answer in gateway.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: {{host}}\r\nConnection: close\r\n\r\n"
        )) {
            if answer.status != 400 {
                wrong.push(format!("{target}: {}", answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "not 400: {wrong:#?}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn what_is_matched_is_what_is_sent() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let cases = [
        ("/public/x", "/public/x"),
        ("/public/", "/public/"),
        ("/public/%7Eanna/%2Dx", "/public/~anna/-x"),
        ("/public/%c3%a9", "/public/%C3%A9"),
        ("/%70ublic/%61", "/public/a"),
        ("/public/a%20b", "/public/a%20b"),
        ("/public/a+b,c:d@e!$&'()*=", "/public/a+b,c:d@e!$&'()*="),
        ("/public/...", ""),
        ("/public/a;v=1/b", "/public/a;v=1/b"),
        (
            "/public/x?a=../../protected&b=%2e%2e//;%00",
            "/public/x?a=../../protected&b=%2e%2e//;%00",
        ),
        ("/public/x?", "/public/x?"),
        ("/public/x?a?b", "/public/x?a?b"),
    ];
    for (target, sent) in cases {
        let answer = gateway.get(target).send();
        if sent.is_empty() {
            answer.refused_as(400);
            continue;
        }
        assert_eq!(
            (answer.status, upstream.last().target.as_str()),
            (200, sent),
            "{target}"
        );
    }
    let answers = gateway.send(
        "GET http://{host}/public/%61?b HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answers[0].status, 200);
    assert_eq!(
        upstream.last().target,
        "/public/a?b",
        "an absolute target is sent in origin form"
    );
}

#[test]
fn no_spelling_opens_a_protected_path() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for target in [
        "/protected/x",
        "/%70rotected/x",
        "/protecte%64/x",
        "/protected/%78",
        "/protected/x?public",
        "/protected/;",
    ] {
        let status = gateway.get(target).send().status;
        assert!(status == 401 || status == 400, "{target}: {status}");
    }
    for target in [
        "/PROTECTED/x",
        "/Protected/x",
        "/protected",
        "/protected;/x",
        "/protected;a=b/x",
        "/public;/../protected/x",
        "/public;x/y",
    ] {
        let status = gateway.get(target).send().status;
        assert!(status == 404 || status == 400, "{target}: {status}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn parameters_of_segments_cannot_change_the_route() {
    let upstream = Upstream::start();
    let address = upstream.address;
    let gateway = Gateway::start(&format!(
        r#"
        [[upstream]]
        name = "main"
        addresses = ["{address}"]
        [[route]]
        path = "/{{any}}/x"
        upstream = "main"
        require = "public"
        [[route]]
        path = "/secret/x"
        upstream = "main"
        require = "authenticated"
        "#
    ));
    // Some servers read `/secret;a/x` as `/secret/x`.
    for target in [
        "/secret;/x",
        "/secret;a=b/x",
        "/secret/x;a",
        "/secret;a/x;b",
    ] {
        gateway.get(target).send().refused(400, "path_refused");
    }
    gateway.get("/open;a/x").send().expect(200);
    assert_eq!(upstream.last().target, "/open;a/x");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn the_gateways_own_paths_have_one_spelling_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for target in [
        "/auth/../public/x",
        "/auth//me",
        "/public/../auth/me",
        "/auth/%2e%2e/public/x",
        "/auth/me%2f",
    ] {
        gateway.get(target).send().refused_as(400);
    }
    for target in [
        "/auth/nothing",
        "/auth/",
        "/auth/me/",
        "/AUTH/me",
        "/authx/me",
        "/.well-known/other",
    ] {
        gateway.get(target).send().refused_as(404);
    }
    gateway.get("/%61uth/me").send().refused_as(401);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn the_gateways_own_endpoints_answer_on_their_hosts_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[listen]\nauth_hosts = [\"auth.example.com\"]\n{}",
        routes(&upstream)
    ));
    for (host, path, status) in [
        ("auth.example.com", "/auth/me", 401),
        ("AUTH.example.com:8080", "/auth/me", 401),
        ("other.example.com", "/auth/me", 404),
        ("xauth.example.com", "/auth/login", 404),
        ("other.example.com", "/public/x", 200),
    ] {
        let answer = gateway.get(path).host(host).send();
        assert_eq!(answer.status, status, "{host} {path}");
    }
}
