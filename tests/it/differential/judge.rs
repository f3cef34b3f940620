//! Whether what the gateway did in a case is right.

use std::fmt::Write;

use crate::differential::differences::{
    INCOMPLETE, USED_AGAIN, expected, is_cut_for_old_caller, is_known, stated,
};
use crate::differential::model::{Meaning, meaning};
use crate::differential::observe::{Engine, Observation, Part, is_own, sent_body, shortened};
use crate::differential::rig::Rig;
use crate::differential::script::{Case, Step};
use crate::differential::wire::{End, Head, end_of_head, is_field, request_framing};

/// Number of runs after which a difference counts.
pub(super) const ATTEMPTS: usize = 3;
const PARTS: [Part; 4] = [Part::Answer, Part::Caller, Part::Sent, Part::Upstream];

/// What is wrong with a case.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// What no case may do.
    violations: Vec<String>,
    /// Differences from the reference that are not stated.
    differences: Vec<String>,
}

/// A check of what both proxies did.
pub(super) type Judge = fn(&Case, &[Observation; 2]) -> Findings;

/// Returns the cases with which something is wrong, each with a report. A difference counts if it occurs three times: the
/// reference too depends on time in what it does. A violation counts at once.
pub(super) fn check(rig: &Rig, cases: &[Case], judge: Judge) -> Vec<(Case, String)> {
    let mut wrong = Vec::new();
    let mut open = cases.to_vec();
    for attempt in 0..ATTEMPTS {
        let seen = rig.run(&open);
        let mut again = Vec::new();
        for (case, seen) in open.iter().zip(&seen) {
            let found = judge(case, seen);
            let is_last = attempt + 1 == ATTEMPTS && !found.differences.is_empty();
            if is_last || !found.violations.is_empty() {
                wrong.push((case.clone(), report(case, &found, &seen[1])));
            } else if !found.differences.is_empty() {
                again.push(case.clone());
            }
        }
        open = again;
    }
    wrong
}

/// Judges a case of the table, whose differences are stated one by one.
pub(super) fn judge_stated(case: &Case, seen: &[Observation; 2]) -> Findings {
    let [reference, doorward] = seen;
    let mut found = Vec::new();
    for part in PARTS {
        let stated = stated(&case.name, part);
        let (one, other) = (reference.part(part), doorward.part(part));
        let is_right = match stated {
            Some((reference, doorward)) => one.trim() == reference && other.trim() == doorward,
            None => one == other,
        };
        if !is_right {
            found.push(difference(part, one, other));
        }
    }
    Findings {
        violations: violations(case, doorward),
        differences: found,
    }
}

/// Judges any other case, in which the gateway may differ by a rule only.
pub(super) fn judge_by_rules(case: &Case, seen: &[Observation; 2]) -> Findings {
    let [reference, doorward] = seen;
    if is_cut_for_old_caller(case, reference) {
        return violations_only(case, seen);
    }
    let expected = expected(case, reference);
    let mut found = Vec::new();
    for part in PARTS {
        let (one, other) = (expected.part(part), doorward.part(part));
        if one != other {
            found.push(difference(part, one, other));
        }
    }
    Findings {
        violations: violations(case, doorward),
        differences: found,
    }
}

/// Judges a case in which the two may differ in any way.
pub(super) fn violations_only(case: &Case, [_, doorward]: &[Observation; 2]) -> Findings {
    Findings {
        violations: violations(case, doorward),
        differences: Vec::new(),
    }
}

fn difference(part: Part, reference: &str, doorward: &str) -> String {
    format!("{part:?} differs\n--- reference\n{reference}\n--- doorward\n{doorward}")
}

/// Writes a finding with its case.
fn report(case: &Case, found: &Findings, seen: &Observation) -> String {
    let mut text = format!("\n==== {}\n", case.name);
    for round in &case.rounds {
        let _ = writeln!(
            text,
            "request: {:?}",
            round.request_bytes().escape_ascii().to_string()
        );
        let _ = writeln!(
            text,
            "answer: {:?}",
            round.answer_bytes().escape_ascii().to_string()
        );
    }
    if !found.violations.is_empty() {
        let _ = writeln!(
            text,
            "--- doorward\n{}{}{}",
            seen.answer, seen.sent, seen.upstream
        );
    }
    for one in found.violations.iter().chain(&found.differences) {
        let _ = writeln!(text, "{one}");
    }
    text
}

