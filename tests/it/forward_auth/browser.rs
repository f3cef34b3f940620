//! A real browser behind real proxies over TLS: the redirect to the login, the return URL, and the pages that may act
//! for its user.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::{Value, json};

use crate::forward_auth::proxies::{Kind, Proxy, filled, merged};
use crate::harness::browser::Browser;
use crate::harness::gateway::Gateway;
use crate::harness::people::{Person, password_of};
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{free_port, tools, wait_for};

/// The target of a page of the app that requires a login.
const WANTED: &str = "/wanted/page?a=b%26c&rd=/x&d";

/// The place of the gateway's login page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On the host of the app.
    OfTheApp,
    /// On a host of its own, with a cookie for the domain of both.
    OfItsOwn,
    /// The same without that cookie: a mistake.
    WithoutDomain,
}

/// A browser, a proxy, an app behind it, and the gateway that the proxy asks.
struct Front {
    place: Place,
    upstream: Upstream,
    gateway: Gateway,
    anna: Person,
    browser: Browser,
    port: u16,
    _proxy: Proxy,
}

impl Front {
    fn start(kind: Kind, place: Place) -> Self {
        Self::start_with(kind, place, &|text| text)
    }

    /// Starts all of them with a change of the proxy's example.
    fn start_with(kind: Kind, place: Place, change: &dyn Fn(String) -> String) -> Self {
        let upstream = Upstream::serving(app);
        let gateway = Gateway::prepare("memory", "");
        let port = free_port();
        let ports = [
            ("8000", port),
            ("8080", gateway.address.port()),
            ("9001", upstream.address.port()),
            ("9191", free_port()),
        ];
        let base = fs::read_to_string(gateway.config()).unwrap();
        let example = merged(&base, &filled("forward-auth.toml", &ports));
        let origins = format!(
            "[session]\norigins = [\"{}\"]",
            origin("spa.example.test", port)
        );
        let config = merged(&merged(&example, &place.config(port)), &origins);
        gateway.write_config(&config);
        gateway.run();
        let anna = gateway.person("anna");
        let names = ["*.example.test", "evil.test"];
        let authority = write_certificate(&gateway, &names);
        let over_tls =
            |text: String| change(with_tls(kind, &text, port, gateway.dir().to_str().unwrap()));
        let mut proxy = Proxy::start(kind, &ports, &over_tls);
        wait_for("a proxy that is ready", || {
            proxy.lives();
            TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).ok()
        });
        Self {
            place,
            upstream,
            gateway,
            anna,
            browser: Browser::start_trusting(&authority),
            port,
            _proxy: proxy,
        }
    }

    fn origin(&self, host: &str) -> String {
        origin(host, self.port)
    }

    fn app(&self) -> String {
        self.origin("app.example.test")
    }

    fn login(&self) -> String {
        format!("{}/auth/login", self.origin(self.place.host()))
    }

    /// Returns the name of the cookie that the app's host receives.
    fn cookie_name(&self) -> &'static str {
        match self.place {
            Place::OfItsOwn => "__Secure-doorward",
            Place::OfTheApp | Place::WithoutDomain => "__Host-doorward",
        }
    }

    #[track_caller]
    fn log_in(&self, password: &str) {
        if self.browser.value("username").is_empty() {
            self.browser.fill("username", "anna");
        }
        self.browser.fill("password", password);
        self.browser.click("button");
    }

    /// Expects the login page with this return URL.
    #[track_caller]
    fn is_asked_to_log_in(&self, back: &str) {
        let back: String = url::form_urlencoded::byte_serialize(back.as_bytes()).collect();
        self.browser.arrives(&format!("{}?rd={back}", self.login()));
        assert_eq!(self.browser.text("h1"), "Log in");
    }

    /// Expects a page of the app, at exactly this URL, that shows anna as its caller.
    #[track_caller]
    fn is_at(&self, url: &str) {
        self.browser.arrives(url);
        assert_eq!(self.browser.url(), url);
        assert_eq!(self.browser.text("#uid"), self.anna.uid);
        let target = url.strip_prefix(&self.app()).unwrap();
        assert_eq!(self.browser.text("#target"), target);
    }

    /// Opens a page of the app as anna, and logs in if required.
    fn enter(&self) {
        let wanted = format!("{}{WANTED}", self.app());
        self.browser.open(&wanted);
        self.is_asked_to_log_in(&wanted);
        self.log_in(&password_of("anna"));
    }

    /// Returns how many pages of the gateway itself were requested.
    fn login_pages(&self) -> usize {
        let records = self.gateway.records();
        let is_page =
            |record: &&Value| record["path"] == "/auth/login" && record["method"] == "GET";
        records.iter().filter(is_page).count()
    }

    /// Returns how many requests that could change something have reached the app.
    fn changes(&self) -> usize {
        let seen = self.upstream.seen();
        seen.iter()
            .filter(|seen| !matches!(seen.method.as_str(), "GET" | "OPTIONS"))
            .count()
    }
}

