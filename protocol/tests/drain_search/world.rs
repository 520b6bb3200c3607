//! What surrounds the drain machine: sessions whose truth is known here and not to it, orders that wait
//! for an answer, and a clock that goes from one moment that the machine named to the next.

use crate::Mutant;
use crate::trouble::Trouble;
use std::collections::BTreeMap;
use tidegate_protocol::control::{DrainRequest, DrainStatus, HubState, Phase};
use tidegate_protocol::drain::{Action, Drain, Event, Facts, Plan, Resume, Room, Successor};
use tidegate_protocol::id::{DrainId, HubId, SessionId};
use tidegate_protocol::position::Millis;

/// Actions at one moment; more would be a machine that never rests.
const ACTIONS_MAX: usize = 200;
const START: Millis = Millis(1_000_000);
/// After the end, time goes on this long.
const AFTER_MS: u64 = 1_000;
const RESUME: Resume = Resume { gap_ms: Some(5), replayed: 1, duplicates_dropped: 0, gaps: 0, lost: 0 };

/// Where a session really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// Here, nothing ordered.
    Here,
    /// Told to move.
    Ordered,
    /// Being pushed.
    Pushed,
    /// Being parked.
    Parking,
    /// Given away; `live` is out.
    Given,
    /// Its answer will never come.
    Silent,
    /// Has its outcome.
    Moved,
    /// Has its outcome.
    Parked,
    /// Has its outcome.
    Left,
    /// Has its outcome.
    Forced,
}

/// One thing that may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Time passes, to the next moment that the machine named.
    Pass,
    /// What was ordered is done.
    Done(SessionId),
    /// It is refused; `true`: for good.
    Refuse(SessionId, bool),
    /// The answer is lost for ever.
    Silence(SessionId),
    Bounce(SessionId),
    Lose(SessionId),
    Leave(SessionId),
    Busy(SessionId),
    DiskFails(SessionId),
    Arrive,
    Vanish,
    Return,
    Cancel,
    Rest,
    Continue,
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub drain: Drain,
    pub now: Millis,
    pub trouble: Trouble,
    sessions: BTreeMap<SessionId, (Truth, bool)>,
    peers: u64,
    /// For how many sessions each peer has room, and how many were sent there.
    room: Option<u64>,
    /// When parking begins without a word of consent.
    park_from: Millis,
    rest: bool,
    pub reports: u8,
    pub fault: Option<&'static str>,
    mutant: Option<u8>,
}

/// The one word of the peers about their room: they never say another.
fn told(room: Option<u64>) -> Option<Room> {
    room.map(|places| Room { places, told_at: Millis(1) })
}

fn peer(hub: u64, room: Option<u64>) -> Successor {
    Successor {
        hub: HubId(hub),
        url: None,
        eligible: true,
        state: Some(HubState::Serving),
        sessions: Some(0),
        room: told(room),
        admission: None,
    }
}

fn peers(count: u64, room: Option<u64>) -> Vec<Successor> {
    (1..=count).map(|hub| peer(hub, room)).collect()
}

