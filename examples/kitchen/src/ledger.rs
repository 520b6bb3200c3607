//! The ledger: what the load tool counts with. Pure, and small whatever happens on the wire.
//!
//! A client sends `u 1`, `u 2`, `u 3` …; the app notes each and answers `d <m> <n>`, where `m` counts the app's own
//! messages of this session. Asked for `sum`, the app tells what it saw, and the client compares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many separate stretches of early numbers are remembered; beyond it the newest stretch is forgotten, so its
/// numbers show as missing. A wire that keeps order never has one.
pub const STRETCHES_MAX: usize = 64;

/// What one session has received and sent.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// All numbers from 1 to this one came.
    upto: u64,
    /// Stretches beyond a hole: first number → last number. Neighbours are merged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    early: BTreeMap<u64, u64>,
    /// The highest number that ever came.
    highest: u64,
    /// How many different numbers came.
    received: u64,
    /// How many came again.
    duplicates: u64,
    /// How many came for the first time after a higher one.
    reordered: u64,
    /// How many numbered messages the app has sent.
    sent: u64,
}

impl Ledger {
    /// Notes that number `n` came. Numbers are expected from 1 on.
    pub fn note(&mut self, n: u64) {
        if n <= self.upto || self.is_early(n) {
            self.duplicates += 1;
            return;
        }
        self.received += 1;
        if n < self.highest {
            self.reordered += 1;
        }
        self.highest = self.highest.max(n);
        if n == self.upto + 1 {
            self.upto = n;
            self.join_first_stretch();
        } else {
            self.keep_early(n);
        }
    }

    /// The next message of the app: its number, counted from 1.
    pub fn next_sent(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// The lowest number that has not come although a higher one has; 0 when there is no hole.
    pub fn first_missing(&self) -> u64 {
        if self.highest > self.upto { self.upto + 1 } else { 0 }
    }

    /// The answer to `sum`: different numbers received, first missing or 0, duplicates, reordered, sent.
    pub fn sum(&self) -> String {
        let missing = self.first_missing();
        format!("sum {} {missing} {} {} {}", self.received, self.duplicates, self.reordered, self.sent)
    }

    fn is_early(&self, n: u64) -> bool {
        self.early.range(..=n).next_back().is_some_and(|(_, last)| n <= *last)
    }

    fn join_first_stretch(&mut self) {
        if let Some(last) = self.early.remove(&(self.upto + 1)) {
            self.upto = last;
        }
    }

    fn keep_early(&mut self, n: u64) {
        let last = self.early.remove(&(n + 1)).unwrap_or(n);
        let before = self.early.range_mut(..n).next_back().filter(|(_, end)| **end + 1 == n);
        if let Some((_, end)) = before {
            *end = last;
        } else {
            self.early.insert(n, last);
        }
        if self.early.len() > STRETCHES_MAX {
            self.early.pop_last();
        }
    }
}

/// What a client says on the ledger's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// `u <n>`: note this number.
    Up(u64),
    /// `sum`: tell what came.
    Sum,
}

impl Line {
    /// Reads one line; `None` when it is none of ours. Numbers start at 1.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "sum" {
            return Some(Self::Sum);
        }
        let n = text.strip_prefix("u ")?.parse().ok()?;
        (1..u64::MAX).contains(&n).then_some(Self::Up(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: impl IntoIterator<Item = u64>) -> Ledger {
        let mut ledger = Ledger::default();
        numbers.into_iter().for_each(|n| ledger.note(n));
        ledger
    }

    #[test]
    fn numbers_in_order_leave_a_clean_sum() {
        assert_eq!(after(1..=1_000).sum(), "sum 1000 0 0 0 0");
        assert_eq!(Ledger::default().sum(), "sum 0 0 0 0 0");
    }

    #[test]
    fn a_hole_shows_its_first_number_until_it_is_filled() {
        let mut ledger = after([1, 2, 4, 5, 7]);
        assert_eq!(ledger.sum(), "sum 5 3 0 0 0");
        ledger.note(3);
        assert_eq!(ledger.sum(), "sum 6 6 0 1 0", "3 came late, 6 still misses");
        ledger.note(6);
        assert_eq!(ledger.sum(), "sum 7 0 0 2 0");
        assert!(ledger.early.is_empty(), "no stretch is left behind: {:?}", ledger.early);
    }

    #[test]
    fn a_repeat_is_a_duplicate_whether_it_was_early_or_not() {
        assert_eq!(after([1, 1, 2, 5, 5, 2]).sum(), "sum 3 3 3 0 0");
    }

    #[test]
    fn every_order_of_six_numbers_ends_complete_and_counts_what_came_late() {
        let mut orders = vec![vec![]];
        for _ in 0..6 {
            let longer = |order: &Vec<u64>| {
                let order = order.clone();
                (1..=6).filter(|n| !order.contains(n)).map(|n| [order.clone(), vec![n]].concat()).collect::<Vec<_>>()
            };
            orders = orders.iter().flat_map(longer).collect();
        }
        assert_eq!(orders.len(), 720);
        for order in orders {
            let late = (1..6).filter(|at| order[..*at].iter().any(|before| *before > order[*at])).count();
            assert_eq!(after(order.iter().copied()).sum(), format!("sum 6 0 0 {late} 0"), "order {order:?}");
        }
    }

    #[test]
    fn a_wild_wire_does_not_make_the_ledger_grow() {
        let ledger = after((1..=10_000).map(|n| n * 2));
        assert_eq!(ledger.early.len(), STRETCHES_MAX);
        assert_eq!(ledger.first_missing(), 1);
    }

    #[test]
    fn the_app_counts_its_own_messages_from_one() {
        let mut ledger = Ledger::default();
        assert_eq!((ledger.next_sent(), ledger.next_sent()), (1, 2));
        assert_eq!(ledger.sum(), "sum 0 0 0 0 2");
    }

    #[test]
    fn lines_that_are_not_ours_are_not_guessed_at() {
        assert_eq!(Line::parse("u 17"), Some(Line::Up(17)));
        assert_eq!(Line::parse("sum"), Some(Line::Sum));
        for wrong in ["", "u", "u ", "u 0", "u -1", "u 1.5", "u 18446744073709551615", "sum 1", "d 1 1", "U 1"] {
            assert_eq!(Line::parse(wrong), None, "{wrong:?} must not be read as a line");
        }
    }
}
