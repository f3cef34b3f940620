//! `doorward token`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value};

use crate::cli::args::TokenTask;
use crate::cli::{output, secrets};
use crate::crypto::jwks::KeySet;
use crate::crypto::jwt::UnverifiedToken;
use crate::model::clock::{Clock, SystemClock};
use crate::model::secret::Secret;
use crate::operator;
use crate::operator::control::{Command, Reply};

/// Exit code of a token that does not verify.
const REFUSED: u8 = 3;

pub(super) fn run(config: &Path, task: TokenTask) -> anyhow::Result<ExitCode> {
    match task {
        TokenTask::Inspect { token } => inspect(&secrets::from_value(token, "token")?),
        TokenTask::Verify { jwks, token } => {
            let token = secrets::from_value(token, "token")?;
            match jwks {
                Some(path) => verify(&token, &path),
                None => ask(config, token),
            }
        }
    }
}

fn inspect(token: &Secret) -> anyhow::Result<ExitCode> {
    let token = UnverifiedToken::parse(token.expose())?;
    output::line("header (not verified)");
    output::claims(token.header());
    output::line("claims (not verified)");
    output::claims(token.claims());
    Ok(ExitCode::SUCCESS)
}

/// Verifies a token's signature and times, and that it is a bearer token; issuer and audience are not checked.
fn verify(token: &Secret, jwks: &Path) -> anyhow::Result<ExitCode> {
    let document =
        std::fs::read_to_string(jwks).with_context(|| format!("cannot read {}", jwks.display()))?;
    let keys = KeySet::from_jwks(&document, &[]).context("the key set is not usable")?;
    for left_out in keys.left_out() {
        output::note(&format!("ignored: {left_out}"));
    }
    let verified =
        match UnverifiedToken::parse(token.expose()).and_then(|token| token.verify(&keys)) {
            Ok(verified) => verified,
            Err(error) => return Ok(refused(&error.to_string())),
        };
    let now = SystemClock::new().now().secs();
    let time = |name: &str| verified.claims.get(name).and_then(Value::as_i64);
    let why = match time("exp") {
        None => Some("it has no expiry (claim exp)"),
        Some(at) if at <= now => Some("it has expired"),
        Some(_) if time("nbf").is_some_and(|at| now < at) => Some("it is not valid yet"),
        Some(_) if verified.claims.contains_key("cnf") => {
            Some("it is bound to its sender (cnf), so it is not a bearer token")
        }
        Some(_) => None,
    };
    if let Some(why) = why {
        return Ok(refused(&format!("the signature verifies, but {why}")));
    }
    output::line("verified");
    output::claims(&verified.claims);
    Ok(ExitCode::SUCCESS)
}

fn refused(why: &str) -> ExitCode {
    output::line(&format!("refused: {why}"));
    ExitCode::from(REFUSED)
}

/// Has the gateway, running or not, verify the token with all checks that apply to requests.
fn ask(config: &Path, token: Secret) -> anyhow::Result<ExitCode> {
    match operator::command(config, Command::TokenVerify { token }, output::note)? {
        Reply::Done(value) => {
            output::line("verified");
            output::claims(value.as_object().unwrap_or(&Map::new()));
            Ok(ExitCode::SUCCESS)
        }
        Reply::Refused(why) => Ok(refused(&why)),
        Reply::Failed(why) => anyhow::bail!(why),
        Reply::Explained(_) => {
            anyhow::bail!("the gateway sent an answer of the wrong kind; is it of another version?")
        }
    }
}
