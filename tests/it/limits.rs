//! Heads and connections have limits in size, number and time.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{SOON, at_once, now, wait_for};

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
                // A 408 may precede the close.
                caller.stream.buffer().starts_with(b"HTTP/1.1 408")
            };
        }
        assert!(is_closed, "{start_of_head:?} was waited for");
        assert!(
            Duration::from_millis(200) < start.elapsed(),
            "{start_of_head:?} had no time at all"
        );
    }
    // A second head on the same connection has the same timeout and no more.
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
    let mut held: Vec<_> = (0..30).map(|_| gateway.connect()).collect();
    assert_eq!(gateway.admin_get("/readyz").status, 200);
    // The oldest of them are closed for new ones, whether they have sent nothing or half a head.
    for caller in &mut held {
        caller.write("GET /public/a HT");
    }
    for _ in 0..10 {
        gateway.get("/public/a").send().expect(200);
    }
    assert!(held[0].closes_within(SOON));
    let metrics = gateway.admin_get("/metrics").text().to_owned();
    assert!(!metrics.contains("doorward_connections_evicted_total 0"));
}

#[test]
fn one_network_has_its_share_of_connections_and_a_trusted_proxy_has_no_bound() {
    for (trusted, is_bound) in [("[]", true), ("[\"127.0.0.0/8\"]", false)] {
        let upstream = Upstream::start();
        let listen = format!("connections_per_client_max = 3\ntrusted_proxies = {trusted}");
        let gateway = Gateway::start(&format!("[listen]\n{listen}\n{}", routes(&upstream)));
        let mut held: Vec<_> = (0..6).map(|_| gateway.connect()).collect();
        for (index, caller) in held.iter_mut().enumerate() {
            caller.write("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n");
            let is_served = caller.try_answer(false).is_some();
            assert_eq!(is_served, !is_bound || index < 3, "{trusted} {index}");
        }
        drop(held);
        wait_for("room for a connection", || {
            let mut caller = gateway.connect();
            caller.write("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n");
            caller.try_answer(false)
        });
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed_in_the_time_of_a_head() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[limits]\nhead_timeout_ms = 300\n{}",
        routes(&upstream)
    ));
    let start = now();
    assert!(gateway.connect().closes_within(SOON));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn requests_in_flight_have_a_bound_and_the_rest_is_refused_at_once() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        let _ = wait.lock().unwrap().recv_timeout(SOON);
        exchange.answer("hello");
    });
    let gateway = Gateway::start(&format!(
        "[limits]\nrequests_max = 2\n{}",
        routes(&upstream)
    ));
    let mut held: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for caller in &mut held {
        caller.write("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    wait_for("both requests", || (upstream.count() == 2).then_some(()));
    for path in ["/public/a", "/auth/methods"] {
        let answer = gateway.get(path).send();
        answer.refused(503, "overloaded");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(gateway.admin_get("/readyz").status, 200);
    for caller in &mut held {
        go.send(()).unwrap();
        caller.answer().expect(200);
    }
    drop(go);
    wait_for("room for a request", || {
        (gateway.get("/auth/methods").send().status == 200).then_some(())
    });
    assert_eq!(upstream.count(), 2);
}

#[test]
fn half_heads_do_not_shut_probes_out_of_the_admin_listener() {
    let gateway = Gateway::start("");
    let mut held: Vec<_> = (0..400)
        .map(|_| {
            let mut probe = crate::harness::http::Connection::open(gateway.admin);
            probe.write("GET /healthz HT");
            probe
        })
        .collect();
    let start = now();
    for _ in 0..5 {
        assert_eq!(gateway.admin_get("/healthz").status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "probes waited");
    assert!(held[0].closes_within(SOON), "the oldest one stays");
}

/// Sends one byte each half second: far less than the minimum rate of a body.
fn drips(head: &str, gateway: &Gateway) -> (Duration, String) {
    let mut caller = gateway.connect();
    caller.write(head);
    let start = now();
    let tick = Duration::from_millis(500);
    while start.elapsed() < Duration::from_secs(25) {
        caller.write("x");
        if caller.closes_within(tick) || !caller.stream.buffer().is_empty() {
            break;
        }
    }
    let took = start.elapsed();
    (took, String::from_utf8_lossy(&caller.rest()).into_owned())
}

#[test]
fn a_body_that_drips_holds_no_upstream() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let head = "POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    let (took, answer) = drips(head, &gateway);
    assert!(answer.contains("TP/1.1 408"), "{answer}");
    let wanted = Duration::from_secs(9)..Duration::from_secs(14);
    assert!(wanted.contains(&took), "{took:?}");
}

#[test]
fn a_storm_of_logins_is_refused_and_harms_nobody_else() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[listen]\ntrusted_proxies = [\"127.0.0.1/32\"]\n\
         [account]\nhash_threads = 1\nlockout_attempts = 1000\n{}",
        routes(&upstream)
    ));
    let body = serde_json::json!({"username": "nobody", "password": "entirely Wrong 9 words"});
    // Many more than one thread hashes in the two seconds that a caller waits at most.
    let storm = at_once(400, |index| {
        if index == 0 {
            // Meanwhile, a caller without a login.
            let start = now();
            gateway.get("/public/a").send().expect(200);
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{:?}",
                start.elapsed()
            );
            return 0;
        }
        let client = format!("192.0.{}.{}", index / 250, index % 250);
        let request = gateway.post("/auth/login").json(&body);
        let answer = request.header("X-Forwarded-For", &client).send();
        if answer.status == 503 {
            answer.refused_as(503);
            assert!(answer.header("retry-after").is_some());
        }
        answer.status
    });
    let count = |status: u16| storm.iter().filter(|it| **it == status).count();
    assert_eq!(count(401) + count(503), 399, "{storm:?}");
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

