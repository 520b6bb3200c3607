//! What a hub answers its clients: claims that go on, welcomes, retries, resets, closes.

use crate::bounds::Mutant;
use crate::hub::{Disk, drain_id, facts, token};
use crate::ledger::Fault;
use crate::wire::{Down, Note};
use crate::world::{SESSION, World, hub_id};
use std::collections::BTreeSet;
use tidegate_protocol::claim::{Claim, Step};
use tidegate_protocol::close::Close;
use tidegate_protocol::frame::{Hello, ServerFrame, Welcome, WireLimits};
use tidegate_protocol::id::{ConnectionId, SessionId};
use tidegate_protocol::peer::{ClaimId, Knowledge, PeerMessage};
use tidegate_protocol::position::{Epoch, Generation, Offset};
use tidegate_protocol::session::{Event, RETRY_BOUNCE_MS};

impl World {
    /// Lets a claim go on and does what it says.
    pub fn with_claim(&mut self, hub: usize, id: ClaimId, go_on: impl FnOnce(&mut Claim, &mut Vec<Step<Note>>)) {
        let Some(claim) = self.hubs[hub].claims.iter_mut().find(|claim| claim.id() == id) else { return };
        let mut steps = Vec::new();
        go_on(claim, &mut steps);
        let conn = claim.connection();
        self.claim_steps(hub, conn, steps);
    }

    pub fn claim_steps(&mut self, hub: usize, conn: ConnectionId, steps: Vec<Step<Note>>) {
        self.hubs[hub].claims.retain(|claim| !claim.is_done());
        if !self.hubs[hub].claims.iter().any(|claim| claim.connection() == conn)
            && !steps.iter().any(|step| matches!(step, Step::Reset { .. }))
        {
            self.hubs[hub].seen.remove(&conn);
        }
        for step in steps {
            match step {
                Step::Say(to, message) => self.say(hub, to, message),
                Step::Retry { .. } => self.retry(conn),
                Step::Refuse(close, _) => self.close(conn, close),
                Step::Reset { .. } => self.reset(hub, conn),
            }
        }
    }

    /// What the drain says to a client that comes back: to try again, until chance does not explain it any more. How
    /// often that is, is the drain's own business; here a few times are enough to see both answers.
    fn leaving(&mut self, hub: usize) -> Option<u64> {
        const BOUNCES_MAX: u8 = 2;
        let at = &mut self.hubs[hub];
        let away = at.draining && at.bounces < BOUNCES_MAX;
        at.bounces += u8::from(away);
        away.then_some(RETRY_BOUNCE_MS)
    }

    /// A hello arrives: for the machine, or for a claim.
    pub fn greet(&mut self, hub: usize, id: u32, hello: &Hello, orphaned: bool) {
        let conn = ConnectionId(u64::from(id));
        let hello = self.bend_hello(hub, facts(hello));
        self.ledger.orphaned |= orphaned;
        let alone = self.mutant == Mutant::ResetWithoutAsking && self.hubs[hub].session.record().is_some();
        let parked = self.parked_elsewhere(hub).is_some() && !self.hubs[hub].session.is_owner();
        if (self.hubs[hub].session.answers_hello() && !parked) || alone {
            if orphaned {
                return self.feed(hub, Event::Orphaned { conn, hello });
            }
            let leaving = self.leaving(hub);
            return self.feed(hub, Event::Hello { conn, hello, leaving });
        }
        self.hubs[hub].claimed += 1;
        let run = u64::from(self.hubs[hub].run);
        let id = ClaimId(run * 256 + u64::from(self.hubs[hub].claimed));
        let owner = self.owner_now();
        self.hubs[hub].seen.insert(conn, owner);
        let nobody_else = self.mutant == Mutant::AsksNobody;
        let away: BTreeSet<usize> = self.hubs[hub].away.keys().copied().collect();
        let asked = |other: &usize| (!nobody_else || *other == hub) && !away.contains(other);
        let everyone = (0..self.hubs.len()).filter(asked).map(hub_id);
        let mut steps = Vec::new();
        let claim = Claim::begin(SESSION, id, conn, hello, orphaned, everyone, &mut steps);
        self.hubs[hub].claims.push(claim);
        self.claim_steps(hub, conn, steps);
    }

    /// A connection of this hub is gone.
    pub fn connection_lost(&mut self, hub: usize, id: u32) {
        let conn = ConnectionId(u64::from(id));
        self.hubs[hub].claims.retain(|claim| claim.connection() != conn);
        self.hubs[hub].seen.remove(&conn);
        self.feed(hub, Event::ConnectionLost { conn });
    }

