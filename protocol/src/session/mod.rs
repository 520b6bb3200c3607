//! One session at one hub: who owns it, and how that changes (`handover.md` to the letter).
//!
//! **For whoever drives it: call [`Session::handle`], carry out every action in order, and call nothing
//! in between.** The machine holds no time: it asks for timers by name ([`Action::Arm`]), and a timer
//! that fires late is recognised by its generation and ignored.
//!
//! ```text
//!              new session · taken up · committed
//!                             │
//!   attach, lost, takeover;   ▼        claim granted, push (at once, or
//!   a bulk goes    ┌────► Serving ──── when its bulk is answered), park ──► Frozen ── written, synced ─► Parked
//!   ahead          └───────┘  ▲ ▲                                   │  │                               │
//!                             │ └── thaw: abort, limit, successor ──┘  │ held, for this freeze         │
//!                             │     gone, write error (raises the      ▼                               │
//!                             │     generation)                      Given ── live, or kept long ──► Moved
//!                             ├────────────────────────────────────────┼───────────────── taken up ────┘
//!   snapshot, or ► Copy ──────┘ committed                              │ lost, successor gone: the data stays,
//!   difference     │                                                   ▼ and the next hello is reset from it
//!                  └── aborted, time to live ──► Moved (a tombstone)  Ended ◄── bye, evicted, expired, replaced
//! ```

pub mod bulk;
pub mod channels;
pub mod credentials;
pub mod headers;
pub mod record;

mod ahead;
mod giving;
mod owner;
mod profile;
mod taking;
#[cfg(test)]
mod tests;
mod words;

pub use ahead::{Ahead, Errand, Progress};
pub use words::{Action, Event, Item, Left, Outcome, Place, Receipt, Timer};

use crate::id::{ConnectionId, HubId, SessionId};
use crate::peer::{ClaimId, Handover, Knowledge, PeerMessage};
use crate::position::{Generation, Offset};
use crate::replay::Payload;
use record::{HelloFacts, Record};

/// How long the first freeze may last after the app has settled, in milliseconds; doubled per failed try.
pub const FREEZE_FIRST_MS: u64 = 250;
/// No freeze lasts longer than this, in milliseconds.
pub const FREEZE_MAX_MS: u64 = 10_000;
/// After so many failed freezes in a row the session is reported as blocked.
pub const FREEZE_FAILURES_MAX: u8 = 3;
/// How often `committed` is repeated until `live` is in, in milliseconds.
pub const REPEAT_MS: u64 = 250;
/// How long a connection waits at a copy before it is sent away with `retry`, in milliseconds.
pub const COPY_WAIT_MS: u64 = 2_000;
/// How long a copy is held without a word from its predecessor, in milliseconds: longer than
/// `orphan_after_ms`, so that a reset can still take user, channels and state from it.
pub const COPY_TTL_MS: u64 = 120_000;
/// How long the data of a session that was given away is kept without a `live`, in milliseconds: longer
/// than a copy lives at its successor, than a client waits for a lost owner (rule 14), and than a session
/// waits for its client by default. Then a tombstone stays, which still shows the way.
pub const KEPT_MS: u64 = 600_000;
/// What a client is told to wait when a move of its session is under way, in milliseconds.
pub const RETRY_MOVING_MS: u64 = 100;
/// The longest that a client is told to wait when it came back to the hub that it should leave, in milliseconds.
pub const RETRY_BOUNCE_MS: u64 = 500;
/// What a client of a parked session is told to wait, in milliseconds.
pub const RETRY_PARKED_MS: u64 = 1_000;

/// The two numbers that fence owners: the one that this hub holds (or knows), and the highest that it
/// ever offered. Every freeze offers a new one; a thaw raises its own above the offer (rule 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The owner's generation.
    pub generation: Generation,
    /// The highest generation offered to anyone.
    pub offered: Generation,
}

impl Fence {
    fn at(generation: Generation) -> Self {
        Self { generation, offered: generation }
    }

    /// A generation that was never offered before.
    fn offer(&mut self) -> Generation {
        self.offered = self.offered.max(self.generation).next();
        self.offered
    }

    fn thaw(&mut self) {
        self.generation = self.offered.max(self.generation).next();
        self.offered = self.generation;
    }
}

/// The session's one counted connection, if there is one. Every other is deaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// No connection.
    Detached,
    /// This one; `place` is the position up to which messages were given to it.
    Attached {
        /// The counted connection.
        conn: ConnectionId,
        /// The position of the last message handed to it.
        place: Offset,
    },
}

