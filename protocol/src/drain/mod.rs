//! Emptying a hub: policy to plan, plan to actions, and the account at the end.
//!
//! [`Drain`] decides and never waits. Its methods fall into three families, to be used so:
//!
//! 1. something happened: [`Drain::handle`];
//! 2. then ask [`Drain::poll_action`] until it answers none, and carry each action out;
//! 3. then sleep until the next event or [`Drain::poll_timeout`], and go to 2.
//!
//! Pacing is closed-loop. Each connected session has a slot within the window; a stage opens when
//! enough of the last one is back; no more than `max_in_flight` moves are ordered and not live; a
//! refusal or a rising admission latency slows the whole rate down. The rate never exceeds the
//! plan's, except where the window is 0: there as many are in flight as the hubs pass on without
//! a queue between them.

mod admission;
pub mod claims;
mod event;
mod gate;
mod orders;
mod pace;
mod peers;
mod plan;
mod reconcile;
mod report;
mod returns;
mod room;
mod roster;
mod sessions;
mod state;
mod status;
mod steps;
#[cfg(test)]
mod tests;

pub use admission::AdmissionWindow;
pub use event::{Action, Admission, Event, Facts, Resume, Room, Successor};
pub use plan::{IDLE_AFTER_MS, Outlook, Plan, SAFE_RATE_PER_S, Stage};
pub use reconcile::{Handed, Welcomed};
pub use room::Consent;
pub use status::Figures;

use crate::control::{DrainResult, Phase, Policy, Returns};
use crate::id::{DrainId, SessionId};
use crate::position::Millis;
use pace::{Flight, Pacer, Speed};
use peers::Peers;
use report::Ledger;
use roster::{Origin, Place, Roster, Seat};
use state::State;
use std::collections::{BTreeSet, VecDeque};

/// Between two tries to hand on whoever is still here after the end.
pub const HAND_ON_EVERY_MS: u64 = 10_000;
/// Failed handovers to one peer after which another is tried.
pub const FAILURES_MAX: u8 = 3;
/// Longest reason of a client or peer that is kept, in characters.
pub const WHY_MAX_CHARS: usize = 120;

/// One drain of one hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Drain {
    id: DrainId,
    plan: Plan,
    started_at: String,
    began: Millis,
    state: State,
    roster: Roster,
    peers: Peers,
    ledger: Ledger,
    returns: Returns,
    pacer: Pacer,
    push_pacer: Pacer,
    speed: Speed,
    flight: Flight,
    /// The order of release, fixed when the notice has aged: who said ready first.
    timetable: Vec<SessionId>,
    /// The next place in the timetable.
    cursor: usize,
    /// The stage whose gate is open although it failed: somebody has looked.
    waived: Option<usize>,
    /// How far gates and holds have put the timetable off.
    shift_ms: u64,
    /// The next place in the plan's order that is to be notified.
    notices: usize,
    outbox: VecDeque<Action>,
    /// Handovers that failed since the last one that worked.
    failures_in_row: u64,
    /// Live elsewhere, their clients not yet seen there.
    awaiting_resume: BTreeSet<SessionId>,
    /// Parks and forced closes so far, which spread the clients' return.
    closed: u64,
    seq: u64,
    /// How it ended, after how long, and why.
    end: Option<(DrainResult, u64, Option<String>)>,
}

impl Drain {
    /// Begins to carry out a plan. `started_at` is the wall clock for the report (RFC 3339, UTC);
    /// the plan must have been made from the sessions that are here now. An empty hub is drained
    /// at once.
    pub fn start(id: DrainId, plan: Plan, successors: &[Successor], started_at: String, now: Millis) -> Self {
        let mut roster = Roster::default();
        for (slot, id) in plan.order.iter().enumerate() {
            roster.insert(*id, Seat::new(Origin::Start, true, Some(slot), now));
        }
        for id in &plan.detached {
            roster.insert(*id, Seat::new(Origin::Start, false, None, now));
            roster.put(*id, Place::PushDue, None, now);
        }
        let safe_interval_us = 1_000_000 / SAFE_RATE_PER_S;
        let push_interval_us = (plan.push_reserve_ms * 1_000 / plan.sessions().max(1)).min(safe_interval_us);
        let flight = Flight::new(u64::from(plan.policy.max_in_flight), plan.policy.window_ms == 0);
        let mut drain = Self {
            id,
            ledger: Ledger::new(&plan, roster.remaining()),
            returns: Returns::default(),
            pacer: Pacer::new(plan.interval_us()),
            push_pacer: Pacer::new(push_interval_us),
            plan,
            started_at,
            began: now,
            state: State::Noticing { since: now },
            roster,
            peers: Peers::default(),
            speed: Speed::new(),
            flight,
            timetable: Vec::new(),
            cursor: 0,
            waived: None,
            shift_ms: 0,
            notices: 0,
            outbox: VecDeque::new(),
            failures_in_row: 0,
            awaiting_resume: BTreeSet::new(),
            closed: 0,
            seq: 1,
            end: None,
        };
        drain.peers.update(successors, &mut drain.speed, now);
        drain.check_end(now);
        drain
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, event: Event, now: Millis) {
        self.advance(now);
        match event {
            Event::PeersChanged(successors) => self.peers_changed(&successors, now),
            Event::Cancel(why) => self.cancel(DrainResult::Cancelled, why, now),
            Event::Continue => self.go_on_after_a_look(now),
            Event::Stopping => self.park_where_a_gate_failed(now),
            Event::PushAndParkRest => self.push_and_park_rest(now),
            Event::TriggerEnded => self.trigger_ended(now),
            event => self.session_event(event, now),
        }
        self.check_end(now);
    }

