//! The endpoint itself, asked as each family of proxies asks.

use serde_json::{Value, json};

use crate::harness::free_port;
use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{Person, password_of};
use crate::harness::request::Request;
use crate::harness::routes::{route, routes};
use crate::harness::tokens::claims_of;
use crate::harness::upstream::Upstream;

const TRUSTED: &str = "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n";

/// Every identity header under [`ROUTES`].
const IDENTITY: [&str; 10] = [
    "x-auth-assertion",
    "x-auth-key-id",
    "x-auth-method",
    "x-auth-roles",
    "x-auth-scopes",
    "x-auth-uid",
    "x-auth-username",
    "remote-user",
    "remote-groups",
    "remote-name",
];

const ROUTES: &str = r#"
[[route]]
path = "/renamed/**"
upstream = "main"
require = "optional"
identity_headers = { uid = "Remote-User", roles = "Remote-Groups", username = "Remote-Name" }

[[route]]
path = "/methods/**"
methods = ["PUT"]
upstream = "main"
require = "authenticated"
cors_preflight = true

[[route]]
path = "/signed/**"
upstream = "main"
require = "authenticated"
assertion = true

[[route]]
path = "/hosts/**"
hosts = ["api.example.com"]
upstream = "main"
require = "public"
"#;

pub(super) fn started(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("{TRUSTED}{more}{}{ROUTES}", routes(&upstream)));
    (upstream, gateway)
}

/// Returns a question without anything that describes a request.
fn bare<'g>(gateway: &'g Gateway, path: &str) -> Request<'g> {
    gateway.get(&format!("/auth/verify{path}"))
}

/// The ways to ask about one request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Uri,
    OriginalUri,
    OriginalUrl,
    Appended,
}

pub(super) const WAYS: [Way; 4] = [Way::Uri, Way::OriginalUri, Way::OriginalUrl, Way::Appended];

/// Returns a question about a request to `host`.
pub(super) fn about<'g>(
    gateway: &'g Gateway,
    way: Way,
    method: &str,
    host: &str,
    target: &str,
) -> Request<'g> {
    match way {
        Way::Uri => bare(gateway, "")
            .header("X-Forwarded-Method", method)
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", host)
            .header("X-Forwarded-Uri", target),
        Way::OriginalUri => bare(gateway, "")
            .header("X-Original-Method", method)
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", host)
            .header("X-Original-URI", target),
        Way::OriginalUrl => bare(gateway, "")
            .header("X-Original-Method", method)
            .header("X-Original-URL", format!("https://{host}{target}")),
        Way::Appended => gateway
            .request(method, &format!("/auth/verify{target}"))
            .host(host)
            .header("X-Forwarded-Proto", "https"),
    }
}

/// Returns the identity headers of an answer, each of which must be present once.
#[track_caller]
fn identity(answer: &Response) -> Value {
    let fields = IDENTITY.map(|name| {
        let value = answer.header(name);
        let value = value.unwrap_or_else(|| panic!("no {name} in {answer:?}"));
        (name.to_owned(), json!(value))
    });
    let told = fields.into_iter().filter(|(_, value)| value != "");
    Value::Object(told.collect())
}

/// Logs in by the form of a page of this origin.
pub(super) fn log_in(gateway: &Gateway, origin: &str, username: &str) -> Response {
    let password = password_of(username);
    let password: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
    gateway
        .post("/auth/login")
        .header("Origin", origin)
        .form(&[("username", username), ("password", &password)])
        .send()
        .expect(303)
}