/// Why a session is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A client came to another hub, which claimed the session.
    Claimed(Handover, ClaimId),
    /// This hub pushes it to a peer.
    Pushed(Handover),
    /// It goes to the data directory.
    Park,
}

/// How far a freeze has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The app finishes: its last messages are still numbered.
    Settling,
    /// The snapshot is out (or being written); nothing changes any more. Carries the serial of the
    /// token for the last `move`, which had to be issued before the snapshot left.
    Offered {
        /// Serial of the token that names the successor.
        last_serial: u32,
    },
}

/// Where a session is in its life at this hub. The picture stands above in the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State<M> {
    /// This hub knows nothing (any more); the registry may forget it.
    Nothing,
    /// Owner: numbers, accepts, acks.
    Serving {
        /// The session.
        record: Box<Record<M>>,
        /// Generations.
        fence: Fence,
        /// The connection.
        link: Link,
        /// Failed freezes in a row.
        failures: u8,
        /// What went ahead to the next hub.
        ahead: Option<Box<Ahead>>,
    },
    /// Owner, but still: delivers nothing, reads nothing.
    Frozen {
        /// The session.
        record: Box<Record<M>>,
        /// Generations; `offered` is the one of this freeze.
        fence: Fence,
        /// The connection, unread for now.
        link: Link,
        /// Failed freezes in a row before this one.
        failures: u8,
        /// For what.
        purpose: Purpose,
        /// How far.
        stage: Stage,
        /// The snapshot version to write.
        version: u32,
        /// What went ahead to the next hub.
        ahead: Option<Box<Ahead>>,
    },
    /// Handed over; the data is kept until `live` is in.
    Given {
        /// The session as it was handed over.
        record: Box<Record<M>>,
        /// The handover.
        handover: Handover,
        /// Whether the successor is known to have lost it.
        successor_gone: bool,
    },
    /// Served elsewhere: a tombstone that shows the way.
    Moved {
        /// Where to.
        to: HubId,
        /// Under which generation.
        generation: Generation,
    },
    /// A snapshot, held inert.
    Copy {
        /// The session.
        record: Box<Record<M>>,
        /// The try that brought it.
        handover: Handover,
        /// A connection that will be welcomed at go-live; `true`: its hello was judged by the owner.
        waiting: Option<(ConnectionId, HelloFacts, bool)>,
        /// Whether the predecessor is known to have lost the session.
        predecessor_gone: bool,
    },
    /// Told safe: it is on disk, and nothing of it is in memory.
    Parked {
        /// Generations.
        fence: Fence,
    },
    /// Over.
    Ended {
        /// The last generation.
        generation: Generation,
        /// Whether it was served here; false: only a copy was here, and it never went live.
        served: bool,
    },
}

/// One session at one hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session<M> {
    id: SessionId,
    me: HubId,
    state: State<M>,
}

impl<M: Payload> Session<M> {
    /// A session of which this hub knows nothing yet: what a snapshot arrives at.
    pub fn unknown(id: SessionId, me: HubId) -> Self {
        Self { id, me, state: State::Nothing }
    }

    /// A new session with its first connection; the first action is its welcome.
    pub fn begin(
        id: SessionId,
        me: HubId,
        mut record: Record<M>,
        conn: ConnectionId,
        attempt: u32,
        out: &mut Vec<Action<M>>,
    ) -> Self {
        record.attempt = attempt;
        let serial = record.issue();
        out.push(Action::Welcome { conn, serial, resumed: false, from: Offset(0), received: Offset(0) });
        let link = Link::Attached { conn, place: Offset(0) };
        Self { id, me, state: State::serving(record, Fence::at(Generation(1)), link) }
    }

    /// A session read back from the data directory by a new process, after `taken up` was synced.
    /// Its generation rises above all that the record's time knew.
    pub fn taken_up(id: SessionId, me: HubId, record: Box<Record<M>>, fence: Fence, out: &mut Vec<Action<M>>) -> Self {
        let mut session = Self { id, me, state: State::Parked { fence } };
        session.handle(Event::TakenUp(record), out);
        session
    }

