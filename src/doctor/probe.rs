//! State shared by all checks: the server, the paths, and the outcome of a request.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use serde_json::Value;

use crate::config::Config;
use crate::doctor::probe_paths::{ProbePath, ProbePaths};
use crate::doctor::wire::{ProbeTarget, RawRequest, RawResponse};
use crate::doctor::{DoctorError, ProbeCredential, Proxy};

/// Size of the tail of an access log that is searched.
const RECORDS_BYTES_MAX: u64 = 4 << 20;
/// Maximum number of searches of the access log: a record is written a moment after the answer.
const RECORD_LOOKS: u32 = 30;
const RECORD_LOOK: Duration = Duration::from_millis(100);
/// An address of the loopback network that no proxy has.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 111, 222, 33));

/// The outcome of a request.
#[derive(Clone, Debug)]
pub(super) enum ProbeOutcome {
    /// It reached the echo, which answered with what arrived.
    Arrived(EchoedRequest),
    /// Something else answered.
    Stopped(RawResponse),
    /// No answer came.
    Silent,
}

impl ProbeOutcome {
    pub(super) const fn arrived(&self) -> Option<&EchoedRequest> {
        match self {
            Self::Arrived(arrival) => Some(arrival),
            Self::Stopped(_) | Self::Silent => None,
        }
    }

    /// Whether something else answered with one of these statuses.
    pub(super) fn is_stopped_by(&self, statuses: &[u16]) -> bool {
        matches!(self, Self::Stopped(answer) if statuses.contains(&answer.status))
    }

    /// Describes the outcome in a report.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Arrived(_) => "the request reached the service".to_owned(),
            Self::Stopped(answer) => format!("the answer is {}", answer.described()),
            Self::Silent => "there is no answer".to_owned(),
        }
    }
}

/// A request as it arrived at the echo.
#[derive(Clone, Debug)]
pub(super) struct EchoedRequest(Value);

impl EchoedRequest {
    /// Reads an answer of the echo; `None`: the answer is not the echo's.
    fn read(answer: &RawResponse) -> Option<Self> {
        let echoed: Value = serde_json::from_slice(&answer.body).ok()?;
        let is_echo = ["method", "path", "query", "headers", "body_bytes"]
            .iter()
            .all(|name| echoed.get(name).is_some());
        (answer.status == 200 && is_echo).then_some(Self(echoed))
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn body_bytes(&self) -> u64 {
        let count = self.0.get("body_bytes").and_then(Value::as_u64);
        count.unwrap_or_default()
    }

    /// Returns all fields of the head, one item for each value.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.0.get("headers").and_then(Value::as_object);
        fields.into_iter().flatten().flat_map(|(name, value)| {
            let several = value.as_array().into_iter().flatten();
            let values = std::iter::once(value).chain(several);
            let values = values.filter_map(Value::as_str);
            values.map(move |value| (name.as_str(), value))
        })
    }

    /// Returns the values of a field; `name` is in lower case.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.fields().filter(move |(field, _)| *field == name);
        named.map(|(_, value)| value)
    }

    /// Whether a field has a value that is not empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values(name).any(|value| !value.is_empty())
    }
}

/// One run against one proxy.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    pub(super) config: &'a Config,
    pub(super) proxy: Option<Proxy>,
    pub(super) target: ProbeTarget,
    /// `https://host:port`, as callers write it.
    pub(super) origin: String,
    pub(super) paths: ProbePaths,
    pub(super) credential: Option<ProbeCredential>,
    /// Every identity header of every route.
    pub(super) identity: Vec<HeaderName>,
    pub(super) access_log: Option<PathBuf>,
}

