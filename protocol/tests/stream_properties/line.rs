//! The session machine and the client machine, with lines between them that are cut at any place. What travels
//! is the text that would travel, through the codec both ways.

use std::collections::{BTreeMap, VecDeque};
use tidegate_protocol::client::{self, Client, Conn, Settings};
use tidegate_protocol::frame::{ClientFrame, Hello, ServerFrame, Text, Welcome, WireLimits, escape, sort};
use tidegate_protocol::id::{ConnectionId, DrainId, HubId, ResumeToken, SessionId};
use tidegate_protocol::position::{Epoch, Millis, Offset};
use tidegate_protocol::replay::ReplayLimits;
use tidegate_protocol::session::record::{HelloFacts, Profile, Record};
use tidegate_protocol::session::{Action, Event, Item, Receipt, Session};

const ME: HubId = HubId(9);
/// Rounds in which everything must have arrived once nothing is cut any more.
const ROUNDS_MAX: usize = 400;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The client's app sends a text with so many marks in front.
    ClientSends(u8),
    /// The hub's app sends one.
    HubNumbers(u8),
    /// The hub writes so many messages to the counted connection.
    HubWrites(u8),
    /// So much of one line reaches the hub.
    CarryUp(u8, u8),
    /// So much of one line reaches the client.
    CarryDown(u8, u8),
    AppTakes(u8),
    HubAcks,
    Timer,
    /// A line breaks, with everything on it; both ends hear of it.
    Cut(u8),
    /// A line breaks, and the hub does not hear of it.
    CutUnnoticed(u8),
    /// The hub asks the client to come by another line.
    HubOrders,
}

#[derive(Debug)]
enum Bit {
    Text(String),
    Close(u16),
}

#[derive(Debug, Default)]
struct Wire {
    up: VecDeque<Bit>,
    down: VecDeque<Bit>,
}

pub(crate) struct Line {
    settings: Settings,
    limits: ReplayLimits,
    client: Client<String>,
    session: Option<Session<String>>,
    wires: BTreeMap<u32, Wire>,
    now: Millis,
    orders: u32,
    /// The newest connection that asked for a new session.
    began_on: u32,
    /// What each side's app has said, in order, and what the other side's app has heard of it.
    client_said: Vec<String>,
    app_heard: Vec<String>,
    app_said: Vec<String>,
    /// How much of what the app said has reached the client, or was declared lost.
    client_at: usize,
    lost: usize,
}

fn conn_of(id: ConnectionId) -> u32 {
    id.0 as u32
}

fn marked(marks: u8, text: &str) -> String {
    format!("{}{text}", "\u{1}".repeat(usize::from(marks)))
}

