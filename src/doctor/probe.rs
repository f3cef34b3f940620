//! What all checks need: the way in, the paths, and how to tell what arrived.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use serde_json::Value;

use crate::config::Config;
use crate::doctor::ground::{Ground, Spot};
use crate::doctor::wire::{Answer, Ask, Wire};
use crate::doctor::{Credential, DoctorError, Proxy};

/// The newest part of an access log that is looked through.
const RECORDS_BYTES_MAX: u64 = 4 << 20;
/// Records are written a moment after the answer.
const RECORD_LOOKS: u32 = 30;
const RECORD_LOOK: Duration = Duration::from_millis(100);
/// Of the loopback network, and of no proxy.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 111, 222, 33));

/// What became of a request.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It reached the echo, which tells how.
    Arrived(Arrival),
    /// Something else answered.
    Stopped(Answer),
    /// Nothing answered.
    Silent,
}

impl Outcome {
    pub(super) const fn arrived(&self) -> Option<&Arrival> {
        match self {
            Self::Arrived(arrival) => Some(arrival),
            Self::Stopped(_) | Self::Silent => None,
        }
    }

    /// How a report names it.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Arrived(_) => "it reached the service".to_owned(),
            Self::Stopped(answer) => format!("the answer is {}", answer.told()),
            Self::Silent => "there is no answer".to_owned(),
        }
    }
}

/// A request as the echo got it.
#[derive(Clone, Debug)]
pub(super) struct Arrival(Value);

impl Arrival {
    /// Reads an answer of the echo; `None`: somebody else's.
    fn read(answer: &Answer) -> Option<Self> {
        let told: Value = serde_json::from_slice(&answer.body).ok()?;
        let is_echo = ["method", "path", "query", "headers", "body_bytes"]
            .iter()
            .all(|name| told.get(name).is_some());
        (answer.status == 200 && is_echo).then_some(Self(told))
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.0
            .get("body_bytes")
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    /// All fields with their values.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.0.get("headers").and_then(Value::as_object);
        fields.into_iter().flatten().flat_map(|(name, value)| {
            let several = value.as_array().into_iter().flatten();
            let values = value
                .as_str()
                .into_iter()
                .chain(several.filter_map(Value::as_str));
            values.map(move |value| (name.as_str(), value))
        })
    }

    /// The values of one field; `name` in lower case.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.fields().filter(move |(field, _)| *field == name);
        named.map(|(_, value)| value)
    }

    /// Whether a field says something.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values(name).any(|value| !value.is_empty())
    }
}

/// One run against one proxy.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    pub(super) config: &'a Config,
    pub(super) proxy: Option<Proxy>,
    pub(super) wire: Wire,
    /// `https://host:port`, as callers write it.
    pub(super) origin: String,
    pub(super) ground: Ground,
    pub(super) credential: Option<Credential>,
    /// Every identity header of every route.
    pub(super) identity: Vec<HeaderName>,
    pub(super) access_log: Option<PathBuf>,
}

impl Probe<'_> {
    pub(super) async fn send(&self, ask: &Ask) -> Outcome {
        self.send_by(&self.wire, ask).await
    }

    /// Whether it gets to the service.
    pub(super) async fn reaches(&self, ask: &Ask) -> bool {
        self.send(ask).await.arrived().is_some()
    }

    /// As [`Probe::send`], by another way.
    pub(super) async fn send_by(&self, wire: &Wire, ask: &Ask) -> Outcome {
        match wire.send(ask).await {
            None => Outcome::Silent,
            Some(answer) => match Arrival::read(&answer) {
                Some(arrival) => Outcome::Arrived(arrival),
                None => Outcome::Stopped(answer),
            },
        }
    }

    /// Where a request passes, and who must send it.
    pub(super) fn passing(&self) -> Option<(&Spot, Option<&Credential>)> {
        let open = self.ground.open.as_ref().map(|spot| (spot, None));
        open.or_else(|| {
            Some((
                self.ground.closed.as_ref()?,
                Some(self.credential.as_ref()?),
            ))
        })
    }

    /// A request that passes where all is well: to an open path, else to a closed one with the credential.
    pub(super) fn carrier(&self) -> Ask {
        match self.passing() {
            Some((spot, Some(credential))) => Ask::get(&spot.path).by(credential),
            Some((spot, None)) => Ask::get(&spot.path),
            None => Ask::get("/"),
        }
    }

    /// That what passed at first still does: else what was refused meanwhile was so for another reason than it seems.
    ///
    /// # Errors
    /// [`DoctorError::Unsteady`] if it does not.
    pub(super) async fn still_passes(&self) -> Result<(), DoctorError> {
        /// A limit lets through one now and then.
        const IN_A_ROW: usize = 3;
        let carrier = self.carrier();
        for _ in 0..IN_A_ROW {
            let outcome = self.send(&carrier).await;
            if outcome.arrived().is_none() {
                return Err(DoctorError::Unsteady(carrier.target, outcome.told()));
            }
        }
        Ok(())
    }

    /// From where to speak to an address so as to be no trusted proxy, if the system would choose `own`; `None`: this
    /// machine is one itself.
    pub(super) fn stranger(&self, to: SocketAddr, own: IpAddr) -> Option<IpAddr> {
        let is_local = to.is_ipv4() && to.ip().is_loopback();
        [Some(own), is_local.then_some(ELSEWHERE)]
            .into_iter()
            .flatten()
            .find(|ip| !self.is_trusted(*ip))
    }

    /// Whether an address is that of a trusted proxy.
    pub(super) fn is_trusted(&self, ip: IpAddr) -> bool {
        let trusted = &self.config.listen.trusted_proxies;
        trusted.iter().any(|net| net.contains(&ip))
    }

    /// What the gateway wrote about a request, by its id; `None`: there is no log, or nothing in it in time.
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

/// The access record with this id in the newest part of a log.
fn newest(path: &std::path::Path, request_id: &str) -> Option<Value> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(RECORDS_BYTES_MAX)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(RECORDS_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find_map(|line| {
        // What wraps the line, such as a container's log, is not looked into.
        let record: Value = serde_json::from_str(line).ok()?;
        let is_it =
            record.get("request_id")?.as_str()? == request_id && record.get("client").is_some();
        is_it.then_some(record)
    })
}
