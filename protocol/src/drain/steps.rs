//! What time does: from phase to phase, gates and holds, push time, deadline, end.

use super::event::Successor;
use super::orders::PROBE_EVERY_MS;
use super::roster::{Origin, Place, Seat};
use super::state::{HeldWhy, State, Step};
use super::{Drain, HAND_ON_EVERY_MS};
use crate::control::DrainResult;
use crate::id::SessionId;
use crate::position::Millis;

/// A gate that is shut for longer than this shows as *held*; shorter waits are the normal course.
pub(super) const GATE_SHOWS_AFTER_MS: u64 = 1_000;
/// So many handovers refused in a row hold the drain.
const REFUSED_IN_ROW_MAX: u64 = 10;
/// While nobody ever came back, so many do.
const REFUSED_CANARIES_MAX: u64 = 3;

impl Drain {
    /// Lets time pass until now.
    pub(super) fn advance(&mut self, now: Millis) {
        if matches!(self.state, State::Serving { .. }) {
            return;
        }
        self.speed.settle(now);
        while self.step(now) {}
        // A wake-up may call the drain off.
        while !matches!(self.state, State::Serving { .. })
            && let Some(id) = self.roster.pop_due(now)
        {
            self.wake(id, now);
        }
        self.check_end(now);
    }

    /// One change of phase that is due; false if none is.
    fn step(&mut self, now: Millis) -> bool {
        if self.state.is_running() && self.step_by_limit(now) {
            return true;
        }
        match &self.state {
            State::Noticing { since } if now >= since.plus(self.plan.policy.notice_ms) => self.begin_release(now),
            State::Releasing { out_at: Some(out_at), stage, .. } => return self.judge_gate(*stage, *out_at, now),
            State::Held { why: HeldWhy::Gate, out_at: Some(out_at), stage, .. } => {
                return self.judge_gate(*stage, *out_at, now);
            }
            state if state.park_at().is_some_and(|at| now >= at) => self.park_all(now),
            State::Settling { step: Step::Waiting { until }, .. } if now >= *until => self.settle_over(now),
            State::Settling { step: Step::Resumes { until, .. }, .. } if now >= *until => self.conclude(now),
            State::Drained { retry_at, .. } if now >= *retry_at => self.hand_on(now),
            _ => return false,
        }
        true
    }

    /// The limits that hold in every phase: push time, forcing, deadline.
    fn step_by_limit(&mut self, now: Millis) -> bool {
        let done = matches!(self.state, State::Settling { step: Step::Resumes { .. }, .. });
        let last = matches!(
            self.state,
            State::Settling { step: Step::Last { .. } | Step::Parking { rest: true }, .. } | State::Forcing { .. }
        );
        let pushing = done || last;
        let forcing = done || matches!(self.state, State::Forcing { .. });
        if now >= self.deadline() {
            match self.state.failed_gate() {
                Some(why) => self.cancel(DrainResult::GateFailed, Some(why.to_owned()), now),
                None => self.end_at_deadline(now),
            }
        } else if self.state.failed_gate().is_some() {
            return false;
        } else if now >= self.force_at() && !forcing {
            self.enter(State::Forcing { since: now, rest: self.state.takes_newcomers_along() });
            self.dispose_all(now);
        } else if now >= self.push_at() && !pushing {
            if self.canary_is_missing() {
                let why = format!("{}, and the time for pushing has come", self.why_missing());
                self.gate_fails(why, now);
                return true;
            }
            self.enter(State::Settling { since: now, step: Step::Last { rest: false } });
            self.dispose_all(now);
        } else {
            return false;
        }
        true
    }

    /// When [`Drain::advance`] has something to do by itself.
    pub(super) fn next_step_at(&self) -> Option<Millis> {
        let done = matches!(self.state, State::Settling { step: Step::Resumes { .. }, .. });
        let limit = match &self.state {
            State::Serving { .. } | State::Drained { .. } => None,
            _ if self.state.failed_gate().is_some() => Some(self.deadline()),
            State::Settling { step: Step::Last { .. } | Step::Parking { rest: true }, .. } => Some(self.force_at()),
            State::Forcing { .. } => Some(self.deadline()),
            _ if done => Some(self.deadline()),
            _ => Some(self.push_at()),
        };
        let gate_ends = |out_at: Millis| out_at.plus(self.plan.policy.gate.wait_max_ms);
        let own = match &self.state {
            State::Noticing { since } => Some(since.plus(self.plan.policy.notice_ms)),
            State::Releasing { out_at: Some(out_at), .. } => {
                Some(gate_ends(*out_at).min(out_at.plus(GATE_SHOWS_AFTER_MS)))
            }
            State::Held { why: HeldWhy::Gate, out_at: Some(out_at), .. } => Some(gate_ends(*out_at)),
            State::Held { why: HeldWhy::NoPeerYet { .. } | HeldWhy::NoPeer { .. }, .. } => self.state.park_at(),
            State::Settling { step: Step::Waiting { until } | Step::Resumes { until, .. }, .. } => Some(*until),
            State::Drained { retry_at, .. } => (self.roster.remaining() > 0).then_some(*retry_at),
            _ => None,
        };
        [limit, own].into_iter().flatten().min()
    }