#[test]
fn every_family_gets_the_decision_of_the_proxy() {
    let (upstream, gateway) = started("trusted_headers = [\"X-Forwarded-Host\"]\n");
    let anna = gateway.person("anna");
    gateway.member("anna", "42", "member");
    let cases = [
        ("GET", "/public/x", None, 200, ""),
        ("GET", "/optional/x", None, 200, ""),
        ("GET", "/protected/x?a=b", Some(&anna), 200, ""),
        ("POST", "/protected/x", Some(&anna), 200, ""),
        ("GET", "/member/42/x", Some(&anna), 200, ""),
        ("GET", "/member/43/x", Some(&anna), 403, "role_missing"),
        ("GET", "/protected/x", None, 401, "credential_missing"),
        ("GET", "/nowhere", Some(&anna), 403, "no_route"),
        ("GET", "/auth/me", Some(&anna), 403, "no_route"),
        ("PUT", "/methods/x", Some(&anna), 200, ""),
        ("GET", "/methods/x", Some(&anna), 403, "method_refused"),
        (
            "GET",
            "/public/../protected/x",
            Some(&anna),
            403,
            "path_refused",
        ),
        (
            "GET",
            "/public/..%2fprotected/x",
            Some(&anna),
            403,
            "path_refused",
        ),
        ("GET", "/public//x", None, 200, ""),
        ("GET", "/public/%zz", None, 403, "path_refused"),
        ("GET", "/public;x/y", None, 403, "path_refused"),
    ];
    for way in WAYS {
        for (method, target, person, status, code) in cases {
            let mut question = about(&gateway, way, method, "app.example.com", target);
            if let Some(person) = person {
                question = question.by(&person.caller());
            }
            let answer = question.send();
            let what = format!("{way:?} {method} {target}: {answer:?}");
            assert_eq!(answer.status, status, "{what}");
            if status == 200 {
                assert_eq!(
                    identity(&answer)["x-auth-uid"].as_str(),
                    uid(person),
                    "{what}"
                );
            } else {
                answer.refused(status, code);
            }
        }
        let hosts = [
            ("api.example.com", 200),
            ("API.example.com:8443", 200),
            ("other.example.com", 403),
        ];
        for (host, status) in hosts {
            about(&gateway, way, "GET", host, "/hosts/x")
                .send()
                .expect(status);
        }
    }
    assert_eq!(upstream.count(), 0, "a question leads to no upstream");
}

fn uid(person: Option<&Person>) -> Option<&str> {
    person.map(|person| person.uid.as_str())
}

#[test]
fn every_allow_has_all_identity_headers_and_unknown_ones_are_empty() {
    let (_upstream, gateway) = started("");
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &["reports:read"]);
    let ask = |target: &str| about(&gateway, Way::Uri, "GET", "app.example.com", target);
    let nobody = ask("/public/x").send().expect(200);
    assert_eq!(identity(&nobody), json!({"x-auth-method": "anonymous"}));
    assert!(nobody.body.is_empty());
    assert_eq!(nobody.header("cache-control"), Some("no-store"));
    assert!(nobody.header("x-request-id").is_some());
    let forged = ask("/renamed/x")
        .header("X-Auth-Uid", "forged")
        .header("Remote-User", "forged")
        .send();
    assert_eq!(identity(&forged), json!({"x-auth-method": "anonymous"}));
    let by_jwt = ask("/protected/x").by(&anna.caller()).send().expect(200);
    let scopes = "reports:read reports:write";
    assert_eq!(
        identity(&by_jwt),
        json!({"x-auth-uid": anna.uid, "x-auth-username": "anna", "x-auth-method": "jwt", "x-auth-roles": "user", "x-auth-scopes": scopes})
    );
    let signed = ask("/signed/x").by(&anna.caller()).send().expect(200);
    let claims = claims_of(signed.header("x-auth-assertion").unwrap());
    assert_eq!(claims["sub"], anna.uid, "{claims}");
    let by_key = ask("/renamed/x").by(&key.caller()).send().expect(200);
    assert_eq!(
        identity(&by_key),
        json!({"remote-user": anna.uid, "remote-name": "anna", "x-auth-method": "apikey", "remote-groups": "user", "x-auth-scopes": "reports:read", "x-auth-key-id": key.id})
    );
}

/// Fields besides the endpoint's own path.
type Fields<'a> = &'a [(&'a str, &'a str)];

const HOST: (&str, &str) = ("X-Forwarded-Host", "app.example.com");
const PROTO: (&str, &str) = ("X-Forwarded-Proto", "https");
const METHOD: (&str, &str) = ("X-Forwarded-Method", "GET");
const URI: (&str, &str) = ("X-Forwarded-Uri", "/public/x");
const URL: (&str, &str) = ("X-Original-URL", "https://app.example.com/public/x");
const ORIGINAL: (&str, &str) = ("X-Original-URI", "/public/x");

