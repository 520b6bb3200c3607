//! One load client: the protocol's client machine, driven over real WebSockets, with a ledger.

use super::ledger::{Account, AppSum, Line, Seen, reconcile, reconcile_acks, reconcile_echo};
use super::swarm::{App, Plan, Pulse, Stage};
use super::wire::{Happening, Wire};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;
use tidegate_protocol::client::{Action, Client, Conn, Event, Report};
use tidegate_protocol::frame::{ClientFrame, ServerFrame, Text, escape, sort};
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::position::Millis;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What one client has to say in the end.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Its number in the swarm.
    pub(crate) index: usize,
    /// Its last session.
    pub(crate) session: Option<SessionId>,
    /// The hub that welcomed it first.
    pub(crate) first_hub: Option<HubId>,
    /// The hub that welcomed it last.
    pub(crate) last_hub: Option<HubId>,
    /// What was lost, doubled, reordered.
    pub(crate) account: Account,
    /// Whether the app told its side; without it nothing is proved.
    pub(crate) answered: bool,
    /// Gaps that the hub declared.
    pub(crate) declared_gaps: u64,
    /// How often continuity was lost.
    pub(crate) resets: u64,
    /// Moves while the old connection worked.
    pub(crate) moves: u64,
    /// Returns after the connection had been lost.
    pub(crate) resumes: u64,
    /// Longest time without a usable connection around a change of connection.
    pub(crate) gap_us: Option<u64>,
    /// Numbered messages sent.
    pub(crate) sent_up: u64,
    /// Numbered messages received.
    pub(crate) received_down: u64,
    /// How the session ended before we ended it.
    pub(crate) ended: Option<String>,
}

/// What the client is doing beside keeping its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// No traffic yet.
    Joining,
    /// One message at each of these moments.
    Sending { next: Instant },
    /// Traffic is over; the account is being settled.
    Settling { asked: bool },
    /// Settled, or never to be.
    Done,
}

struct Driver {
    plan: Arc<Plan>,
    pulse: Arc<Pulse>,
    machine: Client<String>,
    wires: Vec<(Conn, Wire)>,
    duty: Duty,
    down: Seen,
    declared: u64,
    sum: Option<AppSum>,
    /// Whether it was ordered to move.
    ordered: bool,
    hello_at: Option<Instant>,
    lost_at: Option<Instant>,
    last_why: String,
    chance: u64,
    goodbye: Option<JoinHandle<()>>,
    outcome: Outcome,
}

/// Runs one client until its account is settled or the swarm stops.
pub(crate) async fn run(
    index: usize,
    plan: Arc<Plan>,
    pulse: Arc<Pulse>,
    mut stage: watch::Receiver<Stage>,
) -> Outcome {
    let mut driver = Driver {
        chance: plan.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        plan,
        pulse,
        machine: Client::new(),
        wires: Vec::with_capacity(2),
        duty: Duty::Joining,
        down: Seen::default(),
        declared: 0,
        sum: None,
        ordered: false,
        hello_at: None,
        lost_at: None,
        last_why: String::new(),
        goodbye: None,
        outcome: Outcome { index, ..Outcome::default() },
    };
    driver.step(Event::Timer);
    while driver.duty != Duty::Done {
        let wake = driver.wake_at();
        tokio::select! {
            (conn, happening) = next(&mut driver.wires) => driver.happened(conn, happening),
            () = sleep_until(wake) => driver.time(),
            changed = stage.changed() => {
                let now = *stage.borrow_and_update();
                driver.enter(if changed.is_ok() { now } else { Stage::Stop });
            }
        }
    }
    driver.finish().await
}

/// The next thing that happens on any of the (at most two) wires.
async fn next(wires: &mut [(Conn, Wire)]) -> (Conn, Happening) {
    std::future::poll_fn(|cx| {
        for (conn, wire) in wires.iter_mut() {
            if let Poll::Ready(happening) = wire.poll(cx) {
                return Poll::Ready((*conn, happening));
            }
        }
        Poll::Pending
    })
    .await
}

impl Driver {
    fn now(&self) -> Millis {
        Millis(self.plan.start.elapsed().as_millis() as u64)
    }

    /// When something is due without anything arriving; an hour stands for never.
    fn wake_at(&self) -> Instant {
        let machine = self.machine.poll_timeout().map(|at| self.plan.start + Duration::from_millis(at.0));
        let traffic = match self.duty {
            Duty::Sending { next } => Some(next),
            Duty::Joining | Duty::Settling { .. } | Duty::Done => None,
        };
        let never = Instant::now() + Duration::from_secs(3600);
        [machine, traffic].into_iter().flatten().min().unwrap_or(never)
    }

    fn time(&mut self) {
        if self.machine.poll_timeout().is_some_and(|at| at <= self.now()) {
            self.step(Event::Timer);
        }
        if let Duty::Sending { next } = self.duty
            && next <= Instant::now()
        {
            // Late ticks are made up for, so that a frozen moment does not thin the traffic.
            self.duty = Duty::Sending { next: next + self.plan.interval };
            self.send_up();
        }
        self.settle();
    }

