//! Counters for Prometheus, as fields of one struct; labels are enums.

use std::time::Duration;

/// Every way a request can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Allowed and passed on.
    Allowed,
    /// Answered by the gateway's own endpoints.
    Local,
    /// Refused.
    Denied,
    /// Could not be decided.
    Failed,
    /// The upstream did not answer as it should.
    UpstreamError,
    /// The caller went away, or HTTP itself broke.
    Aborted,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        todo!()
    }

    /// Counts a finished request. `reason`: a deny reason's code.
    pub fn request(
        &self,
        _outcome: Outcome,
        _status: u16,
        _reason: Option<crate::model::deny::DenyReason>,
        _took: Duration,
    ) {
        todo!()
    }

    /// The text that Prometheus reads (OpenMetrics).
    #[must_use]
    pub fn render(&self) -> String {
        todo!()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
