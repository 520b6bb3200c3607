//! A small simulated fleet on a virtual clock: it carries out the drain's actions as clients, peers
//! and disk would, and checks the invariants after every step.

mod chance;
mod course;
mod ends;
mod gates;
mod pacing;
mod room;
mod trouble;

use super::*;
use crate::control::{DrainReport, DrainRequest, DrainStatus, HubState};
use crate::id::HubId;
use std::collections::BTreeMap;

/// How a client behaves when it is told to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Is at the other hub after so many milliseconds.
    Comes(u64),
    /// Does nothing at all.
    Ignores,
    /// The balancer always brings it back here.
    Sticky,
    /// The balancer knows nothing and lets chance decide, one hub of so many being another one.
    ByChance(u64),
    /// The balancer brings it back here so often, then lets it through.
    BouncesFirst(u8),
}

/// A hub that welcomes one client after the other, and measures itself.
struct Queue {
    each_ms: u64,
    free_at: Millis,
    window: AdmissionWindow,
    longest_ms: u64,
}

impl Queue {
    fn new(each_ms: u64) -> Self {
        Self { each_ms, free_at: Millis(0), window: AdmissionWindow::default(), longest_ms: 0 }
    }

    /// A client says hello; gives after how long it is welcomed.
    fn welcome(&mut self, hello_at: Millis) -> u64 {
        self.free_at = self.free_at.max(hello_at).plus(self.each_ms);
        let took_ms = self.free_at.since(hello_at);
        self.window.welcomed(self.free_at, took_ms);
        self.longest_ms = self.longest_ms.max(took_ms);
        took_ms
    }
}

struct Fleet {
    drain: Drain,
    now: Millis,
    future: BTreeMap<(Millis, u64), Event>,
    steps: u64,
    habits: BTreeMap<SessionId, Habit>,
    habit: Habit,
    /// Clients that try to come to another hub, and to which, if it was named.
    trying: BTreeMap<SessionId, HubId>,
    /// What the balancer decides by.
    dice: chance::Chance,
    /// How the successor takes clients; none: at once.
    queue: Option<Queue>,
    connected: BTreeMap<SessionId, bool>,
    /// Handovers of these are blocked by whatever hub, for this reason.
    unmovable: BTreeMap<SessionId, &'static str>,
    /// Moves and pushes fail with this reason.
    refusing: Option<&'static str>,
    /// Handovers are committed and never confirmed.
    silent_after_commit: bool,
    disk_fails: bool,
    log: Vec<(Millis, Action)>,
    noticed: BTreeMap<SessionId, Millis>,
    fresh: std::collections::BTreeSet<SessionId>,
    most_in_flight: u64,
    reports: Vec<DrainReport>,
}

const PEER: HubId = HubId(0xb);

fn peer(hub: u64) -> Successor {
    Successor {
        hub: HubId(hub),
        url: None,
        eligible: true,
        state: Some(HubState::Serving),
        sessions: Some(0),
        room: None,
        admission: None,
    }
}

