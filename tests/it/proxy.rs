//! Requests pass to the upstream of their route, unchanged, and all others are refused.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{free_port, now};

/// Far longer than a streamed body needs, far shorter than waiting for a whole body.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn requests_go_where_host_path_and_method_say() {
    let (one, two) = (Upstream::saying("one"), Upstream::saying("two"));
    let gateway = Gateway::start(&format!(
        r#"
        upstream = [{{ name = "one", addresses = ["{}"] }}, {{ name = "two", addresses = ["{}"] }}]
        [[route]]
        path = "/a/**"
        upstream = "one"
        require = "public"
        [[route]]
        path = "/a/{{x}}/edit"
        methods = ["POST"]
        upstream = "two"
        require = "public"
        [[route]]
        path = "/h/**"
        hosts = ["api.example.com"]
        upstream = "two"
        require = "public"
        [[route]]
        path = "/exact"
        methods = ["GET"]
        upstream = "one"
        require = "public"
        "#,
        one.address, two.address
    ));
    let cases = [
        ("GET", "any", "/a/", Some("one")),
        ("GET", "any", "/a/b/c?d", Some("one")),
        ("POST", "any", "/a/b/edit", Some("two")),
        ("POST", "any", "/a/b/c/edit", Some("one")),
        ("GET", "any", "/a", None),
        ("GET", "any", "/ab/", None),
        ("GET", "any", "/A/", None),
        ("GET", "any", "/", None),
        ("GET", "api.example.com", "/h/", Some("two")),
        ("GET", "API.Example.com:1234", "/h/", Some("two")),
        ("GET", "example.com", "/h/", None),
        ("GET", "xapi.example.com", "/h/", None),
        ("GET", "api.example.com.evil.test", "/h/", None),
        ("GET", "any", "/exact", Some("one")),
        ("GET", "any", "/exact/", None),
    ];
    let mut passed = 0;
    for (method, host, path, wanted) in cases {
        let answer = gateway.request(method, path).host(host).send();
        match wanted {
            Some(text) => assert_eq!(
                (answer.status, answer.text()),
                (200, text),
                "{method} {host} {path}"
            ),
            None => {
                answer.refused(404, "no_route");
            }
        }
        passed += usize::from(wanted.is_some());
    }
    // A wider pattern never answers for a narrower one.
    for (method, path, allow) in [("GET", "/a/b/edit", "POST"), ("POST", "/exact", "GET")] {
        let answer = gateway.request(method, path).send();
        answer.refused(405, "method_refused");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    assert_eq!(
        one.count() + two.count(),
        passed,
        "what no route matches reaches no upstream"
    );
}

#[test]
fn trace_connect_and_lower_case_never_pass() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let heads = [
        "TRACE /public/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
        "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
        "get /public/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
    ];
    for head in heads {
        let answers = gateway.send(head);
        assert_eq!(answers.len(), 1, "{head}");
        assert!(
            (400..=501).contains(&answers[0].status),
            "{head}: {}",
            answers[0].status
        );
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn addresses_take_turns_and_connections_are_kept() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let gateway = Gateway::start(&format!(
        "upstream = [{{ name = \"main\", addresses = [\"{}\", \"{}\"] }}]\n[[route]]\npath = \"/**\"\nupstream = \"main\"\nrequire = \"public\"",
        one.address, two.address
    ));
    let mut caller = gateway.connect();
    for _ in 0..10 {
        gateway.get("/x").send_on(&mut caller).expect(200);
    }
    assert_eq!((one.count(), two.count()), (5, 5));
    assert_eq!(
        (one.connections(), two.connections()),
        (1, 1),
        "a connection for each request"
    );
}

#[test]
fn an_address_that_refuses_is_passed_over() {
    let live = Upstream::start();
    let gateway = Gateway::start(&format!(
        "upstream = [{{ name = \"main\", addresses = [\"127.0.0.1:{}\", \"{}\"] }}]\n[[route]]\npath = \"/**\"\nupstream = \"main\"\nrequire = \"public\"",
        free_port(),
        live.address
    ));
    for _ in 0..4 {
        gateway.get("/x").send().expect(200);
        gateway.post("/x").body("body").send().expect(200);
    }
    let bodies: Vec<_> = live
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "POST")
        .map(|seen| seen.body)
        .collect();
    assert_eq!(bodies, vec![b"body".to_vec(); 4]);
}

#[test]
fn the_callers_connection_outlives_every_kind_of_answer() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    let login = serde_json::json!({"username": "nobody", "password": "nothing-at-all"});
    for _ in 0..2 {
        gateway.get("/public/x").send_on(&mut caller).expect(200);
        gateway
            .get("/protected/x")
            .send_on(&mut caller)
            .refused(401, "credential_missing");
        gateway
            .get("/nowhere")
            .send_on(&mut caller)
            .refused(404, "no_route");
        gateway.get("/auth/me").send_on(&mut caller).refused_as(401);
        gateway
            .post("/auth/login")
            .json(&login)
            .send_on(&mut caller)
            .refused_as(401);
        gateway
            .request("HEAD", "/public/x")
            .send_on(&mut caller)
            .expect(200);
        gateway
            .get("/.well-known/jwks.json")
            .send_on(&mut caller)
            .expect(200);
        // A small unread body is discarded.
        gateway
            .post("/protected/x")
            .body("unread")
            .send_on(&mut caller)
            .refused(401, "credential_missing");
        gateway
            .post("/public/x")
            .body("read")
            .send_on(&mut caller)
            .expect(200);
    }
}

