//! The steps of a decision, for `explain`; without a listener they cost nothing.

/// Hears each step of a decision.
pub trait Trace: Send {
    /// A step and how it ended; `detail` is only built when somebody listens.
    fn step(&mut self, step: &'static str, passed: bool, detail: &dyn Fn() -> String);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    fn step(&mut self, _step: &'static str, _passed: bool, _detail: &dyn Fn() -> String) {}
}

/// One step as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// Which check.
    pub step: String,
    /// Whether it passed.
    pub passed: bool,
    /// Why, or what was found.
    pub detail: String,
}

/// Keeps all steps.
#[derive(Clone, Debug, Default)]
pub struct Steps(pub Vec<Step>);

impl Trace for Steps {
    fn step(&mut self, step: &'static str, passed: bool, detail: &dyn Fn() -> String) {
        self.0.push(Step {
            step: step.to_owned(),
            passed,
            detail: detail(),
        });
    }
}
