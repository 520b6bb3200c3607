//! The whole: hubs, the client, what lies between them, and what may happen next.

use crate::bounds::{Budget, Grain, Mutant};
use crate::hub::{self, Hub, drain_id, fresh, may_be_orphaned};
use crate::ledger::{Fault, Ledger};
use crate::wire::{Down, Net, Note, Pipe, Up};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use tidegate_protocol::client::{Client, Event as Input, Settings};
use tidegate_protocol::close::client_ends_session;
use tidegate_protocol::frame::{ClientFrame, Hello, ServerFrame};
use tidegate_protocol::id::{ConnectionId, HubId, SessionId};
use tidegate_protocol::peer::{ClaimId, SNAPSHOT_VERSION};
use tidegate_protocol::position::Offset;
use tidegate_protocol::session::bulk::Shelf;
use tidegate_protocol::session::{Event, Session, State, Timer};

/// The one session.
pub const SESSION: SessionId = SessionId(1);
/// Connections of late hellos are numbered from here.
pub const LATE: u32 = 100;

pub fn hub_id(hub: usize) -> HubId {
    HubId(hub as u64 + 1)
}

pub fn index_of(hub: HubId) -> usize {
    hub.0 as usize - 1
}

/// The client machine and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    pub machine: Client<Note>,
    /// The connection that it is opening.
    pub dialling: Option<u32>,
    /// It was told of a reset, or ended: nothing more is asked of the hubs.
    pub over: bool,
    /// Every hello that it said, for late ones.
    pub hellos: Vec<Hello>,
}

/// One thing that may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Connect(usize),
    ClientTimer,
    ClientSends,
    ClientReads(u32),
    HubReads(u32),
    HubReadsOrphan(u32),
    Cut { id: u32, lose_up: bool },
    Arrive(usize),
    ArriveTwice(usize),
    Publish(usize),
    Pump(usize),
    Take(usize),
    Settled(usize),
    Written(usize, bool),
    TakeUp(usize),
    Fire(usize, Timer),
    Silence(usize, ClaimId),
    ClaimLimit(usize, ClaimId),
    Push(usize, usize),
    Order(usize),
    Cancel(usize),
    Park(usize),
    Crash(usize),
    End(usize),
    Sleep(usize),
    Wake(usize),
    Learn(usize, usize),
    DropBulk(usize),
    LateHello(usize, usize),
    Evict(usize),
    Expire(usize),
    ClientDies,
    Thief(usize),
    Call(usize),
}

#[derive(Clone, Debug)]
pub struct World {
    pub hubs: Vec<Hub>,
    pub client: Side,
    pub pipes: Vec<Pipe>,
    pub net: Net,
    pub budget: Budget,
    pub ledger: Ledger,
    /// How often each hub counts the session as its own (0 or 1).
    pub population: Vec<u8>,
    pub late: u32,
    /// How much each other client with the token has heard, by its connection.
    pub thieves: BTreeMap<u32, u8>,
    /// Fixed for a whole check, hence neither compared nor hashed.
    pub grain: Grain,
    pub mutant: Mutant,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.hubs == other.hubs
            && self.client == other.client
            && self.pipes == other.pipes
            && self.net == other.net
            && self.budget == other.budget
            && self.ledger == other.ledger
            && self.population == other.population
            && self.thieves == other.thieves
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hubs.hash(state);
        self.client.hash(state);
        self.pipes.hash(state);
        self.net.hash(state);
        self.budget.hash(state);
        self.ledger.hash(state);
        self.population.hash(state);
        self.thieves.hash(state);
    }
}

/// A client without time: every wait is over as soon as it begins, and each ack is said at once.
pub fn settings() -> Settings {
    let mut settings = Settings::new("ws://model/connect");
    (settings.ack_messages, settings.ack_ms, settings.answer_ms) = (1, 0, 0);
    let backoff = &mut settings.backoff;
    (backoff.floor_ms, backoff.first_ms, backoff.max_ms) = (0, 0, 0);
    settings
}

impl World {
    /// A client at work at the first hub.
    pub fn new(hubs: usize, budget: Budget, grain: Grain, mutant: Mutant) -> Self {
        let client = Side { machine: Client::new(), dialling: None, over: false, hellos: Vec::new() };
        let mut world = Self {
            hubs: (0..hubs).map(|me| Hub::new(me, hubs)).collect(),
            client,
            pipes: Vec::new(),
            net: Net::default(),
            budget: Budget { dials: budget.dials + 1, ..budget },
            ledger: Ledger::default(),
            population: vec![0; hubs],
            late: 0,
            thieves: BTreeMap::new(),
            grain: Grain::PEERS,
            mutant,
        };
        world.apply(&Step::ClientTimer);
        world.apply(&Step::Connect(0));
        assert!(world.client.machine.connection().is_some(), "the run begins with a client at work: {world:?}");
        world.grain = grain;
        world
    }

    pub fn pipe_mut(&mut self, conn: ConnectionId) -> Option<&mut Pipe> {
        self.pipes.iter_mut().find(|pipe| u64::from(pipe.id) == conn.0)
    }

