//! Room: how many sessions the other hubs can take, who gets how many, and whether a drain must ask first.

use super::event::Successor;
use super::plan::{Outlook, outlook};
use crate::control::{PlanShare, Policy, Problem};
use serde_json::json;

/// For how many sessions the eligible hubs have room together; none: one of them does not tell, so for any number.
pub(super) fn total_room(successors: &[Successor]) -> Option<u64> {
    let mut eligible = successors.iter().filter(|peer| peer.eligible);
    eligible.try_fold(0u64, |sum, peer| Some(sum.saturating_add(peer.room?.places)))
}

/// Each session goes to the hub that has the fewest by then and has room, as the drain will do it: so the hubs end
/// level, as far as their room allows, and those that hold more than the level get none. What is left over by whole
/// rounds goes to the first ones, one each.
pub(super) fn shares(sessions: u64, successors: &[Successor]) -> Vec<PlanShare> {
    let mut eligible: Vec<&Successor> = successors.iter().filter(|peer| peer.eligible).collect();
    eligible.sort_by_key(|peer| peer.hub);
    let held_by = |peer: &Successor| u128::from(peer.sessions.unwrap_or(0));
    let places = |peer: &Successor| peer.room.map_or(u128::MAX, |room| u128::from(room.places));
    let raised = |peer: &Successor, level: u128| level.saturating_sub(held_by(peer)).min(places(peer));
    let taken = |level: u128| eligible.iter().fold(0u128, |sum, peer| sum.saturating_add(raised(peer, level)));
    // The highest level to which they can be raised with so many sessions.
    let (mut level, mut above) = (0u128, u128::from(u64::MAX) + u128::from(sessions) + 1);
    while above - level > 1 {
        let middle = level + (above - level) / 2;
        if taken(middle) <= u128::from(sessions) { level = middle } else { above = middle }
    }
    let mut over = u128::from(sessions) - taken(level).min(u128::from(sessions));
    let mut share = |peer: &&Successor| {
        let below = raised(peer, level);
        let one_more = over > 0 && held_by(peer) <= level && below < places(peer);
        over -= u128::from(one_more);
        let sessions = (below + u128::from(one_more)) as u64;
        PlanShare { hub: peer.hub, url: peer.url.clone(), sessions, room: peer.room.map(|room| room.places) }
    };
    eligible.iter().map(&mut share).collect()
}

/// Why a drain does not begin unasked: it would park sessions although other hubs are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Sessions that are here.
    pub sessions: u64,
    /// For how many the other hubs have room; none if one of them does not tell.
    pub room: Option<u64>,
    /// How many would be parked.
    pub parks: u64,
    /// Why, in a sentence.
    pub why: String,
}

impl Consent {
    /// Whether so many sessions may be drained under this policy without a further word. `unheard`: hubs that are
    /// named in the settings and were never heard, so that nobody knows what they hold.
    pub fn needed(policy: &Policy, sessions: u64, successors: &[Successor], unheard: u64) -> Option<Self> {
        if policy.allow_park || successors.is_empty() && unheard == 0 {
            return None;
        }
        let Outlook::Parks { sessions: parks, why, .. } = outlook(policy, sessions, successors) else { return None };
        let why = match successors {
            [] => format!("none of the {unheard} other hubs that the settings name was ever heard"),
            _ => why,
        };
        let room = total_room(successors).filter(|_| successors.iter().any(|peer| peer.eligible));
        Some(Self { sessions, room: room.or((parks == sessions).then_some(0)), parks, why })
    }

    /// This refusal as an answer.
    pub fn problem(&self) -> Problem {
        Problem::new(409, "needs-consent", "Needs consent", self.to_string())
            .with("sessions", self.sessions)
            .with("room", json!(self.room))
            .with("parks", self.parks)
    }
}

impl std::fmt::Display for Consent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sessions, parks, why, .. } = self;
        write!(
            f,
            "{why}: {parks} of {sessions} sessions would be parked in the data directory of this hub. \
             Make room, or agree to that with \"allow_park\": true (tidegate-hook: --allow-park)"
        )
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
