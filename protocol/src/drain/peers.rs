//! The hubs that may take over: who is eligible, and whose turn it is.

use super::event::{Admission, Successor};
use super::pace::{Latency, Speed};
use super::plan::{is_hopeful, takes_nobody};
use crate::control::{HubState, SuccessorReport};
use crate::id::HubId;
use crate::position::Millis;
use std::collections::BTreeMap;

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

    /// Whether anybody might soon: known, and not on its own way out.
    pub(super) fn any_hopeful(&self) -> bool {
        self.peers.values().any(|peer| is_hopeful(peer.state))
    }

    /// The eligible hub that has the fewest, with what it was sent, except those to be avoided.
    pub(super) fn pick(&self, avoid: &[HubId]) -> Option<HubId> {
        self.least_loaded(|hub, peer| peer.eligible && !avoid.contains(hub))
    }

    /// The same among those that a client can reach by name.
    pub(super) fn pick_named(&self, avoid: &[HubId]) -> Option<HubId> {
        self.least_loaded(|hub, peer| peer.eligible && peer.url.is_some() && !avoid.contains(hub))
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

    /// One more is live there.
    pub(super) fn moved(&mut self, hub: HubId) {
        self.peers.entry(hub).or_default().moved += 1;
    }

    /// Why those that take nobody do not, in sentences.
    pub(super) fn blockers(&self) -> Vec<String> {
        let refuses = |(_, peer): &(&HubId, &Peer)| !peer.eligible;
        self.peers.iter().filter(refuses).map(|(hub, peer)| takes_nobody(*hub, peer.state)).collect()
    }

    /// Hub by hub, for status and report.
    pub(super) fn report(&self) -> Vec<SuccessorReport> {
        let line = |(hub, peer): (&HubId, &Peer)| SuccessorReport {
            hub: *hub,
            url: peer.url.clone(),
            moved: peer.moved,
            state: peer.state,
            admission_ms: peer.admission.filter(|admission| admission.welcomed > 0).map(|admission| admission.p99_ms),
        };
        self.peers.iter().map(line).collect()
    }
}
