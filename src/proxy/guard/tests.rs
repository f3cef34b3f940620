//! Tests of heads, byte for byte.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes_max: 1024,
    fields_max: 10,
    target_bytes_max: 100,
};

fn judge(head: &[u8]) -> Result<HeadProgress, DenyReason> {
    HeadCheck::new(LIMITS).feed(head)
}

fn malformed(head: &[u8]) {
    let text = String::from_utf8_lossy(head).into_owned();
    assert_eq!(judge(head), Err(DenyReason::RequestMalformed), "{text:?}");
}

#[test]
fn sound_heads_pass_whole() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x?y=`1` HTTP/1.0\r\nhost:a.b:80\r\nX-Y:\t\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: [::1]:8080\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "GET http://a.b/x HTTP/1.1\r\nHost: A.b\r\n\r\n",
        "GET HTTPS://a.b?x HTTP/1.1\r\nHost: a.b\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "FOOBAR / HTTP/1.1\r\nHost: a\r\nX-Y: caf\u{e9}\r\n\r\n",
    ] {
        let len = head.len();
        assert_eq!(
            judge(head.as_bytes()),
            Ok(HeadProgress::Whole(len)),
            "{head:?}"
        );
        let more = format!("{head}GET \u{1} body\n\n");
        assert_eq!(
            judge(more.as_bytes()),
            Ok(HeadProgress::Whole(len)),
            "{head:?}"
        );
    }
}

#[test]
fn doubtful_request_lines_are_refused() {
    for line in [
        "GET /x y HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET x HTTP/1.1",
        "GET a:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http:/a/ HTTP/1.1",
        "GET http:a HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
        "GET http://b/ HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET /",
        "GET",
        " GET / HTTP/1.1",
        "G\u{1}T / HTTP/1.1",
        "G(T / HTTP/1.1",
        "SSH-2.0-x",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2",
    ] {
        malformed(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
    }
    malformed(b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn doubtful_fields_are_refused() {
    for fields in [
        "X-Y : 1\r\n",
        "X-Y\t: 1\r\n",
        ": 1\r\n",
        "X-Y\r\n",
        " X-Y: 1\r\n",
        "X-Y: 1\r\n folded\r\n",
        "X-Y: 1\r\n\tfolded\r\n",
        "X/Y: 1\r\n",
        "\"X\": 1\r\n",
        "X Y: 1\r\n",
        "X\u{a0}: 1\r\n",
        "\0X: 1\r\n",
        "X-Y: a\0b\r\n",
        "X-Y: a\u{1}\r\n",
        "X-Y: a\u{7f}\r\n",
        "X-Y: a\rb\r\n",
        "X-Y: a\nZ: 1\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 9999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Host: a\r\n",
        "Host: b\r\n",
        "Expect: 200-ok\r\n",
        "Expect: 100-continue, x\r\n",
        "Expect:\r\n",
        "Connection: Host\r\n",
        "Connection: close, content-length\r\n",
        "Connection: transfer-encoding ,x\r\n",
    ] {
        malformed(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    }
    malformed(b"POST / HTTP/1.1\r\n\r\n");
    malformed(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn methods_that_never_pass_are_named() {
    for method in [
        "CONNECT",
        "TRACE",
        "TRACK",
        "get",
        "Get",
        "M!",
        &"M".repeat(33),
    ] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            judge(head.as_bytes()),
            Err(DenyReason::MethodRefused),
            "{method}"
        );
    }
}

#[test]
fn sizes_have_limits() {
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len));
    assert!(judge(target(99).as_bytes()).is_ok());
    assert_eq!(
        judge(target(100).as_bytes()),
        Err(DenyReason::TargetTooLong)
    );
    let endless = "x".repeat(500);
    let endless = format!("GET /{endless}");
    assert_eq!(judge(endless.as_bytes()), Err(DenyReason::TargetTooLong));

    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count)
        )
    };
    assert!(judge(fields(9).as_bytes()).is_ok());
    assert_eq!(judge(fields(10).as_bytes()), Err(DenyReason::HeadTooLarge));

    let value = |len: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(len));
    assert_eq!(judge(value(900).as_bytes()), Ok(HeadProgress::Partial));
    assert_eq!(judge(value(1100).as_bytes()), Err(DenyReason::HeadTooLarge));
    let ended = format!("{}\r\n\r\n", value(1100));
    assert_eq!(judge(ended.as_bytes()), Err(DenyReason::HeadTooLarge));
    // The empty line counts, whether the head arrives at once or byte by byte.
    for (len, wanted) in [
        (1024, Ok(HeadProgress::Whole(1024))),
        (1025, Err(DenyReason::HeadTooLarge)),
        (1026, Err(DenyReason::HeadTooLarge)),
    ] {
        let head = format!("{}\r\n\r\n", value(len - value(0).len() - 4));
        let head = head.as_bytes();
        assert_eq!(judge(head), wanted, "{len}");
        assert_eq!(judge_in_pieces(head, 1..head.len()), wanted, "{len}");
    }
}

