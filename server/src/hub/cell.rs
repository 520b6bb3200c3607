//! One session's cell: the machine behind a lock, and who acts for it. The lock is held for the few
//! steps of one event and never across an await.
//!
//! Lock order, top first: the fan-out ledger, a cell, everything else (order lanes, timers, indexes,
//! peer queues). Whoever holds a lower one never takes a higher one.

use super::Hub;
use super::act;
use super::calls::Waiting;
use crate::app;
use crate::message::Message;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::app::Finished;
use tidegate_protocol::drain::Resume;
use tidegate_protocol::id::{ConnectionId, DrainId, HubId, SessionId};
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::position::{Millis, Offset};
use tidegate_protocol::session::{Action, Event, Item, Receipt, Session, State};

/// A session's place in the hub.
#[derive(Debug)]
pub struct Cell {
    /// Which session.
    pub id: SessionId,
    inner: Mutex<Inner>,
}

/// What the lock guards.
#[derive(Debug)]
pub struct Inner {
    /// The machine.
    pub session: Session<Message>,
    /// The counted connection's handle; the machine says which one counts.
    pub conn: Option<Arc<super::conn::Conn>>,
    /// The app's side; costs one pointer while there is no app.
    pub app: Option<Box<app::Side>>,
    /// Calls that wait while the session is frozen or a copy.
    pub waiting: Option<Box<VecDeque<Waiting>>>,
    /// When the last connection came.
    pub connected_at: Millis,
    /// When the last message passed, either way.
    pub active_at: Millis,
    /// Since when there is no connection; unset while there is one.
    pub detached_at: Since,
    /// When the running handover froze or committed it, and whether a connection was there.
    pub moving: Option<Box<Moving>>,
    /// The drain dialogue: which drain, the last `seq`, and whether its client was asked to move.
    pub drain: Option<Dialogue>,
}

/// A moment that may be unset, in the room of one that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(u64);

impl Since {
    /// Not set.
    pub const UNSET: Self = Self(u64::MAX);

    /// This moment.
    pub fn at(moment: Millis) -> Self {
        Self(moment.0)
    }

    /// The moment, if it is set.
    pub fn get(self) -> Option<Millis> {
        (self != Self::UNSET).then_some(Millis(self.0))
    }
}

/// A handover, for the report: at the predecessor from the freeze on, at the successor from the commit on.
#[derive(Clone, Copy, Debug)]
pub struct Moving {
    /// When it froze here (or, at the successor, when it went live).
    pub since: Millis,
    /// Whether a connection was there.
    pub connected: bool,
    /// At the predecessor: to whom; none when it is parked.
    pub to: Option<HubId>,
    /// At the predecessor: when its snapshot was sent first.
    pub sent_at: Option<Millis>,
    /// At the predecessor: when it was committed.
    pub committed_at: Option<Millis>,
    /// At the predecessor: what was numbered and what was counted when it was handed over.
    pub handed: Option<(Offset, Offset)>,
    /// At the predecessor: how much had been written to the connection that was there when it froze.
    pub written: Option<Offset>,
    /// At the predecessor: how the client came back at the successor, once that is known.
    pub resume: Option<Resume>,
    /// At the successor: who gave it.
    pub predecessor: Option<HubId>,
    /// At the predecessor: how its app finished with it, if it had a socket.
    pub app: Option<Finished>,
}

impl Moving {
    /// Beginning now.
    pub fn begun(since: Millis, connected: bool) -> Self {
        Self {
            since,
            connected,
            to: None,
            sent_at: None,
            committed_at: None,
            handed: None,
            written: None,
            resume: None,
            predecessor: None,
            app: None,
        }
    }
}

/// What this session's client was told of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialogue {
    /// Which drain.
    pub drain: DrainId,
    /// The last `seq` used.
    pub seq: u32,
    /// Whether it was asked to move: then its return here is a bounce.
    pub moved: bool,
    /// The slot that it was told last.
    pub slot_at: Millis,
}

impl Cell {
    /// A cell around a machine.
    pub fn new(session: Session<Message>, now: Millis) -> Arc<Self> {
        Arc::new(Self {
            id: session.id(),
            inner: Mutex::new(Inner {
                session,
                conn: None,
                app: None,
                waiting: None,
                connected_at: now,
                active_at: now,
                detached_at: Since::at(now),
                moving: None,
                drain: None,
            }),
        })
    }