impl Place {
    fn host(self) -> &'static str {
        match self {
            Self::OfTheApp => "app.example.test",
            Self::OfItsOwn | Self::WithoutDomain => "auth.example.test",
        }
    }

    /// Returns the configuration of docs/browsers.md for the hosts of the tests.
    fn config(self, port: u16) -> String {
        let docs = include_str!("../../../docs/browsers.md");
        let mut blocks = docs.split("```toml\n").skip(1);
        let block = match self {
            Self::OfTheApp => blocks.next(),
            Self::OfItsOwn | Self::WithoutDomain => blocks.nth(1),
        };
        let (block, _) = block.unwrap().split_once("```").unwrap();
        let mut text = block.to_owned();
        for host in ["app", "auth"] {
            let told = format!("https://{host}.example.com\"");
            let here = format!("{}\"", origin(&format!("{host}.example.test"), port));
            text = text.replace(&told, &here);
        }
        text = text.replace("example.com", "example.test");
        if self == Self::OfTheApp {
            return text;
        }
        // The harness creates accounts without going through the proxy.
        text = replaced(
            &text,
            "[\"auth.example.test\"]",
            "[\"auth.example.test\", \"127.0.0.1\"]",
        );
        match self {
            Self::WithoutDomain => replaced(&text, "cookie_domain = \"example.test\"", ""),
            Self::OfTheApp | Self::OfItsOwn => text,
        }
    }
}

fn origin(host: &str, port: u16) -> String {
    format!("https://{host}:{port}")
}

/// Writes a certificate for these names beside the gateway's configuration; returns the digest of its authority's key.
pub(crate) fn write_certificate(gateway: &Gateway, names: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/authority.py");
    let mut command = Command::new(tools::python("python"));
    let output = command
        .arg(script)
        .arg(gateway.dir())
        .args(names)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Returns a proxy's example, changed to use TLS.
pub(crate) fn with_tls(kind: Kind, text: &str, port: u16, dir: &str) -> String {
    let (plain, secure) = match kind {
        Kind::Nginx => (
            format!("listen 127.0.0.1:{port};"),
            format!(
                "listen 127.0.0.1:{port} ssl;\nssl_certificate {dir}/chain.pem;\nssl_certificate_key {dir}/key.pem;"
            ),
        ),
        Kind::Caddy => (
            format!("http://:{port} {{"),
            format!("https://:{port} {{\ntls {dir}/chain.pem {dir}/key.pem"),
        ),
        _ => panic!("{kind:?}"),
    };
    replaced(text, &plain, &secure)
}

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in {text}");
    text.replace(from, to)
}

