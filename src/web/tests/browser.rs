//! Pages, cookies, origins and CORS.

use http::header::SET_COOKIE;
use serde_json::json;

use crate::account::test_kit::PASSWORD;
use crate::config::{Config, PublicUrl, SessionSettings};
use crate::mail::Mail;
use crate::web::test_kit::{Answer, Gateway};

pub(in crate::web) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
pub(in crate::web) const OWN: (&str, &str) = ("origin", "http://door");

pub(in crate::web) fn gateway(public_url: &str, session: SessionSettings) -> Gateway {
    Gateway::start_with(|config: &mut Config| {
        config.listen.public_url = PublicUrl::parse(public_url).unwrap();
        config.session = session;
    })
}

pub(in crate::web) fn listed() -> SessionSettings {
    SessionSettings {
        return_to: vec!["https://app.example.com".to_owned()],
        origins: vec!["https://spa.example.com".to_owned()],
        auth_origins: vec![
            "https://ui.example.com".to_owned(),
            "http://door".to_owned(),
        ],
        ..SessionSettings::default()
    }
}

fn cookies(answer: &Answer) -> Vec<String> {
    let values = answer.headers.get_all(SET_COOKIE).iter();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

/// Returns name and value of the first cookie that a response sets.
pub(in crate::web) fn pair(answer: &Answer) -> String {
    let cookies = cookies(answer);
    cookies[0].split(';').next().unwrap().to_owned()
}

pub(in crate::web) async fn log_in(gateway: &Gateway, origin: (&str, &str), more: &str) -> Answer {
    let form = format!("username=anna&password={PASSWORD}{more}");
    gateway
        .send("POST", "/auth/login", &[FORM, origin], form)
        .await
}

#[tokio::test]
async fn a_login_by_the_form_sets_the_cookie_and_leads_back() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cases = [
        ("", "/auth/login"),
        (
            "&rd=https%3A%2F%2Fapp.example.com%2Fx%3Fy",
            "https://app.example.com/x?y",
        ),
        ("&rd=%2Fhello", "http://door/hello"),
        ("&rd=https%3A%2F%2Fevil.org", "/auth/login"),
        ("&rd=%2F%2Fevil.org", "/auth/login"),
        (
            "&rd=https%3A%2F%2Fapp.example.com%5C%40evil.org",
            "/auth/login",
        ),
        ("&rd=javascript%3Aalert(1)", "/auth/login"),
    ];
    for (more, location) in cases {
        let answer = log_in(&gateway, OWN, more).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, location),
            "{more}"
        );
        let mut cookies = cookies(&answer);
        // Only a redirect to a destination sets the login page's marker.
        let way = cookies
            .iter()
            .position(|it| it.starts_with("doorward_way="));
        let way = way.map(|place| cookies.remove(place));
        assert_eq!(way.is_some(), location != "/auth/login", "{more}");
        assert!(way.is_none_or(|it| it.contains("; Path=/auth/login; HttpOnly; SameSite=Lax;")));
        assert_eq!(cookies.len(), 1);
        let (value, flags) = cookies[0].split_once("; ").unwrap();
        assert!(value.starts_with("doorward_session=dws_") && value.len() < 200);
        assert_eq!(flags, "Path=/; HttpOnly; SameSite=Lax");
    }
    let by_query = format!("username=anna&password={PASSWORD}");
    let path = "/auth/login?rd=https%3A%2F%2Fapp.example.com";
    let answer = gateway.send("POST", path, &[FORM, OWN], by_query).await;
    assert_eq!(answer.header("location"), "https://app.example.com");
}

