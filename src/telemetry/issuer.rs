//! Metrics of foreign issuers: one set of series for each, under its configured name.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::model::clock::Timestamp;
use crate::telemetry::register::registered;

/// The outcome of a fetch of an issuer's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchOutcome {
    /// A usable key set.
    Taken,
    /// No response, or an unusable one: unreachable, too slow, too long, another status.
    Unreached,
    /// A response that is not a usable key set; the last good one is kept.
    Refused,
}

impl FetchOutcome {
    const ALL: [Self; 3] = [Self::Taken, Self::Unreached, Self::Refused];
}

impl EncodeLabelValue for FetchOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        use std::fmt::Write;
        encoder.write_str(match self {
            Self::Taken => "taken",
            Self::Unreached => "unreached",
            Self::Refused => "refused",
        })
    }
}

/// The result of introspecting a token at an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    const ALL: [Self; 4] = [Self::Active, Self::Inactive, Self::Refused, Self::Failed];
}

impl EncodeLabelValue for Introspected {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        use std::fmt::Write;
        encoder.write_str(match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    issuer: String,
    outcome: FetchOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IntrospectionLabels {
    issuer: String,
    result: Introspected,
}

/// The metrics of all issuers.
#[derive(Debug)]
pub(in crate::telemetry) struct IssuerFamilies {
    keys: Family<IssuerLabels, Gauge>,
    fetched: Family<IssuerLabels, Gauge>,
    unknown_kids: Family<IssuerLabels, Counter>,
    values_left_out: Family<IssuerLabels, Counter>,
    fetches: Family<FetchLabels, Counter>,
    introspections: Family<IntrospectionLabels, Counter>,
}

impl IssuerFamilies {
    pub(in crate::telemetry) fn register(registry: &mut Registry) -> Self {
        Self {
            keys: registered(
                registry,
                "issuer_keys",
                "Keys of an issuer that verify signatures now",
            ),
            fetched: registered(
                registry,
                "issuer_keys_fetched_timestamp_seconds",
                "When an issuer's keys were fetched last, in seconds since 1970; 0: never",
            ),
            unknown_kids: registered(
                registry,
                "issuer_unknown_kids",
                "Tokens that named a key which the issuer's key set did not hold",
            ),
            values_left_out: registered(
                registry,
                "issuer_values_left_out",
                "Roles, scopes and usernames of an issuer's tokens that were left out because they cannot be any",
            ),
            fetches: registered(
                registry,
                "issuer_fetches",
                "Fetches of an issuer's keys by outcome",
            ),
            introspections: registered(
                registry,
                "issuer_introspections",
                "Questions to an issuer about opaque tokens by result",
            ),
        }
    }

    pub(in crate::telemetry) fn of(&self, name: &str) -> IssuerMetrics {
        let labels = IssuerLabels {
            issuer: name.to_owned(),
        };
        IssuerMetrics {
            keys: self.keys.get_or_create_owned(&labels),
            fetched: self.fetched.get_or_create_owned(&labels),
            unknown_kids: self.unknown_kids.get_or_create_owned(&labels),
            values_left_out: self.values_left_out.get_or_create_owned(&labels),
            fetches: FetchOutcome::ALL.map(|outcome| {
                let issuer = name.to_owned();
                self.fetches
                    .get_or_create_owned(&FetchLabels { issuer, outcome })
            }),
            introspections: Introspected::ALL.map(|result| {
                let issuer = name.to_owned();
                self.introspections
                    .get_or_create_owned(&IntrospectionLabels { issuer, result })
            }),
        }
    }

    pub(in crate::telemetry) fn forget(&self, name: &str) {
        let labels = IssuerLabels {
            issuer: name.to_owned(),
        };
        self.keys.remove(&labels);
        self.fetched.remove(&labels);
        self.unknown_kids.remove(&labels);
        self.values_left_out.remove(&labels);
        for outcome in FetchOutcome::ALL {
            let issuer = name.to_owned();
            self.fetches.remove(&FetchLabels { issuer, outcome });
        }
        for result in Introspected::ALL {
            let issuer = name.to_owned();
            self.introspections
                .remove(&IntrospectionLabels { issuer, result });
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
    fetches: [Counter; FetchOutcome::ALL.len()],
    introspections: [Counter; Introspected::ALL.len()],
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
        if let Some(counter) = self.fetches.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Counts an introspection.
    pub fn introspection(&self, result: Introspected) {
        if let Some(counter) = self.introspections.get(result as usize) {
            counter.inc();
        }
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
        let told = |registry: &Registry| {
            let mut text = String::new();
            text::encode(&mut text, registry).unwrap();
            text
        };
        let corp = families.of("corp");
        corp.keys(2);
        corp.fetched(Timestamp::from_secs(1_800_000_000));
        corp.unknown_kid();
        corp.left_out(3);
        for outcome in FetchOutcome::ALL {
            corp.fetch(outcome);
        }
        families.of("corp").fetch(FetchOutcome::Refused);
        corp.introspection(Introspected::Failed);
        let text = told(&registry);
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
        assert!(!told(&registry).contains("corp"));
    }
}