/// The app: pages that show their caller, and an API for a page of another origin.
fn app(exchange: &mut Exchange) {
    exchange.body();
    let seen = &exchange.seen;
    let cors = match (seen.target.starts_with("/api/"), seen.header("origin")) {
        (true, Some(origin)) => format!(
            "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
            Access-Control-Allow-Methods: PUT\r\nAccess-Control-Allow-Headers: x-custom\r\n"
        ),
        _ => String::new(),
    };
    let escaped = seen.target.replace('&', "&amp;").replace('<', "&lt;");
    let uid = seen.header("x-auth-uid").unwrap_or("nobody");
    let page =
        format!("<!DOCTYPE html><title>app</title><p id=uid>{uid}</p><p id=target>{escaped}</p>");
    let length = page.len();
    exchange.write(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{cors}Content-Length: {length}\r\n\r\n{page}"
    ));
}

#[test]
fn behind_nginx_on_the_host_of_the_app() {
    a_visit(Kind::Nginx, Place::OfTheApp);
}

#[test]
fn behind_nginx_on_another_host_of_the_domain() {
    a_visit(Kind::Nginx, Place::OfItsOwn);
}

#[test]
fn behind_caddy_on_the_host_of_the_app() {
    a_visit(Kind::Caddy, Place::OfTheApp);
}

#[test]
fn behind_caddy_on_another_host_of_the_domain() {
    a_visit(Kind::Caddy, Place::OfItsOwn);
}

fn a_visit(kind: Kind, place: Place) {
    let front = Front::start(kind, place);
    let browser = &front.browser;
    scripts_are_told_a_status(&front);

    let wanted = format!("{}{WANTED}", front.app());
    browser.open(&wanted);
    front.is_asked_to_log_in(&wanted);
    front.log_in("entirely Wrong 9 words");
    assert_eq!(
        browser.text(".message"),
        "The name or the password is wrong."
    );
    assert_eq!(browser.cookies(), Vec::<Value>::new());
    front.log_in(&password_of("anna"));
    front.is_at(&wanted);
    let cookies = browser.cookies();
    let [cookie] = cookies.as_slice() else {
        panic!("{cookies:?}")
    };
    assert_eq!(cookie["name"], front.cookie_name());
    assert_eq!(cookie["httpOnly"], true);
    assert_eq!(cookie["secure"], true);
    assert_eq!(cookie["sameSite"], "Lax");
    let secret = cookie["value"].as_str().unwrap().to_owned();
    front.gateway.secret(&secret);

    own_scripts_act(&front);
    other_pages_do_not(&front);
    if place == Place::OfItsOwn {
        the_cookie_of_the_domain_opens_nothing_at_the_gateway(&front, &secret);
    }
    for seen in front.upstream.seen() {
        assert!(!seen.text().contains(&secret), "{}", seen.text());
    }

    browser.open(&front.login());
    assert_eq!(browser.text("#person"), "anna");
    browser.click("button");
    browser.arrives(&format!("{}?notice=logged_out", front.login()));
    browser.open(&wanted);
    front.is_asked_to_log_in(&wanted);
    // Only the note remains, for a minute, that the login page was visited: it identifies no user.
    let left = browser.cookies();
    assert!(
        left.iter().all(|cookie| cookie["name"] == "doorward_way"),
        "{left:?}"
    );
}

