//! Pacing: how fast sessions may be released, and what the successors' admission does to it.

use super::event::Admission;
use crate::position::Millis;

/// How far a late release may be caught up: the rate in any second stays within 5 % of the plan's.
const CATCH_UP_US: u64 = 40_000;
/// Speed at its best, in thousandths of the plan's rate.
const FULL: u64 = 1_000;
/// Speed at its worst.
const FLOOR: u64 = 50;
/// What a cut leaves, in thousandths …
const CUT: u64 = 700;
/// … and one for a successor that is slow beyond twice the bound.
const CUT_DEEP: u64 = 500;
/// What each good second gives back.
const RECOVER_PER_S: u64 = 50;
/// A successor is slow when its 99th percentile is over this many times its best …
const SLOW_FACTOR: u64 = 4;
/// … and over this.
const SLOW_MIN_MS: u64 = 200;
/// It is getting slower when its 99th percentile rises by a quarter from one sample to the next, and by this.
const RISE_MIN_MS: u64 = 100;
/// Fewer welcomes than this say nothing about latency.
const JUDGED_MIN: u64 = 4;

/// Spaces releases by an interval (a leaky bucket that holds no more than the catch-up).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pacer {
    interval_us: u64,
    next_us: u64,
}

impl Pacer {
    /// One release per interval; 0 means unpaced.
    pub(super) const fn new(interval_us: u64) -> Self {
        Self { interval_us, next_us: 0 }
    }

    /// When the next release is allowed.
    pub(super) const fn ready_at(&self) -> Millis {
        Millis(self.next_us.saturating_sub(CATCH_UP_US).div_ceil(1_000))
    }

    /// Whether a release is allowed now.
    pub(super) fn is_ready(&self, now: Millis) -> bool {
        now >= self.ready_at()
    }

    /// Takes note of a release, at this speed.
    pub(super) fn take(&mut self, now: Millis, speed: u64) {
        let interval_us = self.interval_us.saturating_mul(FULL) / speed.max(1);
        self.next_us = self.next_us.max(now.0.saturating_mul(1_000)) + interval_us;
    }
}

/// Multiplies the rate down when a successor admits badly, and lets it recover second by second:
/// additive up, multiplicative down. It never exceeds the plan's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Speed {
    permille: u64,
    /// The last cut, or the last second that was good after it.
    settled_at: Millis,
    cut_at: Option<Millis>,
}

impl Speed {
    /// Full speed.
    pub(super) const fn new() -> Self {
        Self { permille: FULL, settled_at: Millis(0), cut_at: None }
    }

    /// Gives back what the seconds until now are worth.
    pub(super) fn settle(&mut self, now: Millis) {
        let seconds = now.since(self.settled_at) / 1_000;
        self.permille = (self.permille + seconds.min(FULL) * RECOVER_PER_S).min(FULL);
        self.settled_at = self.settled_at.plus(seconds * 1_000);
    }

    /// Thousandths of the plan's rate.
    pub(super) const fn permille(&self) -> u64 {
        self.permille
    }

    /// When it will be higher by itself.
    pub(super) fn rises_at(&self) -> Option<Millis> {
        (self.permille < FULL).then(|| self.settled_at.plus(1_000))
    }

    /// Something was refused or slow: down to 7/10, at most once a second.
    pub(super) fn cut(&mut self, now: Millis) {
        self.cut_to(CUT, now);
    }

    fn cut_to(&mut self, permille: u64, now: Millis) {
        self.settle(now);
        if self.cut_at.is_none_or(|at| now.since(at) >= 1_000) {
            self.permille = (self.permille * permille / FULL).max(FLOOR);
            self.cut_at = Some(now);
            self.settled_at = now;
        }
    }

    /// Judges one sample of a successor against the best one that it ever gave, and against the one before. A
    /// handful of clients is no ground to call it slow.
    pub(super) fn sample(&mut self, admission: Admission, latency: &mut Latency, now: Millis) {
        let (mut slow_ms, mut rising) = (u64::MAX, false);
        if admission.welcomed >= JUDGED_MIN {
            let p99_ms = admission.p99_ms;
            let best_ms = latency.best_ms.map_or(p99_ms, |best_ms| best_ms.min(p99_ms));
            slow_ms = best_ms.saturating_mul(SLOW_FACTOR).max(SLOW_MIN_MS);
            // The best one may already be that of a queue; but a queue that grows shows from one to the next.
            let much = |last_ms: u64| last_ms.saturating_add((last_ms / 4).max(RISE_MIN_MS));
            rising = p99_ms > SLOW_MIN_MS && latency.last_ms.is_some_and(|last_ms| p99_ms >= much(last_ms));
            *latency = Latency { best_ms: Some(best_ms), last_ms: Some(p99_ms) };
        }
        if admission.p99_ms > slow_ms.saturating_mul(2) {
            // A queue stands there, and grows by what is sent until it is heard of.
            self.cut_to(CUT_DEEP, now);
        } else if admission.p99_ms > slow_ms || rising || admission.refused > 0 {
            self.cut(now);
        }
    }