    /// The notice has aged. Who said ready goes first; nobody gets an earlier slot than he was told
    /// unless he did.
    fn begin_release(&mut self, now: Millis) {
        if !self.peers.any_eligible() {
            if self.plan.may_park && !self.peers.any_hopeful() {
                return self.park_all(now);
            }
            let why = HeldWhy::NoPeerYet { park_at: self.agreed_park_at(now) };
            return self.enter(State::Held { since: now, stage: 0, out_at: None, why });
        }
        let is_ready = |id: &SessionId| self.roster.get(*id).is_some_and(|seat| seat.dialogue.ready);
        let (ready, rest): (Vec<_>, Vec<_>) = self.plan.order.iter().copied().partition(is_ready);
        self.timetable = ready.into_iter().chain(rest).collect();
        for (slot, id) in self.timetable.iter().enumerate() {
            if let Some(seat) = self.roster.seat_mut(*id) {
                seat.slot = Some(slot);
            }
        }
        self.shift_ms = now.since(self.began.plus(self.plan.policy.notice_ms));
        if self.plan.stages.is_empty() {
            self.settle(now);
        } else {
            self.open_stage(0, now);
        }
    }

    pub(super) fn open_stage(&mut self, stage: usize, now: Millis) {
        // A stage before may have taken some of this one, in place of those who were busy.
        let planned = self.slot_at(self.plan.stages[stage].first.max(self.cursor));
        self.shift_ms += now.since(planned);
        self.ledger.stages[stage].report.began_ms = Some(now.since(self.began));
        self.enter(State::Releasing { since: now, stage, out_at: None });
    }

    /// The last session of the stage was asked.
    pub(super) fn stage_out(&mut self, stage: usize, now: Millis) {
        if stage + 1 == self.plan.stages.len() {
            return self.settle(now);
        }
        let since = self.state.since();
        self.enter(State::Releasing { since, stage, out_at: Some(now) });
        self.judge_gate(stage, now, now);
    }

    pub(super) fn settle(&mut self, now: Millis) {
        let until = now.plus(self.plan.policy.settle_ms);
        self.enter(State::Settling { since: now, step: Step::Waiting { until } });
    }

    /// Suspends moving, if it is under way.
    pub(super) fn hold(&mut self, why: impl FnOnce(Millis) -> HeldWhy, now: Millis) {
        let (stage, out_at) = match self.state {
            State::Releasing { stage, out_at, .. } | State::Held { stage, out_at, why: HeldWhy::Gate, .. } => {
                (stage, out_at)
            }
            _ => return,
        };
        self.enter(State::Held { since: now, stage, out_at, why: why(now.plus(PROBE_EVERY_MS)) });
    }

    pub(super) fn hold_if_refused(&mut self, why: &str, now: Millis) {
        let why = format!("{} moves in a row were refused: {why}", self.failures_in_row);
        if self.is_unproven() && self.nobody_was_seen() {
            let asked = self.state.stage().map_or(0, |stage| self.ledger.stages[stage].asked);
            if self.failures_in_row >= asked.clamp(1, REFUSED_CANARIES_MAX) {
                self.gate_fails(why, now);
            }
        } else if self.failures_in_row >= REFUSED_IN_ROW_MAX {
            self.hold(|probe_at| HeldWhy::Refusals { why, probe_at }, now);
        }
    }

    pub(super) fn put_off_probe(&mut self, now: Millis) {
        if let State::Held {
            why:
                HeldWhy::Canary { probe_at, .. } | HeldWhy::Refusals { probe_at, .. } | HeldWhy::NoPeer { probe_at, .. },
            ..
        } = &mut self.state
        {
            *probe_at = now.plus(PROBE_EVERY_MS);
        }
    }

    /// A session went live elsewhere: a hold may end.
    pub(super) fn move_worked(&mut self, had_connection: bool, now: Millis) {
        let State::Held { why, .. } = &self.state else { return };
        let ends = match why {
            HeldWhy::Gate | HeldWhy::NoPeerYet { .. } => false,
            HeldWhy::Canary { .. } => had_connection,
            HeldWhy::Refusals { .. } | HeldWhy::NoPeer { .. } => self.peers.any_eligible(),
        };
        if ends {
            self.go_on(now);
        }
    }

    /// Clients do come back, if only to the wrong hub: no reason to hold on their account.
    pub(super) fn canary_answered(&mut self, now: Millis) {
        if matches!(self.state, State::Held { why: HeldWhy::Canary { .. }, .. }) {
            self.go_on(now);
        }
    }

