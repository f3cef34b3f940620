//! One table of promises, tested behind each of the five proxies.

use std::net::SocketAddr;

use crate::forward_auth::proxies::{Behind, Kind};
use crate::harness::gateway::Gateway;
use crate::harness::http::{Connection, Response};
use crate::harness::people::{Caller, Person};
use crate::harness::request::Request;
use crate::harness::upstream::{IDENTITY, Seen};
use crate::harness::{at_once, wait_for};

type Promise = fn(&Behind);

const PROMISES: [(&str, Promise); 17] = [
    ("what is allowed arrives with its identity", allowed),
    ("what is refused reaches nobody, and is told why", refused),
    (
        "a browser is sent to the login page and comes back",
        navigation,
    ),
    (
        "no forged identity arrives in any spelling",
        forged_identity,
    ),
    ("no forged method or target is judged", forged_request),
    (
        "no field names another method to the service",
        named_methods,
    ),
    ("preflights pass where the route says so", preflight),
    ("bodies arrive whole", bodies),
    ("handshakes of WebSockets are judged", websocket),
    ("no HTTP/2 follows that nobody judges", h2c),
    (
        "no caller has its identity taken away on the next hop",
        named_in_connection,
    ),
    ("big cookies arrive", big_cookies),
    ("many roles arrive", many_roles),
    ("no path leads around the decision", path_tricks),
    ("nobody asks through the proxy", outsiders),
    (
        "the caller's address is the one that the proxy sees",
        client_address,
    ),
    ("without a decision nothing passes", fail_closed),
];

fn keeps_the_promises(kind: Kind) {
    let behind = Behind::start(kind);
    for (name, promise) in PROMISES {
        eprintln!("{kind:?}: {name}");
        promise(&behind);
    }
}

#[test]
fn nginx_keeps_the_promises() {
    keeps_the_promises(Kind::Nginx);
}

#[test]
fn traefik_keeps_the_promises() {
    keeps_the_promises(Kind::Traefik);
}

#[test]
fn caddy_keeps_the_promises() {
    keeps_the_promises(Kind::Caddy);
}

#[test]
fn envoy_keeps_the_promises() {
    keeps_the_promises(Kind::Envoy);
}

#[test]
fn envoy_keeps_the_promises_over_grpc() {
    keeps_the_promises(Kind::EnvoyGrpc);
}

#[test]
fn haproxy_keeps_the_promises() {
    keeps_the_promises(Kind::Haproxy);
}

/// Sends a request, and returns the request that the service received.
#[track_caller]
fn arrived(behind: &Behind, request: Request<'_>) -> Seen {
    let before = behind.upstream.count();
    let what = request.told();
    let answer = request.send();
    assert_eq!(answer.status, 200, "{what}: {answer:?}");
    assert_eq!(behind.upstream.count(), before + 1, "{what}");
    behind.upstream.last()
}

/// Sends a request, and expects that it is refused and does not reach the service.
#[track_caller]
fn stopped(behind: &Behind, request: Request<'_>) -> Response {
    let before = behind.upstream.count();
    let what = request.told();
    let answer = request.send();
    let reached = behind.upstream.count() != before;
    assert!(
        !reached,
        "{what} reached the service: {}",
        behind.upstream.last().text()
    );
    assert!((300..600).contains(&answer.status), "{what}: {answer:?}");
    answer
}

/// Returns the value of a field that is not empty.
fn told<'s>(seen: &'s Seen, name: &str) -> Option<&'s str> {
    seen.header(name).filter(|value| !value.is_empty())
}

#[track_caller]
fn is_anna(seen: &Seen, anna: &Person, method: &str) {
    assert_eq!(
        told(seen, "x-auth-uid"),
        Some(anna.uid.as_str()),
        "{}",
        seen.text()
    );
    assert_eq!(told(seen, "x-auth-username"), Some("anna"));
    assert_eq!(told(seen, "x-auth-method"), Some(method));
}

