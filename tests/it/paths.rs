//! The path that is matched is the path that is sent: ambiguous paths are refused, and no others.

use std::fmt::Write;

use crate::harness::gateway::Gateway;
use crate::harness::routes::{route, routes};
use crate::harness::upstream::Upstream;

/// Each prefix is combined with each trick.
const BEGINNINGS: [&str; 3] = ["/public/", "/public/a/", "/nowhere/"];

/// Paths that lead elsewhere for some server, or nowhere at all.
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
    "%00",
    "a%00.html",
    "%0d%0aX-Auth-Uid:%20x",
    "%0a",
    "%09",
    "%7f",
    "%252e%252e/x",
    "%zz",
    "%",
    "%1",
    "%u002e",
    "%c0%ae%c0%ae/x",
    "%e0%80%ae",
    "..;/protected/x",
    "..;x=y/protected/x",
    ".;/x",
    "%2e%2e;/x",
    "%EF%BC%8E%EF%BC%8E/x",
    "%E2%80%A5/x",
    "x#fragment",
    "#",
    "x?y#z",
    "..%20/x",
    "%20../x",
    "%252e%252e%252fprotected/x",
    "..%253bx/protected/x",
    "..%3fx",
    "a%2f..%2f..%2fprotected",
    "%c0%2e%c0%2e/x",
    "%E2%80%A6/x",
    "...",
    "..%2500/x",
];

/// Paths of ordinary applications, with the path that is sent.
const ORDINARY: &[(&str, &str)] = &[
    ("x", "x"),
    ("", ""),
    ("%7Eanna/%2Dx", "~anna/-x"),
    ("%c3%a9", "%C3%A9"),
    ("a%20b", "a%20b"),
    ("a+b,c:d@e!$&'()*=", "a+b,c:d@e!$&'()*="),
    ("a;v=1/b", "a;v=1/b"),
    ("a;x=%2F", "a;x=%2F"),
    ("a%2fb", "a%2Fb"),
    ("@scope%2fname", "@scope%2Fname"),
    ("a%5cb", "a%5Cb"),
    ("a\\b", "a\\b"),
    ("/x", "/x"),
    ("a//b", "a//b"),
    ("100%25", "100%25"),
    ("%252f", "%252f"),
    ("a%3Bb", "a%3Bb"),
    ("%3Fx", "%3Fx"),
    ("%23name", "%23name"),
    ("%E9", "%E9"),
    ("%c0%af", "%C0%AF"),
    ("%ed%a0%80", "%ED%A0%80"),
    ("%EF%BC%A1%EF%BC%8Fx", "%EF%BC%A1%EF%BC%8Fx"),
    (
        "%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB",
        "%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB",
    ),
    (";/x", ";/x"),
    ("{x}^y|[z]", "{x}^y|[z]"),
    ("a\"b<c>`", "a%22b%3Cc%3E%60"),
    ("caf\u{e9}?\u{e9}=\"<>", "caf%C3%A9?%C3%A9=%22%3C%3E"),
    ("a..", "a.."),
    ("README.MD", "README.MD"),
    (
        "x?a=../../protected&b=%2e%2e//;%00",
        "x?a=../../protected&b=%2e%2e//;%00",
    ),
    ("x?", "x?"),
    ("x?a?b", "x?a?b"),
];

