//! `doorward check`: prints problems, warnings (`config/exposure` and every `Reader::warn`) and notes; `--strict` fails on
//! warnings, never on notes.

use std::path::Path;
use std::process::ExitCode;

use crate::app;
use crate::cli::output;

pub(super) fn run(config: &Path, strict: bool) -> ExitCode {
    let report = app::check(config);
    for problem in &report.problems {
        output::note(&format!("problem  {problem}"));
    }
    for warning in &report.warnings {
        output::note(&format!("warning  {warning}"));
    }
    for note in &report.notes {
        output::note(&format!("note     {note}"));
    }
    let fails = !report.problems.is_empty() || strict && !report.warnings.is_empty();
    if !fails {
        output::line(&format!("{} can be used", config.display()));
    }
    if fails {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
