//! Prometheus metrics, as fields of one struct; labels are enums.
//!
//! Every series is created at startup and held by a handle, indexed by its labels: counting a request needs no lock, no
//! look-up by name and no allocation.

use std::fmt::Write;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::token_fault::FaultKind;
use crate::telemetry::bearer::BearerFaults;
use crate::telemetry::edge::EdgeMetrics;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::issuer::{IssuerFamilies, IssuerMetrics};
use crate::telemetry::output::LineCounts;
use crate::telemetry::register::registered;
use crate::telemetry::upstream::UpstreamMetrics;

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// Allowed and forwarded.
    Allowed,
    /// Answered by the gateway's own endpoints.
    Local,
    /// Refused.
    Denied,
    /// Not decided, because of a failure.
    Failed,
    /// The upstream did not respond properly.
    UpstreamError,
    /// The caller disconnected, or HTTP itself failed.
    Aborted,
}

impl RequestOutcome {
    /// Every outcome once, in discriminant order.
    pub const ALL: [Self; 6] = [
        Self::Allowed,
        Self::Local,
        Self::Denied,
        Self::Failed,
        Self::UpstreamError,
        Self::Aborted,
    ];

    /// Returns the stable name in access records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Local => "local",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::UpstreamError => "upstream_error",
            Self::Aborted => "aborted",
        }
    }
}

impl EncodeLabelValue for RequestOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.as_str())
    }
}

/// The outcome of a mail, or of one attempt to deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailEvent {
    /// Accepted by the transport.
    Sent,
    /// A failed attempt; the mail stays in the outbox.
    Failed,
    /// Given up: expired, or refused repeatedly by its recipient.
    Dropped,
}

impl MailEvent {
    const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Dropped];
}

impl EncodeLabelValue for MailEvent {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        })
    }
}

/// The first digit of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum StatusClass {
    None,
    Informational,
    Success,
    Redirection,
    CallerError,
    ServerError,
}

impl StatusClass {
    const ALL: [Self; 6] = [
        Self::None,
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::CallerError,
        Self::ServerError,
    ];

    const fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::CallerError,
            500..=599 => Self::ServerError,
            _ => Self::None,
        }
    }
}

impl EncodeLabelValue for StatusClass {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::None => "none",
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::CallerError => "4xx",
            Self::ServerError => "5xx",
        })
    }
}

/// A deny reason as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reason(DenyReason);

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0.code())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    outcome: RequestOutcome,
    status: StatusClass,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: RequestOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MailLabels {
    event: MailEvent,
}

/// The metrics with labels, one for each combination.
#[derive(Debug)]
struct Labelled {
    /// By outcome, then by status class.
    requests: [[Counter; StatusClass::ALL.len()]; RequestOutcome::ALL.len()],
    refusals: [Counter; DenyReason::ALL.len()],
    durations: [Histogram; RequestOutcome::ALL.len()],
    mails: [Counter; MailEvent::ALL.len()],
}

impl Labelled {
    fn register(registry: &mut Registry) -> Self {
        let requests: Family<RequestLabels, Counter> = registered(
            registry,
            "requests",
            "Finished requests by outcome and class of status; none: no answer was sent",
        );
        let refusals: Family<ReasonLabels, Counter> =
            registered(registry, "refusals", "Refused requests by reason");
        let durations: Family<OutcomeLabels, Histogram> = registered(
            registry,
            "request_duration_seconds",
            "From the head of a request to the end of its answer, by outcome",
        );
        let mails: Family<MailLabels, Counter> =
            registered(registry, "mails", "What became of mails");
        Self {
            requests: RequestOutcome::ALL.map(|outcome| {
                StatusClass::ALL
                    .map(|status| requests.get_or_create_owned(&RequestLabels { outcome, status }))
            }),
            refusals: DenyReason::ALL.map(|reason| {
                let reason = Reason(reason);
                refusals.get_or_create_owned(&ReasonLabels { reason })
            }),
            durations: RequestOutcome::ALL
                .map(|outcome| durations.get_or_create_owned(&OutcomeLabels { outcome })),
            mails: MailEvent::ALL.map(|event| mails.get_or_create_owned(&MailLabels { event })),
        }
    }
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    labelled: Labelled,
    password_pool_busy: Counter,
    store_errors: Counter,
    logins_limited: Counter,
    limits_full: Counter,
    role_source_requests: Counter,
    role_source_errors: Counter,
    identity_cache_hits: Counter,
    identity_cache_misses: Counter,
    mails_queued: Gauge,
    backup_made: Gauge,
    backup_errors: Counter,
    issuers: IssuerFamilies,
    bearer_faults: BearerFaults,
    upstreams: UpstreamMetrics,
    edge: EdgeMetrics,
}