    fn has_room(&self) -> bool {
        self.machine.unacked().has_room(24, &self.plan.settings.unacked)
    }

    fn send_up(&mut self) {
        if self.has_room() {
            self.outcome.sent_up += 1;
            self.pulse.up.fetch_add(1, Relaxed);
            self.step(Event::Send(format!("u {}", self.outcome.sent_up)));
        }
    }

    fn enter(&mut self, stage: Stage) {
        match stage {
            Stage::Joining => {}
            Stage::Traffic if self.outcome.index % 100 >= self.plan.talking => {}
            Stage::Traffic => {
                // Spread over one interval, so that the clients do not all send in the same instant.
                let part = (self.outcome.index % 64) as u32;
                self.duty = Duty::Sending { next: Instant::now() + self.plan.interval * part / 64 };
            }
            Stage::Settling => {
                self.duty = Duty::Settling { asked: false };
                self.settle();
            }
            Stage::Stop => self.duty = Duty::Done,
        }
    }

    /// In the end: asks the app for its account, or waits for what is still on its way.
    fn settle(&mut self) {
        let Duty::Settling { asked } = self.duty else { return };
        if self.outcome.resets > 0 {
            return self.duty = Duty::Done;
        }
        let complete = match self.plan.app {
            App::Kitchen => {
                if !asked && self.has_room() {
                    self.duty = Duty::Settling { asked: true };
                    self.step(Event::Send("sum".to_owned()));
                }
                self.sum.is_some()
            }
            App::Echo => self.down.received() + self.declared >= self.outcome.sent_up,
            App::None => {
                let pushed = self.pulse.pushed.load(Relaxed);
                self.machine.unacked().iter().next().is_none() && self.down.received() + self.declared >= pushed
            }
        };
        if complete {
            self.outcome.answered = true;
            self.duty = Duty::Done;
        }
    }

    fn happened(&mut self, conn: Conn, happening: Happening) {
        match happening {
            Happening::Opened => self.step(Event::Opened(conn)),
            Happening::Heard => self.step(Event::Heard(conn)),
            Happening::Binary => self.step(Event::App(conn, "a binary message".to_owned())),
            Happening::Closed(code, why) => {
                self.wires.retain(|(other, _)| *other != conn);
                self.last_why = why;
                let slot_ms =
                    code.and_then(|code| Some((code, tidegate_protocol::close::slot_ms(code, &self.last_why)?)));
                self.step(match slot_ms {
                    Some((code, after_ms)) => Event::ClosedUntil { conn, code, after_ms },
                    None => Event::Closed(conn, code),
                });
            }
            Happening::Text(text) => match sort(&text) {
                Text::App(message) => self.step(Event::App(conn, message.to_owned())),
                Text::Frame(json) => match ServerFrame::decode(json) {
                    Ok(frame) => {
                        // What a hub says once more while it closes is the same order.
                        if matches!(frame, ServerFrame::Move { .. }) && !std::mem::replace(&mut self.ordered, true) {
                            self.pulse.released.note(self.plan.start.elapsed());
                        }
                        self.step(Event::Frame(conn, frame));
                    }
                    Err(error) => {
                        self.outcome.account.faults.push(format!("the hub sent a frame we cannot read: {error}"));
                        self.duty = Duty::Done;
                    }
                },
            },
        }
        self.settle();
    }

