//! `doorward doctor`

use std::path::Path;
use std::process::ExitCode;

use crate::cli::args::DoctorTask;
use crate::cli::{output, secrets};
use crate::doctor::{self, CheckResult, DoctorReport, Finding};

/// Exit code if mistakes were found.
const FOUND: u8 = 3;

pub(super) fn run(config: &Path, task: DoctorTask) -> anyhow::Result<ExitCode> {
    let DoctorTask::ForwardAuth(mut options) = task;
    let through = options.through.as_deref();
    // With the gateway stopped for the probe, the configuration was printed before.
    if let Some(proxy) = options.proxy.filter(|_| !options.while_down) {
        let snippet = doctor::snippet(config, proxy, through)?;
        output::lines(snippet.text.trim_end());
        for note in &snippet.notes {
            output::note(note);
        }
        if through.is_some() {
            output::line("");
        }
    }
    if through.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    for (secret, what) in [
        (&mut options.token, "token"),
        (&mut options.api_key, "API key"),
    ] {
        let given = secret.take().map(|given| secrets::from_value(given, what));
        *secret = given.transpose()?;
    }
    Ok(show(&doctor::examine(config, options)?))
}

fn show(report: &DoctorReport) -> ExitCode {
    for entry in &report.entries {
        match entry {
            CheckResult::Passed { check, seen } => {
                output::line(&format!("ok    {check:<11} {seen}"));
            }
            CheckResult::Skipped { check, why } => {
                output::line(&format!("skip  {check:<11} {why}"));
            }
            CheckResult::Found(finding) => found(finding),
        }
    }
    match report.findings() {
        0 => {
            output::line("nothing found");
            ExitCode::SUCCESS
        }
        count => {
            let mistakes = if count == 1 { "mistake" } else { "mistakes" };
            output::line(&format!("{count} {mistakes} found"));
            ExitCode::from(FOUND)
        }
    }
}

fn found(finding: &Finding) {
    output::line(&format!("FOUND {}", finding.fault));
    output::line(&format!("        what  {}", finding.what));
    output::line(&format!("        why   {}", finding.why));
    output::line(&format!("        fix   {}", finding.mend));
}
