//! Sessions of browsers: the cookie, its rights, its end, and the redirect of a browser without one.

use std::time::Duration;

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::password_of;
use crate::harness::request::Request;
use crate::harness::routes::{route, routes};
use crate::harness::upstream::Upstream;
use crate::harness::{at_once, now, wait_for};

/// The `Accept` of a browser that opens a page.
const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

fn started(session: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("[session]\n{session}\n{}", routes(&upstream)));
    (upstream, gateway)
}

fn own(gateway: &Gateway) -> String {
    format!("http://{}", gateway.address)
}

/// Posts the form as the page itself does.
fn post_form(gateway: &Gateway, username: &str, rd: &str) -> Response {
    let password = password_of(username);
    let password: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
    let rd: String = url::form_urlencoded::byte_serialize(rd.as_bytes()).collect();
    let mut form = vec![("username", username), ("password", password.as_str())];
    if !rd.is_empty() {
        form.push(("rd", &rd));
    }
    gateway
        .post("/auth/login")
        .header("Origin", own(gateway))
        .form(&form)
        .send()
}

/// Returns name and value of the cookie that a login by form sets.
#[track_caller]
fn log_in(gateway: &Gateway, username: &str) -> String {
    let answer = post_form(gateway, username, "").expect(303);
    let cookie = answer.header("set-cookie").expect("a cookie");
    let pair = cookie.split(';').next().unwrap().to_owned();
    gateway.secret(pair.split_once('=').unwrap().1);
    pair
}

fn get<'g>(gateway: &'g Gateway, path: &str, cookie: &str) -> Request<'g> {
    gateway.get(path).header("Cookie", cookie)
}

#[test]
fn the_cookie_opens_routes_and_the_upstream_never_sees_it() {
    let (upstream, gateway) = started("");
    let anna = gateway.person("anna");
    let cookie = log_in(&gateway, "anna");
    for sent in [cookie.clone(), format!("a=b; {cookie}; c=d")] {
        get(&gateway, "/protected/x", &sent).send().expect(200);
        let seen = upstream.last();
        assert_eq!(seen.header("x-auth-uid"), Some(anna.uid.as_str()));
        assert_eq!(seen.header("x-auth-method"), Some("session"));
        assert_eq!(seen.header("x-auth-roles"), Some("user"));
        assert_eq!(
            seen.header("x-auth-scopes"),
            Some("reports:read reports:write")
        );
        assert!(!seen.text().contains("doorward_session"), "{}", seen.text());
    }
    let me = get(&gateway, "/auth/me", &cookie).send().expect(200);
    assert_eq!(me.member("method"), "session");
    // Other credentials have precedence over it, good or bad.
    get(&gateway, "/protected/x", &cookie)
        .bearer(&anna.jwt)
        .send()
        .expect(200);
    assert_eq!(upstream.last().header("x-auth-method"), Some("jwt"));
    get(&gateway, "/protected/x", &cookie)
        .bearer("a.b.c")
        .send()
        .refused(401, "bearer_invalid");
}

#[test]
fn a_login_adopts_no_cookie_that_was_there_before() {
    let (_upstream, gateway) = started("");
    gateway.person("anna");
    gateway.person("thief");
    let planted = log_in(&gateway, "thief");
    let (name, theirs) = planted.split_once('=').unwrap();
    for before in [planted.clone(), format!("{name}=dws_planted")] {
        let password = password_of("anna");
        let answer = gateway
            .post("/auth/login")
            .header("Origin", own(&gateway))
            .header("Cookie", &before)
            .form(&[("username", "anna"), ("password", password.as_str())])
            .send()
            .expect(303);
        let cookie = answer.header("set-cookie").expect("a cookie");
        let pair = cookie.split(';').next().unwrap();
        gateway.secret(pair.split_once('=').unwrap().1);
        assert!(!cookie.contains(theirs) && pair != before, "{before}");
        let me = get(&gateway, "/auth/me", pair).send().expect(200);
        assert_eq!(me.member("username"), "anna");
    }
    // A login replaces the previous login of its browser.
    let planted = get(&gateway, "/auth/me", &planted).send();
    planted.refused(401, "session_ended");
}

