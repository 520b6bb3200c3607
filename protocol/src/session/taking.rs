//! Taking a session over: hold a copy inert, go live on `committed` alone (rules 8 and 9).

use super::owner::{attach, refuse};
use super::record::{HelloFacts, Record};
use super::{Action, COPY_TTL_MS, COPY_WAIT_MS, Fence, Link, Outcome, RETRY_MOVING_MS, Session, State, Timer};
use crate::id::{ConnectionId, HubId};
use crate::peer::{Handover, PeerMessage};
use crate::position::Generation;
use crate::replay::Payload;

/// A connection that waits at a copy, and whether the owner judged its hello.
type Waiting = Option<(ConnectionId, HelloFacts, bool)>;

impl<M: Payload> Session<M> {
    pub(super) fn on_copied(
        &mut self,
        waiting: Option<(ConnectionId, HelloFacts)>,
        handover: Handover,
        record: Box<Record<M>>,
        out: &mut Vec<Action<M>>,
    ) {
        let waiting: Waiting = waiting.map(|(conn, hello)| (conn, hello, true));
        let newer = self.generation() < handover.generation;
        match &mut self.state {
            State::Copy { handover: held, waiting: waits, .. } if *held == handover => {
                // The same snapshot again: our `held` was lost.
                if waiting.is_some() {
                    *waits = waiting;
                }
            }
            State::Nothing | State::Moved { .. } | State::Ended { .. } | State::Copy { .. } | State::Given { .. }
                if newer =>
            {
                let waiting = waiting.or_else(|| self.release_waiting(&record));
                if let State::Given { handover: given, .. } = &self.state {
                    // Only a live owner can send it on, so it was live there although `live` was lost.
                    out.push(Action::Told(Outcome::Live(given.to)));
                }
                self.state = State::Copy { record, handover, waiting, predecessor_gone: false };
                out.push(Action::Arm(Timer::CopyTtl(handover.generation), COPY_TTL_MS));
            }
            State::Nothing
            | State::Serving { .. }
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => {
                // An echo of a try that is over. No `abort`: a `held` of ours may have been believed.
                if let Some((conn, ..)) = waiting {
                    out.push(Action::Retry { conn, after_ms: RETRY_MOVING_MS, why: "moving" });
                }
                return;
            }
        }
        if let Some((conn, ..)) = waiting {
            out.push(Action::Arm(Timer::CopyWait(conn), COPY_WAIT_MS));
        }
        out.push(Action::Say(handover.from, PeerMessage::Held { session: self.id, handover }));
    }

    /// `held` says that the copy is here, however often: the predecessor answers `committed` or `aborted`, one of
    /// which may have been lost.
    pub(super) fn on_ask_again(&self, out: &mut Vec<Action<M>>) {
        if let State::Copy { handover, predecessor_gone: false, .. } = &self.state {
            out.push(Action::Say(handover.from, PeerMessage::Held { session: self.id, handover: *handover }));
        }
    }

    /// A difference whose bulk is not here, or does not fit; the driver makes a snapshot of every other.
    pub(super) fn on_difference(&mut self, handover: Handover, out: &mut Vec<Action<M>>) {
        let answer = match &self.state {
            State::Copy { handover: held, .. } if *held == handover => PeerMessage::Held { session: self.id, handover },
            State::Nothing | State::Moved { .. } | State::Ended { .. } | State::Copy { .. } | State::Given { .. }
                if self.generation() < handover.generation =>
            {
                PeerMessage::Lacking { session: self.id, handover }
            }
            // An echo of a try that is over.
            State::Nothing
            | State::Serving { .. }
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => return,
        };
        out.push(Action::Say(handover.from, answer));
    }

    fn release_waiting(&mut self, record: &Record<M>) -> Waiting {
        match &mut self.state {
            // The newer record judges it again, unless it is the very hello that its owner accepted.
            State::Copy { waiting, .. } => {
                waiting.take().map(|(conn, hello, _)| (conn, hello, record.has_accepted(&hello)))
            }
            State::Nothing
            | State::Serving { .. }
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Parked { .. }
            | State::Ended { .. } => None,
        }
    }

    pub(super) fn on_committed(&mut self, from: HubId, handover: Handover, out: &mut Vec<Action<M>>) {
        if matches!(&self.state, State::Copy { handover: held, .. } if *held == handover) {
            self.go_live(out);
            return;
        }
        // Repeated: `live` was lost. But whoever never held it must say so, for the predecessor still has the data.
        let was_live = match &self.state {
            State::Nothing => false,
            // Only an owner offers, so a later offer proves that this one went live.
            State::Copy { handover: held, .. } => held.generation > handover.generation,
            // A tombstone of its own generation is the trace of an aborted try.
            State::Moved { to, generation } => {
                *generation > handover.generation || (*generation == handover.generation && *to != handover.from)
            }
            State::Ended { generation, served } => {
                *generation > handover.generation || (*generation == handover.generation && *served)
            }
            State::Serving { .. } | State::Frozen { .. } | State::Given { .. } | State::Parked { .. } => {
                self.generation() >= handover.generation
            }
        };
        let session = self.id;
        let answer =
            if was_live { PeerMessage::Live { session, handover } } else { PeerMessage::Lost { session, handover } };
        out.push(Action::Say(from, answer));
    }

    fn go_live(&mut self, out: &mut Vec<Action<M>>) {
        let State::Copy { mut record, handover, waiting, .. } = self.take_state() else { return };
        let mut link = Link::Detached;
        out.push(Action::Say(handover.from, PeerMessage::Live { session: self.id, handover }));
        if let Some((conn, hello, judged)) = waiting {
            match if judged { Ok(()) } else { record.judge(&hello) } {
                Ok(()) => {
                    record.accept(&hello);
                    attach(&mut record, &mut link, conn, hello.received, out);
                }
                Err(verdict) => out.push(refuse(conn, verdict)),
            }
        }
        self.state = State::serving(record, Fence::at(handover.generation), link);
        out.extend([Action::Bind, Action::ApplyCalls, Action::Told(Outcome::Arrived(handover.from))]);
    }

    pub(super) fn on_aborted(&mut self, handover: Handover, out: &mut Vec<Action<M>>) {
        let State::Copy { handover: held, waiting, .. } = &self.state else { return };
        if *held != handover {
            return;
        }
        if let Some((conn, ..)) = *waiting {
            out.push(Action::Retry { conn, after_ms: RETRY_MOVING_MS, why: "moving" });
        }
        // The predecessor goes on as the owner: the tombstone shows the way to it. Later tries are above it.
        self.state = State::Moved { to: handover.from, generation: handover.generation };
        // Calls that waited for it to go live look for the owner again.
        out.push(Action::ApplyCalls);
    }

    /// The copy is dropped. A tombstone stays: without its generation an old snapshot that arrives
    /// late, and the `committed` that once belonged to it, would bring the session to life twice.
    pub(super) fn on_copy_ttl(&mut self, generation: Generation, out: &mut Vec<Action<M>>) {
        if let State::Copy { handover, .. } = &self.state
            && handover.generation == generation
        {
            let handover = *handover;
            self.on_aborted(handover, out);
        }
    }

    pub(super) fn on_copy_wait(&mut self, conn: ConnectionId, out: &mut Vec<Action<M>>) {
        if let State::Copy { waiting, .. } = &mut self.state
            && matches!(*waiting, Some((waits, ..)) if waits == conn)
        {
            *waiting = None;
            out.push(Action::Retry { conn, after_ms: RETRY_MOVING_MS, why: "moving" });
        }
    }
}