    /// Lets it happen, and everything that the scenario's grain does at once.
    pub fn apply(&mut self, step: &Step) {
        self.happen(step);
        self.at_once();
        self.pipes.retain(|pipe| !pipe.is_over());
        for hub in &mut self.hubs {
            if !matches!(hub.session.state(), State::Frozen { .. }) {
                (hub.settling, hub.writing) = (false, false);
            }
        }
        self.judge();
    }

    pub fn happen(&mut self, step: &Step) {
        match *step {
            Step::Connect(hub) => self.connect(hub),
            Step::ClientTimer => self.client_timer(),
            Step::ClientSends => {
                self.budget.sends -= 1;
                self.ledger.sent += 1;
                self.client(Input::Send(Note { number: self.ledger.sent, heavy: false }));
            }
            Step::ClientReads(id) => self.client_reads(id),
            Step::HubReads(id) => self.hub_reads(id, false),
            Step::HubReadsOrphan(id) => {
                self.budget.orphans = self.budget.orphans.saturating_sub(1);
                self.hub_reads(id, true);
            }
            Step::Cut { id, lose_up } => {
                self.budget.cuts = self.budget.cuts.saturating_sub(1);
                if let Some(pipe) = self.pipe_mut(ConnectionId(u64::from(id))) {
                    pipe.cut(lose_up);
                }
            }
            Step::Arrive(index) => {
                let parcel = self.net.take(index);
                self.deliver(&parcel);
            }
            Step::ArriveTwice(index) => {
                self.budget.doubles -= 1;
                let parcel = self.net.get(index);
                self.deliver(&parcel);
            }
            Step::Publish(hub) => self.publish(hub),
            Step::Pump(hub) => self.pump(hub),
            Step::Take(hub) => self.take(hub),
            Step::Settled(hub) => self.settled(hub),
            Step::Written(hub, well) => self.written(hub, well),
            Step::TakeUp(hub) => self.take_up(hub),
            Step::Fire(hub, timer) => self.fire(hub, timer),
            Step::Silence(hub, id) => {
                self.budget.claim_limits = self.budget.claim_limits.saturating_sub(1);
                self.silence(hub, id);
            }
            Step::ClaimLimit(hub, id) => {
                self.budget.claim_limits = self.budget.claim_limits.saturating_sub(1);
                self.with_claim(hub, id, |claim, out| claim.on_limit(out));
            }
            Step::Push(..) | Step::Order(_) | Step::Cancel(_) | Step::Park(_) => self.manage(step),
            Step::Crash(hub) => {
                self.budget.crashes -= 1;
                self.crash(hub);
            }
            Step::End(hub) => {
                self.budget.ends -= 1;
                self.end(hub);
            }
            Step::Sleep(hub) => {
                self.budget.sleeps -= 1;
                self.sleep(hub);
            }
            Step::Wake(hub) => self.end(hub),
            Step::Learn(hub, gone) => self.learn(hub, gone),
            Step::DropBulk(hub) => {
                self.budget.bulk_ends -= 1;
                self.hubs[hub].shelf = Shelf::default();
            }
            Step::LateHello(hub, which) => self.late_hello(hub, which),
            Step::Evict(_) | Step::Expire(_) | Step::ClientDies | Step::Thief(_) | Step::Call(_) => self.outside(step),
        }
    }

    pub fn manage(&mut self, step: &Step) {
        match *step {
            Step::Push(hub, to) => {
                self.budget.pushes -= 1;
                self.hubs[hub].draining = true;
                self.feed(hub, Event::Push { to: hub_id(to), version: SNAPSHOT_VERSION });
            }
            Step::Order(hub) => {
                self.budget.orders -= 1;
                if let (Some(conn), Some(serial)) = (self.hubs[hub].session.counted(), self.hubs[hub].session.issue()) {
                    self.order(hub, conn, serial);
                }
            }
            Step::Cancel(hub) => {
                self.budget.cancels -= 1;
                self.cancel(hub);
            }
            Step::Park(hub) => {
                self.budget.parks -= 1;
                self.feed(hub, Event::Park);
            }
            _ => {}
        }
    }

    pub fn at_once(&mut self) {
        loop {
            let reads = |pipe: &&Pipe| self.grain.client_reads_at_once && pipe.client_open && !pipe.down.is_empty();
            if let Some(id) = self.pipes.iter().find(reads).map(|pipe| pipe.id) {
                self.client_reads(id);
                continue;
            }
            let orphan = |pipe: &Pipe| {
                self.budget.orphans > 0
                    && matches!(pipe.up.front(), Some(Up::Frame(ClientFrame::Hello(hello))) if may_be_orphaned(hello))
            };
            let hears = |pipe: &&Pipe| self.grain.hub_reads_at_once && self.hub_may_read(pipe) && !orphan(pipe);
            if let Some(id) = self.pipes.iter().find(hears).map(|pipe| pipe.id) {
                self.hub_reads(id, false);
                continue;
            }
            return;
        }
    }

