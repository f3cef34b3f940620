//! The fuzz target `exchange`: arbitrary bytes of a caller and of an upstream.
//!
//! An input is the caller's bytes, a line `%%`, and the upstream's bytes. Four bytes that HTTP does not use have a
//! meaning: 0xFF is a short pause; 0xFE waits, as the caller for the head of the answer, as the upstream for the body of
//! the request; 0xFD closes the sending direction; 0xFC resets the connection. 0xFB makes the upstream answer before it
//! has read the body.

use crate::differential::generated::{Random, end};
use crate::differential::judge::{Findings, judge_by_rules, violations_only};
use crate::differential::observe::Observation;
use crate::differential::script::{Case, Progress, Round, Step};
use crate::differential::wire::{
    ChunksEnd, RequestFraming, chunks, end_of_head, is_field, request_framing,
};

const SEPARATOR: &[u8] = b"\n%%\n";
const EARLY: u8 = 0xFB;

/// Returns the case that an input describes.
pub(super) fn case_of(input: &[u8]) -> Case {
    let place = input
        .windows(SEPARATOR.len())
        .position(|it| it == SEPARATOR);
    let (request, answer) = match place {
        Some(place) => (&input[..place], &input[place + SEPARATOR.len()..]),
        None => (input, &[][..]),
    };
    let is_early = answer.contains(&EARLY);
    let mut round = Round {
        request: steps(request, &Step::Await(Progress::Head)),
        answer: steps(answer, &Step::AwaitBody),
        is_early,
    };
    if !is_whole(&round.request_bytes()) {
        // Nothing waits for a timeout.
        round.request.push(Step::Fin);
    }
    if !round.ends() {
        let seed = input.iter().fold(7, |sum: u64, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        end(&mut Random::new(seed), &mut round);
    }
    Case {
        name: format!("b\"{}\"", input.escape_ascii()),
        rounds: vec![round],
    }
}

fn steps(bytes: &[u8], wait: &Step) -> Vec<Step> {
    let mut steps = Vec::new();
    for piece in bytes.split_inclusive(|byte| 0xFB <= *byte) {
        let (text, sign) = match piece.split_last() {
            Some((sign, text)) if 0xFB <= *sign => (text, Some(*sign)),
            _ => (piece, None),
        };
        if !text.is_empty() {
            steps.push(Step::Write(text.to_vec()));
        }
        steps.extend(sign.and_then(|sign| match sign {
            0xFF => Some(Step::Pause(3)),
            0xFE => Some(wait.clone()),
            0xFD => Some(Step::Fin),
            0xFC => Some(Step::Reset),
            _ => None,
        }));
        if matches!(steps.last(), Some(Step::Fin | Step::Reset)) {
            break;
        }
    }
    // A reset may discard what was sent just before.
    if matches!(steps.last(), Some(Step::Reset | Step::Fin)) {
        steps.insert(steps.len() - 1, Step::Pause(20));
    }
    steps
}

/// Whether these bytes are exactly one request, and its body follows the grammar.
fn is_whole(bytes: &[u8]) -> bool {
    end_of_head(bytes).is_some_and(|end| {
        let body = &bytes[end..];
        match request_framing(&bytes[..end]) {
            RequestFraming::None => body.is_empty(),
            RequestFraming::Length(length) => body.len() == length,
            RequestFraming::Chunked => chunks(body).1 == ChunksEnd::At(body.len()),
        }
    })
}

/// Whether a request is so plain that both proxies must treat it alike. What the gateway refuses of others is tested
/// elsewhere (`framing`, the fuzz target `head`).
fn is_plain(round: &Round) -> bool {
    let bytes = round.request_bytes();
    let Some(end) = end_of_head(&bytes).filter(|_| is_whole(&bytes)) else {
        return false;
    };
    let head = bytes[..end - 4].to_vec();
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let methods: [&[u8]; 5] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE "];
    let is_line = methods.iter().any(|it| {
        let versions: [&[u8]; 2] = [b"{t} HTTP/1.1\r", b"{t} HTTP/1.0\r"];
        line.strip_prefix(*it)
            .is_some_and(|rest| versions.contains(&rest) || rest == b"{t} HTTP/1.1")
    });
    let names = [
        "host",
        "x-a",
        "x-b",
        "accept",
        "content-length",
        "transfer-encoding",
        "content-type",
    ];
    let mut seen = Vec::new();
    let fields_fit = lines.all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line).to_ascii_lowercase();
        let (name, value) = text.split_once(':').unwrap_or_default();
        let is_known = names.contains(&name) && !seen.contains(&name.to_owned());
        seen.push(name.to_owned());
        let value = value.trim_matches([' ', '\t']);
        is_known
            && is_field(line)
            && text.is_ascii()
            && match name {
                "host" => value == "up.test",
                "transfer-encoding" => value == "chunked",
                "content-length" => {
                    value.len() < 8
                        && value.bytes().all(|it| it.is_ascii_digit())
                        && !value.is_empty()
                }
                _ => true,
            }
    });
    let has = |name: &str| seen.iter().any(|it| it == name);
    let is_framed = !(has("content-length") && has("transfer-encoding"));
    let is_chunked_old = has("transfer-encoding") && line.ends_with(b"HTTP/1.0\r");
    let waits = !round
        .request
        .iter()
        .any(|step| matches!(step, Step::Fin | Step::Reset));
    // Whether a body is cut off where both see the same is a matter of time.
    let is_simple = !round.is_early || request_framing(&bytes[..end]) == RequestFraming::None;
    is_line && fields_fit && has("host") && is_framed && !is_chunked_old && waits && is_simple
}

/// Judges a case from an input.
pub(super) fn judge_fuzzed(case: &Case, seen: &[Observation; 2]) -> Findings {
    if is_plain(&case.rounds[0]) {
        judge_by_rules(case, seen)
    } else {
        violations_only(case, seen)
    }
}
