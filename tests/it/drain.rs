//! SIGTERM: what is in flight ends, nothing new begins, and the exit is clean.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::gateway::Gateway;
use crate::harness::http::Connection;
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{now, wait_for};

const SOON: Duration = Duration::from_secs(10);

/// An upstream whose answer waits for the test, and tells when a request is there.
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
    let mut caller = gateway.connect();
    caller.write(format!(
        "GET /public/x HTTP/1.1\r\nHost: {}\r\n\r\n",
        gateway.address
    ));
    caller
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
fn a_drain_that_takes_too_long_is_cut_off_and_says_so() {
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
