//! `doorward token`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::app;
use crate::app::control::{Command, Reply};
use crate::cli::args::TokenTask;
use crate::cli::{output, secrets};
use crate::crypto::jwks::KeySet;
use crate::crypto::jwt::UnverifiedToken;

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