fn told(gateway: &Gateway, words: &str) {
    wait_for(words, || gateway.stderr().contains(words).then_some(()));
}

/// Returns the value of a metric without labels.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let metrics = gateway.admin_get("/metrics").text().to_owned();
    let line = metrics
        .lines()
        .find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[test]
fn connections_are_refused_before_memory_runs_out_and_requests_in_flight_finish() {
    const MIB: u64 = 1 << 20;
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        if exchange.seen.target.ends_with("/slow") {
            let _ = wait.lock().unwrap().recv_timeout(SOON * 3);
        }
        exchange.answer("hello");
    });
    let with = |memory_mb: u64| {
        format!(
            "[limits]\nmemory_max_mb = {memory_mb}\n[account]\nhash_threads = 1\n{}",
            routes(&upstream)
        )
    };
    let gateway = Gateway::start(&with(100_000));
    // Memory that serving allocates once counts as the baseline.
    gateway.get("/public/a").send().expect(200);
    assert_eq!(gateway.admin_get("/readyz").status, 200);
    let used = wait_for("a measurement", || {
        Some(metric(&gateway, "doorward_memory_used_bytes")).filter(|it| *it != 0)
    });
    assert_eq!(
        metric(&gateway, "doorward_memory_limit_bytes"),
        100_000 * MIB
    );
    assert!(gateway.stop().success());
    // Four fifths of it, less the memory of a hash, is 20 MiB more than the baseline.
    gateway.configure(&with((used / MIB + 20) * 5 / 4 + 19));
    gateway.run();
    let mut slow = gateway.connect();
    slow.write("GET /public/slow HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("the request", || (upstream.count() == 1).then_some(()));
    let unfinished = format!(
        "GET /public/a HTTP/1.1\r\nHost: a\r\nX-A: {}",
        "a".repeat(30_000)
    );
    let mut held = Vec::new();
    wait_for("connections to be refused", || {
        for _ in 0..50 {
            let mut caller = gateway.connect();
            caller.write(&unfinished);
            held.push(caller);
        }
        let refused = metric(&gateway, "doorward_connections_refused_for_memory_total");
        (0 < refused && held.len() < 5000).then_some(())
    });
    told(&gateway, "memory is short");
    let missing = wait_for("readiness to go", || {
        held.push(gateway.connect());
        held.last_mut().unwrap().write(&unfinished);
        let answer = gateway.admin_get("/readyz");
        (answer.status == 503).then(|| answer.text().to_owned())
    });
    assert!(missing.contains("\"missing\":[\"memory\"]"), "{missing}");
    go.send(()).unwrap();
    slow.answer().expect(200);
    drop(held);
    wait_for("memory to be there again", || {
        (gateway.admin_get("/readyz").status == 200).then_some(())
    });
    gateway.get("/public/a").send().expect(200);
    told(&gateway, "memory is no longer short");
}

#[test]
fn without_descriptors_commands_health_and_logins_still_work() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("sled", &routes(&upstream));
    gateway.run_with_files(256);
    told(&gateway, "LimitNOFILE=");
    let anna = gateway.person("anna");
    let body = serde_json::json!({"username": "anna", "password": anna.password});
    let mut kept = gateway.connect();
    let mut flood: Vec<_> = Vec::new();
    for round in 0..20 {
        for _ in 0..20 {
            let mut caller = gateway.connect();
            caller.write("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n");
            flood.push(caller);
        }
        let request = gateway.post("/auth/login").json(&body);
        request.send_on(&mut kept).expect(200);
        assert_eq!(gateway.admin_get("/healthz").status, 200, "{round}");
        let listed = gateway.cli(&["account", "list"], "");
        assert!(listed.stdout.contains("anna"), "{round}: {}", listed.stderr);
    }
    drop(flood);
    let start = now();
    gateway.get("/public/a").send().expect(200);
    assert!(start.elapsed() < Duration::from_secs(1));
}
