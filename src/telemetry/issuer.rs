//! Metrics of foreign issuers: one set of series for each, under its configured name.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::model::clock::Timestamp;
use crate::telemetry::register::{RegisterMetric, count};

/// The outcome of a fetch of an issuer's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// A usable key set.
    Taken,
    /// No response, or an unusable one: unreachable, too slow, too long, another status.
    Unreached,
    /// A response that is not a usable key set; the last good one is kept.
    Refused,
}

impl FetchOutcome {
    /// The label of each outcome, in discriminant order.
    const LABELS: [&'static str; 3] = ["taken", "unreached", "refused"];
}

/// The result of introspecting a token at an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introspected {
    /// The token is active.
    Active,
    /// The token is not active.
    Inactive,
    /// The issuer refuses to answer about this token: a fault of the token.
    Refused,
    /// No usable answer.
    Failed,
}

impl Introspected {
    /// The label of each result, in discriminant order.
    const LABELS: [&'static str; 4] = ["active", "inactive", "refused", "failed"];
}

/// The issuer's name, and a second label where a family has one.
type IssuerLabels = Vec<(&'static str, String)>;

fn labels_of(issuer: &str, second: Option<(&'static str, &str)>) -> IssuerLabels {
    let owned = |(name, value): (&'static str, &str)| (name, value.to_owned());
    let labels = [("issuer", issuer)].into_iter().chain(second);
    labels.map(owned).collect()
}

/// The metrics of all issuers.
#[derive(Debug)]
pub struct IssuerFamilies {
    keys: Family<IssuerLabels, Gauge>,
    fetched: Family<IssuerLabels, Gauge>,
    unknown_kids: Family<IssuerLabels, Counter>,
    values_left_out: Family<IssuerLabels, Counter>,
    fetches: Family<IssuerLabels, Counter>,
    introspections: Family<IssuerLabels, Counter>,
}

impl IssuerFamilies {
    pub(in crate::telemetry) fn register(registry: &mut Registry) -> Self {
        Self {
            keys: registry.add(
                "issuer_keys",
                "Keys of an issuer that verify signatures now",
            ),
            fetched: registry.add(
                "issuer_keys_fetched_timestamp_seconds",
                "Time of the last successful fetch of an issuer's keys, in seconds since 1970; 0: never",
            ),
            unknown_kids: registry.add(
                "issuer_unknown_kids",
                "Tokens with a key id that is not in the issuer's key set",
            ),
            values_left_out: registry.add(
                "issuer_values_left_out",
                "Roles, scopes and usernames of an issuer's tokens that were omitted because \
                 they are malformed or reserved",
            ),
            fetches: registry.add("issuer_fetches", "Fetches of an issuer's keys by outcome"),
            introspections: registry.add(
                "issuer_introspections",
                "Introspection requests to an issuer by result",
            ),
        }
    }

    /// Returns the metrics of an issuer, creating them on first use.
    #[must_use]
    pub fn of(&self, name: &str) -> IssuerMetrics {
        let labels = labels_of(name, None);
        let by = |family: &Family<IssuerLabels, Counter>, label, value| {
            family.get_or_create_owned(&labels_of(name, Some((label, value))))
        };
        IssuerMetrics {
            keys: self.keys.get_or_create_owned(&labels),
            fetched: self.fetched.get_or_create_owned(&labels),
            unknown_kids: self.unknown_kids.get_or_create_owned(&labels),
            values_left_out: self.values_left_out.get_or_create_owned(&labels),
            fetches: FetchOutcome::LABELS.map(|outcome| by(&self.fetches, "outcome", outcome)),
            introspections: Introspected::LABELS
                .map(|result| by(&self.introspections, "result", result)),
        }
    }

    /// Removes the metrics of an issuer that is no longer configured.
    pub fn forget(&self, name: &str) {
        let labels = labels_of(name, None);
        self.keys.remove(&labels);
        self.fetched.remove(&labels);
        self.unknown_kids.remove(&labels);
        self.values_left_out.remove(&labels);
        for outcome in FetchOutcome::LABELS {
            self.fetches
                .remove(&labels_of(name, Some(("outcome", outcome))));
        }
        for result in Introspected::LABELS {
            self.introspections
                .remove(&labels_of(name, Some(("result", result))));
        }
    }
}

/// The metrics of one issuer; clones share their counts.
#[derive(Clone, Debug)]
pub struct IssuerMetrics {
    keys: Gauge,
    fetched: Gauge,
    unknown_kids: Counter,
    values_left_out: Counter,
    fetches: [Counter; FetchOutcome::LABELS.len()],
    introspections: [Counter; Introspected::LABELS.len()],
}

impl IssuerMetrics {
    /// Sets the number of usable keys.
    pub fn keys(&self, count: usize) {
        self.keys.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the time of the last fetch of keys.
    pub fn fetched(&self, at: Timestamp) {
        self.fetched.set(at.secs());
    }

    /// Counts a token with an unknown key id.
    pub fn unknown_kid(&self) {
        self.unknown_kids.inc();
    }

    /// Counts omitted values of a token's claims.
    pub fn left_out(&self, count: usize) {
        self.values_left_out
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Counts a fetch of keys.
    pub fn fetch(&self, outcome: FetchOutcome) {
        count(&self.fetches, outcome as usize);
    }

    /// Counts an introspection.
    pub fn introspection(&self, result: Introspected) {
        count(&self.introspections, result as usize);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn each_issuer_has_its_series_until_it_is_forgotten() {
        let mut registry = Registry::default();
        let families = IssuerFamilies::register(&mut registry);
        let encoded = |registry: &Registry| {
            let mut text = String::new();
            text::encode(&mut text, registry).unwrap();
            text
        };
        let corp = families.of("corp");
        corp.keys(2);
        corp.fetched(Timestamp::from_secs(1_800_000_000));
        corp.unknown_kid();
        corp.left_out(3);
        for outcome in [
            FetchOutcome::Taken,
            FetchOutcome::Unreached,
            FetchOutcome::Refused,
        ] {
            corp.fetch(outcome);
        }
        families.of("corp").fetch(FetchOutcome::Refused);
        corp.introspection(Introspected::Failed);
        let text = encoded(&registry);
        for line in [
            "issuer_keys{issuer=\"corp\"} 2",
            "issuer_keys_fetched_timestamp_seconds{issuer=\"corp\"} 1800000000",
            "issuer_unknown_kids_total{issuer=\"corp\"} 1",
            "issuer_values_left_out_total{issuer=\"corp\"} 3",
            "issuer_fetches_total{issuer=\"corp\",outcome=\"taken\"} 1",
            "issuer_fetches_total{issuer=\"corp\",outcome=\"unreached\"} 1",
            "issuer_fetches_total{issuer=\"corp\",outcome=\"refused\"} 2",
            "issuer_introspections_total{issuer=\"corp\",result=\"active\"} 0",
            "issuer_introspections_total{issuer=\"corp\",result=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        families.forget("corp");
        assert!(!encoded(&registry).contains("corp"));
    }
}
