//! SIGTERM: requests in flight are finished, all other callers are sent elsewhere, nothing new begins, and the exit
//! status is 0.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use http::Request;
use rustix::process::Signal;

use crate::harness::gateway::Gateway;
use crate::harness::http::Connection;
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, SWITCH, Upstream};
use crate::harness::{now, run, wait_for};
use crate::http2;

const SOON: Duration = Duration::from_secs(10);

/// An upstream whose answer waits for the test, and which reports when a request has arrived.
fn slow() -> (Upstream, Sender<()>, Receiver<()>) {
    let ((go, wait), (tell, told)) = (channel::<()>(), channel::<()>());
    let (wait, tell) = (Mutex::new(wait), Mutex::new(tell));
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        let _ = tell.lock().unwrap().send(());
        let _ = wait.lock().unwrap().recv_timeout(SOON);
        exchange.answer("hello");
    });
    (upstream, go, told)
}

fn ask(gateway: &Gateway) -> Connection {
    ask_for(gateway, "/public/x", "")
}

fn ask_for(gateway: &Gateway, target: &str, fields: &str) -> Connection {
    let mut caller = gateway.connect();
    caller.write(format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n",
        gateway.address
    ));
    caller
}

fn begin_drain(gateway: &Gateway) {
    gateway.signal(Signal::TERM);
    wait_for("the drain", || {
        gateway.stderr().contains("draining").then_some(())
    });
}

