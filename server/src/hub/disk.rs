//! What the disk refuses, told in a few lines whatever their number: a full disk refuses every session at every try.

use super::Hub;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_protocol::id::SessionId;
use tidegate_protocol::position::Millis;

/// Refusals of one sort are told at most this often, in milliseconds.
const TELL_EVERY_MS: u64 = 30_000;

/// How often the disk has refused, and what was told of it.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    last: String,
    /// By what was to be done: how many since the last line, and when that was. As many as there are words for it.
    by_deed: BTreeMap<&'static str, (u64, Option<Millis>)>,
}

impl Counts {
    /// Counts one; gives how many a line is due for, if it is.
    fn note(&mut self, deed: &'static str, why: String, now: Millis) -> Option<u64> {
        self.all += 1;
        self.last = why;
        let (untold, told_at) = self.by_deed.entry(deed).or_default();
        *untold += 1;
        let is_due = told_at.is_none_or(|at| now.since(at) >= TELL_EVERY_MS);
        is_due.then(|| {
            *told_at = Some(now);
            std::mem::take(untold)
        })
    }
}

impl Refusals {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often since the process began.
    pub fn refused(&self) -> u64 {
        self.counts().all
    }

    /// What it said last; empty: it never refused.
    pub fn last(&self) -> String {
        self.counts().last.clone()
    }
}

impl Hub {
    /// A session could not be `deed` ("parked", "taken up" …): it stays what it was, and is tried again.
    pub(crate) fn disk_refused(&self, deed: &'static str, session: SessionId, why: &dyn Display) {
        let due = self.disk.counts().note(deed, why.to_string(), self.now());
        if let Some(refused) = due {
            tracing::error!(
                %session, refused, %why,
                "sessions cannot be {deed}: the data directory refuses; they stay what they are and are tried again (told at most once in {} s)",
                TELL_EVERY_MS / 1_000
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_refusals_are_one_line_and_the_next_line_counts_them() {
        let mut counts = Counts::default();
        let mut note = |at| counts.note("parked", "full".into(), Millis(at));
        assert_eq!(note(5), Some(1), "the first is told at once");
        for _ in 0..1_000 {
            assert_eq!(note(6), None);
        }
        assert_eq!(note(30_005), Some(1_001));
        assert_eq!(counts.note("taken up", "full".into(), Millis(30_006)), Some(1), "another sort is news");
        assert_eq!((counts.all, counts.last.as_str()), (1_003, "full"));
    }
}
