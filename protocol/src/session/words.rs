//! What goes into the session machine and what comes out of it.

use super::record::{HelloFacts, Record};
use crate::close::Close;
use crate::id::{ConnectionId, HubId};
use crate::peer::{Handover, PeerMessage};
use crate::position::{Generation, Offset};

/// Why a session left without being handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Left {
    /// The client or the app ended it.
    Ended,
    /// An administrator ended it.
    Evicted,
    /// Its client did not come back in time.
    Expired,
    /// It was reset under a new session id.
    Replaced,
}

/// What the outside tells the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event<M> {
    /// A client came to this hub with a token for this session.
    Hello {
        /// Its connection.
        conn: ConnectionId,
        /// What it said.
        hello: HelloFacts,
        /// Present while this hub wants the client elsewhere and a return can still be chance (rule 15, judged by
        /// the drain): an `open` client is told to come again after so many milliseconds.
        leaving: Option<u64>,
    },
    /// As `Hello`, but the client has waited `orphan_after_ms` and its connection is gone.
    Orphaned {
        /// Its connection.
        conn: ConnectionId,
        /// What it said.
        hello: HelloFacts,
    },
    /// The client has everything up to here.
    Acked {
        /// Where it was said.
        conn: ConnectionId,
        /// How much.
        received: Offset,
    },
    /// A connection is gone.
    ConnectionLost {
        /// Which.
        conn: ConnectionId,
    },
    /// The client ended the session, on its counted connection.
    Bye {
        /// Where it was said.
        conn: ConnectionId,
    },
    /// The app ended it, an administrator did, or its time ran out.
    End(Left),
    /// The app has taken the oldest untaken message in full.
    Taken,
    /// Hand it to that hub.
    Push {
        /// The successor.
        to: HubId,
        /// The snapshot version to write: the newest that both hubs know.
        version: u32,
    },
    /// Write it to disk and let the connection go.
    Park,
    /// The app has finished after [`Action::Settle`].
    Settled,
    /// The parked record is on disk, and synced.
    Written,
    /// It could not be written.
    WriteFailed,
    /// The parked record was read back, and `taken up` is synced.
    TakenUp(Box<Record<M>>),
    /// A word from a peer.
    Peer {
        /// From whom.
        from: HubId,
        /// What.
        message: PeerMessage<M>,
    },
    /// A snapshot that a claim of this hub waits for: welcome this connection at go-live.
    Copied {
        /// The connection, and what it said; absent: a push.
        waiting: Option<(ConnectionId, HelloFacts)>,
        /// The try.
        handover: Handover,
        /// The session.
        record: Box<Record<M>>,
    },
    /// That hub said goodbye, was forgotten, or is back under a new incarnation.
    PeerGone {
        /// Which.
        hub: HubId,
    },
    /// This hub would like to end, and the session may not yet ([`Session::may_end`](super::Session::may_end)):
    /// a copy asks its predecessor once more what became of the handover.
    AskAgain,
    /// A timer of [`Action::Arm`].
    Fired(Timer),
}

/// Timers, by name and by what makes a late one harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The freeze that offered this generation lasts too long.
    Freeze(Generation),
    /// Say `committed` again for this generation; the second number slows it down.
    Repeat(Generation, u8),
    /// The copy under this generation is too old.
    CopyTtl(Generation),
    /// This connection has waited long enough at a copy.
    CopyWait(ConnectionId),
    /// The freeze waits no longer for the answer to this bulk.
    BulkWait(Generation),
    /// This bulk is too old to count on.
    BulkReuse(Generation),
    /// The data of a session that was given away under this generation is kept no longer. A driver whose
    /// sessions live longer than [`KEPT_MS`](super::KEPT_MS) waits as long as they live.
    Kept(Generation),
}