impl World {
    pub fn new(
        policy: &str,
        connected: u64,
        detached: u64,
        hubs: (u64, Option<u64>),
        trouble: Trouble,
        mutant: Option<Mutant>,
    ) -> Self {
        let (hubs, room) = hubs;
        let mut request: DrainRequest = serde_json::from_str(policy).expect("a policy of these tests is JSON");
        let agreed = hubs == 0 || request.allow_park == Some(true);
        if mutant == Some(Mutant::ParksUnasked) {
            request.allow_park = Some(true);
        }
        let told = if mutant == Some(Mutant::ForgetsRoom) { None } else { room };
        let policy = request.resolve().expect("and possible");
        let id = |n: u64| SessionId(u128::from(n) + 1);
        let facts = |n: u64| Facts { connected: n < connected, ..Facts::default() };
        let population: Vec<_> = (0..connected + detached).map(|n| (id(n), facts(n))).collect();
        let plan = Plan::new(policy, population.iter().copied(), &peers(hubs, told), 7);
        let kept_ms = plan.policy.deadline_ms - plan.push_reserve_ms;
        let park_from = if agreed { START } else { START.plus(kept_ms) };
        let drain = Drain::start(DrainId(1), plan, &peers(hubs, told), "2026-11-27T00:00:00Z".to_owned(), START);
        let sessions = population.iter().map(|(id, facts)| (*id, (Truth::Here, facts.connected))).collect();
        let mutant = mutant.map(|mutant| mutant as u8);
        let mut world = Self {
            drain,
            now: START,
            trouble,
            sessions,
            peers: hubs,
            room,
            park_from,
            rest: false,
            reports: 0,
            fault: None,
            mutant,
        };
        world.act();
        world
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant as u8)
    }

    /// Whether the deadline is over, and the machine was asked since.
    pub fn is_past_deadline(&self) -> bool {
        self.now.since(START) >= self.drain.policy().deadline_ms
    }

    pub fn status(&self) -> DrainStatus {
        self.drain.status(self.now)
    }

    /// The machine's account against the truth.
    pub fn adds_up(&self) -> bool {
        let Some(counts) = self.status().sessions else { return true };
        let is = |wanted: Truth| self.sessions.values().filter(|(truth, _)| *truth == wanted).count() as u64;
        // A process that serves again serves whoever was forced, too.
        let forced = if self.drain.phase() == Phase::Serving { 0 } else { is(Truth::Forced) };
        self.drain.check_conservation().is_ok()
            && counts.at_start + counts.arrived == self.sessions.len() as u64
            && (counts.moved, counts.parked, counts.left, counts.forced)
                == (is(Truth::Moved), is(Truth::Parked), is(Truth::Left), forced)
    }

    fn blame(&mut self, fault: &'static str) {
        self.fault.get_or_insert(fault);
    }

    /// Everything that may happen now.
    pub fn steps(&self, steps: &mut Vec<Step>) {
        let left = &self.trouble;
        if self.fault.is_some() || self.is_over() {
            return;
        }
        if self.drain.poll_timeout().is_some() {
            steps.push(Step::Pass);
        }
        for (id, (truth, connected)) in &self.sessions {
            self.session_steps(*id, *truth, *connected, steps);
        }
        let may = [
            (left.arrivals > 0, Step::Arrive),
            (left.vanishes > 0 && self.peers > 0, Step::Vanish),
            (left.returns > 0 && self.peers == 0, Step::Return),
            (left.cancels > 0, Step::Cancel),
            (left.rests > 0, Step::Rest),
            (left.continues > 0 && self.drain.is_held_at_a_gate(), Step::Continue),
            (left.stops > 0, Step::Stop),
        ];
        steps.extend(may.into_iter().filter(|(may, _)| *may).map(|(_, step)| step));
    }

    fn session_steps(&self, id: SessionId, truth: Truth, connected: bool, steps: &mut Vec<Step>) {
        let left = &self.trouble;
        let under_way = matches!(truth, Truth::Ordered | Truth::Pushed | Truth::Parking | Truth::Given);
        if under_way {
            steps.push(Step::Done(id));
        }
        if under_way && left.silences > 0 {
            steps.push(Step::Silence(id));
        }
        if matches!(truth, Truth::Ordered | Truth::Pushed) && left.refusals > 0 {
            steps.extend([Step::Refuse(id, false), Step::Refuse(id, true)]);
        }
        if truth == Truth::Ordered && left.bounces > 0 {
            steps.push(Step::Bounce(id));
        }
        if truth == Truth::Parking && left.disk > 0 {
            steps.push(Step::DiskFails(id));
        }
        let here = matches!(truth, Truth::Here | Truth::Ordered);
        if here && connected && left.losses > 0 {
            steps.push(Step::Lose(id));
        }
        if here && left.leaves > 0 {
            steps.push(Step::Leave(id));
        }
        if here && connected && left.busy > 0 {
            steps.push(Step::Busy(id));
        }
    }

    fn is_over(&self) -> bool {
        let late = self.now.since(START) > self.drain.policy().deadline_ms + AFTER_MS;
        self.reports > 0 && (late || self.is_settled() || self.drain.phase() == Phase::Serving)
    }

    /// Ended, and nothing is under way that could still correct the account.
    fn is_settled(&self) -> bool {
        let at_rest = |(truth, _): &(Truth, bool)| {
            !matches!(truth, Truth::Ordered | Truth::Pushed | Truth::Parking | Truth::Given)
        };
        self.sessions.values().all(at_rest)
    }

    /// Lets it happen, and carries out what follows.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Pass => self.pass(),
            Step::Done(id) => self.done(*id),
            Step::Refuse(id, for_good) => {
                self.trouble.refusals -= 1;
                self.put(*id, Truth::Here);
                let (id, to, why) = (*id, None, "refused".to_owned());
                self.tell(if *for_good { Event::Blocked { id, to, why } } else { Event::Refused { id, to, why } });
            }
            Step::Silence(id) => {
                self.trouble.silences -= 1;
                self.put(*id, Truth::Silent);
            }
            Step::Bounce(id) => {
                self.trouble.bounces -= 1;
                self.tell(Event::Bounced { id: *id });
            }
            Step::Lose(id) => {
                self.trouble.losses -= 1;
                if let Some((_, connected)) = self.sessions.get_mut(id) {
                    *connected = false;
                }
                self.tell(Event::ConnectionLost { id: *id });
            }
            Step::Leave(id) => {
                self.trouble.leaves -= 1;
                self.put(*id, Truth::Left);
                self.tell(Event::Left { id: *id });
            }
            Step::Busy(id) => {
                self.trouble.busy -= 1;
                self.tell(Event::Busy { id: *id, ms: 3_000, why: "typing".to_owned() });
            }
            Step::DiskFails(id) => {
                self.trouble.disk -= 1;
                self.put(*id, Truth::Here);
                self.tell(Event::ParkFailed { id: *id, why: "full".to_owned() });
            }
            Step::Arrive | Step::Vanish | Step::Return | Step::Cancel | Step::Rest | Step::Continue | Step::Stop => {
                self.outside(step)
            }
        }
        self.act();
    }

    fn outside(&mut self, step: &Step) {
        match step {
            Step::Arrive => {
                self.trouble.arrivals -= 1;
                let id = SessionId(100 + u128::from(self.trouble.arrivals));
                // A hub that serves again counts no arrivals.
                if self.reports == 0 {
                    self.sessions.insert(id, (Truth::Here, true));
                    self.tell(Event::Arrived { id, facts: Facts { connected: true, ..Facts::default() } });
                }
            }
            Step::Vanish => {
                self.trouble.vanishes -= 1;
                self.peers = 0;
                self.tell(Event::PeersChanged(Vec::new()));
            }
            Step::Return => {
                self.trouble.returns -= 1;
                self.peers = 1;
                let told = if self.is(Mutant::ForgetsRoom) { None } else { self.room };
                self.tell(Event::PeersChanged(peers(1, told)));
            }
            Step::Cancel => {
                self.trouble.cancels -= 1;
                self.tell(Event::Cancel(None));
            }
            Step::Rest => {
                self.trouble.rests -= 1;
                self.rest = true;
                self.tell(Event::PushAndParkRest);
            }
            Step::Continue => {
                self.trouble.continues -= 1;
                self.tell(Event::Continue);
            }
            Step::Stop => {
                self.trouble.stops -= 1;
                self.park_from = self.now;
                self.tell(Event::Stopping);
                self.tell(Event::PushAndParkRest);
            }
            _ => {}
        }
    }

    fn pass(&mut self) {
        if let Some(at) = self.drain.poll_timeout() {
            self.now = self.now.max(at);
        }
    }

    fn done(&mut self, id: SessionId) {
        let Some((truth, connected)) = self.sessions.get(&id).copied() else { return };
        let to = HubId(1);
        match truth {
            Truth::Ordered | Truth::Pushed => {
                self.put(id, Truth::Given);
                self.tell(Event::Committed { id, to, exchange_ms: None });
                if self.is(Mutant::MovedBeforeLive) {
                    self.tell(Event::Live { id, to, had_connection: connected, resume: None });
                }
            }
            Truth::Given => {
                self.put(id, Truth::Moved);
                let resume = connected.then_some(RESUME);
                self.tell(Event::Live { id, to, had_connection: connected, resume });
            }
            Truth::Parking => {
                self.put(id, Truth::Parked);
                self.tell(Event::Parked { id });
                if self.is(Mutant::CountsTwice) {
                    self.tell_other(id);
                }
            }
            _ => {}
        }
        if truth == Truth::Given && self.is(Mutant::CountsTwice) {
            self.tell_other(id);
        }
    }

    /// The outcome of one session, told for another.
    fn tell_other(&mut self, id: SessionId) {
        let other = self.sessions.keys().copied().find(|other| *other != id);
        if let Some(id) = other {
            self.tell(Event::Left { id });
        }
    }

    fn put(&mut self, id: SessionId, truth: Truth) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.0 = truth;
        }
    }

    fn tell(&mut self, event: Event) {
        self.drain.handle(event, self.now);
    }

    /// Asks the machine until it has nothing more to order, as the driver does.
    fn act(&mut self) {
        // As if the last timer had never been set: time is over, and nobody asks the machine.
        if self.is(Mutant::SleepsThroughDeadline) && self.is_past_deadline() {
            return;
        }
        for _ in 0..ACTIONS_MAX {
            let Some(action) = self.drain.poll_action(self.now) else {
                return self.rest_check();
            };
            self.carry_out(action);
        }
        self.blame("it orders without an end");
    }

    fn rest_check(&mut self) {
        if self.drain.poll_timeout().is_some_and(|at| at <= self.now) {
            self.blame("its timeout lies in the past: the driver would spin");
        }
    }

    /// What the machine orders keeps to the bound; a client that comes by itself asks nobody.
    fn check_bound(&mut self) {
        if self.status().in_flight.unwrap_or(0) > u64::from(self.drain.policy().max_in_flight) {
            self.blame("more in flight than allowed");
        }
    }

    fn carry_out(&mut self, action: Action) {
        let (id, truth) = match action {
            Action::Move { id, .. } => (id, Truth::Ordered),
            Action::Push { id, .. } => (id, Truth::Pushed),
            Action::Park { id, .. } => (id, Truth::Parking),
            Action::Force { id, .. } => (id, Truth::Forced),
            Action::Finish(_) => {
                self.reports += 1;
                return;
            }
            Action::Notify { .. } | Action::Grant { .. } | Action::Recall { .. } | Action::ServeAgain => return,
        };
        if matches!(truth, Truth::Ordered | Truth::Pushed) {
            self.check_bound();
        }
        if truth == Truth::Parking && self.now < self.park_from && !self.rest {
            self.blame("parked before it was time, and nobody had agreed");
        }
        let Some((now, connected)) = self.sessions.get(&id).copied() else {
            return self.blame("an order for a session that nobody knows");
        };
        match now {
            Truth::Moved | Truth::Parked | Truth::Left | Truth::Forced => {
                self.blame("an order for a session that has its outcome")
            }
            Truth::Given => self.blame("an order for a session that was given away"),
            _ if truth == Truth::Ordered && !connected => self.blame("an order to a client without a connection"),
            // A client's own move is still under way, or its answer is lost: this order is another try.
            _ => self.put(id, truth),
        }
        self.check_room();
    }

    /// Nobody is sent where there is no room: who is on his way has his place there, and who arrived.
    fn check_room(&mut self) {
        let sent = |truth: &Truth| matches!(truth, Truth::Ordered | Truth::Pushed | Truth::Given | Truth::Moved);
        let sent = self.sessions.values().filter(|(truth, _)| sent(truth)).count() as u64;
        if self.room.is_some_and(|room| sent > room * self.peers.max(1)) {
            self.blame("more sent to the other hubs than they have room for");
        }
    }
}