    /// This share of a bound, at least 1.
    pub(super) fn of(&self, bound: u64) -> u64 {
        (bound * self.permille / FULL).max(1)
    }
}

/// How many moves an unpaced drain keeps in flight: as many as the hubs hand over without a queue between them. With
/// more nobody is moved sooner, and everybody stands frozen for longer.
///
/// Judged round by round, of as many exchanges as the limit: doubled while none waited, a quarter more while few
/// did, seven tenths when more than a tenth did (TCP Vegas, Brakmo and Peterson 1995, in outline).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    limit: u64,
    least: u64,
    max: u64,
    best_ms: Option<u64>,
    seen: u64,
    waited: u64,
}

impl Flight {
    /// Enough to keep two hubs busy that are near each other.
    pub(super) const LEAST: u64 = 64;
    /// An exchange waited if it took twice the best one, and so many milliseconds more.
    const WAITED_MS: u64 = 5;

    /// From few on, where nothing else paces; a timetable has its own bound.
    pub(super) const fn new(max: u64, unpaced: bool) -> Self {
        let least = if unpaced && max > Self::LEAST { Self::LEAST } else { max };
        Self { limit: least, least, max, best_ms: None, seen: 0, waited: 0 }
    }

    /// So many.
    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }

    /// One more handover took so long between the hubs.
    pub(super) fn exchanged(&mut self, took_ms: u64) {
        if self.least == self.max {
            return;
        }
        let best_ms = self.best_ms.map_or(took_ms, |best_ms| best_ms.min(took_ms));
        self.best_ms = Some(best_ms);
        self.seen += 1;
        self.waited += u64::from(took_ms > best_ms.saturating_mul(2).saturating_add(Self::WAITED_MS));
        if self.seen < self.limit {
            return;
        }
        let next = match self.waited {
            0 => self.limit * 2,
            few if few * 10 <= self.seen => self.limit + self.limit / 4,
            _ => self.limit * CUT / FULL,
        };
        self.limit = next.clamp(self.least, self.max);
        (self.seen, self.waited) = (0, 0);
    }
}

/// What a successor's samples said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Latency {
    best_ms: Option<u64>,
    last_ms: Option<u64>,
}

/// How many sessions went live in each of the last seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rate {
    counts: [u32; Self::SECONDS as usize],
    second: u64,
}

impl Rate {
    const SECONDS: u64 = 10;

    pub(super) const fn new() -> Self {
        Self { counts: [0; Self::SECONDS as usize], second: 0 }
    }

    /// One more.
    pub(super) fn count(&mut self, now: Millis) {
        let second = now.0 / 1_000;
        let passed = second.saturating_sub(self.second).min(Self::SECONDS);
        for i in 0..passed {
            self.counts[((second - i) % Self::SECONDS) as usize] = 0;
        }
        self.second = self.second.max(second);
        self.counts[(second % Self::SECONDS) as usize] += 1;
    }

