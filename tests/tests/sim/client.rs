//! A client: the protocol's machine over simulated sockets, sending numbered messages at a random pace.

use crate::account::{Account, Over};
use crate::balancer::{self, Balancer};
use crate::chance::Chance;
use crate::trace::Trace;
use crate::wire::{Happening, Wire};
use http::Uri;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tidegate_protocol::client::{Action, Backoff, Client as Machine, Conn, Event, Report, Settings};
use tidegate_protocol::frame::{ServerFrame, Text, escape, sort};
use tidegate_protocol::id::ResumeToken;
use tidegate_protocol::position::Millis;
use tidegate_protocol::replay::ReplayLimits;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How long a closed wire may take to say its goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// What a client is told from outside.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Break the connection without a word.
    Cut,
    /// The process on this host is gone: connections to it are reset.
    Gone(String),
    /// Read nothing for so long, in milliseconds.
    Rest(u64),
    /// Send no more messages.
    Hush,
    /// A second client begins with a copy of all that this one knows.
    Double,
}

/// What a client needs to know.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) trace: Trace,
    pub(crate) account: Account,
    pub(crate) auth: Option<String>,
    /// The longest time between two messages, in milliseconds.
    pub(crate) pace_ms: u64,
}

struct Driver {
    place: Place,
    settings: Settings,
    start: Instant,
    machine: Machine<String>,
    wires: Vec<(Conn, Wire)>,
    /// Which host each connection leads to.
    hosts: BTreeMap<Conn, String>,
    leaving: Vec<(Instant, Wire)>,
    chance: Chance,
    sent: u64,
    next_send: Option<Instant>,
    reads_from: Instant,
}

/// Runs one client for as long as the simulation goes on.
pub(crate) async fn run(place: Place, chance: Chance, orders: mpsc::Receiver<Order>) {
    let driver = Driver::new(place, chance, Machine::new(), Instant::now(), 0);
    Box::pin(driver.run(orders)).await;
}

impl Driver {
    fn new(place: Place, mut chance: Chance, machine: Machine<String>, start: Instant, sent: u64) -> Self {
        let backoff = Backoff { floor_ms: 50, first_ms: 200, max_ms: 3_000, stable_ms: 5_000 };
        let settings = Settings {
            backoff,
            foreign_hosts: true,
            auth: place.auth.clone().map(ResumeToken),
            unacked: ReplayLimits { messages_max: 64, bytes_max: 64 << 10 },
            answer_ms: 6_000,
            ..Settings::new("ws://balancer/room")
        };
        let now = Instant::now();
        let next_send = Some(now + Duration::from_millis(chance.between(1, place.pace_ms)));
        Self {
            place,
            settings,
            start,
            machine,
            wires: Vec::new(),
            hosts: BTreeMap::new(),
            leaving: Vec::new(),
            chance,
            sent,
            next_send,
            reads_from: now,
        }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        self.step(Event::Timer);
        loop {
            let wake = self.wake_at();
            let reads = Instant::now() >= self.reads_from;
            let (wires, leaving) = (&mut self.wires, &mut self.leaving);
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.ordered(order),
                    None => return,
                },
                (conn, happening) = next(wires, leaving, reads) => self.happened(conn, happening),
                () = sleep_until(wake) => self.time(),
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let machine = self.machine.poll_timeout().map(|at| self.start + Duration::from_millis(at.0));
        let rest = Some(self.reads_from).filter(|from| *from > Instant::now());
        let leaving = self.leaving.iter().map(|(until, _)| *until).min();
        let never = Instant::now() + Duration::from_secs(3600);
        [machine, self.next_send, rest, leaving].into_iter().flatten().min().unwrap_or(never)
    }

