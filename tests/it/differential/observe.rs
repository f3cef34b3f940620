//! What one proxy did in a case, as texts that can be compared.
//!
//! Everything that is left out of a comparison is a constant of this file with its reason.

use std::fmt::Write;

use crate::differential::scripted::ConnectionLog;
use crate::differential::wire::{
    Answer, ChunksEnd, End, Framing, Head, RequestFraming, chunks, end_of_head, latin1,
    request_framing,
};

/// Fields of an answer that are not compared.
const IGNORED_TO_CALLER: [&str; 3] = [
    // Pingora sets the time of the answer.
    "date",
    // The gateway adds it (src/proxy/headers). `is_identified` checks that it is there.
    "x-request-id",
    // Pingora writes it according to the caller's connection, and what becomes of that is compared.
    "connection",
];

/// Fields of a request to the upstream that are not compared: the gateway adds them (src/proxy/headers, with its tests).
const IGNORED_TO_UPSTREAM: [&str; 5] = [
    "x-auth-method",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Fields of an answer that are about one connection. The gateway removes them, and Pingora passes them on (RFC 9110
/// section 7.6.1).
const HOP_BY_HOP: [&str; 3] = ["keep-alive", "proxy-connection", "trailer"];

/// The proxy that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Reference,
    Doorward,
}

/// A part of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What the callers received.
    Answer,
    /// What became of the last caller's connection.
    Caller,
    /// What the upstream received.
    Sent,
    /// What became of the upstream connections of the case.
    Upstream,
}

/// What happened in a case.
#[derive(Clone, Debug, Default)]
pub(super) struct Observation {
    pub(super) answer: String,
    pub(super) caller: String,
    pub(super) sent: String,
    pub(super) upstream: String,
    /// The answers as they came, without those to callers that left.
    pub(super) answers: Vec<Answer>,
    /// The connections to the upstream.
    pub(super) connections: Vec<ConnectionLog>,
    /// Violations of what holds in every case.
    pub(super) violations: Vec<String>,
}

impl Observation {
    pub(super) fn part(&self, part: Part) -> &str {
        match part {
            Part::Answer => &self.answer,
            Part::Caller => &self.caller,
            Part::Sent => &self.sent,
            Part::Upstream => &self.upstream,
        }
    }
}

/// Whether a proxy wrote this answer itself, because it could not pass on one of the upstream.
pub(super) fn is_own(answer: &Answer, engine: Engine) -> bool {
    let Some(head) = &answer.head else {
        return false;
    };
    match engine {
        Engine::Reference => head.all("server") == ["Pingora"],
        Engine::Doorward => head.all("content-type") == ["application/problem+json"],
    }
}

/// Describes an answer: the status of a failure, or everything that came.
pub(super) fn describe_answer(answer: Option<&Answer>, engine: Engine, named: &[String]) -> String {
    let Some(answer) = answer else {
        return "the caller left\n".to_owned();
    };
    let mut text = String::new();
    // Whether they leave before a failure is noticed is a matter of time.
    if !is_own(answer, engine) {
        for head in &answer.interim {
            // hyper keeps no phrase of an interim answer.
            let line = head.line.splitn(3, ' ').take(2).collect::<Vec<_>>();
            let line = line.join(" ");
            let head = Head {
                line,
                ..head.clone()
            };
            describe_head(&mut text, &head, engine, named);
        }
    }
    let Some(head) = &answer.head else {
        let _ = writeln!(text, "no answer, {:?}", answer.end);
        return text;
    };
    if is_own(answer, engine) {
        // The forms of the two differ, and tests/it checks the gateway's elsewhere.
        let _ = writeln!(text, "failure {}", head.status());
    } else {
        describe_head(&mut text, head, engine, named);
        let framing = match answer.framing {
            Framing::None => "no body",
            Framing::Length(_) => "length",
            Framing::Chunked => "chunked",
            Framing::Close => "until close",
            Framing::Tunnel => "tunnel",
        };
        // How much arrives before a fault depends on how much a proxy reads at a time: Pingora drops what it has read with
        // the fault, hyper passes it on.
        let _ = match answer.end {
            End::Cut => writeln!(text, "{framing} Cut"),
            end => writeln!(text, "{framing} {end:?} {}", shortened(&answer.body)),
        };
    }
    if !answer.excess.is_empty() {
        let _ = writeln!(text, "then {}", shortened(&answer.excess));
    }
    text
}

