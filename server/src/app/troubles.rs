//! What apps do that their clients feel: counted each time and told in the log, which sums up what repeats. An app
//! that fails does so for thousands of sessions at a time.

use crate::hub::Hub;
use crate::telemetry::AppTrouble;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use tidegate_protocol::id::SessionId;

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

/// Counts it, and tells it.
pub(super) fn tell(hub: &Hub, trouble: AppTrouble, session: SessionId, why: &dyn Display) {
    hub.metrics.app_troubles.of(trouble).increment(1);
    tracing::warn!(%session, %why, "{}", sentence(trouble));
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
}
