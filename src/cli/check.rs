//! `doorward check`: prints problems, warnings (`config/exposure` and every `Reader::warn`) and notes. `--strict` fails
//! on warnings, never on notes.

use std::path::Path;
use std::process::ExitCode;

use crate::app;
use crate::cli::output;

pub(super) fn run(config: &Path, strict: bool) -> ExitCode {
    let report = app::check(config);
    for (kind, lines) in [
        ("problem", &report.problems),
        ("warning", &report.warnings),
        ("note", &report.notes),
    ] {
        for line in lines {
            output::note(&format!("{kind:<7}  {line}"));
        }
    }
    let (problems, warnings) = (report.problems.len(), report.warnings.len());
    let why = match (problems, warnings) {
        (0, 1..) if strict => {
            format!(
                "{}, which --strict does not allow",
                count(warnings, "warning")
            )
        }
        (0, _) => {
            output::line(&format!("{} can be used", config.display()));
            return ExitCode::SUCCESS;
        }
        _ => count(problems, "problem"),
    };
    output::note(&format!("{} cannot be used: {why}", config.display()));
    ExitCode::FAILURE
}

fn count(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
