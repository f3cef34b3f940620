//! Checks of a request head before anything else reads it.
//!
//! Pingora's own parser is lenient where upstream servers may not be, and hides some of what it corrected. So every
//! head is checked here first, on its raw bytes, and only one that has exactly one reading is passed on. Nothing is
//! repaired, except that bytes of the target which must be escaped are ([`HeadCheck::rewritten`]).
//!
//! Source: RFC 9112 sections 2.2, 3, 5 and 6; RFC 9110 sections 5.5, 7.2 and 8.6.

pub mod body;

use std::ops::Range;

use memchr::memchr;

use crate::model::deny::DenyReason;
use crate::proxy::guard::body::Framing;
use crate::route::escape::push_escape;
use crate::route::head::{METHOD_BYTES_MAX, check_field_name, check_method, host_of};

/// Maximum length of a request line without its target: a method, two spaces, a version.
const LINE_EXTRA_BYTES: usize = METHOD_BYTES_MAX + 12;
/// Maximum number of empty lines before a request line; RFC 9112 section 2.2 requires one.
const BLANK_LINES_MAX: usize = 2;

/// The size limits of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadLimits {
    /// Request line, header fields and the empty line.
    pub bytes_max: usize,
    /// Number of header fields.
    pub fields_max: usize,
    /// The request target.
    pub target_bytes_max: usize,
}

/// The progress of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadProgress {
    /// Valid so far, but incomplete.
    Partial,
    /// Complete, in this many bytes.
    Whole(usize),
}

/// A checker of one HTTP/1 head as it arrives.
#[derive(Debug, Default)]
pub struct HeadCheck {
    limits: HeadLimits,
    /// Number of bytes without a further line end.
    scanned: usize,
    /// Start of the current line.
    line_start: usize,
    blank_lines: usize,
    is_line_read: bool,
    is_http_10: bool,
    fields: usize,
    lengths: usize,
    length: u64,
    codings: usize,
    host: Option<Box<[u8]>>,
    /// The authority of a target in absolute-form.
    authority: Option<Box<[u8]>>,
    /// Position of the target, and the number of its bytes that must be escaped.
    target: Range<usize>,
    escapes: usize,
}

