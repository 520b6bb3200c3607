//! A hub as the model drives it: the same duties that the server has, and no others.

use crate::bounds::Mutant;
use crate::ledger::Fault;
use crate::wire::{Note, Parcel};
use crate::world::{SESSION, World, hub_id, index_of};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidegate_protocol::claim::Claim;
use tidegate_protocol::close::Close;
use tidegate_protocol::frame::{Hello, Old};
use tidegate_protocol::id::{ConnectionId, DrainId, HubId, ResumeToken};
use tidegate_protocol::peer::{Knowledge, PeerMessage};
use tidegate_protocol::position::{Epoch, Generation};
use tidegate_protocol::replay::ReplayLimits;
use tidegate_protocol::session::bulk::{BULK_MIN_BYTES, Bulk, Difference, Shelf, Shelved};
use tidegate_protocol::session::record::{HelloFacts, Profile, Record};
use tidegate_protocol::session::{Action, Event, Fence, Session, State, Timer};

pub const LIMITS: ReplayLimits = ReplayLimits { messages_max: 16, bytes_max: 16 * BULK_MIN_BYTES };

/// What is on a hub's disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Disk {
    /// Nothing.
    Empty,
    /// A parked session.
    Parked(Box<Record<Note>>, Fence),
    /// It was taken up: what follows is not on disk.
    TakenUp,
}

/// One run of one hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hub {
    /// Which run.
    pub run: u8,
    /// The runs that it knows of its peers.
    pub knows: Vec<u8>,
    /// Runs of peers that ended, not yet noticed.
    pub to_learn: BTreeSet<usize>,
    /// Whether it wants its clients elsewhere.
    pub draining: bool,
    /// How often its client came back to it meanwhile.
    pub bounces: u8,
    /// Number of its last drain frame.
    pub seq: u32,
    /// The session.
    pub session: Session<Note>,
    /// Bulks that it holds for peers.
    pub shelf: Shelf<Note>,
    /// Claims under way.
    pub claims: Vec<Claim>,
    /// Who owned the session when each waiting hello arrived: the ghost's, not the hub's.
    pub seen: BTreeMap<ConnectionId, Option<(usize, u8)>>,
    /// Number of its last claim.
    pub claimed: u8,
    /// Timers that are armed.
    pub timers: BTreeSet<Timer>,
    /// The app has been asked to settle.
    pub settling: bool,
    /// A record is being written.
    pub writing: bool,
    /// No process runs: what is on its disk is safe, and the next one comes some time.
    pub asleep: bool,
    /// Hubs that have said goodbye, and whether they named the session as on their disk.
    pub away: BTreeMap<usize, bool>,
    /// What is on its disk; survives a crash.
    pub disk: Disk,
    /// How much it acked on the connection at work.
    pub acked: u8,
    /// Calls that wait for the session.
    pub calls: u8,
}

impl Hub {
    pub fn new(me: usize, hubs: usize) -> Self {
        Self {
            run: 0,
            knows: vec![0; hubs],
            to_learn: BTreeSet::new(),
            draining: false,
            bounces: 0,
            seq: 0,
            session: Session::unknown(SESSION, hub_id(me)),
            shelf: Shelf::default(),
            claims: Vec::new(),
            seen: BTreeMap::new(),
            claimed: 0,
            timers: BTreeSet::new(),
            settling: false,
            writing: false,
            asleep: false,
            away: BTreeMap::new(),
            disk: Disk::Empty,
            acked: 0,
            calls: 0,
        }
    }
}

/// A model token: its serial in the clear.
pub fn token(serial: u32) -> ResumeToken {
    ResumeToken(serial.to_string())
}

fn serial(token: &ResumeToken) -> u32 {
    token.0.parse().expect("the model writes serials only")
}

/// What a hello says once its token was opened.
pub fn facts(hello: &Hello) -> HelloFacts {
    HelloFacts {
        serial: hello.token.as_ref().map_or(0, serial),
        attempt: hello.attempt,
        old: hello.old,
        received: hello.received,
        epoch: hello.epoch,
    }
}

/// The drain of one run of one hub.
pub fn drain_id(hub: usize, run: u8) -> DrainId {
    DrainId(hub as u64 * 16 + u64::from(run) + 1)
}

