//! The framing of a body at the upstream for every version and framing of the request, and the reuse of its connection.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};

use crate::harness::gateway::Gateway;
use crate::harness::http::{Connection, parse_head, read_head};
use crate::harness::routes::routes;
use crate::harness::run;
use crate::harness::upstream::Upstream;
use crate::http2::connect;

/// Frames of a body over HTTP/2 as they are sent; the last frame ends the stream, unless trailers follow.
struct H2Body {
    about: &'static str,
    length: Option<&'static str>,
    pieces: &'static [&'static str],
    /// How the stream ends: with the head, the last piece, or trailers.
    has_trailers: bool,
}

const H2_BODIES: [H2Body; 10] = [
    h2_body("nothing", None, &[], false),
    h2_body("a length of zero", Some("0"), &[], false),
    h2_body("an empty frame alone", None, &[""], false),
    h2_body(
        "a length of zero and an empty frame",
        Some("0"),
        &[""],
        false,
    ),
    h2_body("one frame", None, &["body"], false),
    h2_body("one frame with a length", Some("4"), &["body"], false),
    h2_body("an empty last frame", None, &["bo", "dy", ""], false),
    h2_body(
        "a length and an empty last frame",
        Some("4"),
        &["body", ""],
        false,
    ),
    h2_body(
        "empty frames within",
        None,
        &["", "bo", "", "", "dy", ""],
        false,
    ),
    h2_body("trailers", None, &["", "body"], true),
];

const fn h2_body(
    about: &'static str,
    length: Option<&'static str>,
    pieces: &'static [&'static str],
    has_trailers: bool,
) -> H2Body {
    H2Body {
        about,
        length,
        pieces,
        has_trailers,
    }
}

/// Heads and bodies over HTTP/1.1.
const H1_BODIES: [(&str, &str); 6] = [
    ("nothing", "\r\n"),
    ("a length", "Content-Length: 4\r\n\r\nbody"),
    ("a length of zero", "Content-Length: 0\r\n\r\n"),
    (
        "chunks",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    ),
    (
        "the last chunk alone",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "trailers",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
    ),
];

async fn post(sender: &SendRequest<Bytes>, gateway: &Gateway, body: &H2Body) -> u16 {
    let mut sender = sender.clone().ready().await.unwrap();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/public/x", gateway.address));
    if let Some(length) = body.length {
        request = request.header("content-length", length);
    }
    let ends_at_once = body.pieces.is_empty() && !body.has_trailers;
    let (answer, mut stream) = sender
        .send_request(request.body(()).unwrap(), ends_at_once)
        .unwrap();
    for (index, piece) in body.pieces.iter().enumerate() {
        let is_last = index + 1 == body.pieces.len() && !body.has_trailers;
        // Each frame alone: two that arrive in one read could not be distinguished.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        // If the length is zero, the answer may arrive before the frame that ends the stream.
        let sent = stream.send_data(Bytes::from_static(piece.as_bytes()), is_last);
        assert!(sent.is_ok() || piece.is_empty(), "{}: {sent:?}", body.about);
    }
    if body.has_trailers {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }
    answer.await.expect(body.about).status().as_u16()
}

// The upstream parses strictly and fails the test for anything between two requests.
#[test]
fn a_body_ends_once_at_the_upstream_whatever_it_came_in() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    run(async {
        let sender = connect(&gateway).await;
        for body in &H2_BODIES {
            assert_eq!(post(&sender, &gateway, body).await, 200, "{}", body.about);
            let whole = body.pieces.concat();
            assert_eq!(upstream.last().body, whole.as_bytes(), "{}", body.about);
            // The next caller gets the connection that the body used.
            gateway.get("/public/next").send().expect(200);
        }
    });
    for (about, rest) in H1_BODIES {
        let mut caller = gateway.connect();
        caller.write(format!("POST /public/x HTTP/1.1\r\nHost: a\r\n{rest}"));
        assert_eq!(caller.answer().status, 200, "{about}");
        let is_empty = !rest.contains("dy");
        let wanted: &[u8] = if is_empty { b"" } else { b"body" };
        assert_eq!(upstream.last().body, wanted, "{about}");
        gateway.get("/public/next").send().expect(200);
    }
    assert_eq!(upstream.count(), 2 * (H2_BODIES.len() + H1_BODIES.len()));
    // Not always immediately: a connection becomes free a moment after its answer is read.
    assert!(
        upstream.connections() * 2 < upstream.count(),
        "connections were not used again"
    );
}

