//! HTTP/2 without TLS on the same listener: the same decisions, the same rules for heads.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, StatusCode, Version};

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;
use crate::harness::{now, run};

/// Names and values of header fields.
type Fields<'f> = &'f [(&'f str, &'f str)];

/// An answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

pub(crate) async fn connect(gateway: &Gateway) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

/// Sends a request; `None`: the gateway reset the stream.
async fn send(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
    body: &'static str,
) -> Option<Answer> {
    let mut sender = sender.clone().ready().await.ok()?;
    let (answer, mut stream) = sender.send_request(request, body.is_empty()).ok()?;
    if !body.is_empty() {
        stream
            .send_data(Bytes::from_static(body.as_bytes()), true)
            .ok()?;
    }
    let (head, mut stream) = answer.await.ok()?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.ok()?;
        let _ = stream.flow_control().release_capacity(piece.len());
        body.extend_from_slice(&piece);
    }
    Some(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

fn request(gateway: &Gateway, method: Method, path: &str, fields: Fields<'_>) -> Request<()> {
    let mut request = Request::builder()
        .version(Version::HTTP_2)
        .method(method)
        .uri(format!("http://{}{path}", gateway.address));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

#[test]
fn the_same_decisions_are_made_on_http_2() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let bearer = format!("Bearer {}", anna.jwt);
    let authorized = [("authorization", bearer.as_str())];
    let cases: [(&str, Fields<'_>, u16); 9] = [
        ("/public/x", &[], 200),
        ("/protected/x", &[], 401),
        ("/protected/x", &authorized, 200),
        ("/nowhere", &authorized, 404),
        ("/admin/x", &authorized, 403),
        ("/public/../protected/x", &[], 400),
        ("/public/%2e%2e/x", &[], 400),
        ("/auth/me", &[], 401),
        ("/auth/me", &authorized, 200),
    ];
    run(async {
        let sender = connect(&gateway).await;
        for (path, fields, status) in cases {
            let answer = send(&sender, request(&gateway, Method::GET, path, fields), "")
                .await
                .expect(path);
            assert_eq!(answer.status, status, "{path}");
            assert!(answer.headers.contains_key("x-request-id"), "{path}");
            if status == 401 {
                assert!(
                    answer.headers["www-authenticate"]
                        .to_str()
                        .unwrap()
                        .starts_with("Bearer")
                );
            }
        }
    });
    assert_eq!(upstream.count(), 2);
    assert_eq!(
        upstream.last().header("x-auth-uid"),
        Some(anna.uid.as_str())
    );
    assert_eq!(
        upstream.last().header("host"),
        Some(gateway.address.to_string().as_str())
    );
}

#[test]
fn a_tunnel_is_refused_like_on_http_1() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    run(async {
        let sender = connect(&gateway).await;
        let connect = Request::builder()
            .version(Version::HTTP_2)
            .method(Method::CONNECT)
            .uri("internal.test:443");
        let answer = send(&sender, connect.body(()).unwrap(), "").await.unwrap();
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(answer.headers.contains_key("allow"));
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["code"], "method_refused");
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let record = gateway.record(&id);
        assert_eq!(record["method"], "CONNECT");
    });
}

#[test]
fn forged_identities_are_removed_on_http_2_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    run(async {
        let sender = connect(&gateway).await;
        for name in [
            "x-auth-uid",
            "x_auth_uid",
            "x-auth_roles",
            "x.auth.uid",
            "remote-user",
            "x__auth__uid",
            "x-auth-anything",
            "client-cert",
            "forwarded",
            "x-forwarded-for",
        ] {
            let request = request(
                &gateway,
                Method::GET,
                "/public/x",
                &[(name, "forged"), (name, "forged2")],
            );
            assert_eq!(send(&sender, request, "").await.expect(name).status, 200);
            assert!(
                !upstream.last().text().contains("forged"),
                "{name}: {}",
                upstream.last().text()
            );
        }
    });
}

#[test]
fn names_that_mean_another_or_another_method_are_refused_on_http_2_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    run(async {
        let sender = connect(&gateway).await;
        for (name, code) in [
            ("x~auth~uid", "header_name_refused"),
            ("x+auth+roles", "header_name_refused"),
            ("x!harmless", "header_name_refused"),
            ("x-http-method-override", "method_override_refused"),
            ("x_http_method", "method_override_refused"),
        ] {
            let fields = [(name, "DELETE")];
            let request = request(&gateway, Method::POST, "/public/x", &fields);
            let answer = send(&sender, request, "").await.expect(name);
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(
                (answer.status.as_u16(), body["code"].as_str()),
                (400, Some(code))
            );
        }
    });
    assert_eq!(upstream.count(), 0);
}