#[tokio::test]
async fn over_https_there_are_two_cookies_and_each_has_its_place() {
    let session = SessionSettings {
        cookie_domain: Some("example.com".to_owned()),
        ..SessionSettings::default()
    };
    let gateway = gateway("https://auth.example.com", session);
    gateway.person("anna").await;
    let answer = log_in(&gateway, ("origin", "https://auth.example.com"), "").await;
    let cookies = cookies(&answer);
    let [own, domain] = cookies.as_slice() else {
        panic!("{cookies:?}");
    };
    assert!(own.starts_with("__Host-doorward=dws_"));
    assert!(own.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"));
    assert!(!own.contains("Domain"));
    assert!(domain.starts_with("__Secure-doorward=dws_"));
    assert!(domain.ends_with("; Domain=example.com; Path=/; Secure; HttpOnly; SameSite=Lax"));
    let value = |cookie: &str| {
        let pair = cookie.split(';').next().unwrap();
        pair.split_once('=').unwrap().1.to_owned()
    };
    assert_ne!(value(own), value(domain));
    assert_eq!(
        answer.header("strict-transport-security"),
        "max-age=31536000"
    );
    let me = async |cookie: String| {
        let fields = [("cookie", cookie.as_str())];
        gateway
            .send("GET", "/auth/me", &fields, String::new())
            .await
    };
    assert_eq!(
        me(format!("__Host-doorward={}", value(own))).await.json["method"],
        "session"
    );
    let cases = [
        (
            format!("__Secure-doorward={}", value(domain)),
            "credential_missing",
        ),
        (
            format!("__Host-doorward={}", value(domain)),
            "session_ended",
        ),
        (
            format!("doorward_session={}", value(own)),
            "credential_missing",
        ),
    ];
    for (cookie, code) in cases {
        assert_eq!(me(cookie.clone()).await.code(), code, "{cookie}");
    }
}

#[tokio::test]
async fn pages_post_for_their_own_origin_only() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    let forms = [
        (
            "/auth/login",
            format!("username=anna&password={PASSWORD}"),
            303,
        ),
        (
            "/auth/confirm?token=x",
            "new_password=a&verify_password=a".to_owned(),
            400,
        ),
        (
            "/auth/reset?token=x",
            "new_password=a&verify_password=a".to_owned(),
            400,
        ),
        (
            "/auth/password",
            "old_password=a&new_password=a&verify_password=a".to_owned(),
            303,
        ),
        ("/auth/logout", String::new(), 303),
    ];
    for (path, form, status) in forms {
        for origin in [
            None,
            Some("null"),
            Some("http://door.evil.org"),
            Some("https://door"),
            Some("http://evil.org"),
            Some("https://spa.example.com"),
            Some("https://ui.example.com"),
        ] {
            for logged_in in [false, true] {
                let mut fields = vec![FORM];
                fields.extend(origin.map(|origin| ("origin", origin)));
                fields.extend(logged_in.then_some(("cookie", cookie.as_str())));
                let answer = gateway.send("POST", path, &fields, form.clone()).await;
                assert_eq!(answer.status, 403, "{path} {origin:?} {logged_in}");
                assert_eq!(answer.code(), "origin_refused");
                assert!(cookies(&answer).is_empty());
            }
        }
        let answer = gateway.send("POST", path, &[FORM, OWN], form.clone()).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_cookie_changes_something_for_own_pages_and_listed_scripts_only() {
    let gateway = gateway("http://door", listed());
    let jwt = gateway.person("anna").await.text_of("jwt_token");
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    let bearer = format!("Bearer {jwt}");
    let json = ("content-type", "application/json");
    let make = async |fields: &[(&str, &str)]| {
        let answer = gateway
            .send("POST", "/auth/apikeys", fields, "{}".to_owned())
            .await;
        answer.status
    };
    let rename = async |fields: &[(&str, &str)]| {
        let name = json!({"name": "Anna"}).to_string();
        let answer = gateway.send("PATCH", "/auth/me", fields, name).await;
        answer.status
    };
    let session = ("cookie", cookie.as_str());
    let cases = [
        (vec![json, session], 403),
        (vec![json, session, ("origin", "null")], 403),
        (vec![json, session, ("origin", "http://evil.org")], 403),
        (vec![json, session, OWN], 201),
        // Neither origin may create a key, whatever else it may call.
        (
            vec![json, session, ("origin", "https://spa.example.com")],
            403,
        ),
        (
            vec![json, session, ("origin", "https://ui.example.com")],
            403,
        ),
        (vec![json, session, OWN, OWN], 403),
        // Next to a bearer token the cookie is ignored, and a bearer token needs no origin.
        (
            vec![
                json,
                session,
                ("authorization", bearer.as_str()),
                ("origin", "http://evil.org"),
            ],
            201,
        ),
    ];
    for (fields, status) in cases {
        assert_eq!(make(&fields).await, status, "{fields:?}");
    }
    for (origin, status) in [
        ("http://door", 200),
        ("https://ui.example.com", 200),
        ("https://spa.example.com", 403),
        ("http://evil.org", 403),
    ] {
        let fields = [json, session, ("origin", origin)];
        assert_eq!(rename(&fields).await, status, "{origin}");
    }
    let reading = [session, ("origin", "http://evil.org")];
    let me = gateway
        .send("GET", "/auth/me", &reading, String::new())
        .await;
    assert_eq!(
        (me.status, me.header("access-control-allow-origin")),
        (200, "")
    );
}

#[tokio::test]
async fn whatever_is_wrong_with_a_login_the_page_says_the_same() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let mut first = None;
    for name in ["anna", "nobody", "anna@example.org"] {
        let form = format!("username={name}&password=wrong&rd=https%3A%2F%2Fapp.example.com%2F");
        let answer = gateway
            .send("POST", "/auth/login", &[FORM, OWN], form)
            .await;
        assert_eq!(answer.status, 401);
        assert!(cookies(&answer).is_empty());
        assert!(answer.header("content-type").starts_with("text/html"));
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        assert!(answer.text.contains("The name or the password is wrong."));
        assert!(
            !answer.text.contains("wrong\""),
            "no password is shown again"
        );
        let text = answer.text.replace(&format!("value=\"{name}\""), "");
        assert_eq!(*first.get_or_insert(text.clone()), text);
    }
    let form = "username=%22%3E%3Cscript%3E&password=x".to_owned();
    let answer = gateway
        .send("POST", "/auth/login", &[FORM, OWN], form)
        .await;
    assert!(
        answer.text.contains("&quot;&gt;&lt;script&gt;"),
        "{}",
        answer.text
    );
    for form in [
        "username=anna",
        "username=anna&password=x&is_admin=1",
        "username=a&username=b&password=x",
    ] {
        let answer = gateway
            .send("POST", "/auth/login", &[FORM, OWN], form.to_owned())
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "body_malformed"),
            "{form}"
        );
    }
}