    /// Ends a hold; the timetable is put off by its length.
    pub(super) fn go_on(&mut self, now: Millis) {
        let State::Held { since, stage, out_at, .. } = self.state else { return };
        self.shift_ms += now.since(since);
        self.enter(State::Releasing { since: now, stage, out_at: out_at.map(|_| now) });
    }

    pub(super) fn peers_changed(&mut self, successors: &[Successor], now: Millis) {
        let before = self.peers.any_eligible();
        self.peers.update(successors, &mut self.speed, now);
        let after = self.peers.any_eligible();
        self.seq += u64::from(before != after);
        if !after {
            // Who fell silent may be back soon: even who agreed to parking is parked then only when time is short.
            let park_at = if self.peers.any_full() { self.agreed_park_at(now) } else { None };
            if park_at.is_some() && matches!(self.state, State::Settling { step: Step::Pushing, .. }) {
                return self.park_all(now);
            }
            return self.hold(|probe_at| HeldWhy::NoPeer { park_at, probe_at }, now);
        }
        match &mut self.state {
            State::Held { why: HeldWhy::NoPeerYet { .. }, .. } => self.begin_release(now),
            State::Held { why: HeldWhy::NoPeer { park_at, probe_at }, .. } if !before => {
                // As soon as the pace allows: a peer that comes and goes must not speed the drain up.
                *probe_at = (*probe_at).min(now.max(self.pacer.ready_at()));
                *park_at = None;
            }
            _ => {}
        }
    }

    /// When everybody is parked if no peer comes back, as far as that was agreed. Without a word of it they wait for a
    /// peer until the time kept before the deadline.
    fn agreed_park_at(&self, now: Millis) -> Option<Millis> {
        self.plan.may_park.then(|| now.plus(self.plan.policy.gate.wait_max_ms))
    }

    /// There is nobody to hand over to, nor will be soon.
    fn park_all(&mut self, now: Millis) {
        self.enter(State::Settling { since: now, step: Step::Parking { rest: false } });
        for id in self.ids(|seat| {
            seat.origin == Origin::Start && !matches!(seat.place, Place::Busy { .. }) && is_idle(&seat.place)
        }) {
            self.dispose(id, now);
        }
    }

    /// Clients had their time to come by themselves: the stragglers are pushed.
    fn settle_over(&mut self, now: Millis) {
        let since = self.state.since();
        self.enter(State::Settling { since, step: Step::Pushing });
        for id in self.ids(|seat| matches!(&seat.place, Place::Ordered { .. })) {
            let came_back = self.roster.get(id).is_some_and(|seat| seat.bounces > 0);
            match self.finding(id, now) {
                Some(cause) => self.unroutable(id, cause, now),
                // It tries on, and chance will decide soon; pushed, it would only lose its old connection.
                None if came_back => {}
                None => self.roster.put(id, Place::PushDue, None, now),
            }
        }
        for id in self.ids(|seat| seat.origin == Origin::Start && matches!(seat.place, Place::Stuck { .. })) {
            self.roster.put(id, Place::ParkDue, None, now);
        }
        if self.plan.may_park && !self.peers.any_eligible() && self.peers.any_full() {
            self.park_all(now);
        }
    }

    /// Time is nearly up: everybody who is not under way already is pushed or parked.
    pub(super) fn dispose_all(&mut self, now: Millis) {
        let rest = self.state.takes_newcomers_along();
        let forcing = matches!(self.state, State::Forcing { .. });
        for id in self.ids(|seat| seat.origin == Origin::Start || rest) {
            let Some(seat) = self.roster.get(id) else { continue };
            match seat.place {
                Place::Committed { .. } | Place::Doubtful { .. } | Place::Parking => {}
                Place::Unconfirmed { .. } | Place::Forced => {}
                Place::Pushing { .. } | Place::Handing { .. } if !forcing => {}
                Place::Unroutable { .. } if !rest => {}
                _ if rest => self.dispose(id, now),
                // Pushed, it would only be brought back here by its balancer.
                _ => match self.finding_so_far(id) {
                    Some(cause) => self.unroutable(id, cause, now),
                    None => self.dispose(id, now),
                },
            }
        }
    }

    /// The deadline. Whoever is still here is closed; who is unroutable stays.
    fn end_at_deadline(&mut self, now: Millis) {
        for id in self.ids(|seat| seat.origin == Origin::Start) {
            match self.roster.get(id).map(|seat| seat.place.clone()) {
                Some(Place::Committed { to } | Place::Doubtful { to }) => {
                    self.ledger.unconfirmed += 1;
                    self.roster.put(id, Place::Unconfirmed { to }, None, now);
                }
                Some(Place::Unroutable { .. } | Place::Unconfirmed { .. } | Place::Forced) | None => {}
                Some(_) => self.force(id, now),
            }
        }
        self.conclude(now);
    }

