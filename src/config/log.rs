//! `[log]`: logs and access records.

use crate::config::forms::{flag, text};
use crate::config::settings::settings;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const LEVEL: &str =
    "off, error, warn, info, debug or trace, alone or followed by filters: info,doorward=debug";

settings! {
/// `[log]`
pub struct LogSettings {}
LogKeys = "log"; {
    /// off, error, warn, info, debug or trace on standard error; filters by target may follow: "info,doorward::proxy=debug".
    /// Audit events (target audit) are JSON lines on standard output, described field by field in docs/audit.md; they are
    /// written at every level but off. The proxy engine (target pingora) is limited to warn.
    level: String = text(LEVEL, filter) => "info".to_owned();
    /// Whether each request writes one JSON record to standard output. A slow reader loses lines, which are counted, and
    /// never delays a request.
    access: bool = flag() => true;
}}

/// Reads a level, optionally followed by filters by target. A single word that is not a level is a typing error,
/// although the subscriber would read it as a target.
fn filter(text: &str) -> Option<String> {
    let mut parts = text.split(',');
    let begins = parts.next().is_some_and(|first| LEVELS.contains(&first));
    let target_fits = |target: &str| {
        !target.is_empty()
            && target
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    };
    let fits = begins
        && parts.all(|part| {
            part.split_once('=')
                .is_some_and(|(target, level)| target_fits(target) && LEVELS.contains(&level))
        });
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_comes_first_and_filters_name_targets() {
        for good in ["info", "off", "warn,doorward::proxy=trace,h2=error"] {
            assert!(filter(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "inof",
            "INFO",
            "info,debug",
            "doorward=debug",
            "info,a=",
            "info,a=x",
            "info, a=warn",
        ] {
            assert_eq!(filter(bad), None, "{bad}");
        }
    }
}
