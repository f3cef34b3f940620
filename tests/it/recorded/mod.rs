//! What the gateway answers, byte for byte: some 200 requests and commands beside the texts in this directory, for changes
//! that must not be seen from outside. A text that is removed is written anew, and the test fails once.
//!
//! What differs from run to run (ids, tokens, times, ports, paths) is replaced by its kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{Caller, Key, Person};
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, Upstream};

/// Longer bodies are told by their digest.
const BODY_BYTES_MAX: usize = 4000;

/// Exchanges of one kind, and the text that they are compared with.
struct Record<'g> {
    gateway: &'g Gateway,
    places: Vec<(String, &'static str)>,
    text: String,
    count: usize,
}

impl<'g> Record<'g> {
    fn new(gateway: &'g Gateway, upstream: &Upstream, people: &People) -> Self {
        Self {
            gateway,
            places: vec![
                (gateway.address.to_string(), "<gateway>"),
                (upstream.address.to_string(), "<upstream>"),
                (gateway.dir().display().to_string(), "<directory>"),
                (people.key.id.clone(), "<key>"),
                (format!("%3A{}", gateway.address.port()), "%3A<port>"),
            ],
            text: String::new(),
            count: 0,
        }
    }

    fn note(&mut self, what: &str, answer: &str) {
        self.count += 1;
        let _ = writeln!(
            self.text,
            ">>> {}\n{}",
            self.stable(what),
            self.stable(answer)
        );
    }

    fn answer(&mut self, what: &str, response: &Response) {
        // That of an API key has eight characters.
        let json = serde_json::from_slice::<Value>(&response.body).unwrap_or_default();
        if let Some(id) = json["id"].as_str() {
            self.places.push((id.to_owned(), "<id>"));
        }
        let body = self.stable(&String::from_utf8_lossy(&response.body));
        let mut told = format!("{}\n", response.status);
        for (name, value) in &response.headers {
            let value = match name.to_ascii_lowercase().as_str() {
                // Ports have four or five digits.
                "content-length" if body.contains("<gateway>") => "<length>",
                "date" => "<time>",
                _ => value,
            };
            let _ = writeln!(told, "{name}: {value}");
        }
        if body.len() <= BODY_BYTES_MAX {
            let _ = write!(told, "\n{body}");
        } else {
            let digest = Sha256::digest(&body);
            let _ = write!(told, "\n{} bytes, {:02x?}", body.len(), &digest[..8]);
        }
        self.note(what, &told);
    }

    fn ask(&mut self, caller: (&str, &Caller), method: &str, target: &str, body: Option<Value>) {
        let mut request = self.gateway.request(method, target).by(caller.1);
        let mut told = format!("{method} {target} by {}", caller.0);
        if let Some(body) = body {
            let _ = write!(told, " with {body}");
            request = request.json(&body);
        }
        let response = request.send();
        self.answer(&told, &response);
    }

    /// Without what is different each time.
    fn stable(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, name) in &self.places {
            text = text.replace(place, name);
        }
        let is_inner = |c: char| c.is_ascii_alphanumeric() || "_-.:+".contains(c);
        let mut stable = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|c| !is_inner(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end.max(first.len_utf8()));
            stable.push_str(kind(word).unwrap_or(word));
            rest = behind;
        }
        stable
    }

    /// Compares with the text of this name.
    fn hold(self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/it/recorded")
            .join(name);
        if !path.exists() {
            fs::write(&path, &self.text).unwrap();
            panic!("{name} is recorded anew: read it, and run the test again");
        }
        let kept = fs::read_to_string(&path).unwrap();
        let (mut kept, mut found) = (kept.split("\n>>> "), self.text.split("\n>>> "));
        loop {
            match (kept.next(), found.next()) {
                (None, None) => break,
                (kept, found) => assert_eq!(found, kept, "{name} has another exchange"),
            }
        }
    }
}

