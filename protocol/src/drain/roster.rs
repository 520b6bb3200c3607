//! Who is here, what each is doing, and the indices that keep every question cheap.
//!
//! A session's life in a drain (every arrow also leads to its outcome, and then out of the roster):
//!
//! ```text
//!  Waiting ─slot─► Ordered ─client came─► Handing ─commit─► Committed ─live─► (moved)
//!   │  ▲             │  │ └─beyond chance─► Unroutable ─10 s after the end─► Late
//!   │  └─grant──┐    │  └─refused─► Retry ─1 s─► Late ─turn─► Ordered      three times: another peer is tried
//!   ├─busy─► Busy    │                └─by every peer─► Retry ─5 to 60 s─► Late; after the end: Stuck
//!   │         └─grant over─► Late
//!   └─no connection─► PushDue ◄─no answer in time─┘ ─turn─► Pushing ─commit─► Committed
//!  told to park: ParkDue ─turn─► Parking ─► (parked)       deadline: Committed ─► (unconfirmed), others ─► (forced)
//! ```

use super::returns::Cause;
use crate::id::{HubId, SessionId};
use crate::position::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// What a session is doing. One enum, no flags beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Has its slot in the order, or waits for its notice to age.
    Waiting,
    /// Its turn has come outside the order: as soon as the pace allows.
    Late,
    /// Its client asked for time, and was given it.
    Busy { why: String },
    /// Its client was told to move and has not come anywhere yet.
    Ordered { to: Option<HubId> },
    /// To be pushed as soon as the pace allows.
    PushDue,
    /// Being pushed.
    Pushing { to: HubId },
    /// Being handed over because its client came to another hub.
    Handing { to: HubId },
    /// Given away, not yet confirmed live.
    Committed { to: HubId },
    /// The same, for so long that it no longer counts as in flight.
    Doubtful { to: HubId },
    /// Refused, and tried again in a moment.
    Retry { why: String },
    /// It cannot be parked, or after the end nobody takes it; tried again with the others.
    Stuck { why: String },
    /// Its client came back here more often than chance explains; tried again after the end.
    Unroutable { cause: Cause },
    /// To be parked as soon as there is room.
    ParkDue,
    /// Being parked.
    Parking,
    /// The deadline came between commit and live. It has its outcome; a late `live` corrects it.
    Unconfirmed { to: HubId },
    /// Neither push nor park had worked at the deadline. It has its outcome; what becomes of it while the process
    /// lives corrects it: a late answer, or a recall.
    Forced,
}

/// Which queue a place stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Late,
    Push,
    Park,
}

impl Place {
    const fn queue(&self) -> Option<Queue> {
        match self {
            Self::Late => Some(Queue::Late),
            Self::PushDue => Some(Queue::Push),
            Self::ParkDue => Some(Queue::Park),
            _ => None,
        }
    }

    /// Counted as what became of it; kept because that may still be corrected.
    pub(super) const fn has_outcome(&self) -> bool {
        matches!(self, Self::Unconfirmed { .. } | Self::Forced)
    }

    const fn is_in_flight(&self) -> bool {
        matches!(self, Self::Ordered { .. } | Self::Pushing { .. } | Self::Handing { .. } | Self::Committed { .. })
    }

    /// The hub that it is on its way to. Who was given away is there already.
    const fn toward(&self) -> Option<HubId> {
        match self {
            Self::Ordered { to } => *to,
            Self::Pushing { to } | Self::Handing { to } => Some(*to),
            _ => None,
        }
    }

    /// Whether it was given away, so that its new hub has a place for it.
    pub(super) const fn is_given(&self) -> bool {
        matches!(self, Self::Committed { .. } | Self::Doubtful { .. }) || self.has_outcome()
    }

    /// Whether it is the session that keeps the drain waiting (and not the drain the session).
    const fn is_awaited(&self) -> bool {
        !matches!(self, Self::Waiting | Self::Late | Self::PushDue | Self::ParkDue) && !self.has_outcome()
    }
}

/// Where a session counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// It was here when the drain began.
    Start,
    /// It came while the drain ran.
    Arrival,
}

