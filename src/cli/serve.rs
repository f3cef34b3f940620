//! `doorward serve`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::app;
use crate::cli::output;

pub(super) fn run(config: &Path) -> ExitCode {
    match app::serve(config).context("the gateway could not run") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::last_words(error);
            ExitCode::FAILURE
        }
    }
}
