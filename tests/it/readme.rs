//! The README's walk-through works as written.

use std::path::Path;
use std::process::Command;

use crate::harness::gateway::BINARY;

#[test]
fn every_line_of_the_walk_through_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for tool in ["python3", "curl"] {
        let found = Command::new(tool).arg("--version").output();
        assert!(found.is_ok(), "{tool} is missing: scripts/test installs it");
    }
    let output = Command::new("python3")
        .arg(root.join("scripts/walkthrough"))
        .arg(BINARY)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
}
