//! Bodies pass as they arrive, in both directions, and a truncated body is never delivered as complete.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::harness::gateway::Gateway;
use crate::harness::http::{Connection, read_chunk};
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, SWITCH, Upstream};
use crate::harness::{now, wait_for};

/// Far longer than a streamed body needs, far shorter than waiting for a whole body.
const SOON: Duration = Duration::from_secs(5);

/// An upstream that sends `one`, waits for the test, and sends `two`.
fn in_two_pieces(length: bool) -> (Upstream, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait: Mutex<Receiver<()>> = Mutex::new(wait);
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        let (head, one, two) = if length {
            ("Content-Length: 6", "one", "two")
        } else {
            (
                "Transfer-Encoding: chunked",
                "3\r\none\r\n",
                "3\r\ntwo\r\n0\r\n\r\n",
            )
        };
        exchange.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{one}"));
        let _ = wait.lock().unwrap().recv_timeout(SOON * 2);
        exchange.write(two);
    });
    (upstream, go)
}

#[test]
fn answers_stream_to_the_caller_before_they_are_whole() {
    for length in [true, false] {
        let (upstream, go) = in_two_pieces(length);
        let gateway = Gateway::start(&routes(&upstream));
        let start = now();
        let mut caller = gateway.connect();
        caller.write(format!(
            "GET /public/x HTTP/1.1\r\nHost: {}\r\n\r\n",
            gateway.address
        ));
        let head = caller.head().unwrap();
        assert_eq!(head.status, 200);
        let mut next = |count| {
            if length {
                caller.read(count)
            } else {
                read_chunk(&mut caller.stream).unwrap()
            }
        };
        assert_eq!(next(3), b"one");
        assert!(start.elapsed() < SOON, "the first piece was held back");
        go.send(()).unwrap();
        assert_eq!(next(3), b"two");
    }
}

#[test]
fn request_bodies_stream_to_the_upstream_before_they_are_whole() {
    for chunked in [true, false] {
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let upstream = Upstream::serving(move |exchange: &mut Exchange| {
            while let Some(piece) = exchange.piece() {
                tell.lock().unwrap().send(piece).unwrap();
            }
            exchange.answer("done");
        });
        let gateway = Gateway::start(&routes(&upstream));
        let (head, one, two) = if chunked {
            (
                "Transfer-Encoding: chunked",
                "3\r\none\r\n",
                "3\r\ntwo\r\n0\r\n\r\n",
            )
        } else {
            ("Content-Length: 6", "one", "two")
        };
        let mut caller = gateway.connect();
        caller.write(format!(
            "POST /public/x HTTP/1.1\r\nHost: {}\r\n{head}\r\n\r\n{one}",
            gateway.address
        ));
        assert_eq!(
            told.recv_timeout(SOON)
                .expect("the first piece was held back"),
            b"one"
        );
        caller.write(two);
        assert_eq!(told.recv_timeout(SOON).unwrap(), b"two");
        assert_eq!(caller.answer().text(), "done");
        assert_eq!(upstream.last().body, b"onetwo");
    }
}

#[test]
fn a_broken_answer_is_never_passed_off_as_a_whole_one() {
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let upstream = Upstream::answering(raw);
        let gateway = Gateway::start(&routes(&upstream));
        let mut caller = gateway.connect();
        caller.write(format!(
            "GET /public/x HTTP/1.1\r\nHost: {}\r\n\r\n",
            gateway.address
        ));
        if let Some(answer) = caller.try_answer(false) {
            assert!(
                answer.status == 502 || !answer.is_whole,
                "{raw:?} came as {answer:?}"
            );
        }
    }
}

