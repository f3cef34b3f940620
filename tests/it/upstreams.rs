//! Addresses that fail, and kept connections: what they cost a caller, and what is sent twice.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::gateway::Gateway;
use crate::harness::http::Connection;
use crate::harness::routes::route;
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{free_port, now, run, wait_for};

/// Routes to an upstream with these addresses.
fn pool(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let upstream = format!("[[upstream]]\nname = \"main\"\naddresses = {addresses:?}\n");
    upstream + &route("/public/**", "\"public\"")
}

/// An address that neither accepts nor refuses connections: its queue is full.
fn silent() -> (TcpListener, Vec<tokio::net::TcpStream>) {
    run(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap().into_std().unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        let patience = Duration::from_millis(200);
        while let Ok(stream) =
            tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await
        {
            queue.push(stream.unwrap());
        }
        (listener, queue)
    })
}

#[test]
fn an_address_that_does_not_answer_is_waited_for_once() {
    let (silent, _queue) = silent();
    let upstream = Upstream::start();
    let address = silent.local_addr().unwrap();
    let limits = "[limits]\nupstream_connect_timeout_ms = 700\n";
    let gateway = Gateway::start(&format!("{limits}{}", pool(&[address, upstream.address])));
    let start = now();
    for _ in 0..12 {
        gateway.get("/public/x").send().expect(200);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_millis(1400), "waited again: {took:?}");
    let metrics = gateway.admin_get("/metrics");
    let line =
        format!("doorward_upstream_address_ejected{{upstream=\"main\",address=\"{address}\"}} 1");
    assert!(metrics.text().contains(&line), "{}", metrics.text());
    let errors = gateway.stderr();
    let told = errors.matches("cannot connect to").count();
    assert_eq!(told, 1, "{errors}");
}

#[test]
fn the_last_address_that_is_left_is_tried_again_and_again() {
    let ports = [free_port(), free_port()];
    let addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    for addresses in [&addresses[..1], &addresses[..]] {
        let gateway = Gateway::start(&pool(addresses));
        for _ in 0..4 {
            gateway
                .get("/public/x")
                .send()
                .refused(502, "upstream_unreachable");
        }
        // The address is back: requests do not wait for a timeout.
        let listener = TcpListener::bind(addresses[0]).unwrap();
        let served = std::thread::spawn(move || {
            let mut peer = Connection::over(listener.accept().unwrap().0);
            crate::harness::http::read_head(&mut peer.stream).unwrap();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        });
        wait_for("an address that answers again", || {
            (gateway.get("/public/x").send().status == 200).then_some(())
        });
        served.join().unwrap();
    }
}

#[test]
fn an_idle_connection_is_closed_before_the_service_does() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::start(&pool(&[address]).replace(
        "name = \"main\"",
        "name = \"main\"\nkeepalive_timeout_ms = 300",
    ));
    let served = std::thread::spawn(move || {
        let mut peer = Connection::over(listener.accept().unwrap().0);
        crate::harness::http::read_head(&mut peer.stream).unwrap();
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        peer.closes_within(Duration::from_secs(5))
    });
    gateway.get("/public/x").send().expect(200);
    assert!(served.join().unwrap(), "the connection was kept");
}

#[test]
fn a_post_does_not_meet_a_connection_that_was_closed() {
    // Closes after each answer without announcing it.
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::start(&pool(&[upstream.address]));
    for index in 0..20 {
        let answer = gateway.post("/public/x").body("hello").send();
        assert_eq!(answer.status, 200, "{index}");
        // A request written before the close arrives may have been processed, and is therefore not sent again.
        wait_for("a closed connection", || {
            (upstream.closed() == index + 1).then_some(())
        });
    }
    assert_eq!(upstream.count(), 20);
    assert!(upstream.seen().iter().all(|seen| seen.body == b"hello"));
}

#[test]
fn what_was_sent_goes_again_only_where_it_does_no_harm() {
    static CUT_OFF: AtomicUsize = AtomicUsize::new(0);
    // Reads the first request of each method completely, and closes without an answer.
    let upstream = Upstream::serving(|exchange: &mut Exchange| {
        let body = exchange.body();
        let bit = match exchange.seen.method.as_str() {
            "POST" => 1,
            "PUT" => 2,
            _ => 0,
        };
        if bit != 0 && CUT_OFF.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            exchange.close = true;
            return;
        }
        exchange.answer(std::str::from_utf8(&body).unwrap());
    });
    let gateway = Gateway::start(&pool(&[upstream.address]));
    let methods = |wanted: &str| {
        let seen = upstream.seen();
        seen.iter().filter(|seen| seen.method == wanted).count()
    };
    gateway.get("/public/x").send().expect(200);
    let answer = gateway.post("/public/x").body("once").send();
    answer.refused(502, "upstream_error");
    assert_eq!(methods("POST"), 1, "a POST was sent twice");
    gateway.get("/public/x").send().expect(200);
    // A connection is free a moment after its answer is read.
    std::thread::sleep(Duration::from_millis(50));
    let answer = gateway.put("/public/x").body("twice").send().expect(200);
    assert_eq!((answer.text(), methods("PUT")), ("twice", 2));
}
