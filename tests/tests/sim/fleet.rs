//! A whole fleet in one simulation: hubs with their machines, apps, users, callers, and what is done to them.

use crate::account::{Account, Over};
use crate::app::{self, Apps};
use crate::balancer::{Balancer, Rule};
use crate::book::Book;
use crate::chance::Chance;
use crate::client::{self, Place};
use crate::machine::{Machine, PRIVATE_PORT, PUBLIC_PORT};
use crate::net;
use crate::ops::{self, Records, To};
use crate::schedule::{Shape, Step};
use crate::trace::Trace;
use crate::watch::Watch;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidegate::store::faulty::{Fault, Survives};
use tidegate_protocol::id::SessionId;
use tokio::sync::mpsc::{self, Receiver, Sender};
use turmoil::Sim;

/// Tasks that call the private API, each one call after the other. The first is the trigger.
const CALLERS: usize = 4;
/// Where they are.
const OPERATORS: &str = "operators";
/// How long what an ending process said last may be on its way.
const LAST_WORDS_MS: u64 = 150;
/// Orders that may wait for one client or caller; further ones are not given.
const ORDERS: usize = 256;
const USERS: u64 = 5;
const CHANNELS: [&str; 3] = ["red", "green", "blue"];

/// Everything that is simulated.
pub(crate) struct Fleet {
    pub(crate) sim: Sim<'static>,
    pub(crate) shape: Shape,
    pub(crate) machines: Vec<Arc<Machine>>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) book: Arc<Book>,
    pub(crate) records: Arc<Records>,
    pub(crate) watch: Watch,
    pub(crate) trace: Trace,
    balancer: Arc<Balancer>,
    clients: Vec<Sender<client::Order>>,
    callers: Vec<Sender<ops::Order>>,
    running: Vec<bool>,
    exited_ms: Vec<Option<u64>>,
    lines: BTreeMap<(String, String), Line>,
    chance: Chance,
}

/// What was done to a line between two hosts.
#[derive(Clone, Copy, Debug)]
enum Line {
    Cut,
    Held,
}

/// A client before it runs.
type User = (Place, Chance, Receiver<client::Order>);

/// Tasks of one host that begin with it; each host begins once.
struct Later<T>(RefCell<Vec<T>>);

impl<T> Later<T> {
    fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.borrow_mut())
    }
}