fn allowed(behind: &Behind) {
    let anna = &behind.anna;
    let key = behind.gateway.key(anna, &[]);
    let target = "/x/a%20b;c=d/e?f=%2e%2e/&g=h";
    let seen = arrived(behind, behind.get(target).by(&anna.caller()));
    is_anna(&seen, anna, "jwt");
    assert_eq!(seen.target, target);
    assert_eq!(told(&seen, "x-auth-roles"), Some("user"));
    assert_eq!(seen.header("host"), Some(behind.proxy.to_string().as_str()));
    let request_id = seen.header("x-request-id").unwrap();
    assert_eq!(behind.gateway.record(request_id)["path"], "/x/a%20b;c=d/e");
    for field in ["authorization", "x-api-key", "x-doorward-secret"] {
        assert_eq!(seen.header(field), None, "{}", seen.text());
    }
    let seen = arrived(behind, behind.get("/x").by(&key.caller()));
    is_anna(&seen, anna, "apikey");
    assert_eq!(told(&seen, "x-auth-key-id"), Some(key.id.as_str()));
    assert_eq!(seen.header("x-api-key"), None, "{}", seen.text());
    let seen = arrived(behind, behind.get("/x").header("Cookie", behind.cookie()));
    is_anna(&seen, anna, "session");
    let seen = arrived(behind, behind.get("/lists/42/x").by(&anna.caller()));
    assert_eq!(
        told(&seen, "x-auth-roles"),
        Some("user list-42-invitee list-42-member")
    );
    for path in ["/public/x", "/optional/x"] {
        let seen = arrived(behind, behind.get(path));
        assert_eq!(told(&seen, "x-auth-method"), Some("anonymous"), "{path}");
        assert_eq!(told(&seen, "x-auth-uid"), None, "{path}");
    }
    for method in ["HEAD", "PUT", "DELETE", "PATCH"] {
        let seen = arrived(behind, behind.request(method, "/x").by(&anna.caller()));
        assert_eq!(seen.method, method);
    }
}