/// What kind of text differs from run to run.
fn kind(word: &str) -> Option<&'static str> {
    let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_time = word.len() == 24 && word.starts_with("20") && word.ends_with('Z');
    if is_time {
        Some("<time>")
    } else if word.len() == 16 && is_hex {
        Some("<id>")
    } else if 10 <= word.len() && word.bytes().all(|byte| byte.is_ascii_digit()) {
        Some("<number>")
    } else if is_drawn(word) {
        Some("<token>")
    } else {
        None
    }
}

/// Whether a word is random: an id has 22 characters behind its kind, and nothing else that is as long as a token has both
/// capital and small letters, and digits or no hyphen.
fn is_drawn(word: &str) -> bool {
    let bare = match word.split_once('-') {
        Some((kind, bare)) if kind.len() < 5 => bare,
        _ => word,
    };
    let has = |is: fn(char) -> bool| bare.contains(is);
    let is_mixed = has(|c| c.is_ascii_uppercase()) && has(|c| c.is_ascii_lowercase());
    let is_no_name = 36 <= bare.len() || has(|c| c.is_ascii_digit()) || !bare.contains('-');
    is_mixed && (bare.len() == 22 || 20 <= bare.len() && is_no_name)
}

/// An upstream that answers with what it has seen.
fn mirror() -> Upstream {
    Upstream::serving(|exchange: &mut Exchange| {
        let mut seen = format!("{} {}\n", exchange.seen.method, exchange.seen.target);
        for (name, value) in &exchange.seen.headers {
            let _ = writeln!(seen, "{name}: {value}");
        }
        exchange.answer(&seen);
    })
}

struct People {
    anna: Person,
    key: Key,
    admin: Person,
}

fn people(gateway: &Gateway) -> People {
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &["reports:read"]);
    gateway.member("anna", "7", "member");
    let admin = gateway.administrator("root");
    People { anna, key, admin }
}

/// Bodies that something is wrong with, and some that are right: a method, a path and JSON each.
const BY_NOBODY: &[&str] = &[
    r#"POST /auth/login {"username": "anna", "password": "wrong"}"#,
    r#"POST /auth/login {"username": 7, "password": "x"}"#,
    r#"POST /auth/login {"username": "anna", "password": "x", "more": 1}"#,
    r#"POST /auth/register {"username": "a b", "identity": "x@example.org", "name": "N"}"#,
    r#"POST /auth/register {"username": "berta", "identity": "no address", "name": "N"}"#,
    r#"POST /auth/register {"username": "berta", "identity": "berta@example.org", "name": "N"}"#,
    r#"POST /auth/forgot {"username": "nobody"}"#,
    r#"PUT /auth/password {"new_password": "a", "verify_password": "b", "reset_token": "x"}"#,
    r#"POST /auth/token {"grant_type": "refresh_token", "refresh_token": "x"}"#,
];
const BY_A_LOGIN: &[&str] = &[
    r#"POST /auth/apikeys {"name": "ci", "scopes": ["reports:read"], "rate_per_minute": 60}"#,
    r#"POST /auth/apikeys {"name": ""}"#,
    r#"POST /auth/apikeys {"name": "x", "scopes": ["none:such"]}"#,
    r#"POST /auth/apikeys {"name": "x", "allow_from": ["everywhere"]}"#,
    r#"PATCH /auth/me {"name": "Anna B"}"#,
    r#"PUT /auth/me/identity {"identity": "anna@"}"#,
    r#"PUT /auth/settings/theme {"dark": true}"#,
    r#"PUT /auth/members/list/7/x {"level": "member"}"#,
    "PUT /auth/nothing {}",
];
/// Fields of a login that something is wrong with.
const FIELDS_OF_A_LOGIN: &[(&str, &str)] = &[
    ("Content-Type", "text/plain"),
    ("Content-Type", "application/json; charset=latin1"),
    ("Origin", "https://evil.example"),
    ("Accept", "text/html"),
];

