//! What comes from outside the handover: administrators, time, calls, and clients that are not this one.

use crate::hub;
use crate::ledger::Fault;
use crate::wire::{Down, Pipe, Up};
use crate::world::{LATE, Step, World, index_of};
use tidegate_protocol::frame::{ClientFrame, Hello, Old, ServerFrame};
use tidegate_protocol::id::HubId;
use tidegate_protocol::position::Epoch;
use tidegate_protocol::session::{Event, Left, Place, State};

/// Calls that wait at one hub, at most; a further one is answered 503.
const WAITING_MAX: u8 = 2;
/// How often a call is passed on.
const HOPS_MAX: u8 = 6;

impl World {
    pub fn outside(&mut self, step: &Step) {
        match *step {
            Step::Evict(hub) => {
                self.budget.evicts -= 1;
                self.ledger.evicted = true;
                self.feed(hub, Event::End(Left::Evicted));
            }
            Step::Expire(hub) => self.feed(hub, Event::End(Left::Expired)),
            Step::ClientDies => self.client_dies(),
            Step::Thief(hub) => self.thief(hub),
            Step::Call(hub) => {
                self.budget.calls -= 1;
                self.call(hub, HOPS_MAX);
            }
            _ => {}
        }
    }

    /// Its process is gone, and its token with it: nobody will ask for the session again.
    fn client_dies(&mut self) {
        self.budget.deaths -= 1;
        (self.ledger.died, self.client.over, self.client.dialling) = (true, true, None);
        for pipe in self.pipes.iter_mut().filter(|pipe| pipe.client_open) {
            pipe.client_closes(Up::Cut);
        }
    }

    /// Another client has this one's newest token and knows how often it tried.
    fn thief(&mut self, hub: usize) {
        self.budget.thieves -= 1;
        self.ledger.robbed = true;
        let serial = self.hubs.iter().filter_map(|hub| hub.session.record()).map(|record| record.tokens.issued).max();
        let hello = Hello {
            token: serial.map(hub::token),
            attempt: self.client.hellos.len() as u32 + 1,
            old: Old::Lost,
            received: self.client.machine.received(),
            epoch: Some(Epoch(1)),
            protocols: Vec::new(),
            auth: None,
            language: None,
        };
        if hello.token.is_none() {
            return;
        }
        let id = LATE + self.late;
        self.late += 1;
        let mut pipe = Pipe::new(id, hub);
        pipe.send(Up::Frame(ClientFrame::Hello(hello)));
        self.pipes.push(pipe);
    }

    /// What a client that is not this one is told.
    pub fn thief_reads(&mut self, id: u32, item: &Down) {
        match item {
            Down::Frame(frame) => {
                if let ServerFrame::Welcome(welcome) = &**frame {
                    self.thieves.insert(id, welcome.from.0 as u8);
                }
            }
            Down::Message(note) => {
                let heard = self.thieves.get_mut(&id);
                let right = heard.is_some_and(|heard| {
                    *heard += 1;
                    *heard == note.number
                });
                self.ledger.expect(right, Fault::ThiefOutOfOrder);
            }
            Down::Close(_) | Down::Cut => _ = self.thieves.remove(&id),
        }
    }

    /// A call from outside, at whatever moment (rule 16). Whoever gets no answer here is answered 503 or 404.
    pub fn call(&mut self, hub: usize, hops: u8) {
        if hops == 0 {
            return;
        }
        match self.hubs[hub].session.place() {
            Place::Here => {
                self.number(hub);
            }
            Place::Wait => self.hubs[hub].calls = (self.hubs[hub].calls + 1).min(WAITING_MAX),
            Place::TakeUp => {
                self.take_up(hub);
                self.call(hub, hops - 1);
            }
            Place::At(to) => self.call(index_of(to), hops - 1),
            Place::Nowhere => {}
        }
    }

    /// Calls that waited are applied here, or look for the session again.
    pub fn apply_calls(&mut self, hub: usize) {
        for _ in 0..std::mem::take(&mut self.hubs[hub].calls) {
            self.call(hub, HOPS_MAX);
        }
    }

    /// Calls that waited go to the new owner.
    pub fn forward_calls(&mut self, hub: usize, to: HubId) {
        for _ in 0..std::mem::take(&mut self.hubs[hub].calls) {
            self.call(index_of(to), HOPS_MAX);
        }
    }

    /// Whether calls wait where nothing will come for them.
    pub fn check_calls(&mut self, hub: usize) {
        let at = &self.hubs[hub];
        let waits = at.calls == 0 || at.session.place() == Place::Wait;
        self.ledger.expect(waits, Fault::CallForgotten);
    }

    pub fn outside_steps(&self, hub: usize, steps: &mut Vec<Step>) {
        let (budget, session) = (&self.budget, &self.hubs[hub].session);
        if budget.evicts > 0 && matches!(session.state(), State::Serving { .. } | State::Frozen { .. }) {
            steps.push(Step::Evict(hub));
        }
        if budget.thieves > 0 {
            steps.push(Step::Thief(hub));
        }
        if budget.calls > 0 {
            steps.push(Step::Call(hub));
        }
    }
}
