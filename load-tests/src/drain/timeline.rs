//! When things happened to how many clients, in hundredths of a second.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// One place of the course, and how many there are: 20 minutes. What comes later counts in the last.
const STEP: Duration = Duration::from_millis(10);
const STEPS: usize = 120_000;

/// Places in a second.
const PER_SECOND: usize = 100;

/// How many at each place of time. Shared by all clients.
#[derive(Debug)]
pub(crate) struct Course(Box<[AtomicU32]>);

impl Default for Course {
    fn default() -> Self {
        Self((0..STEPS).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Course {
    /// One more, so long after the start.
    pub(crate) fn note(&self, after: Duration) {
        let at = (after.as_millis() / STEP.as_millis()) as usize;
        self.0[at.min(STEPS - 1)].fetch_add(1, Relaxed);
    }

    /// The most in any one second, wherever it begins.
    pub(crate) fn peak_per_s(&self) -> u64 {
        let counts: Vec<u64> = self.0.iter().map(|at| u64::from(at.load(Relaxed))).collect();
        let mut sum: u64 = counts.iter().take(PER_SECOND).sum();
        let mut peak = sum;
        for (gone, come) in counts.iter().zip(counts.iter().skip(PER_SECOND)) {
            sum = sum + come - gone;
            peak = peak.max(sum);
        }
        peak
    }

    /// From the first to the last, in seconds after the start.
    pub(crate) fn span_s(&self) -> Option<(f64, f64)> {
        let there = |at: &&AtomicU32| at.load(Relaxed) > 0;
        let first = self.0.iter().position(|at| there(&at))?;
        let last = self.0.iter().rposition(|at| there(&at))?;
        Some((first as f64 / PER_SECOND as f64, last as f64 / PER_SECOND as f64))
    }

    /// Pairs of a time in seconds, counted from `begin`, and how many came a second in that tenth.
    pub(crate) fn per_second(&self, begin: f64, end: f64) -> Vec<(f64, f64)> {
        self.tenths(begin, end).map(|(at, count)| (at, count as f64 * 10.0)).collect()
    }

    /// The same with how many had come by then.
    pub(crate) fn so_far(&self, begin: f64, end: f64) -> Vec<(f64, f64)> {
        let mut sum = 0;
        self.tenths(begin, end)
            .map(|(at, count)| {
                (at, {
                    sum += count;
                    sum as f64
                })
            })
            .collect()
    }

    fn tenths(&self, begin: f64, end: f64) -> impl Iterator<Item = (f64, u64)> {
        let (first, last) = ((begin * 10.0) as usize, ((end * 10.0) as usize + 1).min(STEPS / 10));
        (first..last).map(move |tenth| {
            let count = self.0[tenth * 10..tenth * 10 + 10].iter().map(|at| u64::from(at.load(Relaxed))).sum();
            ((tenth - first) as f64 / 10.0, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(at: &[(u64, u32)]) -> Course {
        let course = Course::default();
        for (ms, count) in at {
            (0..*count).for_each(|_| course.note(Duration::from_millis(*ms)));
        }
        course
    }

    #[test]
    fn the_busiest_second_is_found_wherever_it_begins() {
        let course = course(&[(1_900, 30), (2_050, 40), (2_895, 5), (2_905, 50)]);
        assert_eq!(course.peak_per_s(), 95, "from 2.05 to 3.05 s");
        assert_eq!(course.span_s(), Some((1.9, 2.9)));
    }

    #[test]
    fn a_course_is_told_by_tenths_from_where_it_is_asked() {
        let course = course(&[(1_000, 2), (1_090, 1), (1_250, 4)]);
        assert_eq!(course.per_second(1.0, 1.3), [(0.0, 30.0), (0.1, 0.0), (0.2, 40.0), (0.3, 0.0)]);
        assert_eq!(course.so_far(1.0, 1.25).last(), Some(&(0.2, 7.0)));
    }

    #[test]
    fn nothing_has_no_span_and_what_is_too_late_is_not_lost() {
        assert_eq!((course(&[]).span_s(), course(&[]).peak_per_s()), (None, 0));
        assert_eq!(course(&[(9_000_000, 3)]).peak_per_s(), 3);
    }
}
