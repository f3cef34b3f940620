//! One record per request for every outcome, and counters that agree with the records.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::people::Caller;
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{free_port, wait_for};

const SOON: Duration = Duration::from_secs(10);

/// Every field of a record, as documented.
const FIELDS: [&str; 17] = [
    "bytes_sent",
    "client",
    "duration_us",
    "fault",
    "host",
    "key_id",
    "method",
    "method_authn",
    "outcome",
    "path",
    "reason",
    "request_id",
    "route",
    "status",
    "subject",
    "time",
    "upstream",
];

#[test]
fn each_way_out_writes_one_record() {
    let upstream = Upstream::start();
    let gone = format!(
        "[[upstream]]\nname = \"gone\"\naddresses = [\"127.0.0.1:{}\"]\n",
        free_port()
    );
    let more = "[[route]]\npath = \"/gone/**\"\nupstream = \"gone\"\nrequire = \"public\"\n";
    let gateway = Gateway::start(&format!("{}{gone}{more}", routes(&upstream)));
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    // All records of the requests so far.
    let earlier = wait_for("the records so far", || {
        Some(gateway.records().len()).filter(|count| 4 <= *count)
    });
    let cases: [(&str, Caller, Value); 8] = [
        (
            "/public/x?token=hidden-in-a-query",
            Caller::Anonymous,
            json!({"outcome": "allowed", "status": 200, "route": "/public/**", "upstream": "main", "path": "/public/x", "bytes_sent": 5}),
        ),
        (
            "/protected/x",
            anna.caller(),
            json!({"outcome": "allowed", "status": 200, "subject": anna.uid, "method_authn": "jwt", "key_id": null}),
        ),
        (
            "/protected/x",
            key.caller(),
            json!({"outcome": "allowed", "subject": anna.uid, "method_authn": "apikey", "key_id": key.id}),
        ),
        (
            "/protected/x",
            Caller::Anonymous,
            json!({"outcome": "denied", "reason": "credential_missing", "status": 401, "upstream": null, "subject": null}),
        ),
        (
            "/admin/x",
            anna.caller(),
            json!({"outcome": "denied", "reason": "role_missing", "status": 403, "subject": anna.uid}),
        ),
        (
            "/nowhere?x",
            Caller::Anonymous,
            json!({"outcome": "denied", "reason": "no_route", "status": 404, "route": null, "path": "/nowhere"}),
        ),
        (
            "/gone/x",
            Caller::Anonymous,
            json!({"outcome": "upstream_error", "reason": "upstream_unreachable", "status": 502, "upstream": "gone"}),
        ),
        (
            "/auth/me?secret=hidden-in-a-query",
            Caller::Anonymous,
            json!({"outcome": "local", "status": 401, "path": "/auth/me"}),
        ),
    ];
    gateway.secret("hidden-in-a-query");
    let total = cases.len();
    for (target, caller, wanted) in cases {
        let answer = gateway.get_by(&caller, target);
        let record = gateway.record(answer.header("x-request-id").unwrap());
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&record[name], value, "{target}: {name} in {record}");
        }
        let mut names: Vec<_> = record
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        assert_eq!(names, FIELDS, "{target}");
        assert_eq!(
            (&record["client"], &record["method"]),
            (&json!("127.0.0.1"), &json!("GET"))
        );
    }
    assert_eq!(
        gateway.records().len(),
        earlier + total,
        "one record per request"
    );
}

