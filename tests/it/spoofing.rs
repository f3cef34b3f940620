//! Nothing that a caller sends stands for an identity behind the gateway, and no upstream speaks for the gateway.

use crate::harness::gateway::Gateway;
use crate::harness::http::all_of;
use crate::harness::people::Person;
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, IDENTITY, Upstream};

/// Every way to write a name that somebody may read as the same.
fn spellings(name: &str) -> Vec<String> {
    let mut mixed = name.replacen('-', "_", 1);
    let mut all = vec![
        name.to_owned(),
        name.to_ascii_lowercase(),
        name.to_ascii_uppercase(),
        name.replace('-', "_"),
        name.replace('-', "_").to_ascii_lowercase(),
        name.replace('-', "."),
        mixed.clone(),
    ];
    mixed.make_ascii_lowercase();
    all.push(mixed);
    all
}

fn person_and_gateway(upstream: &Upstream) -> (Gateway, Person) {
    let gateway = Gateway::start(&routes(upstream));
    let person = gateway.person("anna");
    (gateway, person)
}

#[test]
fn forged_identities_are_removed_on_every_route_and_ours_stand_once() {
    let upstream = Upstream::start();
    let (gateway, anna) = person_and_gateway(&upstream);
    for path in ["/public/x", "/optional/x", "/protected/x"] {
        for name in IDENTITY {
            for spelling in spellings(name) {
                let mut request = gateway
                    .get(path)
                    .header(&spelling, "forged")
                    .header(&spelling, "forged2");
                if path == "/protected/x" {
                    request = request.by(&anna.caller());
                }
                request.send().expect(200);
                let seen = upstream.last();
                assert!(
                    !seen.text().contains("forged"),
                    "{path} {spelling}: {}",
                    seen.text()
                );
                let ours = if path == "/protected/x" {
                    Some(anna.uid.as_str())
                } else {
                    None
                };
                assert_eq!(seen.header("x-auth-uid"), ours, "{path} {spelling}");
                let method = ours.map_or("anonymous", |_| "jwt");
                assert_eq!(seen.header("x-auth-method"), Some(method), "{path}");
            }
        }
    }
}

#[test]
fn names_of_other_gateways_and_of_other_requests_are_removed() {
    let upstream = Upstream::start();
    let (gateway, _) = person_and_gateway(&upstream);
    let names = [
        "Remote-User",
        "Remote-Groups",
        "X-Remote-User",
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X-WEBAUTH-USER",
        "X-Auth-Request-User",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-URI",
        "X-Forwarded-Uri",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Forwarded-Method",
        "X-Real-IP",
        "Forwarded",
        "Proxy",
        "X-Doorward-Secret",
        "X-Auth-Role",
        "X-Auth-Scope",
    ];
    for name in names {
        for spelling in spellings(name) {
            gateway
                .get("/public/x")
                .header(&spelling, "forged")
                .send()
                .expect(200);
            let seen = upstream.last();
            assert!(
                !seen.text().contains("forged"),
                "{spelling}: {}",
                seen.text()
            );
        }
    }
}

#[test]
fn what_is_nobodys_passes_unchanged() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let fields = [
        ("Accept", "text/html;q=0.5, */*"),
        ("X-Custom_Name", "a  b"),
        ("X-Author", "someone"),
        ("X-Authority", "someone"),
        ("User-Agent", "curl/8"),
        ("Cookie", "a=1; b=\"2\""),
        ("If-None-Match", "\"abc\""),
        ("Range", "bytes=0-1"),
        ("Referer", "http://x/y?z"),
    ];
    let mut request = gateway
        .get("/public/x?q=a%20b&q=2")
        .header("X-Twice", "1")
        .header("X-Twice", "2");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.send().expect(200);
    let seen = upstream.last();
    assert_eq!(seen.target, "/public/x?q=a%20b&q=2");
    for (name, value) in fields {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(all_of(&seen.headers, "x-twice"), ["1", "2"]);
    assert_eq!(
        seen.header("host"),
        Some(gateway.address.to_string().as_str())
    );
}

