//! The access record of a question.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::asked::ForwardedDecision;
use crate::auth::grant::Decision;
use crate::model::id::RequestId;
use crate::snapshot::{RequestEnd, Snapshot};
use crate::telemetry::metrics::RequestOutcome;

/// The result of a question.
#[derive(Debug)]
pub(super) struct AnsweredQuestion {
    /// The status for the caller; 200 if the upstream answers.
    pub(super) status: u16,
    /// Size of the body for the caller in bytes, if the gateway wrote it.
    pub(super) body_bytes: u64,
    /// The caller's address, if the question could be parsed.
    pub(super) client: Option<IpAddr>,
    pub(super) judged: ForwardedDecision,
}

/// A question in progress. On drop, and thus on every way out, it writes the access record of the request in question.
#[derive(Debug)]
pub(super) struct QuestionRecord {
    id: RequestId,
    snapshot: Arc<Snapshot>,
    peer: IpAddr,
    born: Duration,
    answered: Option<Arc<AnsweredQuestion>>,
}

impl QuestionRecord {
    pub(super) fn begin(id: RequestId, snapshot: Arc<Snapshot>, peer: IpAddr) -> Self {
        Self {
            id,
            born: snapshot.services.clock.elapsed(),
            snapshot,
            peer,
            answered: None,
        }
    }

    pub(super) fn answered(&mut self, answered: Arc<AnsweredQuestion>) {
        self.answered = Some(answered);
    }

    fn decision(&self) -> Option<&Decision> {
        Some(&self.answered.as_ref()?.judged.decision)
    }

    fn outcome(&self) -> RequestOutcome {
        match self.decision() {
            Some(Decision::Allow(_)) => RequestOutcome::Allowed,
            Some(Decision::Deny(_)) => RequestOutcome::Denied,
            Some(Decision::Fail(_)) => RequestOutcome::Failed,
            // The proxy has disconnected, or the gRPC call failed.
            None => RequestOutcome::Aborted,
        }
    }
}

impl Drop for QuestionRecord {
    fn drop(&mut self) {
        let answered = self.answered.as_deref();
        let about = answered.and_then(|it| it.judged.about.as_ref());
        let end = RequestEnd {
            id: self.id,
            born: self.born,
            client: Some(answered.and_then(|it| it.client).unwrap_or(self.peer)),
            method: about.map(|(method, _)| method),
            host: about.map_or("", |(_, target)| &target.host),
            path: about.map_or("", |(_, target)| target.path.as_str()),
            outcome: self.outcome(),
            decision: self.decision(),
            notes: None,
            broken: None,
            status: answered.map_or(0, |it| it.status),
            upstream: None,
            bytes_sent: answered.map_or(0, |it| it.body_bytes),
        };
        let now = self.snapshot.services.clock.elapsed();
        self.snapshot.end_request(&end, now);
    }
}