fn refused(behind: &Behind) {
    let anna = behind.anna.caller();
    let cases = [
        ("GET", "/x", Caller::Anonymous, 401),
        ("POST", "/x", Caller::Anonymous, 401),
        ("GET", "/x", Caller::Session("a.b.c".to_owned()), 401),
        ("GET", "/x", Caller::Key("dwk_x".to_owned()), 401),
        (
            "GET",
            "/optional/x",
            Caller::Session("a.b.c".to_owned()),
            401,
        ),
        ("GET", "/admin/x", anna.clone(), 403),
        ("GET", "/lists/43/x", anna.clone(), 403),
        ("POST", "/readable/x", Caller::Anonymous, 403),
        ("GET", "/elsewhere/x", Caller::Anonymous, 401),
    ];
    for (method, path, caller, status) in cases {
        let answer = stopped(behind, behind.request(method, path).by(&caller));
        assert_eq!(
            answer.status, status,
            "{method} {path} {caller:?}: {answer:?}"
        );
        let json = answer.json();
        assert_eq!(json["status"], status, "{json}");
        // nginx does not see the gateway's body, and sends its own.
        let kind = match behind.kind {
            Kind::Nginx => "about:blank",
            _ => "urn:doorward:problem:",
        };
        assert!(json["type"].as_str().unwrap().starts_with(kind), "{json}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(json["request_id"].as_str(), answer.header("x-request-id"));
        assert_eq!(answer.header("location"), None);
        if status == 401 {
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(
                challenge.starts_with("Bearer realm=\"doorward\""),
                "{challenge}"
            );
        }
    }
    let twice = behind.get("/x").by(&anna).header("X-Api-Key", "dwk_x");
    assert_eq!(stopped(behind, twice).status, 401);
    let elsewhere = behind.get("/elsewhere/x").host("elsewhere.example.com");
    arrived(behind, elsewhere);
}

fn navigation(behind: &Behind) {
    let html = |target: &str| behind.get(target).header("Accept", "text/html,*/*;q=0.8");
    let answer = stopped(behind, html("/x/y?a=b&c=d"));
    assert_eq!(answer.status, 302, "{answer:?}");
    let back: String =
        url::form_urlencoded::byte_serialize(format!("{}/x/y?a=b&c=d", behind.origin()).as_bytes())
            .collect();
    let page = format!("{}/auth/login", behind.origin());
    assert_eq!(
        answer.header("location"),
        Some(format!("{page}?rd={back}").as_str())
    );
    let shown = behind
        .get(&format!("/auth/login?rd={back}"))
        .send()
        .expect(200);
    assert!(shown.text().contains("<form"), "{}", shown.text());
    // Another host gets no return URL.
    let foreign = stopped(behind, html("/x").host("evil.test"));
    assert_eq!(
        (foreign.status, foreign.header("location")),
        (302, Some(page.as_str()))
    );
    // A script's request gets a status.
    let script = stopped(behind, html("/x").header("Sec-Fetch-Mode", "cors"));
    assert_eq!((script.status, script.header("location")), (401, None));
    arrived(behind, html("/x").header("Cookie", behind.cookie()));
    // A long return URL makes a long head.
    let long = stopped(behind, html(&format!("/x?{}", "=".repeat(1_900))));
    let back = long.header("location").unwrap_or_default();
    assert_eq!((long.status, 5_700 < back.len()), (302, true), "{long:?}");
}

/// A user in many groups, each named by a UUID as in directories.
fn many_roles(behind: &Behind) {
    let roles: Vec<_> = (0..200).map(|number| format!("{number:036}")).collect();
    let ina = behind.gateway.person("ina");
    let root = behind.gateway.administrator("root");
    let account = format!("/auth/accounts/{}", ina.account_id);
    let request = behind.gateway.request("PATCH", &account);
    let change = serde_json::json!({ "roles": roles });
    request.by(&root.caller()).json(&change).send().expect(200);
    let ina = behind.gateway.login("ina");
    let seen = arrived(behind, behind.get("/x").by(&ina.caller()));
    assert_eq!(told(&seen, "x-auth-uid"), Some(ina.uid.as_str()));
    let told = told(&seen, "x-auth-roles").unwrap_or_default();
    let missing = roles.iter().filter(|role| !told.contains(role.as_str()));
    assert_eq!(missing.count(), 0, "{told}");
}

/// Every spelling of a name that some server may read as the same name.
fn spellings(name: &str) -> [String; 10] {
    let mixed = name.replacen('-', "_", 1);
    [
        name.to_owned(),
        name.to_ascii_lowercase(),
        name.to_ascii_uppercase(),
        name.replace('-', "_"),
        name.replace('-', "_").to_ascii_uppercase(),
        name.replace('-', "."),
        name.replace('-', "~"),
        name.replace('-', "+"),
        mixed.to_ascii_lowercase(),
        mixed,
    ]
}

fn forged_identity(behind: &Behind) {
    let anna = &behind.anna;
    let mut passed = 0;
    for name in IDENTITY {
        for spelling in spellings(name) {
            for caller in [Caller::Anonymous, anna.caller()] {
                let before = behind.upstream.count();
                let request = behind.get("/optional/x").by(&caller);
                let request = request
                    .header(&spelling, "forged")
                    .header(&spelling, "forged2");
                let answer = request.send();
                if answer.status != 200 {
                    assert_eq!(behind.upstream.count(), before, "{spelling}: {answer:?}");
                    continue;
                }
                passed += 1;
                let seen = behind.upstream.last();
                assert!(
                    !seen.text().contains("forged"),
                    "{spelling}: {}",
                    seen.text()
                );
                match caller {
                    Caller::Anonymous => assert_eq!(told(&seen, "x-auth-uid"), None, "{spelling}"),
                    _ => is_anna(&seen, anna, "jwt"),
                }
            }
        }
    }
    // In their own spelling they are replaced, not refused.
    assert!(IDENTITY.len() * 6 <= passed, "only {passed} arrived");
}

fn forged_request(behind: &Behind) {
    let to_public = [
        ("X-Forwarded-Uri", "/public/x".to_owned()),
        ("X-Original-URI", "/public/x".to_owned()),
        ("X-Original-URL", format!("{}/public/x", behind.origin())),
        ("X-Rewrite-URL", "/public/x".to_owned()),
        ("X-Envoy-Original-Path", "/public/x".to_owned()),
        ("X-Forwarded-Prefix", "/public".to_owned()),
        ("X-Forwarded-Path", "/public/x".to_owned()),
    ];
    for (name, value) in &to_public {
        // A caller with access is not affected by it.
        let anna = behind.get("/x").by(&behind.anna.caller());
        let seen = arrived(behind, anna.header(name, value));
        let request_id = seen.header("x-request-id").unwrap();
        assert_eq!(behind.gateway.record(request_id)["path"], "/x", "{name}");
    }
    for (name, value) in &to_public {
        for spelling in spellings(name) {
            stopped(behind, behind.get("/x").header(&spelling, value));
            stopped(
                behind,
                behind
                    .get("/x")
                    .header(&spelling, value)
                    .header(&spelling, value),
            );
        }
    }
    let methods = [
        "X-Forwarded-Method",
        "X-Original-Method",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
    ];
    for name in methods {
        for spelling in spellings(name) {
            stopped(
                behind,
                behind
                    .request("POST", "/readable/x")
                    .header(&spelling, "GET"),
            );
            let preflight = behind
                .request("POST", "/api/x")
                .header(&spelling, "OPTIONS")
                .header("Origin", "https://spa.example.com")
                .header("Access-Control-Request-Method", "POST");
            stopped(behind, preflight);
        }
    }
    for name in ["X-Forwarded-Host", "X-Original-Host", "X-Host", "Forwarded"] {
        for spelling in spellings(name) {
            for value in ["elsewhere.example.com", "host=elsewhere.example.com"] {
                stopped(behind, behind.get("/elsewhere/x").header(&spelling, value));
            }
        }
    }
    // A cookie is accepted for pages of the target's own origin, and the caller cannot choose that origin's scheme.
    for spelling in spellings("X-Forwarded-Proto") {
        let post = behind
            .request("POST", "/x")
            .header("Cookie", behind.cookie());
        let origin = behind.origin().replace("http:", "https:");
        stopped(
            behind,
            post.header("Origin", origin).header(&spelling, "https"),
        );
    }
}

fn named_methods(behind: &Behind) {
    let post = || behind.request("POST", "/public/x");
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ] {
        stopped(behind, post().header(name, "DELETE"));
        for spelling in spellings(name) {
            let asked = post().header(&spelling, "DELETE");
            if let Some(seen) = arrived_or_refused(behind, asked) {
                assert!(!seen.text().contains("DELETE"), "{}", seen.text());
            }
        }
    }
}