impl Probe<'_> {
    pub(super) async fn send(&self, request: &RawRequest) -> ProbeOutcome {
        self.send_to(&self.target, request).await
    }

    /// Sends a request to this server instead of the proxy's.
    pub(super) async fn send_to(&self, target: &ProbeTarget, request: &RawRequest) -> ProbeOutcome {
        match target.send(request).await {
            None => ProbeOutcome::Silent,
            Some(answer) => match EchoedRequest::read(&answer) {
                Some(arrival) => ProbeOutcome::Arrived(arrival),
                None => ProbeOutcome::Stopped(answer),
            },
        }
    }

    /// Whether a request reaches the service.
    pub(super) async fn reaches(&self, request: &RawRequest) -> bool {
        self.send(request).await.arrived().is_some()
    }

    /// Returns the closed path with the credential that opens it, if both are known.
    pub(super) fn with_login(&self) -> Option<(&ProbePath, &ProbeCredential)> {
        self.paths.closed.as_ref().zip(self.credential.as_ref())
    }

    /// Returns each path to which requests pass, with the credential that it requires.
    pub(super) fn all_passing(
        &self,
    ) -> impl Iterator<Item = (&ProbePath, Option<&ProbeCredential>)> {
        let open = self.paths.open.iter().map(|path| (path, None));
        let closed = self.with_login().into_iter();
        open.chain(closed.map(|(path, credential)| (path, Some(credential))))
    }

    /// Returns a path to which requests pass, with the credential that it requires: the open one if there is one.
    pub(super) fn passing(&self) -> Option<(&ProbePath, Option<&ProbeCredential>)> {
        self.all_passing().next()
    }

    /// Returns a request that passes if the proxy works.
    pub(super) fn carrier(&self) -> RawRequest {
        match self.passing() {
            Some((path, credential)) => RawRequest::get(&path.path).by(credential),
            None => RawRequest::get("/"),
        }
    }

    /// Checks that the request that passed at first still passes. If not, earlier refusals may have had the same cause.
    ///
    /// # Errors
    /// [`DoctorError::Unsteady`] if it does not.
    pub(super) async fn still_passes(&self) -> Result<(), DoctorError> {
        /// More than one, since a rate limiter lets single requests through.
        const IN_A_ROW: usize = 3;
        let carrier = self.carrier();
        for _ in 0..IN_A_ROW {
            let outcome = self.send(&carrier).await;
            if outcome.arrived().is_none() {
                return Err(DoctorError::Unsteady(carrier.target, outcome.described()));
            }
        }
        Ok(())
    }

    /// Returns a local address that is not a trusted proxy's and from which `to` can be reached: `own`, the system's
    /// choice, unless it is trusted.
    pub(super) fn untrusted_source(&self, to: SocketAddr, own: IpAddr) -> Option<IpAddr> {
        let is_local = to.is_ipv4() && to.ip().is_loopback();
        let mut sources = [Some(own), is_local.then_some(ELSEWHERE)]
            .into_iter()
            .flatten();
        sources.find(|ip| !self.is_trusted(*ip))
    }

    /// Whether an address is a trusted proxy's.
    pub(super) fn is_trusted(&self, ip: IpAddr) -> bool {
        let trusted = &self.config.listen.trusted_proxies;
        trusted.iter().any(|net| net.contains(&ip))
    }

    /// Finds the access record of a request, waiting a few seconds for it to be written.
    pub(super) async fn record(&self, request_id: &str) -> Option<Value> {
        let path = self.access_log.as_ref()?;
        for _ in 0..RECORD_LOOKS {
            if let Some(record) = newest(path, request_id) {
                return Some(record);
            }
            tokio::time::sleep(RECORD_LOOK).await;
        }
        None
    }
}

/// Finds the access record with this id in the tail of a log.
fn newest(path: &Path, request_id: &str) -> Option<Value> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let start = length.saturating_sub(RECORDS_BYTES_MAX);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.take(RECORDS_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find_map(|line| {
        // A line wrapped in another format, such as that of a container's log, is not recognised.
        let record: Value = serde_json::from_str(line).ok()?;
        let has_id = record.get("request_id")?.as_str()? == request_id;
        (has_id && record.get("client").is_some()).then_some(record)
    })
}
