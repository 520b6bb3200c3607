//! What hubs say to each other about sessions. Every message may be lost, doubled or late; each names
//! (session, handover, generation), so that a stale one is recognised and never acted on.

use crate::id::{HubId, SessionId};
use crate::position::{Generation, Offset};
use crate::session::bulk::{Bulk, Difference};
use crate::session::record::{HelloFacts, Record, Verdict};
use serde::{Deserialize, Serialize};

/// The snapshot format that this build writes to hubs that read it. Version 1 is a whole record; in
/// version 2 the bulk may go ahead, and the snapshot be the difference to it.
pub const SNAPSHOT_VERSION: u32 = 2;
/// The snapshot formats that this build reads and writes: this one and the one before.
pub const SNAPSHOT_VERSIONS: [u32; 2] = [1, SNAPSHOT_VERSION];
/// From this version on a hub takes a bulk and the difference to it.
pub const BULK_VERSION: u32 = 2;

/// The newest snapshot version that both sides know; None: there is none, so nothing can be handed over.
pub fn common_version(ours: &[u32], theirs: &[u32]) -> Option<u32> {
    ours.iter().copied().filter(|version| theirs.contains(version)).max()
}

/// One hub's wish to take a session for a client that came to it. Never used again, by no later run of
/// the hub either (so it starts at random, not at 1): the answer to a claim of an earlier run would
/// else be taken for the answer to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimId(pub u64);

/// One try to move one session. The generation was never offered before by this predecessor, so the
/// three fields name the try for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Handover {
    /// The predecessor.
    pub from: HubId,
    /// The successor.
    pub to: HubId,
    /// What the successor will own the session under.
    pub generation: Generation,
}

/// What a hub knows of a session, with the generation that it knows it under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "known", content = "at")]
pub enum Knowledge {
    /// Nothing (a new run of the hub counts as that).
    Unknown,
    /// An inert copy.
    Copy(Generation),
    /// It was handed on to that hub.
    MovedTo(HubId, Generation),
    /// It is the owner (serving, frozen or parked).
    Owner(Generation),
    /// It ended here.
    Ended(Generation),
    /// That hub said that it lies on its disk, and is not back yet.
    Parked(HubId),
}

/// Why a claim was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "refused", content = "because")]
pub enum Refusal {
    /// Final for this client.
    Judged(Verdict),
    /// In the middle of another move; try again soon.
    Busy,
    /// This hub is not the owner; this is what it knows.
    NotOwner(Knowledge),
    /// The claimant reads no snapshot version that this hub writes.
    Version,
}

