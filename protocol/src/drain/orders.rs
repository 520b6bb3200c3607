//! Whom to ask next: notices, slots, turns, pushes and parks, within every bound at once.

use super::Drain;
use super::event::Action;
use super::pace::Flight;
use super::peers::Pick;
use super::plan::SAFE_RATE_PER_S;
use super::roster::{Place, Queue, Seat};
use super::sessions::AGAIN_AFTER_MS;
use super::state::State;
use crate::id::{HubId, SessionId};
use crate::position::Millis;

/// A push that was neither committed nor refused within this counts as refused.
pub(super) const HANDOVER_WAIT_MS: u64 = 30_000;
/// Given away for this long without `live`: no longer holds up others.
pub(super) const COMMITTED_WAIT_MS: u64 = 10_000;
/// Parks under way at once: enough to share each write to disk among many.
const PARKING_MAX: u64 = 512;
/// A park that was not answered within this counts as failed.
const PARK_WAIT_MS: u64 = 30_000;
/// While held, one session is tried this often.
pub(super) const PROBE_EVERY_MS: u64 = 5_000;
/// A notice may be this young at the slot: handing out many notices takes a moment.
const NOTICE_SLACK_MS: u64 = 1_000;

impl Drain {
    /// The first notice of each connected session, in the order of the slots.
    pub(super) fn next_notice(&mut self, now: Millis) -> Option<Action> {
        while self.state.is_running() && self.notices < self.plan.order.len() {
            let id = self.plan.order[self.notices];
            self.notices += 1;
            let fits = self.roster.get(id).is_some_and(|seat| seat.connected && seat.noticed_at.is_none());
            if fits {
                return Some(self.notify(id, now));
            }
        }
        None
    }

    /// The notice for one session, now.
    pub(super) fn notify(&mut self, id: SessionId, now: Millis) -> Action {
        let mut slot = now.plus(self.plan.policy.notice_ms);
        if let Some(seat) = self.roster.seat_mut(id) {
            seat.noticed_at = Some(now);
        }
        if let Some(place) = self.roster.get(id).and_then(|seat| seat.slot) {
            slot = slot.max(self.slot_at(place));
        }
        self.ledger.clients.notified += 1;
        Action::Notify { id, deadline_in_ms: self.deadline().since(now), slot_in_ms: slot.since(now) }
    }

    /// Parking costs no successor anything: bounded, not paced.
    pub(super) fn next_park(&mut self, now: Millis) -> Option<Action> {
        if self.roster.tally().parking >= PARKING_MAX {
            return None;
        }
        let id = self.roster.first(Queue::Park)?;
        self.roster.put(id, Place::Parking, Some(now.plus(PARK_WAIT_MS)), now);
        Some(Action::Park { id, slot_in_ms: self.next_return_slot_ms() })
    }

    /// Slots for clients that come back by themselves, at the safe rate.
    pub(super) fn next_return_slot_ms(&mut self) -> u64 {
        self.closed += 1;
        (self.closed - 1) * 1_000 / SAFE_RATE_PER_S
    }

    /// The next move or push, if the phase, the bounds and the pace allow one.
    pub(super) fn next_order(&mut self, now: Millis) -> Option<Action> {
        if let Some(probe_at) = self.state.probe_at() {
            return if now >= probe_at { self.probe(now) } else { None };
        }
        let moving = matches!(
            self.state,
            State::Releasing { .. } | State::Held { .. } | State::Settling { .. } | State::Drained { .. }
        );
        if !moving {
            return None;
        }
        self.find_head(now);
        if !self.peers.any_place(&self.roster) {
            return self.park_instead_of_push(now);
        }
        if self.roster.tally().in_flight >= self.in_flight_limit() {
            return None;
        }
        // Pushes first: they cost no reconnect, and their limit leaves room for the clients' slots.
        if self.roster.tally().pushing < self.push_limit()
            && self.push_pacer.is_ready(now)
            && let Some(push) = self.next_push(now)
        {
            return Some(push);
        }
        if self.pacer.is_ready(now)
            && let Some(id) = self.roster.first(Queue::Late).or_else(|| self.next_slot(now))
        {
            let order = self.order(id, now);
            self.find_head(now);
            return Some(order);
        }
        None
    }

