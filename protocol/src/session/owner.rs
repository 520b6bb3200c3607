//! The owner's daily work: connections come and go, messages are numbered, acked and taken.

use super::record::{HelloFacts, Record, Verdict};
use super::{
    Action, COPY_WAIT_MS, Event, Item, Left, Link, Outcome, Place, RETRY_MOVING_MS, RETRY_PARKED_MS, Receipt, Session,
    Stage, State, Timer,
};
use crate::close::Close;
use crate::frame::Old;
use crate::id::ConnectionId;
use crate::peer::PeerMessage;
use crate::position::Offset;
use crate::replay::{Next, Payload, Replay, ReplayLimits};

/// The last word to a client whose hello was judged.
pub(super) fn refuse<M>(conn: ConnectionId, verdict: Verdict) -> Action<M> {
    match verdict {
        Verdict::TokenReuse => {
            Action::Close { conn, close: Close::TokenReuse, why: "a later token or a higher try was used already" }
        }
        Verdict::Impossible => Action::Close {
            conn,
            close: Close::ProtocolError,
            why: "hello claims another epoch, or messages that were never sent",
        },
    }
}

/// Makes `conn` the counted connection. A displaced one gets a terminal code: a duplicated tab must
/// not steal the session back (rule 11).
pub(super) fn attach<M: Payload>(
    record: &mut Record<M>,
    link: &mut Link,
    conn: ConnectionId,
    received: Offset,
    out: &mut Vec<Action<M>>,
) {
    if let Link::Attached { conn: displaced, .. } = *link {
        out.push(Action::Close {
            conn: displaced,
            close: Close::Displaced,
            why: "another connection took this session over",
        });
    }
    // It may have acked more on the old connection after it said hello on this one.
    let from = received.max(record.acked);
    record.ack(from, from);
    let serial = record.issue();
    *link = Link::Attached { conn, place: from };
    out.push(Action::Welcome { conn, serial, resumed: true, from, received: record.received });
    out.push(Action::Wake);
}

impl<M: Payload> Session<M> {
    pub(super) fn on_hello(
        &mut self,
        conn: ConnectionId,
        hello: HelloFacts,
        leaving: Option<u64>,
        out: &mut Vec<Action<M>>,
    ) {
        match &mut self.state {
            State::Serving { record, link, ahead, .. } => {
                if let Err(verdict) = record.judge(&hello) {
                    out.push(refuse(conn, verdict));
                    return;
                }
                Self::forget_claim(ahead, out);
                if let Some(after_ms) = leaving {
                    out.push(Action::Told(Outcome::Bounced));
                    if hello.old == Old::Open {
                        out.push(Action::Retry { conn, after_ms, why: "other_hub" });
                        return;
                    }
                }
                record.accept(&hello);
                attach(record, link, conn, hello.received, out);
            }
            State::Copy { predecessor_gone: false, waiting, .. } => {
                if let Some((earlier, ..)) = waiting.replace((conn, hello, false)) {
                    out.push(Action::Retry { conn: earlier, after_ms: RETRY_MOVING_MS, why: "moving" });
                }
                out.push(Action::Arm(Timer::CopyWait(conn), COPY_WAIT_MS));
            }
            State::Given { successor_gone: true, .. } | State::Copy { predecessor_gone: true, .. } => {
                self.reset(conn, hello, out)
            }
            State::Parked { .. } => out.push(Action::Retry { conn, after_ms: RETRY_PARKED_MS, why: "parked" }),
            State::Nothing | State::Frozen { .. } | State::Given { .. } | State::Moved { .. } | State::Ended { .. } => {
                out.push(Action::Retry { conn, after_ms: RETRY_MOVING_MS, why: "moving" });
            }
        }
    }

    pub(super) fn on_orphaned(&mut self, conn: ConnectionId, hello: HelloFacts, out: &mut Vec<Action<M>>) {
        match self.state {
            State::Given { .. } | State::Copy { .. } => self.reset(conn, hello, out),
            State::Nothing
            | State::Serving { .. }
            | State::Frozen { .. }
            | State::Moved { .. }
            | State::Parked { .. }
            | State::Ended { .. } => {
                self.on_hello(conn, hello, None, out);
            }
        }
    }