#[test]
fn connection_can_neither_smuggle_identities_in_nor_take_ours_out() {
    let upstream = Upstream::start();
    let (gateway, anna) = person_and_gateway(&upstream);
    for named in [
        "X-Auth-Uid",
        "close, x-auth-uid, x-auth-method",
        "x-auth-roles, keep-alive",
        "X-Request-Id",
        "x_auth_uid",
        "authorization, x-auth-uid",
    ] {
        let answer = gateway
            .get("/protected/x")
            .by(&anna.caller())
            .header("Connection", named)
            .header("X-Auth-Uid", "forged")
            .header("X_Auth_Uid", "forged")
            .send();
        let seen = upstream.last();
        assert_eq!(answer.status, 200, "{named}: {}", answer.text());
        assert!(!seen.text().contains("forged"), "{named}: {}", seen.text());
        assert_eq!(
            seen.header("x-auth-uid"),
            Some(anna.uid.as_str()),
            "{named}"
        );
        assert_eq!(seen.header("x-auth-method"), Some("jwt"), "{named}");
        assert_eq!(
            seen.header("x-request-id"),
            answer.header("x-request-id"),
            "{named}"
        );
        assert!(
            !seen
                .text()
                .to_ascii_lowercase()
                .contains("connection: close"),
            "{}",
            seen.text()
        );
    }
    // What is named there and is the caller's own goes no further, nor do the other fields of one hop.
    let answer = gateway
        .get("/public/x")
        .header("Connection", "X-Mine, keep-alive")
        .header("X-Mine", "hop")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "trailers")
        .send();
    answer.expect(200);
    let seen = upstream.last();
    for name in ["x-mine", "keep-alive", "proxy-connection"] {
        assert_eq!(seen.header(name), None, "{}", seen.text());
    }
    // A caller that names framing or Host there wants two readers to disagree.
    let before = upstream.count();
    for named in ["Host", "Content-Length, close", "transfer-encoding"] {
        let request = gateway
            .post("/public/x")
            .header("Connection", named)
            .body("x");
        let status = request.send().status;
        let seen: Vec<_> = upstream.seen()[before..]
            .iter()
            .map(crate::harness::upstream::Seen::text)
            .collect();
        assert_eq!((status, seen.as_slice()), (400, [].as_slice()), "{named}");
    }
}

#[test]
fn forwarding_headers_of_strangers_are_replaced() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    gateway
        .get("/public/x")
        .host("shop.example.com")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-For", "7.7.7.7")
        .header("x_forwarded_for", "8.8.8.8")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.test")
        .header("Forwarded", "for=6.6.6.6;host=evil.test")
        .send()
        .expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example.com"));
    for lie in ["6.6.6.6", "7.7.7.7", "8.8.8.8", "evil.test", "https"] {
        assert!(!seen.text().contains(lie), "{lie}: {}", seen.text());
    }
}

#[test]
fn forwarding_headers_of_trusted_proxies_are_kept_and_the_peer_is_added() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\n{}",
        routes(&upstream)
    ));
    let answer = gateway
        .get("/public/x")
        .header("X-Forwarded-For", "6.6.6.6, 192.0.2.7")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "shop.example.com")
        .header("X-Auth-Uid", "forged")
        .header("Forwarded", "for=6.6.6.6")
        .send()
        .expect(200);
    let seen = upstream.last();
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("6.6.6.6, 192.0.2.7, 127.0.0.1")
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example.com"));
    assert_eq!(seen.header("forwarded"), None);
    assert!(!seen.text().contains("forged"));
    let record = gateway.record(answer.header("x-request-id").unwrap());
    assert_eq!(
        record["client"], "192.0.2.7",
        "the client is what the last trusted proxy saw"
    );
}