#[test]
fn faults_of_the_upstream_become_problems() {
    let gone = free_port();
    let cases: [(&str, u16, &str); 7] = [
        ("", 502, "upstream_error"),
        ("\u{1}\u{2}garbage\r\n\r\n", 502, "upstream_error"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            502,
            "upstream_error",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
            502,
            "upstream_error",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
            502,
            "upstream_error",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
            502,
            "upstream_error",
        ),
        ("gone", 502, "upstream_unreachable"),
    ];
    for (raw, status, code) in cases {
        let upstream = Upstream::answering(raw);
        let address = if raw == "gone" {
            format!("127.0.0.1:{gone}")
        } else {
            upstream.address.to_string()
        };
        let gateway =
            Gateway::start(&routes(&upstream).replace(&upstream.address.to_string(), &address));
        let answer = gateway.post("/public/x").body("once").send();
        assert_eq!((answer.status, answer.is_whole), (status, true), "{raw:?}");
        answer.refused(status, code);
        assert!(upstream.count() < 2, "a POST was sent twice: {raw:?}");
    }
}

#[test]
fn an_answer_framed_twice_leaves_with_one_framing() {
    // RFC 9112 section 6.3: chunked has precedence, and the length must not be passed on.
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let gateway = Gateway::start(&routes(&upstream));
    let answer = gateway.get("/public/x").send();
    if answer.status != 502 {
        assert_eq!(
            (answer.text(), answer.header("content-length")),
            ("hello", None)
        );
    }
}

#[test]
fn an_upstream_that_says_nothing_is_given_up_in_time() {
    let (_go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::serving(move |_: &mut Exchange| {
        let _ = wait.lock().unwrap().recv_timeout(SOON);
    });
    let gateway = Gateway::start(&format!(
        "[limits]\nupstream_read_timeout_ms = 300\n{}",
        routes(&upstream)
    ));
    let start = now();
    gateway
        .post("/public/x")
        .body("once")
        .send()
        .refused(504, "upstream_timeout");
    assert!(start.elapsed() < SOON);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn bodies_over_the_limit_are_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[limits]\nbody_bytes_max = 1000\n{}",
        routes(&upstream)
    ));
    gateway
        .post("/public/x")
        .body("x".repeat(1000))
        .send()
        .expect(200);
    assert_eq!(upstream.last().body.len(), 1000);

    gateway
        .post("/public/x")
        .body("x".repeat(1001))
        .send()
        .refused(413, "body_too_large");
    assert_eq!(
        upstream.count(),
        1,
        "a length that is too large is refused before anything is sent"
    );

    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    let whole = format!("{chunk}{chunk}0\r\n\r\n");
    let over = format!("{chunk}{chunk}1\r\nx\r\n0\r\n\r\n");
    for (body, is_fine) in [(whole, true), (over, false)] {
        let mut caller = gateway.connect();
        caller.write(format!(
            "POST /public/x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n{body}",
            gateway.address
        ));
        let answer = caller.answer();
        if is_fine {
            answer.expect(200);
        } else {
            answer.refused(413, "body_too_large");
        }
        let longest = upstream.seen().iter().map(|seen| seen.body.len()).max();
        assert!(
            longest <= Some(1000),
            "{longest:?} bytes of a body came through"
        );
    }
}

#[test]
fn a_refusal_reaches_a_caller_who_is_still_sending() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    gateway
        .post("/protected/x")
        .body(vec![b'x'; 4 << 20])
        .send()
        .refused(401, "credential_missing");
    gateway
        .post("/auth/login")
        .header("Content-Type", "application/json")
        .body(vec![b' '; 4 << 20])
        .send()
        .refused_as(413);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        exchange.body();
        let target = exchange.seen.target.clone();
        exchange.answer(&target);
    });
    let gateway = Gateway::start(&routes(&upstream));
    let host = gateway.address;
    let mut caller = gateway.connect();
    caller.write(format!(
        "POST /public/1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nbodyGET /nowhere HTTP/1.1\r\nHost: {host}\r\n\r\n\
         GET /auth/me HTTP/1.1\r\nHost: {host}\r\n\r\nGET /public/4 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ));
    assert_eq!(caller.answer().text(), "/public/1");
    caller.answer().refused(404, "no_route");
    caller.answer().refused_as(401);
    assert_eq!(caller.answer().text(), "/public/4");
    assert!(caller.rest().is_empty());
}

#[test]
fn head_is_guarded_like_get_and_has_no_body() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    let answer = gateway
        .request("HEAD", "/public/x")
        .send_on(&mut caller)
        .expect(200);
    assert_eq!(answer.header("content-length"), Some("5"));
    for (target, status) in [("/protected/x", 401), ("/nowhere", 404), ("/auth/me", 401)] {
        gateway
            .request("HEAD", target)
            .send_on(&mut caller)
            .expect(status);
    }
    assert_eq!(
        gateway.get("/public/x").send_on(&mut caller).text(),
        "hello"
    );
    assert_eq!(upstream.count(), 2);
}