    /// Continuity is lost and this hub has what is left (rules 8 and 14). A token that is older than
    /// what this hub knows is still refused; one that is newer is believed, the lost owner issued it.
    fn reset(&mut self, conn: ConnectionId, hello: HelloFacts, out: &mut Vec<Action<M>>) {
        let Some(record) = self.record() else { return };
        if hello.serial < record.tokens.used {
            out.push(refuse(conn, Verdict::TokenReuse));
            return;
        }
        let fresh = Box::new(record.after_reset());
        out.push(Action::Reset { conn, why: "owner_lost", record: fresh });
        self.finish(Left::Replaced, out);
    }

    pub(super) fn on_acked(&mut self, conn: ConnectionId, received: Offset, out: &mut Vec<Action<M>>) {
        let State::Serving { record, link, .. } = &mut self.state else { return };
        let Link::Attached { conn: counted, place } = *link else { return };
        if counted != conn {
            return;
        }
        // Above `place` is well possible: it came on the old connection, between hello and welcome.
        if !record.ack(received, place) {
            *link = Link::Detached;
            out.push(Action::Close { conn, close: Close::ProtocolError, why: "ack of messages that were never sent" });
            return;
        }
        // Freed room: the app's reader may have been waiting for it.
        out.push(Action::Wake);
    }

    pub(super) fn on_connection_lost(&mut self, conn: ConnectionId, _out: &mut Vec<Action<M>>) {
        match &mut self.state {
            State::Serving { link, .. } | State::Frozen { link, .. } => {
                if matches!(*link, Link::Attached { conn: counted, .. } if counted == conn) {
                    *link = Link::Detached;
                }
            }
            State::Copy { waiting, .. } => {
                if matches!(*waiting, Some((waits, ..)) if waits == conn) {
                    *waiting = None;
                }
            }
            State::Nothing | State::Given { .. } | State::Moved { .. } | State::Parked { .. } | State::Ended { .. } => {
            }
        }
    }

    pub(super) fn on_bye(&mut self, conn: ConnectionId, out: &mut Vec<Action<M>>) {
        if self.counted() == Some(conn) {
            self.on_end(Left::Ended, out);
        }
    }

    pub(super) fn on_end(&mut self, left: Left, out: &mut Vec<Action<M>>) {
        match &self.state {
            State::Serving { .. } => self.finish(left, out),
            State::Frozen { purpose, .. } => {
                // The holder's copy must not linger; a `held` that is under way is answered `aborted` later.
                if let Some(handover) = purpose.handover() {
                    out.push(Action::Say(handover.to, PeerMessage::Aborted { session: self.id, handover }));
                }
                self.finish(left, out);
            }
            // What was given away is the successor's to end; only a reset or time ends the kept data.
            State::Given { .. } | State::Copy { .. } | State::Parked { .. }
                if matches!(left, Left::Replaced | Left::Expired) =>
            {
                self.finish(left, out)
            }
            State::Nothing
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => {}
        }
    }

    fn finish(&mut self, left: Left, out: &mut Vec<Action<M>>) {
        let (close, why) = match left {
            Left::Ended => (Close::Normal, "ended"),
            Left::Evicted => (Close::Evicted, "an administrator ended this session"),
            Left::Expired => (Close::AuthExpired, "the time of this session is over"),
            Left::Replaced => (Close::Displaced, "this session was replaced by a new one"),
        };
        if let Some(conn) = self.counted() {
            out.push(Action::Close { conn, close, why });
        }
        if let State::Copy { waiting: Some((conn, ..)), .. } = self.state {
            out.push(Action::Retry { conn, after_ms: RETRY_MOVING_MS, why: "moving" });
        }
        // A copy was never counted here, so it does not leave either.
        let served = !matches!(self.state, State::Copy { .. });
        self.state = State::Ended { generation: self.generation(), served };
        out.extend([Action::Unbind, Action::ApplyCalls]);
        if served {
            out.push(Action::Told(Outcome::Left(left)));
        }
    }

