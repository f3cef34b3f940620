//! Programs in Python, in an environment of the project's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The interpreter of an environment that has these packages (`name` or `name==version`), made at the first call.
pub(crate) fn python(packages: &[&str]) -> PathBuf {
    // One at a time: they write into the same folder.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let env = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python");
    let python = env.join("bin/python");
    if !python.exists() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&env));
    }
    if !has(&python, packages) {
        let mut pip = Command::new(&python);
        done(pip.args(["-m", "pip", "install", "--quiet"]).args(packages));
    }
    python
}

/// Whether the environment has these packages, in these versions.
fn has(python: &Path, packages: &[&str]) -> bool {
    let look = "import sys, importlib.metadata as have\n\
        for name, _, version in (one.partition('==') for one in sys.argv[1:]):\n    \
        assert version in ('', have.version(name))";
    let mut command = Command::new(python);
    let command = command
        .args(["-c", look])
        .args(packages)
        .stderr(Stdio::null());
    command.status().unwrap().success()
}

fn done(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}
