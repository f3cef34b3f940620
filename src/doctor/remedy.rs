//! The reason why a fault matters and its remedy, from the table `remedies.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::doctor::{Proxy, ProxyFault};

/// The contents of `remedies.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remedies {
    remedy: Vec<Remedy>,
    line: Vec<RemedyLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remedy {
    fault: ProxyFault,
    why: String,
    /// The remedy for any proxy.
    mend: String,
}

/// The place to change in the configuration of some proxies.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemedyLine {
    proxies: Vec<Proxy>,
    faults: Vec<ProxyFault>,
    text: String,
}

#[expect(
    clippy::expect_used,
    reason = "a constant text, which a test parses too"
)]
static REMEDIES: LazyLock<Remedies> = LazyLock::new(|| {
    toml::from_str(include_str!("remedies.toml")).expect("remedies.toml is a table of remedies")
});

/// Returns why a fault matters, and how to fix it with this proxy.
pub(super) fn of(fault: ProxyFault, proxy: Option<Proxy>) -> (&'static str, String) {
    let row = REMEDIES.remedy.iter().find(|row| row.fault == fault);
    let (why, mend) = row.map_or(("", ""), |row| (&row.why, &row.mend));
    let Some(proxy) = proxy else {
        return (why, mend.to_owned());
    };
    let mut lines = REMEDIES.line.iter();
    let line = lines.find(|line| line.proxies.contains(&proxy) && line.faults.contains(&fault));
    let mend = match line {
        Some(line) => format!("{mend}. {}: {}", proxy.title(), line.text),
        None => format!(
            "{mend}. `doorward doctor forward-auth --proxy {proxy}` prints a configuration without this mistake"
        ),
    };
    (why, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_reason_and_remedy() {
        let rows = &REMEDIES.remedy;
        for (number, row) in rows.iter().enumerate() {
            assert_eq!(row.fault as usize, number, "in the order of ProxyFault");
            assert!(!row.why.is_empty() && !row.mend.is_empty(), "{}", row.fault);
        }
        assert_eq!(rows.len(), ProxyFault::FailsOpen as usize + 1);
    }
}
