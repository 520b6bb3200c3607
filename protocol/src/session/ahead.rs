//! The owner's side of a bulk (rule 10): it goes ahead while the session serves on; the freeze comes when
//! the peer has it, will not have it, or has not said so in time.
//!
//! ```text
//!             much to copy                    held, refused, late
//!   give ───────────────────► Awaited(errand) ───────────────────► frozen, with the mark kept
//!    │                          │    ▲                                │
//!    │ little                   │    └── another claim of that peer   │ thaw: the next try counts on
//!    ▼                          ▼                                     ▼ what the peer holds already
//!   frozen at once            Late: its errand is over              Held (or Late)
//! ```

use super::bulk::{BULK_MIN_BYTES, BULK_REUSE_MS, BULK_WAIT_MS, Bulk, Mark, weight};
use super::{Action, Outcome, Purpose, Session, State, Timer};
use crate::id::HubId;
use crate::peer::{BULK_VERSION, ClaimId, Handover, PeerMessage};
use crate::position::Generation;
use crate::replay::Payload;

/// Why a session is to go to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errand {
    /// The claim that asked for it; absent: a push.
    pub claim: Option<ClaimId>,
    /// The snapshot version to write.
    pub version: u32,
}

/// How far a bulk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// Sent, and the freeze waits for the answer.
    Awaited(Errand),
    /// Sent, and nothing waits for the answer any more.
    Late,
    /// The peer holds it.
    Held,
}

/// A bulk that went ahead of the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ahead {
    /// To whom.
    pub to: HubId,
    /// Its number: a generation that is offered for nothing else.
    pub bulk: Generation,
    /// What was in it.
    pub mark: Mark,
    /// How far it is.
    pub progress: Progress,
}

impl Errand {
    pub(super) fn purpose(self, handover: Handover) -> Purpose {
        self.claim.map_or(Purpose::Pushed(handover), |claim| Purpose::Claimed(handover, claim))
    }
}

impl Ahead {
    /// To whom the session goes once the answer is in.
    pub(super) fn awaited(&self) -> Option<Errand> {
        match self.progress {
            Progress::Awaited(errand) => Some(errand),
            Progress::Late | Progress::Held => None,
        }
    }
}

impl<M: Payload> Session<M> {
    /// Hands a served session on: the bulk first if the peer lacks much of it, else the freeze at once.
    pub(super) fn give(&mut self, to: HubId, errand: Errand, out: &mut Vec<Action<M>>) {
        let State::Serving { record, fence, ahead, .. } = &mut self.state else { return };
        match ahead {
            Some(at) if at.to == to && at.awaited().is_some() => {
                // It is on its way already; only who asked for it has changed.
                at.progress = Progress::Awaited(errand);
                return;
            }
            Some(at) if at.awaited().is_some() => out.push(Action::Told(Outcome::Thawed { blocked: false })),
            Some(_) | None => {}
        }
        out.push(Action::Told(Outcome::Began));
        let lacks = match ahead {
            Some(at) if at.to == to && at.progress == Progress::Held => at.mark.weight_since(record),
            Some(_) | None => weight(record),
        };
        if errand.version < BULK_VERSION || lacks < BULK_MIN_BYTES {
            return self.freeze(|handover| errand.purpose(handover), to, errand.version, out);
        }
        let bulk = fence.offer();
        *ahead = Some(Box::new(Ahead { to, bulk, mark: Mark::of(record), progress: Progress::Awaited(errand) }));
        let contents = Box::new(Bulk::of(record));
        let version = errand.version;
        out.push(Action::Say(to, PeerMessage::Bulk { session: self.id, bulk, version, contents }));
        out.push(Action::Arm(Timer::BulkWait(bulk), BULK_WAIT_MS));
        out.push(Action::Arm(Timer::BulkReuse(bulk), BULK_REUSE_MS));
    }

    fn ahead_mut(&mut self) -> Option<&mut Option<Box<Ahead>>> {
        match &mut self.state {
            State::Serving { ahead, .. } | State::Frozen { ahead, .. } => Some(ahead),
            State::Nothing
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => None,
        }
    }

    /// The bulk of this number is held, or (`held` false) will not be: the freeze need not wait for it.
    pub(super) fn on_bulk_answer(&mut self, from: HubId, bulk: Generation, held: bool, out: &mut Vec<Action<M>>) {
        let Some(ahead) = self.ahead_mut() else { return };
        let Some(at) = ahead.as_mut().filter(|at| at.to == from && at.bulk == bulk) else { return };
        let errand = at.awaited();
        if held {
            at.progress = Progress::Held;
        } else {
            *ahead = None;
        }
        if let Some(errand) = errand {
            self.freeze(|handover| errand.purpose(handover), from, errand.version, out);
        }
    }

    /// The answer is late: the freeze carries everything. Should the answer still come, the next try counts on it.
    pub(super) fn on_bulk_wait(&mut self, bulk: Generation, out: &mut Vec<Action<M>>) {
        let Some(Some(at)) = self.ahead_mut() else { return };
        if let (true, Some(errand)) = (at.bulk == bulk, at.awaited()) {
            at.progress = Progress::Late;
            let to = at.to;
            self.freeze(|handover| errand.purpose(handover), to, errand.version, out);
        }
    }

    pub(super) fn on_bulk_reuse(&mut self, bulk: Generation) {
        if let Some(ahead) = self.ahead_mut()
            && ahead.as_ref().is_some_and(|at| at.bulk == bulk && at.awaited().is_none())
        {
            *ahead = None;
        }
    }

    /// The client of a claim that waits for its bulk came here instead: the claim is over.
    pub(super) fn forget_claim(ahead: &mut Option<Box<Ahead>>, out: &mut Vec<Action<M>>) {
        if let Some(at) = ahead
            && at.awaited().is_some_and(|errand| errand.claim.is_some())
        {
            at.progress = Progress::Late;
            out.push(Action::Told(Outcome::Thawed { blocked: false }));
        }
    }

    /// That peer has lost its memory, or is away: nothing of ours is held there.
    pub(super) fn bulk_lost_with(&mut self, hub: HubId, out: &mut Vec<Action<M>>) {
        if let Some(ahead) = self.ahead_mut()
            && let Some(at) = ahead.take_if(|at| at.to == hub)
            && at.awaited().is_some()
        {
            out.push(Action::Told(Outcome::Thawed { blocked: false }));
        }
    }

    /// The peer does not have what the difference stands on: it gets everything, within the same freeze.
    pub(super) fn on_lacking(&mut self, handover: Handover, out: &mut Vec<Action<M>>) {
        let State::Frozen { purpose, ahead, .. } = &mut self.state else { return };
        if purpose.handover() == Some(handover) {
            *ahead = None;
            self.say_snapshot(out);
        }
    }
}
