//! The command line, run as an operator runs it.

use std::io::Write;
use std::process::Stdio;

use crate::harness::gateway::Gateway;
use crate::harness::{LOOK, PATIENCE, now};

/// The result of a command.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Expects exit code 0.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.with(0)
    }

    /// Expects an exit code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Returns the text after `name: `.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> String {
        let prefix = format!("{name}: ");
        let found = self
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(&prefix));
        found
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.stdout))
            .to_owned()
    }

    /// Returns both streams.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Gateway {
    /// Runs a command with this gateway's configuration.
    pub(crate) fn cli(&self, task: &[&str], stdin: &str) -> Ended {
        let mut command = self.command(task);
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that does not read its input may have ended already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Expects the start to be refused; a gateway that keeps running is killed, and the test fails.
    #[track_caller]
    pub(crate) fn refused_start(&self) -> Ended {
        let mut command = self.command(&["serve"]);
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let start = now();
        while child.try_wait().unwrap().is_none() && start.elapsed() < PATIENCE {
            std::thread::sleep(LOOK);
        }
        let goes_on = child.try_wait().unwrap().is_none();
        if goes_on {
            let _ = child.kill();
        }
        let output = child.wait_with_output().unwrap();
        assert!(!goes_on, "it has started");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
        .with(1)
    }
}
