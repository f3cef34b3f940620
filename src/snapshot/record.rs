//! The end of a request on any listener: one set of counters and one access record.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;

use crate::auth::grant::Decision;
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, RequestId};
use crate::model::refusal_fault::RefusalFault;
use crate::model::route::Upstream;
use crate::snapshot::{EndpointNotes, Snapshot};
use crate::telemetry::access::AccessRecord;
use crate::telemetry::metrics::RequestOutcome;

/// The data of a request at its end.
#[derive(Clone, Copy, Debug)]
pub struct RequestEnd<'a> {
    /// The request's id.
    pub id: RequestId,
    /// The time at which it began, on the monotonic clock.
    pub born: Duration,
    /// The client's address, after trusted proxies.
    pub client: Option<IpAddr>,
    /// The method; `None` if it could not be read.
    pub method: Option<&'a Method>,
    /// The requested host.
    pub host: &'a str,
    /// The canonical path, or the raw one if the request was refused.
    pub path: &'a str,
    /// The outcome.
    pub outcome: RequestOutcome,
    /// The decision, if there is one.
    pub decision: Option<&'a Decision>,
    /// The notes of one of the gateway's own endpoints.
    pub notes: Option<&'a EndpointNotes>,
    /// The code of the failure that prevented an answer.
    pub broken: Option<&'static str>,
    /// Status of the answer; 0 if there was none.
    pub status: u16,
    /// The upstream of its grant.
    pub upstream: Option<&'a Upstream>,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
}

impl Snapshot {
    /// Counts a request that has ended, and writes its access record if access records are enabled. `now`: the time on
    /// the monotonic clock.
    pub fn end_request(&self, end: &RequestEnd<'_>, now: Duration) {
        let services = &self.services;
        let took = now.saturating_sub(end.born);
        let reason = end.decision.and_then(Decision::deny_reason);
        services
            .metrics
            .request(end.outcome, end.status, reason, took);
        if services.access.is_enabled() {
            let record = AccessRecord::of(end, services.clock.now(), took);
            services.access.write(&record);
        }
    }
}

impl<'a> AccessRecord<'a> {
    fn of(end: &'a RequestEnd<'a>, time: Timestamp, took: Duration) -> Self {
        let decision = end.decision;
        let noted_code = end.notes.and_then(|notes| notes.reason.get().copied());
        // A page may be shown to a caller whose cookie is not accepted; nothing is refused then.
        let noted_fault = end.notes.filter(|_| noted_code.is_some());
        let noted_fault = noted_fault.and_then(|notes| notes.fault.get());
        let fault = decision.and_then(Decision::fault).or(noted_fault);
        let identity = decision
            .and_then(Decision::identity)
            .or_else(|| end.notes?.identity.get());
        let key_id = identity.and_then(|it| it.key_id.as_ref());
        let code = decision.and_then(Decision::code).or(noted_code);
        Self {
            time,
            request_id: end.id.as_str(),
            client: end.client,
            method: end.method.map_or("", Method::as_str),
            host: end.host,
            path: end.path,
            route: decision
                .and_then(Decision::route)
                .map(|route| route.text.as_str()),
            outcome: end.outcome,
            reason: code.or(end.broken),
            fault: fault.map(RefusalFault::code),
            status: end.status,
            subject: identity.map(|it| it.subject()),
            method_authn: identity.map(|it| it.method.as_str()),
            key_id: key_id.or_else(|| fault?.key_id()).map(KeyId::as_str),
            upstream: end.upstream.map(|upstream| upstream.name.as_str()),
            bytes_sent: end.bytes_sent,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        }
    }
}