impl Metrics {
    /// Creates all metrics at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::counting(&LineCounts::default())
    }

    /// The `Content-Type` of [`Metrics::render`].
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Creates all metrics at zero, together with the line counts of an output.
    #[must_use]
    pub fn counting(lines: &LineCounts) -> Self {
        let mut registry = Registry::with_prefix("doorward");
        registry.register(
            "build",
            "What is running",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let labelled = Labelled::register(&mut registry);
        lines.register(&mut registry);
        let mut gauge = |name: &str, help: &str| -> Gauge { registered(&mut registry, name, help) };
        let mails_queued = gauge("mails_queued", "Mails that wait in the outbox");
        let backup_made = gauge(
            "backup_last_success_timestamp_seconds",
            "When the newest backup of the store was made, since 1970; 0: there is none",
        );
        let issuers = IssuerFamilies::register(&mut registry);
        let bearer_faults = BearerFaults::register(&mut registry);
        let edge = EdgeMetrics::register(&mut registry);
        let upstreams = UpstreamMetrics::register(&mut registry);
        let mut counter =
            |name: &str, help: &str| -> Counter { registered(&mut registry, name, help) };
        Self {
            password_pool_busy: counter(
                "password_pool_busy",
                "Passwords that were not looked at because too many waited",
            ),
            store_errors: counter("store_errors", "Reads and writes of the store that failed"),
            logins_limited: counter(
                "logins_limited",
                "Passwords that were not looked at because too many had failed",
            ),
            limits_full: counter(
                "limits_full",
                "Requests that were refused because there was no room to count them",
            ),
            role_source_requests: counter(
                "role_source_requests",
                "Questions that role sources were asked",
            ),
            role_source_errors: counter(
                "role_source_errors",
                "Questions that role sources did not answer as they should",
            ),
            identity_cache_hits: counter(
                "identity_cache_hits",
                "Credentials whose identity was cached and current",
            ),
            identity_cache_misses: counter(
                "identity_cache_misses",
                "Credentials that were verified anew",
            ),
            backup_errors: counter("backup_errors", "Backups that could not be made"),
            mails_queued,
            backup_made,
            issuers,
            bearer_faults,
            upstreams,
            edge,
            labelled,
            registry,
        }
    }

    /// Counts a finished request. `status` is 0 if no response was sent; `reason` is set if it was refused.
    pub fn request(
        &self,
        outcome: RequestOutcome,
        status: u16,
        reason: Option<DenyReason>,
        took: Duration,
    ) {
        let of_outcome = self.labelled.requests.get(outcome as usize);
        if let Some(counter) = of_outcome.and_then(|all| all.get(StatusClass::of(status) as usize))
        {
            counter.inc();
        }
        if let Some(histogram) = self.labelled.durations.get(outcome as usize) {
            histogram.observe(took);
        }
        if let Some(counter) = reason.and_then(|reason| self.labelled.refusals.get(reason as usize))
        {
            counter.inc();
        }
    }

    /// Counts a password that was not verified because too many were queued.
    pub fn password_pool_busy(&self) {
        self.password_pool_busy.inc();
    }

    /// Counts a failed read or write of the store.
    pub fn store_error(&self) {
        self.store_errors.inc();
    }

    /// Counts a password that was not verified because too many had failed.
    pub fn login_limited(&self) {
        self.logins_limited.inc();
    }

    /// Counts a request refused because there was no room to count it.
    pub fn limits_full(&self) {
        self.limits_full.inc();
    }

    /// Counts a query to a role source.
    pub fn role_source_request(&self) {
        self.role_source_requests.inc();
    }

    /// Counts a query that a role source did not answer properly.
    pub fn role_source_error(&self) {
        self.role_source_errors.inc();
    }

    /// Counts an identity cache hit.
    pub fn identity_cache_hit(&self) {
        self.identity_cache_hits.inc();
    }

    /// Counts an identity cache miss: the credential was verified.
    pub fn identity_cache_miss(&self) {
        self.identity_cache_misses.inc();
    }

    /// Counts the outcome of a mail or attempt.
    pub fn mail(&self, event: MailEvent) {
        if let Some(counter) = self.labelled.mails.get(event as usize) {
            counter.inc();
        }
    }

    /// Counts a refused bearer token.
    pub fn bearer_refused(&self, kind: FaultKind) {
        self.bearer_faults.count(kind);
    }

    /// Returns the metrics of a foreign issuer, creating them on first use.
    #[must_use]
    pub fn issuer(&self, name: &str) -> IssuerMetrics {
        self.issuers.of(name)
    }

    /// Removes the metrics of a foreign issuer that is no longer configured.
    pub fn forget_issuer(&self, name: &str) {
        self.issuers.forget(name);
    }

    /// Returns the metrics of upstream addresses.
    #[must_use]
    pub fn upstreams(&self) -> &UpstreamMetrics {
        &self.upstreams
    }

    /// Returns the metrics of downstream connections.
    #[must_use]
    pub fn edge(&self) -> &EdgeMetrics {
        &self.edge
    }

    /// Returns the number of mails in the outbox.
    #[must_use]
    pub fn mails_queued(&self) -> &Gauge {
        &self.mails_queued
    }

    /// Sets the time of the newest backup.
    pub fn backup_made(&self, at: Timestamp) {
        self.backup_made.set(at.secs());
    }

    /// Counts a failed backup.
    pub fn backup_failed(&self) {
        self.backup_errors.inc();
    }

    /// Returns the text that Prometheus reads (`OpenMetrics`).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing into a `String` does not fail; a partial text lacks its end and would be refused by its reader.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_label_is_its_place_in_the_list() {
        for (index, outcome) in RequestOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        for (index, class) in StatusClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
        for (index, reason) in DenyReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn a_request_is_counted_where_it_belongs() {
        let metrics = Metrics::new();
        metrics.request(RequestOutcome::Allowed, 204, None, Duration::from_millis(3));
        metrics.request(
            RequestOutcome::Denied,
            403,
            Some(DenyReason::RoleMissing),
            Duration::from_micros(80),
        );
        metrics.request(RequestOutcome::Aborted, 0, None, Duration::from_secs(99));
        metrics.store_error();
        metrics.mail(MailEvent::Dropped);
        metrics.mails_queued().set(7);
        metrics.identity_cache_hit();
        metrics.backup_made(Timestamp::from_secs(1_893_456_000));
        let text = metrics.render();
        for line in [
            "doorward_build_info{version=\"0.1.0\"} 1",
            "doorward_requests_total{outcome=\"allowed\",status=\"2xx\"} 1",
            "doorward_requests_total{outcome=\"denied\",status=\"4xx\"} 1",
            "doorward_requests_total{outcome=\"aborted\",status=\"none\"} 1",
            "doorward_requests_total{outcome=\"local\",status=\"2xx\"} 0",
            "doorward_refusals_total{reason=\"role_missing\"} 1",
            "doorward_refusals_total{reason=\"no_route\"} 0",
            "doorward_request_duration_seconds_count{outcome=\"allowed\"} 1",
            "doorward_store_errors_total 1",
            "doorward_mails_total{event=\"dropped\"} 1",
            "doorward_mails_total{event=\"sent\"} 0",
            "doorward_mails_queued 7",
            "doorward_identity_cache_hits_total 1",
            "doorward_identity_cache_misses_total 0",
            "doorward_password_pool_busy_total 0",
            "doorward_logins_limited_total 0",
            "doorward_limits_full_total 0",
            "doorward_lines_lost_total{stream=\"access\"} 0",
            "doorward_lines_written_total{stream=\"audit\"} 0",
            "doorward_backup_last_success_timestamp_seconds 1893456000",
            "doorward_backup_errors_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
