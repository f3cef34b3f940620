//! What is known about one request, from its birth to its record.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::auth::asked::Judged;
use crate::auth::client::Client;
use crate::auth::grant::{Decision, Denial, Grant};
use crate::auth::view::Target;
use crate::model::deny::DenyReason;
use crate::model::id::RequestId;
use crate::model::route::Upstream;
use crate::proxy::attempt::{Attempt, Attempts};
use crate::proxy::connection::Connection;
use crate::proxy::exchange::Exchange;
use crate::proxy::in_flight::InFlightPlace;
use crate::snapshot::{OwnNotes, RequestEnd, Snapshot};
use crate::telemetry::metrics::Outcome;

/// What was decided about a request.
#[derive(Debug, Default)]
pub(in crate::proxy) enum Verdict {
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
pub(in crate::proxy) enum Fault {
    /// The upstream, with the code of the answer.
    Upstream(&'static str),
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
            Self::Upstream(code) => Some(code),
            Self::Caller => None,
            Self::Drained => Some("drained"),
            Self::Own => Some("internal_error"),
        }
    }
}

/// Where a request comes from.
#[derive(Debug)]
pub(in crate::proxy) struct Downstream {
    /// The connection.
    pub(in crate::proxy) connection: Arc<Connection>,
    /// Who is at the other end.
    pub(in crate::proxy) client: Client,
    /// Whether the next request on the connection waits for the end of this one (HTTP/1).
    pub(in crate::proxy) is_serial: bool,
}

/// A request whose head is refused, or whose target cannot be read.
#[derive(Debug)]
pub(in crate::proxy) struct RefusedRequest {
    pub(in crate::proxy) downstream: Downstream,
    /// The method, as sent; `None` if it could not be read.
    pub(in crate::proxy) method: Option<Method>,
    /// The target as sent, without the query.
    pub(in crate::proxy) target: String,
    /// Why it is refused.
    pub(in crate::proxy) reason: DenyReason,
}

/// A request that can be decided.
#[derive(Debug)]
pub(in crate::proxy) struct AdmittedRequest {
    pub(in crate::proxy) downstream: Downstream,
    /// The method, as sent.
    pub(in crate::proxy) method: Method,
    /// What it asks for.
    pub(in crate::proxy) target: Target,
    /// The scheme that the caller used: `http` or `https`.
    pub(in crate::proxy) scheme: &'static str,
}

/// How much of a request was read.
#[derive(Debug)]
pub(in crate::proxy) enum Stage {
    /// Nothing yet.
    Arrived,
    /// A head that is refused.
    Refused(RefusedRequest),
    /// The whole head.
    Admitted(AdmittedRequest),
}