#[test]
fn bodies_and_many_requests_at_once_pass_on_one_connection() {
    let upstream = Upstream::serving(|exchange| {
        let body = exchange.body();
        exchange.answer(std::str::from_utf8(&body).unwrap());
    });
    let gateway = Gateway::start(&routes(&upstream));
    run(async {
        let sender = connect(&gateway).await;
        let all = (0..20).map(|_| {
            send(
                &sender,
                request(&gateway, Method::POST, "/public/x", &[]),
                "a body",
            )
        });
        for answer in futures(all).await {
            let answer = answer.expect("an answer");
            assert_eq!(
                (answer.status.as_u16(), answer.body.as_slice()),
                (200, b"a body".as_slice())
            );
        }
        let login = r#"{"username": "nobody", "password": "nothing-at-all"}"#;
        let fields = [("content-type", "application/json")];
        let answer = send(
            &sender,
            request(&gateway, Method::POST, "/auth/login", &fields),
            login,
        )
        .await
        .expect("an answer");
        assert_eq!(answer.status, 401);
    });
    assert_eq!(upstream.count(), 20);
}

/// Runs all of them concurrently, and returns their results in the order of completion.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(move |cx| {
        all.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() {
            std::task::Poll::Ready(std::mem::take(&mut done))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

#[test]
fn an_authority_and_a_host_that_differ_are_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    run(async {
        let sender = connect(&gateway).await;
        for (name, value) in [("host", "evil.test"), ("host", "")] {
            let answer = send(
                &sender,
                request(&gateway, Method::GET, "/public/x", &[(name, value)]),
                "",
            )
            .await;
            assert!(
                answer.is_none_or(|answer| answer.status == 400),
                "{name}: {value}"
            );
        }
        for (name, value) in [("content-length", "7"), ("content-length", "1, 1")] {
            let answer = send(
                &sender,
                request(&gateway, Method::POST, "/public/x", &[(name, value)]),
                "a",
            )
            .await;
            assert!(
                answer.is_none_or(|answer| 400 <= answer.status.as_u16()),
                "{name}: {value}"
            );
        }
    });
    assert!(
        upstream.seen().iter().all(|seen| seen.body.is_empty()),
        "a body of another length came through"
    );
}

#[test]
fn a_connection_goes_on_after_refusals_and_heads_have_limits() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let long = "a".repeat(9000);
    run(async {
        let sender = connect(&gateway).await;
        let path = format!("/public/{long}");
        let answer = send(&sender, request(&gateway, Method::GET, &path, &[]), "").await;
        assert!(answer.is_none_or(|answer| matches!(answer.status.as_u16(), 414 | 431)));
        let many: Vec<_> = (0..150).map(|_| ("x-many", "b")).collect();
        let answer = send(
            &sender,
            request(&gateway, Method::GET, "/public/x", &many),
            "",
        )
        .await;
        assert!(answer.is_none_or(|answer| answer.status == 431));
        let answer = send(
            &sender,
            request(&gateway, Method::POST, "/protected/x", &[]),
            "unread",
        )
        .await
        .expect("an answer");
        assert_eq!(answer.status, 401);
        let answer = send(
            &sender,
            request(&gateway, Method::GET, "/public/x", &[]),
            "",
        )
        .await
        .expect("an answer");
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_slice()),
            (200, b"hello".as_slice())
        );
    });
    assert_eq!(upstream.count(), 1);
}

#[test]
fn crumbs_of_a_cookie_are_one_field() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let crumbs: Vec<_> = (0..110)
        .map(|index| format!("name{index}=value{index}"))
        .collect();
    let fields: Vec<_> = crumbs
        .iter()
        .map(|crumb| ("cookie", crumb.as_str()))
        .collect();
    run(async {
        let sender = connect(&gateway).await;
        let request = request(&gateway, Method::GET, "/public/x", &fields);
        assert_eq!(send(&sender, request, "").await.unwrap().status, 200);
    });
    // RFC 9113 section 8.2.3: one field for recipients that do not speak HTTP/2.
    assert_eq!(
        upstream.last().header("cookie"),
        Some(crumbs.join("; ").as_str())
    );
}

