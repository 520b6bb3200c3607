//! Giving a session away: freeze, offer, commit, and thaw when it does not work out (rules 6 to 10, 18).

use super::record::{HelloFacts, Record};
use super::{
    Action, Errand, FREEZE_FAILURES_MAX, FREEZE_FIRST_MS, FREEZE_MAX_MS, Fence, KEPT_MS, Left, Link, Outcome, Progress,
    Purpose, REPEAT_MS, Session, Stage, State, Timer,
};
use crate::close::Close;
use crate::id::HubId;
use crate::peer::{ClaimId, Handover, PeerMessage, Refusal, SNAPSHOT_VERSION, SNAPSHOT_VERSIONS, common_version};
use crate::position::Generation;
use crate::replay::Payload;

impl Purpose {
    pub(super) fn handover(&self) -> Option<Handover> {
        match self {
            Self::Claimed(handover, _) | Self::Pushed(handover) => Some(*handover),
            Self::Park => None,
        }
    }

    fn claim(&self) -> Option<ClaimId> {
        match self {
            Self::Claimed(_, claim) => Some(*claim),
            Self::Pushed(_) | Self::Park => None,
        }
    }
}

fn freeze_limit_ms(failures: u8) -> u64 {
    (FREEZE_FIRST_MS << failures.min(16)).min(FREEZE_MAX_MS)
}

impl<M: Payload> Session<M> {
    pub(super) fn on_claim(
        &mut self,
        from: HubId,
        claim: ClaimId,
        hello: HelloFacts,
        versions: &[u32],
        orphaned: bool,
        out: &mut Vec<Action<M>>,
    ) {
        let refused = |why| Action::Say(from, PeerMessage::Refused { session: self.id, claim, why });
        match &mut self.state {
            // It came to this hub while the hub was looking for the owner: its next try is served at once.
            State::Serving { .. } if from == self.me => out.push(refused(Refusal::Busy)),
            // The same claim again, while its bulk is under way.
            State::Serving { ahead: Some(at), .. }
                if at.to == from && at.awaited().is_some_and(|errand| errand.claim == Some(claim)) => {}
            State::Serving { record, .. } => {
                let Some(version) = common_version(&SNAPSHOT_VERSIONS, versions) else {
                    return out.push(refused(Refusal::Version));
                };
                if record.has_accepted(&hello) {
                    // A claim that was granted before and thawed: doubled on its way, not a thief.
                    out.push(refused(Refusal::Busy));
                } else if let Err(verdict) = record.judge(&hello) {
                    out.push(refused(Refusal::Judged(verdict)));
                } else {
                    record.accept(&hello);
                    self.give(from, Errand { claim: Some(claim), version }, out);
                }
            }
            State::Frozen { purpose: Purpose::Claimed(handover, standing), stage, .. }
                if *standing == claim && handover.to == from =>
            {
                // The same claim again: the snapshot may have been lost. It never starts a new freeze.
                if matches!(stage, Stage::Offered { .. }) {
                    self.say_snapshot(out);
                }
            }
            State::Given { record, successor_gone, .. } if *successor_gone || orphaned => {
                let record = Box::new(record.after_reset());
                out.push(Action::Say(from, PeerMessage::ResetFrom { session: self.id, claim, record }));
            }
            State::Copy { record, predecessor_gone, .. } if *predecessor_gone || orphaned => {
                let record = Box::new(record.after_reset());
                out.push(Action::Say(from, PeerMessage::ResetFrom { session: self.id, claim, record }));
            }
            State::Parked { .. } => {
                out.push(refused(Refusal::Busy));
                out.push(Action::TakeUp);
            }
            State::Frozen { .. } | State::Copy { .. } => out.push(refused(Refusal::Busy)),
            State::Nothing | State::Given { .. } | State::Moved { .. } | State::Ended { .. } => {
                let knowledge = self.knowledge();
                out.push(Action::Say(
                    from,
                    PeerMessage::Refused { session: self.id, claim, why: Refusal::NotOwner(knowledge) },
                ));
            }
        }
    }

    /// A handover that is under way goes first, whoever asked for it.
    pub(super) fn on_push(&mut self, to: HubId, version: u32, out: &mut Vec<Action<M>>) {
        if self.successor().is_none() && to != self.me {
            self.give(to, Errand { claim: None, version }, out);
        }
    }

