//! A fleet that carries out the actions of a drain as clients, hubs and a disk would, on a clock of its own.

use crate::scenario::{HUBS, Habit, Peer, Scenario, Turn};
use crate::watch::Watch;
use std::collections::BTreeMap;
use tidegate_protocol::control::{HubState, Phase};
use tidegate_protocol::drain::{Action, Admission, Drain, Event, Facts, Plan, Resume, Room, Successor};
use tidegate_protocol::id::{DrainId, HubId, SessionId};
use tidegate_protocol::position::Millis;

pub(crate) const BEGAN: Millis = Millis(5_000_000);

pub(crate) fn id(n: u64) -> SessionId {
    SessionId(u128::from(n) + 1)
}

pub(crate) fn successors(peers: &[Peer; HUBS as usize], now: Millis) -> Vec<Successor> {
    let there = peers.iter().zip(1u64..).filter(|(peer, _)| peer.there);
    there
        .map(|(peer, hub)| Successor {
            hub: HubId(hub),
            url: peer.named.then(|| format!("wss://hub-{hub}.example")),
            eligible: peer.eligible,
            state: Some(if peer.eligible { HubState::Serving } else { HubState::Draining }),
            sessions: Some(peer.sessions),
            room: peer.room.map(|places| Room { places, told_at: now }),
            admission: Some(Admission {
                second: peer.second,
                welcomed: 20,
                p99_ms: peer.p99_ms,
                refused: peer.refused,
            }),
        })
        .collect()
}

pub(crate) struct Fleet {
    pub(crate) drain: Drain,
    pub(crate) watch: Watch,
    pub(crate) now: Millis,
    future: BTreeMap<(Millis, u64), Event>,
    told: u64,
    habits: Vec<Habit>,
    refusals: BTreeMap<SessionId, u8>,
    parks_that_fail: u8,
}