#[test]
fn only_operators_see_why_a_key_is_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let bert = gateway.person("bert");
    let keys: Vec<_> = (0..3).map(|_| gateway.key(&anna, &[])).collect();
    let owned = gateway.key(&bert, &[]);
    let network = json!({"allow_from": ["192.0.2.0/24"]});
    let path = format!("/auth/apikeys/{}", keys[0].id);
    gateway
        .request("PATCH", &path)
        .by(&anna.caller())
        .json(&network)
        .send()
        .expect(200);
    gateway
        .cli(&["apikey", "revoke", "anna", &keys[1].id], "")
        .done();
    gateway.cli(&["account", "disable", "bert"], "").done();
    let (start, last) = keys[2].text.split_at(keys[2].text.len() - 1);
    let broken = format!("{start}{}", if last == "x" { "y" } else { "x" });
    let cases = [
        (keys[0].text.as_str(), "network", json!(keys[0].id)),
        (&keys[1].text, "unknown", json!(null)),
        (&broken, "malformed", json!(null)),
        (&owned.text, "account_disabled", json!(owned.id)),
    ];
    let mut answers = Vec::new();
    for (text, fault, key_id) in cases {
        let caller = Caller::Key(text.to_owned());
        for (target, outcome) in [("/protected/x", "denied"), ("/auth/me", "local")] {
            let answer = gateway.get_by(&caller, target);
            answer.refused(401, "api_key_invalid");
            let id = answer.header("x-request-id").unwrap().to_owned();
            answers.push(answer.text().replace(&id, ""));
            let record = gateway.record(&id);
            let wanted = json!([outcome, "api_key_invalid", fault, key_id, null]);
            let found = ["outcome", "reason", "fault", "key_id", "subject"];
            let found = found.map(|name| record[name].clone());
            assert_eq!(json!(found), wanted, "{record}");
        }
        let task = ["explain", "GET", "/protected/x", "--apikey", text];
        let explained = gateway.cli(&task, "");
        let said = format!("api_key_invalid: {fault}: ");
        assert!(explained.stdout.contains(&said), "{}", explained.all());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn refusals_of_the_own_endpoints_have_a_reason_and_a_caller() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    let record = |answer: crate::harness::http::Response| {
        let record = gateway.record(answer.header("x-request-id").unwrap());
        let names = ["outcome", "reason", "fault", "subject", "key_id"];
        json!(names.map(|name| record[name].clone()))
    };
    let me = gateway.get_by(&anna.caller(), "/auth/me").expect(200);
    assert_eq!(record(me), json!(["local", null, null, anna.uid, null]));
    let broken = Caller::Session("a.b.c".to_owned());
    assert_eq!(
        record(gateway.get_by(&broken, "/auth/me")),
        json!(["local", "bearer_invalid", "malformed", null, null])
    );
    assert_eq!(
        record(gateway.get_by(&key.caller(), "/auth/members/list/42")),
        json!(["local", "scope_missing", null, anna.uid, key.id])
    );
    assert_eq!(
        record(gateway.try_login("anna", "a wrong one")),
        json!(["local", "login_refused", null, null, null])
    );
    let form = gateway
        .post("/auth/login")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("username=anna&password=x")
        .send();
    form.refused(403, "origin_refused");
    assert!(
        form.text().contains("the Origin header is missing"),
        "{}",
        form.text()
    );
    assert_eq!(
        record(form),
        json!(["local", "origin_refused", null, null, null])
    );
}

#[test]
fn heads_that_are_refused_leave_a_record_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let cases = [
        (
            "GET /public/a?hidden-query HTTP/1.1\r\nHost: a b\r\n\r\n",
            "request_malformed",
            400,
            "/public/a",
        ),
        (
            "GET /public/../a?hidden-query HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "path_refused",
            400,
            "/public/../a",
        ),
        (
            "TRACE /public/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "method_refused",
            405,
            "/public/a",
        ),
    ];
    gateway.secret("hidden-query");
    for (count, (head, reason, status, path)) in cases.iter().enumerate() {
        let answers = gateway.send(head);
        let record = gateway.record(answers[0].header("x-request-id").unwrap());
        let wanted = json!(["denied", reason, status, path]);
        assert_eq!(
            json!([
                record["outcome"],
                record["reason"],
                record["status"],
                record["path"]
            ]),
            wanted,
            "{record}"
        );
        assert_eq!(gateway.records().len(), count + 1);
    }
    let many = format!(
        "GET /public/a HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X-A: b\r\n".repeat(200)
    );
    let answers = gateway.send(&many);
    assert_eq!(
        gateway.record(answers[0].header("x-request-id").unwrap())["reason"],
        "head_too_large"
    );
}

#[test]
fn a_caller_who_leaves_is_recorded_once() {
    let (tell, told) = channel::<()>();
    let tell = Mutex::new(tell);
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        let _ = tell.lock().unwrap().send(());
        exchange.body();
        exchange.answer("hello");
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    caller.write(format!(
        "POST /public/left HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\nhalf",
        gateway.address
    ));
    told.recv_timeout(SOON).unwrap();
    drop(caller);
    let is_it = |record: &Value| record["path"] == "/public/left";
    let record = wait_for("the record of a caller who left", || {
        gateway.records().into_iter().find(is_it)
    });
    assert_eq!(record["outcome"], "aborted", "{record}");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        gateway
            .records()
            .iter()
            .filter(|record| is_it(record))
            .count(),
        1
    );
}

#[test]
fn what_a_caller_sends_cannot_break_a_record() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let targets = [
        "/public/\"x",
        "/public/%22,%22status%22:1",
        "/nowhere/\\u0000",
        "/public/%F0%9F%94%91",
        "/public/{\"a\":1}",
    ];
    for target in targets {
        gateway.get(target).send();
        gateway.get("/nowhere").host("a\"b").send();
    }
    let odd = "G\"T /x HTTP/1.1\r\nHost: a\r\n\r\n";
    gateway.send(odd);
    gateway.send("GET /\u{1b}[31mred HTTP/1.1\r\nHost: a\r\n\r\n");
    gateway.get("/public/last").send().expect(200);
    // Reading all of them parses each line.
    wait_for("the last record", || {
        gateway
            .records()
            .into_iter()
            .find(|record| record["path"] == "/public/last")
    });
    assert!(
        !gateway.stdout().contains('\u{1b}'),
        "a control character in a record"
    );
}

