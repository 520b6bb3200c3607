//! The account of one client, kept apart from what any hub says. Pure.
//!
//! Both directions are numbered from 1 by their sender. The client notes what comes down itself;
//! what went up is told by the app, which keeps the same kind of account (its answer to `sum`).

use std::collections::BTreeSet;

/// How many holes are remembered by number; those beyond are lost for sure in this account.
const HOLES_MAX: usize = 4096;

/// What has come in of one numbered direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    highest: u64,
    holes: BTreeSet<u64>,
    forgotten: u64,
    /// How many came again.
    pub(crate) duplicated: u64,
    /// How many came for the first time after a higher one.
    pub(crate) reordered: u64,
}

impl Seen {
    /// Notes that number `n` came; numbers begin at 1.
    pub(crate) fn note(&mut self, n: u64) {
        if n > self.highest {
            let room = (HOLES_MAX - self.holes.len()) as u64;
            let skipped = n - self.highest - 1;
            self.holes.extend(self.highest + 1..self.highest + 1 + skipped.min(room));
            self.forgotten += skipped.saturating_sub(room);
            self.highest = n;
        } else if self.holes.remove(&n) {
            self.reordered += 1;
        } else {
            self.duplicated += 1;
        }
    }

    /// How many different numbers came.
    pub(crate) fn received(&self) -> u64 {
        self.highest - self.holes.len() as u64 - self.forgotten
    }

    /// The lowest number that is missing below the highest.
    pub(crate) fn first_missing(&self) -> Option<u64> {
        self.holes.first().copied()
    }
}

/// The app's answer to `sum`: its side of the same session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppSum {
    /// How many different numbers the app received.
    pub(crate) received: u64,
    /// The lowest that is missing, or 0.
    pub(crate) first_missing: u64,
    /// How many came again.
    pub(crate) duplicated: u64,
    /// How many came after a higher one.
    pub(crate) reordered: u64,
    /// How many numbered messages it has sent.
    pub(crate) sent: u64,
}

/// A line from the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// `d <m> <n>`: the app's message number m; n is what it answers, 0 for none.
    Down(u64),
    /// `u <n>`: our own message, from an app that only echoes.
    Echo(u64),
    /// `p <n>`: a numbered message from the hub's API to everybody.
    Push(u64),
    /// `sum …`.
    Sum(AppSum),
}

impl Line {
    /// Reads a line; nothing if it is none of these.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let kind = words.next()?;
        let numbers: Vec<u64> =
            words.map(|word| word.parse().ok()).collect::<Option<_>>().filter(|n: &Vec<u64>| n.len() <= 5)?;
        match (kind, &numbers[..]) {
            ("d", [m, _]) if *m > 0 => Some(Self::Down(*m)),
            ("u", [n]) if *n > 0 => Some(Self::Echo(*n)),
            ("p", [n]) if *n > 0 => Some(Self::Push(*n)),
            ("sum", &[received, first_missing, duplicated, reordered, sent]) => {
                Some(Self::Sum(AppSum { received, first_missing, duplicated, reordered, sent }))
            }
            _ => None,
        }
    }
}

/// How many faults of one client are kept in words; the rest are counted.
const FAULTS_MAX: usize = 4;

/// One client's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Messages that never came and were never declared, both directions.
    pub(crate) lost: u64,
    /// Messages that came again.
    pub(crate) duplicated: u64,
    /// Messages that came after a later one.
    pub(crate) reordered: u64,
    /// Faults in words.
    pub(crate) faults: Vec<String>,
}

impl Account {
    fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }

    fn add(&mut self, direction: &str, lost: u64, duplicated: u64, reordered: u64, of: u64, first: Option<u64>) {
        self.lost += lost;
        self.duplicated += duplicated;
        self.reordered += reordered;
        if lost > 0 {
            let first = first.map_or_else(|| "the last ones".to_owned(), |n| format!("first number {n}"));
            self.fault(format!("{direction}: {lost} of {of} lost, {first}"));
        }
        if duplicated > 0 {
            self.fault(format!("{direction}: {duplicated} of {of} came twice"));
        }
        if reordered > 0 {
            self.fault(format!("{direction}: {reordered} of {of} came after a later one"));
        }
    }
}

/// Compares what the client sent and saw with what the app says. `declared` is how many messages
/// the hub said were lost towards this client.
pub(crate) fn reconcile(sent_up: u64, down: &Seen, declared: u64, app: AppSum) -> Account {
    let mut account = Account::default();
    let first_up = Some(app.first_missing).filter(|n| *n > 0);
    let lost_up = sent_up.saturating_sub(app.received);
    account.add("up", lost_up, app.duplicated, app.reordered, sent_up, first_up);
    if app.received > sent_up {
        account.fault(format!("up: the app says it received {}, only {sent_up} were sent", app.received));
        account.duplicated += app.received - sent_up;
    }
    let lost_down = app.sent.saturating_sub(down.received()).saturating_sub(declared);
    account.add("down", lost_down, down.duplicated, down.reordered, app.sent, down.first_missing());
    if down.received() > app.sent {
        account.fault(format!("down: {} came, the app says it sent only {}", down.received(), app.sent));
        account.duplicated += down.received() - app.sent;
    }
    account
}