#[test]
fn paths_that_lead_elsewhere_are_400_and_reach_no_upstream() {
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
            // In the gateway's own form, not the bare one of the parser in front of the guard.
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
    for (target, sent) in ORDINARY {
        let answer = gateway.get(&format!("/public/{target}")).send();
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!(
            upstream.last().target,
            format!("/public/{sent}"),
            "{target}"
        );
        gateway
            .get(&format!("/nowhere/{target}"))
            .send()
            .refused(404, "no_route");
    }
    gateway.get("/%70ublic/%61").send().expect(200);
    assert_eq!(upstream.last().target, "/public/a");
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

/// Routes of one upstream: a public `/**`, and more with their requirements.
fn public_but(upstream: &Upstream, more: &[(&str, &str)]) -> String {
    let address = upstream.address;
    let mut text = format!("[[upstream]]\nname = \"main\"\naddresses = [\"{address}\"]\n");
    text.push_str(&route("/**", "\"public\""));
    for (path, require) in more {
        text.push_str(&route(path, require));
    }
    text
}

/// A path, and a pattern that some server would match it with.
const AROUND: &[(&str, &str)] = &[
    ("/%40admin/x", "/@admin/**"),
    ("/%2540admin/x", "/%40Admin/**"),
    ("/Admin/x", "/admin/**"),
    ("/caf%C3%89/x", "/caf\u{e9}/**"),
    ("/files/a%2Fb", "/files/a/b"),
    ("/files/a%252fb", "/files/{x}/{y}"),
    ("/npm/@scope%2fname", "/npm/@scope/**"),
    ("/room/%23name", "/room"),
    ("/room/%3Fname", "/room"),
    ("/repo//x", "/repo/x"),
    ("//repo/x", "/repo/x"),
    ("//host.test/admin", "/admin"),
    ("/a;v=1/b", "/a/b"),
    ("/a;x=%2F/b", "/a/b"),
    ("/a%3Bx/b", "/a/b"),
    ("/a\\b", "/a/b"),
    ("/a%5cb", "/a/b"),
    ("/a%20/b", "/a/b"),
    ("/a./b", "/a/b"),
    ("/100%2525", "/100%25"),
    ("/%EF%BD%81%EF%BC%8Fb", "/a/b"),
    ("/a%E2%80%8Db", "/ab"),
    ("/caf%E9", "/caf%C3%A9"),
    ("/a%c0%afb", "/a/b"),
];

#[test]
fn a_path_passes_until_a_rule_depends_on_how_it_is_read() {
    let upstream = Upstream::start();
    let mut text = public_but(&upstream, &[]);
    for (place, (_, rule)) in AROUND.iter().enumerate() {
        text.push_str(&route(rule, "\"authenticated\""));
        writeln!(text, "hosts = [\"host-{place}.test\"]").unwrap();
    }
    let gateway = Gateway::start(&text);
    for (path, _) in AROUND {
        let answer = gateway.get(path).send();
        assert_eq!(answer.status, 200, "{path} alone: {answer:?}");
    }
    let count = upstream.count();
    for (place, (path, rule)) in AROUND.iter().enumerate() {
        let host = format!("host-{place}.test");
        let answer = gateway.get(path).host(&host).send();
        assert_eq!(answer.status, 400, "{path} beside {rule}: {answer:?}");
        answer.refused(400, "path_refused");
        let ended = gateway.cli(&["explain", "GET", &format!("http://{host}{path}")], "");
        let told = ended.stdout;
        assert_eq!(told.lines().next(), Some("deny path_refused"), "{path}");
        let names_both = told.contains("leads to /**; a server may read") && told.contains(rule);
        assert!(names_both, "{path} beside {rule}: {told}");
    }
    assert_eq!(upstream.count(), count);
    let ended = gateway.cli(&["explain", "GET", "http://host-0.test/%40admin/x"], "");
    let wanted = "/%40admin/x leads to /**; a server may read /@admin/x: /@admin/**";
    assert!(ended.stdout.contains(wanted), "{}", ended.stdout);
}

#[test]
fn the_gateways_own_paths_have_one_spelling_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for target in [
        "/auth/../public/x",
        "/public/../auth/me",
        "/auth/%2e%2e/public/x",
        "/auth/%252e%252e/public/x",
        "/auth//me",
        "/auth/me%2f",
        "/auth/me;x",
        "/auth/apikeys/%FF",
        "//auth/me",
        "/auth%2fme",
        "/auth;/me",
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

#[test]
fn the_gateways_own_paths_are_not_passed_on_in_another_spelling() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&public_but(&upstream, &[]));
    for target in [
        "//auth/me",
        "/auth%2fme",
        "/auth%252fme",
        "/auth;/me",
        "/auth./me",
        "/AUTH/me",
        "/auth%3Fx",
        "/.well-known/jwks.json/",
        "/.well-known%2Fjwks.json",
    ] {
        gateway.get(target).send().refused(400, "path_refused");
    }
    gateway.get("/%61uth/me").send().refused_as(401);
    assert_eq!(upstream.count(), 0);
    gateway.get("/authors/me").send().expect(200);
}

