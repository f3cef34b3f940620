//! Responses of a scripted service, and what an exchange makes of them.

use std::fmt::Write as _;

use http::Method;
use http::header::HOST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMITS: ExchangeLimits = ExchangeLimits {
    read: Duration::from_secs(5),
    write: Duration::from_secs(5),
};

fn head(method: &Method, fields: &[(&'static str, &'static str)]) -> RequestParts {
    let mut request = Request::builder().method(method).uri("/x?y=1");
    request = request.header(HOST, "a.b");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// An open connection and the service's end of it.
async fn connected() -> (UpstreamConnection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let opened = UpstreamConnection::open(address, LIMITS.read);
    let (opened, accepted) = tokio::join!(opened, listener.accept());
    (opened.unwrap(), accepted.unwrap().0)
}

async fn next(exchange: &mut UpstreamExchange) -> Result<UpstreamEvent, UpstreamFailure> {
    poll_fn(|cx| exchange.poll_event(cx)).await
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

/// What a response came to: its events as text, and whether its connection may be used again.
async fn received(method: Method, response: &str, closes: bool) -> (String, bool) {
    let (connection, mut socket) = connected().await;
    let response = response.to_owned();
    let service = tokio::spawn(async move {
        read_head(&mut socket).await;
        socket.write_all(response.as_bytes()).await.unwrap();
        (!closes).then_some(socket)
    });
    let mut exchange = UpstreamExchange::begin(connection, head(&method, &[]), false, LIMITS);
    let mut told = String::new();
    let is_whole = loop {
        match next(&mut exchange).await {
            Ok(UpstreamEvent::Interim(status, _)) => {
                let _ = write!(told, "({status}) ");
            }
            Ok(UpstreamEvent::Head(head)) => {
                let _ = write!(told, "{} ", head.status.as_u16());
            }
            Ok(UpstreamEvent::Body(piece)) => told += std::str::from_utf8(&piece).unwrap(),
            Ok(UpstreamEvent::End) => break true,
            Err(failure) => {
                told += failure.kind.as_str();
                break false;
            }
        }
    };
    let _socket = service.await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut connection = exchange.into_connection(Instant::now());
    let is_reused = is_whole
        && connection
            .as_mut()
            .is_some_and(UpstreamConnection::is_usable);
    (told, is_reused)
}

/// Responses; whether the service then closes; what is received; and whether the connection may be used again.
#[rustfmt::skip]
const RESPONSES: &[(&str, bool, &str, bool)] = &[
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "200 ok", true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false, "200 ok", false),
    ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "200 ok", false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", false, "200 ok", false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", true, "200 okConnectionClosed", false),
    ("HTTP/1.1 200 OK\r\n\r\nok", true, "200 ok", false),
    ("HTTP/1.1 204 No Content\r\n\r\n", false, "204 ", true),
    ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false, "200 ok", false),
    ("HTTP/1.1 204 No Content\r\n\r\nxx", false, "204 ", false),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, "304 ", true),
    ("HTTP/1.1 103 x\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, "(103 Early Hints) (102 Processing) 200 ", true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", false, "MalformedResponse", false),
    ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", false, "MalformedResponse", false),
    ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length : 2\r\n\r\nok", false, "200 ok", true),
    ("HTTP/1.1 200 OK\r\nX\0: a\r\n\r\n", false, "MalformedResponse", false),
    ("SSH-2.0-x\r\n\r\n", false, "MalformedResponse", false),
    ("", true, "ConnectionClosed", false),
    ("HTTP/1.1 20", true, "ConnectionClosed", false),
];

/// The same for the chunks of a response.
#[rustfmt::skip]
const CHUNKS: &[(&str, bool, &str, bool)] = &[
    ("2\r\nok\r\n0\r\n\r\n", false, "200 ok", true),
    ("1;a=b\r\no\r\n1\r\nk\r\n0\r\nx-end: 1\r\n\r\n", false, "200 ok", true),
    ("2\r\nok\r\n", true, "200 okConnectionClosed", false),
    ("2\r\nokk\r\n0\r\n\r\n", false, "200 okMalformedResponse", false),
    ("g\r\n", false, "200 MalformedResponse", false),
    ("ffffffffffffffffff\r\n", false, "200 MalformedResponse", false),
    ("2\r\nok\r\n0\r\n\r\nx", false, "200 ok", false),
];

