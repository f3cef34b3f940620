//! Counters of lines, by stream.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::telemetry::output::Stream;

impl EncodeLabelValue for Stream {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        use std::fmt::Write;
        encoder.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    stream: Stream,
}

/// Counts of written and lost lines. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct LineCounts {
    written: Family<StreamLabels, Counter>,
    lost: Family<StreamLabels, Counter>,
}

impl LineCounts {
    /// Returns the counters of written and of lost lines of a stream.
    pub(super) fn of(&self, stream: Stream) -> (Counter, Counter) {
        let labels = StreamLabels { stream };
        (
            self.written.get_or_create_owned(&labels),
            self.lost.get_or_create_owned(&labels),
        )
    }

    pub(in crate::telemetry) fn register(&self, registry: &mut Registry) {
        for stream in Stream::ALL {
            // A series that exists from startup can be watched.
            let _ = self.of(stream);
        }
        registry.register(
            "lines_written",
            "Lines that were written, by stream",
            self.written.clone(),
        );
        registry.register(
            "lines_lost",
            "Lines that were lost because their reader did not read or they could not be written, by stream",
            self.lost.clone(),
        );
    }
}