#[test]
fn a_cookie_that_is_not_whole_or_comes_twice_opens_nothing() {
    let (upstream, gateway) = started("");
    gateway.person("anna");
    let cookie = log_in(&gateway, "anna");
    let (name, value) = cookie.split_once('=').unwrap();
    for twice in [
        format!("{cookie}; {cookie}"),
        format!("{cookie}; {name}="),
        format!("{name}=x; {cookie}"),
    ] {
        get(&gateway, "/protected/x", &twice)
            .send()
            .refused(401, "credential_missing");
    }
    let two_fields = get(&gateway, "/protected/x", &cookie).header("Cookie", cookie.clone());
    two_fields.send().refused(401, "credential_missing");
    let before = upstream.count();
    for place in 0..value.len() {
        let mut bytes = value.as_bytes().to_vec();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(bytes).unwrap();
        for path in ["/protected/x", "/optional/x"] {
            let answer = get(&gateway, path, &format!("{name}={flipped}")).send();
            answer.refused(401, "session_ended");
        }
    }
    for cut in [
        "",
        &value[..1],
        &value[..value.len() - 1],
        &"x".repeat(4000),
    ] {
        get(&gateway, "/protected/x", &format!("{name}={cut}"))
            .send()
            .refused(401, "session_ended");
    }
    assert_eq!(upstream.count(), before);
    // On public routes credentials are not read.
    get(&gateway, "/public/x", &format!("{name}=x"))
        .send()
        .expect(200);
}

#[test]
fn what_changes_something_needs_an_origin_that_may() {
    let (upstream, gateway) = started("origins = [\"https://spa.example.com\"]");
    let anna = gateway.person("anna");
    let cookie = log_in(&gateway, "anna");
    let own = own(&gateway);
    let foreign = [
        None,
        Some("null".to_owned()),
        Some("http://evil.example".to_owned()),
        Some(format!("{own}.evil.example")),
        Some(own.replace("http", "https")),
        Some("https://spa.example.com.evil.org".to_owned()),
    ];
    let before = upstream.count();
    for path in ["/protected/x", "/optional/x"] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            for origin in &foreign {
                let request = gateway.request(method, path).header("Cookie", &cookie);
                let request = match origin {
                    Some(origin) => request.header("Origin", origin),
                    None => request,
                };
                request.send().refused(403, "origin_refused");
            }
        }
        let websocket =
            get(&gateway, path, &cookie).header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        websocket.send().refused(403, "origin_refused");
    }
    assert_eq!(upstream.count(), before);
    for origin in [own.as_str(), "https://spa.example.com"] {
        let request = gateway
            .post("/protected/x")
            .header("Cookie", &cookie)
            .header("Origin", origin);
        request.send().expect(200);
        let websocket = get(&gateway, "/protected/x", &cookie)
            .header("Sec-WebSocket-Key", "x")
            .header("Origin", origin);
        websocket.send().expect(200);
    }
    // Nothing else requires one: neither reads, nor callers other than browsers.
    get(&gateway, "/protected/x", &cookie)
        .header("Origin", "http://evil.example")
        .send()
        .expect(200);
    gateway
        .post("/protected/x")
        .bearer(&anna.jwt)
        .header("Origin", "http://evil.example")
        .send()
        .expect(200);
    // The page's own origin is that of the target, whatever its host.
    let elsewhere = || {
        gateway
            .post("/protected/x")
            .header("Cookie", &cookie)
            .host("app.example.com")
    };
    elsewhere()
        .header("Origin", "http://app.example.com")
        .send()
        .expect(200);
    elsewhere()
        .header("Origin", own)
        .send()
        .refused(403, "origin_refused");
}