    fn time(&mut self) {
        let now = Instant::now();
        self.leaving.retain(|(until, _)| *until > now);
        if self.machine.poll_timeout().is_some_and(|at| at <= self.now()) {
            self.step(Event::Timer);
        }
        if self.next_send.is_some_and(|at| at <= now) {
            self.next_send = Some(now + Duration::from_millis(self.chance.between(20, self.place.pace_ms)));
            let has_room = self.machine.unacked().has_room(32, &self.settings.unacked);
            if self.machine.session().is_some() && self.machine.ended().is_none() && has_room {
                self.sent += 1;
                let text = format!("u {}", self.sent);
                self.place.account.with_last(|part| part.sent.push(text.clone()));
                self.step(Event::Send(text));
            }
        }
    }

    fn ordered(&mut self, order: Order) {
        match order {
            Order::Cut => {
                for (conn, _) in std::mem::take(&mut self.wires) {
                    self.step(Event::Closed(conn, None));
                }
            }
            Order::Gone(host) => {
                let lost: Vec<Conn> = self
                    .wires
                    .iter()
                    .map(|(conn, _)| *conn)
                    .filter(|conn| self.hosts.get(conn) == Some(&host))
                    .collect();
                for conn in lost {
                    self.wires.retain(|(other, _)| *other != conn);
                    self.step(Event::Closed(conn, None));
                }
            }
            Order::Rest(ms) => self.reads_from = Instant::now() + Duration::from_millis(ms),
            Order::Hush => {
                self.next_send = None;
                self.reads_from = Instant::now();
            }
            Order::Double => self.double(),
        }
    }

    /// A duplicated tab: all that this client knows, in a second one. From here on the two fight.
    fn double(&mut self) {
        self.place.account.state().doubled = true;
        let place = Place { name: format!("{}'", self.place.name), ..self.place.clone() };
        let chance = Chance::new(self.chance.next());
        let mut twin = Self::new(place, chance, self.machine.clone(), self.start, self.sent);
        twin.next_send = None;
        // The copy's connections are not its own: it comes back with the token.
        if let Some(conn) = twin.machine.connection() {
            twin.step(Event::Closed(conn, None));
        }
        let (keep, orders) = mpsc::channel(1);
        tokio::spawn(async move {
            Box::pin(twin.run(orders)).await;
            drop(keep);
        });
    }

    fn happened(&mut self, conn: Conn, happening: Happening) {
        match happening {
            Happening::Opened => self.step(Event::Opened(conn)),
            Happening::Heard => self.step(Event::Heard(conn)),
            Happening::Closed(code, why) => {
                self.wires.retain(|(other, _)| *other != conn);
                self.place.trace.note(&self.place.name, format_args!("wire {} closed {code:?} {why}", conn.0));
                {
                    let mut state = self.place.account.state();
                    if let (Some(1012), "parked", Some(session)) = (code, why.as_str(), self.machine.session()) {
                        state.told_safe.push(session);
                    }
                    state.last_trouble = format!("{code:?} {why}");
                }
                self.step(Event::Closed(conn, code));
            }
            Happening::Text(text) => match sort(&text) {
                Text::App(message) => self.step(Event::App(conn, message.to_owned())),
                Text::Frame(json) => match ServerFrame::decode(json) {
                    Ok(frame) => self.frame(conn, frame),
                    Err(error) => self.place.trace.fault(format_args!("a frame that cannot be read: {error}")),
                },
            },
        }
    }

    fn frame(&mut self, conn: Conn, frame: ServerFrame) {
        let noticed = matches!(frame, ServerFrame::Notice(_));
        self.step(Event::Frame(conn, frame));
        if noticed {
            match self.chance.below(4) {
                0 => self.step(Event::Ready),
                1 => {
                    let ms = self.chance.between(200, 4_000);
                    self.step(Event::Busy { ms, why: Some("in the middle of a sentence".to_owned()) });
                }
                _ => {}
            }
        }
    }

    fn now(&self) -> Millis {
        Millis(self.start.elapsed().as_millis() as u64)
    }

