//! What happens to single sessions: the dialogue, the connection, the handover, the outcome.

use super::event::{Action, Event, Facts, Resume};
use super::orders::{COMMITTED_WAIT_MS, HANDOVER_WAIT_MS};
use super::peers::Pick;
use super::roster::{Origin, Place, Seat};
use super::state::{State, Step};
use super::{Drain, FAILURES_MAX, WHY_MAX_CHARS};
use crate::app::Finished;
use crate::id::{HubId, SessionId};
use crate::position::Millis;

/// A client that lost its connection may be back within this; then the session is pushed.
const DETACHED_GRACE_MS: u64 = 2_000;
/// A refused session is tried again after this, times its failures.
const RETRY_AFTER_MS: u64 = 1_000;
/// A session that every peer refused is tried again after this, doubled each time …
pub(super) const AGAIN_AFTER_MS: u64 = 5_000;
/// … up to this.
const AGAIN_AFTER_MAX_MS: u64 = 60_000;
/// The same for a park just before the deadline.
const PARK_AGAIN_AFTER_MS: u64 = 100;

impl Drain {
    pub(super) fn session_event(&mut self, event: Event, now: Millis) {
        if matches!(self.state, State::Serving { .. }) && !matches!(event, Event::Live { .. } | Event::Resumed { .. }) {
            return;
        }
        self.seq += 1;
        match event {
            Event::Arrived { id, facts } => self.arrived(id, facts, now),
            Event::Ready { id } => self.ready(id, now),
            Event::Busy { id, ms, why } => self.busy(id, ms, &why, now),
            Event::ConnectionLost { id } => self.connection_lost(id, now),
            Event::ConnectionBack { id } => self.connection_back(id, now),
            Event::HandoverBegan { id, to } => self.handover_began(id, to, now),
            Event::Committed { id, to, exchange_ms } => {
                if let Some(exchange_ms) = exchange_ms {
                    self.flight.exchanged(exchange_ms);
                }
                self.committed(id, to, now);
            }
            Event::AppFinished { how, .. } => {
                let app = &mut self.ledger.messages.app;
                *match how {
                    Finished::Said => &mut app.said,
                    Finished::Assumed => &mut app.assumed,
                    Finished::Cut => &mut app.cut,
                } += 1;
            }
            Event::Live { id, to, had_connection, resume } => self.live(id, to, had_connection, resume, now),
            Event::Resumed { id, resume } => self.resumed(id, resume),
            Event::Refused { id, to, why } => self.refused(id, to, &why, false, now),
            Event::Blocked { id, to, why } => self.refused(id, to, &why, true, now),
            Event::Bounced { id } => self.bounced(id, now),
            Event::Left { id } => self.outcome(id, |ledger| ledger.left += 1),
            Event::Parked { id } => self.outcome(id, |ledger| ledger.parked += 1),
            Event::Forced { id } => self.count_forced(id, now),
            Event::ParkFailed { id, why } => self.park_failed(id, &why, now),
            Event::PeersChanged(_)
            | Event::Cancel(_)
            | Event::Continue
            | Event::Stopping
            | Event::PushAndParkRest
            | Event::TriggerEnded => {}
        }
    }

    fn arrived(&mut self, id: SessionId, facts: Facts, now: Millis) {
        let mut seat = Seat::new(Origin::Arrival, facts.connected, None, now);
        seat.fresh = facts.fresh;
        self.awaiting_resume.remove(&id);
        if !self.roster.insert(id, seat) {
            return if facts.connected { self.connection_back(id, now) } else { self.connection_lost(id, now) };
        }
        self.ledger.arrived += 1;
        if !matches!(self.state, State::Forcing { .. }) {
            self.turn(id, now);
        }
    }

    fn ready(&mut self, id: SessionId, now: Millis) {
        let Some(seat) = self.roster.seat_mut(id) else { return };
        let first = !std::mem::replace(&mut seat.dialogue.ready, true);
        seat.dialogue.until = None;
        self.ledger.clients.ready += u64::from(first);
        if matches!(seat.place, Place::Busy { .. }) {
            self.turn(id, now);
        }
    }

