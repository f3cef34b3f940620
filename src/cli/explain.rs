//! `doorward explain`

use std::path::Path;
use std::process::ExitCode;

use crate::cli::args::ExplainArgs;
use crate::cli::{output, secrets};
use crate::operator;
use crate::operator::control::{Command, ExplainVerdict, Explained, ExplainedCaller, Reply};

/// Exit code of a denied request.
const DENIED: u8 = 3;

pub(super) fn run(config: &Path, args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let mut explain = args.explain;
    explain.caller = match (args.token, args.apikey, args.account) {
        (Some(token), ..) => ExplainedCaller::Token(secrets::from_value(token, "token")?),
        (_, Some(key), _) => ExplainedCaller::ApiKey(secrets::from_value(key, "API key")?),
        (.., Some(uid)) => ExplainedCaller::Account(uid),
        (None, None, None) => ExplainedCaller::Anonymous,
    };
    match operator::command(config, Command::Explain(explain), output::note)? {
        Reply::Explained(explained) => Ok(show(&explained)),
        Reply::Refused(why) | Reply::Failed(why) => anyhow::bail!(why),
        Reply::Done(_) => {
            anyhow::bail!("the gateway sent an answer of the wrong kind; is it of another version?")
        }
    }
}

fn show(explained: &Explained) -> ExitCode {
    let (first, code) = match &explained.verdict {
        ExplainVerdict::Allow => ("allow".to_owned(), ExitCode::SUCCESS),
        ExplainVerdict::Deny(code) => (format!("deny {code}"), ExitCode::from(DENIED)),
        ExplainVerdict::Fail(code) => (format!("fail {code}"), ExitCode::FAILURE),
    };
    output::line(&first);
    for step in &explained.steps {
        let mark = if step.passed { "pass" } else { "FAIL" };
        output::line(&format!("  {mark}  {:<12} {}", step.step, step.detail));
    }
    if let Some(upstream) = &explained.upstream {
        output::line(&format!("  upstream \"{upstream}\" would get"));
        for (name, value) in &explained.headers {
            output::line(&format!("    {name}: {value}"));
        }
    }
    code
}