#[test]
fn where_the_last_slash_leads_to_another_route_both_are_asked() {
    let upstream = Upstream::start();
    let rules = [
        ("/pay", "{ any_role = [\"admin\"] }"),
        ("/both", "\"authenticated\""),
        ("/both/**", "\"authenticated\""),
    ];
    let gateway = Gateway::start(&public_but(&upstream, &rules));
    let (anna, boss) = (gateway.person("anna"), gateway.administrator("boss"));
    for path in ["/pay", "/pay/", "/both", "/both/"] {
        gateway.get(path).send().refused(401, "credential_missing");
    }
    for path in ["/pay", "/pay/"] {
        gateway
            .get(path)
            .by(&anna.caller())
            .send()
            .refused(403, "role_missing");
        gateway.get(path).by(&boss.caller()).send().expect(200);
    }
    for path in ["/both", "/both/", "/pay/x"] {
        gateway.get(path).by(&anna.caller()).send().expect(200);
    }
    for path in ["/PAY", "/Pay/", "/pay%20", "/pay;x"] {
        gateway
            .get(path)
            .by(&boss.caller())
            .send()
            .refused(400, "path_refused");
    }
    let checked = gateway.cli(&["check"], "");
    assert!(
        checked.all().contains("note     route[1].path: /pay "),
        "{}",
        checked.all()
    );
    assert!(!checked.all().contains("/both"), "{}", checked.all());
}

#[test]
fn case_is_kept_apart_where_the_upstream_does_so() {
    let upstream = Upstream::start();
    let rules = [("/admin/**", "\"authenticated\"")];
    let keeps = public_but(&upstream, &rules).replacen(
        "\n[[route]]",
        "\ncase_sensitive = true\n[[route]]",
        1,
    );
    let gateway = Gateway::start(&keeps);
    gateway.get("/Admin/x").send().expect(200);
    gateway.get("/admin/x").send().refused_as(401);
    gateway
        .get("/%2561dmin/x")
        .send()
        .refused(400, "path_refused");
}

#[test]
fn preflights_are_read_under_the_method_that_they_announce() {
    let upstream = Upstream::start();
    let text = format!(
        "{}cors_preflight = true\n{}methods = [\"PUT\"]\n",
        public_but(&upstream, &[]),
        route("/@admin/**", "\"authenticated\"")
    );
    let gateway = Gateway::start(&text);
    let preflight = |path: &str, method: &str| {
        let asked = gateway
            .request("OPTIONS", path)
            .header("Origin", "https://a.test");
        asked.header("Access-Control-Request-Method", method).send()
    };
    preflight("/x", "PUT").expect(200);
    preflight("/%40x", "PUT").expect(200);
    preflight("/%40admin/x", "PUT").refused(400, "path_refused");
    preflight("/%40admin/x", "GET").refused(400, "path_refused");
    preflight("/@admin/x", "PUT").refused(405, "method_refused");
}

#[test]
fn a_browser_gets_a_page_for_a_refused_path() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let path = "/hello/..%2f..%2fadm";
    let navigation = |path: &str| {
        let request = gateway.get(path).header("Accept", "text/html");
        request.header("Sec-Fetch-Mode", "navigate")
    };
    let answer = navigation(path).send();
    answer.refused(400, "path_refused");
    assert!(answer.is_html(), "{answer:?}");
    // It leads to the root of the application, and repeats nothing of the request.
    let text = answer.text();
    assert!(text.contains("id=\"back\""), "{text}");
    assert!(!text.contains("adm"), "{text}");
    // Programs get a problem document, and so does a proxy that asks.
    let answers = [
        gateway.get(path).send(),
        gateway
            .get(path)
            .header("Accept", "text/html")
            .header("Sec-Fetch-Mode", "cors")
            .send(),
        gateway.post(path).header("Accept", "text/html").send(),
        navigation("/auth/verify/..%2fx").send(),
    ];
    for answer in answers {
        assert!(!answer.is_html(), "{answer:?}");
    }
    assert_eq!(upstream.count(), 0);
}