#[test]
fn renamed_identity_headers_are_guarded_too() {
    let upstream = Upstream::start();
    let more = "[[route]]\npath = \"/renamed/**\"\nupstream = \"main\"\nrequire = \"authenticated\"\n\
                identity_headers = { uid = \"X-Shop-Customer\", roles = \"Remote-Groups\" }\n";
    let gateway = Gateway::start(&format!("{}{more}", routes(&upstream)));
    let anna = gateway.person("anna");
    for spelling in [
        "X-Shop-Customer",
        "x_shop_customer",
        "X-Shop_Customer",
        "Remote-Groups",
        "remote_groups",
        "X-Auth-Uid",
    ] {
        gateway
            .get("/renamed/x")
            .by(&anna.caller())
            .header(spelling, "forged")
            .send()
            .expect(200);
        let seen = upstream.last();
        assert!(
            !seen.text().contains("forged"),
            "{spelling}: {}",
            seen.text()
        );
        assert_eq!(seen.header("x-shop-customer"), Some(anna.uid.as_str()));
        assert_eq!(seen.header("remote-groups"), Some("user"));
        assert_eq!(seen.header("x-auth-uid"), None);
        // A name that one route uses is guarded on all of them: the same service may stand behind both.
        gateway
            .get("/public/x")
            .header(spelling, "forged")
            .send()
            .expect(200);
        assert!(
            !upstream.last().text().contains("forged"),
            "{spelling}: {}",
            upstream.last().text()
        );
    }
}

#[test]
fn credentials_stay_at_the_door_unless_the_route_says_so() {
    let upstream = Upstream::start();
    let more = "[[route]]\npath = \"/passing/**\"\nupstream = \"main\"\nrequire = \"authenticated\"\npass_credentials = true\n";
    let gateway = Gateway::start(&format!("{}{more}", routes(&upstream)));
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    let cookies = "a=1; __Host-doorward=own-cookie-1; doorward_session=own-cookie-2; b=2; __Secure-doorward=own-cookie-3";
    for (caller, secret) in [(anna.caller(), &anna.jwt), (key.caller(), &key.text)] {
        for path in ["/public/x", "/optional/x", "/protected/x"] {
            gateway
                .get(path)
                .by(&caller)
                .header("Cookie", cookies)
                .send()
                .expect(200);
            let seen = upstream.last();
            assert!(
                !seen.text().contains(secret.as_str()) && !seen.text().contains("own-cookie"),
                "{path}: {}",
                seen.text()
            );
            assert_eq!(seen.header("cookie"), Some("a=1; b=2"), "{path}");
            assert_eq!(seen.header("authorization"), None, "{path}");
        }
        gateway.get_by(&caller, "/passing/x").expect(200);
        assert!(
            upstream.last().text().contains(secret.as_str()),
            "{}",
            upstream.last().text()
        );
    }
    gateway
        .get("/public/x")
        .header("Authorization", "Basic dXNlcjpwYXNz")
        .send()
        .expect(200);
    assert_eq!(upstream.last().header("authorization"), None);
    gateway
        .get("/public/x")
        .header("Cookie", "doorward_session=own-cookie-2")
        .send()
        .expect(200);
    assert_eq!(
        upstream.last().header("cookie"),
        None,
        "nothing is left of it"
    );
    // Another spelling of the key's header is no credential for us, and none for anybody else.
    gateway
        .get("/passing/x")
        .by(&anna.caller())
        .header("X_Api_Key", &key.text)
        .send()
        .expect(200);
    assert!(!upstream.last().text().contains(&key.text));
}

#[test]
fn an_upstream_sets_neither_our_cookies_nor_an_identity() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        exchange.write(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: mine=1; Path=/\r\nSet-Cookie: doorward_session=fixed; Path=/\r\n\
             set-cookie: __Host-doorward=fixed; Secure; Path=/\r\nSet-Cookie:  __Secure-doorward = fixed\r\nSet-Cookie: other=2\r\n\
             X-Auth-Uid: fixed\r\nx_auth_roles: fixed\r\nX-Request-Id: fixed\r\nX-Mine: kept\r\n\r\nok",
        );
    });
    let gateway = Gateway::start(&routes(&upstream));
    let answer = gateway.get("/public/x").send().expect(200);
    let values: Vec<_> = answer
        .headers
        .iter()
        .map(|(_, value)| value.as_str())
        .collect();
    assert!(
        !values.iter().any(|value| value.contains("fixed")),
        "{:?}",
        answer.headers
    );
    assert_eq!(answer.all("set-cookie"), ["mine=1; Path=/", "other=2"]);
    assert_eq!(answer.header("x-mine"), Some("kept"));
    assert_eq!(
        answer.header("x-request-id"),
        upstream.last().header("x-request-id")
    );
}