#[test]
fn the_access_log_can_be_turned_off() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("[log]\naccess = false\n{}", routes(&upstream)));
    gateway.get("/public/x").send().expect(200);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_eq!(gateway.stdout(), "");
}

/// Returns the value of one series.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series))
        .unwrap_or_else(|| panic!("no {series} in {metrics}"));
    line.trim().parse().unwrap()
}

#[test]
fn metrics_count_what_happened() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for _ in 0..3 {
        gateway.get("/public/x").send().expect(200);
        gateway.get("/protected/x").send().expect(401);
    }
    gateway.get("/nowhere").send().expect(404);
    gateway.get("/.well-known/jwks.json").send().expect(200);
    let metrics = wait_for("the counters", || {
        let answer = gateway.admin_get("/metrics").expect(200);
        let is_all = value(
            answer.text(),
            "doorward_requests_total{outcome=\"local\",status=\"2xx\"}",
        ) > 0.0;
        is_all.then_some(answer)
    });
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let text = metrics.text();
    let wanted = [
        (
            "doorward_requests_total{outcome=\"allowed\",status=\"2xx\"}",
            3.0,
        ),
        (
            "doorward_requests_total{outcome=\"denied\",status=\"4xx\"}",
            4.0,
        ),
        (
            "doorward_refusals_total{reason=\"credential_missing\"}",
            3.0,
        ),
        ("doorward_refusals_total{reason=\"no_route\"}", 1.0),
        (
            "doorward_request_duration_seconds_count{outcome=\"allowed\"}",
            3.0,
        ),
    ];
    for (series, count) in wanted {
        assert!(
            (value(text, series) - count).abs() < 0.1,
            "{series}: {text}"
        );
    }
    assert!(text.trim_end().ends_with("# EOF"));
}

#[test]
fn no_answer_names_server_or_version() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let mut answers = gateway.send("GET / HTTP/1.1\r\nHost: {host}\r\nHost: b\r\n\r\n");
    answers
        .extend(gateway.send("CONNECT a:1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    answers.push(gateway.admin_get("/nothing"));
    for path in [
        "/public/x",
        "/protected/x",
        "/nowhere",
        "/auth/login",
        "/auth/nothing",
    ] {
        answers.push(gateway.get(path).send());
    }
    for answer in answers {
        for name in ["server", "via", "x-powered-by"] {
            assert_eq!(answer.header(name), None, "{}", answer.status);
        }
        let told = answer.text().to_ascii_lowercase();
        for word in [env!("CARGO_PKG_VERSION"), "pingora", "hyper", "axum"] {
            assert!(!told.contains(word), "{word}: {told}");
        }
    }
}

#[test]
fn the_admin_listener_only_tells() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    assert_eq!(gateway.admin_get("/healthz").status, 200);
    let ready = gateway.admin_get("/readyz").expect(200).json();
    assert_eq!(ready["ready"], true, "{ready}");
    assert_eq!(gateway.admin_get("/nothing").status, 404);
    assert_eq!(gateway.admin_get("/auth/login").status, 404);
    for path in ["/healthz", "/readyz", "/metrics"] {
        // The callers' listener does not serve it.
        gateway.get(path).send().refused(404, "no_route");
        let mut admin = crate::harness::http::Connection::open(gateway.admin);
        admin.write(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(admin.answer().status, 405, "{path}");
    }
}

#[test]
fn an_admin_token_is_asked_for_where_one_is_set() {
    let upstream = Upstream::start();
    let token = "an-admin-token-of-32-characters-x";
    let gateway = Gateway::prepare(
        "memory",
        &format!("[listen]\nadmin_token = \"{token}\"\n{}", routes(&upstream)),
    );
    gateway.secret(token);
    gateway.run_with_admin_token(token);
    for (path, status) in [("/healthz", 401), ("/readyz", 401), ("/metrics", 401)] {
        assert_eq!(gateway.admin_get(path).status, status, "{path}");
    }
    for (given, status) in [(token, 200), ("wrong", 401), ("", 401)] {
        let mut admin = crate::harness::http::Connection::open(gateway.admin);
        admin.write(format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {given}\r\nConnection: close\r\n\r\n"));
        assert_eq!(admin.answer().status, status, "{given:?}");
    }
}
