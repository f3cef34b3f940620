//! The access record: one JSON line per request, on every way out.

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::clock::Timestamp;
use crate::telemetry::metrics::RequestOutcome;
use crate::telemetry::output::{Output, Stream};

/// Maximum length of a path in a record; a longer one is cut and ends with `…`. Strangers choose its length, and a slow
/// reader of the output must keep up with every line.
const PATH_BYTES_MAX: usize = 1024;

thread_local! {
    /// The buffer in which a thread writes a line before it is queued.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The fields of one request's line. Texts are escaped when written; the query is not included.
#[derive(Debug)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct AccessRecord<'a> {
    /// Time of the response, written as RFC 3339, UTC.
    #[cfg_attr(test, serde(serialize_with = "tests::time"))]
    pub time: Timestamp,
    /// The request's id.
    pub request_id: &'a str,
    /// The client's address, after trusted proxies.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: &'a str,
    /// The requested host.
    pub host: &'a str,
    /// The canonical path, or the raw one if it was refused; never the query. At most 1 KiB of it is written.
    #[cfg_attr(test, serde(serialize_with = "tests::path"))]
    pub path: &'a str,
    /// The route, as written in the configuration.
    pub route: Option<&'a str>,
    /// The outcome.
    pub outcome: RequestOutcome,
    /// Code of the refusal or failure.
    pub reason: Option<&'a str>,
    /// The fault of the refused credential or forwarding proxy, which is not disclosed to the caller.
    pub fault: Option<&'a str>,
    /// Status of the response; 0 if there was none.
    pub status: u16,
    /// The principal's subject.
    pub subject: Option<&'a str>,
    /// The means of authentication.
    pub method_authn: Option<&'a str>,
    /// The id of the API key, accepted or not.
    pub key_id: Option<&'a str>,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
    /// Bytes of the response body.
    pub bytes_sent: u64,
    /// Duration in microseconds.
    pub duration_us: u64,
}

impl AccessRecord<'_> {
    /// Appends the record as one line of JSON: every field in every line, `null` if unknown.
    ///
    /// Written by hand rather than by `serde_json`, since this is done for every request.
    fn push_line(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"time\":\"");
        self.time.push_rfc3339(line);
        line.extend_from_slice(b"\",\"request_id\":");
        push_text(line, self.request_id);
        line.extend_from_slice(b",\"client\":");
        push_address(line, self.client);
        line.extend_from_slice(b",\"method\":");
        push_text(line, self.method);
        line.extend_from_slice(b",\"host\":");
        push_text(line, self.host);
        line.extend_from_slice(b",\"path\":");
        push_path(line, self.path);
        line.extend_from_slice(b",\"route\":");
        push_known(line, self.route);
        line.extend_from_slice(b",\"outcome\":");
        push_text(line, self.outcome.as_str());
        line.extend_from_slice(b",\"reason\":");
        push_known(line, self.reason);
        line.extend_from_slice(b",\"fault\":");
        push_known(line, self.fault);
        line.extend_from_slice(b",\"status\":");
        push_number(line, self.status.into());
        line.extend_from_slice(b",\"subject\":");
        push_known(line, self.subject);
        line.extend_from_slice(b",\"method_authn\":");
        push_known(line, self.method_authn);
        line.extend_from_slice(b",\"key_id\":");
        push_known(line, self.key_id);
        line.extend_from_slice(b",\"upstream\":");
        push_known(line, self.upstream);
        line.extend_from_slice(b",\"bytes_sent\":");
        push_number(line, self.bytes_sent);
        line.extend_from_slice(b",\"duration_us\":");
        push_number(line, self.duration_us);
        line.extend_from_slice(b"}\n");
    }
}

fn push_path(line: &mut Vec<u8>, path: &str) {
    match path.get(..path.floor_char_boundary(PATH_BYTES_MAX)) {
        Some(head) if head.len() < path.len() => {
            line.push(b'"');
            push_escaped(line, head);
            line.extend_from_slice("…\"".as_bytes());
        }
        _ => push_text(line, path),
    }
}

