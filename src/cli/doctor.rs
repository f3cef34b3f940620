//! `doorward doctor`

use std::path::Path;
use std::process::ExitCode;

use crate::cli::args::{DoctorTask, ForwardAuthArgs};
use crate::cli::{output, secrets};
use crate::doctor::{self, CheckResult, DoctorReport, Finding, ProbeOptions};

/// Exit code if mistakes were found.
const FOUND: u8 = 3;

pub(super) fn run(config: &Path, task: DoctorTask) -> anyhow::Result<ExitCode> {
    let DoctorTask::ForwardAuth(args) = task;
    // With the gateway stopped for the probe, the configuration was printed before.
    if let Some(proxy) = args.proxy.filter(|_| !args.while_down) {
        let snippet = doctor::snippet(config, proxy, args.through.as_deref())?;
        output::lines(snippet.text.trim_end());
        for note in &snippet.notes {
            output::note(note);
        }
        if args.through.is_some() {
            output::line("");
        }
    }
    match args.through.clone() {
        Some(through) => {
            let report = doctor::examine(config, options(through, args)?)?;
            Ok(show(&report))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

fn options(through: String, args: ForwardAuthArgs) -> anyhow::Result<ProbeOptions> {
    let token = args.token.map(|token| secrets::from_value(token, "token"));
    let api_key = args.apikey.map(|key| secrets::from_value(key, "API key"));
    Ok(ProbeOptions {
        through,
        proxy: args.proxy,
        ca: args.ca,
        open: args.open,
        closed: args.closed,
        token: token.transpose()?,
        api_key: api_key.transpose()?,
        echo: args.echo,
        access_log: args.access_log,
        while_down: args.while_down,
    })
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
    output::line(&format!("        mend  {}", finding.mend));
}
