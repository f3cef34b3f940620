//! What an upstream's bytes mean, read strictly and independently of both proxies.

use crate::differential::script::{Round, Step};
use crate::differential::wire::{ChunksEnd, Head, chunks, end_of_head, is_field, line_at};

/// The meaning of an upstream's answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A complete answer that follows the grammar.
    Whole {
        status: u16,
        body: Vec<u8>,
        /// Whether the connection may carry another request: nothing follows, and nothing closes it.
        may_reuse: bool,
    },
    /// An answer that follows the grammar as far as it goes, and is incomplete.
    Cut,
    /// An answer that does not follow the grammar, or has a feature that this model leaves out.
    Unclear,
}

/// Reads the answer of a round.
pub(super) fn meaning(round: &Round) -> Meaning {
    let request = round.request_bytes();
    let to_head = request.starts_with(b"HEAD ");
    // An answer that a connection carries before it has ended by itself is complete at its end only.
    let ends_properly = round.answer.last() == Some(&Step::Fin);
    let bytes = round.answer_bytes();
    let mut rest = bytes.as_slice();
    loop {
        let Some(end) = end_of_head(rest) else {
            return if rest.is_empty() || is_begun_head(rest) {
                Meaning::Cut
            } else {
                Meaning::Unclear
            };
        };
        let Some(head) = strict_head(&rest[..end]) else {
            return Meaning::Unclear;
        };
        rest = &rest[end..];
        match head.status() {
            100 | 102..=199 => {}
            101 => return Meaning::Unclear,
            _ => return with_body(&head, rest, to_head, ends_properly, round.ends()),
        }
    }
}

fn with_body(head: &Head, rest: &[u8], to_head: bool, ends_properly: bool, ends: bool) -> Meaning {
    let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
    let options = head.all("connection").join(",").to_ascii_lowercase();
    let has = |wanted: &str| options.split(',').any(|it| it.trim() == wanted);
    let is_kept = head.line.starts_with("HTTP/1.1") || has("keep-alive");
    let is_close = has("close") || !is_kept;
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
    let is_chunked = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => false,
        ([length], []) if is_number(length) && length.len() < 10 => false,
        ([], [coding])
            if coding.eq_ignore_ascii_case("chunked") && head.line.starts_with("HTTP/1.1") =>
        {
            true
        }
        _ => return Meaning::Unclear,
    };
    let status = head.status();
    let whole = |body: &[u8], end: usize, may_reuse: bool| Meaning::Whole {
        status,
        body: body.to_vec(),
        may_reuse: may_reuse && end == rest.len() && !is_close && !ends,
    };
    if to_head || matches!(status, 204 | 304) {
        return whole(&[], 0, true);
    }
    if is_chunked {
        return match chunks(rest) {
            (body, ChunksEnd::At(end)) => whole(&body, end, true),
            (_, ChunksEnd::Open) => Meaning::Cut,
            (_, ChunksEnd::Bad) => Meaning::Unclear,
        };
    }
    match lengths.first().and_then(|it| it.parse::<usize>().ok()) {
        Some(length) if length <= rest.len() => whole(&rest[..length], length, true),
        None if ends_properly => whole(rest, rest.len(), false),
        _ => Meaning::Cut,
    }
}

/// Returns a head that follows the grammar, and is no larger than any proxy takes.
fn strict_head(bytes: &[u8]) -> Option<Head> {
    let head = Head::read(bytes);
    let mut place = head.line.len() + 2;
    let mut count = 0;
    loop {
        match line_at(bytes, place)? {
            [] => break,
            line if is_field(line) => place += line.len() + 2,
            _ => return None,
        }
        count += 1;
    }
    let digits = head.line.get(9..12)?;
    let is_line = ["HTTP/1.1 ", "HTTP/1.0 "]
        .iter()
        .any(|it| head.line.starts_with(it))
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && head.line.as_bytes().get(12) == Some(&b' ')
        && head.line.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && (100..600).contains(&head.status());
    (is_line && bytes.len() < 8000 && count < 60).then_some(head)
}

/// Whether this may be the beginning of a head.
fn is_begun_head(bytes: &[u8]) -> bool {
    let start = b"HTTP/1.1 ";
    let count = bytes.len().min(start.len());
    let mut pairs = bytes
        .windows(2)
        .map(|pair| (pair[0] == b'\r', pair[1] == b'\n'));
    let has_pairs_only = pairs.all(|(is_return, is_feed)| is_return == is_feed);
    bytes[..count] == start[..count] && has_pairs_only && bytes.len() < 8000
}
