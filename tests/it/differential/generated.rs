//! Cases from a generator: correct answers in any pieces, and damaged ones.

use std::fmt::Write;

use crate::differential::cases::{GET, GET_LAST, GET_OLD, HEAD, POST, POST_CHUNKED};
use crate::differential::model::{Meaning, meaning};
use crate::differential::script::{Case, PAUSE_MS, Round, Step, byte_by_byte, steps};

/// Xorshift: any fast generator is good enough.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

const REQUESTS: [&str; 8] = [GET, GET, GET, GET_LAST, GET_OLD, HEAD, POST, POST_CHUNKED];
const STATUSES: [&str; 10] = [
    "200 OK",
    "200 OK",
    "200 OK",
    "200 ",
    "206 Partial Content",
    "204 No Content",
    "304 Not Modified",
    "404 Not Found",
    "500 Broken",
    "299 Odd",
];
const INTERIM: [&str; 3] = [
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 102 Processing\r\nX-A: b\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
];
const FIELDS: [&str; 10] = [
    "X-A: one\r\n",
    "x-a: two\r\n",
    "Content-Type: text/plain\r\n",
    "Set-Cookie: a=b; Path=/\r\n",
    "ETag: \"x\"\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n",
    "Connection: X-Hop\r\nX-Hop: b\r\n",
    "Vary:\r\n",
    "Server: upstream\r\n",
];
const BAD_FIELDS: [&str; 10] = [
    "X-A : b\r\n",
    "X-A: b\n",
    "X-A: b\r\n folded\r\n",
    "X-A: b\0c\r\n",
    "X-A: b\u{e9}\r\n",
    "X-A\r\n",
    ": b\r\n",
    "X-A: b\rc\r\n",
    "X(A): b\r\n",
    " X-A: b\r\n",
];
const CODINGS: [&str; 5] = [
    "gzip, chunked",
    "chunked, chunked",
    "identity",
    "chunked;a=b",
    "gzip",
];
const BAD_CHUNKS: [&str; 8] = [
    "zz\r\n",
    "-1\r\n",
    "5\n",
    "0x3\r\nabc\r\n",
    "3\r\nabcd\r\n",
    "ffffffffffffffff\r\n",
    "3 \r\nabc\r\n",
    "10000000000000003\r\nabc\r\n",
];

/// Returns this many cases; the same for the same seed.
pub(super) fn generated(seed: u64, count: usize) -> Vec<Case> {
    let mut random = Random::new(seed);
    (0..count)
        .map(|index| {
            let mut case = Case::new(
                format!("seed {seed}, number {index}"),
                random.pick(&REQUESTS),
                "",
            );
            let bytes = answer(&mut random);
            let round = &mut case.rounds[0];
            round.answer = pieces(&mut random, &bytes);
            end(&mut random, round);
            case
        })
        .collect()
}

/// Returns the bytes of an answer.
fn answer(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    if random.one_in(4) {
        for _ in 0..=random.below(2) {
            text.push_str(random.pick(&INTERIM));
        }
    }
    text.push_str(if random.one_in(8) {
        "HTTP/1.0 "
    } else {
        "HTTP/1.1 "
    });
    let status = random.pick(&STATUSES);
    text.push_str(status);
    text.push_str("\r\n");
    for _ in 0..random.below(4) {
        let field = random.pick(&FIELDS);
        // A second one is known to be overlooked: `differences`.
        if !(field.starts_with("Connection") && text.contains("Connection")) {
            text.push_str(field);
        }
    }
    if random.one_in(8) {
        text.push_str(random.pick(&BAD_FIELDS));
    }
    let is_bodyless = status.starts_with("204") || status.starts_with("304");
    text.push_str(&framed(random, is_bodyless));
    let mut bytes: Vec<u8> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect();
    if random.one_in(10) {
        let place = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[place] ^= 1 << random.below(8),
            1 => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
    }
    bytes
}

/// Returns the framing, the empty line and the body.
fn framed(random: &mut Random, is_bodyless: bool) -> String {
    let sizes = [0, 1, 5, 20, 300, 5000, 40_000];
    let size = random.pick(&sizes);
    let body: String = (0..size)
        .map(|index| char::from(b"abcdefghijklmnopqrstuvw"[index % 23]))
        .collect();
    if is_bodyless && !random.one_in(4) {
        return "\r\n".to_owned();
    }
    match random.below(16) {
        0..=3 => format!("Content-Length: {size}\r\n\r\n{body}"),
        4 => format!(
            "Content-Length: {}\r\n\r\n{body}",
            size + 1 + random.below(9)
        ),
        5 => format!(
            "Content-Length: {size}\r\n\r\n{body}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
        ),
        6 => format!("Content-Length: {size}\r\nContent-Length: {size}\r\n\r\n{body}"),
        7 => format!(
            "Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            chunked(random, &body)
        ),
        8 => {
            let coding = random.pick(&CODINGS);
            format!(
                "Transfer-Encoding: {coding}\r\n\r\n{}",
                chunked(random, &body)
            )
        }
        9 | 10 => format!("\r\n{body}"),
        11 => {
            let chunk = random.pick(&BAD_CHUNKS);
            format!("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n{chunk}0\r\n\r\n")
        }
        _ => format!(
            "Transfer-Encoding: chunked\r\n\r\n{}",
            chunked(random, &body)
        ),
    }
}

fn chunked(random: &mut Random, body: &str) -> String {
    let mut text = String::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + random.below(rest.len().min(9000)));
        let extension = if random.one_in(5) { ";a=\"b\"" } else { "" };
        let size = chunk.len();
        let _ = write!(text, "{size:x}{extension}\r\n{chunk}\r\n");
        rest = after;
    }
    text.push_str("0\r\n");
    if random.one_in(5) {
        text.push_str("X-Sum: 1\r\n");
    }
    text.push_str("\r\n");
    text
}

/// Cuts an answer into pieces with pauses between.
fn pieces(random: &mut Random, bytes: &[u8]) -> Vec<Step> {
    let whole = vec![Step::Write(bytes.to_vec())];
    if bytes.is_empty() {
        return Vec::new();
    }
    if bytes.len() < 150 && random.one_in(6) {
        return byte_by_byte(&whole, 0);
    }
    let mut places: Vec<_> = (0..random.below(4))
        .map(|_| random.below(bytes.len()))
        .collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.dedup();
    let mut steps = Vec::new();
    for pair in places.windows(2) {
        steps.extend([
            Step::Write(bytes[pair[0]..pair[1]].to_vec()),
            Step::Pause(3),
        ]);
    }
    steps.pop();
    steps
}

/// Ends the connection, unless the answer is complete and it may stay open: no case waits for a timeout.
pub(super) fn end(random: &mut Random, round: &mut Round) {
    let is_whole = matches!(meaning(round), Meaning::Whole { .. });
    if is_whole && !random.one_in(3) {
        return;
    }
    round.answer.extend(steps("→"));
    round.answer.push(Step::Pause(PAUSE_MS));
    let is_reset = random.one_in(6);
    round
        .answer
        .push(if is_reset { Step::Reset } else { Step::Fin });
}
