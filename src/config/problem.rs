//! What is wrong with a configuration: where, and what would be right. Never what was found there.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// One thing to mend, or to know about: its place and what would be right. Holds no value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `listen.address` or `route[2].require`, counted from 0; a file's path where a file is meant.
    pub at: String,
    /// The line of the file, from 1; `None` for what is missing or comes from elsewhere.
    pub line: Option<usize>,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": expected {}", self.expected)
    }
}

/// A configuration that cannot be used: everything that is wrong with it, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if 0 < index {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(Arc<str>),
    /// Nothing was written.
    Default,
}

/// A key and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: String,
    pub(super) origin: Origin,
}

impl Place {
    pub(super) fn new(key: impl Into<String>, origin: Origin) -> Self {
        Self {
            key: key.into(),
            origin,
        }
    }

    fn problem(&self, expected: String) -> Problem {
        let at = match &self.origin {
            Origin::Variable(name) => format!("{} ({name})", self.key),
            Origin::Line(_) | Origin::Default => self.key.clone(),
        };
        let line = match self.origin {
            Origin::Line(line) => Some(line),
            Origin::Variable(_) | Origin::Default => None,
        };
        Problem { at, line, expected }
    }
}

/// Collects what is found while reading goes on.
#[derive(Debug, Default)]
pub(super) struct Problems {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Problems {
    /// Notes what must be mended.
    pub(super) fn add(&self, place: &Place, expected: impl Into<String>) {
        self.problems
            .borrow_mut()
            .push(place.problem(expected.into()));
    }

    /// Notes what an operator should know.
    pub(super) fn warn(&self, place: &Place, expected: impl Into<String>) {
        self.warnings
            .borrow_mut()
            .push(place.problem(expected.into()));
    }

    /// How many must be mended so far.
    pub(super) fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Everything that must be mended.
    pub(super) fn into_error(self) -> ConfigError {
        ConfigError {
            problems: in_file_order(self.problems.into_inner()),
        }
    }

    /// The value with its warnings if nothing must be mended; else everything that must.
    pub(super) fn finish<T>(self, value: T) -> Result<(T, Vec<Problem>), ConfigError> {
        if self.count() == 0 {
            Ok((value, in_file_order(self.warnings.into_inner())))
        } else {
            Err(self.into_error())
        }
    }
}

/// What is said of a file that cannot be opened or read. `hint`: where to look, for one that is not there.
pub(super) fn unreadable(expected: &str, error: &io::Error, hint: &str) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{expected}: there is no such file{hint}"),
        kind => format!("{expected} ({kind})"),
    }
}

fn in_file_order(mut list: Vec<Problem>) -> Vec<Problem> {
    list.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_in_file_order_each_on_its_line() {
        let problems = Problems::default();
        problems.add(&Place::new("b", Origin::Default), "something");
        problems.add(&Place::new("c", Origin::Line(9)), "at least 1");
        problems.add(
            &Place::new("a", Origin::Variable("DOORWARD__A".into())),
            "x",
        );
        problems.add(&Place::new("d", Origin::Line(2)), "true or false");
        let error = problems.finish(()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "d (line 2): expected true or false\nc (line 9): expected at least 1\n\
             b: expected something\na (DOORWARD__A): expected x"
        );
    }
}
