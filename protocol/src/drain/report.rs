//! The account: counters, the bounded histogram of gaps, and the conservation check.

use super::pace::Rate;
use super::plan::Plan;
use crate::control::{ClientCounts, GapMs, MessageCounts, ReportSessions, SessionCounts, StageReport};

/// Everything that is counted; remaining sessions are counted by the roster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ledger {
    pub(super) at_start: u64,
    pub(super) arrived: u64,
    pub(super) moved: u64,
    pub(super) parked: u64,
    pub(super) left: u64,
    pub(super) forced: u64,
    pub(super) unconfirmed: u64,
    pub(super) resumed: u64,
    /// Of the moved, how many had a connection: only they prove that clients find the successor.
    pub(super) moved_connected: u64,
    pub(super) cut: u64,
    /// Returns of clients that had been sent to another hub by name.
    pub(super) turned_back: u64,
    pub(super) clients: ClientCounts,
    pub(super) messages: MessageCounts,
    pub(super) gaps: Histogram,
    pub(super) rate: Rate,
    pub(super) stages: Vec<StageCount>,
}

/// One stage as it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StageCount {
    /// Released in it, and still evidence: not who became busy, ended or lost its connection.
    pub(super) asked: u64,
    /// Of these: live elsewhere, or found unroutable, which is no fault of a successor.
    pub(super) done: u64,
    /// Clients of it that were seen to arrive elsewhere, or to come back here more often than chance explains.
    pub(super) seen: u64,
    pub(super) report: StageReport,
}

impl Ledger {
    pub(super) fn new(plan: &Plan, at_start: u64) -> Self {
        let stage = |stage: &super::plan::Stage| StageCount {
            asked: 0,
            done: 0,
            seen: 0,
            report: StageReport {
                begin_ms: stage.begin_ms,
                span_ms: stage.span_ms,
                count: stage.count as u64,
                ..StageReport::default()
            },
        };
        Self {
            at_start,
            arrived: 0,
            moved: 0,
            parked: 0,
            left: 0,
            forced: 0,
            unconfirmed: 0,
            resumed: 0,
            moved_connected: 0,
            cut: 0,
            turned_back: 0,
            clients: ClientCounts::default(),
            messages: MessageCounts::default(),
            gaps: Histogram::default(),
            rate: Rate::new(),
            stages: plan.stages.iter().map(stage).collect(),
        }
    }

    /// The account as the status shows it.
    pub(super) fn counts(&self, remaining: u64) -> SessionCounts {
        SessionCounts {
            at_start: self.at_start,
            arrived: self.arrived,
            moved: self.moved,
            parked: self.parked,
            left: self.left,
            forced: self.forced,
            unconfirmed: self.unconfirmed,
            remaining,
        }
    }

    /// The messages as the report shows them.
    pub(super) fn report_messages(&self) -> MessageCounts {
        MessageCounts { unreconciled: self.moved.saturating_sub(self.resumed), ..self.messages }
    }

    /// The account as the report shows it.
    pub(super) fn report_sessions(&self, remaining: u64) -> ReportSessions {
        ReportSessions { counts: self.counts(remaining), resumed: self.resumed }
    }
}

/// Whether every session has exactly one outcome or remains; says the sums if not.
pub(super) fn conserved(counts: &SessionCounts) -> Result<(), String> {
    let SessionCounts { at_start, arrived, moved, parked, left, forced, unconfirmed, remaining } = *counts;
    let (came, went) = (at_start + arrived, moved + parked + left + forced + unconfirmed + remaining);
    if came == went {
        return Ok(());
    }
    Err(format!(
        "at_start {at_start} + arrived {arrived} = {came}, but moved {moved} + parked {parked} + left {left} + forced {forced} \
         + unconfirmed {unconfirmed} + remaining {remaining} = {went}"
    ))
}

/// Counts spans in buckets of at most 1/32 of their value; the longest is kept exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Histogram {
    buckets: Vec<u32>,
    count: u64,
    max_ms: u64,
}

/// Buckets per power of two.
const SUB: u64 = 32;
/// Spans beyond this count as this (the exact maximum is kept anyway): over a day.
const CAP_MS: u64 = (1 << 27) - 1;

impl Histogram {
    fn bucket(ms: u64) -> usize {
        let ms = ms.min(CAP_MS);
        if ms < 2 * SUB {
            return ms as usize;
        }
        let shift = u64::from(63 - ms.leading_zeros()) - 5;
        (shift * SUB + (ms >> shift)) as usize
    }

    /// The longest span of a bucket.
    fn upper(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < 2 * SUB {
            return bucket;
        }
        let shift = bucket / SUB - 1;
        ((bucket - shift * SUB + 1) << shift) - 1
    }

    /// One more span, in milliseconds.
    pub(super) fn record(&mut self, ms: u64) {
        let bucket = Self::bucket(ms);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        self.count += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.buckets.iter().enumerate().find_map(|(bucket, count)| {
            seen += u64::from(*count);
            (seen >= wanted).then(|| Self::upper(bucket).min(self.max_ms))
        })
    }

    /// Half, 99 of 100, and the longest.
    pub(super) fn summary(&self) -> GapMs {
        GapMs { p50: self.percentile(50), p99: self.percentile(99), max: (self.count > 0).then_some(self.max_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        assert_eq!(Histogram::default().summary(), GapMs::default());
    }

    #[test]
    fn percentiles_are_right_to_a_thirty_second_part_and_the_maximum_exactly() {
        let mut gaps = Histogram::default();
        (1..=10_000).for_each(|ms| gaps.record(ms));
        let GapMs { p50: Some(p50), p99: Some(p99), max } = gaps.summary() else { panic!("expected percentiles") };
        assert!((5_000..=5_000 + 5_000 / 32).contains(&p50), "p50 {p50}");
        assert!((9_900..=10_000).contains(&p99), "p99 {p99}");
        assert_eq!(max, Some(10_000));
        assert!(gaps.buckets.len() < 400, "bounded, not one bucket per value: {}", gaps.buckets.len());
    }

    #[test]
    fn each_value_lies_in_a_bucket_whose_upper_end_is_not_below_it() {
        for ms in (0..5_000).chain([65_535, 65_536, 1_000_003, CAP_MS]) {
            let upper = Histogram::upper(Histogram::bucket(ms));
            assert!(upper >= ms && upper <= ms + ms / 32 + 1, "{ms} in a bucket up to {upper}");
        }
        let mut gaps = Histogram::default();
        gaps.record(u64::MAX);
        assert_eq!(gaps.summary().max, Some(u64::MAX), "the exact maximum, however long");
    }

    #[test]
    fn an_account_that_does_not_add_up_is_named_with_its_sums() {
        let counts = SessionCounts { at_start: 3, arrived: 1, moved: 2, remaining: 1, ..SessionCounts::default() };
        assert_eq!(
            conserved(&counts).unwrap_err(),
            "at_start 3 + arrived 1 = 4, but moved 2 + parked 0 + left 0 + forced 0 + unconfirmed 0 + remaining 1 = 3"
        );
        assert_eq!(conserved(&SessionCounts { left: 1, ..counts }), Ok(()));
    }
}