#[tokio::test]
async fn every_page_is_shown_under_a_strict_policy() {
    let gateway = gateway("http://door", listed());
    let back = "/auth/login?rd=https%3A%2F%2Fapp.example.com%2Fx%3Fa%26b";
    let cases = [
        ("/auth/login", ""),
        (back, " https://app.example.com"),
        ("/auth/login?rd=https%3A%2F%2Fevil.org", ""),
        ("/auth/login?notice=password_set", ""),
        ("/auth/register", ""),
        ("/auth/forgot", ""),
        ("/auth/confirm?token=tttttttt", ""),
        ("/auth/reset?token=tttttttt", ""),
    ];
    for (path, targets) in cases {
        let page = gateway.send("GET", path, &[], String::new()).await;
        let status = if path.contains("token") { 400 } else { 200 };
        assert_eq!(page.status, status, "{path} {}", page.text);
        let policy = format!(
            "default-src 'none'; style-src 'self'; form-action 'self'{targets}; frame-ancestors 'none'; base-uri 'none'"
        );
        assert_eq!(page.header("content-security-policy"), policy, "{path}");
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        for word in ["<script", "style=", "tttttttt", "evil.org"] {
            assert!(!page.text.contains(word), "{path}: {word}");
        }
    }
    let page = gateway.send("GET", back, &[], String::new()).await;
    assert!(
        page.text
            .contains("value=\"https:&#x2f;&#x2f;app.example.com&#x2f;x?a&amp;b\""),
        "{}",
        page.text
    );
    let style = gateway
        .send("GET", "/auth/assets/portal.css", &[], String::new())
        .await;
    assert_eq!(
        (style.status, style.header("content-type")),
        (200, "text/css; charset=utf-8")
    );
}