#[tokio::test]
async fn a_response_ends_where_its_framing_says() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (response, closes, wanted, is_reused) in RESPONSES {
        let told = received(Method::GET, response, *closes).await;
        assert_eq!(told, ((*wanted).to_owned(), *is_reused), "{response:?}");
    }
    for (chunks, closes, wanted, is_reused) in CHUNKS {
        let told = received(Method::GET, &format!("{chunked}{chunks}"), *closes).await;
        assert_eq!(told, ((*wanted).to_owned(), *is_reused), "{chunks:?}");
    }
    for response in [chunked, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"] {
        let told = received(Method::HEAD, response, false).await;
        assert_eq!(told, ("200 ".to_owned(), true), "{response:?}");
    }
}

#[tokio::test]
async fn the_head_of_a_response_has_limits() {
    for (fields, bytes, wanted) in [
        (99, 10, "200 "),
        (100, 10, "MalformedResponse"),
        (1, 60 * 1024, "200 "),
        (1, 200 * 1024, "MalformedResponse"),
    ] {
        let field = format!("x: {}\r\n", "y".repeat(bytes));
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n",
            field.repeat(fields)
        );
        let (told, _) = received(Method::GET, &response, false).await;
        assert_eq!(told, wanted, "{fields} {bytes}");
    }
}

#[tokio::test]
async fn a_body_is_sent_in_its_framing_and_ends_once() {
    let sent: [(&[(&str, &str)], &str); 2] = [
        (&[("content-length", "4")], "abcd"),
        (
            &[("transfer-encoding", "chunked")],
            "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
        ),
    ];
    for (fields, wanted) in sent {
        let (connection, mut socket) = connected().await;
        let post = head(&Method::POST, fields);
        let mut exchange = UpstreamExchange::begin(connection, post, true, LIMITS);
        let read = tokio::select! {
            read = read_head(&mut socket) => read,
            event = next(&mut exchange) => panic!("{event:?}"),
        };
        assert!(
            read.starts_with("POST /x?y=1 HTTP/1.1\r\nhost: a.b\r\n"),
            "{read}"
        );
        for (piece, is_end) in [
            (Some("ab"), false),
            (Some(""), false),
            (Some("cd"), false),
            (None, true),
        ] {
            exchange.body_room().unwrap().emptied().await;
            exchange.send_body(piece.map(|it| Bytes::from_static(it.as_bytes())), is_end);
            let sending = next(&mut exchange);
            assert!(
                tokio::time::timeout(Duration::from_millis(20), sending)
                    .await
                    .is_err()
            );
        }
        let mut body = vec![0; wanted.len()];
        socket.read_exact(&mut body).await.unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), wanted);
        socket
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
        assert!(matches!(
            next(&mut exchange).await,
            Ok(UpstreamEvent::Head(_))
        ));
        assert!(matches!(next(&mut exchange).await, Ok(UpstreamEvent::End)));
        assert!(
            exchange
                .into_connection(Instant::now())
                .unwrap()
                .is_usable()
        );
        // Nothing follows the body.
        let more = tokio::time::timeout(Duration::from_millis(20), socket.read_u8()).await;
        assert!(!matches!(more, Ok(Ok(_))));
    }
}

#[tokio::test]
async fn a_response_that_came_before_the_upstream_closed_is_received_although_the_body_cannot_be_sent()
 {
    let (connection, mut socket) = connected().await;
    let post = head(&Method::POST, &[("content-length", "9000000")]);
    let mut exchange = UpstreamExchange::begin(connection, post, true, LIMITS);
    exchange.send_body(Some(Bytes::from(vec![b'x'; 70_000])), false);
    let service = async {
        read_head(&mut socket).await;
        let response = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
        socket.write_all(response).await.unwrap();
        // With unread bytes, this resets the connection.
        drop(socket);
    };
    let (event, ()) = tokio::join!(next(&mut exchange), service);
    let Ok(UpstreamEvent::Head(head)) = event else {
        panic!("{event:?}");
    };
    assert_eq!(head.status, 413);
    assert!(exchange.into_connection(Instant::now()).is_none());
}

