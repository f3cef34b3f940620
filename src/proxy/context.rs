//! The state of one request, from its creation to its access record.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::auth::asked::ForwardedDecision;
use crate::auth::grant::{Decision, Denial, Grant};
use crate::auth::view::Target;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::RequestId;
use crate::model::route::Upstream;
use crate::proxy::attempt::{Attempt, Attempts};
use crate::proxy::connection::Connection;
use crate::proxy::exchange::Exchange;
use crate::proxy::in_flight::InFlightPlace;
use crate::proxy::respond::ProxyFailure;
use crate::proxy::view::{AdmittedRequest, RefusedRequest};
use crate::snapshot::{EndpointNotes, RequestEnd, Snapshot};
use crate::telemetry::metrics::RequestOutcome;
use crate::upstream::ejection::Ejections;
use crate::upstream::failure::FailureKind;

/// The decision about a request, or what answers it instead.
#[derive(Debug, Default)]
pub enum RequestVerdict {
    /// Nothing has been decided yet.
    #[default]
    Open,
    /// The gateway's own endpoints answer, and record their findings in the notes.
    Local(Arc<EndpointNotes>),
    /// The decision about the request.
    Decided(Decision),
    /// The decision about another request, for a proxy that asked.
    Asked(Box<ForwardedDecision>),
}

/// The failure that prevented an answer or cut it short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// The upstream failed, with the code of the answer.
    Upstream(ErrorCode),
    /// The caller disconnected.
    Caller,
    /// A drain ended a stream.
    Drained,
    /// The gateway itself failed.
    Own,
}

impl RequestFault {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Upstream(code) => Some(code.as_str()),
            Self::Caller => None,
            Self::Drained => Some("drained"),
            Self::Own => Some(ErrorCode::Internal.as_str()),
        }
    }
}

/// The caller's side of a request.
#[derive(Debug, Default)]
pub struct DownstreamState {
    /// The caller's connection, once the head has been read.
    pub connection: Option<Arc<Connection>>,
    /// The watch of the stream, for HTTP/2.
    pub exchange: Option<Arc<Exchange>>,
    /// The permit that counts the request among those in flight.
    pub place: Option<InFlightPlace>,
    /// Whether the next request on the connection waits for the end of this one (HTTP/1).
    pub is_serial: bool,
}

impl DownstreamState {
    /// Records that the whole answer has been sent, so that the rest of the body is no longer needed.
    pub fn end_answer(&self) {
        match (&self.exchange, &self.connection) {
            (Some(exchange), _) => exchange.end_answer(),
            (None, Some(connection)) => connection.end_answer(),
            (None, None) => {}
        }
    }

    /// Whether a drain ended the request as a stream.
    fn is_cut(&self) -> bool {
        let is_reset = self.exchange.as_ref().is_some_and(|it| it.is_cut());
        let connection = self.connection.as_ref();
        is_reset || connection.is_some_and(|it| it.cut_off.is_set())
    }
}

/// One request. Its record is written on drop, because a request that is canceled, panics or is reset does not reach
/// its last step.
#[derive(Debug)]
pub struct RequestContext {
    /// The request, once its head has been read and accepted.
    pub admitted: Option<AdmittedRequest>,
    /// The progress of the request.
    pub progress: RequestProgress,
}

/// The progress of a request, whether its head could be read or not.
#[derive(Debug)]
pub struct RequestProgress {
    /// The request's id.
    pub id: RequestId,
    /// The snapshot that the request uses.
    pub snapshot: Arc<Snapshot>,
    /// The caller's side.
    pub downstream: DownstreamState,
    /// The readable parts of a head that was refused.
    pub refused: Option<RefusedRequest>,
    /// The decision, or the endpoint that answers.
    pub verdict: RequestVerdict,
    /// The attempts to send it to an upstream.
    pub attempts: Attempts,
    /// The failure, if any.
    pub fault: Option<RequestFault>,
    /// Status of the answer; 0 if there is none yet.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    born: Duration,
}

/// A request on its way to the upstream of its grant.
#[derive(Clone, Copy, Debug)]
pub struct GrantedRequest<'a> {
    /// The request.
    pub request: &'a AdmittedRequest,
    /// The proof that the request may pass.
    pub grant: &'a Grant,
    /// The upstream.
    pub upstream: &'a Upstream,
}