fn describe_head(text: &mut String, head: &Head, engine: Engine, named: &[String]) {
    let _ = writeln!(text, "{}", head.line.escape_debug());
    let is_shown = |name: &str| {
        let is_hop = HOP_BY_HOP.contains(&name) || named.iter().any(|it| it == name);
        let is_removed_later = engine == Engine::Reference && is_hop;
        !IGNORED_TO_CALLER.contains(&name) && !is_removed_later
    };
    fields(text, head, is_shown);
}

/// Writes fields, ordered by name: their order means something only among those of one name (RFC 9110 section 5.3).
fn fields(text: &mut String, head: &Head, is_shown: impl Fn(&str) -> bool) {
    let mut fields: Vec<_> = head
        .fields
        .iter()
        .filter(|(name, _)| is_shown(name))
        .collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, value) in fields {
        let value = shortened(value.as_bytes());
        let _ = writeln!(text, "{}: {value}", name.escape_debug());
    }
}

/// Returns a body as text; a long one by its length and a sum of its bytes.
pub(super) fn shortened(bytes: &[u8]) -> String {
    if bytes.len() <= 200 {
        return format!("{:?}", latin1(bytes));
    }
    let sum = bytes.iter().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    format!("{} bytes {sum:x}", bytes.len())
}

/// Describes every request of a case as the upstream received it. How much arrived of a body that is cut off depends on
/// time alone. `ends_early`: the upstream ends before the body does, and whether the rest of it still arrives depends on
/// time too.
pub(super) fn describe_sent(connections: &[ConnectionLog], ends_early: bool) -> String {
    let mut text = String::new();
    let all = connections.iter().enumerate();
    let requests =
        all.flat_map(|(index, log)| log.requests.iter().map(move |at| (index, log, *at)));
    for (index, log, begin) in requests {
        let rest = &log.bytes[begin..];
        let Some(end) = end_of_head(rest) else {
            let _ = writeln!(text, "connection {index}: no head: {}", shortened(rest));
            continue;
        };
        let head = Head::read(&rest[..end]);
        let _ = writeln!(text, "connection {index}: {}", head.line.escape_debug());
        fields(&mut text, &head, |name| {
            !IGNORED_TO_UPSTREAM.contains(&name)
        });
        let (body, is_whole) = sent_body(&rest[end..], request_framing(&rest[..end]));
        let body = match (ends_early, is_whole) {
            (true, _) => "a body".to_owned(),
            (false, true) => format!("whole {}", shortened(&body)),
            (false, false) => "cut".to_owned(),
        };
        let _ = writeln!(text, "{body}");
    }
    text
}

/// Returns the body of a request without its framing, and whether it is complete. The pieces of a chunked body are not
/// compared: a proxy may cut it anywhere.
pub(super) fn sent_body(bytes: &[u8], framing: RequestFraming) -> (Vec<u8>, bool) {
    match framing {
        RequestFraming::None => (Vec::new(), true),
        RequestFraming::Length(length) => {
            let body = &bytes[..length.min(bytes.len())];
            (body.to_vec(), body.len() == length)
        }
        RequestFraming::Chunked => {
            let (body, end) = chunks(bytes);
            (body, matches!(end, ChunksEnd::At(_)))
        }
    }
}

/// Returns violations of what the gateway owes every caller: one framing, its id, and nothing after the end.
pub(super) fn malformed_answers(answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let Some(head) = &answer.head else {
        return found;
    };
    let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
    if 1 < lengths.len() + codings.len() {
        found.push(format!("framed twice: {head:?}"));
    }
    if !codings.iter().all(|it| it.eq_ignore_ascii_case("chunked")) {
        found.push(format!("an unknown coding: {head:?}"));
    }
    let is_number = |it: &&str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
    if !lengths.iter().all(is_number) {
        found.push(format!("no length: {head:?}"));
    }
    if answer.framing == Framing::None && head.status() == 204 && !lengths.is_empty() {
        found.push(format!("a length without a body: {head:?}"));
    }
    if head.all("x-request-id").len() != 1 {
        found.push(format!("no request id: {head:?}"));
    }
    let forbidden = |it: char| matches!(it, '\0' | '\r' | '\n');
    let heads = answer.interim.iter().chain([head]);
    for head in heads {
        let texts = head.fields.iter().flat_map(|(name, value)| [name, value]);
        if texts.chain([&head.line]).any(|it| it.contains(forbidden)) {
            found.push(format!("control characters: {head:?}"));
        }
    }
    if answer.end == End::Stalled {
        found.push("the answer does not end".to_owned());
    }
    found
}
