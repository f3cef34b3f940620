//! The access record: one JSON line per request, on every way out.

use crate::telemetry::metrics::Outcome;

/// One request, as its line tells it. Texts are escaped when written; the query is not part of it.
#[derive(Debug, serde::Serialize)]
pub struct AccessRecord<'a> {
    /// When it was answered, RFC 3339, UTC.
    pub time: String,
    /// The request's id.
    pub request_id: &'a str,
    /// The client's address, after trusted proxies.
    pub client: Option<std::net::IpAddr>,
    /// The method.
    pub method: &'a str,
    /// The host it asked for.
    pub host: &'a str,
    /// The canonical path, or the raw one where it was refused; never the query.
    pub path: &'a str,
    /// The route, as written in the configuration.
    pub route: Option<&'a str>,
    /// How it ended.
    #[serde(serialize_with = "outcome")]
    pub outcome: Outcome,
    /// Code of the refusal or failure.
    pub reason: Option<&'a str>,
    /// Status of the answer; 0 if there was none.
    pub status: u16,
    /// Who.
    pub subject: Option<&'a str>,
    /// By what recognised.
    pub method_authn: Option<&'a str>,
    /// Which API key.
    pub key_id: Option<&'a str>,
    /// Which upstream.
    pub upstream: Option<&'a str>,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
}

fn outcome<S: serde::Serializer>(_outcome: &Outcome, _serializer: S) -> Result<S::Ok, S::Error> {
    todo!()
}

/// Writes access records on a thread of its own; drops and counts what does not fit its queue.
#[derive(Debug)]
pub struct AccessLog {}

impl AccessLog {
    /// Starts the writer onto standard output; `enabled = false` makes [`AccessLog::write`] do nothing.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(_enabled: bool) -> std::io::Result<Self> {
        todo!()
    }

    /// Whether records are wanted, so that nobody builds one in vain.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        todo!()
    }

    /// Queues one record.
    pub fn write(&self, _record: &AccessRecord<'_>) {
        todo!()
    }
}