impl RequestContext {
    /// Creates the context of a new request.
    #[must_use]
    pub fn new(id: RequestId, snapshot: Arc<Snapshot>) -> Self {
        Self {
            admitted: None,
            progress: RequestProgress {
                id,
                born: snapshot.services.clock.elapsed(),
                snapshot,
                downstream: DownstreamState {
                    exchange: Exchange::current(),
                    ..DownstreamState::default()
                },
                refused: None,
                verdict: RequestVerdict::Open,
                attempts: Attempts::default(),
                fault: None,
                status: 0,
                bytes_sent: 0,
            },
        }
    }

    /// Returns the request, its grant and its upstream.
    ///
    /// # Errors
    /// An internal error if there is no grant. No other function lets a request reach an upstream.
    // INVARIANT: nothing reaches an upstream without a grant (tests/it: every refusal's upstream log is empty).
    pub fn granted(&self) -> Result<GrantedRequest<'_>, ProxyFailure> {
        let granted = || {
            Some(GrantedRequest {
                request: self.admitted.as_ref()?,
                grant: self.progress.grant()?,
                upstream: self.progress.upstream()?,
            })
        };
        granted().ok_or_else(|| ProxyFailure::own("no grant"))
    }

    /// Returns method and target for the record: those of the request itself, or of the request that a proxy asked
    /// about.
    fn recorded(&self) -> (Option<&Method>, Option<&Target>) {
        if let RequestVerdict::Asked(forwarded) = &self.progress.verdict
            && let Some((method, target)) = &forwarded.about
        {
            return (Some(method), Some(target));
        }
        match (&self.admitted, &self.progress.refused) {
            (Some(request), _) => (Some(&request.method), Some(&request.target)),
            (None, Some(refused)) => (refused.method.as_ref(), None),
            (None, None) => (None, None),
        }
    }
}

impl RequestProgress {
    /// Begins another attempt to send the request, with its body from the beginning.
    pub fn begin_attempt(&mut self) {
        self.attempts.current = Attempt::default();
        if let Some(exchange) = &self.downstream.exchange {
            exchange.sends_to(None);
        }
    }

    /// Records that the head of the answer has been sent: from now on the rest of the body has no time limit of its
    /// own. `stream_age`: the age of the request from which its answer counts as a stream.
    pub fn begin_answer(&self, stream_age: Option<Duration>) {
        let stream_from = stream_age.map(|age| self.born + age);
        match (&self.downstream.exchange, &self.downstream.connection) {
            (Some(exchange), _) => exchange.begin_answer(stream_from),
            (None, Some(connection)) => connection.begin_answer(stream_from),
            (None, None) => {}
        }
    }

    /// Records that the upstream accepted the connection.
    pub(in crate::proxy) fn note_connected(&self, ejections: &Ejections) {
        if let Some(address) = self.attempts.current.address {
            ejections.connected(address, self.snapshot.services.clock.elapsed());
        }
    }

    /// Records that a connect to the upstream failed. A local failure, such as a shortage of descriptors, does not
    /// count against the upstream.
    pub(in crate::proxy) fn note_failed(
        &self,
        ejections: &Ejections,
        upstream: &Upstream,
        kind: FailureKind,
    ) {
        let is_ours = kind == FailureKind::Socket;
        if let Some(address) = self.attempts.current.address.filter(|_| !is_ours) {
            let now = self.snapshot.services.clock.elapsed();
            ejections.failed(&upstream.name, address, now);
        }
    }

    /// Replaces the verdict by a refusal; keeps route and identity of a grant for the record.
    pub fn deny(&mut self, reason: DenyReason) {
        let grant = self.grant();
        self.verdict = RequestVerdict::Decided(Decision::Deny(Denial {
            reason,
            fault: None,
            route: grant.map(Grant::route).cloned(),
            identity: grant.and_then(Grant::identity).cloned(),
            retry_after_s: None,
            methods: Vec::new(),
        }));
    }

    /// Returns the grant, if there is one.
    #[must_use]
    pub const fn grant(&self) -> Option<&Grant> {
        match &self.verdict {
            RequestVerdict::Decided(decision) => decision.grant(),
            _ => None,
        }
    }

    /// Returns the decision about the request itself, or about the one that a proxy asked about.
    fn decision(&self) -> Option<&Decision> {
        match &self.verdict {
            RequestVerdict::Decided(decision) => Some(decision),
            RequestVerdict::Asked(forwarded) => Some(&forwarded.decision),
            RequestVerdict::Open | RequestVerdict::Local(_) => None,
        }
    }