/// Returns every violation of what holds in each case, whatever the reference does.
fn violations(case: &Case, seen: &Observation) -> Vec<String> {
    let mut found = seen.violations.clone();
    found.extend(bad_requests(seen));
    let is_post = |bytes: &[u8]| bytes.starts_with(b"POST ");
    let asked = case.rounds.iter().filter(|it| is_post(&it.request_bytes()));
    let logs = seen.connections.iter();
    let sent = logs.flat_map(|log| log.requests.iter().map(|begin| &log.bytes[*begin..]));
    if asked.count() < sent.filter(|it| is_post(it)).count() {
        found.push("a POST was sent twice".to_owned());
    }
    found.extend(foreign_bodies(case, seen));
    let last = case.rounds.last().map(meaning);
    let answer = seen.answers.last();
    let is_single = case.rounds.len() == 1 && seen.answers.len() == 1;
    // A caller's error or an upgrade needs no upstream.
    let was_asked = seen.connections.iter().any(|it| !it.requests.is_empty());
    let is_taken = was_asked && is_single;
    if let (true, Some(answer), Some(meaning)) = (is_taken, answer, &last) {
        let own = is_own(answer, Engine::Doorward);
        let status = answer.head.as_ref().map_or(0, Head::status);
        match meaning {
            Meaning::Cut if !own && answer.end == End::Whole => {
                found.push(INCOMPLETE.to_owned());
            }
            Meaning::Whole {
                status: wanted,
                body,
                ..
            } if is_plain(case) && (own || (status, &answer.body) != (*wanted, body)) => {
                found.push("a correct answer was not passed on".to_owned());
            }
            _ => {}
        }
    }
    if let (
        true,
        Some(
            Meaning::Whole {
                may_reuse: false, ..
            }
            | Meaning::Cut,
        ),
    ) = (is_single, &last)
        && seen.upstream == "used again"
        && !case.rounds[0].is_early
    {
        found.push(USED_AGAIN.to_owned());
    }
    found.retain(|it| !is_known(case, it));
    found
}

/// Whether the request is complete, and its caller waits for the answer.
fn is_plain(case: &Case) -> bool {
    let round = &case.rounds[0];
    let bytes = round.request_bytes();
    let waits = !round.request.contains(&Step::Fin) && !round.request.contains(&Step::Reset);
    waits && bytes.starts_with(b"GET ") && end_of_head(&bytes) == Some(bytes.len())
}

/// Returns every body at the upstream that is not that of a caller, from its first byte on.
fn foreign_bodies(case: &Case, seen: &Observation) -> Vec<String> {
    let body_of = |bytes: &[u8]| {
        let end = end_of_head(bytes)?;
        Some(sent_body(&bytes[end..], request_framing(&bytes[..end])))
    };
    let asked = case
        .rounds
        .iter()
        .filter_map(|it| body_of(&it.request_bytes()));
    let asked: Vec<_> = asked.collect();
    let logs = seen.connections.iter();
    let sent = logs.flat_map(|log| log.requests.iter().map(|begin| &log.bytes[*begin..]));
    let mut found = Vec::new();
    for (body, is_whole) in sent.filter_map(body_of) {
        let is_it = |(own, _): &(Vec<u8>, bool)| {
            own.starts_with(&body) && (!is_whole || own.len() == body.len())
        };
        if !asked.iter().any(is_it) {
            found.push(format!("a body of no caller: {}", shortened(&body)));
        }
    }
    found
}

/// Returns what the upstream received that is no request.
fn bad_requests(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    for log in &seen.connections {
        for begin in &log.requests {
            let rest = &log.bytes[*begin..];
            let Some(end) = end_of_head(rest) else {
                continue;
            };
            let head = &rest[..end - 4];
            let mut lines = head.split(|byte| *byte == b'\n');
            let line = lines.next().unwrap_or_default();
            let is_strict = |line: &[u8]| is_field(line.strip_suffix(b"\r").unwrap_or(line));
            if !line.ends_with(b" HTTP/1.1\r") || !lines.clone().all(is_strict) {
                found.push(format!("no request: {}", head.escape_ascii()));
            }
            let framed = lines.filter(|line| {
                let line = line.to_ascii_lowercase();
                line.starts_with(b"content-length:") || line.starts_with(b"transfer-encoding:")
            });
            if 1 < framed.count() {
                found.push(format!("framed twice: {}", head.escape_ascii()));
            }
        }
        // A connection carries requests, and nothing between them.
        let first = log.requests.first().copied().unwrap_or(0);
        if first != 0 {
            found.push("bytes before the first request".to_owned());
        }
    }
    found
}