/// Requests other than navigations are never redirected to a page: they get a readable 401.
fn scripts_are_told_a_status(front: &Front) {
    front.browser.open(&format!("{}/public/x", front.app()));
    assert_eq!(front.browser.text("#uid"), "nobody");
    let told = front.browser.run(
        "const html = {Accept: 'text/html'};
        const told = async (answer) => [answer.status, answer.redirected, answer.headers.get('content-type'),
            answer.headers.get('www-authenticate')?.split(' ')[0], (await answer.json()).status];
        const xhr = () => new Promise((done) => {
            const request = new XMLHttpRequest();
            request.open('GET', '/wanted/xhr');
            request.setRequestHeader('X-Requested-With', 'XMLHttpRequest');
            request.onloadend = () => done([request.status, request.responseURL.endsWith('/wanted/xhr')]);
            request.send();
        });
        const opened = (channel) => new Promise((done) => {
            channel.onopen = () => done('open');
            channel.onerror = () => done('refused');
        });
        return {
            get: await told(await fetch('/wanted/get', {headers: html})),
            post: await told(await fetch('/wanted/post', {method: 'POST', body: 'x'})),
            head: (await fetch('/wanted/head', {method: 'HEAD', headers: html})).status,
            xhr: await xhr(),
            events: await opened(new EventSource('/wanted/events')),
            socket: await opened(new WebSocket(`wss://${location.host}/wanted/socket`)),
        };",
    );
    let problem = json!([401, false, "application/problem+json", "Bearer", 401]);
    let wanted = json!({"get": problem, "post": problem, "head": 401, "xhr": [401, true], "events": "refused",
        "socket": "refused"});
    assert_eq!(told, wanted);
    let reached = front.upstream.seen();
    let wanted = reached
        .iter()
        .find(|seen| seen.target.starts_with("/wanted"));
    assert!(wanted.is_none(), "{wanted:?}");
}

/// Scripts of the app act for the logged-in user, and so does a page of a listed origin.
fn own_scripts_act(front: &Front) {
    let before = front.changes();
    let own = front.browser.run(
        "const status = async (method) => (await fetch('/wanted/own', {method})).status;
        return [await status('GET'), await status('POST'), await status('DELETE')];",
    );
    assert_eq!(own, json!([200, 200, 200]));
    front
        .browser
        .open(&format!("{}/public/x", front.origin("spa.example.test")));
    let put = |path: &str| {
        let url = format!("{}{path}", front.app());
        front.browser.run(&format!(
            "try {{
                const more = {{method: 'PUT', credentials: 'include', headers: {{'X-Custom': '1'}}}};
                return (await fetch('{url}', more)).status;
            }} catch {{ return 'refused'; }}"
        ))
    };
    // Its preflight passes where the route allows it, and nowhere else.
    assert_eq!(put("/api/x"), 200);
    assert_eq!(put("/wanted/x"), "refused");
    assert_eq!(front.changes() - before, 3);
}

/// Pages of a sibling host and of a foreign site can change nothing, neither at the app nor at the gateway.
fn other_pages_do_not(front: &Front) {
    let browser = &front.browser;
    let before = front.changes();
    let login = front.login();
    let auth = login.strip_suffix("/login").unwrap();
    let (app, port) = (front.app(), front.port);
    for host in ["other.example.test", "evil.test"] {
        let page = format!("{}/public/x", origin(host, port));
        browser.open(&page);
        let read = browser.run(&format!(
            "const send = async (url, method, mode) => {{
                try {{
                    return (await fetch(url, {{method, mode, credentials: 'include'}})).type;
                }} catch {{ return 'refused'; }}
            }};
            return [await send('{auth}/me', 'GET', 'cors'), await send('{auth}/logout', 'POST', 'cors'),
                await send('{auth}/logout', 'POST', 'no-cors'), await send('{auth}/sessions', 'DELETE', 'cors'),
                await send('{app}/wanted/x', 'POST', 'no-cors'), await send('{app}/wanted/x', 'GET', 'cors')];"
        ));
        let wanted = json!([
            "refused", "refused", "opaque", "refused", "opaque", "refused"
        ]);
        assert_eq!(read, wanted, "{host}");
        let password = password_of("anna");
        for action in [
            format!("{auth}/login"),
            format!("{auth}/logout"),
            format!("{app}/wanted/x"),
        ] {
            browser.open(&page);
            browser.run(&format!(
                "const form = Object.assign(document.createElement('form'), {{method: 'post', action: '{action}'}});
                for (const [name, value] of [['username', 'anna'], ['password', '{password}']]) {{
                    form.append(Object.assign(document.createElement('input'), {{name, value}}));
                }}
                document.body.append(form);
                form.submit();"
            ));
            browser.arrives(&action);
            // nginx answers in JSON without a code, the gateway with a page; without a cookie the caller is not logged
            // in.
            let source = browser.source();
            let refusals = [
                "\"status\":403",
                "\"status\":401",
                "403 <code id=\"code\">",
                "401 <code id=\"code\">",
            ];
            let is_refused = refusals.iter().any(|words| source.contains(words));
            assert!(is_refused, "{host} {action}: {source}");
        }
    }
    assert_eq!(front.changes(), before);
    let wanted = format!("{app}{WANTED}");
    browser.open(&wanted);
    front.is_at(&wanted);
}