    /// The next thing to do, if anything is due. Ask until it answers none.
    pub fn poll_action(&mut self, now: Millis) -> Option<Action> {
        self.advance(now);
        if let State::Serving { .. } = self.state {
            return self.outbox.pop_front();
        }
        let action = self
            .outbox
            .pop_front()
            .or_else(|| self.next_notice(now))
            .or_else(|| self.next_park(now))
            .or_else(|| self.next_order(now))
            // Looking for an order may have closed a stage or ended the drain.
            .or_else(|| self.outbox.pop_front());
        self.seq += u64::from(action.is_some());
        action
    }

    /// When to ask again, if nothing happens before. Meant for when [`Drain::poll_action`] has
    /// just answered none.
    pub fn poll_timeout(&self) -> Option<Millis> {
        if !self.outbox.is_empty() {
            return Some(Millis(0));
        }
        if let State::Serving { .. } = self.state {
            return None;
        }
        [self.next_step_at(), self.roster.next_wake(), self.next_order_at()].into_iter().flatten().min()
    }

    /// Which drain this is.
    pub const fn id(&self) -> DrainId {
        self.id
    }

    /// Where it stands.
    pub const fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Whether the balancer has let go, or the process ends: whoever comes is pushed or parked at once, so a
    /// client is better sent elsewhere than taken in.
    pub const fn takes_along(&self) -> bool {
        self.state.takes_newcomers_along()
    }

    /// Rises with every change.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// What it was asked to do.
    pub const fn policy(&self) -> &Policy {
        &self.plan.policy
    }

    /// The plan that it carries out.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether somebody is on disk because of this drain.
    pub const fn has_parked(&self) -> bool {
        self.ledger.parked > 0
    }

    /// Checks that every session has one outcome or remains; says the sums if not.
    pub fn check_conservation(&self) -> Result<(), String> {
        report::conserved(&self.ledger.counts(self.roster.remaining()))
    }

    fn deadline(&self) -> Millis {
        self.began.plus(self.plan.policy.deadline_ms)
    }

    /// From here on everybody is pushed, or parked.
    fn push_at(&self) -> Millis {
        self.began.plus(self.plan.policy.deadline_ms - self.plan.push_reserve_ms)
    }

    /// From here on everybody is parked: the disk needs a moment, and the deadline is the deadline.
    fn force_at(&self) -> Millis {
        const FORCE_RESERVE_MAX_MS: u64 = 2_000;
        let reserve_ms = (self.plan.push_reserve_ms / 2).min(FORCE_RESERVE_MAX_MS);
        self.began.plus(self.plan.policy.deadline_ms - reserve_ms)
    }

    /// How long a client that was ordered to move may take to come anywhere.
    fn patience_ms(&self) -> u64 {
        const LEAST_MS: u64 = 1_000;
        self.plan.policy.gate.wait_max_ms.max(LEAST_MS)
    }

    /// The last moment that may be granted: a client needs time to move by itself after it.
    fn grants_end(&self, now: Millis) -> Millis {
        const GRANT_AFTER_END_MAX_MS: u64 = 60_000;
        let policy = &self.plan.policy;
        match self.state {
            State::Drained { .. } => now.plus(GRANT_AFTER_END_MAX_MS),
            _ => Millis(self.push_at().0.saturating_sub(policy.settle_ms.min(policy.gate.wait_max_ms))),
        }
    }

    /// The moment of a slot, with what gates and holds have put off.
    fn slot_at(&self, place: usize) -> Millis {
        self.began.plus(self.plan.slot_ms(place)).plus(self.shift_ms)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.seq += 1;
    }

    /// Ends the drain with this result.
    fn finish(&mut self, result: DrainResult, why: Option<String>, next: State, now: Millis) {
        self.end = Some((result, now.since(self.began), why));
        self.enter(next);
        debug_assert_eq!(self.check_conservation(), Ok(()));
        self.outbox.push_back(Action::Finish(Box::new(self.report(now))));
    }

    /// Calls it off, or serves again after the end. Warned clients are recalled; what is given
    /// away settles by the fence; parked sessions are taken up again.
    fn cancel(&mut self, result: DrainResult, why: Option<String>, now: Millis) {
        if matches!(self.state, State::Serving { .. }) {
            return;
        }
        let ended = !self.state.is_running();
        self.take_back_forced(now);
        let warned = |seat: &Seat| {
            let given_away = matches!(seat.place, Place::Committed { .. } | Place::Doubtful { .. });
            !given_away && !seat.place.has_outcome() && seat.connected && seat.noticed_at.is_some()
        };
        let recalled = self.roster.iter().filter(|(_, seat)| warned(seat)).map(|(id, _)| Action::Recall { id });
        // What was not yet sent is void.
        self.outbox.retain(|action| {
            !matches!(action, Action::Grant { .. } | Action::Notify { .. } | Action::Move { .. } | Action::Force { .. })
        });
        self.outbox.extend(recalled);
        if self.ledger.parked > 0 || self.roster.tally().parking > 0 {
            self.outbox.push_back(Action::ServeAgain);
        }
        if ended {
            self.enter(State::Serving { since: now });
        } else {
            self.finish(result, why, State::Serving { since: now }, now);
        }
    }
}