/// The same for an app that only echoes: what comes back is the account of both directions.
pub(crate) fn reconcile_echo(sent_up: u64, echoed: &Seen, declared: u64) -> Account {
    let mut account = Account::default();
    let lost = sent_up.saturating_sub(echoed.received()).saturating_sub(declared);
    account.add("up and back", lost, echoed.duplicated, echoed.reordered, sent_up, echoed.first_missing());
    account
}

/// Without an app: what the hub has not acked in the end is lost, and so is what was pushed to everybody
/// and did not come.
pub(crate) fn reconcile_acks(sent_up: u64, unacked: u64, pushed: u64, down: &Seen, declared: u64) -> Account {
    let mut account = Account::default();
    account.add("up", unacked, 0, 0, sent_up, Some(sent_up - unacked + 1));
    let lost = pushed.saturating_sub(down.received()).saturating_sub(declared);
    account.add("down", lost, down.duplicated, down.reordered, pushed, down.first_missing());
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: impl IntoIterator<Item = u64>) -> Seen {
        let mut seen = Seen::default();
        numbers.into_iter().for_each(|n| seen.note(n));
        seen
    }

    const fn sum(received: u64, first_missing: u64, duplicated: u64, reordered: u64, sent: u64) -> AppSum {
        AppSum { received, first_missing, duplicated, reordered, sent }
    }

    #[test]
    fn an_ordered_stream_has_no_fault_in_either_direction() {
        assert_eq!(reconcile(9, &seen(1..=5), 0, sum(9, 0, 0, 0, 5)), Account::default());
    }

    #[test]
    fn a_hole_is_a_loss_and_filling_it_later_is_a_reordering_instead() {
        let mut down = seen([1, 2, 4]);
        assert_eq!((down.received(), down.first_missing()), (3, Some(3)));
        down.note(3);
        assert_eq!((down.received(), down.reordered, down.duplicated), (4, 1, 0));
        down.note(3);
        assert_eq!((down.received(), down.reordered, down.duplicated), (4, 1, 1));
    }

    #[test]
    fn a_loss_at_the_end_shows_by_the_apps_count_and_is_named() {
        let account = reconcile(4, &seen(1..=5), 0, sum(3, 0, 0, 0, 7));
        assert_eq!(account.lost, 1 + 2);
        assert_eq!(account.faults, ["up: 1 of 4 lost, the last ones", "down: 2 of 7 lost, the last ones"]);
    }

    #[test]
    fn a_declared_gap_is_not_a_loss_but_covers_no_more_than_it_says() {
        assert_eq!(reconcile(0, &seen([1, 4, 5]), 2, sum(0, 0, 0, 0, 5)).lost, 0);
        assert_eq!(reconcile(0, &seen([1, 5]), 2, sum(0, 0, 0, 0, 5)).lost, 1);
    }

    #[test]
    fn the_apps_own_duplicates_and_reorderings_count_like_ours() {
        let account = reconcile(5, &seen([1, 1, 3, 2]), 0, sum(5, 0, 2, 1, 3));
        assert_eq!((account.lost, account.duplicated, account.reordered), (0, 3, 2));
    }

    #[test]
    fn an_app_that_claims_more_than_was_sent_is_a_fault_and_not_a_credit() {
        let account = reconcile(2, &seen([1]), 0, sum(3, 0, 0, 0, 0));
        assert_eq!((account.lost, account.duplicated), (0, 2));
        assert_eq!(account.faults.len(), 2, "{:?}", account.faults);
    }

    #[test]
    fn a_wild_stream_neither_grows_the_account_nor_loses_count() {
        let down = seen([1, 1_000_000]);
        assert_eq!((down.holes.len(), down.received()), (HOLES_MAX, 2));
        assert_eq!(reconcile(0, &down, 0, sum(0, 0, 0, 0, 1_000_000)).lost, 999_998);
    }

    #[test]
    fn an_echo_accounts_for_both_ways_and_acks_for_the_way_up() {
        assert_eq!(reconcile_echo(3, &seen([1, 2]), 0).lost, 1);
        assert_eq!(reconcile_acks(3, 0, 0, &seen([]), 0), Account::default());
        assert_eq!(reconcile_acks(3, 2, 0, &seen([]), 0).faults, ["up: 2 of 3 lost, first number 2"]);
    }

    #[test]
    fn a_push_to_everybody_that_did_not_come_is_a_loss_and_a_declared_one_is_not() {
        assert_eq!(reconcile_acks(0, 0, 4, &seen([1, 3, 4]), 0).faults, ["down: 1 of 4 lost, first number 2"]);
        assert_eq!(reconcile_acks(0, 0, 4, &seen([1, 3, 4]), 1).lost, 0);
        assert_eq!(reconcile_acks(0, 0, 2, &seen([1, 2, 2]), 0).duplicated, 1);
    }

    #[test]
    fn only_the_agreed_lines_are_read() {
        assert_eq!(Line::parse("d 3 17"), Some(Line::Down(3)));
        assert_eq!(Line::parse("u 4"), Some(Line::Echo(4)));
        assert_eq!(Line::parse("p 9"), Some(Line::Push(9)));
        assert_eq!(Line::parse("sum 5 0 0 0 9"), Some(Line::Sum(sum(5, 0, 0, 0, 9))));
        for wrong in ["", "d", "d 1", "d 0 1", "d x 1", "sum 1 2 3", "hello", "d 1 1 1", "d -1 0"] {
            assert_eq!(Line::parse(wrong), None, "{wrong:?} is no line of the ledger");
        }
    }
}