/// What its client was told and said; each counts once per session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Dialogue {
    pub(super) ready: bool,
    pub(super) busy: bool,
    pub(super) granted: bool,
    /// Until when it was given time last, whatever becomes of its connection and of handovers meanwhile.
    pub(super) until: Option<Millis>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    pub(super) origin: Origin,
    pub(super) connected: bool,
    /// It came during the drain and nothing has passed yet: its notice need not age.
    pub(super) fresh: bool,
    /// Its place in the order, if it has one.
    pub(super) slot: Option<usize>,
    /// The stage that it was released in.
    pub(super) stage: Option<usize>,
    pub(super) noticed_at: Option<Millis>,
    pub(super) dialogue: Dialogue,
    /// Failed handovers since the last change of peer.
    pub(super) failures: u8,
    /// Times that every peer had refused it.
    pub(super) refusals: u8,
    /// Times its client came back here since it was ordered first.
    pub(super) bounces: u32,
    /// When it was ordered first.
    pub(super) asked_at: Option<Millis>,
    /// The hub in whose share it counts.
    pub(super) sent_to: Option<HubId>,
    /// It was sent to a hub by name, not by the URL it used.
    pub(super) named: bool,
    /// Peers that failed it for good.
    pub(super) avoid: Vec<HubId>,
    /// Its connection is closed at the deadline against its will.
    pub(super) cut: bool,
    pub(super) place: Place,
    pub(super) since: Millis,
    wake_at: Option<Millis>,
    ticket: u64,
}

impl Seat {
    pub(super) fn new(origin: Origin, connected: bool, slot: Option<usize>, now: Millis) -> Self {
        Self {
            origin,
            connected,
            fresh: false,
            slot,
            stage: None,
            noticed_at: None,
            dialogue: Dialogue::default(),
            failures: 0,
            refusals: 0,
            bounces: 0,
            asked_at: None,
            sent_to: None,
            named: false,
            avoid: Vec::new(),
            cut: false,
            place: Place::Waiting,
            since: now,
            wake_at: None,
            ticket: 0,
        }
    }
}

/// All sessions without an outcome, by id, by queue, by next wake-up and by how long they keep us waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Roster {
    seats: BTreeMap<SessionId, Seat>,
    wakes: BTreeSet<(Millis, SessionId)>,
    awaited: BTreeSet<(Millis, SessionId)>,
    late: BTreeSet<(u64, SessionId)>,
    push: BTreeSet<(u64, SessionId)>,
    park: BTreeSet<(u64, SessionId)>,
    tickets: u64,
    tally: Tally,
    toward: BTreeMap<HubId, u64>,
}

/// How many seats are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tally {
    /// Moves that are ordered and not live.
    pub(super) in_flight: u64,
    /// Of these, ordered to wherever the balancer leads.
    pub(super) anywhere: u64,
    /// Of these, pushes.
    pub(super) pushing: u64,
    /// Being parked.
    pub(super) parking: u64,
    /// Busy now, of those who have a slot.
    pub(super) busy: u64,
    /// Unroutable now.
    pub(super) unroutable: u64,
    /// Of the starting population: still here.
    pub(super) start: u64,
    /// Of these, unroutable.
    pub(super) start_unroutable: u64,
    /// Of all unroutable ones, those that the balancer keeps here.
    pub(super) kept_by_balancer: u64,
    /// Of all unroutable ones, those that cannot reach the hub that they were sent to by name.
    pub(super) kept_by_name: u64,
    /// Have their outcome, and are kept because it may still be corrected.
    pub(super) done: u64,
}

impl Roster {
    pub(super) fn get(&self, id: SessionId) -> Option<&Seat> {
        self.seats.get(&id)
    }

    /// For what no index depends on; places change by [`Roster::put`] only.
    pub(super) fn seat_mut(&mut self, id: SessionId) -> Option<&mut Seat> {
        self.seats.get_mut(&id)
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// On their way to each hub, and not there yet: each needs a place that the hub cannot have counted.
    pub(super) fn toward(&self) -> &BTreeMap<HubId, u64> {
        &self.toward
    }

    /// Sessions without an outcome.
    pub(super) fn remaining(&self) -> u64 {
        self.seats.len() as u64 - self.tally.done
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Seat)> {
        self.seats.iter().map(|(id, seat)| (*id, seat))
    }

    /// Takes a session in; false if it is here already.
    pub(super) fn insert(&mut self, id: SessionId, seat: Seat) -> bool {
        if self.seats.contains_key(&id) {
            return false;
        }
        self.count(&seat, true);
        self.seats.insert(id, seat);
        true
    }

    /// Lets a session go, with its outcome.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<Seat> {
        let seat = self.seats.remove(&id)?;
        self.unindex(id, &seat);
        self.count(&seat, false);
        Some(seat)
    }