    fn step(&mut self, event: Event<String>) {
        self.chance = splitmix(self.chance);
        let now = self.now();
        let plan = Arc::clone(&self.plan);
        for action in self.machine.step(&plan.settings, now, self.chance, event) {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action<String>) {
        match action {
            Action::Dial { conn, url } => {
                let url = self.plan.target(url.as_deref());
                self.wires.push((conn, Wire::dial(url, self.plan.source(self.outcome.index))));
            }
            Action::Send(conn, frame) => {
                if matches!(frame, ClientFrame::Hello(_)) {
                    if self.outcome.first_hub.is_some() {
                        self.pulse.arrived.note(self.plan.start.elapsed());
                    }
                    self.hello_at = Some(Instant::now());
                }
                self.write(conn, frame.encode());
            }
            Action::Message(conn, text) => self.write(conn, escape(&text).into_owned()),
            Action::Close(conn, code, reason) => {
                if let Some(at) = self.wires.iter().position(|(other, _)| *other == conn) {
                    self.goodbye = self.wires.swap_remove(at).1.close(code, &reason);
                }
            }
            Action::Deliver(text) => self.delivered(&text),
            Action::Report(report) => self.report(report),
        }
    }

    fn write(&mut self, conn: Conn, text: String) {
        if let Some((_, wire)) = self.wires.iter_mut().find(|(other, _)| *other == conn) {
            wire.send(text);
        }
    }

    fn delivered(&mut self, text: &str) {
        match (Line::parse(text), self.plan.app) {
            (Some(Line::Down(n)), App::Kitchen)
            | (Some(Line::Echo(n)), App::Echo)
            | (Some(Line::Push(n)), App::None) => {
                if self.outcome.received_down == 0 {
                    self.pulse.flowing.fetch_add(1, Relaxed);
                }
                self.outcome.received_down += 1;
                self.pulse.down.fetch_add(1, Relaxed);
                self.down.note(n);
            }
            (Some(Line::Sum(sum)), App::Kitchen) => self.sum = Some(sum),
            _ => {
                let shown: String = text.chars().take(60).collect();
                self.outcome.account.faults.push(format!("down: \"{shown}\" is not what this app should send"));
                self.outcome.account.faults.truncate(4);
            }
        }
    }

    fn report(&mut self, report: Report<String>) {
        match report {
            Report::Opened { hub, .. } => {
                self.outcome.first_hub = Some(hub);
                self.pulse.joined.fetch_add(1, Relaxed);
            }
            Report::Moved { .. } => {
                self.outcome.moves += 1;
                self.pulse.changed.fetch_add(1, Relaxed);
                self.pulse.welcomed.note(self.plan.start.elapsed());
                self.measure_gap(self.hello_at);
            }
            Report::Resumed { .. } => {
                self.outcome.resumes += 1;
                self.pulse.changed.fetch_add(1, Relaxed);
                self.pulse.welcomed.note(self.plan.start.elapsed());
                self.measure_gap(gap_began(self.hello_at, self.lost_at));
            }
            Report::Reconnecting { .. } => self.lost_at = Some(Instant::now()),
            Report::Reset { .. } => {
                self.outcome.resets += 1;
                self.pulse.resets.fetch_add(1, Relaxed);
            }
            Report::Gap { from, to, .. } => {
                self.outcome.declared_gaps += 1;
                self.declared += to.since(from);
            }
            Report::Notice(_) | Report::Recalled => {}
            // There was room before each send; a refusal can only come after the end.
            Report::Refused(_) => {}
            Report::Ended { code, reason, .. } => {
                if self.duty != Duty::Done {
                    self.outcome.ended = Some(format!("ended with {code}: {reason} ({})", self.last_why));
                    self.pulse.ended.fetch_add(1, Relaxed);
                    self.duty = Duty::Done;
                }
            }
        }
    }

    fn measure_gap(&mut self, since: Option<Instant>) {
        if let Some(since) = since {
            let gap_us = since.elapsed().as_micros() as u64;
            self.outcome.gap_us = Some(self.outcome.gap_us.unwrap_or(0).max(gap_us));
        }
    }

    async fn finish(mut self) -> Outcome {
        self.outcome.session = self.machine.session();
        self.outcome.last_hub = self.machine.hub();
        let sent = self.outcome.sent_up;
        let account = match (self.plan.app, self.sum, self.outcome.resets) {
            (_, _, 1..) => Account::default(),
            (App::Kitchen, Some(sum), 0) => reconcile(sent, &self.down, self.declared, sum),
            // Without the app's word nothing is proved and nothing is claimed: `answered` is false.
            (App::Kitchen, None, 0) => Account::default(),
            (App::Echo, _, 0) => reconcile_echo(sent, &self.down, self.declared),
            (App::None, _, 0) => {
                let unacked = self.machine.unacked().iter().count() as u64;
                reconcile_acks(sent, unacked, self.pulse.pushed.load(Relaxed), &self.down, self.declared)
            }
        };
        let faults = std::mem::take(&mut self.outcome.account.faults);
        self.outcome.account = account;
        self.outcome.account.faults.extend(faults);
        if let Some(ended) = self.outcome.ended.clone() {
            self.outcome.account.faults.push(ended);
        } else if !self.outcome.answered && self.outcome.resets == 0 {
            let connection = if self.machine.connection().is_some() { "connected" } else { "without a connection" };
            let why = format!("never settled: {connection}, last trouble: \"{}\"", self.last_why);
            self.outcome.account.faults.push(why);
        }
        self.duty = Duty::Done;
        self.step(Event::End { code: None, reason: None });
        if let Some(goodbye) = self.goodbye.take() {
            // It is bounded by itself, and a panic in it changes no account.
            let _ = goodbye.await;
        }
        self.outcome
    }
}

/// When the gap of a client began that lost its connection: with the loss, or with the hello that was
/// under way already, for the hub freezes the session after it and closes the old connection in the end.
fn gap_began(hello_at: Option<Instant>, lost_at: Option<Instant>) -> Option<Instant> {
    match (hello_at, lost_at) {
        (Some(hello), Some(lost)) => Some(hello.min(lost)),
        (_, lost) => lost,
    }
}

/// The next of a cheap sequence of evenly spread numbers, for jitter only.
fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_connection_that_ends_just_before_the_welcome_does_not_shorten_the_gap() {
        let hello = Instant::now();
        let lost = hello + Duration::from_millis(5);
        assert_eq!(gap_began(Some(hello), Some(lost)), Some(hello), "frozen since the hello");
        assert_eq!(gap_began(Some(lost), Some(hello)), Some(hello), "lost first, and asked for again later");
        assert_eq!(gap_began(None, Some(lost)), Some(lost));
    }
}