impl Fleet {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let policy = scenario.request.resolve().expect("the scenario keeps to what a policy may be");
        let population: Vec<(SessionId, Facts)> =
            scenario.population.iter().zip(0..).map(|(facts, n)| (id(n), *facts)).collect();
        let peers = successors(&scenario.peers, BEGAN);
        let plan = Plan::new(policy, population.iter().copied(), &peers, 11);
        let watch = Watch::new(&plan, &population, &peers);
        let drain = Drain::start(DrainId(1), plan, &peers, "2026-11-27T00:00:00Z".to_owned(), BEGAN);
        let mut fleet = Self {
            drain,
            watch,
            now: BEGAN.plus(scenario.late_ms),
            future: BTreeMap::new(),
            told: 0,
            habits: scenario.habits.clone(),
            refusals: BTreeMap::new(),
            parks_that_fail: scenario.disk_fails,
        };
        fleet.act();
        fleet
    }

    fn habit(&self, id: SessionId) -> Habit {
        self.habits[id.0 as usize % self.habits.len()]
    }

    fn later(&mut self, after_ms: u64, event: Event) {
        self.told += 1;
        self.future.insert((self.now.plus(after_ms), self.told), event);
    }

    /// Tells the drain, and carries out what follows.
    pub(crate) fn tell(&mut self, event: Event) {
        self.watch.happens(&event, self.now);
        let tries_again = match &event {
            Event::Bounced { id } => self.drain.sends_away(*id).map(|after_ms| (*id, after_ms)),
            _ => None,
        };
        self.drain.handle(event, self.now);
        if let Some((id, after_ms)) = tries_again {
            self.later(after_ms.max(100), Event::Bounced { id });
        }
        self.act();
    }

    fn act(&mut self) {
        let mut steps = 0;
        loop {
            let before = self.drain.status(self.now);
            let Some(action) = self.drain.poll_action(self.now) else { break };
            let after = self.drain.status(self.now);
            self.watch.ordered(&action, &before, &after, self.now);
            self.carry_out(action);
            steps += 1;
            assert!(steps < 10_000, "it never ends to order: {after:?}");
        }
        self.watch.rests(&self.drain, self.now);
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Move { id, to } => self.client_moves(id, to.unwrap_or(HubId(1))),
            Action::Push { id, to } => self.handed_over(id, to, 20, false),
            Action::Park { id, .. } if self.parks_that_fail > 0 => {
                self.parks_that_fail -= 1;
                self.later(5, Event::ParkFailed { id, why: "disk full".into() });
            }
            Action::Park { id, .. } => self.later(5, Event::Parked { id }),
            Action::Notify { .. }
            | Action::Grant { .. }
            | Action::Recall { .. }
            | Action::Force { .. }
            | Action::ServeAgain
            | Action::Finish(_) => {}
        }
    }

    fn client_moves(&mut self, id: SessionId, to: HubId) {
        match self.habit(id) {
            Habit::Comes(ms) | Habit::Refused(ms, _) | Habit::Vanishes(ms) => {
                self.later(ms, Event::HandoverBegan { id, to });
                self.handed_over(id, to, ms, true);
            }
            Habit::Ignores => {}
            Habit::Sticky => self.later(100, Event::Bounced { id }),
        }
    }

    fn handed_over(&mut self, id: SessionId, to: HubId, after_ms: u64, by_client: bool) {
        if let Habit::Refused(_, times) = self.habit(id) {
            let so_far = self.refusals.entry(id).or_insert(0);
            if *so_far < times {
                *so_far += 1;
                return self.later(after_ms + 5, Event::Refused { id, to: Some(to), why: "busy".into() });
            }
        }
        self.later(after_ms + 5, Event::Committed { id, to, exchange_ms: Some(5) });
        if matches!(self.habit(id), Habit::Vanishes(_)) {
            return;
        }
        let had_connection = self.watch.is_connected(id);
        let resume = Resume { gap_ms: Some(after_ms), replayed: 1, ..Resume::default() };
        let at_once = (by_client || !had_connection).then_some(resume).filter(|_| had_connection);
        self.later(after_ms + 10, Event::Live { id, to, had_connection, resume: at_once });
        if had_connection && !by_client {
            self.later(after_ms + 300, Event::Resumed { id, resume });
        }
    }

    /// Plays what happens by itself, with what follows from it in between.
    pub(crate) fn play(&mut self, script: &[(u64, Turn)]) {
        for (after_ms, turn) in script {
            self.pass(*after_ms);
            if !self.is_running() {
                return;
            }
            match *turn {
                Turn::Arrives { n, connected, fresh } => {
                    self.tell(Event::Arrived { id: id(n), facts: Facts { connected, fresh, ..Facts::default() } })
                }
                Turn::Ready(n) => self.tell(Event::Ready { id: id(n) }),
                Turn::Busy(n, ms) => self.tell(Event::Busy { id: id(n), ms, why: "typing".into() }),
                Turn::Lost(n) => self.tell(Event::ConnectionLost { id: id(n) }),
                Turn::Back(n) => self.tell(Event::ConnectionBack { id: id(n) }),
                Turn::Leaves(n) => self.tell(Event::Left { id: id(n) }),
                Turn::Peers(peers) => self.tell(Event::PeersChanged(successors(&peers, self.now))),
                Turn::Asked => drop(self.drain.status(self.now)),
                Turn::TriggerEnds => self.tell(Event::TriggerEnded),
                Turn::PushTheRest => self.tell(Event::PushAndParkRest),
                Turn::Continue => self.tell(Event::Continue),
            }
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.drain.phase(), Phase::Drained | Phase::Serving)
    }

    /// The next moment at which anything happens.
    fn next(&self) -> Option<Millis> {
        let event_at = self.future.first_key_value().map(|((at, _), _)| *at);
        [event_at, self.drain.poll_timeout()].into_iter().flatten().min()
    }

    fn happen(&mut self) {
        while let Some(entry) = self.future.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let event = entry.remove();
            self.tell(event);
        }
        self.act();
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.is_running() && self.now < end {
            self.now = self.next().map_or(end, |at| at.max(self.now)).min(end);
            self.happen();
        }
        self.now = self.now.max(end);
    }

    /// Lets time pass until it is over.
    pub(crate) fn run_out(&mut self) {
        while self.is_running() {
            let next = self.next().expect("a drain that runs waits for something");
            self.now = self.now.max(next);
            self.happen();
        }
    }

    /// Calls it off, and checks that whoever was told is told again.
    pub(crate) fn cancel(&mut self) {
        if !self.is_running() {
            return;
        }
        self.tell(Event::Cancel(None));
        assert_eq!(self.drain.phase(), Phase::Serving);
        self.watch.judge_cancel();
    }
}