#[test]
fn logging_out_counts_on_the_next_request() {
    let (_upstream, gateway) = started("");
    let anna = gateway.person("anna");
    let [first, second, third] = [(); 3].map(|()| log_in(&gateway, "anna"));
    let ended = |cookie: &str| {
        get(&gateway, "/protected/x", cookie)
            .send()
            .refused(401, "session_ended");
        get(&gateway, "/auth/me", cookie)
            .send()
            .refused(401, "session_ended");
    };
    for cookie in [&first, &second, &third] {
        get(&gateway, "/protected/x", cookie).send().expect(200);
    }
    let out = gateway
        .post("/auth/logout")
        .header("Cookie", &first)
        .header("Origin", own(&gateway))
        .form(&[])
        .send();
    assert_eq!(out.status, 303, "{}", out.text());
    assert!(
        out.header("set-cookie")
            .unwrap()
            .starts_with("doorward_session=; Path=/;")
    );
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    ended(&first);
    get(&gateway, "/protected/x", &second).send().expect(200);

    // As a script sends it: 204, and the cookie is cleared as well.
    let out = gateway
        .post("/auth/logout")
        .header("Cookie", &second)
        .header("Origin", own(&gateway))
        .send()
        .expect(204);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    ended(&second);

    // A browser's session is one of the account's sessions: listed, and ended with all others.
    let list = gateway
        .get("/auth/sessions")
        .bearer(&anna.jwt)
        .send()
        .expect(200)
        .json();
    assert_eq!(list["count"], 2, "{list}");
    gateway
        .delete("/auth/sessions")
        .bearer(&anna.jwt)
        .send()
        .expect(204);
    ended(&third);

    let fourth = log_in(&gateway, "anna");
    gateway.cli(&["account", "disable", "anna"], "").done();
    ended(&fourth);
}

#[test]
fn a_session_ends_when_it_is_not_used_and_use_moves_the_end() {
    let (_upstream, gateway) = started("idle_ttl_s = 3\nadmin_idle_ttl_s = 1");
    gateway.person("anna");
    gateway.administrator("root");
    let (anna, root) = (log_in(&gateway, "anna"), log_in(&gateway, "root"));
    let start = now();
    // In use for twice its lifetime, it is still alive; the administrator's has ended long ago.
    while start.elapsed() < Duration::from_secs(6) {
        get(&gateway, "/protected/x", &anna).send().expect(200);
        std::thread::sleep(Duration::from_millis(300));
    }
    get(&gateway, "/protected/x", &root)
        .send()
        .refused(401, "session_ended");
    std::thread::sleep(Duration::from_millis(3100));
    get(&gateway, "/protected/x", &anna)
        .send()
        .refused(401, "session_ended");
    get(&gateway, "/auth/me", &anna)
        .send()
        .refused(401, "session_ended");
}

