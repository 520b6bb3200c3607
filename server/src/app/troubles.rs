//! What apps do that their clients feel: counted each time, told in the log at once, and what repeats it within
//! ten seconds as a sum. An app that fails does so for thousands of sessions at a time.

use crate::hub::Hub;
use crate::telemetry::{AppTrouble, Label};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_protocol::id::SessionId;
use tidegate_protocol::position::Millis;

/// For so long repeats are only counted, in milliseconds.
const SUMMED_MS: u64 = 10_000;

/// When a trouble was told last, and how often it has come since.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    at: Option<Millis>,
    since: u64,
}

/// One place for each trouble there is.
#[derive(Debug)]
pub(super) struct Troubles(Mutex<Vec<Told>>);

impl Default for Troubles {
    fn default() -> Self {
        Self(Mutex::new(vec![Told::default(); AppTrouble::ALL.len()]))
    }
}

impl Troubles {
    fn table(&self) -> MutexGuard<'_, Vec<Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one. True: it is news.
    fn is_news(&self, trouble: AppTrouble, now: Millis) -> bool {
        let told = &mut self.table()[trouble.index()];
        let is_news = told.at.is_none_or(|at| now.since(at) >= SUMMED_MS && told.since == 0);
        if is_news {
            told.at = Some(now);
        } else {
            told.since += 1;
        }
        is_news
    }

    /// What has come since it was told, if it is time to say so.
    fn sums(&self, now: Millis) -> Vec<(AppTrouble, u64)> {
        let mut table = self.table();
        let due = |told: &&mut Told| told.since > 0 && told.at.is_none_or(|at| now.since(at) >= SUMMED_MS);
        let of = |(told, trouble): (&mut Told, &AppTrouble)| {
            told.at = Some(now);
            (*trouble, std::mem::take(&mut told.since))
        };
        table.iter_mut().zip(AppTrouble::ALL).filter(|(told, _)| due(told)).map(of).collect()
    }
}

/// Names of headers that are remembered as told.
const NAMES_MAX: usize = 64;

/// Request headers that do not pass to the app, by name; each is told once.
#[derive(Debug, Default)]
pub(super) struct LeftOut(Mutex<BTreeSet<String>>);

impl LeftOut {
    fn is_news(&self, name: &str) -> bool {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.len() < NAMES_MAX && !names.contains(name) && names.insert(name.to_owned())
    }
}

/// A header of a client's request that does not pass to the app.
pub fn left_out(hub: &Hub, name: &str) {
    if hub.app.left_out.is_news(name) {
        tracing::info!(
            name,
            "this header of clients' requests is not passed on to the app (told once; API.md lists those that are)"
        );
    }
}

/// What happened, as the log says it.
fn sentence(trouble: AppTrouble) -> &'static str {
    match trouble {
        AppTrouble::TooLarge | AppTrouble::Protocol | AppTrouble::Utf8 => {
            "the app sent what cannot be passed on: its session is ended with 1012, and its client told"
        }
        AppTrouble::Silent => "the app's socket was silent for three heartbeats: it is dialled again",
        AppTrouble::Away => "the app is away: clients are sent away with 1013, and may come back",
        AppTrouble::Refused => "the app refused a client for good (--app-final-status)",
        AppTrouble::Missed => "the app could not be reached when a client said goodbye: its last messages are dropped",
        AppTrouble::Header => "a header of the client's request cannot be sent to the app: it is left out",
    }
}

/// Counts it, and tells it or sums it up.
pub(super) fn tell(hub: &Hub, trouble: AppTrouble, session: SessionId, why: &dyn Display) {
    hub.metrics.app_troubles.of(trouble).increment(1);
    if hub.app.troubles.is_news(trouble, hub.now()) {
        tracing::warn!(%session, %why, "{}", sentence(trouble));
    }
}

/// Tells the sums that are due; once a tick.
pub fn sum_up(hub: &Hub) {
    for (trouble, times) in hub.app.troubles.sums(hub.now()) {
        tracing::warn!(times, "again: {}", sentence(trouble));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_does_not_pass_is_told_once_and_only_so_many_are_remembered() {
        let names = LeftOut::default();
        assert!(names.is_news("x-0") && !names.is_news("x-0"));
        let told = (0..1_000).filter(|n| names.is_news(&format!("x-{n}"))).count();
        assert_eq!(told, NAMES_MAX - 1);
    }

    #[test]
    fn a_trouble_is_told_at_once_and_its_repeats_as_a_sum() {
        let troubles = Troubles::default();
        assert!(troubles.is_news(AppTrouble::Away, Millis(5)));
        assert!(!troubles.is_news(AppTrouble::Away, Millis(6)) && !troubles.is_news(AppTrouble::Away, Millis(9_000)));
        assert!(troubles.is_news(AppTrouble::Silent, Millis(9_000)), "another one is news");
        assert_eq!(troubles.sums(Millis(10_004)), []);
        assert_eq!(troubles.sums(Millis(10_005)), [(AppTrouble::Away, 2)]);
        assert_eq!(troubles.sums(Millis(30_000)), [], "nothing is said twice");
        assert!(troubles.is_news(AppTrouble::Away, Millis(30_001)));
    }
}
