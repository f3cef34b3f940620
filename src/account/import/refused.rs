//! Lines that are not imported: the first of them with their reasons, and their number.

use std::collections::BTreeMap;

/// Maximum number of lines that are reported individually. Further lines are only counted, which bounds memory.
const TOLD_MAX: usize = 1000;

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
    told: BTreeMap<usize, String>,
    count: usize,
}

impl Refusals {
    /// Refuses a line that has not been refused before.
    pub(super) fn add(&mut self, line: usize, reason: impl Into<String>) {
        self.count += 1;
        self.told.insert(line, reason.into());
        if TOLD_MAX < self.told.len() {
            self.told.pop_last();
        }
    }

    /// Returns the number of refused lines.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the first refused lines in order.
    pub(super) fn into_told(self) -> Vec<RefusedLine> {
        let told = |(line, reason)| RefusedLine { line, reason };
        self.told.into_iter().map(told).collect()
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
        let told = refusals.into_told();
        assert_eq!(told.len(), TOLD_MAX);
        assert!(told.iter().zip(1..).all(|(told, line)| told.line == line));
    }
}