#[test]
fn a_stream_with_a_dripping_body_is_reset_and_the_others_continue() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let sender = connect(&gateway).await;
        let mut ready = sender.clone().ready().await.unwrap();
        let request = request(&gateway, Method::POST, "/public/x", &[]);
        let (answer, mut stream) = ready.send_request(request, false).unwrap();
        let drip = async {
            loop {
                let _ = stream.send_data(Bytes::from_static(b"x"), false);
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        };
        let start = now();
        let ended = tokio::select! {
            ended = answer => ended,
            () = drip => unreachable!("it drips for ever"),
        };
        let took = start.elapsed().as_secs();
        assert!(
            ended.is_err_and(|error| error.is_reset()),
            "it was answered"
        );
        assert!((9..16).contains(&took), "{took}");
        let another = self::request(&gateway, Method::GET, "/public/x", &[]);
        assert_eq!(send(&sender, another, "").await.unwrap().status, 200);
    });
}

/// Opens a connection by hand and sends the preface, an empty SETTINGS frame and the frames from `frame`; returns how
/// many were accepted.
fn flood(gateway: &Gateway, frame: impl Fn(usize) -> Vec<u8>, count: usize) -> usize {
    let mut caller = gateway.connect();
    caller.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    caller.write([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let stream = caller.stream.get_mut();
    // Answers are read too; otherwise both sides would wait for each other.
    let mut answers = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(1..) = std::io::Read::read(&mut answers, &mut bytes) {}
    });
    (0..count)
        .take_while(|number| std::io::Write::write_all(stream, &frame(*number)).is_ok())
        .count()
}

#[test]
fn frames_that_ask_for_nothing_have_a_budget() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let frames: [(&str, &[u8]); 5] = [
        ("PING", &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("SETTINGS", &[0, 0, 0, 4, 0, 0, 0, 0, 0]),
        ("PRIORITY", &[0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 16]),
        ("WINDOW_UPDATE", &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ("unknown", &[0, 0, 1, 99, 0, 0, 0, 0, 0, 1]),
    ];
    for (about, frame) in frames {
        let taken = flood(&gateway, |_| frame.to_vec(), 1_000_000);
        assert!(taken < 1_000_000, "{about}");
    }
    let metrics = gateway.admin_get("/metrics").text().to_owned();
    assert!(
        metrics.contains("doorward_connections_flooding_total 5"),
        "{metrics}"
    );
    gateway.get("/public/x").send().expect(200);
}

/// Builds a frame of one stream from its kind, its flags and its payload.
fn frame_of(stream: usize, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = u32::try_from(stream).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

#[test]
fn resets_and_continuations_without_end_end_the_connection() {
    const END_STREAM_AND_HEADERS: u8 = 5;
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    // RFC 7541: GET, http, /public/x, and the authority `a`.
    let head = [b"\x82\x86\x04\x09/public/x".as_slice(), b"\x41\x01a"].concat();
    let reset = |number: usize| {
        let stream = 2 * number + 1;
        let request = frame_of(stream, 1, END_STREAM_AND_HEADERS, &head);
        [request, frame_of(stream, 3, 0, &[0, 0, 0, 8])].concat()
    };
    assert!(flood(&gateway, reset, 200_000) < 200_000, "resets");
    // A field that stays the same, in a head that does not end.
    let piece = [b"\x00\x03x-a\x7f\x01".as_slice(), &[b'b'; 128]].concat();
    let continuation = |number: usize| match number {
        0 => frame_of(1, 1, 0, &head),
        _ => frame_of(1, 9, 0, &piece),
    };
    let taken = flood(&gateway, continuation, 200_000);
    assert!(taken < 200_000, "continuations");
    gateway.get("/public/x").send().expect(200);
}

#[test]
fn an_unfinished_request_stream_is_reset_after_its_answer() {
    let upstream = Upstream::serving(|exchange| {
        exchange.answer("early");
        exchange.body();
        exchange.close = true;
    });
    let gateway = Gateway::start(&routes(&upstream));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let sender = connect(&gateway).await;
        let mut ready = sender.clone().ready().await.unwrap();
        let request = request(&gateway, Method::POST, "/public/x", &[]);
        let (answer, mut stream) = ready.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"x"), false).unwrap();
        let mut answer = answer.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap(), "early");
        assert!(answer.data().await.is_none(), "the answer has an end");
        let reset = std::future::poll_fn(|cx| stream.poll_reset(cx));
        let patience = std::time::Duration::from_secs(20);
        let reset = tokio::time::timeout(patience, reset).await;
        assert_eq!(reset.unwrap().unwrap(), h2::Reason::NO_ERROR);
    });
}
