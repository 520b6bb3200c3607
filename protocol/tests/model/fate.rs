//! What happens to a whole hub, and the ghost's eyes on it: who owns, who counts what.

use crate::bounds::Mutant;
use crate::hub::{Disk, Hub, message_from};
use crate::ledger::Fault;
use crate::wire::Down;
use crate::world::{SESSION, World, hub_id, index_of};
use tidegate_protocol::claim::Claim;
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::session::{Event, Left, Outcome, Session, State};

impl World {
    /// The run of a hub that owns the session now.
    pub fn owner_now(&self) -> Option<(usize, u8)> {
        let owner = self.hubs.iter().position(|hub| hub.session.is_owner());
        owner.map(|owner| (owner, self.hubs[owner].run))
    }

    /// The hub dies and starts again: memory is lost, what is parked is taken up.
    pub fn crash(&mut self, hub: usize) {
        self.ledger.data_lost |= self.hubs[hub].session.record().is_some();
        self.end(hub);
    }

    /// The hub ends and starts again. If it ends in good order, nothing may be lost.
    pub fn end(&mut self, hub: usize) {
        for pipe in self.pipes.iter_mut().filter(|pipe| pipe.hub == hub && pipe.hub_open) {
            pipe.hub_closes(Down::Cut);
        }
        let (run, hubs) = (self.hubs[hub].run + 1, self.hubs.len());
        let disk = std::mem::replace(&mut self.hubs[hub].disk, Disk::Empty);
        self.hubs[hub] = Hub { run, knows: self.hubs.iter().map(|hub| hub.run).collect(), ..Hub::new(hub, hubs) };
        self.hubs[hub].knows[hub] = run;
        self.population[hub] = u8::from(matches!(disk, Disk::Parked(..)));
        if let Disk::Parked(record, fence) = disk {
            let mut out = Vec::new();
            self.hubs[hub].session = Session::taken_up(SESSION, hub_id(hub), record, fence, &mut out);
            self.hubs[hub].disk = Disk::TakenUp;
            self.carry_out(hub, out);
        }
        if self.mutant != Mutant::NoIncarnationFence {
            self.net.drop_stale(hub, run);
        }
        for other in (0..hubs).filter(|other| *other != hub) {
            self.hubs[other].to_learn.insert(hub);
        }
    }

    /// The hub ends with the session on its disk, and says goodbye; the next process comes later.
    pub fn sleep(&mut self, hub: usize) {
        for pipe in self.pipes.iter_mut().filter(|pipe| pipe.hub == hub && pipe.hub_open) {
            pipe.hub_closes(Down::Cut);
        }
        let disk = std::mem::replace(&mut self.hubs[hub].disk, Disk::Empty);
        let (run, hubs) = (self.hubs[hub].run, self.hubs.len());
        self.hubs[hub] = Hub { run, disk, asleep: true, ..Hub::new(hub, hubs) };
        for other in (0..hubs).filter(|other| *other != hub) {
            let named = self.mutant != Mutant::ParkedForgotten;
            self.hubs[other].to_learn.remove(&hub);
            self.hubs[other].away.insert(hub, named);
            self.feed(other, Event::PeerGone { hub: hub_id(hub) });
            self.hubs[other].shelf.peer_gone(hub_id(hub));
            let ids: Vec<_> = self.hubs[other].claims.iter().map(Claim::id).collect();
            for id in ids {
                self.with_claim(other, id, |claim, out| claim.on_gone(hub_id(hub), out));
            }
        }
    }

    /// A hub notices that a peer is back under a new incarnation.
    pub fn learn(&mut self, hub: usize, gone: usize) {
        self.hubs[hub].to_learn.remove(&gone);
        self.hubs[hub].away.remove(&gone);
        self.hubs[hub].knows[gone] = self.hubs[gone].run;
        self.feed(hub, Event::PeerGone { hub: hub_id(gone) });
        self.hubs[hub].shelf.peer_gone(hub_id(gone));
        if let (Mutant::GoLiveOnPredecessorGone, State::Copy { handover, predecessor_gone: true, .. }) =
            (self.mutant, self.hubs[hub].session.state())
        {
            let message = PeerMessage::Committed { session: SESSION, handover: *handover };
            self.feed(hub, Event::Peer { from: hub_id(gone), message });
        }
        let ids: Vec<_> = self.hubs[hub].claims.iter().map(Claim::id).collect();
        for id in ids {
            self.with_claim(hub, id, |claim, out| claim.on_gone(hub_id(gone), out));
        }
    }

    pub fn told(&mut self, hub: usize, outcome: Outcome) {
        match outcome {
            Outcome::Arrived(_) => {
                let generation = self.hubs[hub].session.generation();
                self.ledger.live.insert((hub, generation));
                self.population[hub] += 1;
                self.hubs[hub].shelf.drop_up_to(SESSION, generation);
            }
            Outcome::Committed if self.mutant == Mutant::MovedBeforeLive => {
                if let State::Given { handover, .. } = self.hubs[hub].session.state() {
                    let message = PeerMessage::Live { session: SESSION, handover: *handover };
                    self.feed(hub, Event::Peer { from: message_from(&message), message });
                }
            }
            Outcome::Live(to) => {
                let to = index_of(to);
                let served = self.ledger.live.iter().any(|(live, _)| *live == to);
                self.ledger.expect(served, Fault::MovedWithoutLive);
                self.leave(hub);
            }
            Outcome::Left(why) => {
                self.leave(hub);
                let lost = why == Left::Expired && self.ledger.data_lost;
                self.ledger.expect(self.ledger.may_end() || lost, Fault::SessionEnded);
            }
            _ => {}
        }
    }

    pub fn leave(&mut self, hub: usize) {
        let there = self.population[hub] > 0;
        self.ledger.expect(there, Fault::OutcomeWithoutSession);
        self.population[hub] = self.population[hub].saturating_sub(1);
    }

    /// A timer that would do nothing now will do nothing later: its generation never comes again.
    pub fn prune_timers(&mut self, hub: usize) {
        let at = &mut self.hubs[hub];
        let session = &at.session;
        at.timers.retain(|timer| {
            let (mut probe, mut out) = (session.clone(), Vec::new());
            probe.handle(Event::Fired(*timer), &mut out);
            !out.is_empty() || probe != *session
        });
    }

    pub fn check_owners(&mut self) {
        let owners: Vec<usize> = (0..self.hubs.len()).filter(|hub| self.hubs[*hub].session.is_owner()).collect();
        self.ledger.expect(owners.len() <= 1, Fault::TwoOwners);
        let [owner] = owners[..] else { return };
        let (at, generation) = ((owner, self.hubs[owner].run), self.hubs[owner].session.generation());
        let risen = if self.ledger.owner == Some(at) {
            generation >= self.ledger.generation
        } else {
            generation > self.ledger.generation
        };
        self.ledger.expect(risen, Fault::GenerationDidNotRise);
        (self.ledger.owner, self.ledger.generation) = (Some(at), generation);
    }
}