    /// Per second over the last ten, or since `begin` if that is less.
    pub(super) fn per_s(&self, begin: Millis, now: Millis) -> f64 {
        let newest = now.0 / 1_000;
        let oldest = newest.saturating_sub(Self::SECONDS - 1);
        let count: u32 = (oldest..=self.second)
            .rev()
            .take(Self::SECONDS as usize)
            .map(|s| self.counts[(s % Self::SECONDS) as usize])
            .sum();
        let span_ms = now.since(begin).clamp(1_000, Self::SECONDS * 1_000);
        f64::from(count) * 1_000.0 / span_ms as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_spaced_and_a_late_one_is_caught_up_by_forty_milliseconds_at_most() {
        let mut pacer = Pacer::new(10_000);
        let released = |pacer: &mut Pacer, from: u64, to: u64| {
            let mut count = 0;
            for ms in from..to {
                while pacer.is_ready(Millis(ms)) {
                    pacer.take(Millis(ms), FULL);
                    count += 1;
                }
            }
            count
        };
        assert_eq!(released(&mut pacer, 10_000, 11_000), 104, "100 a second, and 40 ms of catching up");
        assert_eq!(released(&mut pacer, 60_000, 61_000), 104, "a long pause saves up no more than that");
    }

    #[test]
    fn an_interval_of_zero_is_unpaced() {
        let mut pacer = Pacer::new(0);
        for _ in 0..1_000 {
            assert!(pacer.is_ready(Millis(1)));
            pacer.take(Millis(1), FULL);
        }
    }

    #[test]
    fn refusals_slow_the_rate_down_to_a_floor_and_good_seconds_bring_it_back() {
        let (mut speed, mut best) = (Speed::new(), Latency::default());
        let refused = Admission { p99_ms: 10, refused: 1, ..Admission::default() };
        speed.sample(refused, &mut best, Millis(0));
        speed.sample(refused, &mut best, Millis(500));
        assert_eq!(speed.permille(), 700, "one cut per second");
        speed.sample(refused, &mut best, Millis(1_000));
        assert_eq!(speed.permille(), 525, "7/10 of the 750 it had recovered to");
        assert_eq!(speed.rises_at(), Some(Millis(2_000)));
        speed.settle(Millis(60_000));
        assert_eq!((speed.permille(), speed.rises_at()), (FULL, None), "never above the plan");
        (0..100).for_each(|s| speed.cut(Millis(61_000 + s * 1_000)));
        assert!(speed.permille() >= FLOOR, "{} is below the floor", speed.permille());
        assert_eq!(speed.of(1), 1, "a bound never falls to nothing");
    }

    #[test]
    fn rising_latency_slows_the_rate_and_a_uniformly_slow_successor_does_not() {
        let (mut slow, mut best) = (Speed::new(), Latency::default());
        let seen = |p99_ms, welcomed| Admission { p99_ms, welcomed, ..Admission::default() };
        (0..5).for_each(|s| slow.sample(seen(400, 50), &mut best, Millis(s * 1_000)));
        assert_eq!(slow.permille(), FULL);
        let (mut rising, mut best) = (Speed::new(), Latency::default());
        rising.sample(seen(20, 50), &mut best, Millis(0));
        rising.sample(seen(300, 3), &mut best, Millis(1_000));
        assert_eq!(rising.permille(), FULL, "three clients are no ground");
        rising.sample(seen(300, 50), &mut best, Millis(2_000));
        assert_eq!(rising.permille(), 700);
        rising.sample(seen(401, 50), &mut best, Millis(3_000));
        assert_eq!(rising.permille(), 375, "half of 750: it is slow beyond twice the bound");
    }

    #[test]
    fn an_unpaced_drain_keeps_as_many_in_flight_as_the_hubs_hand_over_without_waiting() {
        let after = |rounds: &[&[u64]]| {
            let mut flight = Flight::new(256, true);
            for round in rounds {
                let limit = flight.limit();
                (0..limit as usize).for_each(|nth| flight.exchanged(round[nth % round.len()]));
            }
            flight.limit()
        };
        let (few, many) = (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 20][..], &[1, 1, 1, 1, 20][..]);
        assert_eq!(after(&[]), 64);
        assert_eq!(after(&[&[1]]), 128, "doubled while nobody waits");
        assert_eq!(after(&[&[1], &[1], &[1], &[1], &[1]]), 256, "and never above the policy");
        assert_eq!(after(&[&[1], few]), 160, "a quarter more while few wait");
        assert_eq!(after(&[&[1], many]), 89, "fewer when many do");
        assert_eq!(after(&[many, many, many]), 64, "never so few that both hubs are idle");
        assert_eq!(
            after(&[&[100], &[150], &[200]]),
            256,
            "hubs far from each other take long for one and wait for none"
        );
    }

    #[test]
    fn a_paced_drain_and_a_policy_of_few_are_left_as_they_are() {
        for (max, unpaced) in [(256, false), (20, true), (64, true)] {
            let mut flight = Flight::new(max, unpaced);
            (0..1_000).for_each(|nth| flight.exchanged(nth));
            assert_eq!(flight.limit(), max);
        }
    }

    #[test]
    fn a_latency_that_grows_from_sample_to_sample_slows_the_rate_even_when_the_first_was_bad_already() {
        let seen = |p99_ms| Admission { p99_ms, welcomed: 50, ..Admission::default() };
        let (mut speed, mut latency) = (Speed::new(), Latency::default());
        for (second, p99_ms) in [600, 1_100, 1_000, 1_080].into_iter().enumerate() {
            speed.sample(seen(p99_ms), &mut latency, Millis(second as u64 * 1_000));
        }
        assert_eq!(speed.permille(), 700, "it grew once; and all of this is below four times 600");
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let mut rate = Rate::new();
        (0..20u64).for_each(|s| (0..s).for_each(|_| rate.count(Millis(s * 1_000))));
        assert_eq!(rate.per_s(Millis(0), Millis(19_999)), 14.5, "10 to 19, over ten seconds");
        assert_eq!(rate.per_s(Millis(0), Millis(60_000)), 0.0);
    }
}