    /// A handover that is under way is aborted first; one that is committed stands.
    pub(super) fn on_park(&mut self, out: &mut Vec<Action<M>>) {
        if let State::Frozen { purpose, .. } = &self.state
            && let Some(handover) = purpose.handover()
        {
            out.push(Action::Say(handover.to, PeerMessage::Aborted { session: self.id, handover }));
            self.thaw(false, out);
        }
        if matches!(self.state, State::Serving { .. }) {
            out.push(Action::Told(Outcome::Began));
            self.freeze(|_| Purpose::Park, self.me, SNAPSHOT_VERSION, out);
        }
    }

    pub(super) fn freeze(
        &mut self,
        purpose: impl FnOnce(Handover) -> Purpose,
        to: HubId,
        version: u32,
        out: &mut Vec<Action<M>>,
    ) {
        match self.take_state() {
            State::Serving { record, mut fence, link, failures, ahead, .. } => {
                let handover = Handover { from: self.me, to, generation: fence.offer() };
                let (purpose, stage, ahead) = (purpose(handover), Stage::Settling, ahead.filter(|at| at.to == to));
                self.state = State::Frozen { record, fence, link, failures, purpose, stage, version, ahead };
                out.push(Action::Settle);
            }
            other => self.state = other,
        }
    }

    pub(super) fn on_settled(&mut self, out: &mut Vec<Action<M>>) {
        let State::Frozen { record, stage, purpose, fence, failures, .. } = &mut self.state else { return };
        if *stage != Stage::Settling {
            return;
        }
        *stage = Stage::Offered { last_serial: record.issue() };
        if matches!(purpose, Purpose::Park) {
            out.push(Action::Write);
            return;
        }
        out.push(Action::Arm(Timer::Freeze(fence.offered), freeze_limit_ms(*failures)));
        self.say_snapshot(out);
    }

    /// The difference, if the peer holds the bulk of it, else everything.
    pub(super) fn say_snapshot(&self, out: &mut Vec<Action<M>>) {
        let State::Frozen { record, purpose, stage: Stage::Offered { .. }, version, ahead, .. } = &self.state else {
            return;
        };
        let Some(handover) = purpose.handover() else { return };
        let (session, claim, version) = (self.id, purpose.claim(), *version);
        let snapshot = match ahead {
            Some(at) if at.progress == Progress::Held => {
                let difference = Box::new(at.mark.difference(record));
                PeerMessage::Difference { session, handover, claim, version, bulk: at.bulk, difference }
            }
            Some(_) | None => PeerMessage::Snapshot { session, handover, claim, version, record: record.clone() },
        };
        out.push(Action::Say(handover.to, snapshot));
    }

    /// Commit is this one step, on a `held` for the freeze that the session is in now, and nobody else's (rule 7).
    pub(super) fn on_held(&mut self, from: HubId, handover: Handover, out: &mut Vec<Action<M>>) {
        match &self.state {
            State::Frozen { purpose, stage: Stage::Offered { last_serial }, .. }
                if purpose.handover() == Some(handover) =>
            {
                let last_serial = *last_serial;
                self.commit(handover, last_serial, out);
            }
            State::Given { handover: given, .. } if *given == handover => {
                out.push(Action::Say(handover.to, PeerMessage::Committed { session: self.id, handover }));
            }
            // `live` is in already; this is an echo.
            State::Moved { generation, .. } if *generation == handover.generation => {}
            // An earlier run of this hub may have committed it, and then this copy is all that is left.
            State::Nothing => {}
            State::Serving { .. }
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => {
                out.push(Action::Say(from, PeerMessage::Aborted { session: self.id, handover }));
            }
        }
    }

    fn commit(&mut self, handover: Handover, serial: u32, out: &mut Vec<Action<M>>) {
        let State::Frozen { record, link, .. } = self.take_state() else { return };
        self.state = State::Given { record, handover, successor_gone: false };
        out.push(Action::Say(handover.to, PeerMessage::Committed { session: self.id, handover }));
        out.push(Action::Arm(Timer::Repeat(handover.generation, 0), REPEAT_MS));
        out.push(Action::Arm(Timer::Kept(handover.generation), KEPT_MS));
        out.push(Action::Unbind);
        if let Link::Attached { conn, .. } = link {
            out.push(Action::LastMove { conn, serial, to: handover.to, generation: handover.generation });
            out.push(Action::Close { conn, close: Close::Restart, why: "moved" });
        }
        out.push(Action::ForwardCalls(handover.to));
        out.push(Action::Told(Outcome::Committed));
    }

    pub(super) fn on_abort(&mut self, handover: Handover, out: &mut Vec<Action<M>>) {
        if matches!(&self.state, State::Frozen { purpose, .. } if purpose.handover() == Some(handover)) {
            self.thaw(false, out);
        }
    }

