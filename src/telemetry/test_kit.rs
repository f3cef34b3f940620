//! Helpers shared by the tests of logs.

use std::sync::{Arc, Mutex};

use crate::model::clock::{ManualClock, Timestamp};
use crate::telemetry::output::{AuditOutput, Output};

/// A writer that keeps its input.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Returns everything written.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Creates an output with this as standard output and standard error, and a fixed clock.
    pub(crate) fn output(&self) -> Arc<Output> {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        Output::onto(Box::new(self.clone()), None, AuditOutput::Stdout, clock).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