impl World {
    /// One event for the machine, and everything that follows from it at once.
    pub fn feed(&mut self, hub: usize, event: Event<Note>) {
        let mut out = Vec::new();
        let event = self.bend_event(hub, event);
        let before = matches!(self.hubs[hub].session.state(), State::Frozen { .. });
        self.hubs[hub].session.handle(event, &mut out);
        self.bend_thaw(hub, before);
        self.carry_out(hub, out);
    }

    pub fn carry_out(&mut self, hub: usize, actions: Vec<Action<Note>>) {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            self.one(hub, action);
        }
        self.prune_timers(hub);
        self.check_owners();
        self.check_calls(hub);
        self.ack(hub);
    }

    pub fn one(&mut self, hub: usize, action: Action<Note>) {
        match action {
            Action::Say(to, message) => self.say(hub, to, message),
            Action::Welcome { conn, serial, resumed, from, received } => {
                self.welcome(hub, conn, serial, resumed, from, received);
            }
            Action::Retry { conn, .. } => self.retry(conn),
            Action::Close { conn, close, why } => {
                let told_safe = why == "parked" && close == Close::Restart;
                let on_disk = matches!(self.hubs[hub].disk, Disk::Parked(..));
                self.ledger.expect(!told_safe || on_disk, Fault::ParkedWithoutRecord);
                self.close(conn, close);
            }
            Action::LastMove { conn, serial, .. } => {
                if self.hubs[hub].draining {
                    self.order(hub, conn, serial);
                }
            }
            Action::Reset { conn, .. } => self.reset(hub, conn),
            Action::Wake => {
                if self.grain.hub_writes_at_once {
                    self.pump(hub);
                }
            }
            Action::Settle => {
                self.hubs[hub].settling = true;
                if self.grain.app_at_once {
                    self.settled(hub);
                }
            }
            Action::Write => self.hubs[hub].writing = true,
            Action::TakeUp => self.take_up(hub),
            Action::Arm(timer, _) => {
                // The pace of repeats is no matter of safety.
                let timer = if let Timer::Repeat(generation, _) = timer { Timer::Repeat(generation, 0) } else { timer };
                let unarmed = match timer {
                    Timer::Repeat(..) => self.mutant == Mutant::CommittedSaidOnce,
                    Timer::Freeze(_) => self.mutant == Mutant::FreezeWithoutLimit,
                    _ => false,
                };
                if !unarmed {
                    self.hubs[hub].timers.insert(timer);
                }
            }
            Action::Told(outcome) => self.told(hub, outcome),
            Action::ApplyCalls if self.mutant != Mutant::WaitingCallsForgotten => self.apply_calls(hub),
            Action::ForwardCalls(to) => self.forward_calls(hub, to),
            Action::Bind | Action::Unbind | Action::ApplyCalls => {}
        }
    }

    /// A word to a peer, or to oneself (a claim asks every hub, this one included).
    pub fn say(&mut self, from: usize, to: HubId, mut message: PeerMessage<Note>) {
        let to = index_of(to);
        if let (Mutant::UntakenStayBehind, PeerMessage::Snapshot { record, .. }) = (self.mutant, &mut message) {
            record.untaken.clear();
        }
        if let (Mutant::CommitWithoutHeld, PeerMessage::Snapshot { handover, .. }) = (self.mutant, &message) {
            let held = PeerMessage::Held { session: SESSION, handover: *handover };
            self.post(from, to, message);
            return self.feed(from, Event::Peer { from: hub_id(to), message: held });
        }
        if to == from {
            return self.hear(from, from, message);
        }
        self.post(from, to, message);
    }

    pub fn post(&mut self, from: usize, to: usize, message: PeerMessage<Note>) {
        let (from_run, to_run) = (self.hubs[from].run, self.hubs[from].knows[to]);
        if to_run == self.hubs[to].run || self.mutant == Mutant::NoIncarnationFence {
            self.net.post(Parcel { from, from_run, to, to_run, message });
        }
    }

    /// What the link between hubs sees to: a run hears nothing that was meant for an earlier one; the
    /// end of a peer's run is noticed before the first word of the next one, and no word of it after that.
    pub fn deliver(&mut self, parcel: &Parcel) {
        if self.hubs[parcel.to].asleep {
            return;
        }
        let known = self.hubs[parcel.to].knows[parcel.from];
        if self.mutant != Mutant::NoIncarnationFence {
            if parcel.from_run < known {
                return;
            }
            if parcel.from_run > known {
                self.learn(parcel.to, parcel.from);
            }
        }
        self.hear(parcel.to, parcel.from, parcel.message.clone());
    }

    /// A word from a peer arrives.
    pub fn hear(&mut self, hub: usize, from: usize, message: PeerMessage<Note>) {
        match message {
            PeerMessage::Locate { claim, .. } if self.parked_elsewhere(hub).is_some() => {
                let knowledge = match (self.hubs[hub].session.knowledge(), self.parked_elsewhere(hub)) {
                    (known @ (Knowledge::Owner(_) | Knowledge::Ended(_)), _) | (known, None) => known,
                    (_, Some(at)) => Knowledge::Parked(at),
                };
                self.say(hub, hub_id(from), PeerMessage::Located { session: SESSION, claim, knowledge });
            }
            PeerMessage::Located { claim, knowledge, .. } => {
                self.with_claim(hub, claim, |claim, out| claim.on_located(hub_id(from), knowledge, out));
            }
            PeerMessage::Refused { claim, why, .. } => {
                self.with_claim(hub, claim, |claim, out| claim.on_refused(hub_id(from), why, out));
            }
            PeerMessage::ResetFrom { claim, record, .. } => {
                self.with_claim(hub, claim, |claim, out| claim.on_reset_from(record, out));
            }
            PeerMessage::Snapshot { handover, claim: Some(id), record, .. }
                if !self.hubs[hub].session.holds(handover) =>
            {
                let standing = self.hubs[hub].claims.iter().position(|claim| claim.id() == id);
                let granted = standing
                    .map(|index| self.hubs[hub].claims.remove(index))
                    .filter(|claim| claim.clone().on_snapshot());
                match granted {
                    Some(claim) => {
                        self.hubs[hub].seen.remove(&claim.connection());
                        let waiting = Some((claim.connection(), claim.hello()));
                        self.feed(hub, Event::Copied { waiting, handover, record });
                    }
                    None => self.say(hub, hub_id(from), PeerMessage::Abort { session: SESSION, handover }),
                }
            }
            PeerMessage::Bulk { bulk, contents, .. } => self.bulk_came(hub, from, bulk, contents),
            PeerMessage::Difference { handover, claim, bulk, difference, version, .. } => {
                match self.complete(hub, from, bulk, &difference) {
                    Some(record) => {
                        let record = Box::new(record);
                        let snapshot = PeerMessage::Snapshot { session: SESSION, handover, claim, version, record };
                        self.hear(hub, from, snapshot);
                    }
                    None => {
                        let session = SESSION;
                        let message = PeerMessage::Difference { session, handover, claim, version, bulk, difference };
                        self.feed(hub, Event::Peer { from: hub_id(from), message });
                    }
                }
            }
            message => self.feed(hub, Event::Peer { from: hub_id(from), message }),
        }
    }

    /// On whose disk a hub knows the session to lie, while that one is away.
    pub fn parked_elsewhere(&self, hub: usize) -> Option<HubId> {
        self.hubs[hub].away.iter().find(|(_, named)| **named).map(|(at, _)| hub_id(*at))
    }

    fn bulk_came(&mut self, hub: usize, from: usize, bulk: Generation, contents: Box<Bulk<Note>>) {
        if let Shelved::Held(_) = self.hubs[hub].shelf.put(SESSION, hub_id(from), bulk, contents, true) {
            self.say(hub, hub_id(from), PeerMessage::BulkHeld { session: SESSION, bulk });
        }
    }

    fn complete(
        &self,
        hub: usize,
        from: usize,
        bulk: Generation,
        difference: &Difference<Note>,
    ) -> Option<Record<Note>> {
        if self.mutant == Mutant::DifferenceGuessed {
            return Some(difference.rest.clone());
        }
        self.hubs[hub].shelf.complete(SESSION, hub_id(from), bulk, difference)
    }
}

pub fn message_from(message: &PeerMessage<Note>) -> HubId {
    match message {
        PeerMessage::Live { handover, .. } => handover.to,
        _ => HubId(0),
    }
}

/// A session that begins with this hello.
pub fn fresh(hub: usize, conn: ConnectionId, out: &mut Vec<Action<Note>>) -> Session<Note> {
    Session::begin(SESSION, hub_id(hub), Record::new(Epoch(1), Profile::default()), conn, 1, out)
}

/// Whether a hello may be treated as one of a client that has waited long enough.
pub fn may_be_orphaned(hello: &Hello) -> bool {
    hello.old == Old::Lost && hello.token.is_some()
}