    pub(super) fn on_freeze_limit(&mut self, generation: Generation, out: &mut Vec<Action<M>>) {
        let State::Frozen { fence, purpose, .. } = &self.state else { return };
        let Some(handover) = purpose.handover() else { return };
        if fence.offered == generation {
            out.push(Action::Say(handover.to, PeerMessage::Aborted { session: self.id, handover }));
            self.thaw(true, out);
        }
    }

    /// Back to work, under a generation above the one that was offered (rule 6): a `held` that comes
    /// later names an old freeze and is answered `aborted`.
    pub(super) fn thaw(&mut self, failed: bool, out: &mut Vec<Action<M>>) {
        match self.take_state() {
            State::Frozen { record, mut fence, link, failures, ahead, .. } => {
                fence.thaw();
                let failures = failures + u8::from(failed);
                let blocked = failures >= FREEZE_FAILURES_MAX;
                let failures = if blocked { 0 } else { failures };
                self.state = State::Serving { record, fence, link, failures, ahead };
                out.extend([Action::Bind, Action::ApplyCalls, Action::Wake, Action::Told(Outcome::Thawed { blocked })]);
            }
            other => self.state = other,
        }
    }

    pub(super) fn on_live(&mut self, handover: Handover, out: &mut Vec<Action<M>>) {
        if matches!(&self.state, State::Given { handover: given, .. } if *given == handover) {
            self.state = State::Moved { to: handover.to, generation: handover.generation };
            out.push(Action::Told(Outcome::Live(handover.to)));
        }
    }

    pub(super) fn on_lost(&mut self, handover: Handover, out: &mut Vec<Action<M>>) {
        if let State::Given { handover: given, successor_gone, .. } = &mut self.state
            && *given == handover
            && !*successor_gone
        {
            *successor_gone = true;
            out.push(Action::Told(Outcome::SuccessorLost));
        }
    }

    pub(super) fn on_repeat(&mut self, generation: Generation, tries: u8, out: &mut Vec<Action<M>>) {
        const DOUBLINGS_MAX: u8 = 5;
        if let State::Given { handover, successor_gone: false, .. } = &self.state
            && handover.generation == generation
        {
            out.push(Action::Say(handover.to, PeerMessage::Committed { session: self.id, handover: *handover }));
            let tries = (tries + 1).min(DOUBLINGS_MAX);
            out.push(Action::Arm(Timer::Repeat(generation, tries), REPEAT_MS << tries));
        }
    }

    /// Nobody confirmed it while its data was kept, and no client came for it. Where the successor is known
    /// to have lost it, it is over; else it may live there, and the tombstone shows the way.
    pub(super) fn on_kept(&mut self, generation: Generation, out: &mut Vec<Action<M>>) {
        let State::Given { handover, successor_gone, .. } = &self.state else { return };
        if handover.generation != generation {
            return;
        }
        if *successor_gone {
            return self.on_end(Left::Expired, out);
        }
        let to = handover.to;
        self.state = State::Moved { to, generation };
        out.push(Action::Told(Outcome::NeverConfirmed(to)));
    }

    pub(super) fn on_written(&mut self, out: &mut Vec<Action<M>>) {
        let State::Frozen { fence, link, purpose: Purpose::Park, stage: Stage::Offered { .. }, .. } = &self.state
        else {
            return;
        };
        let (fence, link) = (*fence, *link);
        self.state = State::Parked { fence };
        out.push(Action::Unbind);
        if let Link::Attached { conn, .. } = link {
            out.push(Action::Close { conn, close: Close::Restart, why: "parked" });
        }
        out.extend([Action::ApplyCalls, Action::Told(Outcome::Parked)]);
    }

    pub(super) fn on_write_failed(&mut self, out: &mut Vec<Action<M>>) {
        if matches!(&self.state, State::Frozen { purpose: Purpose::Park, .. }) {
            self.thaw(false, out);
            out.push(Action::Told(Outcome::ParkFailed));
        }
    }

    pub(super) fn on_taken_up(&mut self, record: Box<Record<M>>, out: &mut Vec<Action<M>>) {
        if let State::Parked { mut fence } = self.state {
            fence.thaw();
            self.state = State::serving(record, fence, Link::Detached);
            out.extend([Action::Bind, Action::ApplyCalls]);
        }
    }

    /// What a parked record must carry beside [`Record`]: the generations.
    pub fn fence(&self) -> Option<Fence> {
        match &self.state {
            State::Serving { fence, .. } | State::Frozen { fence, .. } | State::Parked { fence } => Some(*fence),
            State::Nothing | State::Given { .. } | State::Moved { .. } | State::Copy { .. } | State::Ended { .. } => {
                None
            }
        }
    }
}