#[tokio::test]
async fn who_is_logged_in_sees_it_and_logs_out() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    let session = ("cookie", cookie.as_str());
    let rd = "/auth/login?rd=https%3A%2F%2Fapp.example.com%2F";
    let page = gateway.send("GET", rd, &[session], String::new()).await;
    assert_eq!(page.status, 200, "the page leads nowhere by itself");
    assert!(page.text.contains("<strong id=\"person\">anna</strong>"));
    assert!(
        !page
            .text
            .contains("the cookie is not valid for that address")
    );
    let led = format!("{cookie}; {}", pair(&page));
    let page = gateway
        .send("GET", rd, &[("cookie", &led)], String::new())
        .await;
    assert!(
        page.text
            .contains("the cookie is not valid for that address")
    );
    // Another login of the same browser ends its former session.
    let again = gateway
        .send(
            "POST",
            "/auth/login",
            &[FORM, OWN, session],
            format!("username=anna&password={PASSWORD}"),
        )
        .await;
    let me = gateway
        .send("GET", "/auth/me", &[session], String::new())
        .await;
    assert_eq!(me.code(), "session_ended");
    let cookie = pair(&again);
    let session = ("cookie", cookie.as_str());
    let fields = [FORM, OWN, session];
    let out = gateway
        .send(
            "POST",
            "/auth/logout",
            &fields,
            "rd=https%3A%2F%2Fapp.example.com%2Fbye".to_owned(),
        )
        .await;
    assert_eq!(
        (out.status, out.header("location")),
        (303, "https://app.example.com/bye")
    );
    assert_eq!(
        cookies(&out),
        ["doorward_session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"]
    );
    let me = gateway
        .send("GET", "/auth/me", &[session], String::new())
        .await;
    assert_eq!(me.code(), "session_ended");
    // The login page, where a new cookie can be obtained, deletes the one of an ended session.
    let page = gateway
        .send("GET", "/auth/login", &[session], String::new())
        .await;
    assert!(page.text.contains("name=\"password\""));
    assert_eq!(cookies(&page).len(), 1);
    let out = gateway
        .send("POST", "/auth/logout", &fields, String::new())
        .await;
    assert_eq!(
        (out.status, out.header("location")),
        (303, "/auth/login?notice=logged_out")
    );
}

#[tokio::test]
async fn cors_answers_for_the_list_and_reflects_nothing() {
    let gateway = gateway("http://door", listed());
    let ask = ("access-control-request-method", "DELETE");
    let preflight = async |origin: &'static str| {
        let fields = [("origin", origin), ask];
        gateway
            .send("OPTIONS", "/auth/sessions/x", &fields, String::new())
            .await
    };
    let spa = preflight("https://ui.example.com").await;
    assert_eq!(spa.status, 204);
    assert_eq!(
        spa.header("access-control-allow-origin"),
        "https://ui.example.com"
    );
    assert_eq!(spa.header("access-control-allow-credentials"), "true");
    assert!(
        spa.header("access-control-allow-methods")
            .contains("DELETE")
    );
    assert_eq!(
        spa.header("access-control-allow-headers"),
        "Authorization, Content-Type, x-api-key"
    );
    for origin in [
        "null",
        "https://evil.org",
        "https://spa.example.com",
        "https://ui.example.com.evil.org",
        "https://xui.example.com",
        "http://door",
    ] {
        let answer = preflight(origin).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "origin_refused"),
            "{origin}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
    }
    for (origin, allowed) in [
        ("https://ui.example.com", "https://ui.example.com"),
        ("https://spa.example.com", ""),
        ("https://evil.org", ""),
    ] {
        let answer = gateway
            .send("GET", "/auth/me", &[("origin", origin)], String::new())
            .await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        assert_eq!(answer.header("vary"), "Origin");
    }
    let plain = gateway
        .send("OPTIONS", "/auth/me", &[], String::new())
        .await;
    assert_eq!(plain.status, 405);
}