    /// Tells the machine what happened; actions are added to `out` in the order in which to carry them out.
    pub fn handle(&mut self, event: Event<M>, out: &mut Vec<Action<M>>) {
        match event {
            Event::Hello { conn, hello, leaving } => self.on_hello(conn, hello, leaving, out),
            Event::Orphaned { conn, hello } => self.on_orphaned(conn, hello, out),
            Event::Acked { conn, received } => self.on_acked(conn, received, out),
            Event::ConnectionLost { conn } => self.on_connection_lost(conn, out),
            Event::Bye { conn } => self.on_bye(conn, out),
            Event::End(left) => self.on_end(left, out),
            Event::Taken => self.on_taken(out),
            Event::Push { to, version } => self.on_push(to, version, out),
            Event::Park => self.on_park(out),
            Event::Settled => self.on_settled(out),
            Event::Written => self.on_written(out),
            Event::WriteFailed => self.on_write_failed(out),
            Event::TakenUp(record) => self.on_taken_up(record, out),
            Event::Peer { from, message } => self.on_peer(from, message, out),
            Event::Copied { waiting, handover, record } => self.on_copied(waiting, handover, record, out),
            Event::PeerGone { hub } => self.on_peer_gone(hub, out),
            Event::AskAgain => self.on_ask_again(out),
            Event::Fired(timer) => self.on_fired(timer, out),
        }
    }

    fn on_peer(&mut self, from: HubId, message: PeerMessage<M>, out: &mut Vec<Action<M>>) {
        match message {
            PeerMessage::Claim { claim, hello, versions, orphaned, .. } => {
                self.on_claim(from, claim, hello, &versions, orphaned, out)
            }
            PeerMessage::Held { handover, .. } => self.on_held(from, handover, out),
            PeerMessage::Abort { handover, .. } => self.on_abort(handover, out),
            PeerMessage::Live { handover, .. } => self.on_live(handover, out),
            PeerMessage::Lost { handover, .. } => self.on_lost(handover, out),
            PeerMessage::Committed { handover, .. } => self.on_committed(from, handover, out),
            PeerMessage::Aborted { handover, .. } => self.on_aborted(handover, out),
            PeerMessage::Snapshot { handover, record, .. } => self.on_copied(None, handover, record, out),
            PeerMessage::Difference { handover, .. } => self.on_difference(handover, out),
            PeerMessage::BulkHeld { bulk, .. } => self.on_bulk_answer(from, bulk, true, out),
            PeerMessage::BulkRefused { bulk, .. } => self.on_bulk_answer(from, bulk, false, out),
            PeerMessage::Lacking { handover, .. } => self.on_lacking(handover, out),
            PeerMessage::Replaced { .. } => self.on_end(Left::Replaced, out),
            PeerMessage::Locate { claim, .. } => {
                let knowledge = self.knowledge();
                out.push(Action::Say(from, PeerMessage::Located { session: self.id, claim, knowledge }));
            }
            // Answers to a claim are for the claim, and bulks for the shelf, not for the session.
            PeerMessage::Bulk { .. }
            | PeerMessage::Located { .. }
            | PeerMessage::Refused { .. }
            | PeerMessage::ResetFrom { .. }
            | PeerMessage::Resumed { .. } => {}
        }
    }

    fn on_fired(&mut self, timer: Timer, out: &mut Vec<Action<M>>) {
        match timer {
            Timer::Freeze(generation) => self.on_freeze_limit(generation, out),
            Timer::Repeat(generation, tries) => self.on_repeat(generation, tries, out),
            Timer::CopyTtl(generation) => self.on_copy_ttl(generation, out),
            Timer::CopyWait(conn) => self.on_copy_wait(conn, out),
            Timer::BulkWait(bulk) => self.on_bulk_wait(bulk, out),
            Timer::BulkReuse(bulk) => self.on_bulk_reuse(bulk),
            Timer::Kept(generation) => self.on_kept(generation, out),
        }
    }

    fn on_peer_gone(&mut self, hub: HubId, out: &mut Vec<Action<M>>) {
        match &mut self.state {
            State::Frozen { purpose: Purpose::Claimed(handover, _) | Purpose::Pushed(handover), .. }
                if handover.to == hub =>
            {
                self.thaw(true, out)
            }
            State::Given { handover, successor_gone, .. } if handover.to == hub && !*successor_gone => {
                *successor_gone = true;
                out.push(Action::Told(Outcome::SuccessorLost));
            }
            State::Copy { handover, predecessor_gone, .. } if handover.from == hub => {
                *predecessor_gone = true;
                // Nobody will say `committed`: calls that waited for that look for an owner again.
                out.push(Action::ApplyCalls);
            }
            State::Nothing
            | State::Serving { .. }
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => {}
        }
        self.bulk_lost_with(hub, out);
    }

    /// Which session this is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Where it is in its life.
    pub fn state(&self) -> &State<M> {
        &self.state
    }

