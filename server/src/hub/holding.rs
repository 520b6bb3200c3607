//! What comes here to be held for other hubs: bulks that go ahead, differences to them, snapshots. The
//! session machine and the [`Shelf`] judge them; this file brings them together.

use super::Hub;
use super::timers::Due;
use crate::message::Message;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::id::{ConnectionId, HubId, SessionId};
use tidegate_protocol::peer::{ClaimId, Handover, PeerMessage};
use tidegate_protocol::position::Generation;
use tidegate_protocol::session::bulk::{BULK_TTL_MS, Bulk, Difference, Shelf, Shelved};
use tidegate_protocol::session::record::{HelloFacts, Record};
use tidegate_protocol::session::{Event, Session};

/// Bulks held for peers. They count against `--limit-copies`, and each is dropped after [`BULK_TTL_MS`].
/// Whoever holds this lock takes no other; it may be taken under a cell's.
#[derive(Debug, Default)]
pub struct Bulks(Mutex<Shelf<Message>>);

impl Bulks {
    fn shelf(&self) -> MutexGuard<'_, Shelf<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are held.
    pub fn count(&self) -> usize {
        self.shelf().len()
    }

    /// The session is live here, or the bulk's time to live is over.
    pub fn drop_up_to(&self, session: SessionId, bulk: Generation) {
        self.shelf().drop_up_to(session, bulk);
    }

    /// That hub is gone.
    pub fn peer_gone(&self, hub: HubId) {
        self.shelf().peer_gone(hub);
    }
}

/// A try to move a session here, as its message names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    /// Who says it.
    pub(super) from: HubId,
    /// Which session.
    pub(super) session: SessionId,
    /// Names the try.
    pub(super) handover: Handover,
    /// The claim that asked for it; absent: a push.
    pub(super) claim: Option<ClaimId>,
    /// The format that it is written in.
    pub(super) version: u32,
}

impl Coming {
    fn is_for(&self, hub: &Hub) -> bool {
        let reads = hub.world.snapshot_versions().contains(&self.version);
        reads && self.handover.from == self.from && self.handover.to == hub.id
    }
}

impl Hub {
    /// Whether one more copy or bulk fits beside those that are here.
    fn has_room_for_a_copy(&self) -> bool {
        let limits = &self.config.limits;
        ((self.cell_count() + self.bulks.count()) as u64) < limits.copies + limits.tombstones
    }

    /// A bulk goes ahead of a session that may come here.
    pub(super) fn bulk_came(
        self: &Arc<Self>,
        from: HubId,
        session: SessionId,
        bulk: Generation,
        version: u32,
        contents: Box<Bulk<Message>>,
    ) {
        let room = self.world.snapshot_versions().contains(&version) && self.has_room_for_a_copy();
        let shelved = self.bulks.shelf().put(session, from, bulk, contents, room);
        match shelved {
            Shelved::Held(new) => {
                if new {
                    self.timers.arm(self.now().plus(BULK_TTL_MS), Due::Bulk(session, bulk));
                }
                self.say(from, PeerMessage::BulkHeld { session, bulk });
            }
            Shelved::Refused => self.say(from, PeerMessage::BulkRefused { session, bulk }),
            Shelved::Late => {}
        }
    }

    /// The difference to a bulk: with it, a snapshot; without it, a question for everything.
    pub(super) fn difference_came(
        self: &Arc<Self>,
        coming: Coming,
        bulk: Generation,
        difference: Box<Difference<Message>>,
    ) {
        let Coming { from, session, handover, claim, version } = coming;
        if !coming.is_for(self) {
            return self.refuse_copy(coming);
        }
        let whole = self.bulks.shelf().complete(session, from, bulk, &difference);
        match whole {
            Some(record) => self.snapshot_came(coming, Box::new(record)),
            None => {
                let message = PeerMessage::Difference { session, handover, claim, version, bulk, difference };
                // A machine that knows nothing gives the right answer, and need not be kept.
                let cell = self.cell(session);
                let cell =
                    cell.unwrap_or_else(|| super::cell::Cell::new(Session::unknown(session, self.id), self.now()));
                cell.feed(self, Event::Peer { from, message });
            }
        }
    }

    /// A whole session, to be held inert: for a claim of a connection here, or pushed.
    pub(super) fn snapshot_came(self: &Arc<Self>, coming: Coming, record: Box<Record<Message>>) {
        let Coming { session, handover, claim, .. } = coming;
        if !coming.is_for(self) {
            return self.refuse_copy(coming);
        }
        let known_copy = self.cell(session).is_some_and(|cell| cell.lock().session.holds(handover));
        let waiting: Option<(ConnectionId, HelloFacts)> = match claim {
            // The same snapshot again; the first one used the claim up.
            Some(_) if known_copy => None,
            Some(id) => match self.claims.take_for_snapshot(id) {
                // Nothing is taken along into the end of this process.
                Some((conn, _)) if self.is_parked_for_good() => {
                    self.retry(conn, self.drain.retry_ms(), "other_hub");
                    return self.abort_copy(coming);
                }
                Some((conn, hello)) if self.connection(conn).is_some() => Some((conn, hello)),
                Some(_) | None => return self.abort_copy(coming),
            },
            None if self.drain.is_leaving() || !self.has_room_for_a_copy() => return self.abort_copy(coming),
            None => None,
        };
        self.claims.settled(session);
        self.cell_or_new(session).feed(self, Event::Copied { waiting, handover, record });
    }

    fn refuse_copy(self: &Arc<Self>, coming: Coming) {
        let Coming { from, session, version, .. } = coming;
        tracing::warn!(%session, %from, version, "a snapshot that this hub cannot take was refused");
        self.abort_copy(coming);
    }

    fn abort_copy(self: &Arc<Self>, Coming { from, session, handover, .. }: Coming) {
        self.say(from, PeerMessage::Abort { session, handover });
    }
}
