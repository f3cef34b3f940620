//! The cases of the table. [`steps`](crate::differential::script::steps) explains the notation.

use crate::differential::script::{Case, Step, byte_by_byte, split_at, steps};

pub(super) const GET: &str = "GET {t} HTTP/1.1\r\nHost: up.test\r\n\r\n";
pub(super) const GET_OLD: &str = "GET {t} HTTP/1.0\r\nHost: up.test\r\n\r\n";
pub(super) const GET_LAST: &str = "GET {t} HTTP/1.1\r\nHost: up.test\r\nConnection: close\r\n\r\n";
pub(super) const HEAD: &str = "HEAD {t} HTTP/1.1\r\nHost: up.test\r\n\r\n";
pub(super) const POST: &str =
    "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 5\r\n\r\nhello";
pub(super) const POST_CHUNKED: &str = "POST {t} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n\
     3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
const PUT: &str = "PUT {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 5\r\n\r\nhello";
const UPGRADE: &str = "GET {t} HTTP/1.1\r\nHost: up.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A name, the caller's actions, and the upstream's.
type Row = (&'static str, &'static str, &'static str);

#[rustfmt::skip]
const LENGTHS: &[Row] = &[
    ("length exact", GET, OK),
    ("length 0", GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("length short of the body", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay"),
    ("length beyond the body, FIN", GET, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello→⊣"),
    ("length beyond the body, RST", GET, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello→→✗"),
    ("length beyond the body, silence", GET, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
    ("length twice, equal", GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("length twice, different", GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    ("length as a list of equal ones", GET, "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
    ("length as a list of different ones", GET, "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!"),
    ("length with a plus", GET, "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    ("length negative", GET, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
    ("length hexadecimal", GET, "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello"),
    ("length empty", GET, "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello→⊣"),
    ("length with a fraction", GET, "HTTP/1.1 200 OK\r\nContent-Length: 5.0\r\n\r\nhello"),
    ("length with inner space", GET, "HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nhello"),
    ("length with leading zeros", GET, "HTTP/1.1 200 OK\r\nContent-Length: 0005\r\n\r\nhello"),
    ("length with outer space", GET, "HTTP/1.1 200 OK\r\nContent-Length: \t 5 \t\r\n\r\nhello"),
    ("length beyond 64 bits", GET, "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
    ("length of 64 bits", GET, "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhello→⊣"),
    ("length and chunked", GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunked and length", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("until close", GET, "HTTP/1.1 200 OK\r\n\r\nhello→⊣"),
    ("until close, empty", GET, "HTTP/1.1 200 OK\r\n\r\n→⊣"),
    ("until close, RST", GET, "HTTP/1.1 200 OK\r\n\r\nhello→→✗"),
    ("until close, announced", GET, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello→⊣"),
    ("until close, in HTTP/1.0", GET, "HTTP/1.0 200 OK\r\n\r\nhello→⊣"),
    ("length, FIN right after", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok⊣"),
    ("length, to HTTP/1.0", GET_OLD, OK),
    ("chunked, to HTTP/1.0", GET_OLD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunked, cut, to HTTP/1.0", GET_OLD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n→⊣"),
    ("until close, to HTTP/1.0", GET_OLD, "HTTP/1.1 200 OK\r\n\r\nhello→⊣"),
    ("length, to the last request", GET_LAST, OK),
];

#[rustfmt::skip]
const CHUNKS: &[Row] = &[
    ("chunked", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunked, in capitals", GET, "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunked, empty", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked, hexadecimal sizes", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00a\r\nhellohello\r\nA\r\nhellohello\r\n0\r\n\r\n"),
    ("chunked, extensions", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n"),
    ("chunked, a bare LF in an extension", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, a long extension", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nhello\r\n0\r\n\r\n"),
    ("chunked, trailers", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\nX-More: 6\r\n\r\n"),
    ("chunked, trailers that frame", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"),
    ("chunked, trailers cut", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n→⊣"),
    ("chunked, no final CRLF", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n→⊣"),
    ("chunked, no last chunk", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n→⊣"),
    ("chunked, cut in a chunk", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel→⊣"),
    ("chunked, cut in a size", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1→⊣"),
    ("chunked, reset in a chunk", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel→→✗"),
    ("chunked, a size that is no number", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n→zz\r\n→⊣"),
    ("chunked, no size", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n→\r\n0\r\n\r\n→⊣"),
    ("chunked, a negative size", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→-5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, a size with a plus", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→+5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, a size with 0x", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→0x5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, a size with a space before", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→ 5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, a size with a space after", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→5 \r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, a size that overflows 64 bits", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→10000000000000005\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, a size of 64 bits", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→ffffffffffffffff\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, a size that is negative as 64 bits", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→fffffffffffffffe\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked, no CRLF after the data", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→5\r\nhelloXX0\r\n\r\n→⊣"),
    ("chunked, more data than its size", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→5\r\nhello!\r\n0\r\n\r\n→⊣"),
    ("chunked, bare LF after sizes", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→5\nhello\n0\n\n→⊣"),
    ("chunked, bare LF after the data", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→5\r\nhello\n0\r\n\r\n→⊣"),
    ("chunked, bare CR after a size", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n→5\rhello\r\n0\r\n\r\n→⊣"),
    ("gzip, then chunked", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunked, then gzip", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked twice in a list", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunked twice in two fields", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("gzip alone", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello→⊣"),
    ("identity", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello→⊣"),
    ("identity and length", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello"),
    ("a coding with a parameter", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("a coding in quotes", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: \"chunked\"\r\n\r\n5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("an empty coding", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("a misspelt coding", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("a coding with a vertical tab", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("chunked in HTTP/1.0", GET, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n→⊣"),
];

#[rustfmt::skip]
const STATUSES: &[Row] = &[
    ("100 before the answer", GET, "HTTP/1.1 100 Continue\r\n\r\n→HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("102 before the answer", GET, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("103 three times", GET, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n→HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </c>\r\n\r\n→HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("103 with a length", GET, "HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("103 chunked", GET, "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("103 with both framings", GET, "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("103 and Connection: close", GET, "HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n→HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("103, then FIN", GET, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n→⊣"),
    ("103, then silence", GET, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    ("103 to HTTP/1.0", GET_OLD, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n→HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("100 in HTTP/1.0", GET, "HTTP/1.0 100 Continue\r\n\r\n→HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok→⊣"),
    ("199", GET, "HTTP/1.1 199 Odd\r\n\r\n→HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("101 not asked for", GET, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n→xxxx→⊣"),
    ("101 not asked for, then an answer", GET, "HTTP/1.1 101 Switching Protocols\r\n\r\n→HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("101 asked for", "GET {t} HTTP/1.1\r\nHost: up.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n②ping", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n«pong→⊣"),
    ("101 asked for, bytes at once", "GET {t} HTTP/1.1\r\nHost: up.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n②ping", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\npong«→⊣"),
    ("101 asked for, another protocol", UPGRADE, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n→pong→⊣"),
    ("101 asked for, refused", UPGRADE, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"),
    ("101 asked for, 200", UPGRADE, OK),
    ("204", GET, "HTTP/1.1 204 No Content\r\n\r\n"),
    ("204 with a length of 0", GET, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
    ("204 with a body", GET, "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"),
    ("204 with a body later", GET, "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n→ok"),
    ("204 chunked", GET, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("205 with a length", GET, "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
    ("205 without a length", GET, "HTTP/1.1 205 Reset Content\r\n\r\n→⊣"),
    ("304", GET, "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
    ("304 with a length", GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n"),
    ("304 with a body", GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok"),
    ("304 chunked", GET, "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("304 chunked with a body", GET, "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("HEAD with a length", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"),
    ("HEAD without a length", HEAD, "HTTP/1.1 200 OK\r\n\r\n"),
    ("HEAD chunked", HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("HEAD with a body", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("HEAD chunked with a body", HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("HEAD with a body later", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n→ok"),
    ("HEAD and Connection: close", HEAD, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n→⊣"),
    ("HEAD and 404", HEAD, "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n"),
    ("status 000", GET, "HTTP/1.1 000 Odd\r\nContent-Length: 2\r\n\r\nok"),
    ("status 099", GET, "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok"),
    ("status 99", GET, "HTTP/1.1 99 Odd\r\nContent-Length: 2\r\n\r\nok"),
    ("status 299", GET, "HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok"),
    ("status 418", GET, "HTTP/1.1 418 Teapot\r\nContent-Length: 2\r\n\r\nok"),
    ("status 502", GET, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nok"),
    ("status 600", GET, "HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok"),
    ("status 999", GET, "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok"),
    ("status 1000", GET, "HTTP/1.1 1000 Odd\r\nContent-Length: 2\r\n\r\nok"),
    ("status with letters", GET, "HTTP/1.1 2xx Odd\r\nContent-Length: 2\r\n\r\nok"),
    ("no reason", GET, "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
    ("no reason and no space", GET, "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
    ("an odd reason", GET, "HTTP/1.1 200 O\tK!\u{e9}\r\nContent-Length: 2\r\n\r\nok"),
    ("a reason with a control character", GET, "HTTP/1.1 200 O\u{1}K\r\nContent-Length: 2\r\n\r\nok"),
    ("a reason with NUL", GET, "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok"),
    ("a reason with a bare CR", GET, "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok"),
    ("a reason of its own", GET, "HTTP/1.1 200 Everything Fine\r\nContent-Length: 2\r\n\r\nok"),
    ("a redirect", POST, "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"),
];

#[rustfmt::skip]
const HEADS: &[Row] = &[
    ("HTTP/1.0 with a length", GET, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("HTTP/1.0 with keep-alive", GET, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
    ("HTTP/1.0 with keep-alive and FIN", GET, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nok→⊣"),
    ("HTTP/1.2", GET, "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("HTTP/2.0", GET, "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("HTTP/2", GET, "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("http/1.1", GET, "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("ICY", GET, "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("HTTP/0.9", GET, "hello→⊣"),
    ("a preface of HTTP/2", GET, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n→⊣"),
    ("a frame of HTTP/2", GET, "\0\0\u{12}\u{4}\0\0\0\0\0→⊣"),
    ("an alert of TLS", GET, "\u{15}\u{3}\u{1}\0\u{2}\u{2}P→⊣"),
    ("a request for an answer", GET, "GET / HTTP/1.1\r\nHost: up.test\r\n\r\n→⊣"),
    ("no answer, FIN", GET, "→⊣"),
    ("no answer, RST", GET, "→✗"),
    ("no answer, FIN, to POST", POST, "→⊣"),
    ("no answer, silence", GET, ""),
    ("a head cut off", GET, "HTTP/1.1 200 OK\r\nContent-Le→⊣"),
    ("a head cut off, RST", GET, "HTTP/1.1 200 OK\r\nContent-Le→✗"),
    ("garbage", GET, "\u{1}\u{2}garbage\r\n\r\n→⊣"),
    ("CRLF before the answer", GET, "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("CRLFs before the answer", GET, "\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("bare LF in the head", GET, "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    ("a bare LF between fields", GET, "HTTP/1.1 200 OK\r\nX-A: b\nX-C: d\r\nContent-Length: 2\r\n\r\nok"),
    ("a bare CR in a value", GET, "HTTP/1.1 200 OK\r\nX-A: b\rX-C: d\r\nContent-Length: 2\r\n\r\nok"),
    ("a folded field", GET, "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok"),
    ("a folded length", GET, "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok"),
    ("a folded first line", GET, "HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 2\r\n\r\nok"),
    ("NUL in a value", GET, "HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok"),
    ("a control character in a value", GET, "HTTP/1.1 200 OK\r\nX-A: b\u{1}c\r\nContent-Length: 2\r\n\r\nok"),
    ("a byte above ASCII in a value", GET, "HTTP/1.1 200 OK\r\nX-A: b\u{e9}c\r\nContent-Length: 2\r\n\r\nok"),
    ("a space before a colon", GET, "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok"),
    ("a space before the colon of a length", GET, "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok→⊣"),
    ("a space before the colon of a coding", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n→⊣"),
    ("no colon", GET, "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2\r\n\r\nok"),
    ("an empty name", GET, "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\nok"),
    ("an empty value", GET, "HTTP/1.1 200 OK\r\nX-A:\r\nContent-Length: 2\r\n\r\nok"),
    ("a name with odd characters", GET, "HTTP/1.1 200 OK\r\nX!#$%&'*+-.^_`|~9: b\r\nContent-Length: 2\r\n\r\nok"),
    ("a name with a slash", GET, "HTTP/1.1 200 OK\r\nX/A: b\r\nContent-Length: 2\r\n\r\nok"),
    ("a name with a byte above ASCII", GET, "HTTP/1.1 200 OK\r\nX\u{e9}: b\r\nContent-Length: 2\r\n\r\nok"),
    ("a name with a control character", GET, "HTTP/1.1 200 OK\r\nX\u{1}: b\r\nContent-Length: 2\r\n\r\nok"),
    ("a field twice", GET, "HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: c\r\nX-A: two\r\nContent-Length: 2\r\n\r\nok"),
    ("cookies in their order", GET, "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nSet-Cookie: a=3\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection: close with a length", GET, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection: close in capitals", GET, "HTTP/1.1 200 OK\r\nConnection: CLOSE\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection: close in a list", GET, "HTTP/1.1 200 OK\r\nConnection: x-a, close\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection: close in a second field", GET, "HTTP/1.1 200 OK\r\nConnection: x-a\r\nConnection: close\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection: keep-alive and close", GET, "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection: keep-alive", GET, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok"),
    ("Keep-Alive of no time", GET, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=0\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection names a field", GET, "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: b\r\nX-End: c\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection names the length", GET, "HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok"),
    ("Connection names the coding", GET, "HTTP/1.1 200 OK\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("Proxy-Connection: close", GET, "HTTP/1.1 200 OK\r\nProxy-Connection: close\r\nContent-Length: 2\r\n\r\nok"),
    ("Upgrade offered", GET, "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"),
    ("Trailer announced", GET, "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
];

#[rustfmt::skip]
const REQUESTS: &[Row] = &[
    ("POST with a length", POST, OK),
    ("POST chunked", POST_CHUNKED, OK),
    ("POST without a body", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 0\r\n\r\n", OK),
    ("POST without a framing", "POST {t} HTTP/1.1\r\nHost: up.test\r\n\r\n", OK),
    ("POST chunked, empty", "POST {t} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", OK),
    ("POST chunked, extensions and trailers", "POST {t} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", OK),
    ("POST in pieces", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\n→hello→hello", OK),
    ("POST chunked in pieces", "POST {t} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n→5\r\nhel→lo\r\n→0\r\n→\r\n", OK),
    ("POST of HTTP/1.0", "POST {t} HTTP/1.0\r\nHost: up.test\r\nContent-Length: 5\r\n\r\nhello", OK),
    ("GET with a body", "GET {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 5\r\n\r\nhello", OK),
    ("GET chunked", "GET {t} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", OK),
    ("HEAD with a request body", "HEAD {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
    ("PUT", PUT, OK),
    ("DELETE", "DELETE {t} HTTP/1.1\r\nHost: up.test\r\n\r\n", OK),
    ("OPTIONS", "OPTIONS {t} HTTP/1.1\r\nHost: up.test\r\n\r\n", OK),
    ("a query", "GET {t}?a=b&c=%20d;e HTTP/1.1\r\nHost: up.test\r\n\r\n", OK),
    ("names in capitals, values with spaces", "GET {t} HTTP/1.1\r\nHOST: up.test\r\nX-ABC:  d e \t\r\naccept: */*\r\n\r\n", OK),
    ("fields twice", "GET {t} HTTP/1.1\r\nHost: up.test\r\nX-A: one\r\nX-B: c\r\nX-A: two\r\n\r\n", OK),
    ("cookies twice", "GET {t} HTTP/1.1\r\nHost: up.test\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n", OK),
    ("a byte above ASCII in a value", "GET {t} HTTP/1.1\r\nHost: up.test\r\nX-A: b\u{e9}c\r\n\r\n", OK),
    ("an empty value", "GET {t} HTTP/1.1\r\nHost: up.test\r\nX-A:\r\n\r\n", OK),
    ("Connection names a field of the request", "GET {t} HTTP/1.1\r\nHost: up.test\r\nConnection: X-Hop\r\nX-Hop: b\r\nX-End: c\r\n\r\n", OK),
    ("hop-by-hop fields of the request", "GET {t} HTTP/1.1\r\nHost: up.test\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-A\r\n\r\n", OK),
    ("an upgrade to another protocol", "GET {t} HTTP/1.1\r\nHost: up.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", OK),
    ("Connection: close of the caller", "POST {t} HTTP/1.1\r\nHost: up.test\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", OK),
    ("keep-alive of HTTP/1.0", "GET {t} HTTP/1.0\r\nHost: up.test\r\nConnection: keep-alive\r\n\r\n", OK),
    ("a body cut off by FIN", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello→⊣", OK),
    ("a body cut off by RST", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello→✗", OK),
    ("chunks cut off by FIN", "POST {t} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n→⊣", OK),
    ("chunks that are none", "POST {t} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n→zz\r\n→", OK),
    ("a caller that leaves before the answer", "GET {t} HTTP/1.1\r\nHost: up.test\r\n\r\n→✗", "⇒HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("a caller that half-closes", "GET {t} HTTP/1.1\r\nHost: up.test\r\n\r\n⊣", OK),
    ("two requests at once", "GET {t} HTTP/1.1\r\nHost: up.test\r\n\r\nGET {t}", OK),
];

/// Cases in which the upstream does not wait for the body.
#[rustfmt::skip]
const EARLY: &[Row] = &[
    ("early, the body comes later", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello③hello", OK),
    ("early, the body comes much later", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello③⇒hello", OK),
    ("early, the chunks come later", "POST {t} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n③0\r\n\r\n", OK),
    ("early, the body never comes", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello", OK),
    ("early, Connection: close", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello③hello", "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno→⊣"),
    ("early, cut", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello③hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok→⊣"),
    ("early, until close", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello③hello", "HTTP/1.1 200 OK\r\n\r\nok→⊣"),
    ("early, chunked until the body comes", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello②hello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n…2\r\nok\r\n0\r\n\r\n"),
    ("100 awaited", "POST {t} HTTP/1.1\r\nHost: up.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n①hello", "HTTP/1.1 100 Continue\r\n\r\n…HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("100 refused", "POST {t} HTTP/1.1\r\nHost: up.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno"),
    ("100 not awaited", "POST {t} HTTP/1.1\r\nHost: up.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 100 Continue\r\n\r\n…HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("no answer to half a body, FIN", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello③hello", "⊣"),
    ("no answer to half a body, RST", "POST {t} HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhello③hello", "→✗"),
];

/// What arrives after an answer, on a connection that is idle.
#[rustfmt::skip]
const AFTERWARDS: &[Row] = &[
    ("a second answer right behind", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"),
    ("a second answer right behind chunks", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"),
    ("a second answer right behind 204", GET, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"),
    ("a second answer right behind HEAD", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"),
    ("a second answer on the idle connection", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"),
    ("a byte on the idle connection", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→\n"),
    ("408 on the idle connection", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n⊣"),
    ("FIN on the idle connection", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→⊣"),
    ("RST on the idle connection", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→✗"),
];

/// Rows of a second request, on the connection that the first one has left.
#[rustfmt::skip]
const SECOND: &[(&str, &str, &str, &str)] = &[
    ("GET again", GET, OK, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo"),
    ("POST again", POST, OK, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo"),
    ("GET after FIN on the idle connection", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→⊣", OK),
    ("POST after FIN on the idle connection", POST, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→⊣", OK),
    ("POST after RST on the idle connection", POST, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→✗", OK),
    ("GET after bytes on the idle connection", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok→→HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen", OK),
    ("GET on a connection that then closes", GET, OK, "→⊣"),
    ("HEAD on a connection that then closes", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "→⊣"),
    ("PUT on a connection that then closes", PUT, OK, "→⊣"),
    ("POST on a connection that then closes", POST, OK, "→⊣"),
    ("POST chunked on a connection that then closes", POST_CHUNKED, OK, "→⊣"),
    ("GET on a connection that then resets", GET, OK, "→✗"),
    ("POST on a connection that then resets", POST, OK, "→✗"),
    ("GET on a connection that closes in the head", GET, OK, "HTTP/1.1 200 O→⊣"),
    ("GET on a connection that closes in the body", GET, OK, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok→⊣"),
];

/// Returns all cases of the table.
pub(super) fn cases() -> Vec<Case> {
    let rows = [LENGTHS, CHUNKS, STATUSES, HEADS, REQUESTS, AFTERWARDS].concat();
    let new = |(name, request, answer): &Row| Case::new(*name, request, answer);
    let mut cases: Vec<_> = rows.iter().map(new).collect();
    cases.extend(EARLY.iter().map(|row| new(row).early()));
    for (name, request, first, second) in SECOND {
        cases.push(Case::new(*name, request, first).then(request, second));
    }
    cases.extend(large());
    cases.extend(split());
    cases
}

/// Cases whose bytes are too many to write down.
fn large() -> Vec<Case> {
    let field = |count: usize| format!("X-Long: {}\r\n", "v".repeat(count));
    let many = |count: usize| {
        let fields = (0..count).map(|index| format!("X-{index}: v\r\n"));
        fields.collect::<String>()
    };
    let heads = [
        ("a field of 8 KB", field(8 << 10)),
        ("a field of 60 KB", field(60 << 10)),
        ("a field of 200 KB", field(200 << 10)),
        ("a field of 2 MB", field(2 << 20)),
        ("90 fields", many(90)),
        ("99 fields", many(99)),
        ("300 fields", many(300)),
    ];
    let mut cases = Vec::new();
    for (name, fields) in heads {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
        cases.push(Case::new(name, GET, &answer));
    }
    let body = "0123456789abcdef".repeat(20_000);
    let length = body.len();
    let sized = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
    let upload =
        format!("POST {{t}} HTTP/1.1\r\nHost: up.test\r\nContent-Length: {length}\r\n\r\n{body}");
    let chunks = format!(
        "POST {{t}} HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    );
    cases.push(Case::new("a large body with a length", GET, &sized));
    cases.push(Case::new("a large body in a chunk", GET, &chunked));
    cases.push(Case::new("a large upload with a length", &upload, OK));
    cases.push(Case::new("a large upload in a chunk", &chunks, OK));
    cases.push(Case::new(
        "a large upload and a large answer",
        &upload,
        &chunked,
    ));
    cases
}

/// Cases that differ only in the pieces in which bytes arrive.
fn split() -> Vec<Case> {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\nX-A: b\r\n\r\n";
    let begin = chunked.len() - "5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\nX-A: b\r\n\r\n".len();
    let mut cases = Vec::new();
    for place in 1..chunked.len() {
        // Every byte of the body, and some of the head.
        if begin <= place || place % 9 == 0 {
            let mut case = Case::new(format!("chunked, split at {place}"), GET, chunked);
            case.rounds[0].answer = split_at(chunked.as_bytes(), place);
            cases.push(case);
        }
    }
    let (head, body) = POST_CHUNKED.split_at(POST_CHUNKED.find("3\r\n").unwrap());
    for place in 1..body.len() {
        let mut case = Case::new(format!("POST chunked, split at {place}"), GET, OK);
        let mut request = steps(head);
        request.push(Step::Pause(3));
        request.extend(split_at(body.as_bytes(), place));
        case.rounds[0].request = request;
        cases.push(case);
    }
    #[rustfmt::skip]
    let answers = [
        ("a length, byte by byte", "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"),
        ("chunks, byte by byte", chunked),
        ("until close, byte by byte", "HTTP/1.1 200 OK\r\n\r\nhello⊣"),
        ("interim answers, byte by byte", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    ];
    for (name, answer) in answers {
        let mut case = Case::new(name, GET, answer);
        case.rounds[0].answer = byte_by_byte(&steps(answer), 1);
        cases.push(case);
    }
    cases
}