/// An app of the domain receives this cookie, and cannot use it at the gateway.
fn the_cookie_of_the_domain_opens_nothing_at_the_gateway(front: &Front, secret: &str) {
    let own = front.origin(front.place.host());
    let cases = [
        ("__Secure-doorward", "credential_missing"),
        ("__Host-doorward", "session_ended"),
    ];
    for (name, code) in cases {
        for (method, path) in [("GET", "/auth/me"), ("DELETE", "/auth/sessions")] {
            let request = front
                .gateway
                .request(method, path)
                .header("Cookie", format!("{name}={secret}"))
                .header("Origin", &own);
            request.send().refused(401, code);
        }
    }
}

#[test]
fn thirty_tabs_each_return_to_their_own_page() {
    let front = Front::start(Kind::Nginx, Place::OfItsOwn);
    let tabs: Vec<_> = (0..30)
        .map(|tab| {
            let handle = front.browser.new_tab();
            let wanted = format!("{}/wanted/{tab}?tab={tab}", front.app());
            front.browser.open(&wanted);
            (handle, wanted)
        })
        .collect();
    for (handle, wanted) in &tabs {
        front.browser.turn_to(handle);
        front.is_asked_to_log_in(wanted);
    }
    // In reverse order, so that no tab benefits from being the last one redirected.
    for (handle, wanted) in tabs.iter().rev() {
        front.browser.turn_to(handle);
        front.log_in(&password_of("anna"));
        front.is_at(wanted);
        assert_eq!(front.browser.cookies().len(), 1);
    }
    let (handle, wanted) = tabs.last().unwrap();
    front.browser.turn_to(handle);
    front.browser.open(wanted);
    front.is_at(wanted);
}

#[test]
fn redirects_end_with_an_explanation_if_a_login_is_lost_on_the_way() {
    for (kind, from, to) in [
        (
            Kind::Nginx,
            "proxy_pass_request_body off;",
            "proxy_pass_request_body off;\nproxy_set_header Cookie \"\";",
        ),
        (
            Kind::Caddy,
            "uri /auth/verify",
            "uri /auth/verify\nheader_up -Cookie",
        ),
    ] {
        let front = Front::start_with(kind, Place::OfItsOwn, &|text| replaced(&text, from, to));
        comes_to_rest(
            &front,
            "your login is lost on the way there: contact the administrator.",
        );
    }
}

#[test]
fn redirects_end_with_an_explanation_if_a_login_does_not_reach_the_app() {
    let front = Front::start(Kind::Nginx, Place::WithoutDomain);
    comes_to_rest(
        &front,
        "your login does not reach it: the cookie is not valid for that address.",
    );
}

/// Logs in, and opens the page once more: each time the browser is back immediately.
#[track_caller]
fn comes_to_rest(front: &Front, reason: &str) {
    front.enter();
    for pages in [2, 3] {
        wait_for("the login page", || {
            (front.login_pages() == pages).then_some(())
        });
        front.browser.arrives(&format!("{}?rd=", front.login()));
        assert_eq!(front.browser.text("h1"), "You are logged in");
        let told = front.browser.text("#astray");
        let wanted = format!("If {} sends you here again, {reason}", front.app());
        assert!(told.starts_with(&wanted), "{told}");
        front.browser.click("#back");
    }
}