#[test]
fn a_caller_who_expects_100_gets_the_answer_all_the_same() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        if exchange.seen.header("expect").is_some() {
            exchange.write("HTTP/1.1 100 Continue\r\n\r\n");
        }
        exchange.body();
        exchange.answer("thanks");
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    let host = gateway.address;
    caller.write(format!(
        "POST /public/x HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    ));
    assert_eq!(caller.head().unwrap().status, 100);
    caller.write("body");
    assert_eq!(caller.answer().text(), "thanks");
    assert_eq!(upstream.last().body, b"body");

    // Also on the gateway's own endpoints.
    let mut caller = gateway.connect();
    let body = r#"{"username": "nobody", "password": "nothing-at-all"}"#;
    let length = body.len();
    caller.write(format!(
        "POST /auth/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(caller.head().unwrap().status, 100);
    caller.write(body);
    caller.answer().refused_as(401);
}

#[test]
fn trailers_are_dropped_both_ways() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        exchange.body();
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Auth-Uid: forged\r\n\r\n");
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    caller.write(format!(
        "POST /public/x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Auth-Uid\r\nConnection: close\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Auth-Uid: forged\r\n\r\n",
        gateway.address
    ));
    let all = String::from_utf8(caller.rest()).unwrap();
    assert!(
        all.starts_with("HTTP/1.1 200") && !all.contains("forged"),
        "{all}"
    );
    let seen = upstream.last();
    assert!(
        seen.body == b"hi" && !seen.text().contains("forged"),
        "{seen:?}"
    );
}

/// An upstream that switches at once, and sends the first four bytes back.
fn switching() -> Upstream {
    Upstream::serving(|exchange: &mut Exchange| {
        exchange.write(SWITCH);
        let frame = exchange.read(4);
        exchange.write(frame);
        exchange.close = true;
    })
}

fn handshake(gateway: &Gateway, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        gateway.address
    )
}

#[test]
fn websockets_pass_after_101_and_not_before_the_decision() {
    let upstream = switching();
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    caller.write(handshake(&gateway, "/public/x"));
    assert_eq!(caller.head().unwrap().status, 101);
    caller.write("ping");
    assert_eq!(caller.read(4), b"ping");
    let seen = upstream.last();
    assert_eq!(seen.header("upgrade"), Some("websocket"));

    let mut caller = gateway.connect();
    caller.write(handshake(&gateway, "/protected/x"));
    caller.answer().refused(401, "credential_missing");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn websockets_stay_open_however_soon_the_upstream_switches() {
    let upstream = switching();
    let gateway = Gateway::start(&routes(&upstream));
    // With that many at once the machine is busy, and answers arrive before the gateway reads them.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut caller = gateway.connect();
                    caller.write(handshake(&gateway, "/public/x"));
                    assert_eq!(caller.head().unwrap().status, 101);
                    caller.write("ping");
                    assert_eq!(caller.read(4), b"ping");
                }
            });
        }
    });
}

#[test]
fn a_switch_before_the_whole_request_was_sent_is_not_followed() {
    let upstream = switching();
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    let with_body = "\r\nContent-Length: 100\r\nUpgrade:";
    let request = handshake(&gateway, "/public/x").replace("\r\nUpgrade:", with_body);
    caller.write(request + "half");
    caller.answer().refused(502, "upstream_error");
}

#[test]
fn an_upgrade_that_connection_does_not_name_is_none() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        exchange.write(
            "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        );
    });
    let gateway = Gateway::start(&routes(&upstream));
    let asked = handshake(&gateway, "/public/x");
    for request in [
        asked.replace("Connection: Upgrade\r\n", ""),
        asked.replace("Connection: Upgrade", "Connection: keep-alive"),
        asked.replace("GET ", "POST "),
    ] {
        let answer = gateway.connect().write(request).answer();
        assert_eq!(answer.status, 200);
        assert_eq!(upstream.last().header("upgrade"), None);
        // Nor does the offer of the upstream's own connection pass.
        assert_eq!(answer.header("upgrade"), None);
    }
}

#[test]
fn a_body_arrives_whole_although_the_answer_came_first() {
    const LENGTH: usize = 9 << 20;
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        exchange.write("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
        // Slower than the gateway, whose socket stays full to the end.
        for _ in 0..LENGTH / (128 << 10) {
            std::thread::sleep(Duration::from_millis(5));
            exchange.read(128 << 10);
        }
        let _ = tell.lock().unwrap().send(());
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    caller.write(format!(
        "POST /public/x HTTP/1.1\r\nHost: {}\r\nContent-Length: {LENGTH}\r\n\r\n",
        gateway.address
    ));
    caller.write(vec![b'x'; LENGTH]);
    assert_eq!(caller.answer().status, 202);
    told.recv_timeout(SOON).unwrap();
}

#[test]
fn a_tunnel_ends_when_its_upstream_accepts_nothing_for_too_long() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        exchange.write(SWITCH);
        // It sends all the time, and reads nothing.
        for _ in 0..200 {
            if !exchange.try_write(b"\x82\x01x") {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let limits = "[limits]\nupstream_write_timeout_ms = 500\n";
    let gateway = Gateway::start(&(routes(&upstream) + limits));
    let mut caller = gateway.connect();
    caller.write(handshake(&gateway, "/public/x"));
    assert_eq!(caller.head().unwrap().status, 101);
    let mut sender = caller.stream.get_ref().try_clone().unwrap();
    let begin = now();
    let bytes = vec![0x82; 1 << 16];
    std::thread::spawn(move || while sender.write_all(&bytes).is_ok() {});
    caller.rest();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[test]
fn a_caller_that_is_still_sending_can_read_why_it_was_refused() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        if exchange.seen.target == "/public/broken" {
            exchange.write("no HTTP\r\n\r\n");
        } else {
            exchange.body();
        }
    });
    let limits = "[limits]\nbody_bytes_max = 3000\n";
    let gateway = Gateway::start(&(routes(&upstream) + limits));
    let chunk = format!("{:x}\r\n{}\r\n", 4000, "x".repeat(4000));
    let chunks = ("Transfer-Encoding: chunked", chunk.as_str());
    // So small a rest would be read before the next request, if there were one.
    let rest = "x".repeat(100);
    let small = ("Content-Length: 2000", rest.as_str());
    for (path, (framing, piece), status) in [
        ("/protected/x", chunks, "401"),
        ("/public/x", chunks, "413"),
        ("/public/broken", small, "502"),
    ] {
        let mut caller = TcpStream::connect(gateway.address).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{framing}\r\n\r\n",
            gateway.address
        );
        caller.write_all(head.as_bytes()).unwrap();
        for count in 0..20 {
            let written = caller.write_all(piece.as_bytes());
            assert!(written.is_ok(), "{path} {count}: {written:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        caller.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).unwrap();
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&wanted), "{answer}");
    }
}