#[test]
fn requests_in_flight_end_and_nothing_new_begins() {
    let (upstream, go, told) = slow();
    let gateway = Gateway::start(&routes(&upstream));
    let mut idle = gateway.connect();
    gateway.get("/nowhere").send_on(&mut idle).expect(404);
    let mut caller = ask(&gateway);
    told.recv_timeout(SOON).unwrap();
    gateway.signal(Signal::TERM);
    wait_for("readiness to go", || match gateway.readiness() {
        Some(answer) => (answer.status == 503).then_some(()),
        None => Some(()),
    });
    wait_for("the listener to close", || {
        std::net::TcpStream::connect(gateway.address)
            .is_err()
            .then_some(())
    });
    assert!(
        idle.closes_within(SOON),
        "an idle connection holds the drain up"
    );
    assert!(
        gateway.is_running(),
        "it went before its last request had ended"
    );
    go.send(()).unwrap();
    let answer = caller.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(caller.closes_within(SOON));
    let start = now();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "it waited for nothing"
    );
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_idle_gateway_ends_at_once() {
    let (upstream, _go, _told) = slow();
    let gateway = Gateway::start(&routes(&upstream));
    let _idle: Vec<_> = (0..5).map(|_| gateway.connect()).collect();
    let start = now();
    assert_eq!(gateway.stop().code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_drain_that_takes_too_long_is_cut_off_and_logged() {
    let (upstream, _go, told) = slow();
    let gateway = Gateway::start(&format!(
        "[limits]\ndrain_timeout_ms = 300\n{}",
        routes(&upstream)
    ));
    let mut caller = ask(&gateway);
    told.recv_timeout(SOON).unwrap();
    let start = now();
    assert_eq!(gateway.stop().code(), Some(1));
    assert!(
        Duration::from_millis(200) < start.elapsed() && start.elapsed() < Duration::from_secs(5)
    );
    assert!(
        caller
            .try_answer(false)
            .is_none_or(|answer| answer.status == 502 || !answer.is_whole)
    );
}

#[test]
fn a_second_signal_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let (upstream, _go, told) = slow();
        let gateway = Gateway::start(&routes(&upstream));
        let _caller = ask(&gateway);
        told.recv_timeout(SOON).unwrap();
        let start = now();
        gateway.signal(signal);
        wait_for("the drain", || {
            gateway.stderr().contains("draining").then_some(())
        });
        gateway.signal(signal);
        gateway.wait();
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_kept_connection_loses_no_request_and_learns_of_its_end() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for target in ["/public/x", "/auth/methods", "/nowhere", "/protected/x"] {
        let mut kept = gateway.connect();
        let answer = gateway.get(target).send_on(&mut kept);
        assert_eq!(answer.header("connection"), Some("keep-alive"), "{target}");
    }
    // A connection that was used just now may be used again at any moment.
    let mut kept: Vec<_> = ["/public/x", "/auth/methods", "/nowhere", "/protected/x"]
        .into_iter()
        .map(|target| (target, gateway.connect()))
        .collect();
    for (target, connection) in &mut kept {
        gateway.get(target).send_on(connection);
    }
    let mut new = gateway.connect();
    begin_drain(&gateway);
    for (target, connection) in &mut kept {
        let answer = gateway.get(target).send_on(connection);
        assert_eq!(answer.header("connection"), Some("close"), "{target}");
        assert!(connection.closes_within(SOON), "{target}");
    }
    let answer = gateway.get("/public/x").send_on(&mut new).expect(200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(gateway.wait().code(), Some(0));
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const GOING_AWAY: [u8; 4] = [0x88, 2, 3, 0xE9];

#[test]
fn a_websocket_is_closed_where_a_frame_ends_and_the_upstream_hears_of_it() {
    let ((go, wait), (tell, told)) = (channel::<()>(), channel::<Vec<u8>>());
    let (wait, tell) = (Mutex::new(wait), Mutex::new(tell));
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        exchange.write([SWITCH.as_bytes(), &[0x82, 5, b'h', b'a']].concat());
        wait.lock().unwrap().recv_timeout(SOON).unwrap();
        // The rest of that frame, and a frame that comes too late.
        exchange.write([b'l', b'f', b'!', 0x81, 1, b'x']);
        tell.lock().unwrap().send(exchange.read(8)).unwrap();
        exchange.close = true;
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = ask_for(&gateway, "/public/x", UPGRADE);
    assert_eq!(caller.head().unwrap().status, 101);
    assert_eq!(caller.read(4), [0x82, 5, b'h', b'a']);
    begin_drain(&gateway);
    assert!(
        !caller.closes_within(Duration::from_millis(300)),
        "it was closed in the midst of a frame"
    );
    go.send(()).unwrap();
    assert_eq!(caller.read(3), b"lf!");
    assert_eq!(caller.read(4), GOING_AWAY);
    let answer = [0x88, 0x82, 1, 2, 3, 4, 3 ^ 1, 0xE9 ^ 2];
    caller.write(answer);
    assert_eq!(told.recv_timeout(SOON).unwrap(), answer);
    assert!(caller.closes_within(SOON), "something followed the end");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn idle_websockets_are_closed_at_once_and_silent_ones_do_not_hold_the_drain_up() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        exchange.write(SWITCH);
        exchange.read(1000);
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut callers: Vec<_> = (0..20)
        .map(|_| ask_for(&gateway, "/public/x", UPGRADE))
        .collect();
    for caller in &mut callers {
        assert_eq!(caller.head().unwrap().status, 101);
    }
    let start = now();
    begin_drain(&gateway);
    for caller in &mut callers {
        assert_eq!(caller.read(4), GOING_AWAY);
    }
    // No gateway answers any more.
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

/// Streams events endlessly at `/public/events`, and answers everything else after 1.5 s.
fn streaming() -> Upstream {
    Upstream::serving(|exchange: &mut Exchange| {
        if !exchange.seen.target.ends_with("/events") {
            std::thread::sleep(Duration::from_millis(1500));
            return exchange.answer("hello");
        }
        exchange.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        while exchange.try_write(b"9\r\ndata: x\n\n\r\n") {
            std::thread::sleep(Duration::from_millis(50));
        }
        exchange.close = true;
    })
}

#[test]
fn an_event_stream_has_a_limit_of_its_own_and_other_requests_have_theirs() {
    let upstream = streaming();
    let gateway = Gateway::start(&format!(
        "[limits]\ndrain_stream_timeout_ms = 300\n{}",
        routes(&upstream)
    ));
    let mut events = ask_for(&gateway, "/public/events", "");
    let head = events.head().unwrap();
    assert_eq!(head.status, 200);
    let id = head.header("x-request-id").unwrap().to_owned();
    let mut slow = ask(&gateway);
    wait_for("both requests", || (upstream.count() == 2).then_some(()));
    let start = now();
    begin_drain(&gateway);
    let rest = events.rest();
    let took = start.elapsed();
    assert!(
        rest.ends_with(b"data: x\n\n\r\n"),
        "it ended in the midst of a chunk"
    );
    assert!(
        Duration::from_millis(250) < took && took < Duration::from_millis(1400),
        "{took:?}"
    );
    let answer = slow.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(gateway.wait().code(), Some(0));
    let record = gateway.record(&id);
    assert_eq!(
        (&record["outcome"], &record["reason"]),
        (&"aborted".into(), &"drained".into())
    );
}

#[test]
fn http_2_gets_goaway_finishes_its_streams_and_loses_endless_ones() {
    let upstream = streaming();
    let gateway = Gateway::start(&format!(
        "[limits]\ndrain_stream_timeout_ms = 300\n{}",
        routes(&upstream)
    ));
    let idle = run(async {
        let idle = http2::connect(&gateway).await;
        let sender = http2::connect(&gateway).await;
        let get = |path: &str| {
            let uri = format!("http://{}{path}", gateway.address);
            let request = Request::get(uri).body(()).unwrap();
            let answer = sender.clone().send_request(request, true).unwrap().0;
            async move { answer.await.map(|it| it.into_parts().1) }
        };
        let mut events = get("/public/events").await.unwrap();
        assert!(events.data().await.unwrap().is_ok());
        let slow = get("/public/x");
        while upstream.count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.signal(Signal::TERM);
        let reset = loop {
            match events.data().await.unwrap() {
                Ok(bytes) => drop(events.flow_control().release_capacity(bytes.len())),
                Err(error) => break error,
            }
        };
        assert_eq!(reset.reason(), Some(h2::Reason::CANCEL), "{reset}");
        let mut slow = slow.await.unwrap();
        assert_eq!(&slow.data().await.unwrap().unwrap()[..], b"hello");
        // After GOAWAY it accepts no more requests.
        assert!(sender.clone().ready().await.is_err());
        idle
    });
    assert_eq!(gateway.wait().code(), Some(0));
    drop(idle);
}

#[test]
fn connections_that_only_wait_hold_nothing_up() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let mut half = gateway.connect();
    half.stream
        .get_mut()
        .write_all(b"GET /public/x HT")
        .unwrap();
    let mut preface = gateway.connect();
    preface.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut none = gateway.connect();
    let start = now();
    begin_drain(&gateway);
    assert!(none.closes_within(SOON));
    assert!(half.closes_within(SOON));
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}
