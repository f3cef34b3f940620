//! The access record of a question.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::auth::asked::Judged;
use crate::auth::grant::Decision;
use crate::model::id::{KeyId, RequestId};
use crate::model::refusal_fault::RefusalFault;
use crate::snapshot::Snapshot;
use crate::telemetry::access::AccessRecord;
use crate::telemetry::metrics::Outcome;

/// How a question was answered.
#[derive(Debug)]
pub(super) struct Answered {
    /// What the caller is answered with; 200 if it is the service that answers.
    pub(super) status: u16,
    /// Bytes of the caller's answer, if we have written it.
    pub(super) body_bytes: u64,
    /// The caller's address, if the question could be read.
    pub(super) client: Option<IpAddr>,
    pub(super) judged: Judged,
}

/// One question. Its record is that of the request it is about, and written when this is dropped: on every way out.
#[derive(Debug)]
pub(super) struct Record {
    id: RequestId,
    snapshot: Arc<Snapshot>,
    peer: IpAddr,
    born: Duration,
    answered: Option<Arc<Answered>>,
}

impl Record {
    pub(super) fn begin(id: RequestId, snapshot: Arc<Snapshot>, peer: IpAddr) -> Self {
        Self {
            id,
            born: snapshot.services.clock.elapsed(),
            snapshot,
            peer,
            answered: None,
        }
    }

    pub(super) fn answered(&mut self, answered: Arc<Answered>) {
        self.answered = Some(answered);
    }

    fn decision(&self) -> Option<&Decision> {
        Some(&self.answered.as_ref()?.judged.decision)
    }

    fn outcome(&self) -> Outcome {
        match self.decision() {
            Some(Decision::Allow(_)) => Outcome::Allowed,
            Some(Decision::Deny(_)) => Outcome::Denied,
            Some(Decision::Fail(_)) => Outcome::Failed,
            // The proxy has gone away, or its gRPC broke.
            None => Outcome::Aborted,
        }
    }

    fn status(&self) -> u16 {
        self.answered.as_ref().map_or(0, |it| it.status)
    }

    fn write(&self, took: Duration) {
        let services = &self.snapshot.services;
        let decision = self.decision();
        let identity = decision.and_then(Decision::identity);
        let answered = self.answered.as_ref();
        let about = answered.and_then(|it| it.judged.about.as_ref());
        services.access.write(&AccessRecord {
            time: services.clock.now().to_rfc3339(),
            request_id: self.id.as_str(),
            client: Some(answered.and_then(|it| it.client).unwrap_or(self.peer)),
            method: about.map_or("", |(method, _)| Method::as_str(method)),
            host: about.map_or("", |(_, target)| &target.host),
            path: about.map_or("", |(_, target)| target.path.as_str()),
            route: decision
                .and_then(Decision::route)
                .map(|route| route.text.as_str()),
            outcome: self.outcome(),
            reason: decision.and_then(Decision::code),
            fault: decision.and_then(Decision::fault).map(RefusalFault::code),
            status: self.status(),
            subject: identity.map(|it| it.subject()),
            method_authn: identity.map(|it| it.method.as_str()),
            key_id: decision.and_then(Decision::key_id).map(KeyId::as_str),
            upstream: None,
            bytes_sent: answered.map_or(0, |it| it.body_bytes),
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let services = &self.snapshot.services;
        let took = services.clock.elapsed().saturating_sub(self.born);
        let reason = self.decision().and_then(Decision::deny_reason);
        services
            .metrics
            .request(self.outcome(), self.status(), reason, took);
        if services.access.is_enabled() {
            self.write(took);
        }
    }
}