#[test]
fn uses_are_written_down_and_outlive_a_restart() {
    let upstream = Upstream::start();
    let session = "[session]\nidle_ttl_s = 4\n";
    let gateway = Gateway::start_on("sled", &format!("{session}{}", routes(&upstream)));
    gateway.person("anna");
    let cookie = log_in(&gateway, "anna");
    let seen = || {
        let list = get(&gateway, "/auth/sessions", &cookie)
            .send()
            .expect(200)
            .json();
        let items = list["items"].as_array().unwrap().clone();
        let current = items
            .into_iter()
            .find(|item| item["current"] == true)
            .unwrap();
        current["last_seen"].as_str().unwrap().to_owned()
    };
    let first = seen();
    std::thread::sleep(Duration::from_millis(1100));
    get(&gateway, "/protected/x", &cookie).send().expect(200);
    wait_for("a use that was written down", || {
        (seen() != first).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    get(&gateway, "/protected/x", &cookie).send().expect(200);
    gateway.restart();
    get(&gateway, "/protected/x", &cookie).send().expect(200);
    assert_ne!(seen(), first);
}

#[test]
fn only_navigations_without_a_login_are_sent_to_the_page() {
    let (upstream, gateway) = started("return_to = [\"http://app.example.com\"]");
    gateway.person("anna");
    let own = own(&gateway);
    let location = |request: Request<'_>| {
        let answer = request.send();
        assert_eq!(answer.status, 302, "{}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.header("location").unwrap().to_owned()
    };
    let page = format!("{own}/auth/login");
    let navigation = |path: &str| gateway.get(path).header("Accept", HTML);
    let back: String =
        url::form_urlencoded::byte_serialize(format!("{own}/protected/x?a=b%26&c").as_bytes())
            .collect();
    assert_eq!(
        location(navigation("/protected/x?a=b%26&c")),
        format!("{page}?rd={back}")
    );
    let navigating = navigation("/protected/x").header("Sec-Fetch-Mode", "navigate");
    assert!(location(navigating).starts_with(&page));
    let stale = navigation("/protected/x").header("Cookie", "doorward_session=x");
    assert!(location(stale).starts_with(&page));
    // The return URL is included only for an origin that a login may return to.
    let app = location(navigation("/protected/x").host("app.example.com"));
    assert_eq!(
        app,
        format!("{page}?rd=http%3A%2F%2Fapp.example.com%2Fprotected%2Fx")
    );
    assert_eq!(
        location(navigation("/protected/x").host("evil.example")),
        page
    );
    let long = format!("/protected/{}", "x".repeat(3000));
    assert_eq!(location(navigation(&long)), page);
    let record = gateway.record(
        navigation("/protected/x")
            .send()
            .header("x-request-id")
            .unwrap(),
    );
    assert_eq!(record["status"], 302, "{record}");

    let others = [
        gateway.get("/protected/x"),
        gateway.get("/protected/x").header("Accept", "*/*"),
        navigation("/protected/x").header("Sec-Fetch-Mode", "cors"),
        gateway
            .request("HEAD", "/protected/x")
            .header("Accept", HTML),
        gateway.post("/protected/x").header("Accept", HTML),
        navigation("/protected/x").bearer("a.b.c"),
        navigation("/protected/x").header("X-Api-Key", "dwk_x"),
        // Never from below /auth itself.
        navigation("/auth/me"),
        navigation("/auth/sessions").header("Cookie", "doorward_session=x"),
    ];
    for request in others {
        let answer = request.send();
        assert_eq!((answer.status, answer.header("location")), (401, None));
    }
    let cookie = log_in(&gateway, "anna");
    let forbidden = navigation("/admin/x").header("Cookie", &cookie).send();
    forbidden.refused(403, "role_missing");
    assert_eq!(navigation("/nothing").send().status, 404);
    assert_eq!(upstream.count(), 0);

    let (_upstream, quiet) = started("login_redirect = false");
    quiet
        .get("/protected/x")
        .header("Accept", HTML)
        .send()
        .refused(401, "credential_missing");
}

#[test]
fn a_login_leads_back_to_exact_origins_only() {
    let (_upstream, gateway) = started("return_to = [\"https://app.example.com\"]");
    gateway.person("anna");
    let own = own(&gateway);
    let cases = [
        ("", "/auth/login"),
        (
            "https://app.example.com/x?y#z",
            "https://app.example.com/x?y#z",
        ),
        (&format!("{own}/protected/x"), &format!("{own}/protected/x")),
        ("//evil.example", "/auth/login"),
        ("/\\evil.example", "/auth/login"),
        ("https:\\\\evil.example", "/auth/login"),
        ("https://app.example.com@evil.example", "/auth/login"),
        ("https://user:x@app.example.com/", "/auth/login"),
        ("https://app.example.com.evil.example/", "/auth/login"),
        ("https://app.example.com:444/", "/auth/login"),
        ("http://app.example.com/", "/auth/login"),
        ("javascript:alert(1)", "/auth/login"),
        ("https://app.example.com/\r\nX: y", "/auth/login"),
        ("\thttps://app.example.com/", "/auth/login"),
        ("https://app.example.com\u{a0}", "/auth/login"),
    ];
    for (rd, wanted) in cases {
        let answer = post_form(&gateway, "anna", rd);
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some(wanted)),
            "{rd:?}"
        );
        assert_eq!(answer.all("x"), Vec::<&str>::new());
    }
}