// Over a kept connection on which the service spoke HTTP/1.0, hyper would send HTTP/1.0 too, which has no chunks.
#[test]
fn a_body_in_chunks_reaches_a_service_that_speaks_http_1_0() {
    let upstream = Upstream::answering(
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok".to_owned(),
    );
    let gateway = Gateway::start(&routes(&upstream));
    gateway.get("/public/a").send().expect(200);
    let mut caller = gateway.connect();
    caller.write(
        "POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert_eq!(caller.answer().status, 200);
    assert_eq!(upstream.last().body, b"hello");
}

/// Returns an answer as bytes, up to the end of the connection.
fn exchange(gateway: &Gateway, head: &str) -> (String, Vec<(String, String)>, Vec<u8>) {
    let mut caller: Connection = gateway.connect();
    caller.write(format!("GET /public/x {head}\r\nHost: a\r\n\r\n"));
    let head = read_head(&mut caller.stream).expect("a head");
    let (line, fields) = parse_head(&head);
    let names = |name: &str| {
        fields
            .iter()
            .any(|(have, _)| have.eq_ignore_ascii_case(name))
    };
    let body = if names("content-length") || names("transfer-encoding") {
        Vec::new()
    } else {
        caller.rest()
    };
    (line, fields, body)
}

#[test]
fn a_caller_gets_the_form_of_its_own_version() {
    const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    const CHUNKS: &str = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let answers = [
        ("chunks", format!("HTTP/1.1 200 OK\r\n{CHUNKS}")),
        ("until the end", "HTTP/1.1 200 OK\r\n\r\nhello".to_owned()),
        (
            "old, until the end",
            "HTTP/1.0 200 OK\r\n\r\nhello".to_owned(),
        ),
        ("early hints", format!("{EARLY}HTTP/1.1 200 OK\r\n{CHUNKS}")),
    ];
    for (about, raw) in answers {
        let upstream = Upstream::answering(raw);
        let gateway = Gateway::start(&routes(&upstream));
        let (line, fields, body) = exchange(&gateway, "HTTP/1.0\r\nConnection: keep-alive");
        assert_eq!(line, "HTTP/1.1 200 OK", "{about}");
        let field = |wanted: &str| {
            let mut found = fields
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.next().map(|(_, value)| value.as_str())
        };
        assert_eq!(field("transfer-encoding"), None, "{about}");
        assert_eq!(field("connection"), Some("close"), "{about}");
        assert_eq!(body, b"hello", "{about}");

        let mut caller = gateway.connect();
        caller.write("GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n");
        if about == "early hints" {
            assert_eq!(caller.head().unwrap().status, 103);
        }
        assert_eq!(caller.answer().expect(200).text(), "hello", "{about}");
    }
    // With a length the connection stays open, also for an HTTP/1.0 caller that asks for it.
    let old = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let upstream = Upstream::answering(old);
    let gateway = Gateway::start(&routes(&upstream));
    for version in [
        "HTTP/1.1\r\nHost: a",
        "HTTP/1.0\r\nHost: a\r\nConnection: keep-alive",
    ] {
        let mut caller = gateway.connect();
        for _ in 0..2 {
            caller.write(format!("GET /public/x {version}\r\n\r\n"));
            assert_eq!(caller.answer().expect(200).text(), "hello", "{version}");
        }
    }
}