#[test]
fn h2_heads_are_judged_alike() {
    let head = |uri: &str, fields: &[(&str, &str)]| {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check_h2(&parts, &LIMITS)
    };
    assert_eq!(head("http://a/x", &[("te", "trailers")]), Ok(()));
    assert_eq!(head("/x", &[("host", "a")]), Ok(()));
    let refused: [(&str, &[(&str, &str)]); 8] = [
        ("/x", &[]),
        ("http://a/x", &[("host", "b")]),
        ("/x", &[("host", "a"), ("host", "a")]),
        ("http://a/x", &[("connection", "close")]),
        ("http://a/x", &[("transfer-encoding", "chunked")]),
        ("http://a/x", &[("te", "gzip")]),
        ("http://a/x", &[("content-length", "5, 5")]),
        (
            "http://a/x",
            &[("content-length", "5"), ("content-length", "5")],
        ),
    ];
    for (uri, fields) in refused {
        assert_eq!(
            head(uri, fields),
            Err(DenyReason::RequestMalformed),
            "{uri} {fields:?}"
        );
    }
    let long = format!("http://a/{}", "x".repeat(200));
    assert_eq!(head(&long, &[]), Err(DenyReason::TargetTooLong));
    let many: Vec<_> = (0..11).map(|_| ("x", "y")).collect();
    assert_eq!(head("http://a/x", &many), Err(DenyReason::HeadTooLarge));
}

proptest! {
    /// The result is the same whether a head arrives at once or in pieces.
    #[test]
    fn pieces_do_not_matter(
        head in proptest::collection::vec(
            prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "Host: a\r\n", "X: y\r\n", "\r\n", "\n", "\r", " ", "x", ":",
                "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n", "\0",
            ]),
            0..8,
        ),
        cut in 0..40_usize,
    ) {
        let head = head.concat().into_bytes();
        let mut check = HeadCheck::new(LIMITS);
        let first = check.feed(head.get(..cut.min(head.len())).unwrap());
        let pieced = match first {
            Ok(HeadProgress::Partial) => check.feed(&head),
            other => other,
        };
        let whole = judge(&head);
        prop_assert_eq!(pieced, whole);
    }

    /// A strict server cannot read an accepted head as another request.
    #[test]
    fn what_passes_is_strict(head in "(GET|POST) /[ -~]{0,20} HTTP/1\\.[01]\r\n(([ -~]{0,12}|Host: [ -~]{1,8}|Content-Length: [0-9+, ]{1,4}|Transfer-Encoding: [a-z, ]{0,9})\r\n){0,4}\r\n") {
        if let Ok(HeadProgress::Whole(len)) = judge(head.as_bytes()) {
            let text = head.get(..len).unwrap();
            let mut lines = text.split("\r\n");
            prop_assert_eq!(lines.next().unwrap().split(' ').count(), 3);
            let count = |name: &str| text.split("\r\n").skip(1).filter(|line| line.to_ascii_lowercase().starts_with(name)).count();
            prop_assert_eq!(count("host:"), 1);
            prop_assert!(count("content-length:") + count("transfer-encoding:") <= 1);
        }
    }
}

