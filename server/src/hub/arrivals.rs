//! Sessions that went live here in the last moments, so that an answer to a publish counts each session once although
//! it moved while the message went round.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use tidegate_protocol::id::SessionId;
use tidegate_protocol::position::Millis;

/// As long as a message may take to all hubs, in milliseconds.
const RECENT_MS: u64 = 4_000;
/// Most that are remembered; the oldest is forgotten first.
const MAX: usize = 4_096;

/// The last ones, oldest first.
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<VecDeque<(Millis, SessionId)>>);

impl Arrivals {
    /// One more.
    pub fn note(&self, session: SessionId, now: Millis) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back((now, session));
        while last.len() > MAX || last.front().is_some_and(|(at, _)| now.since(*at) > RECENT_MS) {
            last.pop_front();
        }
    }

    /// Those of the last seconds.
    pub fn recent(&self, now: Millis) -> BTreeSet<SessionId> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().filter(|(at, _)| now.since(*at) <= RECENT_MS).map(|(_, session)| *session).collect()
    }
}
