//! What the drain is told, and what it orders.

use crate::app::Finished;
use crate::control::{DrainReport, HubState};
use crate::id::{HubId, SessionId};
use crate::position::Millis;
use serde::{Deserialize, Serialize};

/// What is known of a session when it joins the population.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Its client is connected.
    pub connected: bool,
    /// Its client already said that it is ready to move.
    pub ready: bool,
    /// Its client said that it is busy.
    pub busy: bool,
    /// It is new: no app message has passed in either direction, so moving it interrupts nothing.
    pub fresh: bool,
    /// Milliseconds since the last app message in either direction.
    pub idle_ms: u64,
}

/// A hub that may take sessions over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Successor {
    /// Its id.
    pub hub: HubId,
    /// How clients reach it by name (`--public-url`); without it no client is sent there by name.
    pub url: Option<String>,
    /// Reachable, ready, and neither draining nor about to.
    pub eligible: bool,
    /// What it said last; none while it is silent.
    pub state: Option<HubState>,
    /// How many sessions it holds, as it said last; none while it is silent. Shares level this out: equal shares
    /// for hubs of unequal load would leave a fleet as skewed as a rolling restart makes it.
    pub sessions: Option<u64>,
    /// For how many more sessions it has room, as it said last; none if it does not tell, as a hub of an earlier
    /// release: then it counts as having enough.
    pub room: Option<Room>,
    /// How it admitted clients in its last seconds; none if nobody came.
    pub admission: Option<Admission>,
}

/// How many more sessions a hub can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Room {
    /// So many.
    pub places: u64,
    /// When that was heard, on the drain's clock: whoever went there well before is counted in it.
    pub told_at: Millis,
}

/// How a successor admitted clients in its last seconds, as it measured itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Admission {
    /// The second of its clock in which it said so: the same sample is judged once.
    pub second: u64,
    /// How many clients it welcomed.
    pub welcomed: u64,
    /// 99 of 100 were welcomed within this many milliseconds from their hello.
    pub p99_ms: u64,
    /// Clients that it turned away for want of room.
    pub refused: u64,
}

/// What the successor tells when the client of a moved session is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resume {
    /// From the freeze to the commit here, plus from commit to welcome there; none if not measured.
    pub gap_ms: Option<u64>,
    /// Messages that were sent again.
    pub replayed: u64,
    /// Messages that went to the client over both connections; see [`MessageCounts::duplicates_dropped`].
    ///
    /// [`MessageCounts::duplicates_dropped`]: crate::control::MessageCounts::duplicates_dropped
    pub duplicates_dropped: u64,
    /// Declared gaps.
    pub gaps: u64,
    /// Messages missing after reconciling the offsets of both sides.
    pub lost: u64,
}

