//! What is known about one request, from its birth to its record.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::auth::asked::Judged;
use crate::auth::client::Client;
use crate::auth::grant::{Decision, Denial, Grant};
use crate::auth::view::Target;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::{KeyId, RequestId};
use crate::model::refusal_fault::RefusalFault;
use crate::proxy::attempt::Attempt;
use crate::proxy::connection::{Connection, RefusedHead};
use crate::proxy::exchange::Exchange;
use crate::proxy::in_flight::InFlightPlace;
use crate::snapshot::{OwnNotes, Snapshot};
use crate::telemetry::access::AccessRecord;
use crate::telemetry::metrics::Outcome;

/// How far a request came.
#[derive(Debug, Default)]
pub enum Verdict {
    /// Nothing was decided yet.
    #[default]
    Open,
    /// The gateway's own endpoints answer, and note what they find out.
    Local(Arc<OwnNotes>),
    /// This was decided.
    Decided(Decision),
    /// A proxy has asked about another request, and this was decided.
    Asked(Box<Judged>),
}

/// What broke on the way to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The upstream, with the code of the answer.
    Upstream(ErrorCode),
    /// The caller went away, or its HTTP broke.
    Caller,
    /// A drain has ended a stream.
    Drained,
    /// The gateway itself.
    Own,
}

impl Fault {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Upstream(code) => Some(code.as_str()),
            Self::Caller => None,
            Self::Drained => Some("drained"),
            Self::Own => Some(ErrorCode::Internal.as_str()),
        }
    }
}

/// One request. Its record is written when it is dropped: Pingora's own last phase is not reached by a request that is
/// canceled, panics or resets.
#[derive(Debug)]
pub struct RequestContext {
    /// The request's id.
    pub id: RequestId,
    /// The one configuration that it sees.
    pub snapshot: Arc<Snapshot>,
    /// The caller's connection.
    pub connection: Option<Arc<Connection>>,
    /// What is watched of it over HTTP/2.
    pub exchange: Option<Arc<Exchange>>,
    /// Its place among the requests in flight.
    pub place: Option<InFlightPlace>,
    /// Whether the next request on the connection waits for the end of this one (HTTP/1).
    pub is_serial: bool,
    /// The method, as sent; `None` if it could not be read.
    pub method: Option<Method>,
    /// What it asks for; `None` if that could not be read.
    pub target: Option<Target>,
    /// The target as sent, without the query, where [`RequestContext::target`] is `None`.
    pub raw_target: String,
    /// Who is at the other end.
    pub client: Option<Client>,
    /// The scheme that the caller used: `http` or `https`.
    pub scheme: &'static str,
    /// How far it came.
    pub verdict: Verdict,
    /// What broke.
    pub fault: Option<Fault>,
    /// Status of the answer; 0 until there is one.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// Connects to an upstream that failed.
    pub failed_connects: usize,
    /// Where in the upstream's list the first connect goes.
    pub first_address: usize,
    /// The present try to send it to an upstream.
    pub attempt: Attempt,
    /// Whether a request was sent a second time already.
    pub is_resent: bool,
    born: Duration,
}

impl RequestContext {
    /// At a request's birth.
    #[must_use]
    pub fn new(id: RequestId, snapshot: Arc<Snapshot>) -> Self {
        Self {
            id,
            born: snapshot.services.clock.elapsed(),
            snapshot,
            connection: None,
            exchange: Exchange::current(),
            place: None,
            is_serial: false,
            method: None,
            target: None,
            raw_target: String::new(),
            client: None,
            scheme: "http",
            verdict: Verdict::Open,
            fault: None,
            status: 0,
            bytes_sent: 0,
            failed_connects: 0,
            first_address: 0,
            attempt: Attempt::default(),
            is_resent: false,
        }
    }

    /// Notes a head that the stream refused.
    pub fn note_refused(&mut self, head: RefusedHead) {
        self.method = Method::from_bytes(head.method.as_bytes()).ok();
        self.raw_target = head.target;
        self.deny(head.reason);
    }

    /// Begins another try to send the request: its body goes from the beginning.
    pub fn begin_attempt(&mut self) {
        self.attempt = Attempt::default();
        if let Some(exchange) = &self.exchange {
            exchange.sends_to(None);
        }
    }

