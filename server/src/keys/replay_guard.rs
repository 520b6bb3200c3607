//! Remembers what was seen, so that a recorded call cannot be played back.

use std::collections::BTreeSet;

/// Why a call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// Its time is too far from ours.
    Clock,
    /// It was taken before.
    Seen,
    /// It is older than what had to be forgotten for want of room.
    Forgotten,
}

/// Nonces of the last two windows, by the time that their senders gave. Bounded: when full, the oldest
/// goes, and from then on nothing as old as it is taken. So forgetting never lets a replay in.
#[derive(Debug)]
pub(super) struct ReplayGuard {
    seen: BTreeSet<(u64, u128)>,
    forgotten_to_ms: u64,
    window_ms: u64,
    capacity: usize,
}

impl ReplayGuard {
    /// Takes times at most `window_ms` from now either way, and remembers at most `capacity` nonces.
    pub(super) fn new(window_ms: u64, capacity: usize) -> Self {
        Self { seen: BTreeSet::new(), forgotten_to_ms: 0, window_ms, capacity }
    }

    /// Whether `time_ms` is within the window.
    pub(super) fn is_current(&self, time_ms: u64, now_ms: u64) -> bool {
        time_ms.abs_diff(now_ms) <= self.window_ms
    }

    /// Takes a nonce once.
    pub(super) fn take(&mut self, nonce: u128, time_ms: u64, now_ms: u64) -> Result<(), Stale> {
        if !self.is_current(time_ms, now_ms) {
            return Err(Stale::Clock);
        }
        let oldest_ms = now_ms.saturating_sub(self.window_ms);
        while self.seen.first().is_some_and(|(time, _)| *time < oldest_ms) {
            self.seen.pop_first();
        }
        if time_ms <= self.forgotten_to_ms {
            return Err(Stale::Forgotten);
        }
        if !self.seen.insert((time_ms, nonce)) {
            return Err(Stale::Seen);
        }
        if self.seen.len() > self.capacity
            && let Some((time, _)) = self.seen.pop_first()
        {
            self.forgotten_to_ms = self.forgotten_to_ms.max(time);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once() {
        let mut guard = ReplayGuard::new(60, 8);
        assert_eq!(guard.take(1, 1000, 1000), Ok(()));
        assert_eq!(guard.take(1, 1000, 1010), Err(Stale::Seen));
        assert_eq!(guard.take(2, 1000, 1010), Ok(()));
    }

    #[test]
    fn what_lies_outside_the_window_is_not_taken() {
        let mut guard = ReplayGuard::new(60, 8);
        assert_eq!(guard.take(1, 939, 1000), Err(Stale::Clock));
        assert_eq!(guard.take(1, 1061, 1000), Err(Stale::Clock));
        assert_eq!(guard.take(1, 1060, 1000), Ok(()));
    }

    #[test]
    fn a_clock_that_runs_ahead_does_not_let_its_replay_in_later() {
        let mut guard = ReplayGuard::new(60, 8);
        assert_eq!(guard.take(1, 1060, 1000), Ok(()));
        assert_eq!(guard.take(2, 1119, 1119), Ok(()));
        assert_eq!(guard.take(1, 1060, 1120), Err(Stale::Seen));
    }

    #[test]
    fn when_full_it_forgets_the_oldest_and_takes_nothing_as_old() {
        let mut guard = ReplayGuard::new(60, 2);
        for (nonce, time) in [(1, 1000), (2, 1001), (3, 1002)] {
            assert_eq!(guard.take(nonce, time, 1002), Ok(()));
        }
        assert_eq!(guard.take(1, 1000, 1002), Err(Stale::Forgotten));
        assert_eq!(guard.take(2, 1001, 1002), Err(Stale::Seen));
        assert_eq!(guard.seen.len(), 2);
    }

    #[test]
    fn what_can_no_longer_be_replayed_is_dropped() {
        let mut guard = ReplayGuard::new(60, 100);
        for nonce in 0..50 {
            assert_eq!(guard.take(nonce, 1000, 1000), Ok(()));
        }
        assert_eq!(guard.take(99, 2000, 2000), Ok(()));
        assert_eq!(guard.seen.len(), 1);
    }
}