fn push_known(line: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_text(line, text),
        None => line.extend_from_slice(b"null"),
    }
}

fn push_text(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    push_escaped(line, text);
    line.push(b'"');
}

/// Appends a text with the characters escaped that a JSON string cannot contain (RFC 8259 section 7).
fn push_escaped(line: &mut Vec<u8>, text: &str) {
    // Hardly any text has one. It is searched without a branch per byte, so that the search is vectorised.
    let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let bytes = text.as_bytes();
    if !bytes
        .iter()
        .fold(false, |any, byte| any | is_special(*byte))
    {
        line.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => {
                // Writing to a vector does not fail.
                let _ = write!(line, "\\u{byte:04x}");
                continue;
            }
            _ => {
                line.push(byte);
                continue;
            }
        };
        line.extend_from_slice(&[b'\\', short]);
    }
}

fn push_number(line: &mut Vec<u8>, number: u64) {
    // Of the longest number.
    let mut digits = [0; 20];
    let (mut rest, mut begin) = (number, digits.len());
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        begin -= 1;
        if rest == 0 {
            break;
        }
    }
    line.extend_from_slice(digits.get(begin..).unwrap_or_default());
}

fn push_address(line: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        Some(IpAddr::V4(address)) => {
            for (octet, before) in address.octets().into_iter().zip(*b"\"...") {
                line.push(before);
                push_number(line, octet.into());
            }
            line.push(b'"');
        }
        Some(IpAddr::V6(address)) => {
            // Writing to a vector does not fail.
            let _ = write!(line, "\"{address}\"");
        }
        None => line.extend_from_slice(b"null"),
    }
}

/// A writer of access records, if they are enabled. No request ever waits for the reader of the log.
#[derive(Debug)]
pub struct AccessLog(Option<Arc<Output>>);

impl AccessLog {
    /// Creates a log that writes to an output.
    #[must_use]
    pub fn onto(output: Arc<Output>) -> Self {
        Self(Some(output))
    }

    /// Creates a log that writes nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Whether records are enabled, so that none is built only to be discarded.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Queues one record.
    pub fn write(&self, record: &AccessRecord<'_>) {
        let Some(output) = &self.0 else {
            return;
        };
        LINE.with_borrow_mut(|line| {
            line.clear();
            record.push_line(line);
            output.line(Stream::Access, &*line);
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;
    use serde::Serializer;

    use super::*;
    use crate::telemetry::test_kit::Lines;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339())
    }

    pub(super) fn path<S: Serializer>(path: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let head = path.get(..path.floor_char_boundary(PATH_BYTES_MAX));
        match head.filter(|head| head.len() < path.len()) {
            Some(head) => serializer.serialize_str(&format!("{head}…")),
            None => serializer.serialize_str(path),
        }
    }

    fn line_of(record: &AccessRecord<'_>) -> String {
        let mut line = Vec::new();
        record.push_line(&mut line);
        String::from_utf8(line).unwrap()
    }

    fn record(path: &str) -> AccessRecord<'_> {
        AccessRecord {
            time: Timestamp::from_secs(1_896_091_200),
            request_id: "0123456789abcdef",
            client: Some([127, 0, 0, 1].into()),
            method: "GET",
            host: "a.example",
            path,
            route: None,
            outcome: RequestOutcome::UpstreamError,
            reason: None,
            fault: None,
            status: 502,
            subject: Some("u-aaaaaaaa"),
            method_authn: Some("jwt"),
            key_id: None,
            upstream: Some("app"),
            bytes_sent: 7,
            duration_us: 1500,
        }
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let lines = Lines::default();
        let output = lines.output();
        AccessLog::onto(Arc::clone(&output)).write(&record("/x\n{\"forged\":1}\u{1b}[31m"));
        output.close();
        assert_eq!(
            lines.text(),
            "{\"time\":\"2030-01-31T12:00:00.000Z\",\"request_id\":\"0123456789abcdef\",\"client\":\"127.0.0.1\",\
             \"method\":\"GET\",\"host\":\"a.example\",\"path\":\"/x\\n{\\\"forged\\\":1}\\u001b[31m\",\
             \"route\":null,\"outcome\":\"upstream_error\",\"reason\":null,\"fault\":null,\"status\":502,\
             \"subject\":\"u-aaaaaaaa\",\"method_authn\":\"jwt\",\"key_id\":null,\"upstream\":\"app\",\
             \"bytes_sent\":7,\"duration_us\":1500}\n"
        );
    }