    /// Gives what was asked for, as far as the time kept for pushing allows.
    fn busy(&mut self, id: SessionId, ms: u64, why: &str, now: Millis) {
        let grants_end = self.grants_end(now);
        let Some(seat) = self.roster.seat_mut(id).filter(|seat| !seat.place.has_outcome()) else { return };
        let first = !std::mem::replace(&mut seat.dialogue.busy, true);
        seat.dialogue.ready = false;
        self.ledger.clients.busy += u64::from(first);
        let can_wait = matches!(
            seat.place,
            Place::Waiting
                | Place::Late
                | Place::Busy { .. }
                | Place::Ordered { .. }
                | Place::PushDue
                | Place::Retry { .. }
                | Place::Unroutable { .. }
        );
        let slot = seat.slot.filter(|slot| *slot >= self.cursor && seat.place == Place::Waiting);
        let planned = slot.map_or(now, |slot| self.slot_at(slot));
        let until = now.plus(ms).min(grants_end).max(planned);
        if !can_wait || until <= now || self.state.parks() && !self.is_alone() {
            self.outbox.push_back(Action::Grant { id, slot_in_ms: planned.since(now) });
            return;
        }
        self.unattribute(id);
        if let Some(seat) = self.roster.seat_mut(id) {
            let first = !std::mem::replace(&mut seat.dialogue.granted, true);
            seat.dialogue.until = Some(until);
            self.ledger.clients.granted += u64::from(first);
        }
        self.roster.put(id, Place::Busy { why: short(why) }, Some(until), now);
        self.outbox.push_back(Action::Grant { id, slot_in_ms: until.since(now) });
    }

    /// There is no peer, and parking goes on quietly: busy clients still have their time.
    const fn is_alone(&self) -> bool {
        matches!(self.state, State::Settling { step: Step::Parking { .. }, .. })
    }

    fn connection_lost(&mut self, id: SessionId, now: Millis) {
        let Some(seat) = self.roster.seat_mut(id) else { return };
        if !std::mem::replace(&mut seat.connected, false) {
            return;
        }
        let wake = Some(now.plus(DETACHED_GRACE_MS));
        match seat.place.clone() {
            Place::Waiting | Place::Busy { .. } | Place::Late => self.roster.put(id, Place::Waiting, wake, now),
            place @ Place::Ordered { .. } => self.roster.put(id, place, wake, now),
            _ => {}
        }
    }

    fn connection_back(&mut self, id: SessionId, now: Millis) {
        let Some(seat) = self.roster.seat_mut(id) else { return };
        let was_lost = !std::mem::replace(&mut seat.connected, true);
        if let Place::Ordered { to } = seat.place {
            return if was_lost {
                self.order_new_connection(id, to, now)
            };
        }
        if !matches!(seat.place, Place::Waiting | Place::PushDue) || self.state.parks() {
            return;
        }
        let has_slot = seat.slot.is_some_and(|slot| slot >= self.cursor);
        if has_slot && seat.noticed_at.is_some() {
            self.roster.put(id, Place::Waiting, None, now);
        } else {
            self.turn(id, now);
        }
    }

    /// Its turn has come, or would have if its notice were old enough.
    pub(super) fn turn(&mut self, id: SessionId, now: Millis) {
        let Some(seat) = self.roster.get(id) else { return };
        // A newcomer that nobody can take is served on, until the rest is parked too.
        let served_on = seat.origin == Origin::Arrival && !self.state.takes_newcomers_along();
        if self.state.parks() && !served_on {
            return self.dispose(id, now);
        }
        if !seat.connected {
            return self.roster.put(id, Place::PushDue, None, now);
        }
        let (fresh, noticed_at) = (seat.fresh, seat.noticed_at.unwrap_or(now));
        let granted_until = seat.dialogue.until.filter(|until| *until > now);
        if seat.noticed_at.is_none() {
            let notice = self.notify(id, now);
            self.outbox.push_back(notice);
        }
        if granted_until.is_some() {
            // Its line broke, or a handover was refused, while it was busy: it still is.
            return self.roster.put(id, Place::Busy { why: String::new() }, granted_until, now);
        }
        let begins_at = match self.state {
            State::Noticing { since } => since.plus(self.plan.policy.notice_ms),
            _ => now,
        };
        let aged_at = if fresh { now } else { noticed_at.plus(self.plan.policy.notice_ms) };
        match aged_at.max(begins_at) {
            at if at > now => self.roster.put(id, Place::Waiting, Some(at), now),
            _ => self.roster.put(id, Place::Late, None, now),
        }
    }

    /// It has to go now: pushed if anybody takes it, parked if not.
    pub(super) fn dispose(&mut self, id: SessionId, now: Millis) {
        let last = matches!(self.state, State::Settling { step: Step::Last { .. }, .. } | State::Forcing { .. });
        let parks_only = self.parks_only();
        let Some(seat) = self.roster.seat_mut(id) else { return };
        seat.cut |= last && seat.connected;
        let avoid = seat.avoid.clone();
        // The place that is kept for it, if it was on its way, is free before one is looked for.
        self.roster.put(id, Place::PushDue, None, now);
        if parks_only || !matches!(self.peers.pick(&avoid, &self.roster), Pick::Hub(_)) {
            self.roster.put(id, Place::ParkDue, None, now);
        }
    }