#[tokio::test]
async fn what_was_neither_sent_nor_answered_is_known() {
    let (connection, socket) = connected().await;
    drop(socket);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut exchange = UpstreamExchange::begin(connection, head(&Method::GET, &[]), false, LIMITS);
    let failure = next(&mut exchange).await.unwrap_err();
    assert!(failure.is_unanswered, "{failure:?}");
    let (connection, mut socket) = connected().await;
    let service = tokio::spawn(async move {
        read_head(&mut socket).await;
        socket.write_all(b"HTTP").await.unwrap();
    });
    let mut exchange = UpstreamExchange::begin(connection, head(&Method::GET, &[]), false, LIMITS);
    let failure = next(&mut exchange).await.unwrap_err();
    service.await.unwrap();
    assert!(!failure.is_unsent && !failure.is_unanswered, "{failure:?}");
}

#[tokio::test]
async fn an_upstream_has_its_time_to_answer_and_to_accept() {
    let limits = ExchangeLimits {
        read: Duration::from_millis(200),
        write: Duration::from_millis(300),
    };
    let (connection, _socket) = connected().await;
    let started = Instant::now();
    let mut exchange = UpstreamExchange::begin(connection, head(&Method::GET, &[]), false, limits);
    let failure = next(&mut exchange).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ReadTimedout);
    assert!(limits.read <= started.elapsed());

    let (connection, _socket) = connected().await;
    let post = head(&Method::POST, &[("content-length", "90000000")]);
    let mut exchange = UpstreamExchange::begin(connection, post, true, limits);
    let piece = Bytes::from(vec![b'x'; 20_000_000]);
    exchange.send_body(Some(piece), false);
    let failure = next(&mut exchange).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::WriteTimedout);
}

#[tokio::test]
async fn interim_responses_are_bounded() {
    for (count, is_answered) in [(INTERIMS_MAX, true), (INTERIMS_MAX + 1, false)] {
        let interims = "HTTP/1.1 102 x\r\n\r\n".repeat(count);
        let response = format!("{interims}HTTP/1.1 204 No Content\r\n\r\n");
        let (told, _) = received(Method::GET, &response, false).await;
        assert_eq!(told.ends_with("204 "), is_answered, "{told}");
    }
}

#[tokio::test]
async fn a_response_that_comes_slowly_is_waited_for_as_long_as_bytes_come() {
    let limits = ExchangeLimits {
        read: Duration::from_millis(300),
        write: Duration::from_millis(300),
    };
    let (connection, mut socket) = connected().await;
    let service = tokio::spawn(async move {
        read_head(&mut socket).await;
        for piece in ["HTTP/1.1 ", "204 No ", "Content\r\n", "\r\n"] {
            tokio::time::sleep(Duration::from_millis(200)).await;
            socket.write_all(piece.as_bytes()).await.unwrap();
        }
        socket
    });
    let get = head(&Method::GET, &[]);
    let mut exchange = UpstreamExchange::begin(connection, get, false, limits);
    let event = next(&mut exchange).await;
    assert!(matches!(event, Ok(UpstreamEvent::Head(_))), "{event:?}");
    let _socket = service.await.unwrap();
}

#[tokio::test]
async fn all_of_a_body_is_sent_although_the_response_came_first() {
    let (connection, mut socket) = connected().await;
    let post = head(&Method::POST, &[("transfer-encoding", "chunked")]);
    let mut exchange = UpstreamExchange::begin(connection, post, true, LIMITS);
    let service = tokio::spawn(async move {
        read_head(&mut socket).await;
        let response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(response).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut body = Vec::new();
        socket.read_to_end(&mut body).await.unwrap();
        body
    });
    while !matches!(next(&mut exchange).await, Ok(UpstreamEvent::End)) {}
    // More than the buffers of both sockets hold.
    exchange.send_body(Some(Bytes::from(vec![b'x'; 16 << 20])), true);
    poll_fn(|cx| exchange.poll_rest(cx)).await;
    drop(exchange);
    let body = service.await.unwrap();
    assert!(body.ends_with(b"x\r\n0\r\n\r\n"), "{}", body.len());
}
