//! Where the gateway deliberately differs from Pingora, and how.
//!
//! The differences of the table are written out, case by case. For generated cases, [`expected`] applies the same
//! rules to what the reference did.

use crate::differential::observe::{Engine, Observation, Part, describe_answer, is_own};
use crate::differential::rig::named_by_connection;
use crate::differential::script::{Case, Round};
use crate::differential::wire::{End, Framing, Head};

/// A case of the table, the part that differs, and what it is with the reference and with the gateway.
type Difference = (&'static str, Part, &'static str, &'static str);

/// The end of an answer must be determined in exactly one way, by a length or by chunks, and in HTTP/1.0 not by chunks
/// (`src/proxy/headers`, `frame_once`). Pingora passes on what callers may read in another way.
#[rustfmt::skip]
const FRAMED_TWICE: &[Difference] = &[
    ("length twice, equal", Part::Answer, "HTTP/1.1 200 OK\ncontent-length: \"5\"\ncontent-length: \"5\"\nlength Whole \"hello\"", "failure 502"),
    ("length twice, equal", Part::Caller, "kept", "closed"),
    ("length twice, equal", Part::Upstream, "used again", "closed"),
    ("length as a list of equal ones", Part::Answer, "HTTP/1.1 200 OK\ncontent-length: \"5, 5\"\nlength Whole \"hello\"", "failure 502"),
    ("length as a list of equal ones", Part::Caller, "kept", "closed"),
    ("length as a list of equal ones", Part::Upstream, "used again", "closed"),
    ("gzip, then chunked", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"gzip, chunked\"\nchunked Whole \"hello\"", "failure 502"),
    ("gzip, then chunked", Part::Caller, "kept", "closed"),
    ("gzip, then chunked", Part::Upstream, "used again", "closed"),
    ("chunked, then gzip", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked, gzip\"\nchunked Whole \"hello\"", "failure 502"),
    ("chunked twice in a list", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked, chunked\"\nchunked Whole \"hello\"", "failure 502"),
    ("chunked twice in a list", Part::Caller, "kept", "closed"),
    ("chunked twice in a list", Part::Upstream, "used again", "closed"),
    ("chunked twice in two fields", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked\"\ntransfer-encoding: \"chunked\"\nchunked Whole \"hello\"", "failure 502"),
    ("chunked twice in two fields", Part::Caller, "kept", "closed"),
    ("chunked twice in two fields", Part::Upstream, "used again", "closed"),
    ("gzip alone", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"gzip\"\nchunked Cut", "failure 502"),
    ("gzip alone", Part::Caller, "not asked", "closed"),
    ("identity", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"identity\"\nchunked Cut", "failure 502"),
    ("identity", Part::Caller, "not asked", "closed"),
    ("identity and length", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"identity\"\nchunked Cut", "failure 502"),
    ("identity and length", Part::Caller, "not asked", "closed"),
    ("a coding with a parameter", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked;q=1\"\nchunked Whole \"hello\"", "failure 502"),
    ("a coding in quotes", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"\\\"chunked\\\"\"\nchunked Whole \"hello\"", "failure 502"),
    ("an empty coding", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"\"\nchunked Whole \"hello\"", "failure 502"),
    ("a misspelt coding", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"xchunked\"\nchunked Whole \"hello\"", "failure 502"),
    ("chunked in HTTP/1.0", Part::Answer, "HTTP/1.0 200 OK\ntransfer-encoding: \"chunked\"\nchunked Whole \"hello\"", "failure 502"),
    ("chunked in HTTP/1.0", Part::Caller, "kept", "closed"),
];

/// No body follows a 1xx or a 204, so that they have no framing (RFC 9110 section 8.6; RFC 9112 section 6.1).
#[rustfmt::skip]
const NO_BODY: &[Difference] = &[
    ("103 with a length", Part::Answer, "HTTP/1.1 103\ncontent-length: \"3\"\nHTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"", "HTTP/1.1 103\nHTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\""),
    ("103 chunked", Part::Answer, "HTTP/1.1 103\ntransfer-encoding: \"chunked\"\nHTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"", "HTTP/1.1 103\nHTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\""),
    ("103 with both framings", Part::Answer, "HTTP/1.1 103\ntransfer-encoding: \"chunked\"\nHTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"", "HTTP/1.1 103\nHTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\""),
    ("204 with a length of 0", Part::Answer, "HTTP/1.1 204 No Content\ncontent-length: \"0\"\nno body Whole \"\"", "HTTP/1.1 204 No Content\nno body Whole \"\""),
    ("204 with a body", Part::Answer, "HTTP/1.1 204 No Content\ncontent-length: \"2\"\nno body Whole \"\"", "HTTP/1.1 204 No Content\nno body Whole \"\""),
    ("204 with a body later", Part::Answer, "HTTP/1.1 204 No Content\ncontent-length: \"2\"\nno body Whole \"\"", "HTTP/1.1 204 No Content\nno body Whole \"\""),
    ("204 chunked", Part::Answer, "HTTP/1.1 204 No Content\ntransfer-encoding: \"chunked\"\nno body Whole \"\"", "HTTP/1.1 204 No Content\nno body Whole \"\""),
];

/// A caller with HTTP/1.0 knows neither chunks nor interim answers.
#[rustfmt::skip]
const OLD_CALLERS: &[Difference] = &[
    ("chunked, to HTTP/1.0", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked\"\nchunked Whole \"hello\"", "HTTP/1.1 200 OK\nuntil close Whole \"hello\""),
    ("chunked, to HTTP/1.0", Part::Caller, "closed", "not asked"),
    ("chunked, cut, to HTTP/1.0", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked\"\nchunked Cut", "HTTP/1.1 200 OK\nuntil close Whole \"hello\""),
    ("until close, to HTTP/1.0", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked\"\nchunked Whole \"hello\"", "HTTP/1.1 200 OK\nuntil close Whole \"hello\""),
    ("until close, to HTTP/1.0", Part::Caller, "closed", "not asked"),
    ("103 to HTTP/1.0", Part::Answer, "HTTP/1.1 103\nlink: \"</a>\"\nHTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"", "HTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\""),
];

/// The gateway answers with its own version, whatever that of the upstream is (RFC 9110 section 2.5).
#[rustfmt::skip]
const VERSIONS: &[Difference] = &[
    ("100 in HTTP/1.0", Part::Answer, "HTTP/1.0 100\nHTTP/1.0 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"", "HTTP/1.1 100\nHTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\""),
    ("HTTP/1.0 with a length", Part::Answer, "HTTP/1.0 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"", "HTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\""),
    ("HTTP/1.0 with keep-alive", Part::Answer, "HTTP/1.0 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"", "HTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\""),
];

/// An upstream that sends nothing is a 504.
#[rustfmt::skip]
const SILENCE: &[Difference] = &[
    ("103, then silence", Part::Answer, "failure 502", "failure 504"),
    ("no answer, silence", Part::Answer, "failure 502", "failure 504"),
];

/// Only a caller that asks for it has its protocol switched, and an upstream's offer is about its own connection.
#[rustfmt::skip]
const SWITCHES: &[Difference] = &[
    ("101 not asked for", Part::Answer, "HTTP/1.1 101 Switching Protocols\nupgrade: \"websocket\"\ntunnel Whole \"xxxx\"", "failure 502"),
    ("101 not asked for", Part::Caller, "not asked", "closed"),
    ("101 not asked for, then an answer", Part::Answer, "HTTP/1.1 101 Switching Protocols\ntunnel Whole \"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok\"", "failure 502"),
    ("101 not asked for, then an answer", Part::Caller, "not asked", "closed"),
    ("Upgrade offered", Part::Answer, "HTTP/1.1 200 OK\ncontent-length: \"2\"\nupgrade: \"h2c\"\nlength Whole \"ok\"", "HTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\""),
];

/// hyper reads chunks and lengths more strictly than Pingora.
#[rustfmt::skip]
const CHUNKS: &[Difference] = &[
    ("length of 64 bits", Part::Answer, "HTTP/1.1 200 OK\ncontent-length: \"18446744073709551615\"\nlength Cut", "failure 502"),
    ("length of 64 bits", Part::Caller, "not asked", "closed"),
    ("chunked, a bare LF in an extension", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked\"\nchunked Whole \"hello\"", "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked\"\nchunked Cut"),
    ("chunked, a bare LF in an extension", Part::Caller, "kept", "not asked"),
    ("chunked, no size", Part::Answer, "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked\"\nchunked Whole \"hello\"", "HTTP/1.1 200 OK\ntransfer-encoding: \"chunked\"\nchunked Cut"),
    ("chunked, no size", Part::Caller, "kept", "not asked"),
];

/// The limit of a head (`src/upstream/connection.rs`) is lower than Pingora's.
#[rustfmt::skip]
const HEADS: &[Difference] = &[
    ("a field of 200 KB", Part::Answer, "HTTP/1.1 200 OK\ncontent-length: \"2\"\nx-long: 204800 bytes bfe67fd1208c0000\nlength Whole \"ok\"", "failure 502"),
    ("a field of 200 KB", Part::Caller, "kept", "closed"),
    ("a field of 200 KB", Part::Upstream, "used again", "closed"),
];

/// A request is sent again only if its connection closed before the first byte of an answer. A connection is not kept
/// after `close` in a second `Connection` field, nor if the service spoke HTTP/1.0 on it: hyper would too, without chunks.
#[rustfmt::skip]
const CLOSED: &[Difference] = &[
    ("HTTP/1.0 with keep-alive", Part::Upstream, "used again", "closed"),
    ("Connection: close in a second field", Part::Upstream, "used again", "closed"),
    ("GET on a connection that closes in the head", Part::Answer, "HTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"\nHTTP/1.1 200 OK\ncontent-length: \"5\"\nlength Whole \"again\"", "HTTP/1.1 200 OK\ncontent-length: \"2\"\nlength Whole \"ok\"\nfailure 502"),
    ("GET on a connection that closes in the head", Part::Caller, "kept", "closed"),
    ("GET on a connection that closes in the head", Part::Sent, "connection 0: GET /u/x HTTP/1.1\nhost: \"up.test\"\nwhole \"\"\nconnection 0: GET /u/x HTTP/1.1\nhost: \"up.test\"\nwhole \"\"\nconnection 1: GET /u/x HTTP/1.1\nhost: \"up.test\"\nwhole \"\"", "connection 0: GET /u/x HTTP/1.1\nhost: \"up.test\"\nwhole \"\"\nconnection 0: GET /u/x HTTP/1.1\nhost: \"up.test\"\nwhole \"\""),
];

/// Services read one `Cookie`, so that there is one, and no other hides credentials in a second (RFC 9113 section 8.2.3).
#[rustfmt::skip]
const COOKIES: &[Difference] = &[
    ("cookies twice", Part::Sent, "connection 0: GET /u/x HTTP/1.1\ncookie: \"a=1\"\ncookie: \"b=2\"\nhost: \"up.test\"\nwhole \"\"", "connection 0: GET /u/x HTTP/1.1\ncookie: \"a=1; b=2\"\nhost: \"up.test\"\nwhole \"\""),
];

/// Returns what a part of a case is with the reference and with the gateway, if they differ.
pub(super) fn stated(case: &str, part: Part) -> Option<(&'static str, &'static str)> {
    let all = [
        FRAMED_TWICE,
        NO_BODY,
        OLD_CALLERS,
        VERSIONS,
        SILENCE,
        SWITCHES,
        CHUNKS,
        HEADS,
        CLOSED,
        COOKIES,
    ];
    let mut all = all.into_iter().flatten();
    let found = all.find(|it| (it.0, it.1) == (case, part))?;
    Some((found.2, found.3))
}

/// Whether a violation is a known one, and why.
pub(super) fn is_known(case: &Case, violation: &str) -> bool {
    // Without chunks nothing but the end of the connection shows the end of an answer (RFC 9112 section 6.3).
    violation == INCOMPLETE && has_old_caller(&case.rounds[0])
}

/// The violation that a caller takes a part of an answer for all of it.
pub(super) const INCOMPLETE: &str = "an incomplete answer appears complete";
/// The violation that another request may get what was left of an answer.
pub(super) const USED_AGAIN: &str = "a connection was used again that must not be";

const FRAMING_FIELDS: [&str; 2] = ["content-length", "transfer-encoding"];

fn has_old_caller(round: &Round) -> bool {
    let request = round.request_bytes();
    let line = request.split(|byte| *byte == b'\r').next();
    line.is_some_and(|line| line.ends_with(b" HTTP/1.0"))
}

/// Whether an answer was cut off for a caller with HTTP/1.0. To that caller it appears whole, and how much of it arrives is
/// not compared, as with any answer that is cut off.
pub(super) fn is_cut_for_old_caller(case: &Case, reference: &Observation) -> bool {
    let answer = reference.answers.first();
    has_old_caller(&case.rounds[0]) && answer.is_some_and(|answer| answer.end == End::Cut)
}

/// Returns what the gateway is expected to do in a case of one round where the reference did this.
pub(super) fn expected(case: &Case, reference: &Observation) -> Observation {
    let round = &case.rounds[0];
    let mut expected = reference.clone();
    let Some(mut answer) = reference.answers.first().cloned() else {
        return expected;
    };
    let is_old = has_old_caller(round);
    if is_old {
        answer.interim.clear();
    }
    for head in &mut answer.interim {
        head.line = head.line.replacen("HTTP/1.0 ", "HTTP/1.1 ", 1);
        head.fields
            .retain(|(name, _)| !FRAMING_FIELDS.contains(&name.as_str()) && name != "upgrade");
    }
    let is_own = is_own(&answer, Engine::Reference);
    if let Some(head) = answer.head.as_mut().filter(|_| !is_own) {
        if head.line.starts_with("HTTP/1.0 ") && expected.upstream == "used again" {
            "closed".clone_into(&mut expected.upstream);
        }
        let interim = &reference.answers[0].interim;
        let is_clear = interim.iter().all(is_framed_once) && is_framed_once(head);
        if head.status() == 101 || !is_clear {
            "HTTP/1.1 502 ".clone_into(&mut head.line);
            head.fields = vec![("server".to_owned(), "Pingora".to_owned())];
            answer.excess.clear();
            "closed".clone_into(&mut expected.caller);
            if expected.upstream == "used again" {
                "closed".clone_into(&mut expected.upstream);
            }
        } else {
            fit(
                head,
                is_old,
                &mut answer.framing,
                &mut answer.end,
                &mut expected.caller,
            );
        }
    }
    expected.answer = describe_answer(
        Some(&answer),
        Engine::Reference,
        &named_by_connection(round),
    );
    expected
}

/// Applies what the gateway changes in an answer that it passes on.
fn fit(head: &mut Head, is_old: bool, framing: &mut Framing, end: &mut End, caller: &mut String) {
    if head.status() == 204 {
        head.fields
            .retain(|(name, _)| !FRAMING_FIELDS.contains(&name.as_str()));
    }
    if head.status() != 426 {
        head.fields.retain(|(name, _)| name != "upgrade");
    }
    if is_old && !head.all("transfer-encoding").is_empty() {
        head.fields.retain(|(name, _)| name != "transfer-encoding");
        if *framing == Framing::Chunked {
            (*framing, *end) = (Framing::Close, End::Whole);
            "not asked".clone_into(caller);
        }
    }
    head.line = head.line.replacen("HTTP/1.0 ", "HTTP/1.1 ", 1);
}

/// Whether Pingora leaves exactly one framing in a head.
fn is_framed_once(head: &Head) -> bool {
    let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
    let is_number = |it: &&str| it.bytes().all(|byte| byte.is_ascii_digit());
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => true,
        ([length], []) => is_number(length),
        ([], [coding]) => {
            coding.eq_ignore_ascii_case("chunked") && head.line.starts_with("HTTP/1.1")
        }
        _ => false,
    }
}