impl HeadCheck {
    /// Creates a checker for the next head of a connection.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Continues with `bytes`: everything received since the head's first byte, including the bytes passed before.
    /// Bytes after the head are not read.
    ///
    /// # Errors
    /// The reason why the head is refused; must not be called again after an error.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<HeadProgress, DenyReason> {
        loop {
            let fresh = bytes.get(self.scanned..).unwrap_or_default();
            let Some(found) = memchr(b'\n', fresh) else {
                self.scanned = bytes.len();
                return self.unfinished(bytes.len());
            };
            let end = self.scanned + found;
            let start = self.line_start;
            let line = bytes.get(start..end).unwrap_or_default();
            self.scanned = end + 1;
            self.line_start = end + 1;
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(DenyReason::RequestMalformed);
            };
            let is_last = self.is_line_read && line.is_empty();
            if !self.is_line_read {
                self.first_line(line, start)?;
            } else if is_last {
                self.all_fields()?;
            } else {
                self.field(line)?;
            }
            if self.limits.bytes_max < end + 1 {
                return Err(DenyReason::HeadTooLarge);
            }
            if is_last {
                return Ok(HeadProgress::Whole(end + 1));
            }
        }
    }

    /// Returns the framing of the body after a complete head.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        if 0 < self.codings {
            Framing::Chunked
        } else {
            Framing::Length(self.length)
        }
    }

    /// Checks whether the bytes so far already exceed a limit.
    fn unfinished(&self, len: usize) -> Result<HeadProgress, DenyReason> {
        let line_bytes_max = self.limits.target_bytes_max + LINE_EXTRA_BYTES;
        if !self.is_line_read && line_bytes_max < len - self.line_start {
            return Err(DenyReason::TargetTooLong);
        }
        if self.limits.bytes_max < len {
            return Err(DenyReason::HeadTooLarge);
        }
        Ok(HeadProgress::Partial)
    }

    /// Returns the bytes of a complete head with its target escaped as in URIs, if it was not sent so.
    ///
    /// Callers send some bytes raw that must be escaped, and the parser refuses them. Their escaped form is their only
    /// possible meaning.
    #[must_use]
    pub fn rewritten(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.escapes == 0 {
            return None;
        }
        let target = bytes.get(self.target.clone())?;
        let mut head = Vec::with_capacity(self.scanned + 2 * self.escapes);
        head.extend(bytes.get(..self.target.start)?);
        let mut is_path = true;
        for byte in target {
            is_path &= *byte != b'?';
            if is_escaped(*byte, is_path) {
                push_escape(*byte, &mut head);
            } else {
                head.push(*byte);
            }
        }
        head.extend(bytes.get(self.target.end..self.scanned)?);
        Some(head)
    }

    fn first_line(&mut self, line: &[u8], start: usize) -> Result<(), DenyReason> {
        if line.is_empty() && self.blank_lines < BLANK_LINES_MAX {
            self.blank_lines += 1;
            return Ok(());
        }
        self.is_line_read = true;
        let (method, rest) = split_once(line, b' ').ok_or(DenyReason::RequestMalformed)?;
        check_method(method)?;
        let old = rest.strip_suffix(b" HTTP/1.0");
        self.is_http_10 = old.is_some();
        let target = old.or_else(|| rest.strip_suffix(b" HTTP/1.1"));
        let target = target.ok_or(DenyReason::RequestMalformed)?;
        let target_start = start + method.len() + 1;
        self.target = target_start..target_start + target.len();
        self.escapes = count_escapes(target);
        if self.limits.target_bytes_max < target.len() + 2 * self.escapes {
            return Err(DenyReason::TargetTooLong);
        }
        self.authority = check_target(method, target)?.map(Into::into);
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), DenyReason> {
        let (name, value) = split_once(line, b':').ok_or(DenyReason::RequestMalformed)?;
        // The check of a name also covers folded lines and space before the colon.
        check_field_name(name)?;
        if !is_field_value(value) {
            return Err(DenyReason::RequestMalformed);
        }
        self.fields += 1;
        if self.limits.fields_max < self.fields {
            return Err(DenyReason::HeadTooLarge);
        }
        let is_sound = match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(value.trim_ascii()),
            6 if name.eq_ignore_ascii_case(b"expect") => is_known_expectation(value),
            10 if name.eq_ignore_ascii_case(b"connection") => names_no_framing(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                let length = length_of(value.trim_ascii());
                self.length = length.unwrap_or(0);
                self.lengths == 1 && length.is_some()
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.codings += 1;
                self.codings == 1 && value.trim_ascii().eq_ignore_ascii_case(b"chunked")
            }
            _ => true,
        };
        is_sound.then_some(()).ok_or(DenyReason::RequestMalformed)
    }

    fn take_host(&mut self, value: &[u8]) -> bool {
        let is_first = self.host.is_none();
        self.host = Some(value.into());
        is_first && host_of(value).is_some()
    }

    /// Checks the rules that concern all fields together.
    fn all_fields(&self) -> Result<(), DenyReason> {
        let is_framed_once = self.lengths + self.codings <= 1;
        let is_coding_known = self.codings == 0 || !self.is_http_10;
        let is_host_one = match (&self.host, &self.authority) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(host), Some(authority)) => host.eq_ignore_ascii_case(authority),
        };
        (is_framed_once && is_coding_known && is_host_one)
            .then_some(())
            .ok_or(DenyReason::RequestMalformed)
    }
}

/// Whether all fields named in `Connection` may be dropped. Without Host or framing the next reader would see another
/// request (RFC 9110 section 7.6.1).
fn names_no_framing(value: &[u8]) -> bool {
    let framing: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
    value.split(|byte| *byte == b',').all(|token| {
        let token = token.trim_ascii();
        !framing.iter().any(|name| token.eq_ignore_ascii_case(name))
    })
}

/// Whether this is the only registered expectation. Servers disagree about the body after any other (RFC 9110 section
/// 10.1.1 lets each refuse or ignore it).
fn is_known_expectation(value: &[u8]) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(b"100-continue")
}