fn preflight(behind: &Behind) {
    let ask = |path: &str| {
        behind
            .request("OPTIONS", path)
            .header("Origin", "https://spa.example.com")
            .header("Access-Control-Request-Method", "PUT")
            .header("Access-Control-Request-Headers", "authorization")
    };
    let seen = arrived(behind, ask("/api/x"));
    assert_eq!(
        (seen.method.as_str(), told(&seen, "x-auth-method")),
        ("OPTIONS", Some("anonymous"))
    );
    assert_eq!(seen.header("access-control-request-method"), Some("PUT"));
    assert_eq!(stopped(behind, ask("/x")).status, 401);
    assert_eq!(
        stopped(behind, behind.request("OPTIONS", "/api/x")).status,
        401
    );
    assert_eq!(
        stopped(
            behind,
            behind
                .request("PUT", "/api/x")
                .header("Origin", "https://spa.example.com")
        )
        .status,
        401
    );
}

fn bodies(behind: &Behind) {
    let anna = behind.anna.caller();
    for size in [0, 1, 5000, 300_000] {
        let body = "x".repeat(size);
        let seen = arrived(
            behind,
            behind.request("POST", "/x").by(&anna).body(body.clone()),
        );
        assert_eq!((seen.method.as_str(), seen.body.len()), ("POST", size));
        assert_eq!(seen.body, body.as_bytes());
    }
    let Caller::Session(jwt) = &anna else {
        unreachable!()
    };
    let mut chunked = Connection::open(behind.proxy);
    chunked.write(format!(
        "POST /x HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {jwt}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        behind.proxy
    ));
    assert_eq!(chunked.answer().status, 200);
    assert_eq!(behind.upstream.last().body, b"hello world");
    let refused = stopped(behind, behind.request("POST", "/x").body("x".repeat(5000)));
    assert_eq!(refused.status, 401);
}