    /// Ends the drain when nobody is left to wait for.
    pub(super) fn check_end(&mut self, now: Millis) {
        if !self.state.is_running() {
            return;
        }
        let tally = *self.roster.tally();
        if tally.start == 0 {
            match self.state {
                State::Settling { step: Step::Resumes { .. }, .. } if self.awaiting_resume.is_empty() => {
                    self.conclude(now)
                }
                State::Settling { step: Step::Resumes { .. }, .. } => {}
                _ if self.awaiting_resume.is_empty() || matches!(self.state, State::Forcing { .. }) => {
                    self.conclude(now)
                }
                _ => {
                    let until = now.plus(self.plan.policy.settle_ms).min(self.deadline());
                    self.enter(State::Settling {
                        since: now,
                        step: Step::Resumes { until, rest: self.state.takes_newcomers_along() },
                    });
                }
            }
        } else if tally.start == tally.start_unroutable {
            let settled = !matches!(self.state, State::Settling { step: Step::Waiting { .. }, .. });
            if settled && matches!(self.state, State::Settling { .. } | State::Forcing { .. }) {
                self.conclude(now);
            }
        }
    }

    fn conclude(&mut self, now: Millis) {
        let (forced, unconfirmed, cut) = (self.ledger.forced, self.ledger.unconfirmed, self.ledger.cut);
        let at_deadline = match (forced, unconfirmed, cut) {
            (0, 0, 0) => None,
            (0, 0, _) => {
                Some(format!("{cut} connections were closed before their clients had moved; the sessions are kept"))
            }
            _ => Some(format!(
                "the deadline came: of {forced} sessions neither push nor park had worked, {unconfirmed} were given to a \
                 hub that had not confirmed it"
            )),
        };
        let result = match (forced + unconfirmed, self.roster.tally().start) {
            (0, 0) => DrainResult::Drained,
            (0, _) => DrainResult::Unroutable,
            _ => DrainResult::Forced,
        };
        let why = [at_deadline, self.why_unroutable(), self.why_parked()]
            .into_iter()
            .flatten()
            .reduce(|one, other| format!("{one}; {other}"));
        self.finish(result, why, self.drained(now), now);
    }

    /// Nobody is parked in silence where other hubs are known.
    fn why_parked(&self) -> Option<String> {
        let parked = self.ledger.parked;
        (parked > 0 && self.peers.any_known())
            .then(|| format!("{parked} sessions were parked: no other hub took them, or none had room"))
    }

    fn drained(&self, now: Millis) -> State {
        State::Drained { since: now, retry_at: now.plus(HAND_ON_EVERY_MS), rest: self.state.takes_newcomers_along() }
    }

    /// After the end: everybody who is still here is tried once more.
    fn hand_on(&mut self, now: Millis) {
        if let State::Drained { retry_at, .. } = &mut self.state {
            *retry_at = now.plus(HAND_ON_EVERY_MS);
        }
        // Without a peer there is still the disk, where everybody is to be parked.
        if !self.peers.any_eligible() && !self.state.takes_newcomers_along() {
            return;
        }
        let waits =
            |seat: &Seat| matches!(seat.place, Place::Stuck { .. } | Place::Unroutable { .. } | Place::Retry { .. });
        for id in self.ids(waits) {
            self.forget_returns(id);
            if let Some(seat) = self.roster.seat_mut(id) {
                seat.avoid.clear();
                seat.failures = 0;
            }
            self.turn(id, now);
        }
    }

    pub(super) fn trigger_ended(&mut self, now: Millis) {
        if matches!(self.state, State::Drained { .. }) {
            self.hand_on(now);
        }
    }

    /// AfterBlockTraffic: the balancer has let go, so the unroutable are pushed too.
    pub(super) fn push_and_park_rest(&mut self, now: Millis) {
        match &mut self.state {
            // A failed gate has everybody parked already.
            State::Serving { .. } | State::Settling { step: Step::Parking { rest: true }, .. } => return,
            State::Drained { rest, .. } => *rest = true,
            _ => self.enter(State::Settling { since: now, step: Step::Last { rest: true } }),
        }
        self.dispose_all(now);
    }

    pub(super) fn ids(&self, which: impl Fn(&Seat) -> bool) -> Vec<SessionId> {
        self.roster.iter().filter(|(_, seat)| which(seat)).map(|(id, _)| id).collect()
    }
}

/// Not under way to anywhere.
const fn is_idle(place: &Place) -> bool {
    !matches!(
        place,
        Place::Pushing { .. }
            | Place::Handing { .. }
            | Place::Committed { .. }
            | Place::Doubtful { .. }
            | Place::Unconfirmed { .. }
            | Place::Forced
            | Place::Parking
    )
}