    /// When [`Drain::next_order`] may have something, as far as time decides.
    pub(super) fn next_order_at(&self) -> Option<Millis> {
        if let Some(probe_at) = self.state.probe_at() {
            return (self.peers.any_place(&self.roster) && self.has_probe()).then_some(probe_at);
        }
        let moving = matches!(
            self.state,
            State::Releasing { .. } | State::Held { .. } | State::Settling { .. } | State::Drained { .. }
        );
        if !moving || !self.peers.any_place(&self.roster) {
            return None;
        }
        if self.roster.tally().in_flight >= self.in_flight_limit() {
            // Events free a bound that is reached; one that was cut also rises by itself.
            return self.speed.rises_at();
        }
        let late = self.roster.first(Queue::Late).map(|_| self.pacer.ready_at());
        let slot = self.slot_due_at().map(|at| at.max(self.pacer.ready_at()));
        let can_push = self.roster.tally().pushing < self.push_limit();
        let push = self.roster.first(Queue::Push).filter(|_| can_push).map(|_| self.push_pacer.ready_at());
        [late, slot, push].into_iter().flatten().min()
    }

    pub(super) fn in_flight_limit(&self) -> u64 {
        let max = u64::from(self.plan.policy.max_in_flight);
        // A successor that is slow slows this many by itself; fewer would only leave both hubs idle.
        let limit = self.speed.of(max).max(max.min(Flight::LEAST));
        match self.state {
            State::Releasing { .. } | State::Held { .. } => limit.min(self.flight.limit()),
            // What is left goes before the deadline, whatever waits meanwhile.
            _ => limit,
        }
    }

    /// While clients still have slots, pushes leave them half of the room.
    fn push_limit(&self) -> u64 {
        let limit = self.in_flight_limit();
        match self.state {
            State::Releasing { .. } | State::Held { .. } => limit.div_ceil(2),
            _ => limit,
        }
    }

    /// The moment of the next slot of the stage, if one is left.
    fn slot_due_at(&self) -> Option<Millis> {
        let State::Releasing { stage, out_at: None, .. } = self.state else { return None };
        let end = self.stage_end(stage);
        let more = self.cursor < self.timetable.len() && self.lacks_evidence(stage);
        (self.cursor < end || more).then(|| self.head_due_at())
    }

    /// When the session at the cursor may go: at its slot, its notice aged.
    fn head_due_at(&self) -> Millis {
        let slot = self.slot_at(self.cursor);
        let noticed_at = self.roster.get(self.timetable[self.cursor]).and_then(|seat| seat.noticed_at);
        noticed_at.map_or(slot, |at| slot.max(at.plus(self.plan.policy.notice_ms)))
    }

    pub(super) fn stage_end(&self, stage: usize) -> usize {
        self.plan.stages[stage].first + self.plan.stages[stage].count
    }

    /// Brings the cursor to the next session that waits for its slot; closes the stage when there
    /// is none left in it.
    fn find_head(&mut self, now: Millis) {
        while let State::Releasing { stage, out_at: None, .. } = self.state {
            if self.cursor >= self.stage_end(stage) && !self.lacks_evidence(stage) {
                self.stage_out(stage, now);
                continue;
            }
            if self.cursor >= self.timetable.len() {
                // Who is left is busy: the first of them whose grant is over is the canary.
                return;
            }
            let id = self.timetable[self.cursor];
            let waits_here = |seat: &&Seat| seat.place == Place::Waiting && seat.slot == Some(self.cursor);
            let Some(seat) = self.roster.get(id).filter(waits_here) else {
                self.cursor += 1;
                continue;
            };
            let aged_at = seat.noticed_at.map_or(Millis(u64::MAX), |at| at.plus(self.plan.policy.notice_ms));
            let young = aged_at > self.slot_at(self.cursor).max(now).plus(NOTICE_SLACK_MS);
            if seat.connected && !young {
                return;
            }
            // Nobody waits behind it: it goes by itself.
            self.cursor += 1;
            self.turn(id, now);
        }
    }

    /// The session at the cursor, if its slot has come.
    fn next_slot(&mut self, now: Millis) -> Option<SessionId> {
        let due_at = self.slot_due_at()?;
        if due_at > now {
            return None;
        }
        self.cursor += 1;
        Some(self.timetable[self.cursor - 1])
    }

    /// Orders one session to move, or pushes it if nobody is there to be ordered.
    fn order(&mut self, id: SessionId, now: Millis) -> Action {
        let speed = self.speed.permille();
        self.pacer.take(now, speed);
        self.attribute(id);
        let seat = self.roster.seat_mut(id).expect("ids come from the roster's own indices");
        seat.asked_at.get_or_insert(now);
        let avoid = seat.avoid.clone();
        self.leave_share(id);
        let to = self.peers.pick_named(&avoid, &self.roster);
        if let Some(seat) = self.roster.seat_mut(id) {
            seat.named = to.is_some();
        }
        if let Some(hub) = to {
            self.join_share(id, hub);
        }
        let patience = now.plus(self.plan.policy.gate.wait_max_ms.max(1));
        self.roster.put(id, Place::Ordered { to }, Some(patience), now);
        Action::Move { id, to }
    }