    /// Moves a session to another place. It is woken at `wake_at`, if given; an earlier wake-up is void.
    pub(super) fn put(&mut self, id: SessionId, place: Place, wake_at: Option<Millis>, now: Millis) {
        let Some(mut seat) = self.seats.remove(&id) else { return };
        self.unindex(id, &seat);
        self.count(&seat, false);
        seat.place = place;
        seat.since = now;
        seat.wake_at = wake_at;
        seat.ticket = self.tickets;
        self.tickets += 1;
        self.count(&seat, true);
        if let Some(at) = wake_at {
            self.wakes.insert((at, id));
        }
        if seat.place.is_awaited() {
            self.awaited.insert((now, id));
        }
        if let Some(queue) = seat.place.queue() {
            self.queue_mut(queue).insert((seat.ticket, id));
        }
        self.seats.insert(id, seat);
    }

    /// Lets a session be where it is, and wakes it then instead.
    pub(super) fn wake_later(&mut self, id: SessionId, at: Millis) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if let Some(before) = seat.wake_at.replace(at) {
            self.wakes.remove(&(before, id));
        }
        self.wakes.insert((at, id));
    }

    fn count(&mut self, seat: &Seat, add: bool) {
        count(&mut self.tally, seat, add);
        let Some(to) = seat.place.toward() else { return };
        let toward = self.toward.entry(to).or_default();
        *toward = if add { *toward + 1 } else { *toward - 1 };
        if *toward == 0 {
            self.toward.remove(&to);
        }
    }

    fn unindex(&mut self, id: SessionId, seat: &Seat) {
        if let Some(at) = seat.wake_at {
            self.wakes.remove(&(at, id));
        }
        if seat.place.is_awaited() {
            self.awaited.remove(&(seat.since, id));
        }
        if let Some(queue) = seat.place.queue() {
            self.queue_mut(queue).remove(&(seat.ticket, id));
        }
    }

    fn queue_mut(&mut self, queue: Queue) -> &mut BTreeSet<(u64, SessionId)> {
        match queue {
            Queue::Late => &mut self.late,
            Queue::Push => &mut self.push,
            Queue::Park => &mut self.park,
        }
    }

    /// Who stands first in a queue.
    pub(super) fn first(&self, queue: Queue) -> Option<SessionId> {
        let queue = match queue {
            Queue::Late => &self.late,
            Queue::Push => &self.push,
            Queue::Park => &self.park,
        };
        queue.first().map(|(_, id)| *id)
    }

    /// The next wake-up.
    pub(super) fn next_wake(&self) -> Option<Millis> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// One session whose wake-up has come; the wake-up is used up.
    pub(super) fn pop_due(&mut self, now: Millis) -> Option<SessionId> {
        let (at, id) = *self.wakes.first()?;
        if at > now {
            return None;
        }
        self.wakes.pop_first();
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.wake_at = None;
        }
        Some(id)
    }

    /// Those that the drain waits for, the longest first.
    pub(super) fn awaited(&self) -> impl Iterator<Item = (SessionId, &Seat)> {
        self.awaited.iter().filter_map(|(_, id)| self.seats.get(id).map(|seat| (*id, seat)))
    }
}

fn count(tally: &mut Tally, seat: &Seat, add: bool) {
    let bump = |field: &mut u64, holds: bool| {
        if holds {
            *field = if add { *field + 1 } else { *field - 1 };
        }
    };
    let unroutable = matches!(seat.place, Place::Unroutable { .. });
    let done = seat.place.has_outcome();
    bump(&mut tally.in_flight, seat.place.is_in_flight());
    bump(&mut tally.anywhere, seat.place == Place::Ordered { to: None });
    bump(&mut tally.pushing, matches!(seat.place, Place::Pushing { .. }));
    bump(&mut tally.parking, seat.place == Place::Parking);
    bump(&mut tally.busy, seat.slot.is_some() && matches!(seat.place, Place::Busy { .. }));
    bump(&mut tally.unroutable, unroutable);
    bump(&mut tally.kept_by_balancer, seat.place == Place::Unroutable { cause: Cause::Balancer });
    bump(&mut tally.kept_by_name, seat.place == Place::Unroutable { cause: Cause::PublicUrl });
    bump(&mut tally.done, done);
    let start = seat.origin == Origin::Start && !done;
    bump(&mut tally.start, start);
    bump(&mut tally.start_unroutable, start && unroutable);
}
