//! The gate after each stage: what counts as evidence that clients arrive, and what becomes of a drain when there is none.
//!
//! A stage is evidence only by clients that were asked and did something: one that is busy, has ended or lost its
//! connection says nothing about the successors, so the next in order is asked in its place.

use super::Drain;
use super::state::{HeldWhy, State, Step};
use super::steps::GATE_SHOWS_AFTER_MS;
use crate::control::{DrainResult, OnGate};
use crate::id::SessionId;
use crate::position::Millis;

impl Drain {
    /// Opens the next stage if enough of this one is back, or if the wait is over; true on a change.
    pub(super) fn judge_gate(&mut self, stage: usize, out_at: Millis, now: Millis) -> bool {
        let gate = self.plan.policy.gate;
        let count = &self.ledger.stages[stage];
        if count.asked == 0 {
            return self.ask_others(stage, now);
        }
        let enough = count.done * 100 >= count.asked * u64::from(gate.back_min_percent);
        let waited_ms = now.since(out_at);
        if enough || waited_ms >= gate.wait_max_ms || self.waived == Some(stage) {
            if !enough && self.is_unproven() {
                self.gate_fails(format!("none of {} came back within {waited_ms} ms", count.asked), now);
                return true;
            }
            self.ledger.stages[stage].report.gate_waited_ms = waited_ms;
            self.open_stage(stage + 1, now);
            return true;
        }
        let shows = waited_ms >= GATE_SHOWS_AFTER_MS && matches!(self.state, State::Releasing { .. });
        if shows {
            self.enter(State::Held { since: now, stage, out_at: Some(out_at), why: HeldWhy::Gate });
        }
        shows
    }

    /// Everybody who was asked in the stage is busy by now, or gone: it goes on with the next in order.
    fn ask_others(&mut self, stage: usize, now: Millis) -> bool {
        if self.has_others_to_ask() {
            self.enter(State::Releasing { since: now, stage, out_at: None });
        } else {
            self.settle(now);
        }
        true
    }

    /// Whether anybody is left who could be asked in order, now or when a grant is over.
    pub(super) fn has_others_to_ask(&self) -> bool {
        self.cursor < self.timetable.len() || self.roster.tally().busy > 0
    }

    /// Whether the stage has nobody who counts, and may still get somebody.
    pub(super) fn lacks_evidence(&self, stage: usize) -> bool {
        self.ledger.stages[stage].asked == 0 && stage + 1 < self.plan.stages.len() && self.has_others_to_ask()
    }

    /// A stage is under way with more to come, and no client of it has been seen to arrive anywhere. Once clients of
    /// others have, a single one that does not may be asleep.
    pub(super) fn is_unproven(&self) -> bool {
        let Some(stage) = self.state.stage().filter(|stage| stage + 1 < self.plan.stages.len()) else { return false };
        let passes = self.plan.policy.on_gate == OnGate::Continue || self.waived == Some(stage);
        let count = &self.ledger.stages[stage];
        !passes && count.seen == 0 && (count.asked > 1 || self.nobody_was_seen())
    }

    /// No client at all has been seen to arrive anywhere.
    pub(super) fn nobody_was_seen(&self) -> bool {
        self.ledger.stages.iter().all(|stage| stage.seen == 0)
    }

    /// The stage is unproven, somebody was asked in it, and nothing else holds the drain.
    pub(super) fn canary_is_missing(&self) -> bool {
        let released = matches!(self.state, State::Releasing { .. } | State::Held { why: HeldWhy::Gate, .. });
        released && self.is_unproven() && self.state.stage().is_some_and(|stage| self.ledger.stages[stage].asked > 0)
    }

    pub(super) fn why_missing(&self) -> String {
        let asked = self.state.stage().map_or(0, |stage| self.ledger.stages[stage].asked);
        format!("none of {asked} came back so far")
    }

    /// Nobody of the stage came to another hub.
    pub(super) fn gate_fails(&mut self, mut why: String, now: Millis) {
        if self.ledger.turned_back > 0 {
            why.push_str("; clients that were sent to another hub by its --public-url come back here instead");
        }
        match self.plan.policy.on_gate {
            OnGate::Recall => self.cancel(DrainResult::GateFailed, Some(why), now),
            OnGate::Hold | OnGate::Continue => self.hold(|probe_at| HeldWhy::Canary { why, probe_at }, now),
        }
    }

    /// Whether it is held by a gate or by refusals, so that [`super::Event::Continue`] makes it go on.
    pub const fn is_held_at_a_gate(&self) -> bool {
        matches!(self.state, State::Held { why: HeldWhy::Gate | HeldWhy::Canary { .. } | HeldWhy::Refusals { .. }, .. })
    }

    pub(super) fn go_on_after_a_look(&mut self, now: Millis) {
        if self.is_held_at_a_gate() {
            self.waived = self.state.stage();
            self.failures_in_row = 0;
            self.go_on(now);
        }
    }

    /// The process ends, and nobody is pushed to where no client arrives.
    pub(super) fn park_where_a_gate_failed(&mut self, now: Millis) {
        if self.state.failed_gate().is_some() {
            self.enter(State::Settling { since: now, step: Step::Parking { rest: true } });
            self.dispose_all(now);
        }
    }

    /// A session of this stage is live elsewhere; `seen`: with its client.
    pub(super) fn stage_moved(&mut self, id: SessionId, seen: bool) {
        if let Some(stage) = self.roster.seat_mut(id).and_then(|seat| seat.stage.take()) {
            let count = &mut self.ledger.stages[stage];
            count.report.back += 1;
            count.done += 1;
            count.seen += u64::from(seen);
        }
    }

    /// It is found unroutable: clients do what they are told, if only to come back here.
    pub(super) fn stage_answered(&mut self, id: SessionId) {
        if let Some(stage) = self.roster.seat_mut(id).and_then(|seat| seat.stage.take()) {
            let count = &mut self.ledger.stages[stage];
            count.done += 1;
            count.seen += 1;
        }
    }

    /// It is gone, and not by a move: no evidence any more.
    pub(super) fn stage_left(&mut self, id: SessionId) {
        if let Some(stage) = self.roster.seat_mut(id).and_then(|seat| seat.stage.take()) {
            let count = &mut self.ledger.stages[stage];
            count.report.back += 1;
            count.asked -= 1;
        }
    }

    /// Its release is taken back, and the gate must not wait for it.
    pub(super) fn unattribute(&mut self, id: SessionId) {
        if let Some(stage) = self.roster.seat_mut(id).and_then(|seat| seat.stage.take()) {
            self.ledger.stages[stage].asked -= 1;
        }
    }

    /// Whether nobody is pushed any more.
    pub(super) const fn parks_only(&self) -> bool {
        matches!(self.state, State::Settling { step: Step::Parking { rest: true }, .. } | State::Forcing { .. })
    }
}