    /// It goes to this hub now, and counts in its share alone: who was sent to one and goes to another would else
    /// count for both, and the hubs would end uneven.
    pub(super) fn join_share(&mut self, id: SessionId, hub: HubId) {
        self.leave_share(id);
        if let Some(seat) = self.roster.seat_mut(id) {
            seat.sent_to = Some(hub);
            self.peers.assign(hub);
        }
    }

    fn leave_share(&mut self, id: SessionId) {
        if let Some(before) = self.roster.seat_mut(id).and_then(|seat| seat.sent_to.take()) {
            self.peers.take_back(before);
        }
    }

    /// Counts a release for the stage that is open.
    fn attribute(&mut self, id: SessionId) {
        let Some(stage) = self.state.stage() else { return };
        if let Some(seat) = self.roster.seat_mut(id)
            && seat.stage.is_none()
        {
            seat.stage = Some(stage);
            self.ledger.stages[stage].asked += 1;
        }
    }

    /// The next push. Who was refused by every eligible peer waits, or is parked.
    fn next_push(&mut self, now: Millis) -> Option<Action> {
        while let Some(id) = self.roster.first(Queue::Push) {
            let avoid = self.roster.get(id).map(|seat| seat.avoid.clone()).unwrap_or_default();
            self.leave_share(id);
            match self.peers.pick(&avoid, &self.roster) {
                Pick::Hub(to) => return Some(self.push(id, to, now)),
                Pick::Full => self.no_room_for(id, now),
                Pick::Nobody => self.refused_by_all(id, "every peer refused it".to_owned(), now),
            }
            if let Some(park) = self.next_park(now) {
                return Some(park);
            }
        }
        None
    }

    fn push(&mut self, id: SessionId, to: HubId, now: Millis) -> Action {
        let speed = self.speed.permille();
        self.push_pacer.take(now, speed);
        self.join_share(id, to);
        self.roster.put(id, Place::Pushing { to }, Some(now.plus(HANDOVER_WAIT_MS)), now);
        Action::Push { id, to }
    }

    /// There is room, but only at hubs that it is not to be sent to.
    fn no_room_for(&mut self, id: SessionId, now: Millis) {
        if self.state.parks() {
            return self.roster.put(id, Place::ParkDue, None, now);
        }
        let why = "the hubs that may take it have no room".to_owned();
        self.roster.put(id, Place::Retry { why }, Some(now.plus(AGAIN_AFTER_MS)), now);
    }

    /// No peer takes anybody, or none has room: where parking is due, who waits for a push is parked.
    fn park_instead_of_push(&mut self, now: Millis) -> Option<Action> {
        if !self.state.parks() {
            return None;
        }
        while let Some(id) = self.roster.first(Queue::Push) {
            self.roster.put(id, Place::ParkDue, None, now);
        }
        self.next_park(now)
    }

    fn has_probe(&self) -> bool {
        let in_order = self.cursor < self.timetable.len();
        in_order
            || [Queue::Late, Queue::Push].iter().any(|queue| self.roster.first(*queue).is_some())
            || self.roster.tally().in_flight > 0
    }

    /// While held: one session, to see whether moves work again.
    fn probe(&mut self, now: Millis) -> Option<Action> {
        self.put_off_probe(now);
        if !self.peers.any_place(&self.roster) {
            return None;
        }
        if self.roster.tally().in_flight >= u64::from(self.plan.policy.max_in_flight) {
            return self.order_again(now);
        }
        while self.cursor < self.timetable.len() {
            let id = self.timetable[self.cursor];
            let waits_here = |place: &Place, slot| *place == Place::Waiting && slot == Some(self.cursor);
            if self.roster.get(id).is_some_and(|seat| waits_here(&seat.place, seat.slot)) {
                break;
            }
            self.cursor += 1;
        }
        if let Some(id) = self.roster.first(Queue::Late) {
            return Some(self.order(id, now));
        }
        if self.cursor < self.timetable.len() {
            let id = self.timetable[self.cursor];
            self.cursor += 1;
            self.turn(id, now);
            if self.roster.first(Queue::Late) == Some(id) {
                return Some(self.order(id, now));
            }
        }
        self.next_push(now).or_else(|| self.order_again(now))
    }

    /// Nobody new is left to try: the client that was ordered first is ordered once more.
    fn order_again(&mut self, now: Millis) -> Option<Action> {
        let ordered = |seat: &Seat| matches!(seat.place, Place::Ordered { .. }) && seat.connected;
        let id = self.roster.awaited().find(|(_, seat)| ordered(seat)).map(|(id, _)| id)?;
        Some(self.order(id, now))
    }
}