/// What happened. Events about a session that already has its outcome change nothing, so each may
/// be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A session began here, or came here, while the drain runs.
    Arrived {
        /// Who.
        id: SessionId,
        /// What is known of it.
        facts: Facts,
    },
    /// The client said `ready`.
    Ready {
        /// Who.
        id: SessionId,
    },
    /// The client said `busy`.
    Busy {
        /// Who.
        id: SessionId,
        /// For how long, as asked.
        ms: u64,
        /// Its reason, shown to the operator.
        why: String,
    },
    /// The connection broke; the session waits for its client.
    ConnectionLost {
        /// Who.
        id: SessionId,
    },
    /// The client is connected here again.
    ConnectionBack {
        /// Who.
        id: SessionId,
    },
    /// A handover is under way: the client came to another hub, or a push was accepted.
    HandoverBegan {
        /// Who.
        id: SessionId,
        /// To which hub.
        to: HubId,
    },
    /// Given away, and not yet confirmed live.
    Committed {
        /// Who.
        id: SessionId,
        /// To which hub.
        to: HubId,
        /// From when its snapshot was sent until now: what the hubs took, without its app and its client. None if
        /// nobody looked.
        exchange_ms: Option<u64>,
    },
    /// A session that is given away or parked: how its app finished with it.
    AppFinished {
        /// Who.
        id: SessionId,
        /// How.
        how: Finished,
    },
    /// Confirmed live on another hub: only now it counts as moved.
    Live {
        /// Who.
        id: SessionId,
        /// On which hub.
        to: HubId,
        /// Whether a connection was open here when it was handed over.
        had_connection: bool,
        /// Present when its client was welcomed there already.
        resume: Option<Resume>,
    },
    /// The client of a session that went live earlier was welcomed by the successor.
    Resumed {
        /// Who.
        id: SessionId,
        /// How it went.
        resume: Resume,
    },
    /// A handover failed and the session goes on here.
    Refused {
        /// Who.
        id: SessionId,
        /// By which hub, if one was reached.
        to: Option<HubId>,
        /// Why, shown to the operator.
        why: String,
    },
    /// A handover to this hub failed as often as it may be tried.
    Blocked {
        /// Who.
        id: SessionId,
        /// By which hub, if one was reached.
        to: Option<HubId>,
        /// Why, shown to the operator.
        why: String,
    },
    /// The client was ordered to move and came back here, its old connection still open.
    Bounced {
        /// Who.
        id: SessionId,
    },
    /// Ended, evicted, expired or replaced.
    Left {
        /// Who.
        id: SessionId,
    },
    /// Safe on disk; its connection is closed.
    Parked {
        /// Who.
        id: SessionId,
    },
    /// Parking failed and the session goes on here.
    ParkFailed {
        /// Who.
        id: SessionId,
        /// Why, shown to the operator.
        why: String,
    },
    /// Closed without push or park.
    Forced {
        /// Who.
        id: SessionId,
    },
    /// The other hubs as they are now, all of them; sent on each change and about once a second.
    PeersChanged(Vec<Successor>),
    /// Call it off; after *drained*: serve again. With who did it, or why, for the report.
    Cancel(Option<String>),
    /// Somebody has looked at a gate that holds the drain: it goes on.
    Continue,
    /// The process ends: a drain whose gate failed parks everybody, for nobody is pushed to where no client arrives.
    Stopping,
    /// AfterBlockTraffic: push or park whoever is left, newcomers too.
    PushAndParkRest,
    /// The trigger is done: the balancer may let go of clients from now on.
    TriggerEnded,
}

/// What the hub is to do. Each action about a session is answered by an event, sooner or later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Tell the client that the hub is about to pause.
    Notify {
        /// Whom.
        id: SessionId,
        /// When the drain ends, from now.
        deadline_in_ms: u64,
        /// When this client will be asked to move, from now.
        slot_in_ms: u64,
    },
    /// Answer to `busy`: when this client will be asked to move now.
    Grant {
        /// Whom.
        id: SessionId,
        /// From now.
        slot_in_ms: u64,
    },
    /// Order the client to move. Answered by `HandoverBegan`, `Bounced`, `Refused` or nothing.
    Move {
        /// Whom.
        id: SessionId,
        /// To this hub by its public URL; none: by the URL it used.
        to: Option<HubId>,
    },
    /// Hand the session over from here. Answered by `Committed`, then `Live`; or by `Refused` or
    /// `Blocked`. If the client's own move is under way already, that one may answer.
    Push {
        /// Whom.
        id: SessionId,
        /// To which hub.
        to: HubId,
    },
    /// Put the session on disk, then close its connection. Answered by `Parked` or `ParkFailed`.
    /// If a handover is under way, abort it first; if it is committed already, the answer is
    /// `Committed` or `Live`, and no `ParkFailed`.
    Park {
        /// Whom.
        id: SessionId,
        /// When its client should come back, from now, so that they do not all come at once.
        slot_in_ms: u64,
    },
    /// Tell the client that the notice is void.
    Recall {
        /// Whom.
        id: SessionId,
    },
    /// Close the connection; the session was neither pushed nor parked, and counts as forced.
    Force {
        /// Whom.
        id: SessionId,
        /// When its client should come back, from now.
        slot_in_ms: u64,
    },
    /// Take the parked sessions up again and serve.
    ServeAgain,
    /// It is over; keep this for `GET /v1/drain/report`.
    Finish(Box<DrainReport>),
}
