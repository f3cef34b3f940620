//! Lines that are not imported: the first of them with their reasons, and their number.

use std::collections::BTreeMap;

/// Maximum number of lines that are reported individually. Further lines are only counted, which bounds memory.
const REPORTED_MAX: usize = 1000;

/// A line that is not imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedLine {
    /// The line number, from 1.
    pub line: usize,
    /// The reason, which never contains a value of the line.
    pub reason: String,
}

/// The refused lines to be reported.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The reasons by line number, for the lowest line numbers.
    reported: BTreeMap<usize, String>,
    count: usize,
}

impl Refusals {
    /// Refuses a line that has not been refused before.
    pub(super) fn add(&mut self, line: usize, reason: impl Into<String>) {
        self.count += 1;
        self.reported.insert(line, reason.into());
        if REPORTED_MAX < self.reported.len() {
            self.reported.pop_last();
        }
    }

    /// Returns the number of refused lines.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the first refused lines in order.
    pub(super) fn into_lines(self) -> Vec<RefusedLine> {
        let line = |(line, reason)| RefusedLine { line, reason };
        self.reported.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thousand_are_told_whatever_order_they_come_in_and_all_are_counted() {
        let mut refusals = Refusals::default();
        for line in (1..=3000).rev() {
            refusals.add(line, "no");
        }
        assert_eq!(refusals.count(), 3000);
        let reported = refusals.into_lines();
        assert_eq!(reported.len(), REPORTED_MAX);
        assert!(
            reported
                .iter()
                .zip(1..)
                .all(|(reported, line)| reported.line == line)
        );
    }
}