#[test]
fn every_endpoint_answers_as_recorded() {
    let upstream = mirror();
    let gateway = Gateway::start(&routes(&upstream));
    let people = people(&gateway);
    let mut record = Record::new(&gateway, &upstream, &people);
    let callers = [
        ("nobody", Caller::Anonymous),
        ("a login", people.anna.caller()),
        ("a key", people.key.caller()),
        ("an administrator", people.admin.caller()),
    ];
    let document = gateway.get("/auth/openapi.json").send().json();
    let paths: BTreeMap<String, Value> = serde_json::from_value(document["paths"].clone()).unwrap();
    for (path, operations) in &paths {
        for (method, operation) in operations.as_object().unwrap() {
            let parts = path.split('/');
            let parts = parts.map(|part| if part.starts_with('{') { "x" } else { part });
            let target = parts.collect::<Vec<_>>().join("/");
            let method = method.to_uppercase();
            // What would end the logins of the others.
            if path.ends_with("/logout") || (method == "DELETE" && path.ends_with("/sessions")) {
                continue;
            }
            let body = operation.get("requestBody").map(|_| json!({}));
            // Accounts come in the order of their ids.
            let is_in_order = target != "/auth/accounts" || method != "GET";
            let asking = if is_in_order {
                &callers[..]
            } else {
                &callers[..3]
            };
            for (name, caller) in asking {
                record.ask((name, caller), &method, &target, body.clone());
            }
        }
    }
    for (lines, (name, caller)) in [(BY_NOBODY, &callers[0]), (BY_A_LOGIN, &callers[1])] {
        for line in lines {
            let mut parts = line.splitn(3, ' ');
            let mut next = || parts.next().unwrap();
            let (method, target) = (next(), next());
            let body = serde_json::from_str(next()).unwrap();
            record.ask((name, caller), method, target, Some(body));
        }
    }
    let login = || gateway.post("/auth/login");
    for (name, value) in FIELDS_OF_A_LOGIN {
        let request = login().json(&json!({"username": "a", "password": "b"}));
        let response = request.header(name, *value).send();
        record.answer(&format!("POST /auth/login with {name}: {value}"), &response);
    }
    let request = login().header("Content-Type", "application/json");
    let response = request.body("{\"username\": ").send();
    record.answer("POST /auth/login with half a body", &response);
    assert!(100 < record.count, "{}", record.count);
    record.hold("endpoints.txt");
}

