//! Metrics of refused bearer tokens by fault, which is not disclosed to callers.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::model::token_fault::FaultKind;
use crate::telemetry::register::registered;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FaultValue(FaultKind);

impl EncodeLabelValue for FaultValue {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        use std::fmt::Write;
        encoder.write_str(self.0.code())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    fault: FaultValue,
}

/// Counters of refused bearer tokens, one for each kind of fault.
#[derive(Debug)]
pub(in crate::telemetry) struct BearerFaults([Counter; FaultKind::ALL.len()]);

impl BearerFaults {
    pub(in crate::telemetry) fn register(registry: &mut Registry) -> Self {
        let family: Family<FaultLabels, Counter> = registered(
            registry,
            "bearer_tokens_refused",
            "Bearer tokens that were refused, by what is wrong with them",
        );
        Self(FaultKind::ALL.map(|kind| {
            let fault = FaultValue(kind);
            family.get_or_create_owned(&FaultLabels { fault })
        }))
    }

    pub(in crate::telemetry) fn count(&self, kind: FaultKind) {
        if let Some(counter) = self.0.get(kind as usize) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn each_kind_has_a_series_of_its_own() {
        let mut registry = Registry::default();
        let faults = BearerFaults::register(&mut registry);
        for kind in FaultKind::ALL {
            faults.count(kind);
        }
        faults.count(FaultKind::Audience);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        for kind in FaultKind::ALL {
            let count = if kind == FaultKind::Audience { 2 } else { 1 };
            let line = format!(
                "bearer_tokens_refused_total{{fault=\"{}\"}} {count}",
                kind.code()
            );
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