#[test]
fn over_https_routes_and_endpoints_each_read_their_own_cookie() {
    let upstream = Upstream::serving(|exchange| {
        exchange.body();
        exchange.write(
            "HTTP/1.1 200 OK\r\nSet-Cookie: __Host-doorward=evil; Path=/; Secure\r\nSet-Cookie: =__Secure-doorward=evil\r\n\
            Set-Cookie: app=1\r\nContent-Length: 0\r\n\r\n",
        );
    });
    let config = format!(
        "[listen]\npublic_url = \"https://auth.example.com\"\n[session]\ncookie_domain = \"example.com\"\n{}pass_credentials = [\"cookie\"]\n{}pass_credentials = true\n",
        routes(&upstream),
        route("/most/**", "\"authenticated\""),
    );
    let gateway = Gateway::start(&config);
    gateway.person("anna");
    let password: String =
        url::form_urlencoded::byte_serialize(password_of("anna").as_bytes()).collect();
    let form = [("username", "anna"), ("password", password.as_str())];
    let answer = gateway
        .post("/auth/login")
        .header("Origin", "https://auth.example.com")
        .form(&form)
        .send()
        .expect(303);
    let cookies: Vec<_> = answer
        .all("set-cookie")
        .iter()
        .map(|it| it.split(';').next().unwrap().to_owned())
        .collect();
    let [own, domain] = cookies.as_slice() else {
        panic!("{cookies:?}")
    };
    assert!(own.starts_with("__Host-doorward=") && domain.starts_with("__Secure-doorward="));
    assert!(answer.header("strict-transport-security").is_some());

    let passed = get(&gateway, "/protected/x", domain).send().expect(200);
    assert_eq!(
        passed.all("set-cookie"),
        ["app=1"],
        "an upstream sets none of ours"
    );
    get(&gateway, "/protected/x", own)
        .send()
        .refused(401, "credential_missing");
    get(&gateway, "/auth/me", own).send().expect(200);
    get(&gateway, "/auth/me", domain)
        .send()
        .refused(401, "credential_missing");
    let both = format!("{own}; {domain}; a=b");
    get(&gateway, "/protected/x", &both).send().expect(200);
    assert_eq!(upstream.last().header("cookie"), Some("a=b"));
    // "All" does not include the cookie: only its own name passes it on.
    get(&gateway, "/most/x", &both).send().expect(200);
    assert_eq!(upstream.last().header("cookie"), Some("a=b"));
    // Where it is named, routes read that cookie.
    gateway.member("anna", "42", "secret");
    get(&gateway, "/secret/42/x", &both).send().expect(200);
    assert_eq!(
        upstream.last().header("cookie"),
        Some(format!("{domain}; a=b").as_str())
    );
    let swapped = format!("__Secure-doorward={}", own.split_once('=').unwrap().1);
    get(&gateway, "/protected/x", &swapped)
        .send()
        .refused(401, "session_ended");

    let out = gateway
        .post("/auth/logout")
        .header("Cookie", own)
        .header("Origin", "https://auth.example.com")
        .form(&[])
        .send();
    assert_eq!(out.all("set-cookie").len(), 2);
    get(&gateway, "/protected/x", domain)
        .send()
        .refused(401, "session_ended");
}

#[test]
fn json_sets_no_cookie_and_a_mailed_link_prints_no_token() {
    let (_upstream, gateway) = started("");
    gateway.person("anna");
    assert_eq!(
        gateway
            .try_login("anna", &password_of("anna"))
            .header("set-cookie"),
        None
    );
    let token = gateway.register("ben");
    let path = format!("/auth/confirm?token={token}");
    for page in at_once(4, |_| gateway.get(&path).header("Accept", HTML).send()) {
        assert_eq!(page.status, 200);
        assert!(!page.text().contains(&token));
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("form-action 'self'"),
            "{policy}"
        );
        assert_eq!(page.header("referrer-policy"), Some("same-origin"));
    }
    let password: String =
        url::form_urlencoded::byte_serialize(password_of("ben").as_bytes()).collect();
    let form = [
        ("new_password", password.as_str()),
        ("verify_password", password.as_str()),
    ];
    let post = || {
        gateway
            .post(&path)
            .header("Origin", own(&gateway))
            .form(&form)
            .send()
    };
    // As many as may wait for the hashing pool.
    let statuses: Vec<_> = at_once(4, |_| post().status);
    assert_eq!(
        statuses.iter().filter(|status| **status == 303).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 400).count(),
        3,
        "{statuses:?}"
    );
    gateway.login("ben");
}

#[test]
fn plain_http_is_warned_about_at_the_start() {
    let (_upstream, gateway) = started("");
    wait_for("a warning", || {
        gateway.stderr().contains("without Secure").then_some(())
    });
}
