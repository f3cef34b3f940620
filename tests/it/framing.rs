//! An ambiguous, oversized or slow head is refused (RFC 9112, RFC 9110).

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

/// A description; the bytes, with `{host}` filled in; the acceptable statuses.
type Row = (&'static str, &'static str, &'static [u16]);

const REFUSED: &[Row] = &[
    (
        "length and coding",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        &[400],
    ),
    (
        "coding and length",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX",
        &[400],
    ),
    (
        "two lengths",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        &[400],
    ),
    (
        "the same length twice",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        &[400],
    ),
    (
        "a list of lengths",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5, 5\r\n\r\nhello",
        &[400],
    ),
    (
        "a signed length",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: +5\r\n\r\nhello",
        &[400],
    ),
    (
        "a negative length",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n",
        &[400],
    ),
    (
        "a hex length",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x5\r\n\r\nhello",
        &[400],
    ),
    (
        "a length with a space",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5 5\r\n\r\nhello",
        &[400],
    ),
    (
        "an empty length",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length:\r\n\r\n",
        &[400],
    ),
    (
        "a length beyond 64 bits",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
        &[400, 413],
    ),
    (
        "an unknown coding",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "chunked, then more",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "chunked twice",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "a coding in quotes",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "a coding with a tab",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\u{b}\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "identity",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: identity\r\n\r\n",
        &[400, 501],
    ),
    (
        "an empty coding",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "a coding in HTTP/1.0",
        "POST /public/a HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "a coding, misspelt",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    ("no Host", "GET /public/a HTTP/1.1\r\n\r\n", &[400]),
    (
        "an empty Host",
        "GET /public/a HTTP/1.1\r\nHost:\r\n\r\n",
        &[400],
    ),
    (
        "two Hosts",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nHost: evil.test\r\n\r\n",
        &[400],
    ),
    (
        "the same Host twice",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    (
        "Host with a comma",
        "GET /public/a HTTP/1.1\r\nHost: a.test,b.test\r\n\r\n",
        &[400],
    ),
    (
        "Host with a space",
        "GET /public/a HTTP/1.1\r\nHost: a.test b.test\r\n\r\n",
        &[400],
    ),
    (
        "Host with a slash",
        "GET /public/a HTTP/1.1\r\nHost: a.test/x\r\n\r\n",
        &[400],
    ),
    (
        "Host with userinfo",
        "GET /public/a HTTP/1.1\r\nHost: x@a.test\r\n\r\n",
        &[400],
    ),
    (
        "Host with a bad port",
        "GET /public/a HTTP/1.1\r\nHost: a.test:8x\r\n\r\n",
        &[400],
    ),
    (
        "a target of another host",
        "GET http://evil.test/public/a HTTP/1.1\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    (
        "a target with userinfo",
        "GET http://x@{host}/public/a HTTP/1.1\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    (
        "a folded line",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\n X-Auth-Uid: forged\r\n\r\n",
        &[400],
    ),
    (
        "a folded first line",
        "GET /public/a HTTP/1.1\r\n X-A: b\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    (
        "a bare LF",
        "GET /public/a HTTP/1.1\nHost: {host}\n\n",
        &[400],
    ),
    (
        "a bare LF in a field",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nX-A: b\nX-Auth-Uid: forged\r\n\r\n",
        &[400],
    ),
    (
        "a bare CR in a field",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nX-A: b\rX-Auth-Uid: forged\r\n\r\n",
        &[400],
    ),
    (
        "NUL in a field",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nX-A: b\0c\r\n\r\n",
        &[400],
    ),
    (
        "a space before the colon",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nX-Auth-Uid : forged\r\n\r\n",
        &[400],
    ),
    (
        "no colon",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nX-Auth-Uid forged\r\n\r\n",
        &[400],
    ),
    (
        "an empty name",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\n: forged\r\n\r\n",
        &[400],
    ),
    (
        "a name with a slash",
        "GET /public/a HTTP/1.1\r\nHost: {host}\r\nX/Auth: forged\r\n\r\n",
        &[400],
    ),
    (
        "two spaces",
        "GET  /public/a HTTP/1.1\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    (
        "a space in the target",
        "GET /public/a b HTTP/1.1\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    (
        "a tab in the line",
        "GET\t/public/a HTTP/1.1\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    (
        "no version",
        "GET /public/a\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    (
        "HTTP/2.0 in words",
        "GET /public/a HTTP/2.0\r\nHost: {host}\r\n\r\n",
        &[400, 505],
    ),
    (
        "HTTP/1.2",
        "GET /public/a HTTP/1.2\r\nHost: {host}\r\n\r\n",
        &[400, 505],
    ),
    (
        "http/1.1",
        "GET /public/a http/1.1\r\nHost: {host}\r\n\r\n",
        &[400, 505],
    ),
    (
        "HTTP/1.10",
        "GET /public/a HTTP/1.10\r\nHost: {host}\r\n\r\n",
        &[400, 505],
    ),
    (
        "a method with a bracket",
        "G(ET /public/a HTTP/1.1\r\nHost: {host}\r\n\r\n",
        &[400],
    ),
    ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n", &[400]),
    (
        "TLS",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}aaaaaaaaaaaaaaaaaaaa\r\n\r\n",
        &[400],
    ),
];

/// Refused while the body is read: the caller gets a 400 or the connection ends, and the upstream never sees a whole
/// body.
const BROKEN_CHUNKS: &[(&str, &str)] = &[
    ("no hex", "g\r\nx\r\n0\r\n\r\n"),
    ("signed", "+1\r\nx\r\n0\r\n\r\n"),
    ("0x", "0x1\r\nx\r\n0\r\n\r\n"),
    ("too long", "1\r\nxy\r\n0\r\n\r\n"),
    ("bare LF", "1\nx\n0\n\n"),
    ("beyond 64 bits", "10000000000000001\r\nx\r\n0\r\n\r\n"),
    ("empty", "\r\nx\r\n0\r\n\r\n"),
];

#[test]
fn heads_that_read_in_two_ways_are_refused_and_the_connection_ends() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let mut wrong = Vec::new();
    for (about, bytes, statuses) in REFUSED {
        // Nothing after it may be read as a request.
        let smuggled = "GET /public/smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n";
        let answers = gateway.send(&format!("{bytes}{smuggled}"));
        let found: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        match found.as_slice() {
            [one] if statuses.contains(one) => {}
            _ => wrong.push(format!("{about}: {found:?} instead of {statuses:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let seen: Vec<_> = upstream
        .seen()
        .into_iter()
        .map(|seen| seen.text())
        .collect();
    assert!(seen.is_empty(), "{seen:#?}");
}

#[test]
fn a_refused_head_is_answered_in_our_form() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for head in [
        "GET /public/a HTTP/1.1\r\nHost: a b\r\n\r\n",
        "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1, 1\r\n\r\nx",
    ] {
        let answers = gateway.send(head);
        answers[0].refused(400, "request_malformed");
    }
}

#[test]
fn broken_chunks_never_make_a_whole_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for (about, body) in BROKEN_CHUNKS {
        let before = upstream.count();
        let answers = gateway.send(&format!(
            "POST /public/a HTTP/1.1\r\nHost: {{host}}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{body}"
        ));
        assert!(
            answers.iter().all(|answer| answer.status >= 400),
            "{about}: {answers:?}"
        );
        let new = upstream.seen().split_off(before);
        assert!(
            new.iter().all(|seen| seen.target == "/public/a"),
            "{about}: {new:?}"
        );
        let answers = gateway.send(&format!(
            "POST /auth/login HTTP/1.1\r\nHost: {{host}}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{body}"
        ));
        assert!(
            answers.iter().all(|answer| answer.status >= 400),
            "{about}: {answers:?}"
        );
    }
}

#[test]
fn what_is_sound_passes_however_small_or_odd() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let cases = [
        ("GET / HTTP/1.1\r\nHost:a\r\n\r\n", 404),
        ("GET /public/ HTTP/1.0\r\nHost: a\r\n\r\n", 200),
        (
            "GET /public/a HTTP/1.1\r\nhOsT:   {host}  \r\nConnection: close\r\n\r\n",
            200,
        ),
        (
            "\r\nGET /public/a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
            200,
        ),
        (
            "POST /public/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
            200,
        ),
        (
            "POST /public/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            200,
        ),
        (
            "PATCH /public/a HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 005\r\nConnection: close\r\n\r\nhello",
            200,
        ),
        (
            "OPTIONS /public/a HTTP/1.1\r\nHost: {host}\r\nX-Empty:\r\nConnection: close\r\n\r\n",
            200,
        ),
    ];
    for (bytes, status) in cases {
        let answers = gateway.send(bytes);
        let found: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(found, [status], "{bytes:?}");
    }
}

// Over HTTP/1 only: these bytes are equal to their escapes, and Pingora does not parse them.
#[test]
fn raw_bytes_of_callers_reach_the_upstream_escaped() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let cases: [(&[u8], &str); 5] = [
        (b"/public/x?q=<\"a\">", "/public/x?q=%3C%22a%22%3E"),
        ("/public/x?q=\u{fc}".as_bytes(), "/public/x?q=%C3%BC"),
        (b"/public/x?q=\xfc", "/public/x?q=%FC"),
        ("/public/\u{fc}".as_bytes(), "/public/%C3%BC"),
        (b"/public/a\"b", "/public/a%22b"),
    ];
    for (sent, reached) in cases {
        for at_once in [true, false] {
            let mut caller = gateway.connect();
            let head = [
                b"POST ",
                sent,
                b" HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n",
            ]
            .concat();
            let bytes = [
                head.as_slice(),
                b"bodyGET /public/next HTTP/1.1\r\nHost: a\r\n\r\n",
            ]
            .concat();
            let (one, two) = bytes.split_at(if at_once { bytes.len() } else { 12 });
            caller.write(one);
            if !at_once {
                std::thread::sleep(std::time::Duration::from_millis(20));
                caller.write(two);
            }
            assert_eq!(caller.answer().status, 200, "{reached}");
            // The following request begins in the right place.
            assert_eq!(caller.answer().status, 200, "{reached}");
            let seen = upstream.seen();
            let [.., first, next] = seen.as_slice() else {
                panic!("{reached}")
            };
            assert_eq!(
                (first.target.as_str(), first.body.as_slice()),
                (reached, b"body".as_slice())
            );
            assert_eq!(next.target, "/public/next");
        }
    }
}
