//! Secrets passed on the command line or on standard input.

use std::io::Read;

use anyhow::Context;

use crate::model::secret::Secret;

/// Maximum length of a secret on standard input, in bytes.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// Reads a secret from standard input: everything, without one trailing line break.
pub(super) fn from_stdin(what: &str) -> anyhow::Result<Secret> {
    let mut text = zeroize::Zeroizing::new(String::new());
    let mut input = std::io::stdin().lock().take(SECRET_BYTES_MAX + 1);
    input
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the {what} from standard input"))?;
    anyhow::ensure!(
        text.len() as u64 <= SECRET_BYTES_MAX,
        "the {what} is longer than 1 MiB"
    );
    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
    let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
    anyhow::ensure!(!trimmed.is_empty(), "no {what} on standard input");
    Ok(Secret::new(trimmed.to_owned()))
}

/// Returns a secret of the command line; `-` stands for the one on standard input.
pub(super) fn from_value(value: Secret, what: &str) -> anyhow::Result<Secret> {
    match value.expose() {
        "-" => from_stdin(what),
        _ => Ok(value),
    }
}