fn websocket(behind: &Behind) {
    let handshake = || {
        behind
            .get("/x")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let with_cookie = || handshake().header("Cookie", behind.cookie());
    for request in [
        handshake().by(&behind.anna.caller()),
        with_cookie().header("Origin", behind.origin()),
    ] {
        let mut connection = Connection::open(behind.proxy);
        let answer = request.send_on(&mut connection);
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(
            told(&behind.upstream.last(), "x-auth-uid"),
            Some(behind.anna.uid.as_str())
        );
        connection.write("ping");
        assert_eq!(connection.read(4), b"ping");
    }
    let cases = [
        (handshake(), 401),
        (with_cookie(), 403),
        (with_cookie().header("Origin", "https://evil.test"), 403),
        (with_cookie().header("Origin", "null"), 403),
    ];
    for (request, status) in cases {
        let before = behind.upstream.count();
        let answer = request.send_on(&mut Connection::open(behind.proxy));
        assert_eq!(
            (answer.status, behind.upstream.count()),
            (status, before),
            "{answer:?}"
        );
    }
}

/// Sends a request that a proxy may refuse by itself; returns the request that the service received, if any.
#[track_caller]
fn arrived_or_refused(behind: &Behind, request: Request<'_>) -> Option<Seen> {
    let before = behind.upstream.count();
    let what = request.told();
    let answer = request.send_on(&mut Connection::open(behind.proxy));
    if behind.upstream.count() != before {
        return Some(behind.upstream.last());
    }
    assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
    None
}

/// The requests inside would be neither decided about nor cleared of identity headers.
fn h2c(behind: &Behind) {
    let cases = [
        ("h2c", "Upgrade, HTTP2-Settings"),
        ("H2C", "upgrade"),
        ("websocket, h2c", "Upgrade"),
        ("h2c, websocket", "Upgrade"),
    ];
    for (protocol, connection) in cases {
        let request = behind
            .get("/public/x")
            .header("Upgrade", protocol)
            .header("Connection", connection)
            .header("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        let Some(seen) = arrived_or_refused(behind, request) else {
            continue;
        };
        // A proxy may leave the harmless one of several protocols.
        let upgrade = told(&seen, "upgrade").filter(|left| *left != "websocket");
        assert_eq!(upgrade, None, "{protocol}: {}", seen.text());
    }
}

/// `Connection` names fields for one hop only, so a proxy that removes a name from it removes the field as well.
fn named_in_connection(behind: &Behind) {
    let names = format!("{}, X-Request-Id", IDENTITY.join(", "));
    for connection in [
        names.clone(),
        format!("close, {names}"),
        names.to_ascii_lowercase(),
    ] {
        let request = behind
            .get("/x")
            .by(&behind.anna.caller())
            .header("Connection", connection);
        let Some(seen) = arrived_or_refused(behind, request) else {
            continue;
        };
        is_anna(&seen, &behind.anna, "jwt");
        assert!(told(&seen, "x-request-id").is_some(), "{}", seen.text());
        let left = seen.header("connection").unwrap_or_default();
        assert!(!left.to_ascii_lowercase().contains("x-"), "{}", seen.text());
    }
}

fn big_cookies(behind: &Behind) {
    let own = behind.cookie();
    let big = "x".repeat(12_000);
    let cookies = format!("a={big}; {own}; c=d");
    let seen = arrived(behind, behind.get("/x").header("Cookie", cookies));
    is_anna(&seen, &behind.anna, "session");
    let left = seen.header("cookie").unwrap();
    assert!(left.contains(&big) && left.contains("c=d"));
    // These two have no way to remove a single cookie.
    if !matches!(behind.kind, Kind::Traefik | Kind::Envoy) {
        assert!(!left.contains("doorward"), "{left}");
    }
    for alone in [format!("{own}; c=d"), format!("c=d; {own}"), own] {
        let seen = arrived(behind, behind.get("/x").header("Cookie", alone.clone()));
        if !matches!(behind.kind, Kind::Traefik | Kind::Envoy) {
            assert!(!seen.text().contains("doorward_session"), "{}", seen.text());
        }
    }
    let many = "x".repeat(100_000);
    stopped(
        behind,
        behind.get("/x").header("Cookie", format!("a={many}")),
    );
}

/// Paths below a public one, or below the gateway's own, that a lenient server reads as a protected one.
const TRICKS: [&str; 29] = [
    "/public/../x",
    "/public/./../x",
    "/public/%2e%2e/x",
    "/public/.%2E/x",
    "/public/..%2fx",
    "/public/..%5cx",
    "/public\\..\\x",
    "/public/..;/x",
    "/public/;/../../x",
    "/public/%252e%252e/x",
    "/public/..%00/x",
    "/public/%c0%ae%c0%ae/x",
    "/public/%ef%bc%8e%ef%bc%8e/x",
    "//public/../x",
    "/public/..",
    "/auth/../x",
    "/auth/..%2fx",
    "/auth/%2e%2e/x",
    "/auth/..;/x",
    "/auth;/x",
    "/Public/x",
    "/x#/public/x",
    "/x?/public/x",
    "/%78",
    "//x",
    "/x/%2e%2e/public/x/../../x",
    "*",
    "public/x",
    "http://elsewhere.example.com/elsewhere/../x",
];

/// Sends a request, and expects that it does not reach the service, or only with exactly the path that was decided
/// about.
#[track_caller]
fn arrives_as_judged(behind: &Behind, request: Request<'_>) {
    let before = behind.upstream.count();
    let what = request.told();
    let answer = request.send();
    if behind.upstream.count() == before {
        assert!((300..600).contains(&answer.status), "{what}: {answer:?}");
        return;
    }
    let seen = behind.upstream.last();
    let record = behind.gateway.record(seen.header("x-request-id").unwrap());
    let path = seen.target.split('?').next().unwrap();
    // Escapes of unreserved characters are equal to the characters, and the case of hex digits is irrelevant (RFC 3986
    // section 6.2.2): the gateway decides about the one form, and a proxy may pass on the other.
    let escapes = [("%7E", "~"), ("%61", "a"), ("%78", "x"), ("%2f", "%2F")];
    let path = escapes
        .iter()
        .fold(path.to_owned(), |path, (escape, means)| {
            path.replace(escape, means)
        });
    assert_eq!(record["path"], path, "{what}: {}", seen.text());
    let host = seen.header("host").unwrap();
    assert_eq!(
        record["host"],
        host.split(':').next().unwrap(),
        "{what}: {}",
        seen.text()
    );
}

fn path_tricks(behind: &Behind) {
    let anna = behind.anna.caller();
    let absolute = format!("{}/x", behind.origin());
    for target in TRICKS.into_iter().chain([absolute.as_str()]) {
        stopped(behind, behind.get(target));
        arrives_as_judged(behind, behind.get(target).by(&anna));
    }
    for target in [
        "/x/..;/y",
        "/x/%2e%2e/y",
        "/x//y",
        "/x/./y",
        "/x/%2fy",
        "/%7Ex/%61",
        "/public/;/../x",
    ] {
        arrives_as_judged(behind, behind.get(target));
        arrives_as_judged(behind, behind.get(target).by(&anna));
    }
    // If the request line and Host disagree, the decision is about what the service sees.
    for (line, host) in [
        ("elsewhere.example.com", "a.test"),
        ("a.test", "elsewhere.example.com"),
    ] {
        let target = format!("http://{line}/elsewhere/x");
        arrives_as_judged(behind, behind.get(&target).host(host));
        arrives_as_judged(behind, behind.get(&target).host(host).by(&anna));
    }
}

fn outsiders(behind: &Behind) {
    let about_public = |path: &str| {
        behind
            .get(path)
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", "/public/x")
            .header("X-Forwarded-Host", "127.0.0.1")
            .header("X-Doorward-Secret", "change-me-change-mf")
    };
    for path in [
        "/auth/verify",
        "/auth/verify/",
        "/auth/verify/public/x",
        "/auth/verify?x",
        "/auth/%76erify",
        "/auth/%76erify/public/x",
        "/auth/x/../verify",
        "/auth//verify",
        "/auth/./verify",
        "//auth/verify",
        "/auth/VERIFY",
        "/x/../auth/verify",
    ] {
        stopped(behind, about_public(path));
        stopped(behind, behind.get(path));
    }
    let records = behind.gateway.records();
    let asked = records
        .iter()
        .find(|record| record["reason"] == "forwarder_refused");
    assert_eq!(
        asked, None,
        "the question of an outsider came to the gateway"
    );
    // The other endpoints of the gateway are open.
    assert_eq!(
        behind.get("/auth/methods").send().expect(200).json()["count"].as_u64(),
        Some(1)
    );
    behind
        .get("/auth/me")
        .by(&behind.anna.caller())
        .send()
        .expect(200);
}

/// Connects from another address than the proxy's own.
pub(crate) fn from_elsewhere(to: SocketAddr) -> Connection {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    });
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    Connection::over(stream)
}