    pub(super) fn on_taken(&mut self, out: &mut Vec<Action<M>>) {
        match &mut self.state {
            State::Serving { record, .. } | State::Frozen { record, stage: Stage::Settling, .. } => {
                record.untaken.pop_front();
                if record.untaken.is_empty() {
                    record.untaken = std::collections::VecDeque::new();
                }
                out.push(Action::Wake);
            }
            State::Nothing
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => {}
        }
    }

    /// An app message from a connection. Ask [`Session::listens_to`] before reading: a frozen owner reads nothing.
    pub fn receive(&mut self, conn: ConnectionId, message: M) -> Receipt {
        let receipt = self.listens_to(conn);
        if let (Receipt::Counted, State::Serving { record, .. }) = (receipt, &mut self.state) {
            record.received = record.received.next();
            record.untaken.push_back(message);
        }
        receipt
    }

    /// Whether what this connection brings counts now, later, or never.
    pub fn listens_to(&self, conn: ConnectionId) -> Receipt {
        match &self.state {
            State::Serving { .. } if self.counted() == Some(conn) => Receipt::Counted,
            State::Frozen { .. } if self.counted() == Some(conn) => Receipt::Hold,
            State::Nothing
            | State::Serving { .. }
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => Receipt::Deaf,
        }
    }

    /// The next thing to write to this connection, if it is the counted one and the session serves.
    pub fn next_for(&mut self, asking: ConnectionId) -> Option<Item<M>> {
        let State::Serving { record, link: Link::Attached { conn, place }, .. } = &mut self.state else { return None };
        if *conn != asking {
            return None;
        }
        match record.outbox.next_after(*place) {
            Next::Message(message) => {
                let message = message.clone();
                *place = place.next();
                record.outbox.ack(record.acked.min(*place));
                Some(Item::Message(message))
            }
            Next::Gap(to) => Some(Item::Gap { from: std::mem::replace(place, to), to }),
            Next::End => None,
        }
    }

    /// Numbers a message towards the client: a call's only when the session serves, the app's own also
    /// while it settles. None: not now, see [`Session::place`].
    pub fn number(&mut self, message: M, from_app: bool, limits: &ReplayLimits) -> Option<Offset> {
        match &mut self.state {
            State::Serving { record, .. } => Some(record.outbox.push(message, limits)),
            State::Frozen { record, stage: Stage::Settling, .. } if from_app => {
                Some(record.outbox.push(message, limits))
            }
            State::Nothing
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => None,
        }
    }

    /// What a session that is served without a connection holds for its client.
    pub fn held_for_absent(&mut self) -> Option<&mut Replay<M>> {
        match &mut self.state {
            State::Serving { link: Link::Detached, record, .. } => Some(&mut record.outbox),
            _ => None,
        }
    }

    /// The record, to change what calls may change (state, channels); only while serving, or for the
    /// app's last word while it settles.
    pub fn record_mut(&mut self, from_app: bool) -> Option<&mut Record<M>> {
        match &mut self.state {
            State::Serving { record, .. } => Some(record),
            State::Frozen { record, stage: Stage::Settling, .. } if from_app => Some(record),
            State::Nothing
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => None,
        }
    }

    /// A serial for a token that goes out with a `move` while the session serves on.
    pub fn issue(&mut self) -> Option<u32> {
        self.record_mut(false).map(Record::issue)
    }

    /// Where a call belongs now (rule 16).
    pub fn place(&self) -> Place {
        match &self.state {
            State::Serving { .. } => Place::Here,
            State::Frozen { .. } | State::Copy { predecessor_gone: false, .. } => Place::Wait,
            State::Parked { .. } => Place::TakeUp,
            State::Given { handover, successor_gone: false, .. } => Place::At(handover.to),
            State::Moved { to, .. } => Place::At(*to),
            State::Nothing | State::Given { .. } | State::Copy { .. } | State::Ended { .. } => Place::Nowhere,
        }
    }

    /// A convenience for drivers without an app behind: the hub itself is who takes.
    pub fn take_all(&mut self, out: &mut Vec<Action<M>>) {
        while self.record().is_some_and(|record| !record.untaken.is_empty()) {
            let before = self.record().map(|record| record.untaken.len());
            self.handle(Event::Taken, out);
            if self.record().map(|record| record.untaken.len()) == before {
                return;
            }
        }
    }
}