    fn handover_began(&mut self, id: SessionId, to: HubId, now: Millis) {
        let Some(seat) = self.roster.get(id) else { return };
        match seat.place {
            Place::Pushing { .. }
            | Place::Committed { .. }
            | Place::Doubtful { .. }
            | Place::Unconfirmed { .. }
            | Place::Forced
            | Place::Parking => {}
            Place::Handing { to: hub } if hub == to => self.handing(id, to, now),
            Place::Ordered { to: Some(named) } if named == to => self.handing(id, to, now),
            _ => {
                self.came_elsewhere(id);
                self.join_share(id, to);
                self.handing(id, to, now);
            }
        }
    }

    fn handing(&mut self, id: SessionId, to: HubId, now: Millis) {
        self.roster.put(id, Place::Handing { to }, Some(now.plus(HANDOVER_WAIT_MS)), now);
    }

    fn committed(&mut self, id: SessionId, to: HubId, now: Millis) {
        if self.roster.get(id).is_some_and(|seat| !seat.place.is_given()) {
            self.peers.given(to, now);
            self.roster.put(id, Place::Committed { to }, Some(now.plus(COMMITTED_WAIT_MS)), now);
        }
    }

    fn live(&mut self, id: SessionId, to: HubId, had_connection: bool, resume: Option<Resume>, now: Millis) {
        let Some(seat) = self.roster.get(id) else { return };
        if !seat.place.is_given() {
            self.peers.given(to, now);
        }
        self.stage_moved(id, had_connection || resume.is_some());
        self.outcome(id, |ledger| ledger.moved += 1);
        self.ledger.moved_connected += u64::from(had_connection);
        self.ledger.rate.count(now);
        self.peers.moved(to);
        self.failures_in_row = 0;
        match resume {
            Some(resume) => self.account(resume, had_connection),
            None if had_connection => _ = self.awaiting_resume.insert(id),
            None => {}
        }
        self.move_worked(had_connection, now);
    }

    fn resumed(&mut self, id: SessionId, resume: Resume) {
        if self.awaiting_resume.remove(&id) {
            self.account(resume, true);
        }
    }

    fn account(&mut self, resume: Resume, had_connection: bool) {
        self.ledger.resumed += 1;
        self.ledger.messages.replayed += resume.replayed;
        self.ledger.messages.duplicates_dropped += resume.duplicates_dropped;
        self.ledger.messages.gaps += resume.gaps;
        self.ledger.messages.lost += resume.lost;
        if let Some(gap_ms) = resume.gap_ms.filter(|_| had_connection) {
            self.ledger.gaps.record(gap_ms);
        }
    }

    /// One outcome for one session. Whoever was unconfirmed or forced had one already: that is corrected.
    fn outcome(&mut self, id: SessionId, count: impl FnOnce(&mut super::report::Ledger)) {
        self.stage_left(id);
        let Some(seat) = self.roster.remove(id) else { return };
        match seat.place {
            Place::Unconfirmed { .. } => self.ledger.unconfirmed -= 1,
            Place::Forced => self.ledger.forced -= 1,
            _ => {}
        }
        let kept_before = self.ledger.moved + self.ledger.parked;
        count(&mut self.ledger);
        let kept = self.ledger.moved + self.ledger.parked > kept_before;
        self.ledger.cut += u64::from(seat.cut && kept);
    }

    fn refused(&mut self, id: SessionId, to: Option<HubId>, why: &str, for_good: bool, now: Millis) {
        let forcing = matches!(self.state, State::Forcing { .. });
        let Some(seat) = self.roster.seat_mut(id) else { return };
        let to = match seat.place {
            Place::Ordered { to: named } => to.or(named),
            Place::Pushing { to: named } | Place::Handing { to: named } => to.or(Some(named)),
            _ => return,
        };
        self.speed.cut(now);
        self.failures_in_row += 1;
        seat.failures = if for_good { FAILURES_MAX } else { seat.failures + 1 };
        let (failures, why) = (seat.failures, short(why));
        if forcing {
            self.roster.put(id, Place::ParkDue, None, now);
        } else if failures < FAILURES_MAX {
            let at = now.plus(RETRY_AFTER_MS * u64::from(failures));
            self.roster.put(id, Place::Retry { why: why.clone() }, Some(at), now);
        } else {
            seat.failures = 0;
            if let Some(to) = to.filter(|to| !seat.avoid.contains(to)) {
                seat.avoid.push(to);
            }
            let avoid = seat.avoid.clone();
            match (to, self.peers.pick(&avoid, &self.roster)) {
                (Some(_), Pick::Hub(_) | Pick::Full) => self.roster.put(id, Place::PushDue, None, now),
                _ => self.refused_by_all(id, why.clone(), now),
            }
        }
        self.hold_if_refused(&why, now);
    }