#[tokio::test]
async fn scripts_of_listed_origins_never_reach_keys_passwords_and_administration() {
    let gateway = gateway("http://door", listed());
    let document = gateway
        .send("GET", "/auth/openapi.json", &[], String::new())
        .await;
    let document: serde_json::Value = serde_json::from_str(&document.text).unwrap();
    let paths = document["paths"].as_object().unwrap().keys();
    let mut closed = std::collections::BTreeSet::new();
    for path in paths {
        let fields = [
            ("origin", "https://ui.example.com"),
            ("access-control-request-method", "POST"),
        ];
        let answer = gateway.send("OPTIONS", path, &fields, String::new()).await;
        if answer.status != 204 {
            assert_eq!(answer.code(), "origin_refused", "{path}");
            assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
            let first = path.split('/').nth(2).unwrap_or_default();
            closed.insert(first.to_owned());
        }
    }
    let expected = [
        "accounts", "apikeys", "assets", "confirm", "docs", "password", "reset", "verify",
    ];
    assert_eq!(closed, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn a_link_sets_a_password_once_and_for_its_purpose_only() {
    let gateway = gateway("http://door", listed());
    let body =
        serde_json::json!({"identity": "anna@example.org", "username": "anna", "name": "Anna"});
    gateway.ask("POST", "/auth/register", "", body).await;
    let token = gateway.mailbox.token();
    let set = async |path: &str, password: &str, again: &str| {
        let form = format!("new_password={password}&verify_password={again}");
        let path = format!("/auth/{path}?token={token}");
        gateway.send("POST", &path, &[FORM, OWN], form).await
    };
    for _ in 0..3 {
        let path = format!("/auth/confirm?token={token}");
        assert_eq!(
            gateway.send("GET", &path, &[], String::new()).await.status,
            200
        );
    }
    let cases = [
        (
            "confirm",
            PASSWORD,
            "other",
            422,
            "The two passwords differ.",
        ),
        (
            "confirm",
            "password",
            "password",
            422,
            "The new password is not accepted: ",
        ),
        (
            "reset",
            PASSWORD,
            PASSWORD,
            400,
            "This link was already used",
        ),
        ("confirm", PASSWORD, PASSWORD, 303, ""),
        (
            "confirm",
            PASSWORD,
            PASSWORD,
            400,
            "This link was already used",
        ),
    ];
    for (path, password, again, status, words) in cases {
        let answer = set(path, password, again).await;
        assert_eq!(answer.status, status, "{path} {password} {}", answer.text);
        assert!(answer.text.contains(words), "{}", answer.text);
        assert!(!answer.text.contains(&token));
        if status == 303 {
            assert_eq!(answer.header("location"), "/auth/login?notice=password_set");
        }
    }
    let twice = format!("/auth/confirm?token={token}&token={token}");
    let form = format!("new_password={PASSWORD}&verify_password={PASSWORD}");
    assert_eq!(
        gateway
            .send("POST", &twice, &[FORM, OWN], form)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn the_link_of_a_new_address_is_confirmed_on_the_same_page() {
    let gateway = gateway("http://door", listed());
    let jwt = gateway.person("anna").await.text_of("jwt_token");
    gateway.mailbox.take();
    let wanted = json!({"identity": "new@example.org", "password": PASSWORD});
    let asked = gateway.ask("PATCH", "/auth/me", &jwt, wanted).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    let token = gateway
        .mailbox
        .take()
        .into_iter()
        .find_map(|(_, mail)| match mail {
            Mail::ChangeIdentity { token, .. } => Some(token.expose().to_owned()),
            _ => None,
        });
    let path = format!("/auth/confirm?token={}", token.unwrap());
    let page = gateway.send("GET", &path, &[], String::new()).await;
    assert!(page.text.contains("Use this address"), "{}", page.text);
    assert!(!page.text.contains("password"), "{}", page.text);
    let post = async |form: &str| {
        gateway
            .send("POST", &path, &[FORM, OWN], form.to_owned())
            .await
    };
    let password = format!("new_password={PASSWORD}&verify_password={PASSWORD}");
    let refused = post(&password).await;
    assert_eq!(refused.status, 400, "it sets no password");
    let done = post("").await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(
        done.header("location"),
        "/auth/login?notice=address_changed"
    );
    let page = gateway
        .send("GET", done.header("location"), &[], String::new())
        .await;
    assert!(page.text.contains("Your new address is confirmed."));
    let login = gateway.login("new@example.org", PASSWORD).await;
    assert_eq!(login.status, 200);
    let again = post(&password).await;
    assert_eq!(again.status, 400, "{}", again.text);
    assert!(again.text.contains("This link was already used"));
}

#[tokio::test]
async fn whoever_guesses_by_form_json_and_change_of_address_is_counted_once() {
    let gateway = gateway("http://door", listed());
    let jwt = gateway.person("anna").await.text_of("jwt_token");
    let wrong = "entirely Wrong 9 words";
    let guess = json!({"identity": "new@example.org", "password": wrong});
    for _ in 0..2 {
        let refused = gateway.ask("PATCH", "/auth/me", &jwt, guess.clone()).await;
        assert_eq!(refused.code(), "password_wrong");
        assert_eq!(gateway.login("anna", wrong).await.status, 401);
    }
    let form = format!("username=anna&password={}", wrong.replace(' ', "+"));
    let by_form = async || {
        gateway
            .send("POST", "/auth/login", &[FORM, OWN], form.clone())
            .await
    };
    assert_eq!(by_form().await.status, 401);
    let limited = gateway.ask("PATCH", "/auth/me", &jwt, guess).await;
    assert_eq!(
        (limited.status, limited.code()),
        (429, "login_limited".to_owned())
    );
    assert_ne!(limited.header("retry-after"), "");
    for _ in 0..2 {
        assert_eq!(by_form().await.status, 401);
    }
    let page = by_form().await;
    assert_eq!(page.status, 429, "{}", page.text);
    assert_ne!(page.header("retry-after"), "");
    assert!(
        page.text
            .contains("There were too many wrong passwords for this name")
    );
    assert!(page.text.contains("<form"));
}

#[tokio::test]
async fn who_is_sent_to_log_in_again_and_again_is_told_why() {
    let session = SessionSettings {
        cookie_domain: Some("example.com".to_owned()),
        return_to: vec![
            "https://app.example.com".to_owned(),
            "https://app.example.org".to_owned(),
        ],
        ..SessionSettings::default()
    };
    let gateway = gateway("https://auth.example.com", session);
    gateway.person("anna").await;
    let answer = log_in(&gateway, ("origin", "https://auth.example.com"), "").await;
    let pairs: Vec<_> = cookies(&answer)
        .iter()
        .map(|cookie| cookie.split(';').next().unwrap().to_owned())
        .collect();
    let own = &pairs[0];
    let both = pairs.join("; ");
    let cases = [
        (&both, "?rd=https://app.example.com/x", "lost on the way"),
        (&both, "?rd=https://app.example.org/x", "not valid for that"),
        (&both, "?rd=https://evil.org", "not set up for this"),
        (&both, "", "not set up for this"),
        (own, "?rd=https://app.example.com/x", "no usable cookie"),
        (own, "", "no usable cookie"),
        (
            &format!("{both}; __Secure-doorward=x"),
            "?rd=/x",
            "no usable cookie",
        ),
        (
            &format!("{own}; __Secure-doorward=x"),
            "?rd=/x",
            "no usable cookie",
        ),
    ];
    for (cookie, query, reason) in cases {
        let path = format!("/auth/login{query}");
        let show = async |cookie: &str| {
            let page = gateway
                .send("GET", &path, &[("cookie", cookie)], String::new())
                .await;
            assert_eq!(page.status, 200, "{query}");
            page
        };
        let first = show(cookie).await;
        assert!(!first.text.contains("sends you here again"), "{query}");
        let marked = cookies(&first);
        assert!(
            marked.len() == 1 && marked[0].contains("; Path=/auth/login; Secure; HttpOnly;"),
            "{marked:?}"
        );
        let page = show(&format!("{cookie}; {}", pair(&first))).await;
        assert!(
            page.text.contains(reason),
            "{cookie} {query}: {}",
            page.text
        );
    }
    let page = gateway.send("GET", "/auth/login", &[], String::new()).await;
    assert!(!page.text.contains("sends you here again"));
}