    /// What this hub says of it to others.
    pub fn knowledge(&self) -> Knowledge {
        match &self.state {
            State::Nothing => Knowledge::Unknown,
            State::Serving { fence, .. } | State::Frozen { fence, .. } | State::Parked { fence } => {
                Knowledge::Owner(fence.generation)
            }
            State::Given { handover, successor_gone: false, .. } => {
                Knowledge::MovedTo(handover.to, handover.generation)
            }
            State::Given { handover, successor_gone: true, .. } | State::Copy { handover, .. } => {
                Knowledge::Copy(handover.generation)
            }
            State::Moved { to, generation } => Knowledge::MovedTo(*to, *generation),
            State::Ended { generation, .. } => Knowledge::Ended(*generation),
        }
    }

    /// Whether a `hello` is for this machine alone ([`Event::Hello`]). False: others may know more, so
    /// begin a [`Claim`](crate::claim::Claim) that asks every known hub, this one included.
    pub fn answers_hello(&self) -> bool {
        self.is_owner() || matches!(self.state, State::Copy { predecessor_gone: false, .. })
    }

    /// Whether it holds the copy of this very try: then a snapshot that comes again is answered by
    /// `held` again, and never by `abort` (rule 10).
    pub fn holds(&self, handover: Handover) -> bool {
        matches!(&self.state, State::Copy { handover: held, .. } if *held == handover)
    }

    /// Whether this hub owns the session: it alone numbers, accepts and acks.
    pub fn is_owner(&self) -> bool {
        matches!(self.state, State::Serving { .. } | State::Frozen { .. } | State::Parked { .. })
    }

    /// Whether this hub may end now: nobody waits for a word of it about this session, and nothing of it is
    /// in its memory alone. A copy that a living predecessor may have committed is as much in need of this
    /// hub as a session that it serves: an end would make the predecessor believe it lost.
    pub fn may_end(&self) -> bool {
        match &self.state {
            State::Nothing | State::Moved { .. } | State::Parked { .. } | State::Ended { .. } => true,
            // Lost already: what is kept is for a reset, and others who have it would be asked first.
            State::Given { successor_gone, .. } => *successor_gone,
            State::Copy { predecessor_gone, .. } => *predecessor_gone,
            State::Serving { .. } | State::Frozen { .. } => false,
        }
    }

    /// What this hub holds of the session, owner or not.
    pub fn record(&self) -> Option<&Record<M>> {
        match &self.state {
            State::Serving { record, .. }
            | State::Frozen { record, .. }
            | State::Given { record, .. }
            | State::Copy { record, .. } => Some(record),
            State::Nothing | State::Moved { .. } | State::Parked { .. } | State::Ended { .. } => None,
        }
    }

    /// The generation that this hub knows the session under.
    pub fn generation(&self) -> Generation {
        match &self.state {
            State::Nothing => Generation(0),
            State::Serving { fence, .. } | State::Frozen { fence, .. } | State::Parked { fence } => fence.generation,
            State::Given { handover, .. } | State::Copy { handover, .. } => handover.generation,
            State::Moved { generation, .. } | State::Ended { generation, .. } => *generation,
        }
    }

    /// The counted connection, if there is one.
    pub fn counted(&self) -> Option<ConnectionId> {
        match self.state {
            State::Serving { link: Link::Attached { conn, .. }, .. }
            | State::Frozen { link: Link::Attached { conn, .. }, .. } => Some(conn),
            State::Nothing
            | State::Serving { .. }
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => None,
        }
    }

    /// To whom it is being handed over, while it is frozen for that or its bulk is under way.
    pub fn successor(&self) -> Option<HubId> {
        match &self.state {
            State::Frozen { purpose, .. } => purpose.handover().map(|handover| handover.to),
            State::Serving { ahead, .. } => ahead.as_ref().filter(|at| at.awaited().is_some()).map(|at| at.to),
            State::Nothing
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => None,
        }
    }

    /// The position of the counted connection.
    pub fn position(&self) -> Option<Offset> {
        match self.state {
            State::Serving { link: Link::Attached { place, .. }, .. }
            | State::Frozen { link: Link::Attached { place, .. }, .. } => Some(place),
            State::Nothing
            | State::Serving { .. }
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => None,
        }
    }

    fn take_state(&mut self) -> State<M> {
        std::mem::replace(&mut self.state, State::Nothing)
    }
}

impl<M> State<M> {
    fn serving(record: impl Into<Box<Record<M>>>, fence: Fence, link: Link) -> Self {
        Self::Serving { record: record.into(), fence, link, failures: 0, ahead: None }
    }
}