#[test]
fn a_caller_who_leaves_affects_no_other() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        let _ = tell.lock().unwrap().send(());
        exchange.body();
        exchange.answer("hello");
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    caller.write(format!(
        "POST /public/x HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\nhalf",
        gateway.address
    ));
    told.recv_timeout(SOON).unwrap();
    drop(caller);
    wait_for("the upstream to see the end", || {
        (upstream.last().body.len() < 100).then_some(())
    });
    let mut caller = Connection::open(gateway.address);
    gateway.get("/public/x").send_on(&mut caller).expect(200);
}

#[test]
fn no_other_upgrade_reaches_an_upstream() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for protocol in [
        "h2c",
        "TLS/1.0",
        "HTTP/2.0, SHTTP/1.3",
        "websocket, h2c",
        "foo",
    ] {
        let answer = gateway
            .get("/public/x")
            .header("Connection", "Upgrade, HTTP2-Settings")
            .header("Upgrade", protocol)
            .header("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")
            .send();
        assert!(
            matches!(answer.status, 200 | 400),
            "{protocol}: {}",
            answer.status
        );
        let seen = upstream.seen().into_iter().last();
        let passed = seen.and_then(|seen| seen.header("upgrade").map(str::to_owned));
        assert_eq!(passed, None, "{protocol}");
    }
    // An upstream that switches protocols without a request for it is not followed.
    let upstream = Upstream::answering(SWITCH);
    let gateway = Gateway::start(&routes(&upstream));
    gateway
        .get("/public/x")
        .send()
        .refused(502, "upstream_error");
}

#[test]
fn interim_answers_pass_without_an_identity() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        exchange.write(
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Auth-Uid: fixed\r\nSet-Cookie: doorward_session=fixed\r\n\r\n",
        );
        exchange.answer("hello");
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    caller.write(format!(
        "GET /public/x HTTP/1.1\r\nHost: {}\r\n\r\n",
        gateway.address
    ));
    let hints = caller.head().unwrap();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</x>")));
    assert!(!format!("{hints:?}").contains("fixed"), "{hints:?}");
    assert_eq!(caller.answer().text(), "hello");
}

#[test]
fn a_caller_that_reads_nothing_of_its_answer_is_given_up() {
    let (gone, is_gone) = channel::<bool>();
    let gone = Mutex::new(gone);
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 1_000_000];
        let is_cut = (0..1000).any(|_| !exchange.try_write(&piece));
        let _ = gone.lock().unwrap().send(is_cut);
        exchange.close = true;
    });
    let gateway = Gateway::start(&routes(&upstream));
    let start = now();
    let mut caller = gateway.connect();
    caller.write("GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(is_gone.recv_timeout(SOON * 5).unwrap(), "all was written");
    let took = start.elapsed().as_secs();
    assert!((9..20).contains(&took), "{took}");
}

/// An upstream that answers before it has read the body, and reports when its connection ends.
fn answers_early() -> (Upstream, Receiver<()>) {
    let (end, ended) = channel::<()>();
    let end = Mutex::new(end);
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        exchange.answer("early");
        exchange.body();
        let _ = end.lock().unwrap().send(());
        exchange.close = true;
    });
    (upstream, ended)
}

#[test]
fn a_body_that_continues_after_its_answer_blocks_no_upstream() {
    let head = "POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let (upstream, ended) = answers_early();
    let gateway = Gateway::start(&routes(&upstream));
    let start = now();
    let mut caller = gateway.connect();
    caller.write(head);
    assert_eq!(caller.answer().expect(200).text(), "early");
    // At a rate that would suffice before the answer.
    while ended.try_recv().is_err() {
        assert!(start.elapsed() < SOON * 5, "it is still read");
        caller.write([b'x'; 2000]);
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_caller_that_waits_to_be_asked_for_its_body_is_not_late() {
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        // Longer than the gateway waits for a body.
        std::thread::sleep(Duration::from_secs(12));
        exchange.write("HTTP/1.1 100 Continue\r\n\r\n");
        let body = exchange.body();
        exchange.answer(std::str::from_utf8(&body).unwrap());
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    let fields = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 5";
    caller.write(format!("POST /public/x HTTP/1.1\r\n{fields}\r\n\r\n"));
    assert_eq!(caller.head().unwrap().status, 100);
    caller.write("hello");
    assert_eq!(caller.answer().expect(200).text(), "hello");
}