#[test]
fn what_callers_send_raw_is_escaped() {
    let rest = " HTTP/1.1\r\nHost: a\r\nX: <\u{e9}\r\n\r\n";
    let cases: [(&[u8], Option<&str>); 9] = [
        (b"GET /a?b=%22 /c^{}|\\~", None),
        (b"GET /a?b=^{}|`\\%zz", None),
        (b"GET /<a>\"`", Some("GET /%3Ca%3E%22%60")),
        (b"GET /a?<b>=\"`", Some("GET /a?%3Cb%3E=%22`")),
        (
            "GET /\u{e9}?\u{20ac}".as_bytes(),
            Some("GET /%C3%A9?%E2%82%AC"),
        ),
        (b"GET /\xe9", Some("GET /%E9")),
        (b"GET /%c3\xa9", Some("GET /%c3%A9")),
        (b"\r\nGET /\x80", Some("\r\nGET /%80")),
        (b"GET http://a/\xff", Some("GET http://a/%FF")),
    ];
    for (line, wanted) in cases {
        let sent = [line, rest.as_bytes(), b"body"].concat();
        let about = String::from_utf8_lossy(line);
        let mut check = HeadCheck::new(LIMITS);
        let Ok(HeadProgress::Whole(count)) = check.feed(&sent) else {
            assert!(about.contains(' ') && wanted.is_none(), "{about}");
            continue;
        };
        assert_eq!(count, sent.len() - 4, "{about}");
        let rewritten = check.rewritten(&sent);
        let wanted = wanted.map(|wanted| [wanted, rest].concat().into_bytes());
        assert_eq!(rewritten, wanted, "{about}");
    }
    // The length is that of the escaped target.
    let target = |count| {
        [
            "GET /",
            &"\u{e9}".repeat(count),
            " HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
        .concat()
    };
    let most = (LIMITS.target_bytes_max - 1) / 6;
    assert!(judge(target(most).as_bytes()).is_ok());
    let refused = judge(target(most + 1).as_bytes());
    assert_eq!(refused, Err(DenyReason::TargetTooLong));
}

/// Checks a head in pieces that end at these positions, and then whole.
fn judge_in_pieces(
    bytes: &[u8],
    ends: impl Iterator<Item = usize>,
) -> Result<HeadProgress, DenyReason> {
    let mut check = HeadCheck::new(LIMITS);
    for end in ends.chain([bytes.len()]) {
        let so_far = check.feed(bytes.get(..end).unwrap_or(bytes))?;
        if so_far != HeadProgress::Partial {
            return Ok(so_far);
        }
    }
    Ok(HeadProgress::Partial)
}

/// Asserts that two ways to check a head have the same result. If the head is too large, the reason may depend on the
/// pieces.
fn assert_alike(pieced: Result<HeadProgress, DenyReason>, whole: Result<HeadProgress, DenyReason>) {
    let is_size = |reason| matches!(reason, DenyReason::HeadTooLarge | DenyReason::TargetTooLong);
    match (pieced, whole) {
        (Err(one), Err(other)) if is_size(one) || is_size(other) => {}
        (pieced, whole) => assert_eq!(pieced, whole),
    }
}

/// The result for a head does not depend on its pieces, and an accepted head is one request for Pingora's parser, and
/// so is its body.
#[test]
fn fuzz_head() {
    doorward_fuzz::check("head", |bytes| {
        let mut check = HeadCheck::new(LIMITS);
        let whole = check.feed(bytes);
        assert_alike(judge_in_pieces(bytes, 1..bytes.len()), whole);
        for byte in b"\r\n: " {
            let places = bytes.iter().enumerate().filter(|(_, it)| *it == byte);
            for (place, _) in places.take(8) {
                assert_alike(judge_in_pieces(bytes, [place].into_iter()), whole);
            }
        }
        let Ok(HeadProgress::Whole(length)) = whole else {
            return;
        };
        let rewritten = check.rewritten(bytes);
        let head = rewritten.as_deref().unwrap_or(&bytes[..length]);
        let mut again = HeadCheck::new(HeadLimits {
            bytes_max: 4096,
            ..LIMITS
        });
        assert_eq!(again.feed(head), Ok(HeadProgress::Whole(head.len())));
        assert_eq!(again.rewritten(head), None);
        assert_eq!(again.framing(), check.framing());
        assert_read_as_one(head, check.framing());
        assert_body_is_one(&bytes[length..], check.framing());
    });
}

fn assert_read_as_one(head: &[u8], framing: Framing) {
    let mut fields = [httparse::EMPTY_HEADER; LIMITS.fields_max];
    let mut read = httparse::Request::new(&mut fields);
    let status = read.parse(head);
    assert_eq!(status, Ok(httparse::Status::Complete(head.len())));
    let line = format!(
        "{} {} HTTP/1.{}\r\n",
        read.method.unwrap(),
        read.path.unwrap(),
        read.version.unwrap()
    );
    let blank = head.iter().take_while(|byte| b"\r\n".contains(byte));
    let written = &head[blank.count()..];
    assert!(written.starts_with(line.as_bytes()), "{line}");
    let named = |name: &str| -> Vec<_> {
        let fields = read.headers.iter();
        let fields = fields.filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii()).collect()
    };
    assert!(matches!(named("host").as_slice(), [host] if host_of(host).is_some()));
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => assert_eq!(framing, Framing::Length(0)),
        ([length], []) => {
            let length = std::str::from_utf8(length).unwrap().parse().unwrap();
            assert_eq!(framing, Framing::Length(length));
        }
        ([], [_]) => assert_eq!(framing, Framing::Chunked),
        _ => panic!("framed twice"),
    }
    // One more field would be a line that only one of the two has seen.
    let lines = written.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!(lines, read.headers.len() + 2);
}

fn assert_body_is_one(bytes: &[u8], framing: Framing) {
    let whole = body::BodyCheck::new(framing, 64).feed(bytes);
    let mut check = body::BodyCheck::new(framing, 64);
    let mut pieced = check.feed(&[]);
    for (place, byte) in bytes.iter().enumerate() {
        if pieced != Ok(body::BodyProgress::More) {
            break;
        }
        pieced = check.feed(&[*byte]);
        if let Ok(body::BodyProgress::Ends(count)) = pieced {
            pieced = Ok(body::BodyProgress::Ends(place + count));
        }
    }
    assert_eq!(pieced, whole);
}