    #[test]
    fn a_long_path_is_cut_between_two_characters() {
        let written = |path: &str| {
            let line: serde_json::Value = serde_json::from_str(&line_of(&record(path))).unwrap();
            line["path"].clone()
        };
        let whole = "x".repeat(PATH_BYTES_MAX);
        assert_eq!(written(&whole), whole);
        assert_eq!(written(&format!("{whole}y")), format!("{whole}…"));
        let short = "x".repeat(PATH_BYTES_MAX - 1);
        assert_eq!(written(&format!("{short}é")), format!("{short}…"));
    }

    #[test]
    fn the_page_tells_every_field_in_order_and_every_outcome() {
        let page = include_str!("../../docs/audit.md");
        let (_, section) = page.split_once("\n## Access records\n").unwrap();
        let (section, _) = section.split_once("\n### ").unwrap();
        let rows: Vec<_> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        let line = line_of(&record("/x"));
        let places = rows
            .iter()
            .map(|field| line.find(&format!("\"{field}\":")).unwrap());
        assert!(places.is_sorted());
        let fields: serde_json::Map<_, _> = serde_json::from_str(&line).unwrap();
        assert_eq!(rows.len(), fields.len());
        for outcome in RequestOutcome::ALL {
            assert!(section.contains(&format!("`{}`", outcome.as_str())));
        }
    }

    proptest! {
        #[test]
        fn a_record_is_written_as_serde_json_writes_it(
            texts in proptest::collection::vec(any::<String>(), 4),
            path in prop_oneof![any::<String>(), "[ -~]{1000,1100}", "[\u{0}-\u{ff}]{500,1100}"],
            known in proptest::collection::vec(option::of(".*"), 7),
            client in any::<Option<IpAddr>>(),
            outcome in proptest::sample::select(&RequestOutcome::ALL[..]),
            (status, bytes_sent, duration_us) in any::<(u16, u64, u64)>(),
            millis in 0..4_000_000_000_000_i64,
        ) {
            let known = |place: usize| known[place].as_deref();
            let record = AccessRecord {
                time: Timestamp::from_millis(millis),
                request_id: &texts[0],
                client,
                method: &texts[1],
                host: &texts[2],
                path: &path,
                route: known(0),
                outcome,
                reason: known(1),
                fault: known(2),
                status,
                subject: known(3),
                method_authn: known(4),
                key_id: known(5),
                upstream: known(6),
                bytes_sent,
                duration_us,
            };
            let wanted = serde_json::to_string(&record).unwrap();
            prop_assert_eq!(line_of(&record), format!("{wanted}\n"));
        }
    }

    #[test]
    fn every_byte_of_a_text_is_escaped_as_serde_json_does() {
        for byte in 0..0x80_u8 {
            let text = format!("a{}é", char::from(byte));
            let mut line = Vec::new();
            push_text(&mut line, &text);
            assert_eq!(line, serde_json::to_vec(&text).unwrap(), "{byte}");
        }
        for number in [0, 9, 10, 99, 100, u64::MAX] {
            let mut line = Vec::new();
            push_number(&mut line, number);
            assert_eq!(line, number.to_string().into_bytes());
        }
    }

    #[test]
    fn a_log_that_is_off_does_nothing() {
        let log = AccessLog::off();
        assert!(!log.is_enabled());
        log.write(&record("/x"));
    }
}
