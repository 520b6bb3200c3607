//! What other hubs have said to lie on their disks. *Parked* is knowledge (rule 13): such a session is not lost while
//! its hub is away, so nobody resets it as long as that hub is expected back.
//!
//! Bounded: the oldest word is forgotten first, and each after its time. Then a session counts as before: unknown.

use crate::id::{HubId, SessionId};
use crate::position::Millis;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The sessions that lie on other hubs' disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    sessions: BTreeMap<SessionId, (HubId, Millis)>,
    /// In the order in which they were told; some may have been told again, or be back, since.
    order: VecDeque<(Millis, SessionId)>,
    /// The hubs that any of them may lie at.
    hubs: BTreeSet<HubId>,
}

impl Elsewhere {
    /// A hub said so. `until`: as long as it is expected back; no later word may have an earlier one.
    pub fn told(&mut self, hub: HubId, sessions: &[SessionId], now: Millis, until: Millis, sessions_max: usize) {
        self.hubs.insert(hub);
        for session in sessions {
            if self.sessions.insert(*session, (hub, until)) != Some((hub, until)) {
                self.order.push_back((until, *session));
            }
        }
        self.forget_old(now, sessions_max);
    }

    /// Where a session lies, as far as anybody has said.
    pub fn at(&self, session: SessionId, now: Millis) -> Option<HubId> {
        self.sessions.get(&session).filter(|(_, until)| now < *until).map(|(hub, _)| *hub)
    }

    /// The hub is back, and speaks for itself.
    pub fn back(&mut self, hub: HubId) {
        if self.hubs.remove(&hub) {
            self.sessions.retain(|_, (at, _)| *at != hub);
            let sessions = &self.sessions;
            self.order.retain(|(until, session)| sessions.get(session).is_some_and(|(_, at)| at == until));
        }
    }

    /// The session is somewhere else by now, or over.
    pub fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// How many each hub has, of those whose time is not over.
    pub fn counts(&self, now: Millis) -> BTreeMap<HubId, u64> {
        let mut counts = BTreeMap::new();
        for (hub, _) in self.sessions.values().filter(|(_, until)| now < *until) {
            *counts.entry(*hub).or_default() += 1;
        }
        counts
    }

    fn forget_old(&mut self, now: Millis, sessions_max: usize) {
        while let Some((until, session)) = self.order.front().copied() {
            let is_stale = self.sessions.get(&session).is_none_or(|(_, at)| *at != until);
            if !is_stale && until > now && self.sessions.len() <= sessions_max && self.order.len() <= 2 * sessions_max {
                return;
            }
            self.order.pop_front();
            if !is_stale {
                self.sessions.remove(&session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HubId = HubId(0xa);
    const B: HubId = HubId(0xb);
    const ONE: SessionId = SessionId(1);
    const TWO: SessionId = SessionId(2);

    #[test]
    fn a_session_is_known_to_lie_there_until_its_time_is_over_or_its_hub_is_back() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.told(A, &[ONE, TWO], Millis(0), Millis(100), 8);
        assert_eq!((elsewhere.at(ONE, Millis(99)), elsewhere.at(ONE, Millis(100))), (Some(A), None));
        elsewhere.told(B, &[TWO], Millis(50), Millis(150), 8);
        assert_eq!(elsewhere.counts(Millis(60)), BTreeMap::from([(A, 1), (B, 1)]), "the later word counts");
        elsewhere.back(A);
        assert_eq!((elsewhere.at(ONE, Millis(60)), elsewhere.at(TWO, Millis(60))), (None, Some(B)));
        elsewhere.forget(TWO);
        assert_eq!(elsewhere.counts(Millis(60)), BTreeMap::new());
    }

    #[test]
    fn however_often_hubs_tell_it_no_more_is_kept_than_the_limit() {
        let mut elsewhere = Elsewhere::default();
        for round in 0..50 {
            let sessions: Vec<SessionId> = (0..20).map(SessionId).collect();
            elsewhere.told(if round % 2 == 0 { A } else { B }, &sessions, Millis(round), Millis(round + 100), 10);
            assert!(elsewhere.sessions.len() <= 10 && elsewhere.order.len() <= 20, "{elsewhere:?}");
        }
        assert_eq!(elsewhere.at(SessionId(19), Millis(60)), Some(B), "the newest are kept");
    }
}
