//! Prometheus metrics, as fields of one struct; labels are enums.
//!
//! Every series is created at startup and held by a handle, indexed by its labels: counting a request needs no lock, no
//! look-up by name and no allocation.

use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::token_fault::FaultKind;
use crate::telemetry::edge::EdgeMetrics;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::issuer::IssuerFamilies;
use crate::telemetry::output::LineCounts;
use crate::telemetry::register::{FixedLabels, RegisterMetric, count};
use crate::telemetry::upstream::UpstreamMetrics;

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "snake_case"))]
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

/// The outcome of a mail, or of one attempt to deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailEvent {
    /// Accepted by the transport.
    Sent,
    /// A failed attempt; the mail stays in the outbox.
    Failed,
    /// Given up: expired, or refused repeatedly by its recipient.
    Dropped,
}

impl MailEvent {
    /// The label of each event, in discriminant order.
    const LABELS: [&'static str; 3] = ["sent", "failed", "dropped"];
}

/// The labels of statuses by their first digit; the first one means that no answer was sent.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Returns the index of a status in [`STATUS_CLASSES`].
const fn status_class(status: u16) -> usize {
    match status {
        100..=599 => status as usize / 100,
        _ => 0,
    }
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: RequestCounters,
    refusals: [Counter; DenyReason::ALL.len()],
    durations: [Histogram; RequestOutcome::ALL.len()],
    mails: [Counter; MailEvent::LABELS.len()],
    bearer_faults: [Counter; FaultKind::ALL.len()],
    mails_queued: Gauge,
    backup_made: Gauge,
    /// The metrics of foreign issuers.
    pub issuers: IssuerFamilies,
    /// The metrics of downstream connections.
    pub edge: EdgeMetrics,
    /// The metrics of upstream addresses.
    pub upstreams: UpstreamMetrics,
    /// Passwords that were not verified because too many were queued.
    pub password_pool_busy: Counter,
    /// Failed reads and writes of the store.
    pub store_errors: Counter,
    /// Passwords that were not verified because too many had failed.
    pub logins_limited: Counter,
    /// Requests refused because there was no room to count them.
    pub limits_full: Counter,
    /// Queries to role sources.
    pub role_source_requests: Counter,
    /// Queries that a role source did not answer properly.
    pub role_source_errors: Counter,
    /// Identity cache hits.
    pub identity_cache_hits: Counter,
    /// Identity cache misses: the credential was verified.
    pub identity_cache_misses: Counter,
    /// Failed backups.
    pub backup_errors: Counter,
}

/// Counters of requests by outcome, then by class of status.
type RequestCounters = [[Counter; STATUS_CLASSES.len()]; RequestOutcome::ALL.len()];

fn register_requests(registry: &mut Registry) -> RequestCounters {
    let requests: Family<FixedLabels<2>, Counter> = registry.add(
        "requests",
        "Finished requests by outcome and class of status; none: no answer was sent",
    );
    RequestOutcome::ALL.map(|outcome| {
        let outcome = ("outcome", outcome.as_str());
        STATUS_CLASSES.map(|status| requests.get_or_create_owned(&[outcome, ("status", status)]))
    })
}

impl Metrics {
    /// Creates all metrics at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::counting(&LineCounts::default())
    }

    /// The `Content-Type` of [`Metrics::render`].
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Creates all metrics at zero, together with the line counts of an output. They are rendered in the order of their
    /// registration.
    #[must_use]
    pub fn counting(lines: &LineCounts) -> Self {
        let mut registry = Registry::with_prefix("doorward");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the running gateway", version);
        let requests = register_requests(&mut registry);
        let refusals = registry.add_by(
            "refusals",
            "Refused requests by reason",
            ("reason", DenyReason::ALL.map(DenyReason::code)),
        );
        let durations = registry.add_by(
            "request_duration_seconds",
            "Time from the head of a request to the end of its answer, by outcome",
            ("outcome", RequestOutcome::ALL.map(RequestOutcome::as_str)),
        );
        let event = ("event", MailEvent::LABELS);
        let mails = registry.add_by("mails", "Mails by outcome", event);
        lines.register(&mut registry);
        // The fields are evaluated in this order, which is that of the rendered text.
        Self {
            requests,
            refusals,
            durations,
            mails,
            mails_queued: registry.add("mails_queued", "Mails in the outbox"),
            backup_made: registry.add(
                "backup_last_success_timestamp_seconds",
                "Time of the newest backup of the store, in seconds since 1970; 0: none",
            ),
            issuers: IssuerFamilies::register(&mut registry),
            bearer_faults: registry.add_by(
                "bearer_tokens_refused",
                "Refused bearer tokens, by fault",
                ("fault", FaultKind::ALL.map(FaultKind::code)),
            ),
            edge: EdgeMetrics::register(&mut registry),
            upstreams: UpstreamMetrics::register(&mut registry),
            password_pool_busy: registry.add(
                "password_pool_busy",
                "Passwords not verified because the hashing pool was busy",
            ),
            store_errors: registry.add("store_errors", "Reads and writes of the store that failed"),
            logins_limited: registry.add(
                "logins_limited",
                "Passwords not verified because too many attempts had failed",
            ),
            limits_full: registry.add(
                "limits_full",
                "Requests refused because the table of counters was full",
            ),
            role_source_requests: registry.add("role_source_requests", "Requests to role sources"),
            role_source_errors: registry.add(
                "role_source_errors",
                "Requests to role sources without a valid answer",
            ),
            identity_cache_hits: registry.add(
                "identity_cache_hits",
                "Credentials whose identity was cached and current",
            ),
            identity_cache_misses: registry.add(
                "identity_cache_misses",
                "Credentials that had to be verified",
            ),
            backup_errors: registry.add("backup_errors", "Failed backups"),
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
        if let Some(of_outcome) = self.requests.get(outcome as usize) {
            count(of_outcome, status_class(status));
        }
        if let Some(histogram) = self.durations.get(outcome as usize) {
            histogram.observe(took);
        }
        if let Some(reason) = reason {
            count(&self.refusals, reason as usize);
        }
    }

    /// Counts the outcome of a mail or attempt.
    pub fn mail(&self, event: MailEvent) {
        count(&self.mails, event as usize);
    }

    /// Counts a refused bearer token by its fault, which is not disclosed to callers.
    pub fn bearer_refused(&self, kind: FaultKind) {
        count(&self.bearer_faults, kind as usize);
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
        for (status, class) in [
            (0, 0),
            (99, 0),
            (100, 1),
            (204, 2),
            (399, 3),
            (599, 5),
            (600, 0),
        ] {
            assert_eq!(status_class(status), class);
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
        metrics.store_errors.inc();
        metrics.mail(MailEvent::Dropped);
        metrics.mails_queued().set(7);
        metrics.identity_cache_hits.inc();
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

    #[test]
    fn each_kind_of_a_fault_has_a_series_of_its_own() {
        let metrics = Metrics::new();
        for kind in FaultKind::ALL {
            metrics.bearer_refused(kind);
        }
        metrics.bearer_refused(FaultKind::Audience);
        let text = metrics.render();
        for kind in FaultKind::ALL {
            let count = if kind == FaultKind::Audience { 2 } else { 1 };
            let line = format!(
                "doorward_bearer_tokens_refused_total{{fault=\"{}\"}} {count}",
                kind.code()
            );
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