/// Questions that describe no request, or more than one.
const MALFORMED: [(&str, Fields<'static>); 29] = [
    ("no target", &[METHOD, HOST]),
    ("no method", &[URI, HOST]),
    (
        "two families",
        &[URI, METHOD, HOST, ("X-Original-URI", "/protected/x")],
    ),
    (
        "two of nginx",
        &[URL, METHOD, ("X-Original-URI", "/protected/x")],
    ),
    (
        "another absolute one",
        &[
            URI,
            METHOD,
            HOST,
            ("X-Original-URL", "https://app.example.com/protected/x"),
        ],
    ),
    (
        "one of another host",
        &[
            URI,
            METHOD,
            HOST,
            ("X-Original-URL", "https://b.test/public/x"),
        ],
    ),
    (
        "one of another scheme",
        &[URI, URL, METHOD, HOST, ("X-Forwarded-Proto", "http")],
    ),
    (
        "one with another query",
        &[URL, METHOD, ("X-Original-URI", "/public/x?a")],
    ),
    (
        "two that cannot be read",
        &[
            METHOD,
            HOST,
            ("X-Forwarded-Uri", "/a/../x"),
            ("X-Original-URI", "/b/../x"),
        ],
    ),
    (
        "a twin with another separator",
        &[URI, METHOD, HOST, ("X__Forwarded__Uri", "/public/x")],
    ),
    (
        "an empty one too",
        &[URI, METHOD, HOST, ("X-Original-URI", "")],
    ),
    ("the target twice", &[URI, URI, METHOD, HOST]),
    ("the method twice", &[URI, METHOD, METHOD, HOST]),
    ("the host twice", &[URI, METHOD, HOST, HOST]),
    (
        "two methods",
        &[URI, METHOD, HOST, ("X-Original-Method", "PUT")],
    ),
    (
        "a list of methods",
        &[URI, ("X-Forwarded-Method", "GET, PUT"), HOST],
    ),
    (
        "a list of hosts",
        &[URI, METHOD, ("X-Forwarded-Host", "a.test, b.test")],
    ),
    (
        "a list of schemes that ends in none",
        &[URI, METHOD, HOST, ("X-Forwarded-Proto", "https,gopher")],
    ),
    (
        "the scheme twice",
        &[
            URI,
            METHOD,
            HOST,
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Proto", "http"),
        ],
    ),
    (
        "no scheme of the web",
        &[URI, METHOD, HOST, ("X-Forwarded-Proto", "gopher")],
    ),
    ("a relative URL", &[("X-Original-URL", "/public/x"), METHOD]),
    (
        "a URL of another scheme",
        &[("X-Original-URL", "file://a.test/public/x"), METHOD],
    ),
    (
        "a URL with two hosts",
        &[("X-Original-URL", "https://a.test,b.test/public/x"), METHOD],
    ),
    (
        "a twin of the target",
        &[URI, METHOD, HOST, ("X_Forwarded_Uri", "/public/x")],
    ),
    (
        "a twin of the method",
        &[URI, METHOD, HOST, ("X-Original_Method", "GET")],
    ),
    (
        "a twin of the host",
        &[URI, METHOD, HOST, ("x.forwarded.host", "a.test")],
    ),
    (
        "a twin of the scheme",
        &[URI, METHOD, HOST, ("X_Forwarded_Proto", "https")],
    ),
    (
        "a twin of an identity",
        &[URI, METHOD, HOST, ("X_Auth_Uid", "u-1")],
    ),
    (
        "a twin of a renamed one",
        &[URI, METHOD, HOST, ("Remote_User", "u-1")],
    ),
];

fn with<'g>(mut question: Request<'g>, fields: Fields<'_>) -> Request<'g> {
    for (name, value) in fields {
        question = question.header(name, *value);
    }
    question
}

#[test]
fn a_question_that_describes_no_one_request_is_refused() {
    let (_upstream, gateway) = started("");
    for (what, fields) in MALFORMED {
        let answer = with(bare(&gateway, ""), fields).send();
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        answer.refused(400, "forward_malformed");
    }
    let other = [("X-Forwarded-Uri", "/public/y"), METHOD];
    for fields in [
        &other[..],
        &[("X-Original-URI", "/public/y")],
        &[("X-Forwarded-Method", "PUT")],
        &[("X-Original-Method", "PUT")],
    ] {
        let answer = with(bare(&gateway, "/public/x"), fields).send();
        answer.refused(400, "forward_malformed");
    }
    with(bare(&gateway, "/public/x"), &[METHOD, HOST])
        .send()
        .expect(200);
}

#[test]
fn a_mistake_of_the_caller_is_refused_as_every_proxy_understands_it() {
    let (_upstream, gateway) = started("");
    let hidden = ("X-Original-URL", "https://a.test#/public/x");
    let user = ("X-Original-URL", "https://u@a.test/public/x");
    let cases: [(&str, Fields<'_>); 9] = [
        (
            "header_name_refused",
            &[URI, METHOD, HOST, ("X~Auth~Uid", "forged")],
        ),
        ("request_malformed", &[hidden, METHOD]),
        ("request_malformed", &[user, METHOD]),
        (
            "path_refused",
            &[("X-Forwarded-Uri", "http://a.test/public/x"), METHOD, HOST],
        ),
        (
            "path_refused",
            &[("X-Forwarded-Uri", "/public/x#y"), METHOD, HOST],
        ),
        ("path_refused", &[("X-Forwarded-Uri", "*"), METHOD, HOST]),
        (
            "request_malformed",
            &[URI, METHOD, ("X-Forwarded-Host", "a b")],
        ),
        (
            "request_malformed",
            &[URI, ("X-Forwarded-Method", "G ET"), HOST],
        ),
        (
            "request_malformed",
            &[URI, ("X-Forwarded-Method", ""), HOST],
        ),
    ];
    for (code, fields) in cases {
        let answer = with(bare(&gateway, ""), fields).send();
        let status = if code == "path_refused" { 403 } else { 401 };
        answer.refused(status, code);
    }
    let long = format!("/public/{}", "x".repeat(9000));
    for way in WAYS {
        let ask = |method: &str, target: &str| about(&gateway, way, method, "a.test", target);
        let both = ask("GET", "/protected/x").bearer("a.b.c");
        let both = both.header("X-Api-Key", "dwk_x").send();
        both.refused(401, "credential_conflict");
        ask("GET", &long).send().refused(401, "target_too_long");
        if !matches!(way, Way::Appended) {
            ask("TRACE", "/public/x")
                .send()
                .refused(403, "method_refused");
        }
    }
}

#[test]
fn a_key_over_its_rate_is_refused_as_every_proxy_understands_it() {
    let (_upstream, gateway) = started("");
    let anna = gateway.person("anna");
    for way in WAYS {
        let body = json!({"name": "slow", "rate_per_minute": 1});
        let made = gateway.post("/auth/apikeys").by(&anna.caller()).json(&body);
        let key = made.send().expect(201).member("apikey");
        gateway.secret(&key);
        let ask = || {
            let question = about(&gateway, way, "GET", "app.example.com", "/protected/x");
            question.header("X-Api-Key", key.clone()).send()
        };
        ask().expect(200);
        let refused = ask();
        refused.refused(403, "rate_limited");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
}

#[test]
fn an_absolute_url_of_the_callers_chooses_no_host() {
    let (_upstream, gateway) = started("");
    let url = ("X-Original-URL", "https://api.example.com/hosts/x");
    let told = ("X-Forwarded-Host", "api.example.com");
    let uri = ("X-Original-URI", "/hosts/x");
    let forwarded = ("X-Forwarded-Uri", "/hosts/x");
    // The proxy's own fields, with values of its caller after the first.
    let cases: [(&str, Fields<'_>); 6] = [
        ("", &[uri, url]),
        ("", &[uri, url, told]),
        ("", &[uri, url, told, forwarded]),
        ("", &[forwarded, url]),
        ("/hosts/x", &[url]),
        ("/hosts/x", &[url, told]),
    ];
    for (path, fields) in cases {
        for (host, status) in [("a.test", 400), ("api.example.com", 200)] {
            let asked = bare(&gateway, path).host(host);
            let asked = fields
                .iter()
                .fold(asked, |asked, (name, value)| asked.header(name, *value));
            let asked = asked.header("X-Original-Method", "GET");
            assert_eq!(asked.send().status, status, "{host} {path} {fields:?}");
        }
    }
}

#[test]
fn where_the_target_is_comes_from_the_best_source() {
    let (_upstream, gateway) = started("");
    let api = "api.example.com";
    let ask = || {
        bare(&gateway, "")
            .header("X-Original-Method", "GET")
            .host("a.test")
    };
    // The absolute URL has precedence over the other fields.
    ask()
        .header("X-Original-URL", format!("https://{api}/hosts/x"))
        .header("X-Forwarded-Host", "b.test")
        .send()
        .expect(200);
    ask()
        .header("X-Original-URL", "https://b.test/hosts/x")
        .header("X-Forwarded-Host", api)
        .send()
        .expect(403);
    // A path names no host. A host beside it may be the caller's, unless it is listed in `trusted_headers`: nothing may
    // depend on it.
    let both = |path: &str| {
        ask()
            .header("X-Original-URI", path)
            .header("X-Forwarded-Host", api)
            .send()
    };
    both("/hosts/x").refused(400, "forward_malformed");
    both("/public/x").expect(200);
    // A caller that adds the fields of another family gains no trust.
    ask()
        .header("X-Original-URI", "/hosts/x")
        .header("X-Forwarded-Uri", "/hosts/x")
        .header("X-Forwarded-Host", api)
        .send()
        .refused(400, "forward_malformed");
    ask()
        .header("X-Forwarded-Uri", "/hosts/x")
        .header("X-Forwarded-Host", api)
        .send()
        .expect(200);
    let (_upstream, listed) = started("trusted_headers = [\"X-Forwarded-Host\"]\n");
    bare(&listed, "")
        .header("X-Original-Method", "GET")
        .header("X-Original-URI", "/hosts/x")
        .header("X-Forwarded-Host", api)
        .host("a.test")
        .send()
        .expect(200);
    ask()
        .header("X-Original-URI", "/hosts/x")
        .send()
        .expect(403);
    ask()
        .header("X-Original-URI", "/hosts/x")
        .host(api)
        .send()
        .expect(200);
}

#[test]
fn several_families_that_name_one_target_are_one() {
    let (_upstream, gateway) = started("[session]\nreturn_to = [\"https://app.example.com\"]\n");
    let cases: [(&str, Fields<'_>, u16); 6] = [
        ("", &[URI, URL, METHOD, HOST, PROTO], 401),
        ("", &[URI, ORIGINAL, URL, METHOD, HOST, PROTO], 401),
        (
            "",
            &[URI, ("X-Original-URI", "/%70ublic/x"), METHOD, PROTO],
            401,
        ),
        ("", &[URI, METHOD, HOST, PROTO], 302),
        ("/public/x", &[URI, PROTO], 302),
        ("/public/x", &[URI, ORIGINAL, PROTO], 401),
    ];
    for (appended, fields, refused) in cases {
        let ask = |path: &str, more: Fields<'_>| {
            let to = |value: &str| value.replace("/public/", path).replace("/%70ublic/", path);
            let mut question = bare(&gateway, &to(appended)).host("app.example.com");
            for (name, value) in fields {
                question = question.header(name, to(value));
            }
            with(question, more).send()
        };
        ask("/public/", &[]).expect(200);
        let answer = ask("/protected/", &[("Accept", "text/html")]);
        assert_eq!(answer.status, refused, "{appended} {fields:?}: {answer:?}");
        assert!(answer.header("location").is_some(), "{fields:?}");
        let answer = ask("/protected/", &[("Accept", "text/html;q=0, */*")]);
        answer.refused(401, "credential_missing");
        assert_eq!(answer.header("location"), None, "{fields:?}");
    }
}

#[test]
fn no_login_mends_a_path_or_a_method_that_is_refused() {
    let (_upstream, gateway) = started("");
    for way in WAYS {
        let ask = |target| {
            let question = about(&gateway, way, "POST", "app.example.com", target);
            question.header("Accept", "text/html")
        };
        for name in [
            "X-HTTP-Method-Override",
            "X_HTTP_Method",
            "X-Method-Override",
        ] {
            for target in ["/public/x", "/protected/x"] {
                let answer = ask(target).header(name, "DELETE").send();
                answer.refused(403, "method_override_refused");
                assert_eq!(answer.header("location"), None);
            }
        }
        let answer = ask("/public/../x").send();
        answer.refused(403, "path_refused");
        assert_eq!(answer.header("location"), None);
    }
}

#[test]
fn the_scheme_is_read_as_on_the_way_through() {
    let (_upstream, gateway) = started("[session]\nreturn_to = [\"https://app.example.com\"]\n");
    for (told, scheme) in [
        ("HTTPS", "https"),
        ("wss", "https"),
        ("http, https", "https"),
        ("https, ws", "http"),
        ("", "http"),
    ] {
        let question = bare(&gateway, "").header("X-Forwarded-Proto", told);
        let fields = [("X-Forwarded-Uri", "/protected/x"), METHOD, HOST];
        let answer = with(question, &fields).header("Accept", "text/html").send();
        let location = answer.expect(302).header("location").unwrap().to_owned();
        // The login returns only to https.
        assert_eq!(location.contains("rd=https"), scheme == "https", "{told}");
    }
}

#[test]
fn only_listed_proxies_with_the_secret_may_ask() {
    let secret = "a secret of proxies".replace(' ', "-");
    let (_upstream, gateway) = started(&format!("[forward_auth]\nsecret = \"{secret}\"\n"));
    gateway.secret(&secret);
    let ask = || about(&gateway, Way::Uri, "GET", "a.test", "/public/x");
    ask().send().refused(403, "forwarder_refused");
    for wrong in [
        "",
        "x",
        &secret[1..],
        &format!("{secret}x"),
        &secret.to_uppercase(),
    ] {
        ask()
            .header("X-Doorward-Secret", wrong)
            .send()
            .refused(403, "forwarder_refused");
    }
    ask()
        .header("X-Doorward-Secret", &secret)
        .header("X-Doorward-Secret", &secret)
        .send()
        .refused(403, "forwarder_refused");
    ask()
        .header("X_Doorward_Secret", &secret)
        .send()
        .refused(403, "forwarder_refused");
    ask()
        .header("X-Doorward-Secret", &secret)
        .send()
        .expect(200);

    let upstream = Upstream::start();
    let strangers = Gateway::start(&routes(&upstream));
    for way in WAYS {
        about(&strangers, way, "GET", "a.test", "/public/x")
            .send()
            .refused(403, "forwarder_refused");
    }
    bare(&strangers, "")
        .send()
        .refused(403, "forwarder_refused");
}

#[test]
fn the_endpoint_answers_under_every_host() {
    let (_upstream, gateway) = started("auth_hosts = [\"auth.example.com\"]\n");
    gateway
        .get("/auth/me")
        .host("a.test")
        .send()
        .refused(404, "no_route");
    for way in WAYS {
        about(&gateway, way, "GET", "a.test", "/public/x")
            .host("a.test")
            .send()
            .expect(200);
    }
}

#[test]
fn a_browser_is_sent_to_the_login_page_as_its_proxy_understands_it() {
    let (_upstream, gateway) = started("[session]\nreturn_to = [\"https://app.example.com\"]\n");
    let page = format!("http://{}/auth/login", gateway.address);
    for way in WAYS {
        let ask = |host: &str| {
            about(&gateway, way, "GET", host, "/protected/x?a=b").header("Accept", "text/html")
        };
        let answer = ask("app.example.com").send();
        let status = if matches!(way, Way::OriginalUri | Way::OriginalUrl) {
            401
        } else {
            302
        };
        assert_eq!(answer.status, status, "{way:?}");
        let back = "https%3A%2F%2Fapp.example.com%2Fprotected%2Fx%3Fa%3Db";
        assert_eq!(
            answer.header("location"),
            Some(format!("{page}?rd={back}").as_str())
        );
        if status == 401 {
            answer.refused(401, "credential_missing");
        }
        // A foreign host gets the page, and no return URL.
        let foreign = ask("evil.test").send();
        assert_eq!(foreign.header("location"), Some(page.as_str()), "{way:?}");
        // Callers other than browsers get a status.
        for (name, value) in [
            ("Sec-Fetch-Mode", "cors"),
            ("Authorization", "Bearer a.b.c"),
        ] {
            let answer = ask("app.example.com").header(name, value).send();
            answer.refused_as(401);
            assert_eq!(answer.header("location"), None, "{way:?} {name}");
        }
    }
}

#[test]
fn a_login_page_of_another_place_and_none_at_all() {
    let elsewhere = "[forward_auth]\nlogin_url = \"https://login.example.com/?x=1\"\n";
    let (_upstream, gateway) = started(&format!(
        "{elsewhere}[session]\nreturn_to = [\"https://app.example.com\"]\n"
    ));
    let ask = |gateway: &Gateway, host: &str| {
        about(gateway, Way::Uri, "GET", host, "/protected/x")
            .header("Accept", "text/html")
            .send()
    };
    let answer = ask(&gateway, "app.example.com").expect(302);
    let wanted = "https://login.example.com/?x=1&rd=https%3A%2F%2Fapp.example.com%2Fprotected%2Fx";
    assert_eq!(answer.header("location"), Some(wanted));
    // On the gateway's own routes its own page is accepted.
    let own = gateway
        .get("/protected/x")
        .header("Accept", "text/html")
        .send()
        .expect(302);
    assert!(
        own.header("location")
            .unwrap()
            .starts_with(&format!("http://{}/auth/login", gateway.address))
    );
    let (_upstream, gateway) = started(&format!("{elsewhere}[session]\nlogin_redirect = false\n"));
    ask(&gateway, "app.example.com").refused(401, "credential_missing");
}

#[test]
fn a_cookie_authenticates_what_pages_of_the_target_may_send() {
    let (_upstream, gateway) = started("[session]\norigins = [\"https://spa.example.com\"]\n");
    gateway.person("anna");
    let answer = log_in(&gateway, &format!("http://{}", gateway.address), "anna");
    let cookie = answer.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let handshake = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let cases: [(&str, Fields<'_>, u16); 9] = [
        ("GET", &[], 200),
        ("GET", &[("Origin", "https://evil.test")], 200),
        ("POST", &[], 403),
        ("POST", &[("Origin", "https://evil.test")], 403),
        ("POST", &[("Origin", "https://app.example.com")], 200),
        ("POST", &[("Origin", "https://spa.example.com")], 200),
        ("GET", &[handshake], 403),
        ("GET", &[handshake, ("Origin", "https://evil.test")], 403),
        (
            "GET",
            &[handshake, ("Origin", "https://app.example.com")],
            200,
        ),
    ];
    for way in WAYS {
        for (method, fields, status) in cases {
            let question = about(&gateway, way, method, "app.example.com", "/protected/x");
            let answer = with(question.header("Cookie", cookie), fields).send();
            assert_eq!(
                answer.status, status,
                "{way:?} {method} {fields:?}: {answer:?}"
            );
        }
    }
    // Some proxies pass the handshake on unchanged, and have schemes of their own for it.
    let whole = bare(&gateway, "")
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Proto", "wss")
        .header("X-Forwarded-Host", "app.example.com")
        .header("X-Forwarded-Uri", "/protected/x")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Origin", "https://app.example.com")
        .header("Cookie", cookie);
    let mut connection = gateway.connect();
    whole
        .header("Connection", "Upgrade")
        .send_on(&mut connection)
        .expect(200);
}

#[test]
fn with_a_cookie_domain_only_the_cookie_of_the_domain_counts() {
    let upstream = Upstream::start();
    let listen =
        "public_url = \"https://auth.example.com\"\n[session]\ncookie_domain = \"example.com\"\n";
    let gateway = Gateway::start(&format!("{TRUSTED}{listen}{}{ROUTES}", routes(&upstream)));
    gateway.person("anna");
    let answer = log_in(&gateway, "https://auth.example.com", "anna");
    let pairs = answer.all("set-cookie").into_iter();
    let pairs: Vec<_> = pairs.map(|it| it.split(';').next().unwrap()).collect();
    let [own, domain] = pairs[..] else {
        panic!("{pairs:?}")
    };
    for way in WAYS {
        let ask = |cookie: &str| {
            let question = about(&gateway, way, "GET", "app.example.com", "/protected/x");
            question.header("Cookie", cookie).send()
        };
        ask(own).refused(401, "credential_missing");
        ask(domain).expect(200);
        ask(&format!("{own}; {domain}")).expect(200);
    }
}

#[test]
fn preflights_pass_where_the_route_of_their_method_says_so() {
    let (upstream, gateway) = started("");
    let anna = gateway.person("anna");
    let origin = ("Origin", "https://spa.example.com");
    let put = ("Access-Control-Request-Method", "PUT");
    let key = ("X-Api-Key", "dwk_1");
    let cases: [(&str, &str, Fields<'_>, u16, u16); 8] = [
        ("OPTIONS", "/methods/x", &[origin, put], 200, 200),
        (
            "OPTIONS",
            "/methods/x",
            &[origin, ("Access-Control-Request-Method", "GET")],
            403,
            405,
        ),
        ("OPTIONS", "/methods/x", &[origin], 403, 405),
        ("OPTIONS", "/methods/x", &[put], 403, 405),
        ("OPTIONS", "/methods/x", &[origin, put, key], 403, 405),
        ("PUT", "/methods/x", &[origin, put], 401, 401),
        ("OPTIONS", "/protected/x", &[origin, put], 401, 401),
        ("OPTIONS", "/public/x", &[origin, put], 200, 200),
    ];
    for (method, target, fields, asked, proxied) in cases {
        let with = |request: Request<'_>| with(request, fields).send();
        for way in WAYS {
            let answer = with(about(&gateway, way, method, "app.example.com", target));
            assert_eq!(
                answer.status, asked,
                "{way:?} {method} {target} {fields:?}: {answer:?}"
            );
            if asked == 200 {
                assert_eq!(identity(&answer), json!({"x-auth-method": "anonymous"}));
            }
        }
        let before = upstream.count();
        let answer = with(gateway.request(method, target));
        assert_eq!(
            answer.status, proxied,
            "{method} {target} {fields:?}: {answer:?}"
        );
        assert_eq!(upstream.count() - before, usize::from(proxied == 200));
    }
    let put = about(&gateway, Way::Uri, "PUT", "app.example.com", "/methods/x");
    put.by(&anna.caller()).send().expect(200);
}

#[test]
fn a_question_is_recorded_and_counted_as_the_request_that_it_is_about() {
    let (_upstream, gateway) = started("");
    let anna = gateway.person("anna");
    let ask = |target: &str| about(&gateway, Way::Uri, "PUT", "app.example.com", target);
    let cases = [
        (
            ask("/protected/x?q")
                .by(&anna.caller())
                .header("X-Forwarded-For", "192.0.2.9"),
            json!({"outcome": "allowed", "status": 200, "method": "PUT", "host": "app.example.com", "path": "/protected/x",
                "route": "/protected/**", "subject": anna.uid, "client": "192.0.2.9", "upstream": null}),
        ),
        (
            ask("/admin/x").by(&anna.caller()),
            json!({"outcome": "denied", "status": 403, "reason": "role_missing", "path": "/admin/x", "subject": anna.uid}),
        ),
        (
            bare(&gateway, ""),
            json!({"outcome": "denied", "status": 400, "reason": "forward_malformed", "method": "GET", "path": "/auth/verify"}),
        ),
    ];
    for (question, wanted) in cases {
        let answer = question.send();
        let record = gateway.record(answer.header("x-request-id").unwrap());
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&record[name], value, "{name} in {record}");
        }
    }
    let metrics = gateway.admin_get("/metrics");
    for line in [
        "doorward_requests_total{outcome=\"allowed\",status=\"2xx\"} 1",
        "doorward_requests_total{outcome=\"denied\",status=\"4xx\"} 2",
    ] {
        assert!(
            metrics.text().contains(line),
            "{line} in {}",
            metrics.text()
        );
    }
}

#[test]
fn what_cannot_be_decided_is_never_allowed() {
    let gone = format!(
        "http://127.0.0.1:{}/{{uid}}/{{resource}}/{{id}}",
        free_port()
    );
    let source = format!("[[role_source]]\nresources = [\"event\"]\nurl = \"{gone}\"\n");
    let event = route("/events/{id}/**", "{ any_role = [\"event-{id}-member\"] }");
    let (_upstream, gateway) = started(&format!("{source}{event}"));
    let anna = gateway.person("anna");
    for way in WAYS {
        let question = about(&gateway, way, "GET", "app.example.com", "/events/1/x");
        let answer = question.by(&anna.caller()).send();
        answer.refused(503, "role_source_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
}