fn client_address(behind: &Behind) {
    for forged in [None, Some("192.0.2.66"), Some("192.0.2.66, 127.0.0.1")] {
        let mut request = behind.get("/admin/x").by(&behind.anna.caller());
        if let Some(forged) = forged {
            request = request
                .header("X-Forwarded-For", forged)
                .header("X-Real-Ip", forged);
        }
        let answer = request.send_on(&mut from_elsewhere(behind.proxy));
        assert_eq!(answer.status, 403, "{answer:?}");
        let record = behind
            .gateway
            .record(answer.header("x-request-id").unwrap());
        assert_eq!(record["client"], "127.0.0.2", "{record}");
    }
}

fn fail_closed(behind: &Behind) {
    let anna = behind.anna.caller();
    // The gateway cannot decide.
    let answer = stopped(behind, behind.get("/events/1/x").by(&anna));
    assert!((500..600).contains(&answer.status), "{answer:?}");
    // The gateway is down.
    let status = behind.gateway.stop();
    assert!(status.success());
    let paths = ["/public/x", "/optional/x", "/x"];
    // All at once: HAProxy tries to reach the gateway for three seconds.
    at_once(paths.len() * 2, |index| {
        let mut request = behind.get(paths[index / 2]);
        if index % 2 == 1 {
            request = request.by(&anna);
        }
        let answer = stopped(behind, request);
        assert!((500..600).contains(&answer.status), "{answer:?}");
    });
    // The gateway is up again.
    Gateway::run(&behind.gateway);
    wait_for("a proxy that asks again", || {
        (behind.get("/public/x").send().status == 200).then_some(())
    });
}