/// Checks an HTTP/2 head. Its framing is checked by h2; this checks the names, the authority and the sizes.
///
/// Source: RFC 9113 sections 8.2.2 and 8.3.1.
///
/// # Errors
/// The reason why the head is refused.
pub fn check_h2(head: &http::request::Parts, limits: &HeadLimits) -> Result<(), DenyReason> {
    check_method(head.method.as_str().as_bytes())?;
    let target = head.uri.path_and_query().map_or("", |it| it.as_str());
    if limits.target_bytes_max < target.len() {
        return Err(DenyReason::TargetTooLong);
    }
    check_target(head.method.as_str().as_bytes(), target.as_bytes())?;
    if 0 < count_escapes(target.as_bytes()) {
        return Err(DenyReason::RequestMalformed);
    }
    let field_bytes: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if limits.fields_max < head.headers.len() || limits.bytes_max < target.len() + field_bytes {
        return Err(DenyReason::HeadTooLarge);
    }
    let is_sound = h2_authority_is_one(head) && head.headers.iter().all(h2_field_is_sound);
    let lengths = head.headers.get_all(http::header::CONTENT_LENGTH);
    if !is_sound || 1 < lengths.iter().count() {
        return Err(DenyReason::RequestMalformed);
    }
    let mut names = head.headers.keys();
    names.try_for_each(|name| check_field_name(name.as_str().as_bytes()))
}

fn h2_authority_is_one(head: &http::request::Parts) -> bool {
    let authority = head.uri.authority().map(|it| it.as_str().as_bytes());
    let mut hosts = head.headers.get_all(http::header::HOST).iter();
    let host = hosts.next().map(http::HeaderValue::as_bytes);
    let agrees = match (authority, host) {
        (None, None) => false,
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => true,
    };
    agrees && hosts.next().is_none() && authority.or(host).and_then(host_of).is_some()
}

fn h2_field_is_sound((name, value): (&http::HeaderName, &http::HeaderValue)) -> bool {
    let value = value.as_bytes();
    let is_allowed = match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => false,
        "te" => value.eq_ignore_ascii_case(b"trailers"),
        "content-length" => length_of(value).is_some(),
        "expect" => is_known_expectation(value),
        _ => true,
    };
    is_allowed && is_field_value(value)
}

/// Whether the parser refuses a byte of a target although it can only mean its escape: bytes that URIs do not contain
/// (RFC 3986 section 2), and non-ASCII bytes.
const fn is_escaped(byte: u8, is_path: bool) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | 0x80..) || (is_path && byte == b'`')
}

fn count_escapes(target: &[u8]) -> usize {
    let mut is_path = true;
    let escaped = target.iter().filter(|byte| {
        is_path &= **byte != b'?';
        is_escaped(**byte, is_path)
    });
    escaped.count()
}

/// Checks the form of a target; returns the authority of one in absolute-form.
fn check_target<'a>(method: &[u8], target: &'a [u8]) -> Result<Option<&'a [u8]>, DenyReason> {
    let is_sound = |byte: &u8| (byte.is_ascii_graphic() && *byte != b'#') || !byte.is_ascii();
    if !target.iter().all(is_sound) {
        return Err(DenyReason::RequestMalformed);
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let rest = strip_scheme(target).ok_or(DenyReason::RequestMalformed)?;
    let mut parts = rest.split(|byte| matches!(byte, b'/' | b'?'));
    let authority = parts.next().unwrap_or_default();
    host_of(authority).ok_or(DenyReason::RequestMalformed)?;
    Ok(Some(authority))
}

/// Returns the part after `http://` or `https://`.
fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = split_once(target, b':')?;
    let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    rest.strip_prefix(b"//").filter(|_| is_http)
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

/// Parses a length: digits only, and few enough to fit. A list of equal lengths is refused too, since the next server
/// may read it differently.
fn length_of(value: &[u8]) -> Option<u64> {
    let is_sound = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_sound);
    text?.parse().ok()
}

/// Whether a value has no control character except the tab. Bytes from 0x80 on pass: opaque, but harmless.
fn is_field_value(value: &[u8]) -> bool {
    // Without a branch per byte, so that it is vectorised.
    let is_control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
    !value
        .iter()
        .fold(false, |found, byte| found | is_control(*byte))
}

#[cfg(test)]
mod tests;
