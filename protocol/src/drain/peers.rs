//! The hubs that may take over: who is eligible, who has room, and whose turn it is.

use super::event::{Admission, Room, Successor};
use super::pace::{Latency, Speed};
use super::plan::{is_hopeful, takes_nobody};
use super::roster::Roster;
use crate::control::{HubState, SuccessorReport};
use crate::id::HubId;
use crate::position::Millis;
use std::collections::{BTreeMap, VecDeque};

/// From when a hub counts its room until that is heard here, at the longest: a hello is given up after so long.
const TOLD_WITHIN_MS: u64 = 2_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    url: Option<String>,
    eligible: bool,
    state: Option<HubState>,
    latency: Latency,
    admission: Option<Admission>,
    /// Sessions that it held when this drain first heard of it.
    held: Option<u64>,
    /// Sessions sent there and not sent elsewhere since, whether they arrived or not: the fair share is counted by this.
    assigned: u64,
    moved: u64,
    room: Option<Room>,
    /// When sessions were given to it that it cannot have counted when it told its room.
    given: VecDeque<Millis>,
}

impl Peer {
    /// For how many more it has room, those on their way left aside; none: nobody knows, so it has enough.
    fn places(&self, hub: HubId, roster: &Roster) -> Option<u64> {
        let coming = roster.toward().get(&hub).copied().unwrap_or(0);
        let given = self.given.len() as u64;
        self.room.map(|room| room.places.saturating_sub(given.saturating_add(coming)))
    }
}

/// Whom one session may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// This hub, the one with the fewest.
    Hub(HubId),
    /// Somebody takes sessions, and every place there is taken, or kept for one that is on its way.
    Full,
    /// Nobody takes this one.
    Nobody,
}

/// All hubs that this drain has heard of; a forgotten one stays in the account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peers {
    peers: BTreeMap<HubId, Peer>,
}

impl Peers {
    /// Takes over what is known now, and lets the samples act on the speed.
    pub(super) fn update(&mut self, successors: &[Successor], speed: &mut Speed, now: Millis) {
        for peer in self.peers.values_mut() {
            peer.eligible = false;
            peer.state = None;
        }
        for successor in successors {
            let peer = self.peers.entry(successor.hub).or_default();
            peer.url.clone_from(&successor.url);
            peer.eligible = successor.eligible;
            peer.state = successor.state;
            peer.held = peer.held.or(successor.sessions);
            peer.room = successor.room;
            // Its word may be older than the moment at which it was heard.
            let counted_by = |room: Room| Millis(room.told_at.0.saturating_sub(TOLD_WITHIN_MS));
            while peer.given.front().is_some_and(|at| peer.room.is_none_or(|room| *at <= counted_by(room))) {
                peer.given.pop_front();
            }
            let judged = peer.admission.map(|admission| admission.second);
            if let Some(admission) = successor.admission.filter(|admission| Some(admission.second) != judged) {
                speed.sample(admission, &mut peer.latency, now);
            }
            peer.admission = successor.admission;
        }
    }

    /// Whether anybody takes sessions now.
    pub(super) fn any_eligible(&self) -> bool {
        self.peers.values().any(|peer| peer.eligible)
    }

    /// How many take sessions now.
    pub(super) fn eligible(&self) -> u64 {
        self.peers.values().filter(|peer| peer.eligible).count() as u64
    }

    /// Whether one more session would find a place: whoever is ordered without a name may come to any hub.
    pub(super) fn any_place(&self, roster: &Roster) -> bool {
        let mut places = 0u64;
        for (hub, peer) in self.peers.iter().filter(|(_, peer)| peer.eligible) {
            let Some(free) = peer.places(*hub, roster) else { return true };
            places = places.saturating_add(free);
        }
        places > roster.tally().anywhere
    }

    /// Whether anybody might soon: known, and not on its own way out.
    pub(super) fn any_hopeful(&self) -> bool {
        self.peers.values().any(|peer| is_hopeful(peer.state))
    }

    /// Whether somebody serves and has said that it has no room.
    pub(super) fn any_full(&self) -> bool {
        let is_full = |peer: &Peer| peer.room.is_some_and(|room| room.places == 0);
        self.peers.values().any(|peer| is_hopeful(peer.state) && is_full(peer))
    }

    /// Whether other hubs were ever heard of.
    pub(super) fn any_known(&self) -> bool {
        !self.peers.is_empty()
    }

    /// The eligible hub that has the fewest, with what it was sent, except those to be avoided.
    pub(super) fn pick(&self, avoid: &[HubId], roster: &Roster) -> Pick {
        let may = |hub: &HubId, peer: &Peer| peer.eligible && !avoid.contains(hub);
        match self.least_loaded(|hub, peer| may(hub, peer) && peer.places(*hub, roster) != Some(0)) {
            Some(hub) if self.any_place(roster) => Pick::Hub(hub),
            _ if self.peers.iter().any(|(hub, peer)| may(hub, peer)) => Pick::Full,
            _ => Pick::Nobody,
        }
    }

    /// The same among those that a client can reach by name.
    pub(super) fn pick_named(&self, avoid: &[HubId], roster: &Roster) -> Option<HubId> {
        self.least_loaded(|hub, peer| {
            let may = peer.eligible && peer.url.is_some() && !avoid.contains(hub);
            may && peer.places(*hub, roster) != Some(0)
        })
    }

    fn least_loaded(&self, may: impl Fn(&HubId, &Peer) -> bool) -> Option<HubId> {
        self.peers
            .iter()
            .filter(|(hub, peer)| may(hub, peer))
            .min_by_key(|(_, peer)| peer.held.unwrap_or(0).saturating_add(peer.assigned))
            .map(|(hub, _)| *hub)
    }

    /// One more was sent there.
    pub(super) fn assign(&mut self, hub: HubId) {
        self.peers.entry(hub).or_default().assigned += 1;
    }

    /// One that was sent there goes elsewhere.
    pub(super) fn take_back(&mut self, hub: HubId) {
        let peer = self.peers.entry(hub).or_default();
        peer.assigned = peer.assigned.saturating_sub(1);
    }

    /// One more was given to it, which it counts itself in its later words.
    pub(super) fn given(&mut self, hub: HubId, now: Millis) {
        let peer = self.peers.entry(hub).or_default();
        if peer.room.is_some() {
            peer.given.push_back(now);
        }
    }

    /// One more is live there.
    pub(super) fn moved(&mut self, hub: HubId) {
        self.peers.entry(hub).or_default().moved += 1;
    }

    /// Why those that take nobody do not, in sentences.
    pub(super) fn blockers(&self) -> Vec<String> {
        let refuses = |(_, peer): &(&HubId, &Peer)| !peer.eligible;
        self.peers.iter().filter(refuses).map(|(hub, peer)| takes_nobody(*hub, peer.state, peer.room)).collect()
    }

    /// Hub by hub, for status and report.
    pub(super) fn report(&self, roster: &Roster) -> Vec<SuccessorReport> {
        let line = |(hub, peer): (&HubId, &Peer)| SuccessorReport {
            hub: *hub,
            url: peer.url.clone(),
            moved: peer.moved,
            state: peer.state,
            room: peer.places(*hub, roster),
            admission_ms: peer.admission.filter(|admission| admission.welcomed > 0).map(|admission| admission.p99_ms),
        };
        self.peers.iter().map(line).collect()
    }
}