/// What the drain wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A handover began: its bulk is under way, or the freeze.
    Began,
    /// It goes on here, unfrozen; after [`FREEZE_FAILURES_MAX`] in a row `blocked` is true.
    Thawed {
        /// Whether this peer should not be tried again for it.
        blocked: bool,
    },
    /// Handed over, `live` still out.
    Committed,
    /// Live at the successor: it counts as moved.
    Live(HubId),
    /// The successor lost it.
    SuccessorLost,
    /// Handed over, and `live` never came while the data was kept: only a tombstone is left. Whether it
    /// lives there nobody here knows.
    NeverConfirmed(HubId),
    /// On disk.
    Parked,
    /// It could not be written.
    ParkFailed,
    /// The client came back here instead of to another hub.
    Bounced,
    /// Gone for good.
    Left(Left),
    /// It goes live here, from that predecessor.
    Arrived(HubId),
}

/// What the driver does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action<M> {
    /// Tell a peer.
    Say(HubId, PeerMessage<M>),
    /// Answer `hello`; from now on this connection is the counted one.
    Welcome {
        /// Where.
        conn: ConnectionId,
        /// Serial of the new token.
        serial: u32,
        /// Whether it continues a session.
        resumed: bool,
        /// The position at which the connection starts.
        from: Offset,
        /// How much of the client's was counted.
        received: Offset,
    },
    /// Answer `hello` with `retry`, then close with 1013.
    Retry {
        /// Where.
        conn: ConnectionId,
        /// When to come back, in milliseconds.
        after_ms: u64,
        /// A word of README section 3.
        why: &'static str,
    },
    /// Close a connection; it is deaf from now on.
    Close {
        /// Which.
        conn: ConnectionId,
        /// The code.
        close: Close,
        /// For people.
        why: &'static str,
    },
    /// Tell a connection where its session is now, as the last frame before its close.
    LastMove {
        /// Which.
        conn: ConnectionId,
        /// Serial of the token.
        serial: u32,
        /// The hub that the token names.
        to: HubId,
        /// The generation that the token names.
        generation: Generation,
    },
    /// Start a new session for this connection, with what is left of the old one, and tell every hub.
    Reset {
        /// Which connection.
        conn: ConnectionId,
        /// A word of README section 3.
        why: &'static str,
        /// User, channels and state of the old one.
        record: Box<Record<M>>,
    },
    /// The connection may have something to read or to write again.
    Wake,
    /// Let the app finish: `moving`, Close 1012, read to the end; then [`Event::Settled`].
    Settle,
    /// Dial the app and tell it `resumed`.
    Bind,
    /// Let go of the app without a word of its own (the session ended or is elsewhere).
    Unbind,
    /// Write the record to disk, sync, then [`Event::Written`] or [`Event::WriteFailed`].
    Write,
    /// Read the parked record back, then [`Event::TakenUp`].
    TakeUp,
    /// Calls that waited may be applied here now.
    ApplyCalls,
    /// Calls that waited go to that hub, in order.
    ForwardCalls(HubId),
    /// Fire this timer after so many milliseconds.
    Arm(Timer, u64),
    /// For the drain, the metrics and the logs.
    Told(Outcome),
}

/// Where a call from outside (publish, state, channels, evict) belongs at this moment (rule 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Do it here and now.
    Here,
    /// Queue it; [`Action::ApplyCalls`] or [`Action::ForwardCalls`] will come.
    Wait,
    /// Take the session up first.
    TakeUp,
    /// Pass it on.
    At(HubId),
    /// There is no such session here.
    Nowhere,
}

/// What became of an app message that a connection brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receipt {
    /// Counted.
    Counted,
    /// The session is frozen: keep the message and offer it again after the next wake.
    Hold,
    /// The connection is deaf: nothing that it brings counts.
    Deaf,
}

/// What a connection gets next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<M> {
    /// An app message.
    Message(M),
    /// A declared gap.
    Gap {
        /// The last position before it.
        from: Offset,
        /// The position after it.
        to: Offset,
    },
}
