//! Programs that come as Python packages, in the project's own environment, `target/python`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The path of a program in that environment, made at the first call: with these packages, which are installed if one is
/// missing.
pub(crate) fn program(name: &str, packages: &[&'static str]) -> PathBuf {
    // One at a time: two pips would write into the same folders.
    static THERE: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let mut there = THERE.lock().unwrap();
    let env = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/python");
    if !packages.iter().all(|package| there.contains(package)) {
        let python = env.join("bin/python");
        if !python.exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&env));
        }
        let mut show = Command::new(&python);
        show.args(["-m", "pip", "show", "--quiet"]).args(packages);
        if !show.stderr(Stdio::null()).status().unwrap().success() {
            let install = ["-m", "pip", "install", "--quiet"];
            run(Command::new(&python).args(install).args(packages));
        }
        there.extend(packages);
    }
    env.join("bin").join(name)
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}
