//! Programs in other languages that the tests use, in the project's own environments under `target`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path of a program of the harness.
pub(crate) fn harness_file(name: &str) -> PathBuf {
    root().join("tests/it/harness").join(name)
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}

/// Creates an environment if the list of its contents has changed since it was created.
fn ready(env: &Path, list: &Path, make: impl FnOnce()) {
    let wanted = fs::read_to_string(list).unwrap();
    let stamp = env.join("made-of");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return;
    }
    fs::create_dir_all(env).unwrap();
    make();
    fs::write(stamp, wanted).unwrap();
}

/// Returns a program of the Python environment with everything in `tests/requirements.txt`: `python`, or one from a
/// package.
pub(crate) fn python(program: &str) -> PathBuf {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    let bin = BIN.get_or_init(|| {
        let env = root().join("target/python");
        let list = root().join("tests/requirements.txt");
        ready(&env, &list, || {
            run(Command::new("python3").args(["-m", "venv"]).arg(&env));
            run(Command::new(env.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet"])
                .arg("--disable-pip-version-check")
                .arg("-r")
                .arg(&list));
        });
        env.join("bin")
    });
    bin.join(program)
}

/// Returns `node` in a directory with everything in `tests/package.json`.
pub(crate) fn node() -> Command {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = root().join("target/node");
        let list = root().join("tests/package.json");
        ready(&dir, &list, || {
            fs::copy(&list, dir.join("package.json")).unwrap();
            let mut npm = Command::new(python("npm"));
            run(npm
                .args(["install", "--silent", "--no-audit", "--no-fund"])
                .arg("--no-package-lock")
                .current_dir(&dir));
        });
        dir
    });
    let mut command = Command::new(python("node"));
    command.current_dir(dir);
    command
}
