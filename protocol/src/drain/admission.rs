//! How well a hub admits clients: measured there, told to its peers, and what their drains pace by.
//!
//! ```text
//!   hello read ── so long ──► welcome written     one sample
//!   second by second ─► the newest whole seconds with enough samples ─► Admission
//! ```
//! A drain that judges a hub by this slows down while the hub is late, whatever makes it late: its
//! processor, its app, or the handovers themselves.

use super::event::Admission;
use crate::position::Millis;
use std::collections::VecDeque;

/// Seconds that are looked back at most.
const SECONDS_MAX: u64 = 5;
/// So many welcomes are needed to judge by; as many seconds are taken together as it needs.
const WELCOMES_MIN: u64 = 8;
/// Buckets per power of two: a value is known to a quarter of itself.
const SUB: u64 = 4;
/// Times beyond this count as this: a minute.
const CAP_MS: u64 = (1 << 16) - 1;
/// Buckets that [`CAP_MS`] needs.
const BUCKETS: usize = bucket(CAP_MS) + 1;

/// One second.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Second {
    at: u64,
    welcomes: [u32; BUCKETS],
    refused: u64,
}

/// The last seconds of one hub. Bounded: six seconds of [`BUCKETS`] counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AdmissionWindow {
    seconds: VecDeque<Second>,
}

const fn bucket(ms: u64) -> usize {
    let ms = if ms > CAP_MS { CAP_MS } else { ms };
    if ms < 2 * SUB {
        return ms as usize;
    }
    let shift = (63 - ms.leading_zeros()) as u64 - 2;
    (shift * SUB + (ms >> shift)) as usize
}

/// The longest time of a bucket.
const fn upper_ms(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB {
        return bucket;
    }
    let shift = bucket / SUB - 1;
    ((bucket - shift * SUB + 1) << shift) - 1
}

impl AdmissionWindow {
    /// A client was welcomed so long after its hello was read.
    pub fn welcomed(&mut self, now: Millis, took_ms: u64) {
        let count = &mut self.second(now).welcomes[bucket(took_ms)];
        *count = count.saturating_add(1);
    }

    /// A client was turned away for want of room.
    pub fn refused(&mut self, now: Millis) {
        self.second(now).refused += 1;
    }

    fn second(&mut self, now: Millis) -> &mut Second {
        let at = now.0 / 1_000;
        if self.seconds.back().is_none_or(|last| last.at < at) {
            self.seconds.push_back(Second { at, welcomes: [0; BUCKETS], refused: 0 });
        }
        while self.seconds.len() as u64 > SECONDS_MAX + 1 {
            self.seconds.pop_front();
        }
        self.seconds.back_mut().expect("one was just pushed, or is there")
    }

    /// The newest whole seconds: as few as have enough welcomes, five at most. None: nobody came.
    pub fn seen(&self, now: Millis) -> Option<Admission> {
        let running = now.0 / 1_000;
        let mut welcomes = [0u64; BUCKETS];
        let (mut welcomed, mut refused) = (0, 0);
        let recent = self.seconds.iter().rev().skip_while(|second| second.at >= running);
        for second in recent.take_while(|second| second.at + SECONDS_MAX >= running) {
            for (sum, count) in welcomes.iter_mut().zip(second.welcomes) {
                *sum += u64::from(count);
                welcomed += u64::from(count);
            }
            refused += second.refused;
            if welcomed >= WELCOMES_MIN {
                break;
            }
        }
        let p99_ms = tail_ms(&welcomes, welcomed);
        (welcomed + refused > 0).then_some(Admission { second: running, welcomed, p99_ms, refused })
    }
}

/// The time that one welcome in a hundred exceeds; of fewer than a hundred the very worst is left out,
/// for one late client is no late hub.
fn tail_ms(welcomes: &[u64; BUCKETS], welcomed: u64) -> u64 {
    let left_out = (welcomed / 100).max(u64::from(welcomed >= WELCOMES_MIN));
    let wanted = welcomed.saturating_sub(left_out);
    let mut seen = 0;
    let found = welcomes.iter().enumerate().find_map(|(bucket, count)| {
        seen += count;
        (seen >= wanted && seen > 0).then(|| upper_ms(bucket))
    });
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(welcomes: &[(u64, u64)]) -> AdmissionWindow {
        let mut window = AdmissionWindow::default();
        welcomes.iter().for_each(|(at, took)| window.welcomed(Millis(*at), *took));
        window
    }

    #[test]
    fn each_time_lies_in_a_bucket_whose_upper_end_is_at_most_a_quarter_above_it() {
        for ms in (0..3_000).chain([65_534, CAP_MS]) {
            let upper = upper_ms(bucket(ms));
            assert!(upper >= ms && upper <= ms + ms / 4 + 1, "{ms} in a bucket up to {upper}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_second_counts_when_it_is_over_and_for_five_more() {
        let window = after(&[(10_500, 20)]);
        assert_eq!(window.seen(Millis(10_999)), None, "it is not over");
        for at in [11_000, 15_999] {
            assert_eq!(window.seen(Millis(at)).map(|seen| seen.welcomed), Some(1), "at {at}");
        }
        assert_eq!(window.seen(Millis(16_000)), None, "long ago");
    }

    #[test]
    fn the_newest_second_is_enough_where_enough_came_and_older_ones_are_added_where_not() {
        let busy: Vec<_> =
            (0..50).map(|n| (10_000 + n * 10, 500)).chain((0..50).map(|n| (11_000 + n * 10, 5))).collect();
        let seen = after(&busy).seen(Millis(12_000)).expect("they came");
        assert_eq!((seen.welcomed, seen.p99_ms), (50, 5), "the slow second is over");
        let quiet: Vec<_> = (0..5).map(|n| (10_000 + n * 1_000, 100 + n)).collect();
        assert_eq!(after(&quiet).seen(Millis(15_000)).map(|seen| seen.welcomed), Some(5));
    }

    #[test]
    fn one_late_client_is_no_late_hub_and_two_in_fifty_are() {
        let with_late = |late: usize| {
            let welcomes: Vec<_> = (0..50).map(|n| (10_000, if n < late { 3_000 } else { 10 })).collect();
            after(&welcomes).seen(Millis(11_000)).expect("they came").p99_ms
        };
        assert!(with_late(1) < 15, "{}", with_late(1));
        assert!(with_late(2) >= 3_000, "{}", with_late(2));
        let of_a_thousand: Vec<_> = (0..1_000).map(|n| (10_000, if n < 10 { 3_000 } else { 10 })).collect();
        assert!(after(&of_a_thousand).seen(Millis(11_000)).expect("they came").p99_ms < 15, "one in a hundred");
    }

    #[test]
    fn refusals_count_by_themselves() {
        let mut window = AdmissionWindow::default();
        window.refused(Millis(10_000));
        window.refused(Millis(10_001));
        assert_eq!(window.seen(Millis(11_000)), Some(Admission { second: 11, welcomed: 0, p99_ms: 0, refused: 2 }));
    }

    #[test]
    fn a_day_of_welcomes_takes_no_more_room_than_six_seconds() {
        let mut window = AdmissionWindow::default();
        (0..86_400u64).for_each(|second| window.welcomed(Millis(second * 1_000), second % 100));
        assert_eq!(window.seconds.len(), 6);
    }
}