impl Line {
    pub(crate) fn new(kept: usize, unacked: usize) -> Self {
        let mut settings = Settings::new("ws://hub.example/connect");
        settings.unacked = ReplayLimits { messages_max: unacked, bytes_max: 10_000 };
        (settings.ack_messages, settings.ack_ms) = (2, 50);
        Self {
            settings,
            limits: ReplayLimits { messages_max: kept, bytes_max: 10_000 },
            client: Client::new(),
            session: None,
            wires: BTreeMap::new(),
            now: Millis(0),
            orders: 0,
            began_on: 0,
            client_said: Vec::new(),
            app_heard: Vec::new(),
            app_said: Vec::new(),
            client_at: 0,
            lost: 0,
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        self.now = self.now.plus(3);
        match step {
            Step::ClientSends(marks) => self.client_sends(marks),
            Step::HubNumbers(marks) => self.hub_numbers(marks),
            Step::HubWrites(count) => self.hub_writes(count),
            Step::CarryUp(which, count) => self.of(which).into_iter().for_each(|conn| self.carry_up(conn, count)),
            Step::CarryDown(which, count) => self.of(which).into_iter().for_each(|conn| self.carry_down(conn, count)),
            Step::AppTakes(count) => (0..count).for_each(|_| self.app_takes()),
            Step::HubAcks => self.hub_acks(),
            Step::Timer => self.timer(),
            Step::Cut(which) => self.cut(which, true),
            Step::CutUnnoticed(which) => self.cut(which, false),
            Step::HubOrders => self.hub_orders(),
        }
    }

    fn of(&self, which: u8) -> Option<u32> {
        self.wires.keys().nth(usize::from(which) % self.wires.len().max(1)).copied()
    }

    fn client_sends(&mut self, marks: u8) {
        let text = marked(marks, &format!("c{}", self.client_said.len() + 1));
        self.client_said.push(text.clone());
        self.tell_client(client::Event::Send(text));
    }

    fn hub_numbers(&mut self, marks: u8) {
        let text = marked(marks, &format!("h{}", self.app_said.len() + 1));
        if let Some(session) = &mut self.session
            && let Some(offset) = session.number(text.clone(), true, &self.limits)
        {
            self.app_said.push(text);
            assert_eq!(offset, Offset(self.app_said.len() as u64), "numbered in order, without holes");
        }
    }

    fn hub_writes(&mut self, count: u8) {
        let Some(session) = &mut self.session else { return };
        let Some(counted) = session.counted() else { return };
        for _ in 0..count {
            let text = match session.next_for(counted) {
                Some(Item::Message(text)) => escape(&text).into_owned(),
                Some(Item::Gap { from, to }) => ServerFrame::Gap { from, to, why: "slow_consumer".into() }.encode(),
                None => return,
            };
            // A line that broke unnoticed takes what is written to it nowhere.
            if let Some(wire) = self.wires.get_mut(&conn_of(counted)) {
                wire.down.push_back(Bit::Text(text));
            }
        }
    }

    fn app_takes(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Some(oldest) = session.record().and_then(|record| record.untaken.front().cloned()) else { return };
        self.app_heard.push(oldest);
        self.tell_session(Event::Taken);
    }

    fn hub_acks(&mut self) {
        let Some(session) = &self.session else { return };
        let (Some(counted), Some(record)) = (session.counted(), session.record()) else { return };
        let ack = ServerFrame::Ack { received: record.taken() };
        self.say_to(counted, &ack);
    }

    fn hub_orders(&mut self) {
        let Some(session) = &mut self.session else { return };
        let (Some(counted), Some(serial)) = (session.counted(), session.issue()) else { return };
        self.orders += 1;
        let order = ServerFrame::Move {
            drain: DrainId(1),
            seq: self.orders,
            token: ResumeToken(serial.to_string()),
            url: None,
        };
        self.say_to(counted, &order);
    }

    fn say_to(&mut self, conn: ConnectionId, frame: &ServerFrame) {
        if let Some(wire) = self.wires.get_mut(&conn_of(conn)) {
            wire.down.push_back(Bit::Text(frame.encode()));
        }
    }

    fn timer(&mut self) {
        if let Some(at) = self.client.poll_timeout() {
            self.now = self.now.max(at);
            self.tell_client(client::Event::Timer);
        }
    }

    fn cut(&mut self, which: u8, noticed: bool) {
        let Some(conn) = self.of(which) else { return };
        self.wires.remove(&conn);
        if noticed {
            self.tell_session(Event::ConnectionLost { conn: ConnectionId(u64::from(conn)) });
        }
        self.tell_client(client::Event::Closed(Conn(conn), None));
    }

    fn carry_up(&mut self, conn: u32, count: u8) {
        for _ in 0..count {
            let Some(bit) = self.wires.get_mut(&conn).and_then(|wire| wire.up.pop_front()) else { return };
            let from = ConnectionId(u64::from(conn));
            match bit {
                Bit::Text(text) => self.hub_reads(from, &text),
                Bit::Close(_) => {
                    self.wires.remove(&conn);
                    self.tell_session(Event::ConnectionLost { conn: from });
                }
            }
        }
    }

    fn hub_reads(&mut self, conn: ConnectionId, text: &str) {
        match sort(text) {
            Text::App(text) => {
                let session = self.session.as_mut().expect("no app message travels before welcome");
                let receipt = session.receive(conn, text.to_owned());
                assert!(matches!(receipt, Receipt::Counted | Receipt::Deaf), "nobody freezes here: {receipt:?}");
            }
            Text::Frame(json) => match ClientFrame::decode(json).expect("what the client says can be read") {
                ClientFrame::Hello(hello) => self.hello(conn, &hello),
                ClientFrame::Ack { received } => self.tell_session(Event::Acked { conn, received }),
                ClientFrame::Ping {} | ClientFrame::Pong {} => {}
                other => panic!("nobody asked for {other:?}"),
            },
        }
    }

    fn hello(&mut self, conn: ConnectionId, hello: &Hello) {
        let Some(token) = &hello.token else { return self.begin(conn, hello.attempt) };
        let facts = HelloFacts {
            serial: token.0.parse().expect("a token that was issued"),
            attempt: hello.attempt,
            old: hello.old,
            received: hello.received,
            epoch: hello.epoch,
        };
        self.tell_session(Event::Hello { conn, hello: facts, leaving: None });
    }

    /// A client that was never welcomed has no token: each of its hellos is for a session of its own, and it
    /// listens to the newest alone. What the app said to an older one is nobody's.
    fn begin(&mut self, conn: ConnectionId, attempt: u32) {
        if conn_of(conn) < self.began_on {
            return;
        }
        assert!(self.client.session().is_none() && self.client_at == 0, "only who was never welcomed begins anew");
        self.began_on = conn_of(conn);
        (self.app_said, self.app_heard) = (Vec::new(), Vec::new());
        let mut out = Vec::new();
        let record = Record::new(Epoch(1), Profile::default());
        self.session = Some(Session::begin(SessionId(1), ME, record, conn, attempt, &mut out));
        self.carry_out(out);
    }

    fn carry_down(&mut self, conn: u32, count: u8) {
        for _ in 0..count {
            let Some(bit) = self.wires.get_mut(&conn).and_then(|wire| wire.down.pop_front()) else { return };
            match bit {
                Bit::Text(text) => match sort(&text) {
                    Text::App(text) => self.tell_client(client::Event::App(Conn(conn), text.to_owned())),
                    Text::Frame(json) => {
                        let frame = ServerFrame::decode(json).expect("what the hub says can be read");
                        self.tell_client(client::Event::Frame(Conn(conn), frame));
                    }
                },
                Bit::Close(code) => {
                    self.wires.remove(&conn);
                    self.tell_client(client::Event::Closed(Conn(conn), Some(code)));
                }
            }
        }
    }

    fn tell_session(&mut self, event: Event<String>) {
        let mut out = Vec::new();
        if let Some(session) = &mut self.session {
            session.handle(event, &mut out);
        }
        self.carry_out(out);
    }

    fn carry_out(&mut self, actions: Vec<Action<String>>) {
        for action in actions {
            match action {
                Action::Welcome { conn, serial, resumed, from, received } => {
                    let welcome = Welcome {
                        session: SessionId(1),
                        token: ResumeToken(serial.to_string()),
                        epoch: Epoch(1),
                        generation: tidegate_protocol::position::Generation(1),
                        resumed,
                        from,
                        received,
                        heartbeat_ms: 0,
                        hub: ME,
                        protocol: None,
                        auth_expires_ms: None,
                        limits: WireLimits { message_bytes: 1_000 },
                    };
                    self.say_to(conn, &ServerFrame::Welcome(welcome));
                }
                Action::Close { conn, close, .. } => {
                    if let Some(wire) = self.wires.get_mut(&conn_of(conn)) {
                        wire.down.push_back(Bit::Close(close.code()));
                    }
                }
                Action::Wake => {}
                other => panic!("nothing moves here: {other:?}"),
            }
        }
    }

    fn tell_client(&mut self, event: client::Event<String>) {
        for action in self.client.step(&self.settings, self.now, 7, event) {
            match action {
                client::Action::Dial { conn, .. } => {
                    self.wires.insert(conn.0, Wire::default());
                    self.tell_client(client::Event::Opened(conn));
                }
                client::Action::Send(conn, frame) => self.write_up(conn, Bit::Text(frame.encode())),
                client::Action::Message(conn, text) => self.write_up(conn, Bit::Text(escape(&text).into_owned())),
                client::Action::Close(conn, code, _) => self.write_up(conn, Bit::Close(code)),
                client::Action::Deliver(text) => {
                    assert_eq!(self.app_said.get(self.client_at), Some(&text), "each once, in order, without a hole");
                    self.client_at += 1;
                }
                client::Action::Report(report) => self.reported(report),
            }
        }
    }

    fn write_up(&mut self, conn: Conn, bit: Bit) {
        if let Some(wire) = self.wires.get_mut(&conn.0) {
            wire.up.push_back(bit);
        }
    }

    fn reported(&mut self, report: client::Report<String>) {
        match report {
            client::Report::Gap { from, to, .. } => {
                assert_eq!(from, Offset(self.client_at as u64), "a gap begins where the client is");
                self.lost += (to.0 - from.0) as usize;
                self.client_at = to.0 as usize;
            }
            client::Report::Refused(text) => {
                assert_eq!(self.client_said.pop(), Some(text), "what finds no room comes back at once");
            }
            client::Report::Opened { .. }
            | client::Report::Moved { .. }
            | client::Report::Resumed { .. }
            | client::Report::Reconnecting { .. } => {}
            other => panic!("continuity is never lost here: {other:?}"),
        }
    }

    /// Nothing is cut any more: everything arrives, both ways, and both ends agree.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.timer();
            let lines: Vec<u32> = self.wires.keys().copied().collect();
            for conn in lines {
                self.carry_up(conn, u8::MAX);
                self.hub_writes(u8::MAX);
                self.carry_down(conn, u8::MAX);
                self.carry_up(conn, u8::MAX);
            }
            (0..=u8::MAX).for_each(|_| self.app_takes());
            self.hub_acks();
            if self.is_settled() {
                break;
            }
        }
        assert!(self.is_settled(), "it does not settle: {:?} {:?}", self.client, self.session);
        assert_eq!(self.app_heard, self.client_said, "the client's own: each once, in order");
        let session = self.session.as_ref().expect("a client gets a session");
        let record = session.record().expect("it is served");
        assert_eq!(record.received, Offset(self.client_said.len() as u64), "counted alike at both ends");
        assert_eq!(self.client.received(), record.outbox.end(), "and so the other way");
        assert_eq!(self.client_at, self.app_said.len());
        assert!(self.lost <= self.app_said.len(), "no more can be lost than was said");
    }

    fn is_settled(&self) -> bool {
        let served = self.session.as_ref().is_some_and(|session| session.counted().is_some());
        served
            && self.client.connection().is_some()
            && self.client_at == self.app_said.len()
            && self.app_heard.len() == self.client_said.len()
            && self.client.unacked().iter().next().is_none()
    }
}