    /// The lock. Keep it for a few steps, never across an await.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the machine and carries out what it answers. Events that may change who owns the session
    /// first take the fan-out ledger, so that no broadcast falls between two owners.
    pub fn feed(self: &Arc<Self>, hub: &Arc<Hub>, event: Event<Message>) {
        let mut fan = changes_owner(&event).then(|| hub.fan.lock());
        let mut inner = self.lock();
        let mut out = Vec::new();
        inner.session.handle(event, &mut out);
        act::carry_out(hub, self, &mut inner, out, fan.as_deref_mut());
    }

    /// What this connection gets next.
    pub fn next_for(&self, conn: ConnectionId, now: Millis) -> Option<Item<Message>> {
        let mut inner = self.lock();
        let item = inner.session.next_for(conn);
        match item {
            Some(_) => inner.active_at = now,
            None => app::caught_up(&inner),
        }
        item
    }

    /// Offers a message that a connection brought.
    /// Says also whether there is room for more.
    pub fn receive(self: &Arc<Self>, hub: &Arc<Hub>, conn: ConnectionId, message: &Message) -> (Receipt, bool) {
        let mut inner = self.lock();
        let receipt = inner.session.receive(conn, message.clone());
        if receipt == Receipt::Counted {
            inner.active_at = hub.now();
            // An app gets it in the next step of the connection's task.
            if !app::relays(hub) {
                // Without an app configured the hub itself is who takes: counted, acked, dropped.
                let mut out = Vec::new();
                inner.session.take_all(&mut out);
                // It is the connection's own task that is here: nobody has to be woken.
                out.retain(|action| !matches!(action, Action::Wake));
                act::carry_out(hub, self, &mut inner, out, None);
            }
        }
        (receipt, inner.upstream(hub).1)
    }

    /// The client has everything up to here. Its connection's own task says so, and need not be woken.
    pub fn acked(self: &Arc<Self>, hub: &Arc<Hub>, conn: ConnectionId, received: Offset) {
        let mut inner = self.lock();
        let mut out = Vec::new();
        inner.session.handle(Event::Acked { conn, received }, &mut out);
        if inner.session.counted() == Some(conn)
            && let Some(record) = inner.session.record_mut(false)
        {
            record.heard(received);
        }
        out.retain(|action| !matches!(action, Action::Wake));
        // There may be room again for what the app says.
        app::wake(&inner);
        act::carry_out(hub, self, &mut inner, out, None);
    }
}

impl Inner {
    /// How far the client's messages were taken, and whether more may be read from its connection.
    pub fn upstream(&self, hub: &Hub) -> (Option<Offset>, bool) {
        let Some(record) = self.session.record() else { return (None, false) };
        let limits = &hub.config.limits;
        let bytes: usize = record.untaken.iter().map(tidegate_protocol::replay::Payload::size_bytes).sum();
        let room = record.untaken.len() < limits.unacked_messages as usize && bytes < limits.unacked_bytes as usize;
        (matches!(self.session.state(), State::Serving { .. }).then(|| record.taken()), room)
    }
}

/// Events after which another hub may be the owner, or this one may be it again.
fn changes_owner(event: &Event<Message>) -> bool {
    match event {
        Event::Hello { .. }
        | Event::Acked { .. }
        | Event::ConnectionLost { .. }
        | Event::Bye { .. }
        | Event::End(_)
        | Event::Taken
        | Event::Settled
        | Event::AskAgain
        | Event::Written => false,
        Event::Orphaned { .. }
        | Event::Push { .. }
        | Event::Park
        | Event::WriteFailed
        | Event::TakenUp(_)
        | Event::Copied { .. }
        | Event::PeerGone { .. }
        | Event::Fired(_) => true,
        Event::Peer { message, .. } => !matches!(message, PeerMessage::Locate { .. } | PeerMessage::Live { .. }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::session::record::{Profile, Record};

    #[test]
    fn what_a_session_is_made_of_stays_small() {
        for (what, bytes, bytes_max) in [
            // With the two counts of its `Arc` it is 256.
            ("cell", size_of::<Cell>(), 240),
            ("machine", size_of::<Session<Message>>(), 128),
            ("record", size_of::<Record<Message>>(), 208),
            ("profile", size_of::<Profile>(), 168),
        ] {
            assert!(bytes <= bytes_max, "a {what} has {bytes} bytes; at most {bytes_max}");
        }
    }
}