    fn outcome(&self) -> RequestOutcome {
        let is_open = self.status == 0 || matches!(self.verdict, RequestVerdict::Open);
        match (self.decision(), self.fault) {
            (Some(Decision::Deny(_)), _) => RequestOutcome::Denied,
            (Some(Decision::Fail(_)), _) | (_, Some(RequestFault::Own)) => RequestOutcome::Failed,
            (_, Some(RequestFault::Upstream(_))) => RequestOutcome::UpstreamError,
            (_, Some(RequestFault::Caller | RequestFault::Drained)) => RequestOutcome::Aborted,
            (_, None) if is_open => RequestOutcome::Aborted,
            (Some(Decision::Allow(_)), None) => RequestOutcome::Allowed,
            (None, None) => RequestOutcome::Local,
        }
    }

    /// Returns the upstream of the grant.
    pub(in crate::proxy) fn upstream(&self) -> Option<&Upstream> {
        let upstreams = &self.snapshot.config.upstreams;
        upstreams.get(self.grant()?.route().upstream)
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        if self.progress.downstream.is_cut() {
            self.progress.fault = Some(RequestFault::Drained);
        }
        let progress = &self.progress;
        let now = progress.snapshot.services.clock.elapsed();
        let (method, target) = self.recorded();
        let refused = progress.refused.as_ref();
        let raw_target = refused.map_or("", |refused| &refused.target);
        let admitted = self.admitted.as_ref().map(|request| request.client);
        let client = admitted.or_else(|| Some(refused?.client));
        let end = RequestEnd {
            id: progress.id,
            born: progress.born,
            client: client.map(|client| client.address),
            method,
            host: target.map_or("", |target| &target.host),
            path: target.map_or(raw_target, |target| target.path.as_str()),
            outcome: progress.outcome(),
            decision: progress.decision(),
            notes: match &progress.verdict {
                RequestVerdict::Local(notes) => Some(notes),
                _ => None,
            },
            broken: progress.fault.and_then(RequestFault::code),
            status: progress.status,
            // `None` for a refused request, which did not reach an upstream.
            upstream: progress.upstream(),
            bytes_sent: progress.bytes_sent,
        };
        progress.snapshot.end_request(&end, now);
        let downstream = &progress.downstream;
        if let Some(connection) = &downstream.connection {
            connection.end_request(now);
            if downstream.is_serial {
                connection.expect_head();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, EnvOverlay};

    use crate::model::clock::{Clock, ManualClock, Timestamp};

    #[test]
    fn each_way_out_counts_once_and_a_dropped_request_too() {
        let snapshot = snapshot();
        let fresh = || RequestContext::new(RequestId::from_number(1), Arc::clone(&snapshot));
        // Canceled before a decision, and while an endpoint was answering.
        drop(fresh());
        let mut canceled = fresh();
        canceled.progress.verdict = RequestVerdict::Local(Arc::default());
        drop(canceled);
        let mut answered = fresh();
        answered.progress.verdict = RequestVerdict::Local(Arc::default());
        answered.progress.status = 200;
        drop(answered);
        let mut denied = fresh();
        denied.progress.deny(DenyReason::NoRoute);
        denied.progress.status = 404;
        drop(denied);
        let mut failed = fresh();
        failed.progress.fault = Some(RequestFault::Own);
        failed.progress.status = 500;
        drop(failed);
        let text = snapshot.services.metrics.render();
        for line in [
            "doorward_requests_total{outcome=\"aborted\",status=\"none\"} 2",
            "doorward_requests_total{outcome=\"local\",status=\"2xx\"} 1",
            "doorward_requests_total{outcome=\"denied\",status=\"4xx\"} 1",
            "doorward_requests_total{outcome=\"failed\",status=\"5xx\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[tokio::test]
    async fn a_canceled_request_leaves_its_record_and_its_connection_behind() {
        let snapshot = snapshot();
        let connection = Arc::new(Connection::new(([127, 0, 0, 1], 1).into()));
        let (mine, theirs) = (Arc::clone(&snapshot), Arc::clone(&connection));
        let request = tokio::spawn(async move {
            let mut context = RequestContext::new(RequestId::from_number(1), mine);
            context.progress.downstream.connection = Some(theirs);
            context.progress.downstream.is_serial = true;
            std::future::pending::<()>().await;
            drop(context);
        });
        tokio::task::yield_now().await;
        assert!(!connection.take_head_is_next());
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        assert!(connection.take_head_is_next());
        let text = snapshot.services.metrics.render();
        assert!(text.contains("doorward_requests_total{outcome=\"aborted\",status=\"none\"} 1"));
    }

    fn snapshot() -> Arc<Snapshot> {
        let (config, _) = Config::parse("", &EnvOverlay::default()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_secs(1_000_000_000)));
        let services = crate::services::test_kit::services(&config, clock);
        Arc::new(Snapshot::build(Arc::new(config), Arc::new(services)).unwrap())
    }
}