const TARGETS: &[&str] = &[
    "/public/x?y=1",
    "/optional/x",
    "/protected/x",
    "/admin/x",
    "/reports/x",
    "/member/7/x",
    "/member/8/x",
    "/manager/7/x",
    "/both/7/x",
    "/nowhere",
    "/protected/%2e%2e/x",
    "/protected//x",
    "/Protected/x",
    "/%70rotected/x",
    "/public/%zz",
    "/public/caf\u{e9}",
    "/",
];
const FIELDS: &[(&str, &str)] = &[
    ("X-Auth-Uid", "x"),
    ("X~Auth~Roles", "admin"),
    ("X-Forwarded-For", "192.0.2.9"),
    ("X-Forwarded-Host", "other.example"),
    ("Forwarded", "for=192.0.2.9"),
    ("Authorization", "Bearer eyJh.eyJh.xxxx"),
    ("Authorization", "Basic YTpi"),
    ("X-Api-Key", "wrong"),
    ("Cookie", "doorward_session=wrong; a=b"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Accept", "text/html"),
];
/// What proxies ask.
const QUESTIONS: &[&[(&str, &str)]] = &[
    &[
        ("X-Forwarded-Uri", "/protected/x"),
        ("X-Forwarded-Method", "GET"),
    ],
    &[
        ("X-Forwarded-Uri", "/public/x"),
        ("X-Forwarded-Method", "GET"),
    ],
    &[
        ("X-Original-URI", "/member/7/x"),
        ("X-Original-Method", "GET"),
    ],
    &[("X-Original-URL", "http://localhost/public/x")],
    &[("X-Original-URI", "/a"), ("X-Forwarded-Uri", "/b")],
    &[],
];
const HEADS: &[&str] = &[
    "GET /public/x HTTP/1.1\r\n\r\n",
    "GET /public/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /public/x HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET /public/x y HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET public HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /public/x HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET /public/x HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n",
    "GET /public/x HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
    "POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    "POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "TRACE /public/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /public/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
];

#[test]
fn routes_and_questions_are_answered_as_recorded() {
    let upstream = mirror();
    let gateway = Gateway::start(&routes(&upstream));
    let people = people(&gateway);
    let mut record = Record::new(&gateway, &upstream, &people);
    let (anna, key) = (people.anna.caller(), people.key.caller());
    let callers = [
        ("nobody", &Caller::Anonymous),
        ("a login", &anna),
        ("a key", &key),
    ];
    for target in TARGETS {
        for caller in callers {
            record.ask(caller, "GET", target, None);
        }
    }
    for (name, value) in FIELDS {
        for target in ["/public/x", "/protected/x"] {
            let response = gateway.get(target).header(name, *value).send();
            record.answer(&format!("GET {target} with {name}: {value}"), &response);
        }
    }
    for fields in QUESTIONS {
        for (name, caller) in callers {
            let mut request = gateway.get("/auth/verify").by(caller);
            for (field, value) in *fields {
                request = request.header(field, *value);
            }
            record.answer(&format!("verify {fields:?} by {name}"), &request.send());
        }
    }
    for head in HEADS {
        for response in gateway.send(head) {
            record.answer(&head.escape_debug().to_string(), &response);
        }
    }
    for path in ["/healthz", "/readyz", "/nowhere"] {
        let response = gateway.admin_get(path);
        record.answer(&format!("GET {path} of the admin listener"), &response);
    }
    assert!(100 < record.count, "{}", record.count);
    record.hold("routes.txt");
}

#[test]
fn commands_answer_as_recorded() {
    let upstream = mirror();
    let gateway = Gateway::start(&routes(&upstream));
    let people = people(&gateway);
    let mut record = Record::new(&gateway, &upstream, &people);
    for words in [
        &["--help"][..],
        &["serve", "--help"],
        &["check", "--help"],
        &["explain", "--help"],
        &["account", "--help"],
        &["account", "add", "--help"],
        &["apikey", "create", "--help"],
        &["member", "set", "--help"],
        &["keys", "--help"],
        &["store", "--help"],
        &["token", "--help"],
        &["doctor", "--help"],
        &["check"],
        &["account", "show", "anna"],
        &["account", "show", "nobody"],
        &["account", "disable", "nobody"],
        &["apikey", "list", "anna"],
        &["apikey", "revoke", "anna", "x"],
        &["member", "list", "list", "7"],
        &["member", "set", "anna", "list", "7", "nothing"],
        &["explain", "GET", "/member/7/x"],
        &["explain", "GET", "/protected/x"],
        &["explain", "GET", "/nowhere"],
        &["nothing"],
    ] {
        let ended = gateway.cli(words, "");
        let told = format!("{:?}\n{}{}", ended.code, ended.stdout, ended.stderr);
        record.note(&format!("doorward {}", words.join(" ")), &told);
    }
    gateway.stop();
    gateway.write_config(
        "[listen]\naddress = \"nowhere\"\nport = 1\n[limits]\nhead_bytes_max = 1\n[store]\nengine = \"x\"\n\
         [[route]]\npath = \"a\"\nrequire = \"somebody\"\n[[upstream]]\nname = \"\"\n[nothing]\nx = 1\n",
    );
    let ended = gateway.cli(&["check"], "");
    record.note(
        "doorward check of a broken one",
        &format!("{:?}\n{}", ended.code, ended.all()),
    );
    record.hold("commands.txt");
}