impl Fleet {
    pub(crate) fn new(seed: u64, shape: Shape, trace: Trace) -> Self {
        let mut chance = Chance::part(seed, "fleet");
        let slowest = chance.pick(&[5, 20, 80]);
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(chance.next())
            .epoch(net::epoch())
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis(chance.pick(&[2, 3, 5])))
            .tcp_capacity(chance.pick(&[64, 256, 1024]).max(shape.clients * 2))
            .min_message_latency(Duration::from_millis(0))
            .max_message_latency(Duration::from_millis(slowest));
        let mut fleet = Self {
            sim: builder.build(),
            machines: Vec::new(),
            accounts: Vec::new(),
            book: Arc::default(),
            records: Arc::default(),
            watch: Watch::default(),
            balancer: Arc::new(Balancer::new(chance.pick(&Rule::ALL), shape.hubs, shape.clients)),
            clients: Vec::new(),
            callers: Vec::new(),
            running: vec![true; shape.hubs],
            exited_ms: vec![None; shape.hubs],
            lines: BTreeMap::new(),
            trace,
            chance,
            shape,
        };
        fleet.apps();
        fleet.hubs(seed);
        fleet.users(seed);
        fleet.operators(seed);
        // The apps stand beside their hubs: near, and never cut off.
        for hub in 0..fleet.shape.hubs {
            fleet.sim.set_link_latency(app::HOST, format!("hub-{hub}"), Duration::from_millis(1));
        }
        fleet
    }

    fn apps(&mut self) {
        let hubs = self.shape.hubs;
        let push_every = Duration::from_millis(self.chance.between(150, 700));
        let apps = Apps { book: self.book.clone(), trace: self.trace.clone(), push_every };
        self.sim.host(app::HOST, move || apps.clone().run(hubs));
    }

    fn hubs(&mut self, seed: u64) {
        let fsync_ms = self.chance.pick(&[1, 20, 120]);
        let events = self.chance.percent(60);
        let named = self.chance.percent(60);
        let mut limits = Vec::new();
        if self.chance.percent(40) {
            limits.push(format!("--limit-unacked-messages={}", self.chance.between(8, 64)));
        }
        if self.chance.percent(30) {
            limits.push(format!("--limit-ring-messages={}", self.chance.between(1, 16)));
        }
        if self.chance.percent(20) {
            limits.push(format!("--limit-copies={}", self.chance.between(1, 8)));
        }
        for index in 0..self.shape.hubs {
            let mut argv = arguments(index, self.shape.hubs);
            if events {
                argv.push(format!("--app-events={}", app::events_url(index)));
            }
            if named {
                argv.push(format!("--public-url=ws://hub-{index}:{PUBLIC_PORT}"));
            }
            argv.extend(limits.iter().cloned());
            let machine = Machine::new(seed, index, argv, fsync_ms);
            self.machines.push(machine.clone());
            self.sim.host(machine.name.clone(), move || machine.clone().run());
        }
    }

    fn users(&mut self, seed: u64) {
        let pace_ms = self.chance.between(300, 2_000);
        let mut hosts: Vec<Vec<User>> = (0..self.shape.user_hosts).map(|_| Vec::new()).collect();
        for index in 0..self.shape.clients {
            let (tell, orders) = mpsc::channel(ORDERS);
            let place = Place {
                index,
                name: format!("client-{index}"),
                balancer: self.balancer.clone(),
                trace: self.trace.clone(),
                account: Account::default(),
                auth: Some(crate::jwt::token(&format!("user-{}", index as u64 % USERS))),
                pace_ms,
            };
            self.accounts.push(place.account.clone());
            self.clients.push(tell);
            let chance = Chance::part(seed, &place.name);
            hosts[index % self.shape.user_hosts].push((place, chance, orders));
        }
        for (host, users) in hosts.into_iter().enumerate() {
            let later = Later(RefCell::new(users));
            self.sim.host(format!("users-{host}"), move || {
                for (place, chance, orders) in later.take() {
                    tokio::spawn(client::run(place, chance, orders));
                }
                std::future::pending::<turmoil::Result>()
            });
        }
    }

    fn operators(&mut self, seed: u64) {
        let mut tasks = Vec::new();
        for number in 0..CALLERS {
            let (tell, orders) = mpsc::channel(ORDERS);
            self.callers.push(tell);
            let chance = Chance::part(seed, &format!("caller-{number}"));
            tasks.push((number, orders, self.records.clone(), self.trace.clone(), chance));
        }
        let later = Later(RefCell::new(tasks));
        let machines = self.machines.clone();
        self.sim.host(OPERATORS, move || {
            for (number, orders, records, trace, chance) in later.take() {
                let machines = machines.clone();
                tokio::spawn(ops::caller(number, orders, records, machines, trace, chance));
            }
            std::future::pending::<turmoil::Result>()
        });
    }

    /// Simulated time goes on by one tick; then everything is looked at that must hold in every moment.
    pub(crate) fn tick(&mut self) {
        self.trace.set_now(self.sim.elapsed().as_millis() as u64);
        if let Err(error) = self.sim.step() {
            self.trace.fault(format_args!("a simulated host failed: {error}"));
        }
        self.watch.look(&self.machines, &self.trace);
        for account in &self.accounts {
            let told = std::mem::take(&mut account.state().told_safe);
            for session in told {
                if let Err(why) = self.watch.told_safe(session, &self.machines) {
                    self.trace.fault(why);
                }
            }
        }
        for hub in 0..self.machines.len() {
            self.watch.stranded.extend(self.machines[hub].left());
            if let Some(why) = self.machines[hub].failure() {
                self.trace.note(&self.machines[hub].name, format_args!("could not start: {why}"));
            }
            if self.running[hub] && self.machines[hub].has_exited() {
                let now_ms = self.trace.now_ms();
                // Its last words still arrive.
                if now_ms > *self.exited_ms[hub].get_or_insert(now_ms) + LAST_WORDS_MS {
                    self.take_away(hub, Survives::All);
                }
            }
        }
    }

    /// The rest of a process that ended, or all of one that is killed. What it would still say is lost: its
    /// tasks end in an order that is not the seed's, so nothing may leave the host meanwhile.
    fn take_away(&mut self, hub: usize, survives: Survives) {
        let name = self.machines[hub].name.clone();
        self.trace.note(&name, format_args!("is gone, {survives:?} of its disk survives"));
        let others: Vec<String> = self.hosts().into_iter().filter(|host| *host != name).collect();
        for other in &others {
            self.sim.partition(name.as_str(), other.as_str());
        }
        self.sim.crash(name.as_str());
        for other in &others {
            self.mend(&name, other);
            self.cut_again(&name, other);
        }
        self.machines[hub].gone(survives);
        self.running[hub] = false;
        self.exited_ms[hub] = None;
        self.balancer.set(hub, false);
        if survives == Survives::All {
            // The machine is well: its kernel resets the process's connections.
            self.clients(1, &client::Order::Gone(name));
        }
    }

    /// Every host.
    fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.machines.iter().map(|machine| machine.name.clone()).collect();
        hosts.extend((0..self.shape.user_hosts).map(|host| format!("users-{host}")));
        hosts.extend([app::HOST.to_owned(), OPERATORS.to_owned()]);
        hosts
    }

    /// What the schedule did to a line is done to it still.
    fn cut_again(&mut self, a: &str, b: &str) {
        let line = |x: &str, y: &str| self.lines.get(&(x.to_owned(), y.to_owned())).copied();
        match line(a, b).or(line(b, a)) {
            Some(Line::Cut) => self.sim.partition(a, b),
            Some(Line::Held) => self.sim.hold(a, b),
            None => {}
        }
    }

    fn start(&mut self, hub: usize) {
        if !self.running[hub] {
            self.trace.note(&self.machines[hub].name, "starts");
            self.sim.bounce(self.machines[hub].name.as_str());
            self.running[hub] = true;
        }
        self.balancer.set(hub, true);
    }

    pub(crate) fn is_running(&self, hub: usize) -> bool {
        self.running[hub]
    }

    /// Does one step of the schedule.
    pub(crate) fn act(&mut self, step: &Step) {
        self.trace.note("step", format_args!("{step:?}"));
        match step.clone() {
            Step::Drain { hub, policy } => self.order(0, ops::Order::Drain { hub, policy }),
            Step::Cancel { hub } => self.order(0, ops::Order::Cancel { hub }),
            Step::Terminate { hub } => {
                self.watch.stop(&self.machines[hub]);
                if self.running[hub] {
                    self.machines[hub].terminate.notify_one();
                }
            }
            Step::Hurry { hub } if self.running[hub] => self.machines[hub].hurry.notify_one(),
            Step::Crash { hub, survives } if self.running[hub] => {
                self.watch.crash(&self.machines[hub], self.trace.now_ms());
                self.take_away(hub, survives);
            }
            Step::Hurry { .. } | Step::Crash { .. } => {}
            Step::DiskRefuses { hub, nth } => {
                self.machines[hub].disk().fail_at(nth, Fault::Refuse);
            }
            Step::DiskRoom { hub, bytes } => self.machines[hub].disk().set_capacity_bytes(bytes),
            Step::Start { hub } => self.start(hub),
            Step::Balance { hub, is_in } => self.balancer.set(hub, is_in && self.running[hub]),
            Step::Cut { a, b } => self.disturb(a, b, Line::Cut),
            Step::Hold { a, b } => self.disturb(a, b, Line::Held),
            Step::Mend { a, b } => {
                self.lines.remove(&(a.clone(), b.clone()));
                self.mend(&a, &b);
            }
            Step::DropLines { every } => self.clients(every, &client::Order::Cut),
            Step::Rest { every, ms } => self.clients(every, &client::Order::Rest(ms)),
            Step::Double { client } => drop(self.clients[client].try_send(client::Order::Double)),
            Step::Publish { times } => (0..times).for_each(|_| self.publish()),
            Step::Channels { times } => (0..times).for_each(|_| self.channels()),
        }
    }

    fn disturb(&mut self, a: String, b: String, line: Line) {
        self.lines.insert((a.clone(), b.clone()), line);
        self.cut_again(&a, &b);
    }

    fn mend(&mut self, a: &str, b: &str) {
        self.sim.repair(a, b);
        self.sim.release(a, b);
    }

    fn clients(&mut self, every: usize, order: &client::Order) {
        for client in self.clients.iter().step_by(every.max(1)) {
            // A client's task ends only with the simulation.
            drop(client.try_send(order.clone()));
        }
    }

    fn order(&mut self, caller: usize, order: ops::Order) {
        drop(self.callers[caller].try_send(order));
    }

    fn some_session(&mut self) -> Option<SessionId> {
        let client = self.chance.below(self.accounts.len() as u64) as usize;
        self.accounts[client].state().parts.last().map(|part| part.session)
    }

    fn publish(&mut self) {
        let hub = self.chance.below(self.shape.hubs as u64) as usize;
        let to = match self.chance.below(4) {
            0 => To::All,
            1 => To::User(format!("user-{}", self.chance.below(USERS))),
            2 => To::Channel(self.chance.pick(&CHANNELS).to_owned()),
            _ => match self.some_session() {
                Some(session) => To::Session(session),
                None => return,
            },
        };
        let caller = self.chance.between(1, CALLERS as u64 - 1) as usize;
        let key = self.chance.percent(50);
        self.order(caller, ops::Order::Publish { hub, to, key });
    }

    fn channels(&mut self) {
        let hub = self.chance.below(self.shape.hubs as u64) as usize;
        let channel = self.chance.pick(&CHANNELS).to_owned();
        let Some(session) = self.some_session() else { return };
        let caller = self.chance.between(1, CALLERS as u64 - 1) as usize;
        let order = match self.chance.percent(70) {
            true => ops::Order::Join { hub, session, channel },
            false => ops::Order::Leave { hub, session, channel },
        };
        self.order(caller, order);
    }

    /// All trouble ends: lines are mended, disks are well, hubs run and serve.
    pub(crate) fn heal(&mut self) {
        self.trace.note("step", "heal");
        self.lines.clear();
        let hosts = self.hosts();
        for (at, a) in hosts.iter().enumerate() {
            for b in &hosts[at + 1..] {
                self.mend(a, b);
            }
        }
        for hub in 0..self.machines.len() {
            let disk = self.machines[hub].disk();
            disk.set_capacity_bytes(None);
            disk.restart_process();
            self.start(hub);
        }
    }

    /// Drains are called off, so that every hub serves; reports are fetched.
    pub(crate) fn serve_again(&mut self) {
        for hub in 0..self.machines.len() {
            self.order(0, ops::Order::Report { hub });
            self.order(0, ops::Order::Cancel { hub });
        }
    }

    /// Clients fall silent.
    pub(crate) fn hush(&mut self) {
        self.clients(1, &client::Order::Hush);
        self.book.hush();
    }

    /// Who is not at rest yet, if anybody.
    pub(crate) fn unsettled(&self) -> Option<String> {
        for (client, account) in self.accounts.iter().enumerate() {
            let state = account.state();
            if state.doubled {
                continue;
            }
            let Some(part) = state.parts.last() else { return Some(format!("client {client} has no session")) };
            let over = matches!(part.over, Some((_, Over::Ended(..))));
            if !over && (!state.connected || state.unacked > 0) {
                let trouble = &state.last_trouble;
                return Some(format!(
                    "client {client} ({}) is {}, {} messages unacked, last trouble {trouble}",
                    part.session,
                    if state.connected { "connected" } else { "without a connection" },
                    state.unacked
                ));
            }
        }
        None
    }
}

fn arguments(index: usize, hubs: usize) -> Vec<String> {
    let mut argv: Vec<String> =
        ["tidegate", "serve", "--public=0.0.0.0:8080", "--private=0.0.0.0:8081", "--insecure-private"]
            .map(str::to_owned)
            .to_vec();
    argv.push(format!("--app={}", app::socket_url(index)));
    argv.push(format!("--peer-url=http://hub-{index}:{PRIVATE_PORT}"));
    argv.extend((0..hubs).map(|peer| format!("--peer=http://hub-{peer}:{PRIVATE_PORT}")));
    argv.extend(["--cluster-key-file=unused", "--data-dir=unused", "--stop-deadline=6s"].map(str::to_owned));
    argv.extend(crate::jwt::arguments());
    argv.extend(["--limit-heartbeat=4s", "--log-level=off"].map(str::to_owned));
    argv
}
