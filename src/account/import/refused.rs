//! Lines that are not imported: the first of them with their reasons, and how many there are.

use std::collections::BTreeMap;

/// Lines that are told one by one; more are counted, so that a file of nothing else needs no more memory.
const TOLD_MAX: usize = 1000;

/// A line that is not imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedLine {
    /// Its number, from 1.
    pub line: usize,
    /// Why: never with a value of the line.
    pub reason: String,
}

/// What is told of refused lines.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By line: why. Those with the lowest numbers.
    told: BTreeMap<usize, String>,
    count: usize,
}

impl Refusals {
    /// Refuses a line that was not refused before.
    pub(super) fn add(&mut self, line: usize, reason: impl Into<String>) {
        self.count += 1;
        self.told.insert(line, reason.into());
        if TOLD_MAX < self.told.len() {
            self.told.pop_last();
        }
    }

    /// How many lines are refused.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The first of them, in order.
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
