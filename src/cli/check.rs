//! `doorward check`: prints problems, warnings (`config/exposure` and every `Reader::warn`) and notes. `--strict` fails
//! on warnings, never on notes.

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
    let path = config.display();
    if fails {
        let (problems, warnings) = (report.problems.len(), report.warnings.len());
        let why = if problems == 0 {
            format!("{}, and --strict allows none", count(warnings, "warning"))
        } else {
            count(problems, "problem")
        };
        output::note(&format!("{path} cannot be used: {why}"));
    } else {
        output::line(&format!("{path} can be used"));
    }
    if fails {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn count(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