    pub fn hub_reads(&mut self, id: u32, orphaned: bool) {
        let conn = ConnectionId(u64::from(id));
        let Some(pipe) = self.pipe_mut(conn) else { return };
        let (hub, Some(item)) = (pipe.hub, pipe.up.front().cloned()) else { return };
        if let Up::Message(message) = item
            && !self.receive(hub, id, message)
        {
            return;
        }
        if let Some(pipe) = self.pipe_mut(conn) {
            pipe.up.pop_front();
            if matches!(item, Up::Close(_) | Up::Cut) {
                pipe.hub_open = false;
                pipe.up.clear();
            }
        }
        match item {
            Up::Frame(ClientFrame::Hello(hello)) if hello.token.is_none() => {
                let mut out = Vec::new();
                self.hubs[hub].session = fresh(hub, conn, &mut out);
                self.population[hub] = 1;
                self.begin(hub, out);
            }
            Up::Frame(ClientFrame::Hello(_)) if self.mutant == Mutant::MessageBeforeWelcome => {
                if let Some(pipe) = self.pipe_mut(conn) {
                    pipe.write(Down::Message(Note { number: 1, heavy: false }));
                }
            }
            Up::Frame(ClientFrame::Hello(hello)) => self.greet(hub, id, &hello, orphaned && may_be_orphaned(&hello)),
            Up::Frame(ClientFrame::Ack { received }) => self.feed(hub, Event::Acked { conn, received }),
            Up::Frame(_) | Up::Message(_) => {}
            Up::Close(code) if client_ends_session(code) => {
                self.hubs[hub].claims.retain(|claim| claim.connection() != conn);
                self.feed(hub, Event::Bye { conn });
                self.feed(hub, Event::ConnectionLost { conn });
            }
            Up::Close(_) | Up::Cut => self.connection_lost(hub, id),
        }
    }

    pub fn publish(&mut self, hub: usize) {
        self.budget.publishes = self.budget.publishes.saturating_sub(1);
        self.number(hub);
    }

    /// A message towards the client.
    pub fn number(&mut self, hub: usize) {
        let number = self.ledger.numbered + 1;
        let message = Note { number, heavy: self.grain.heavy };
        if let Some(offset) = self.hubs[hub].session.number(message, false, &hub::LIMITS) {
            self.ledger.numbered = number;
            self.ledger.expect(offset == Offset(u64::from(number)), Fault::NumberedTwice);
        }
        if self.grain.hub_writes_at_once {
            self.pump(hub);
        }
    }

    pub fn fire(&mut self, hub: usize, timer: Timer) {
        let budget = &mut self.budget;
        let left = match timer {
            Timer::Freeze(_) => &mut budget.freeze_limits,
            Timer::Repeat(..) => &mut budget.repeats,
            Timer::CopyTtl(_) => &mut budget.copy_ends,
            Timer::CopyWait(_) => &mut budget.copy_waits,
            Timer::BulkWait(_) => &mut budget.bulk_waits,
            Timer::BulkReuse(_) => &mut budget.bulk_ends,
            Timer::Kept(_) => &mut budget.kept_ends,
        };
        *left = left.saturating_sub(1);
        if matches!(timer, Timer::CopyTtl(_) | Timer::Kept(_)) {
            self.ledger.data_lost = true;
        }
        self.hubs[hub].timers.remove(&timer);
        self.feed(hub, Event::Fired(timer));
    }

    /// The drain is cancelled: its client is recalled, a freeze under way ends by itself.
    pub fn cancel(&mut self, hub: usize) {
        let at = &mut self.hubs[hub];
        at.draining = false;
        at.seq += 1;
        let frame = ServerFrame::Recall { drain: drain_id(hub, at.run), seq: at.seq };
        if let Some(conn) = at.session.counted()
            && let Some(pipe) = self.pipe_mut(conn)
        {
            pipe.write(Down::Frame(Box::new(frame)));
        }
    }

    /// An old hello of this client comes (again) over a connection of its own.
    pub fn late_hello(&mut self, hub: usize, which: usize) {
        self.budget.late_hellos -= 1;
        let id = LATE + self.late;
        self.late += 1;
        let mut pipe = Pipe::new(id, hub);
        pipe.send(Up::Frame(ClientFrame::Hello(self.client.hellos[which].clone())));
        self.pipes.push(pipe);
    }

    /// What must hold between all of them at all times.
    pub fn judge(&mut self) {
        let acked = self.client.machine.unacked().base().0;
        let within = self.client.over || acked <= u64::from(self.ledger.taken);
        self.ledger.expect(within, Fault::AckedBeforeTaken);
    }

    pub fn begin(&mut self, hub: usize, out: Vec<tidegate_protocol::session::Action<Note>>) {
        let session: &Session<Note> = &self.hubs[hub].session;
        (self.ledger.owner, self.ledger.generation) = (Some((hub, 0)), session.generation());
        self.carry_out(hub, out);
    }
}