/// One request. Its record is written when it is dropped: Pingora's own last phase is not reached by a request that is
/// canceled, panics or resets.
#[derive(Debug)]
pub struct RequestContext {
    /// The request's id.
    pub(in crate::proxy) id: RequestId,
    /// The one configuration that it sees.
    pub(in crate::proxy) snapshot: Arc<Snapshot>,
    /// What is watched of it over HTTP/2.
    pub(in crate::proxy) exchange: Option<Arc<Exchange>>,
    pub(in crate::proxy) stage: Stage,
    /// Its place among the requests in flight.
    pub(in crate::proxy) place: Option<InFlightPlace>,
    pub(in crate::proxy) verdict: Verdict,
    pub(in crate::proxy) attempts: Attempts,
    /// What broke.
    pub(in crate::proxy) fault: Option<Fault>,
    /// Status of the answer; 0 until there is one.
    pub(in crate::proxy) status: u16,
    /// Bytes of the answer's body.
    pub(in crate::proxy) bytes_sent: u64,
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
            exchange: Exchange::current(),
            stage: Stage::Arrived,
            place: None,
            verdict: Verdict::Open,
            attempts: Attempts::default(),
            fault: None,
            status: 0,
            bytes_sent: 0,
        }
    }

    /// Where the request comes from, once its head was looked at.
    pub(in crate::proxy) fn downstream(&self) -> Option<&Downstream> {
        match &self.stage {
            Stage::Arrived => None,
            Stage::Refused(request) => Some(&request.downstream),
            Stage::Admitted(request) => Some(&request.downstream),
        }
    }

    /// The caller's connection.
    pub(in crate::proxy) fn connection(&self) -> Option<&Connection> {
        self.downstream().map(|downstream| &*downstream.connection)
    }

    /// The method, as sent; `None` if it was not read.
    pub(in crate::proxy) fn method(&self) -> Option<&Method> {
        match &self.stage {
            Stage::Arrived => None,
            Stage::Refused(request) => request.method.as_ref(),
            Stage::Admitted(request) => Some(&request.method),
        }
    }

    /// The request and the proof that it may pass, where there is one.
    pub(in crate::proxy) fn granted(&self) -> Option<(&AdmittedRequest, &Grant)> {
        match (&self.stage, &self.verdict) {
            (Stage::Admitted(request), Verdict::Decided(Decision::Allow(grant))) => {
                Some((request, grant))
            }
            _ => None,
        }
    }

    /// The upstream that was granted.
    pub(in crate::proxy) fn upstream(&self) -> Option<&Upstream> {
        let (_, grant) = self.granted()?;
        self.snapshot.config.upstreams.get(grant.route().upstream)
    }

    /// Begins another try to send the request: its body goes from the beginning.
    pub(in crate::proxy) fn begin_attempt(&mut self) {
        self.attempts.present = Attempt::default();
        if let Some(exchange) = &self.exchange {
            exchange.sends_to(None);
        }
    }

    /// Notes that the upstream has asked for the body.
    pub(in crate::proxy) fn begin_body(&self) {
        if let Some(connection) = self.connection() {
            connection.begin_body();
        }
    }

    /// Notes that the head of the answer is out: from now on the rest of the body may take its time. `stream_age`: how old
    /// the request is when the answer counts as a stream.
    pub(in crate::proxy) fn begin_answer(&self, stream_age: Option<Duration>) {
        let stream_from = stream_age.map(|age| self.born + age);
        match (&self.exchange, self.connection()) {
            (Some(exchange), _) => exchange.begin_answer(stream_from),
            (None, Some(connection)) => connection.begin_answer(stream_from),
            (None, None) => {}
        }
    }

    /// Notes that the whole answer is out: the rest of the body is of no more use.
    pub(in crate::proxy) fn end_answer(&self) {
        match (&self.exchange, self.connection()) {
            (Some(exchange), _) => exchange.end_answer(),
            (None, Some(connection)) => connection.end_answer(),
            (None, None) => {}
        }
    }

    /// Whether a drain has ended it as a stream.
    fn is_cut(&self) -> bool {
        let is_reset = self.exchange.as_ref().is_some_and(|it| it.is_cut());
        is_reset || self.connection().is_some_and(Connection::is_cut)
    }

    /// Turns the verdict into a refusal; what a grant knew stays for the record.
    pub(in crate::proxy) fn deny(&mut self, reason: DenyReason) {
        let grant = match &self.verdict {
            Verdict::Decided(decision) => decision.grant(),
            _ => None,
        };
        self.verdict = Verdict::Decided(Decision::Deny(Denial {
            reason,
            fault: None,
            route: grant.map(Grant::route).cloned(),
            identity: grant.and_then(Grant::identity).cloned(),
            retry_after_s: None,
            methods: Vec::new(),
        }));
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
    fn notes(&self) -> Option<&OwnNotes> {
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

    /// Method, host and path for the record: those of the request itself, or of the one that a proxy has asked about.
    fn about(&self) -> (Option<&Method>, &str, &str) {
        let asked = match &self.verdict {
            Verdict::Asked(judged) => judged.about.as_ref(),
            _ => None,
        };
        match (asked, &self.stage) {
            (Some((method, target)), _) => (Some(method), &target.host, target.path.as_str()),
            (None, Stage::Admitted(request)) => {
                let target = &request.target;
                (Some(&request.method), &target.host, target.path.as_str())
            }
            (None, Stage::Refused(request)) => (request.method.as_ref(), "", &request.target),
            (None, Stage::Arrived) => (None, "", ""),
        }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        let now = self.snapshot.services.clock.elapsed();
        if self.is_cut() {
            self.fault = Some(Fault::Drained);
        }
        let (method, host, path) = self.about();
        let downstream = self.downstream();
        let end = RequestEnd {
            id: self.id,
            born: self.born,
            client: downstream.map(|downstream| downstream.client.address),
            method,
            host,
            path,
            outcome: self.outcome(),
            decision: self.decision(),
            notes: self.notes(),
            broken: self.fault.and_then(Fault::code),
            status: self.status,
            // A refused request never came near an upstream.
            upstream: self.upstream(),
            bytes_sent: self.bytes_sent,
        };
        self.snapshot.end_request(&end, now);
        if let Some(downstream) = downstream {
            downstream.connection.end_request(now);
            if downstream.is_serial {
                downstream.connection.expect_head();
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
    use crate::model::forwarding::TrustedFields;
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
            context.stage = Stage::Refused(RefusedRequest {
                downstream: Downstream {
                    client: Client::find(
                        theirs.peer(),
                        &http::HeaderMap::new(),
                        &[],
                        TrustedFields::NONE,
                    ),
                    connection: theirs,
                    is_serial: true,
                },
                method: None,
                target: String::new(),
                reason: DenyReason::PathRefused,
            });
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
