//! Heads and connections have limits in size, number and time.

use std::time::Duration;

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;
use crate::harness::{at_once, now};

#[test]
fn heads_have_limits() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let fields = |count: usize| "X-A: b\r\n".repeat(count);
    let cases = [
        ("98 more fields", "/public/a".to_owned(), fields(98), 200),
        ("99 more fields", "/public/a".to_owned(), fields(99), 431),
        ("2000 fields", "/public/a".to_owned(), fields(2000), 431),
        (
            "a long field",
            "/public/a".to_owned(),
            format!("X-A: {}\r\n", "b".repeat(40_000)),
            431,
        ),
        (
            "a long target",
            format!("/public/{}", "a".repeat(8184)),
            String::new(),
            200,
        ),
        (
            "a longer target",
            format!("/public/{}", "a".repeat(8185)),
            String::new(),
            414,
        ),
        (
            "a target without end",
            format!("/public/{}", "a".repeat(100_000)),
            String::new(),
            414,
        ),
        (
            "a long query",
            format!("/public/a?{}", "a".repeat(9000)),
            String::new(),
            414,
        ),
    ];
    for (about, target, fields, status) in cases {
        let bytes =
            format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\nConnection: close\r\n{fields}\r\n");
        let answers = gateway.send(&bytes);
        let found: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(found, [status], "{about}");
        if status != 200 {
            answers[0].refused_as(status);
        }
    }
}

#[test]
fn a_head_that_drips_is_cut_off() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[limits]\nhead_timeout_ms = 400\n{}",
        routes(&upstream)
    ));
    for (start_of_head, drip) in [
        ("G", "a"),
        ("GET /public/a HTTP/1.1\r\nHost: a\r\nX-", "a"),
        ("PRI * HTTP/2.0\r\n", ""),
    ] {
        let mut caller = gateway.connect();
        caller.write(start_of_head);
        let start = now();
        let mut is_closed = false;
        while !is_closed && start.elapsed() < Duration::from_secs(4) {
            caller.write(drip);
            is_closed = caller.closes_within(Duration::from_millis(50)) || {
                // A 408 may be said before.
                caller.stream.buffer().starts_with(b"HTTP/1.1 408")
            };
        }
        assert!(is_closed, "{start_of_head:?} was waited for");
        assert!(
            Duration::from_millis(200) < start.elapsed(),
            "{start_of_head:?} had no time at all"
        );
    }
    // A second head on the same connection has the same time and no more.
    let mut caller = gateway.connect();
    gateway.get("/public/a").send_on(&mut caller).expect(200);
    caller.write("GET /public/a HT");
    let start = now();
    let _ = caller.rest();
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[limits]\nkeepalive_timeout_ms = 300\n{}",
        routes(&upstream)
    ));
    let mut caller = gateway.connect();
    gateway.get("/public/a").send_on(&mut caller).expect(200);
    assert!(caller.closes_within(Duration::from_secs(4)));
}

#[test]
fn one_caller_with_many_connections_does_not_shut_out_readiness() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[limits]\nconnections_max = 8\n{}",
        routes(&upstream)
    ));
    let held: Vec<_> = (0..30).map(|_| gateway.connect()).collect();
    assert_eq!(gateway.admin_get("/readyz").status, 200);
    drop(held);
    crate::harness::wait_for("room for a connection", || {
        let mut caller = gateway.connect();
        caller.write("GET /public/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        caller
            .try_answer(false)
            .filter(|answer| answer.status == 200)
    });
}

#[test]
fn a_storm_of_logins_is_refused_and_harms_nobody_else() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[account]\nhash_threads = 1\nlockout_attempts = 1000\n{}",
        routes(&upstream)
    ));
    let body = serde_json::json!({"username": "nobody", "password": "entirely Wrong 9 words"});
    let storm = at_once(60, |index| {
        if index == 0 {
            // Beside them, one who only passes.
            let start = now();
            gateway.get("/public/a").send().expect(200);
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{:?}",
                start.elapsed()
            );
            return 0;
        }
        let answer = gateway.post("/auth/login").json(&body).send();
        if answer.status == 503 {
            answer.refused_as(503);
            assert!(answer.header("retry-after").is_some());
        }
        answer.status
    });
    let count = |status: u16| storm.iter().filter(|it| **it == status).count();
    assert_eq!(count(401) + count(503), 59, "{storm:?}");
    assert!(0 < count(401) && 0 < count(503), "{storm:?}");
}

#[test]
fn a_body_to_our_own_endpoints_that_does_not_come_is_not_waited_for() {
    let gateway = Gateway::start("[limits]\nhead_timeout_ms = 300\n");
    for framing in [
        "Content-Length: 500\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        let mut connection = gateway.connect();
        let head =
            "POST /auth/login HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\n";
        let started = now();
        connection.write(format!("{head}{framing}"));
        connection.answer().refused(408, "body_timeout");
        assert!(started.elapsed() < Duration::from_secs(5), "{framing}");
        assert!(
            connection.closes_within(Duration::from_secs(5)),
            "{framing}"
        );
    }
}
