//! The right refusal for each kind of caller, on the gateway's own routes and behind every family of proxies; and an
//! end to the redirects of a browser that is sent to log in again and again.

use crate::forward_auth::questions::{WAYS, Way, about, log_in, started};
use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::request::Request;

const HOST: &str = "app.example.com";
const RETURN: &str = "[session]\nreturn_to = [\"https://app.example.com\"]\n";
const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const NAVIGATE: (&str, &str) = ("Sec-Fetch-Mode", "navigate");
const CORS: (&str, &str) = ("Sec-Fetch-Mode", "cors");
const ORIGIN: (&str, &str) = ("Origin", "https://spa.example.com");

/// The form in which a caller learns that it lacks a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// By the login page.
    Page,
    /// By a problem, with this code.
    Code(&'static str),
}
use Told::{Code, Page};

type Kind = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Told,
);

/// Every kind of caller without a usable login.
const KINDS: [Kind; 20] = [
    (
        "a navigation",
        "GET",
        &[HTML, NAVIGATE, ("Sec-Fetch-Dest", "document")],
        Page,
    ),
    ("one of an older browser", "GET", &[HTML], Page),
    (
        "one with a session that has ended",
        "GET",
        &[HTML, NAVIGATE, ("Cookie", "a=b; doorward_session=x")],
        Page,
    ),
    (
        "one in a view of an app",
        "GET",
        &[HTML, NAVIGATE, ("X-Requested-With", "com.example.mail")],
        Page,
    ),
    (
        "one with a login for somebody else",
        "GET",
        &[HTML, NAVIGATE, ("Authorization", "Basic dTpw")],
        Page,
    ),
    ("HEAD", "HEAD", &[HTML], Code("credential_missing")),
    (
        "fetch of another origin",
        "GET",
        &[("Accept", "*/*"), CORS, ORIGIN],
        Code("credential_missing"),
    ),
    (
        "fetch of a page",
        "GET",
        &[HTML, ("Sec-Fetch-Mode", "same-origin")],
        Code("credential_missing"),
    ),
    (
        "fetch with a session that has ended",
        "GET",
        &[("Accept", "*/*"), CORS, ("Cookie", "doorward_session=x")],
        Code("session_ended"),
    ),
    (
        "XHR of an older browser",
        "GET",
        &[HTML, ("X-Requested-With", "XMLHttpRequest")],
        Code("credential_missing"),
    ),
    (
        "curl",
        "GET",
        &[("Accept", "*/*"), ("User-Agent", "curl/8.14.1")],
        Code("credential_missing"),
    ),
    (
        "an API's caller",
        "GET",
        &[("Accept", "application/json")],
        Code("credential_missing"),
    ),
    (
        "a caller who takes anything",
        "GET",
        &[],
        Code("credential_missing"),
    ),
    (
        "EventSource",
        "GET",
        &[("Accept", "text/event-stream"), CORS],
        Code("credential_missing"),
    ),
    (
        "WebSocket",
        "GET",
        &[
            ("Sec-Fetch-Mode", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
            ("Upgrade", "websocket"),
            ORIGIN,
        ],
        Code("credential_missing"),
    ),
    (
        "gRPC",
        "POST",
        &[("Content-Type", "application/grpc"), ("TE", "trailers")],
        Code("credential_missing"),
    ),
    (
        "a form",
        "POST",
        &[
            HTML,
            NAVIGATE,
            ("Content-Type", "application/x-www-form-urlencoded"),
        ],
        Code("credential_missing"),
    ),
    (
        "a bad bearer token",
        "GET",
        &[HTML, NAVIGATE, ("Authorization", "Bearer a.b.c")],
        Code("bearer_invalid"),
    ),
    (
        "a wrong API key",
        "GET",
        &[HTML, NAVIGATE, ("X-Api-Key", "dwk_x")],
        Code("api_key_invalid"),
    ),
    (
        "a preflight where none may pass",
        "OPTIONS",
        &[ORIGIN, ("Access-Control-Request-Method", "PUT"), CORS],
        Code("credential_missing"),
    ),
];

fn with<'g>(mut request: Request<'g>, fields: &[(&str, &str)]) -> Request<'g> {
    for (name, value) in fields {
        request = request.header(name, *value);
    }
    request
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[track_caller]
fn is_told(answer: &Response, told: Told, page: &str, redirect: u16, what: &str) {
    assert_eq!(answer.header("set-cookie"), None, "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    let status = if told == Page { redirect } else { 401 };
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    let location = (told == Page).then_some(page);
    assert_eq!(answer.header("location"), location, "{what}");
    if status != 401 {
        return;
    }
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer"), "{what}: {answer:?}");
    let is_document = answer.header("content-type") == Some("application/problem+json");
    assert!(is_document || answer.is_html(), "{what}: {answer:?}");
    // The answer to HEAD has no body.
    match told {
        Code(code) if !answer.body.is_empty() => {
            answer.refused(401, code);
        }
        _ => {}
    }
}

#[test]
fn every_kind_of_caller_gets_its_own_kind_of_refusal() {
    let (upstream, gateway) = started(RETURN);
    let own = format!("http://{}", gateway.address);
    let target = "/protected/x?a=b%26c&d";
    let page = |origin: &str| {
        let back = encoded(&format!("{origin}{target}"));
        format!("{own}/auth/login?rd={back}")
    };
    for (what, method, fields, told) in KINDS {
        let answer = with(gateway.request(method, target), fields).send();
        is_told(&answer, told, &page(&own), 302, what);
        for way in WAYS {
            let answer = with(about(&gateway, way, method, HOST, target), fields).send();
            // nginx supports no redirect in the answer to a question.
            let redirect = match way {
                Way::OriginalUri | Way::OriginalUrl => 401,
                Way::Uri | Way::Appended => 302,
            };
            let page = page(&format!("https://{HOST}"));
            is_told(&answer, told, &page, redirect, &format!("{what} {way:?}"));
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_logged_in_caller_without_rights_is_never_sent_to_log_in() {
    let (_upstream, gateway) = started(RETURN);
    gateway.person("anna");
    let cookie = cookie_of(&gateway);
    let navigation = [HTML, NAVIGATE, ("Cookie", cookie.as_str())];
    let own = with(gateway.get("/admin/x"), &navigation);
    let mut asked: Vec<_> = WAYS
        .iter()
        .map(|way| with(about(&gateway, *way, "GET", HOST, "/admin/x"), &navigation))
        .collect();
    asked.push(own);
    for request in asked {
        let answer = request.send();
        answer.refused(403, "role_missing");
        assert_eq!(answer.header("location"), None);
    }
}

#[test]
fn a_login_page_that_needs_a_login_does_not_lead_to_itself() {
    let login = "https://app.example.com/protected/login?x=1";
    let (_upstream, gateway) = started(&format!(
        "[forward_auth]\nlogin_url = \"{login}\"\n{RETURN}"
    ));
    for way in WAYS {
        let ask = |target: &str| {
            let answer = with(about(&gateway, way, "GET", HOST, target), &[HTML]).send();
            answer.header("location").map(str::to_owned)
        };
        let back = encoded("https://app.example.com/protected/x");
        assert_eq!(ask("/protected/x"), Some(format!("{login}&rd={back}")));
        for target in [
            "/protected/login",
            "/protected/login?x=1",
            &format!("/protected/login?x=1&rd={back}"),
        ] {
            assert_eq!(ask(target), None, "{way:?} {target}");
        }
    }
}

/// Returns name and value of the cookie of a login by form.
fn cookie_of(gateway: &Gateway) -> String {
    let own = format!("http://{}", gateway.address);
    let answer = log_in(gateway, &own, "anna");
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn failed_logins_leave_nothing_in_the_browser() {
    let (_upstream, gateway) = started("");
    let own = format!("http://{}", gateway.address);
    let size = |answer: &Response| answer.all("set-cookie").concat().len();
    let mut sizes = Vec::new();
    for round in 0..100 {
        let target = format!("/protected/{round}");
        // The second half sends a dead cookie, which is cleared where the login page can set a new one.
        let dead = ("Cookie", "doorward_session=x");
        let cookies = if round < 50 { &[][..] } else { &[dead] };
        let sent = with(gateway.get(&target), &[HTML]);
        let sent = with(sent, cookies).send().expect(302);
        let page = sent.header("location").unwrap().replace(&own, "");
        let page = with(gateway.get(&page), cookies).send().expect(200);
        let name = format!("nobody-{round}");
        let form = [
            ("username", name.as_str()),
            ("password", "x"),
            ("rd", &target),
        ];
        let post = with(gateway.post("/auth/login"), cookies).header("Origin", &own);
        let refused = post.form(&form).send();
        assert!(matches!(refused.status, 401 | 429), "{refused:?}");
        sizes.push([size(&sent), size(&page), size(&refused)]);
    }
    let (without, with_dead) = sizes.split_at(50);
    assert!(without.iter().all(|sizes| *sizes == [0, 0, 0]), "{sizes:?}");
    let cleared = [0, with_dead[0][1], 0];
    assert!(0 < cleared[1] && cleared[1] < 100, "{cleared:?}");
    assert!(with_dead.iter().all(|sizes| *sizes == cleared), "{sizes:?}");
}
