//! A hub's daily work: messages both ways, the app behind it, and its disk.

use crate::bounds::Mutant;
use crate::hub::Disk;
use crate::ledger::Fault;
use crate::wire::{Down, Note};
use crate::world::World;
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::id::ConnectionId;
use tidegate_protocol::session::{Event, Item, Receipt, Stage, State};

impl World {
    /// Writes what the connection at work may get.
    pub fn pump(&mut self, hub: usize) {
        while let Some(conn) = self.hubs[hub].session.counted()
            && let Some(item) = self.hubs[hub].session.next_for(conn)
        {
            let item = match item {
                Item::Message(message) => Down::Message(message),
                Item::Gap { from, to } => Down::Frame(Box::new(ServerFrame::Gap { from, to, why: "overflow".into() })),
            };
            if let Some(pipe) = self.pipe_mut(conn) {
                pipe.write(item);
            }
            if !self.grain.hub_writes_at_once {
                return;
            }
        }
    }

    /// Says how much the app has taken, to a client that does not know yet.
    pub fn ack(&mut self, hub: usize) {
        let session = &self.hubs[hub].session;
        let (State::Serving { record, .. }, Some(conn)) = (session.state(), session.counted()) else { return };
        let early = self.mutant == Mutant::AckBeforeTaken;
        let taken = if early { record.received } else { record.taken() };
        if taken.0 as u8 > self.hubs[hub].acked {
            self.hubs[hub].acked = taken.0 as u8;
            if let Some(pipe) = self.pipe_mut(conn) {
                pipe.write(Down::Frame(Box::new(ServerFrame::Ack { received: taken })));
            }
        }
    }

    /// An app message of the client. False: the hub is still and leaves it in the socket.
    pub fn receive(&mut self, hub: usize, id: u32, message: Note) -> bool {
        let mut conn = ConnectionId(u64::from(id));
        if self.mutant == Mutant::OldConnectionCounts
            && let Some(counted) = self.hubs[hub].session.counted()
        {
            conn = counted;
        }
        match self.hubs[hub].session.receive(conn, message) {
            Receipt::Counted => {
                self.ledger.counted += 1;
                self.ledger.expect(message.number == self.ledger.counted, Fault::CountedOutOfOrder);
                let received = self.hubs[hub].session.record().map_or(0, |record| record.received.0);
                self.ledger.expect(received == u64::from(self.ledger.counted), Fault::CountedOutOfOrder);
                self.ack(hub);
                if self.grain.app_at_once {
                    self.take(hub);
                }
                true
            }
            Receipt::Hold => self.mutant == Mutant::ReadWhileFrozen,
            Receipt::Deaf => true,
        }
    }

    /// Whether the app may take a message now: not once the snapshot is out.
    pub fn app_may_take(&self, hub: usize) -> bool {
        let session = &self.hubs[hub].session;
        let awake = matches!(session.state(), State::Serving { .. } | State::Frozen { stage: Stage::Settling, .. });
        awake && session.record().is_some_and(|record| !record.untaken.is_empty())
    }

    /// The app takes the oldest message.
    pub fn take(&mut self, hub: usize) {
        let Some(message) = self.hubs[hub].session.record().and_then(|record| record.untaken.front().copied()) else {
            return;
        };
        self.ledger.taken += 1;
        self.ledger.expect(message.number == self.ledger.taken, Fault::TakenOutOfOrder);
        self.feed(hub, Event::Taken);
    }

    /// The app has settled.
    pub fn settled(&mut self, hub: usize) {
        self.hubs[hub].settling = false;
        // What the app takes while it settles is taken; the rest travels.
        while self.grain.app_at_once && self.app_may_take(hub) {
            self.take(hub);
        }
        self.feed(hub, Event::Settled);
        if self.mutant == Mutant::ParkedBeforeWritten && self.hubs[hub].writing {
            self.feed(hub, Event::Written);
        }
    }

    /// The record is on disk, or could not be written.
    pub fn written(&mut self, hub: usize, well: bool) {
        let at = &mut self.hubs[hub];
        at.writing = false;
        if let (true, Some(record), Some(fence)) = (well, at.session.record(), at.session.fence()) {
            at.disk = Disk::Parked(Box::new(record.clone()), fence);
        }
        self.feed(hub, if well { Event::Written } else { Event::WriteFailed });
    }

    /// A parked session is taken up by the process that parked it.
    pub fn take_up(&mut self, hub: usize) {
        if let Disk::Parked(record, _) = std::mem::replace(&mut self.hubs[hub].disk, Disk::TakenUp) {
            self.feed(hub, Event::TakenUp(record));
        }
    }
}
