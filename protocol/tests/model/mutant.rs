//! Rules dropped at the border of the machines: events are bent on their way in. The machines
//! themselves have no switch for this.

use crate::bounds::Mutant;
use crate::wire::Note;
use crate::world::{SESSION, World, hub_id};
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::position::Generation;
use tidegate_protocol::session::record::HelloFacts;
use tidegate_protocol::session::{Event, Fence, Purpose, Session, State, Timer};

impl World {
    /// What the mutant makes of an event.
    pub fn bend_event(&self, hub: usize, event: Event<Note>) -> Event<Note> {
        match (self.mutant, event) {
            (Mutant::CommitOnAnyHeld, Event::Peer { from, message: PeerMessage::Held { session, handover } }) => {
                let handover = match self.hubs[hub].session.state() {
                    State::Frozen { purpose: Purpose::Claimed(now, _) | Purpose::Pushed(now), .. } => *now,
                    _ => handover,
                };
                Event::Peer { from, message: PeerMessage::Held { session, handover } }
            }
            (Mutant::GoLiveOnTtl, Event::Fired(timer @ Timer::CopyTtl(_))) => match self.hubs[hub].session.state() {
                State::Copy { handover, .. } => {
                    let message = PeerMessage::Committed { session: SESSION, handover: *handover };
                    Event::Peer { from: handover.from, message }
                }
                _ => Event::Fired(timer),
            },
            (
                Mutant::NoTryCheck,
                Event::Peer { from, message: PeerMessage::Claim { session, claim, hello, versions, orphaned } },
            ) => {
                let hello = self.bend_hello(hub, hello);
                Event::Peer { from, message: PeerMessage::Claim { session, claim, hello, versions, orphaned } }
            }
            (_, event) => event,
        }
    }

    /// What the mutant makes of a hello that the machine of this hub is to judge.
    pub fn bend_hello(&self, hub: usize, mut hello: HelloFacts) -> HelloFacts {
        let Some(record) = self.hubs[hub].session.record() else { return hello };
        if self.mutant == Mutant::NoTryCheck {
            hello.attempt = hello.attempt.max(record.attempt + 1);
        }
        hello
    }

    /// Takes back what a thaw did to the generation (of a session without a connection, for which it
    /// can be done from outside).
    pub fn bend_thaw(&mut self, hub: usize, was_frozen: bool) {
        let session = &self.hubs[hub].session;
        let (State::Serving { record, fence, .. }, true, None) = (session.state(), was_frozen, session.counted())
        else {
            return;
        };
        if self.mutant == Mutant::ThawKeepsGeneration && fence.generation > Generation(2) {
            let before = Generation(fence.generation.0 - 3);
            let fence = Fence { generation: before, offered: before };
            let record = record.clone();
            self.hubs[hub].session = Session::taken_up(SESSION, hub_id(hub), record, fence, &mut Vec::new());
            self.ledger.generation = self.hubs[hub].session.generation();
        }
    }
}
