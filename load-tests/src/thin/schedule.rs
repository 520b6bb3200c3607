//! What a generator has to do when: attempts, goodbyes, messages, acks. Pure.

use super::orders::Traffic;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A sequence of things that are due one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    begin_ns: u64,
    per_s: Option<f64>,
    done: u64,
    count: u64,
}

impl Pace {
    /// `count` things from `begin_ns` on; without a rate all at once.
    pub(super) const fn new(begin_ns: u64, per_s: Option<f64>, count: u64) -> Self {
        Self { begin_ns, per_s, done: 0, count }
    }

    /// When the next is due; nothing when all are done.
    pub(super) fn next_ns(&self) -> Option<u64> {
        (self.done < self.count).then(|| match self.per_s {
            // From the beginning and not from the one before: rounding does not add up.
            Some(per_s) => self.begin_ns + (self.done as f64 * 1e9 / per_s) as u64,
            None => self.begin_ns,
        })
    }

    /// The time that the next was due, if that time has come; it counts as done then.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns().filter(|at| *at <= now_ns)?;
        self.done += 1;
        Some(due)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(0, None, 0)
    }
}

/// Everything that is due at some time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    connects: Pace,
    in_flight: u64,
    /// Attempts that were told to come again: when, and when the first attempt was due.
    again: BinaryHeap<Reverse<(u64, u64)>>,
    /// Goodbyes.
    pub(super) goodbyes: Pace,
    /// Slots and generations of open connections, the oldest first.
    pub(super) oldest: VecDeque<(u32, u32)>,
    /// Acks: when, slot and generation.
    pub(super) acks: VecDeque<(u64, u32, u32)>,
    /// Traffic, its pace, and the slot whose turn it is.
    pub(super) traffic: Option<(Traffic, Pace, usize)>,
}

impl Schedule {
    /// Orders attempts. What was still due of an earlier order is dropped.
    pub(super) fn connect(&mut self, count: u32, per_s: Option<f64>, in_flight: u32, begin_ns: u64) {
        self.connects = Pace::new(begin_ns, per_s, u64::from(count));
        self.in_flight = u64::from(in_flight.max(1));
    }

    /// Orders goodbyes.
    pub(super) fn disconnect(&mut self, count: u32, per_s: Option<f64>, begin_ns: u64) {
        self.goodbyes = Pace::new(begin_ns, per_s, u64::from(count));
    }

    /// An attempt is to be made again at `at_ns`; it counts from when it was due at first.
    pub(super) fn again(&mut self, at_ns: u64, due_ns: u64) {
        self.again.push(Reverse((at_ns, due_ns)));
    }

    /// The next attempt that is due, while fewer than allowed are under way. Repeated ones were
    /// admitted before, so they go first.
    pub(super) fn next_connect(&mut self, now_ns: u64, opening: u64) -> Option<u64> {
        if opening >= self.in_flight {
            return None;
        }
        if self.again.peek().is_some_and(|Reverse((at, _))| *at <= now_ns) {
            return self.again.pop().map(|Reverse((_, due))| due);
        }
        // Without a rate, an attempt is due when there is room for it.
        let paced = self.connects.per_s.is_some();
        self.connects.take(now_ns).map(|due| if paced { due } else { now_ns })
    }

    /// When the traffic ends, if it has not.
    pub(super) fn sends_until(&self, now_ns: u64) -> Option<u64> {
        let (traffic, pace, _) = self.traffic.as_ref()?;
        let goes_on = match traffic.per_s {
            // Late messages are sent all the same, so the plan decides.
            Some(_) => pace.next_ns().is_some_and(|due| due < traffic.until_ns),
            None => now_ns < traffic.until_ns,
        };
        goes_on.then_some(traffic.until_ns)
    }

    /// When something is due next.
    pub(super) fn next_ns(&self, opening: u64) -> Option<u64> {
        let room = opening < self.in_flight;
        let connect = if room { self.connects.next_ns() } else { None };
        let again = self.again.peek().filter(|_| room).map(|Reverse((at, _))| *at);
        let goodbye = if self.oldest.is_empty() { None } else { self.goodbyes.next_ns() };
        let traffic = self.traffic.as_ref().and_then(|(_, pace, _)| pace.next_ns());
        [connect, again, goodbye, traffic, self.acks.front().map(|(at, ..)| *at)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::Kind;

    #[test]
    fn a_paced_sequence_is_due_by_its_rate_whatever_became_of_those_before() {
        let mut pace = Pace::new(1_000, Some(1_000_000.0), 3);
        assert_eq!((pace.take(999), pace.take(1_000)), (None, Some(1_000)));
        assert_eq!((pace.take(9_000), pace.take(9_000), pace.take(9_000)), (Some(2_000), Some(3_000), None));
        assert_eq!(pace.next_ns(), None, "all are done");
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let mut pace = Pace::new(0, Some(3.0), 3_001);
        let last = std::iter::from_fn(|| pace.take(u64::MAX)).last();
        assert_eq!(last, Some(1_000_000_000_000), "the 3,000th third of a second after the first");
    }

    #[test]
    fn no_more_attempts_are_under_way_than_allowed_and_waiting_for_room_is_not_being_late() {
        let mut schedule = Schedule::default();
        schedule.connect(5, None, 2, 10);
        assert_eq!((schedule.next_connect(10, 0), schedule.next_connect(70, 1)), (Some(10), Some(70)));
        assert_eq!((schedule.next_connect(80, 2), schedule.next_ns(2)), (None, None));
        assert_eq!(schedule.next_ns(1), Some(10));
    }

    #[test]
    fn traffic_has_ended_when_all_that_was_due_was_sent_and_not_just_when_its_time_is_over() {
        let traffic =
            Traffic { kind: Kind::Ping, sessions: 1, per_s: Some(1e6), payload: 8, begin_ns: 0, until_ns: 2_000 };
        let mut schedule =
            Schedule { traffic: Some((traffic, Pace::new(0, traffic.per_s, u64::MAX), 0)), ..Schedule::default() };
        assert_eq!(schedule.sends_until(9_000), Some(2_000), "two messages are late");
        for _ in 0..2 {
            assert!(schedule.traffic.as_mut().unwrap().1.take(9_000).is_some());
        }
        assert_eq!(schedule.sends_until(9_000), None);
        let closed = Traffic { per_s: None, ..traffic };
        schedule.traffic = Some((closed, Pace::default(), 0));
        assert_eq!((schedule.sends_until(1_999), schedule.sends_until(2_000)), (Some(2_000), None));
    }

    #[test]
    fn an_attempt_that_comes_again_counts_from_when_it_was_due_at_first() {
        let mut schedule = Schedule::default();
        schedule.connect(1, None, 9, 10);
        assert_eq!(schedule.next_connect(10, 0), Some(10), "the one attempt");
        schedule.again(500, 10);
        assert_eq!((schedule.next_connect(499, 0), schedule.next_ns(0)), (None, Some(500)));
        assert_eq!(schedule.next_connect(500, 0), Some(10));
    }
}