    /// Notes that the upstream has asked for the body.
    pub fn begin_body(&self) {
        if let Some(connection) = &self.connection {
            connection.begin_body();
        }
    }

    /// Notes that the head of the answer is out: from now on the rest of the body may take its time. `stream_age`: how old
    /// the request is when the answer counts as a stream.
    pub fn begin_answer(&self, stream_age: Option<Duration>) {
        let stream_from = stream_age.map(|age| self.born + age);
        match (&self.exchange, &self.connection) {
            (Some(exchange), _) => exchange.begin_answer(stream_from),
            (None, Some(connection)) => connection.begin_answer(stream_from),
            (None, None) => {}
        }
    }

    /// Notes that the whole answer is out: the rest of the body is of no more use.
    pub fn end_answer(&self) {
        match (&self.exchange, &self.connection) {
            (Some(exchange), _) => exchange.end_answer(),
            (None, Some(connection)) => connection.end_answer(),
            (None, None) => {}
        }
    }

    /// Whether a drain has ended it as a stream.
    fn is_cut(&self) -> bool {
        let is_reset = self.exchange.as_ref().is_some_and(|it| it.is_cut());
        is_reset || self.connection.as_ref().is_some_and(|it| it.is_cut())
    }

    /// Turns the verdict into a refusal; what a grant knew stays for the record.
    pub fn deny(&mut self, reason: DenyReason) {
        let grant = self.grant();
        self.verdict = Verdict::Decided(Decision::Deny(Denial {
            reason,
            fault: None,
            route: grant.map(Grant::route).cloned(),
            identity: grant.and_then(Grant::identity).cloned(),
            retry_after_s: None,
            methods: Vec::new(),
        }));
    }

    /// The proof of an allow, if there is one.
    #[must_use]
    pub const fn grant(&self) -> Option<&Grant> {
        match &self.verdict {
            Verdict::Decided(decision) => decision.grant(),
            _ => None,
        }
    }

    /// What was decided: about the request itself, or the one that a proxy has asked about.
    fn decision(&self) -> Option<&Decision> {
        match &self.verdict {
            Verdict::Decided(decision) => Some(decision),
            Verdict::Asked(judged) => Some(&judged.decision),
            Verdict::Open | Verdict::Local(_) => None,
        }
    }

    /// What one of the gateway's own endpoints has found out.
    const fn notes(&self) -> Option<&Arc<OwnNotes>> {
        match &self.verdict {
            Verdict::Local(notes) => Some(notes),
            _ => None,
        }
    }

    fn outcome(&self) -> Outcome {
        let is_open = self.status == 0 || matches!(self.verdict, Verdict::Open);
        match (self.decision(), self.fault) {
            (Some(Decision::Deny(_)), _) => Outcome::Denied,
            (Some(Decision::Fail(_)), _) | (_, Some(Fault::Own)) => Outcome::Failed,
            (_, Some(Fault::Upstream(_))) => Outcome::UpstreamError,
            (_, Some(Fault::Caller | Fault::Drained)) => Outcome::Aborted,
            (_, None) if is_open => Outcome::Aborted,
            (Some(Decision::Allow(_)), None) => Outcome::Allowed,
            (None, None) => Outcome::Local,
        }
    }

    fn deny_reason(&self) -> Option<DenyReason> {
        self.decision().and_then(Decision::deny_reason)
    }

    /// Method and target for the record: those of the request itself, or of the one that a proxy has asked about.
    fn about(&self) -> (Option<&Method>, Option<&Target>) {
        match &self.verdict {
            Verdict::Asked(judged) => match &judged.about {
                Some((method, target)) => (Some(method), Some(target)),
                None => (self.method.as_ref(), self.target.as_ref()),
            },
            _ => (self.method.as_ref(), self.target.as_ref()),
        }
    }