/// The same policy, with a word that sessions may be parked.
fn may_park(json: &str) -> String {
    json.replacen('{', r#"{"allow_park":true,"#, 1)
}

fn policy(json: &str) -> Policy {
    serde_json::from_str::<DrainRequest>(json).unwrap().resolve().unwrap()
}

fn id(n: u64) -> SessionId {
    SessionId(u128::from(n) + 1)
}

impl Fleet {
    /// `connected` sessions with a client and `detached` ones without, one peer.
    fn new(json: &str, connected: u64, detached: u64) -> Self {
        Self::with_peers(json, connected, detached, &[peer(PEER.0)])
    }

    fn with_peers(json: &str, connected: u64, detached: u64, peers: &[Successor]) -> Self {
        let facts = |n: u64| Facts { connected: n < connected, ..Facts::default() };
        let population: Vec<_> = (0..connected + detached).map(|n| (id(n), facts(n))).collect();
        let now = Millis(1_000_000);
        let plan = Plan::new(policy(json), population.iter().copied(), peers, 7);
        Self {
            drain: Drain::start(DrainId(1), plan, peers, "2026-11-22T12:00:00Z".to_owned(), now),
            now,
            future: BTreeMap::new(),
            steps: 0,
            habits: BTreeMap::new(),
            habit: Habit::Comes(50),
            trying: BTreeMap::new(),
            dice: chance::Chance::new(1),
            queue: None,
            connected: population.iter().map(|(id, facts)| (*id, facts.connected)).collect(),
            unmovable: BTreeMap::new(),
            refusing: None,
            silent_after_commit: false,
            disk_fails: false,
            log: Vec::new(),
            noticed: BTreeMap::new(),
            fresh: std::collections::BTreeSet::new(),
            most_in_flight: 0,
            reports: Vec::new(),
        }
    }

    fn began(&self) -> Millis {
        Millis(1_000_000)
    }

    fn elapsed(&self) -> u64 {
        self.now.since(self.began())
    }

    fn later(&mut self, after_ms: u64, event: Event) {
        self.steps += 1;
        self.future.insert((self.now.plus(after_ms), self.steps), event);
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::ConnectionLost { id } => _ = self.connected.insert(*id, false),
            Event::ConnectionBack { id } => _ = self.connected.insert(*id, true),
            Event::Arrived { id, facts } => {
                self.connected.insert(*id, facts.connected);
                if facts.fresh {
                    self.fresh.insert(*id);
                }
            }
            _ => {}
        }
        let came_back = if let Event::Bounced { id } = &event { Some(*id) } else { None };
        let sent_away = came_back.and_then(|id| self.drain.sends_away(id));
        self.drain.handle(event, self.now);
        if let Some(id) = came_back
            && let Some(to) = self.trying.remove(&id)
            && let Some(after_ms) = sent_away
        {
            self.tries(id, to, after_ms.max(100));
        }
        self.act();
    }

    /// Carries out everything that is due, and checks what must hold at any time.
    fn act(&mut self) {
        while let Some(action) = self.drain.poll_action(self.now) {
            self.log.push((self.now, action.clone()));
            self.carry_out(action);
        }
        self.drain.check_conservation().unwrap();
        let in_flight = self.drain.status(self.now).in_flight.unwrap();
        self.most_in_flight = self.most_in_flight.max(in_flight);
        let timeout = self.drain.poll_timeout();
        assert!(
            timeout.is_none_or(|at| at > self.now),
            "a timeout of {timeout:?} at {:?} would spin: {:?}",
            self.now,
            self.drain.state
        );
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Notify { id, .. } => _ = self.noticed.insert(id, self.now),
            Action::Move { id, to } => self.client_moves(id, to.unwrap_or(PEER)),
            Action::Push { id, to } => self.push(id, to),
            Action::Park { id, .. } if self.disk_fails => {
                self.later(5, Event::ParkFailed { id, why: "disk full".into() })
            }
            Action::Park { id, .. } => self.later(5, Event::Parked { id }),
            Action::Finish(report) => self.reports.push(*report),
            Action::Grant { .. } | Action::Recall { .. } | Action::Force { .. } | Action::ServeAgain => {}
        }
    }

    fn client_moves(&mut self, id: SessionId, to: HubId) {
        assert!(self.connected[&id], "{id} has no connection and was ordered to move");
        let notice_ms = self.drain.policy().notice_ms;
        let aged = self.noticed.get(&id).is_some_and(|at| self.now.since(*at) >= notice_ms);
        assert!(aged || self.fresh.contains(&id), "{id} was moved before its notice had aged");
        let habit = *self.habits.get(&id).unwrap_or(&self.habit);
        if let Some(why) = self.unmovable.get(&id).copied() {
            self.later(50, Event::HandoverBegan { id, to });
            return self.later(55, Event::Blocked { id, to: Some(to), why: why.into() });
        }
        match (habit, self.refusing) {
            (Habit::Ignores, _) => {}
            (Habit::Sticky | Habit::BouncesFirst(_) | Habit::ByChance(_), _) => self.tries(id, to, 20),
            (Habit::Comes(after_ms), Some(why)) => {
                self.later(after_ms, Event::HandoverBegan { id, to });
                self.later(after_ms + 5, Event::Refused { id, to: Some(to), why: why.into() });
            }
            (Habit::Comes(after_ms), None) => {
                let hello_at = self.now.plus(after_ms);
                let waits_ms = self.queue.as_mut().map_or(0, |queue| queue.welcome(hello_at));
                self.arrives(id, to, after_ms + waits_ms);
            }
        }
    }

    /// A client dials, and the balancer decides where it comes to.
    fn tries(&mut self, id: SessionId, to: HubId, after_ms: u64) {
        if self.trying.insert(id, to).is_some() {
            return;
        }
        let here = match *self.habits.get(&id).unwrap_or(&self.habit) {
            Habit::Sticky => true,
            Habit::ByChance(hubs) => self.dice.below(hubs) == 0,
            Habit::BouncesFirst(left) if left > 0 => {
                self.habits.insert(id, Habit::BouncesFirst(left - 1));
                true
            }
            Habit::BouncesFirst(_) | Habit::Comes(_) | Habit::Ignores => false,
        };
        if here {
            return self.later(after_ms, Event::Bounced { id });
        }
        self.trying.remove(&id);
        self.arrives(id, to, after_ms + 30);
    }

    fn arrives(&mut self, id: SessionId, to: HubId, after_ms: u64) {
        self.later(after_ms, Event::HandoverBegan { id, to });
        self.later(after_ms + 5, Event::Committed { id, to, exchange_ms: Some(5) });
        if !self.silent_after_commit {
            let resume = Some(Resume { gap_ms: Some(after_ms), replayed: 1, ..Resume::default() });
            self.later(after_ms + 10, Event::Live { id, to, had_connection: true, resume });
        }
    }

    fn push(&mut self, id: SessionId, to: HubId) {
        if let Some(why) = self.unmovable.get(&id).copied() {
            return self.later(20, Event::Blocked { id, to: Some(to), why: why.into() });
        }
        if let Some(why) = self.refusing {
            return self.later(20, Event::Refused { id, to: Some(to), why: why.into() });
        }
        self.later(20, Event::Committed { id, to, exchange_ms: Some(20) });
        if !self.silent_after_commit {
            let had_connection = self.connected[&id];
            self.later(30, Event::Live { id, to, had_connection, resume: None });
            if had_connection {
                let resume = Resume { gap_ms: Some(200), replayed: 2, ..Resume::default() };
                self.later(230, Event::Resumed { id, resume });
            }
        }
    }

    /// Lets time pass until the condition holds; fails with what it was waiting for.
    fn run(&mut self, what: &str, until: impl Fn(&Drain) -> bool) {
        self.act();
        let limit = self.now.plus(self.drain.policy().deadline_ms * 3 + 60_000);
        while !until(&self.drain) {
            let event_at = self.future.first_key_value().map(|((at, _), _)| *at);
            let next = [event_at, self.drain.poll_timeout()].into_iter().flatten().min();
            let next = next.unwrap_or_else(|| {
                panic!("nothing left to happen, still waiting for: {what}; {:#?}", self.drain.status(self.now))
            });
            assert!(next <= limit, "waited in vain for: {what}; {:#?}", self.drain.status(self.now));
            self.now = self.now.max(next);
            self.happen();
        }
    }

    /// Everything that happens at this moment.
    fn happen(&mut self) {
        while let Some(entry) = self.future.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let event = entry.remove();
            self.tell(event);
        }
        self.act();
    }

    /// Lets exactly so much time pass.
    fn pass(&mut self, ms: u64) {
        self.act();
        let end = self.now.plus(ms);
        loop {
            let event_at = self.future.first_key_value().map(|((at, _), _)| *at);
            let next = [event_at, self.drain.poll_timeout(), Some(end)].into_iter().flatten().min().unwrap();
            self.now = self.now.max(next.min(end));
            self.happen();
            if self.now >= end {
                return;
            }
        }
    }

    fn run_to_end(&mut self) -> DrainReport {
        self.run("the end", |drain| drain.phase() == Phase::Drained);
        assert_eq!(self.reports.len(), 1, "one report per drain");
        self.reports[0].clone()
    }

    fn run_to(&mut self, phase: Phase) {
        self.run(phase.as_str(), |drain| drain.phase() == phase);
    }

    fn status(&self) -> DrainStatus {
        self.drain.status(self.now)
    }

    fn actions(&self, which: impl Fn(&Action) -> bool) -> Vec<(u64, Action)> {
        let wanted = self.log.iter().filter(|(_, action)| which(action));
        wanted.map(|(at, action)| (at.since(self.began()), action.clone())).collect()
    }

    fn moves(&self) -> Vec<(u64, Action)> {
        self.actions(|action| matches!(action, Action::Move { .. }))
    }

    fn pushes(&self) -> Vec<(u64, Action)> {
        self.actions(|action| matches!(action, Action::Push { .. }))
    }
}

/// What the account says, in one line.
fn account(report: &DrainReport) -> String {
    let counts = &report.sessions.counts;
    format!(
        "{}: {} + {} = {} moved, {} parked, {} left, {} forced, {} unconfirmed, {} remaining; cut {}",
        report.result.as_str(),
        counts.at_start,
        counts.arrived,
        counts.moved,
        counts.parked,
        counts.left,
        counts.forced,
        counts.unconfirmed,
        counts.remaining,
        report.cut
    )
}
