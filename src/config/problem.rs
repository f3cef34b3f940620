//! Problems of a configuration: each with its place and the expectation, never with the value.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// An error or a warning: its place and the expectation. It holds no value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, such as `listen.address` or `route[2].require`, counted from 0; for a problem of a file, its path.
    pub at: String,
    /// The line of the file, from 1; `None` if the value is missing or comes from elsewhere.
    pub line: Option<usize>,
    /// The expectation.
    pub expected: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": expected {}", self.expected)
    }
}

/// All errors of a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The errors, of which there is at least one.
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigError {
    /// Writes one problem on each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.problems.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueOrigin {
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(Arc<str>),
    /// No value is written.
    Default,
}

/// A key and the source of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValuePlace {
    pub(super) key: String,
    pub(super) origin: ValueOrigin,
}

impl ValuePlace {
    pub(super) fn new(key: impl Into<String>, origin: ValueOrigin) -> Self {
        Self {
            key: key.into(),
            origin,
        }
    }

    fn problem(&self, expected: String) -> ConfigProblem {
        let (at, line) = match &self.origin {
            ValueOrigin::Line(line) => (self.key.clone(), Some(*line)),
            ValueOrigin::Variable(name) => (format!("{} ({name})", self.key), None),
            ValueOrigin::Default => (self.key.clone(), None),
        };
        ConfigProblem { at, line, expected }
    }
}

/// Collects problems while the configuration is read.
#[derive(Debug, Default)]
pub(super) struct ConfigProblems {
    problems: RefCell<Vec<ConfigProblem>>,
    warnings: RefCell<Vec<ConfigProblem>>,
}

impl ConfigProblems {
    /// Adds an error.
    pub(super) fn add(&self, place: &ValuePlace, expected: impl Into<String>) {
        self.problems
            .borrow_mut()
            .push(place.problem(expected.into()));
    }

    /// Adds a warning.
    pub(super) fn warn(&self, place: &ValuePlace, expected: impl Into<String>) {
        self.warnings
            .borrow_mut()
            .push(place.problem(expected.into()));
    }

    /// Returns the number of errors so far.
    pub(super) fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Returns all errors.
    pub(super) fn into_error(self) -> ConfigError {
        ConfigError {
            problems: in_file_order(self.problems.into_inner()),
        }
    }

    /// Returns the value with its warnings, or the errors if there are any.
    pub(super) fn finish<T>(self, value: T) -> Result<(T, Vec<ConfigProblem>), ConfigError> {
        if self.count() == 0 {
            Ok((value, in_file_order(self.warnings.into_inner())))
        } else {
            Err(self.into_error())
        }
    }
}

/// Returns the expectation to report for a file that cannot be read. `hint` follows if the file is missing.
pub(super) fn unreadable(expected: &str, error: &io::Error, hint: &str) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{expected}: file not found{hint}"),
        kind => format!("{expected} ({kind})"),
    }
}

fn in_file_order(mut list: Vec<ConfigProblem>) -> Vec<ConfigProblem> {
    list.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_in_file_order_each_on_its_line() {
        let problems = ConfigProblems::default();
        problems.add(&ValuePlace::new("b", ValueOrigin::Default), "something");
        problems.add(&ValuePlace::new("c", ValueOrigin::Line(9)), "at least 1");
        problems.add(
            &ValuePlace::new("a", ValueOrigin::Variable("DOORWARD__A".into())),
            "x",
        );
        problems.add(&ValuePlace::new("d", ValueOrigin::Line(2)), "true or false");
        let error = problems.finish(()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "d (line 2): expected true or false\nc (line 9): expected at least 1\n\
             b: expected something\na (DOORWARD__A): expected x"
        );
    }
}