    fn write_record(&self, took: Duration) {
        let services = &self.snapshot.services;
        let decision = self.decision();
        let notes = self.notes();
        let noted_code = notes.and_then(|notes| notes.reason.get().copied());
        // A page may be shown to a caller whose cookie is not accepted: then nothing was refused.
        let noted_fault = notes.filter(|_| noted_code.is_some());
        let noted_fault = noted_fault.and_then(|notes| notes.fault.get());
        let fault = decision.and_then(Decision::fault).or(noted_fault);
        let identity = decision
            .and_then(Decision::identity)
            .or_else(|| notes?.identity.get());
        let key_id = identity.and_then(|it| it.key_id.as_ref());
        let code = decision.and_then(Decision::code).or(noted_code);
        let (method, target) = self.about();
        // A refused request never came near an upstream.
        let upstream = self
            .grant()
            .and_then(|grant| self.snapshot.config.upstreams.get(grant.route().upstream));
        services.access.write(&AccessRecord {
            time: services.clock.now().to_rfc3339(),
            request_id: self.id.as_str(),
            client: self.client.map(|client| client.address),
            method: method.map_or("", Method::as_str),
            host: target.map_or("", |target| &target.host),
            path: target.map_or(self.raw_target.as_str(), |target| target.path.as_str()),
            route: decision
                .and_then(Decision::route)
                .map(|route| route.text.as_str()),
            outcome: self.outcome(),
            reason: code.or_else(|| self.fault.and_then(Fault::code)),
            fault: fault.map(RefusalFault::code),
            status: self.status,
            subject: identity.map(|it| it.subject()),
            method_authn: identity.map(|it| it.method.as_str()),
            key_id: key_id.or_else(|| fault?.key_id()).map(KeyId::as_str),
            upstream: upstream.map(|upstream| upstream.name.as_str()),
            bytes_sent: self.bytes_sent,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        let services = &self.snapshot.services;
        let now = services.clock.elapsed();
        let took = now.saturating_sub(self.born);
        if self.is_cut() {
            self.fault = Some(Fault::Drained);
        }
        services
            .metrics
            .request(self.outcome(), self.status, self.deny_reason(), took);
        if services.access.is_enabled() {
            self.write_record(took);
        }
        if let Some(connection) = &self.connection {
            connection.end_request(now);
            if self.is_serial {
                connection.expect_head();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, EnvOverlay};
    use crate::crypto::password::PasswordPool;
    use crate::crypto::token::TokenKeys;
    use crate::limit::CounterSets;
    use crate::mail::post::Post;
    use crate::model::clock::{Clock, ManualClock, Timestamp};
    use crate::snapshot::Services;
    use crate::store::generations::Generations;
    use crate::store::memory::MemoryStore;
    use crate::telemetry::access::AccessLog;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::output::Output;

    #[test]
    fn each_way_out_counts_once_and_a_dropped_request_too() {
        let snapshot = snapshot();
        let fresh = || RequestContext::new(RequestId::from_number(1), Arc::clone(&snapshot));
        // Canceled before anything was decided, and while the upstream was asked.
        drop(fresh());
        let mut canceled = fresh();
        canceled.verdict = Verdict::Local(Arc::default());
        drop(canceled);
        let mut answered = fresh();
        answered.verdict = Verdict::Local(Arc::default());
        answered.status = 200;
        drop(answered);
        let mut denied = fresh();
        denied.deny(DenyReason::NoRoute);
        denied.status = 404;
        drop(denied);
        let mut failed = fresh();
        failed.fault = Some(Fault::Own);
        failed.status = 500;
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
            context.connection = Some(theirs);
            context.is_serial = true;
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
        let metrics = Arc::new(Metrics::new());
        let same_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let post =
            Post::open(None, same_clock, Arc::clone(&metrics), Output::to_nowhere()).unwrap();
        let services = Services {
            backups: None,
            key_files: None,
            store: Arc::new(MemoryStore::new(Arc::new(Generations::new()))),
            passwords: Arc::new(PasswordPool::start(1, std::time::Duration::from_secs(2)).unwrap()),
            token_keys: Arc::new(TokenKeys::open(None).unwrap()),
            signing: crate::account::test_kit::signing_keys(&config.tokens, clock.now()),
            assertion_keys: crate::account::test_kit::assertion_keys(),
            mailer: post
                .mailer(&config.mail, &config.listen.public_url.text)
                .unwrap(),
            post,
            counters: Arc::new(CounterSets::new(&clock)),
            key_use: Arc::default(),
            role_sources: crate::account::test_kit::no_sources(&clock),
            issuers: crate::account::test_kit::no_issuers(&clock),
            clock,
            session_uses: Arc::default(),
            metrics,
            access: Arc::new(AccessLog::off()),
            output: Output::to_nowhere(),
        };
        Arc::new(Snapshot::build(Arc::new(config), services).unwrap())
    }
}
