//! The access record: one JSON line per request, on every way out.

use std::sync::Arc;

use crate::telemetry::metrics::RequestOutcome;
use crate::telemetry::output::{Output, Stream};

/// Maximum length of a path in a record; a longer one is cut and ends with `…`. Strangers choose its length, and a slow
/// reader of the output must keep up with every line.
const PATH_BYTES_MAX: usize = 1024;

/// The fields of one request's line. Texts are escaped when written; the query is not included.
#[derive(Debug, serde::Serialize)]
pub struct AccessRecord<'a> {
    /// Time of the response, RFC 3339, UTC.
    pub time: String,
    /// The request's id.
    pub request_id: &'a str,
    /// The client's address, after trusted proxies.
    pub client: Option<std::net::IpAddr>,
    /// The method.
    pub method: &'a str,
    /// The requested host.
    pub host: &'a str,
    /// The canonical path, or the raw one if it was refused; never the query. At most 1 KiB of it is written.
    #[serde(serialize_with = "path")]
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

fn path<S: serde::Serializer>(path: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match path.get(..path.floor_char_boundary(PATH_BYTES_MAX)) {
        Some(head) if head.len() < path.len() => serializer.collect_str(&format_args!("{head}…")),
        _ => serializer.serialize_str(path),
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
        let mut line = Vec::with_capacity(512);
        if serde_json::to_writer(&mut line, record).is_ok() {
            line.push(b'\n');
            output.line(Stream::Access, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::test_kit::Lines;

    fn record(path: &str) -> AccessRecord<'_> {
        AccessRecord {
            time: "2030-01-31T12:00:00.000Z".to_owned(),
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
        let written = |path: &str| serde_json::to_value(record(path)).unwrap()["path"].clone();
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
        let line = serde_json::to_string(&record("/x")).unwrap();
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

    #[test]
    fn a_log_that_is_off_does_nothing() {
        let log = AccessLog::off();
        assert!(!log.is_enabled());
        log.write(&record("/x"));
    }
}
