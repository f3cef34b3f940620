//! Nothing that a caller sends counts as an identity at an upstream, and no upstream can answer in the gateway's name.

use crate::harness::gateway::Gateway;
use crate::harness::http::all_of;
use crate::harness::people::Person;
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, IDENTITY, Upstream};

/// Every spelling of a name that some server may read as the same name.
fn spellings(name: &str) -> Vec<String> {
    let mut mixed = name.replacen('-', "_", 1);
    let mut all = vec![
        name.to_owned(),
        name.to_ascii_lowercase(),
        name.to_ascii_uppercase(),
        name.replace('-', "_"),
        name.replace('-', "_").to_ascii_lowercase(),
        name.replace('-', "."),
        name.replace('-', "__"),
        format!("_{name}"),
        format!("{name}."),
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
        "X-Forwarded-Method",
        "X-Real-IP",
        "Forwarded",
        "Proxy",
        "X-Doorward-Secret",
        "X-Auth-Role",
        "X-Auth-Scope",
        "X-Auth-Token",
        "X-Auth-Anything",
        "X-Forwarded-Anything",
        "X-Original-Anything",
        "X-Rewrite-Anything",
        "X-Remote-Anything",
        "X-WebAuth-Anything",
        "X-Forwarded-Client-Cert",
        "Client-Cert",
        "Client-Cert-Chain",
        "X-SSL-Client-Verify",
        "X-Envoy-Original-Path",
        "True-Client-IP",
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
fn other_fields_pass_unchanged() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let fields = [
        ("Accept", "text/html;q=0.5, */*"),
        ("X-Custom_Name", "a  b"),
        ("X-Author", "someone"),
        ("X-Authority", "someone"),
        ("X-User-Id", "7"),
        ("X-Username", "someone"),
        ("X-User", "someone"),
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
    // A field of the caller that is named there is not passed on, nor are the other hop-by-hop fields.
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
    // A caller that names framing or Host there wants two servers to disagree.
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

fn trusting(headers: &str, more: &str, upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\n{headers}\n{}{more}",
        routes(upstream)
    ))
}

/// Every header that may be listed.
const ALL_TRUSTED: &str = "trusted_headers = [\"X-Forwarded-For\", \"X-Forwarded-Proto\", \"X-Forwarded-Host\", \
                           \"X-Forwarded-Port\", \"X-Forwarded-Prefix\", \"X-Real-IP\"]";

#[test]
fn forwarding_headers_of_trusted_proxies_are_kept_where_they_are_listed() {
    let upstream = Upstream::start();
    let sent = [
        ("X-Forwarded-For", "6.6.6.6, 192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example.com"),
        ("X-Forwarded-Port", "8443"),
        ("X-Forwarded-Prefix", "/shop"),
        ("X-Real-IP", "192.0.2.7"),
        ("X-Request-Id", "7f0b1c9e-6a0e-4f59-9c52-0a4a7a1d2e3f"),
        ("X-Auth-Uid", "forged"),
        ("X-Forwarded-User", "forged"),
        ("Client-Cert", "forged"),
        ("Forwarded", "for=6.6.6.6"),
    ];
    let hops = "6.6.6.6, 192.0.2.7, 127.0.0.1";
    for (headers, is_all) in [("", false), (ALL_TRUSTED, true)] {
        let gateway = trusting(headers, "", &upstream);
        let mut request = gateway.get("/public/x");
        for (name, value) in sent {
            request = request.header(name, value);
        }
        let answer = request.send().expect(200);
        let seen = upstream.last();
        let own = gateway.address.to_string();
        let host = if is_all { "shop.example.com" } else { &own };
        let kept = |value: &'static str| is_all.then_some(value);
        for (name, value) in [
            ("x-forwarded-for", Some(hops)),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-host", Some(host)),
            ("host", Some(host)),
            ("x-forwarded-port", kept("8443")),
            ("x-forwarded-prefix", kept("/shop")),
            ("x-real-ip", kept("192.0.2.7")),
            ("x-request-id", Some("7f0b1c9e-6a0e-4f59-9c52-0a4a7a1d2e3f")),
            ("forwarded", None),
        ] {
            assert_eq!(seen.header(name), value, "{name} {headers}");
        }
        assert!(!seen.text().contains("forged"), "{}", seen.text());
        let record = gateway.record(answer.header("x-request-id").unwrap());
        let known = ["client", "host", "request_id"].map(|name| record[name].as_str().unwrap());
        let bare = host.split(':').next().unwrap();
        assert_eq!(known, ["192.0.2.7", bare, sent[6].1]);
    }
}

#[test]
fn ids_of_requests_are_a_trusted_proxys_to_give_and_fit_for_logs() {
    let upstream = Upstream::start();
    let gateway = trusting("", "", &upstream);
    let strangers = Gateway::start(&routes(&upstream));
    let long = "x".repeat(129);
    for (of, ids, kept) in [
        (&gateway, &["a-1"][..], true),
        (&strangers, &["a-1"], false),
        (&gateway, &["a b"], false),
        (&gateway, &["a\"b"], false),
        (&gateway, &[""], false),
        (&gateway, &[&long], false),
        (&gateway, &["a-1", "a-2"], false),
    ] {
        let mut request = of.get("/public/x");
        for id in ids {
            request = request.header("X-Request-Id", *id);
        }
        let answer = request.send().expect(200);
        let told = answer.header("x-request-id").unwrap();
        assert_eq!(upstream.last().header("x-request-id"), Some(told));
        assert_eq!(told == ids[0], kept, "{ids:?}");
    }
}

#[test]
fn the_host_that_a_trusted_proxy_names_is_the_one_that_is_decided_about() {
    let upstream = Upstream::start();
    let more = "[[route]]\npath = \"/public/**\"\nhosts = [\"shop.example.com\"]\nupstream = \"main\"\nrequire = { any_role = [\"admin\"] }\n";
    let believing = trusting(ALL_TRUSTED, more, &upstream);
    let default = trusting("", more, &upstream);
    let forwarded = "X-Forwarded-Host";
    let cases = [
        (&believing, "a.test", Some("shop.example.com"), 401),
        (&believing, "a.test", Some("SHOP.example.com.:8443"), 401),
        (&believing, "shop.example.com", Some("a.test"), 200),
        (&believing, "shop.example.com", None, 401),
        (&believing, "a.test", Some("a.test, shop.example.com"), 400),
        (&believing, "a.test", Some("a b"), 400),
        (&believing, "a.test", Some(""), 400),
        // Fields that are not listed come from the caller.
        (&default, "shop.example.com", Some("a.test"), 401),
        (&default, "a.test", Some("shop.example.com"), 200),
        (&default, "a.test", Some("a, b"), 200),
    ];
    for (gateway, host, told, status) in cases {
        let mut request = gateway.get("/public/x").host(host);
        if let Some(told) = told {
            request = request.header(forwarded, told);
        }
        let answer = request.send();
        assert_eq!(answer.status, status, "{host} {told:?}: {answer:?}");
        if status == 200 {
            let is_believed = std::ptr::eq(gateway, &raw const believing);
            let wanted = told.filter(|_| is_believed).unwrap_or(host);
            let seen = upstream.last();
            assert_eq!(seen.header("host"), Some(wanted));
            assert_eq!(seen.header("x-forwarded-host"), Some(wanted));
        }
    }
    let twice = believing.get("/public/x").header(forwarded, "a.test");
    twice.header(forwarded, "a.test").send().expect(400);
    // The gateway's own endpoints use it too.
    let listen = format!("{ALL_TRUSTED}\nauth_hosts = [\"auth.example.com\"]");
    let gateway = trusting(&listen, "", &upstream);
    for (host, told, status) in [
        ("a.test", "auth.example.com", 401),
        ("auth.example.com", "a.test", 404),
    ] {
        let request = gateway.get("/auth/me").host(host);
        request.header(forwarded, told).send().expect(status);
    }
}

#[test]
fn the_upstream_gets_the_scheme_that_was_decided_about() {
    let upstream = Upstream::start();
    let public = "public_url = \"https://app.example.com\"";
    let gateway = trusting(public, "", &upstream);
    let cases: [(&[&str], Result<&str, u16>); 10] = [
        (&["http"], Ok("http")),
        (&["HTTPS"], Ok("https")),
        (&["wss"], Ok("https")),
        (&["ws"], Ok("http")),
        (&["https, http"], Ok("http")),
        (&["https", "http"], Ok("http")),
        (&[""], Ok("https")),
        (&[], Ok("https")),
        (&["gopher"], Err(400)),
        (&["https, x"], Err(400)),
    ];
    for (fields, wanted) in cases {
        let mut request = gateway.get("/public/x");
        for field in fields {
            request = request.header("X-Forwarded-Proto", *field);
        }
        let answer = request.send();
        assert_eq!(answer.status, wanted.err().unwrap_or(200), "{fields:?}");
        if let Ok(scheme) = wanted {
            let seen = upstream.last();
            assert_eq!(seen.header("x-forwarded-proto"), Some(scheme), "{fields:?}");
        }
    }
}

#[test]
fn names_that_some_servers_read_as_others_are_refused() {
    let upstream = Upstream::start();
    let (gateway, anna) = person_and_gateway(&upstream);
    let before = upstream.count();
    for separator in "!#$%&\'*+^`|~".chars() {
        for name in ["X-Auth-Uid", "X-Auth-Roles", "Remote-User", "X-Harmless"] {
            let name = name.replace('-', &separator.to_string());
            for path in ["/public/x", "/protected/x", "/auth/me", "/nowhere"] {
                let request = gateway.get(path).by(&anna.caller());
                let answer = request.header(&name, "forged").send();
                answer.refused(400, "header_name_refused");
            }
        }
    }
    assert_eq!(upstream.count(), before);
}

#[test]
fn another_method_is_named_only_where_the_route_takes_it() {
    let upstream = Upstream::start();
    let more = "[[route]]\npath = \"/old/**\"\nupstream = \"main\"\nrequire = \"public\"\n\
                cors_preflight = true\npass_headers = [\"X-HTTP-Method-Override\", \"X-Auth-Token\"]\n";
    let gateway = Gateway::start(&format!("{}{more}", routes(&upstream)));
    let before = upstream.count();
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ] {
        for spelling in spellings(name) {
            for path in ["/public/x", "/optional/x", "/protected/x", "/auth/login"] {
                let request = gateway.post(path).header(&spelling, "DELETE");
                request.send().refused(400, "method_override_refused");
            }
            if !spelling.eq_ignore_ascii_case("x-http-method-override") {
                let request = gateway.post("/old/x").header(&spelling, "DELETE");
                request.send().refused(400, "method_override_refused");
            }
        }
    }
    // As a preflight it would pass without a credential.
    gateway
        .request("OPTIONS", "/old/x")
        .header("Origin", "https://spa.example.com")
        .header("Access-Control-Request-Method", "POST")
        .header("X-HTTP-Method-Override", "DELETE")
        .send()
        .refused(400, "method_override_refused");
    assert_eq!(upstream.count(), before);
    gateway
        .post("/old/x")
        .header("X-HTTP-Method-Override", "DELETE")
        .header("X-Auth-Token", "of the application")
        .header("X_Auth_Token", "forged")
        .header("X-Auth-Uid", "forged")
        .send()
        .expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-http-method-override"), Some("DELETE"));
    assert_eq!(seen.header("x-auth-token"), Some("of the application"));
    assert!(!seen.text().contains("forged"), "{}", seen.text());
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
        "X.Shop.Customer",
        "x__shop__customer",
        "Remote-Groups",
        "remote_groups",
        "X-Auth-Uid",
    ] {
        gateway
            .get("/renamed/x")
            .by(&anna.caller())
            .header(spelling, "forged")
            .header("Connection", spelling)
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
        // A name that one route uses is protected on all routes: the same service may be behind both.
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
    // Another spelling of the key's header is not a credential, neither for the gateway nor for an upstream.
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