    pub fn welcome(
        &mut self,
        hub: usize,
        conn: ConnectionId,
        serial: u32,
        resumed: bool,
        from: Offset,
        received: Offset,
    ) {
        let session = &self.hubs[hub].session;
        let (generation, Some(record)) = (session.generation(), session.record()) else { return };
        let from = if self.mutant == Mutant::PositionOffByOne { Offset(from.0.saturating_sub(1)) } else { from };
        let frame = welcome_frame(SESSION, record.epoch, hub, serial, generation, resumed, from, received);
        let there = self.pipe_mut(conn).is_some_and(|pipe| {
            pipe.write(Down::Frame(Box::new(frame)));
            pipe.hub_open
        });
        // The client is told again what was taken: an ack may have been lost with its old connection.
        self.hubs[hub].acked = 0;
        if !there {
            self.feed(hub, Event::ConnectionLost { conn });
        }
    }

    pub fn retry(&mut self, conn: ConnectionId) {
        let frame = ServerFrame::Retry { after_ms: 0, why: "moving".into() };
        if let Some(pipe) = self.pipe_mut(conn) {
            pipe.write(Down::Frame(Box::new(frame)));
            pipe.hub_closes(Down::Close(Close::Later.code()));
        }
    }

    pub fn close(&mut self, conn: ConnectionId, close: Close) {
        let keeps_reading = self.mutant == Mutant::OldConnectionCounts && close == Close::Displaced;
        if let Some(pipe) = self.pipe_mut(conn) {
            if keeps_reading {
                pipe.write(Down::Close(close.code()));
            } else {
                pipe.hub_closes(Down::Close(close.code()));
            }
        }
    }

    /// `move`, on the connection at work.
    pub fn order(&mut self, hub: usize, conn: ConnectionId, serial: u32) {
        let at = &mut self.hubs[hub];
        at.seq += 1;
        at.draining = true;
        at.bounces = 0;
        let frame = ServerFrame::Move { drain: drain_id(hub, at.run), seq: at.seq, token: token(serial), url: None };
        if let Some(pipe) = self.pipe_mut(conn) {
            pipe.write(Down::Frame(Box::new(frame)));
        }
    }

    /// The client gets a new session here, and every hub is told.
    pub fn reset(&mut self, hub: usize, conn: ConnectionId) {
        let owner = self.owner_now();
        // An owner that came to be while the answers were under way could not be known.
        let known = self.hubs[hub].seen.remove(&conn).unwrap_or(owner);
        let needless = owner.is_some() && known == owner && !self.ledger.orphaned && !self.ledger.reset;
        self.ledger.expect(!needless, Fault::NeedlessReset);
        let safe = self.hubs.iter().any(|hub| hub.asleep && matches!(hub.disk, Disk::Parked(..)));
        self.ledger.expect(!safe || self.ledger.may_end(), Fault::ResetWhileParked);
        self.ledger.reset = true;
        let frame = welcome_frame(SessionId(99), Epoch(2), hub, 1, Generation(1), false, Offset(0), Offset(0));
        if let Some(pipe) = self.pipe_mut(conn) {
            pipe.write(Down::Frame(Box::new(ServerFrame::Reset { why: "unknown".into(), replaces: SESSION })));
            pipe.write(Down::Frame(Box::new(frame)));
        }
        for other in 0..self.hubs.len() {
            self.say(hub, hub_id(other), PeerMessage::Replaced { session: SESSION });
        }
    }

    /// What a silent hub is asked to do when its claim's time is over.
    pub fn silence(&mut self, hub: usize, id: ClaimId) {
        if self.mutant == Mutant::SilenceIsKnowledge {
            self.with_claim(hub, id, |claim, out| {
                let silent: Vec<_> = claim.silent().collect();
                silent.into_iter().for_each(|hub| claim.on_located(hub, Knowledge::Unknown, out));
            });
        }
        self.with_claim(hub, id, |claim, out| claim.on_silence(out));
    }
}

#[allow(clippy::too_many_arguments, reason = "the fields of one frame, spelled out")]
fn welcome_frame(
    session: SessionId,
    epoch: Epoch,
    hub: usize,
    serial: u32,
    generation: Generation,
    resumed: bool,
    from: Offset,
    received: Offset,
) -> ServerFrame {
    ServerFrame::Welcome(Welcome {
        session,
        token: token(serial),
        epoch,
        generation,
        resumed,
        from,
        received,
        heartbeat_ms: 0,
        hub: hub_id(hub),
        protocol: None,
        auth_expires_ms: None,
        limits: WireLimits { message_bytes: 1 },
    })
}