/// A message between hubs about one session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
#[serde(bound(
    serialize = "M: crate::replay::Payload + Serialize",
    deserialize = "M: crate::replay::Payload + Deserialize<'de>"
))]
pub enum PeerMessage<M> {
    /// Claimant to anyone: what do you know?
    Locate {
        /// Which session.
        session: SessionId,
        /// For the answer.
        claim: ClaimId,
    },
    /// The answer to `locate`.
    Located {
        /// Which session.
        session: SessionId,
        /// From the question.
        claim: ClaimId,
        /// What the answerer knows.
        knowledge: Knowledge,
    },
    /// Claimant to owner: its client is here. The owner judges it.
    Claim {
        /// Which session.
        session: SessionId,
        /// Names the wish.
        claim: ClaimId,
        /// What the client said.
        hello: HelloFacts,
        /// Snapshot versions that the claimant reads.
        versions: Vec<u32>,
        /// Whether the client has waited `orphan_after_ms` and its connection is gone (rule 14).
        orphaned: bool,
    },
    /// Owner to claimant: no.
    Refused {
        /// Which session.
        session: SessionId,
        /// Names the wish.
        claim: ClaimId,
        /// Why not.
        why: Refusal,
    },
    /// Holder of an orphaned copy to claimant: its owner is lost, reset from this.
    ResetFrom {
        /// Which session.
        session: SessionId,
        /// Names the wish.
        claim: ClaimId,
        /// User, channels and state.
        record: Box<Record<M>>,
    },
    /// Predecessor to successor: most of the session, which serves on. Of no use without the difference.
    Bulk {
        /// Which session.
        session: SessionId,
        /// Names the bulk: a generation that is offered for nothing else.
        bulk: Generation,
        /// Format of `contents`.
        version: u32,
        /// The heavy part of the session.
        contents: Box<Bulk<M>>,
    },
    /// Successor to predecessor: I have this bulk.
    BulkHeld {
        /// Which session.
        session: SessionId,
        /// Names the bulk.
        bulk: Generation,
    },
    /// Successor to predecessor: I have no room for this bulk, or cannot read it.
    BulkRefused {
        /// Which session.
        session: SessionId,
        /// Names the bulk.
        bulk: Generation,
    },
    /// Predecessor to successor: the session, frozen, less what a bulk already told. Hold it inert.
    Difference {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
        /// The claim that asked for it; absent: a push.
        claim: Option<ClaimId>,
        /// Format of `difference`.
        version: u32,
        /// The bulk that it stands on.
        bulk: Generation,
        /// What changed since.
        difference: Box<Difference<M>>,
    },
    /// Successor to predecessor: the bulk of this difference is not here, or does not fit. Send everything.
    Lacking {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
    },
    /// Predecessor to successor: the session, frozen. Hold it inert.
    Snapshot {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
        /// The claim that asked for it; absent: a push.
        claim: Option<ClaimId>,
        /// Format of `record`.
        version: u32,
        /// The session.
        record: Box<Record<M>>,
    },
    /// Successor to predecessor: I have it, inert.
    Held {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
    },
    /// Predecessor to successor: it is yours. Repeated until `live`.
    Committed {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
    },
    /// Predecessor to successor: not this try; drop the copy.
    Aborted {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
    },
    /// Successor to predecessor, never after `held`: I cannot; thaw.
    Abort {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
    },
    /// Successor to predecessor: it is served here. Only now does it count as moved.
    Live {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
    },
    /// Successor to predecessor, in answer to `committed`: I know nothing of it (a new run).
    Lost {
        /// Which session.
        session: SessionId,
        /// Names the try.
        handover: Handover,
    },
    /// Successor to predecessor: its client is back, so long after the commit. For the report alone.
    Resumed {
        /// Which session.
        session: SessionId,
        /// From `committed` to `welcome`, in milliseconds.
        gap_ms: u64,
        /// How much the client had.
        from: Offset,
        /// Below this nothing could be replayed.
        base: Offset,
        /// How much had been numbered towards the client.
        end: Offset,
        /// How much of the client's had been counted.
        received: Offset,
    },
    /// To everyone: this session was reset; whoever still owns it ends it.
    Replaced {
        /// The session that is no more.
        session: SessionId,
    },
}

impl<M> PeerMessage<M> {
    /// The session that it is about.
    pub fn session(&self) -> SessionId {
        match self {
            Self::Locate { session, .. }
            | Self::Located { session, .. }
            | Self::Claim { session, .. }
            | Self::Refused { session, .. }
            | Self::ResetFrom { session, .. }
            | Self::Bulk { session, .. }
            | Self::BulkHeld { session, .. }
            | Self::BulkRefused { session, .. }
            | Self::Difference { session, .. }
            | Self::Lacking { session, .. }
            | Self::Snapshot { session, .. }
            | Self::Held { session, .. }
            | Self::Committed { session, .. }
            | Self::Aborted { session, .. }
            | Self::Abort { session, .. }
            | Self::Live { session, .. }
            | Self::Lost { session, .. }
            | Self::Resumed { session, .. }
            | Self::Replaced { session } => *session,
        }
    }

    /// Its name, for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Locate { .. } => "locate",
            Self::Located { .. } => "located",
            Self::Claim { .. } => "claim",
            Self::Refused { .. } => "refused",
            Self::ResetFrom { .. } => "reset_from",
            Self::Bulk { .. } => "bulk",
            Self::BulkHeld { .. } => "bulk_held",
            Self::BulkRefused { .. } => "bulk_refused",
            Self::Difference { .. } => "difference",
            Self::Lacking { .. } => "lacking",
            Self::Snapshot { .. } => "snapshot",
            Self::Held { .. } => "held",
            Self::Committed { .. } => "committed",
            Self::Aborted { .. } => "aborted",
            Self::Abort { .. } => "abort",
            Self::Live { .. } => "live",
            Self::Lost { .. } => "lost",
            Self::Resumed { .. } => "resumed",
            Self::Replaced { .. } => "replaced",
        }
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