    fn step(&mut self, event: Event<String>) {
        let (now, chance) = (self.now(), self.chance.next());
        for action in self.machine.step(&self.settings, now, chance, event) {
            self.carry_out(action);
        }
        let mut state = self.place.account.state();
        state.connected = self.machine.connection().is_some();
        state.unacked = self.machine.unacked().iter().count();
    }

    fn carry_out(&mut self, action: Action<String>) {
        match action {
            Action::Dial { conn, url } => {
                // A URL that names a hub alone stands for that hub: path and query are the client's own.
                let named = url.map(|url| format!("{}{}", url.trim_end_matches('/'), balancer::path(self.place.index)));
                let url = named.unwrap_or_else(|| self.place.balancer.route(self.place.index, &mut self.chance));
                self.place.trace.note(&self.place.name, format_args!("dials {url} as {}", conn.0));
                match url.parse::<Uri>() {
                    Ok(url) => {
                        self.hosts.insert(conn, url.host().unwrap_or_default().to_owned());
                        self.wires.push((conn, Wire::dial(url)));
                    }
                    Err(error) => self.place.trace.fault(format_args!("told to dial {url:?}: {error}")),
                }
            }
            Action::Send(conn, frame) => self.write(conn, frame.encode()),
            Action::Message(conn, text) => self.write(conn, escape(&text).into_owned()),
            Action::Close(conn, code, reason) => {
                if let Some(at) = self.wires.iter().position(|(other, _)| *other == conn) {
                    let (_, mut wire) = self.wires.swap_remove(at);
                    wire.close(code, &reason);
                    if wire.is_open() {
                        self.leaving.push((Instant::now() + GOODBYE, wire));
                    }
                }
            }
            Action::Deliver(text) => {
                let now_ms = self.place.trace.now_ms();
                self.place.trace.note(&self.place.name, format_args!("gets {text}"));
                self.place.account.with_last(|part| part.received.push((now_ms, text)));
            }
            Action::Report(report) => self.report(report),
        }
    }

    fn write(&mut self, conn: Conn, text: String) {
        if let Some((_, wire)) = self.wires.iter_mut().find(|(other, _)| *other == conn) {
            wire.send(text);
        }
    }

    fn report(&mut self, report: Report<String>) {
        let now_ms = self.place.trace.now_ms();
        self.place.trace.note(&self.place.name, format_args!("{report:?}"));
        let account = &self.place.account;
        match report {
            Report::Opened { session, .. } => account.begin(session, now_ms),
            Report::Reset { why, session, unsent, .. } => {
                account.with_last(|part| {
                    part.over = Some((now_ms, Over::Reset(why.to_string())));
                    part.unsent = unsent;
                });
                account.begin(session, now_ms);
            }
            Report::Gap { from, to, why } => account.with_last(|part| {
                part.gaps.push((part.received.len(), to.since(from), why.to_string()));
            }),
            Report::Ended { code, reason, unsent } => account.with_last(|part| {
                part.over = Some((now_ms, Over::Ended(code, reason.to_string())));
                part.unsent = unsent;
            }),
            Report::Refused(text) => self.place.trace.fault(format_args!("a message was refused: {text}")),
            Report::Moved { .. } | Report::Resumed { .. } | Report::Reconnecting { .. } => {}
            Report::Notice(_) | Report::Recalled => {}
        }
    }
}

/// The next thing that happens on any wire in use; goodbyes are written on the way.
async fn next(wires: &mut [(Conn, Wire)], leaving: &mut Vec<(Instant, Wire)>, reads: bool) -> (Conn, Happening) {
    poll_fn(|cx| {
        leaving.retain_mut(|(_, wire)| {
            loop {
                match wire.poll(true, cx) {
                    Poll::Ready(Happening::Closed(..)) => break false,
                    Poll::Ready(_) => {}
                    Poll::Pending => break true,
                }
            }
        });
        for (conn, wire) in wires.iter_mut() {
            if let Poll::Ready(happening) = wire.poll(reads, cx) {
                return Poll::Ready((*conn, happening));
            }
        }
        Poll::Pending
    })
    .await
}
