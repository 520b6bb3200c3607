//! What the run has come to so far.

use crate::memory::Slope;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_tests::Verdict;

/// Complaints that are kept word for word.
const COMPLAINTS_MAX: usize = 100;

#[derive(Debug, Default)]
struct Counts {
    closed: u64,
    verdict: Verdict,
    unserved: Vec<String>,
    wrong_reports: Vec<String>,
    troubles: BTreeMap<&'static str, u64>,
    restarts: u64,
    memory_kib: u64,
}

/// Counts that everybody adds to.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

impl Tally {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has closed its books.
    pub(crate) fn closed(&self, verdict: Verdict) {
        let mut counts = self.counts();
        counts.closed += 1;
        counts.verdict.add(verdict);
    }

    /// A client was not served in the end.
    pub(crate) fn unserved(&self, why: String) {
        self.counts().unserved.push(why);
    }

    /// A report does not add up, or a hub did not do what it should.
    pub(crate) fn wrong(&self, what: String) {
        self.counts().wrong_reports.push(what);
    }

    /// A trouble was made.
    pub(crate) fn trouble(&self, kind: &'static str) {
        *self.counts().troubles.entry(kind).or_default() += 1;
    }

    /// Processes were started again.
    pub(crate) fn restarts(&self, count: u64) {
        self.counts().restarts += count;
    }

    /// The last look at memory.
    pub(crate) fn memory_kib(&self, kib: u64) {
        self.counts().memory_kib = kib;
    }

    /// The two numbers of the last line.
    pub(crate) fn lost_and_duplicated(&self) -> (usize, usize) {
        let counts = self.counts();
        (counts.verdict.lost.len(), counts.verdict.doubled.len())
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        let counts = self.counts();
        counts.verdict.is_clean() && counts.unserved.is_empty() && counts.wrong_reports.is_empty() && counts.closed > 0
    }

    /// All that is wrong, in words.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let counts = self.counts();
        let Verdict { lost, doubled, reordered, invented, .. } = &counts.verdict;
        let kinds = [
            ("lost", lost),
            ("doubled", doubled),
            ("out of order", reordered),
            ("invented", invented),
            ("unserved", &counts.unserved),
            ("wrong", &counts.wrong_reports),
        ];
        let all = kinds.into_iter().flat_map(|(kind, list)| list.iter().map(move |one| format!("{kind}: {one}")));
        all.take(COMPLAINTS_MAX).collect()
    }

    /// One line of progress.
    pub(crate) fn line(&self) -> String {
        let counts = self.counts();
        let Verdict { lost, doubled, reordered, invented, compared, resets, told, .. } = &counts.verdict;
        let troubles: Vec<String> = counts.troubles.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        format!(
            "books closed {}, messages {compared}, resets told {resets} ({told} messages), lost {}, duplicated {}, out of order {}, \
             invented {}, unserved {}, wrong {} | {}, restarts {} | {:.1} MiB",
            counts.closed,
            lost.len(),
            doubled.len(),
            reordered.len(),
            invented.len(),
            counts.unserved.len(),
            counts.wrong_reports.len(),
            troubles.join(", "),
            counts.restarts,
            counts.memory_kib as f64 / 1024.0
        )
    }

    /// The account as JSON.
    pub(crate) fn account(&self, seed: u64, minutes: u64, two_owners: &[String], slope: Slope) -> Value {
        let complaints = self.complaints();
        let counts = self.counts();
        let verdict = &counts.verdict;
        json!({
            "soak": if complaints.is_empty() && two_owners.is_empty() && slope.is_flat() { "ok" } else { "failed" },
            "seed": seed,
            "minutes": minutes,
            "books_closed": counts.closed,
            "messages": verdict.compared,
            "resets_told": verdict.resets,
            "messages_told_lost": verdict.told,
            "lost": verdict.lost.len(),
            "duplicated": verdict.doubled.len(),
            "reordered": verdict.reordered.len(),
            "invented": verdict.invented.len(),
            "unserved": counts.unserved.len(),
            "two_owners": two_owners,
            "troubles": counts.troubles,
            "restarts": counts.restarts,
            "memory": {"mean_kib": slope.mean_kib.round(), "kib_per_minute": slope.kib_per_minute.round(), "samples": slope.samples, "flat": slope.is_flat()},
            "complaints": complaints,
        })
    }
}
