//! The steps of a decision, for `explain`; without a listener they cost nothing.

/// A listener for the steps of a decision.
pub trait Trace: Send {
    /// Records a step and its result; `detail` is only called if it is used.
    fn step(&mut self, step: &'static str, passed: bool, detail: &dyn Fn() -> String);
}

/// A listener that ignores all steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    fn step(&mut self, _step: &'static str, _passed: bool, _detail: &dyn Fn() -> String) {}
}

/// One step as shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TraceStep {
    /// The name of the check.
    pub step: String,
    /// Whether it passed.
    pub passed: bool,
    /// The reason, or the value found.
    pub detail: String,
}

/// A listener that keeps all steps.
#[derive(Clone, Debug, Default)]
pub struct TraceSteps(pub Vec<TraceStep>);

impl Trace for TraceSteps {
    fn step(&mut self, step: &'static str, passed: bool, detail: &dyn Fn() -> String) {
        self.0.push(TraceStep {
            step: step.to_owned(),
            passed,
            detail: detail(),
        });
    }
}
