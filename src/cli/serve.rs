//! `doorward serve`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::app;

pub(super) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    app::serve(config).context("the gateway could not run")?;
    Ok(ExitCode::SUCCESS)
}