    /// Every peer that takes anybody has refused it. While there is time, all of them are tried again, more and
    /// more seldom; it is parked when parking is due.
    pub(super) fn refused_by_all(&mut self, id: SessionId, why: String, now: Millis) {
        let along = self.state.takes_newcomers_along();
        let (parks, running) = (self.state.parks(), self.state.is_running());
        let Some(seat) = self.roster.seat_mut(id) else { return };
        if parks && (seat.origin == Origin::Start || along) {
            return self.roster.put(id, Place::ParkDue, None, now);
        }
        if parks || !running {
            // A newcomer that nobody takes is served on; after the end everybody is tried every ten seconds.
            return self.roster.put(id, Place::Stuck { why }, None, now);
        }
        seat.avoid.clear();
        let after_ms = (AGAIN_AFTER_MS << seat.refusals.min(16)).min(AGAIN_AFTER_MAX_MS);
        seat.refusals = seat.refusals.saturating_add(1);
        self.roster.put(id, Place::Retry { why }, Some(now.plus(after_ms)), now);
    }

    fn park_failed(&mut self, id: SessionId, why: &str, now: Millis) {
        let forcing = matches!(self.state, State::Forcing { .. });
        let Some(seat) = self.roster.seat_mut(id).filter(|seat| matches!(seat.place, Place::Parking | Place::ParkDue))
        else {
            return;
        };
        seat.failures = seat.failures.saturating_add(1);
        let failures = seat.failures;
        if failures < FAILURES_MAX {
            let after_ms = if forcing { PARK_AGAIN_AFTER_MS } else { RETRY_AFTER_MS };
            let at = now.plus(after_ms * u64::from(failures));
            self.roster.put(id, Place::Retry { why: short(why) }, Some(at), now);
        } else if forcing {
            self.force(id, now);
        } else {
            self.roster.put(id, Place::Stuck { why: short(why) }, None, now);
        }
    }

    /// Neither push nor park worked.
    pub(super) fn force(&mut self, id: SessionId, now: Millis) {
        let slot_in_ms = self.next_return_slot_ms();
        self.count_forced(id, now);
        self.outbox.push_back(Action::Force { id, slot_in_ms });
    }

    fn count_forced(&mut self, id: SessionId, now: Millis) {
        if self.roster.get(id).is_some_and(|seat| !seat.place.has_outcome()) {
            self.stage_left(id);
            self.ledger.forced += 1;
            self.roster.put(id, Place::Forced, None, now);
        }
    }

    /// The process goes on: whoever was forced is served by it like everybody else.
    pub(super) fn take_back_forced(&mut self, now: Millis) {
        for id in self.ids(|seat| seat.place == Place::Forced) {
            self.ledger.forced -= 1;
            self.roster.put(id, Place::Waiting, None, now);
        }
    }

    /// A wake-up of one session has come.
    pub(super) fn wake(&mut self, id: SessionId, now: Millis) {
        let Some(seat) = self.roster.get(id) else { return };
        match seat.place.clone() {
            Place::Waiting | Place::Busy { .. } | Place::Retry { .. } => self.turn(id, now),
            Place::Ordered { to } => self.straggles(id, to, now),
            Place::Pushing { to } | Place::Handing { to } => {
                self.refused(id, Some(to), "the handover was not answered in time", false, now);
            }
            Place::Committed { to } => self.roster.put(id, Place::Doubtful { to }, None, now),
            Place::Parking => self.park_failed(id, "the write to disk was not answered in time", now),
            Place::Late
            | Place::PushDue
            | Place::ParkDue
            | Place::Doubtful { .. }
            | Place::Stuck { .. }
            | Place::Unroutable { .. }
            | Place::Unconfirmed { .. }
            | Place::Forced => {}
        }
    }

    /// Its client was ordered to move and has not come anywhere.
    fn straggles(&mut self, id: SessionId, to: Option<HubId>, now: Millis) {
        let again = now.plus(self.patience_ms());
        let Some(seat) = self.roster.get(id) else { return };
        let (connected, stage) = (seat.connected, seat.stage);
        if self.state.probe_at().is_some() {
            self.roster.put(id, Place::Ordered { to }, Some(again), now);
        } else if let Some(cause) = self.finding(id, now) {
            self.unroutable(id, cause, now);
        } else if connected && self.is_unproven() {
            self.roster.put(id, Place::Ordered { to }, Some(again), now);
            self.gate_fails(format!("no client came back within {} ms", self.plan.policy.gate.wait_max_ms), now);
        } else {
            if let Some(stage) = stage {
                self.ledger.stages[stage].report.pushed += 1;
            }
            if !connected {
                // No client is there that could be seen anywhere.
                self.unattribute(id);
            }
            self.roster.put(id, Place::PushDue, None, now);
        }
    }
}

/// A stranger's words, cut to what an operator reads.
fn short(why: &str) -> String {
    why.chars().filter(|c| !c.is_control()).take(WHY_MAX_CHARS).collect()
}
