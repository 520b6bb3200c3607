//! How much of each kind of trouble a scenario allows. Every budget only falls, so every run ends.

use std::fmt;

/// What may still happen. Part of the state: a run that spent its cut differs from one that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Connections that the client opens beyond its first.
    pub dials: u8,
    /// Connections cut by the network.
    pub cuts: u8,
    /// Attempts that the client gives up although they might still succeed.
    pub impatience: u8,
    /// Messages of the app towards the client.
    pub publishes: u8,
    /// Messages of the client.
    pub sends: u8,
    /// Messages between hubs that arrive twice.
    pub doubles: u8,
    /// Hubs that lose their memory.
    pub crashes: u8,
    /// Hubs that end in good order: all of their sessions may, their last words are out, and they say goodbye.
    pub ends: u8,
    /// Hubs that end with the session on their disk and are away for a while, with a goodbye.
    pub sleeps: u8,
    /// `move` orders to the client.
    pub orders: u8,
    /// Sessions pushed to a peer.
    pub pushes: u8,
    /// Drains cancelled.
    pub cancels: u8,
    /// Freezes that reach their limit.
    pub freeze_limits: u8,
    /// `committed` repeated by the timer.
    pub repeats: u8,
    /// Copies that reach their time to live.
    pub copy_ends: u8,
    /// Connections sent away from a copy.
    pub copy_waits: u8,
    /// Freezes that wait no longer for the answer to a bulk.
    pub bulk_waits: u8,
    /// Bulks dropped by whoever sent or holds them.
    pub bulk_ends: u8,
    /// Kept data that reaches its time to live.
    pub kept_ends: u8,
    /// Claims for which a hub stays silent, or that last too long.
    pub claim_limits: u8,
    /// Hellos of a client that has waited `orphan_after_ms`.
    pub orphans: u8,
    /// Hellos with an older token that come (again) over a connection of their own.
    pub late_hellos: u8,
    /// Sessions parked.
    pub parks: u8,
    /// Sessions ended by an administrator.
    pub evicts: u8,
    /// Client processes that die, with all that they knew.
    pub deaths: u8,
    /// Other clients that come with the token of this one and a higher try.
    pub thieves: u8,
    /// Calls from outside that come to any hub.
    pub calls: u8,
}

/// What is left out of a scenario to keep it exhaustive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// What a hub wrote is read by the client at once.
    pub client_reads_at_once: bool,
    /// What the client wrote is read by the hub as soon as the hub listens.
    pub hub_reads_at_once: bool,
    /// Messages are written to the connection as soon as the machine gives them.
    pub hub_writes_at_once: bool,
    /// The app takes messages, and settles before a move, at once.
    pub app_at_once: bool,
    /// Each message towards the client is worth a bulk.
    pub heavy: bool,
}

impl Grain {
    /// Every step on its own.
    pub const FINE: Self = Self {
        client_reads_at_once: false,
        hub_reads_at_once: false,
        hub_writes_at_once: false,
        app_at_once: false,
        heavy: false,
    };
    /// Only what hubs say to each other is a step on its own.
    pub const PEERS: Self = Self {
        client_reads_at_once: true,
        hub_reads_at_once: true,
        hub_writes_at_once: true,
        app_at_once: true,
        heavy: false,
    };
    /// Connections in both directions are streams with bytes under way; the app is quick.
    pub const WIRE: Self = Self { app_at_once: true, hub_writes_at_once: true, ..Self::FINE };

    /// As [`Grain::PEERS`], but the client leaves what it is told in its socket for a while: messages stay unacked.
    pub const PEERS_LAZY: Self = Self { client_reads_at_once: false, ..Self::PEERS };

    /// The same with messages that are worth a bulk.
    pub const fn heavy(self) -> Self {
        Self { heavy: true, ..self }
    }
}

/// A rule dropped on purpose: each must be caught by some property, else the check proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The machines as they are.
    #[default]
    None,
    /// Rule 6: any `held` commits the freeze of now.
    CommitOnAnyHeld,
    /// Rule 6: a thaw goes on under the generation from before, and the next freeze offers the same one again.
    ThawKeepsGeneration,
    /// Rule 7: the owner commits when it sends the snapshot, without waiting for `held`.
    CommitWithoutHeld,
    /// Rule 9: a copy whose time is over goes live instead of away.
    GoLiveOnTtl,
    /// Rule 9: a copy goes live when its predecessor is gone.
    GoLiveOnPredecessorGone,
    /// Rule 8: committed counts as moved.
    MovedBeforeLive,
    /// Rule 8: `committed` is said once.
    CommittedSaidOnce,
    /// Rule 1: a frozen owner reads on and drops what it read.
    ReadWhileFrozen,
    /// Rule 5: a message is acked when it was counted, before the app took it.
    AckBeforeTaken,
    /// Rule 5: untaken messages do not travel.
    UntakenStayBehind,
    /// Rule 11: the try is not looked at.
    NoTryCheck,
    /// Rule 13: a silent hub counts as one that knows nothing.
    SilenceIsKnowledge,
    /// Hubs accept what was meant for their earlier run.
    NoIncarnationFence,
    /// Rule 8: kept data resets its client without asking the other hubs.
    ResetWithoutAsking,
    /// Rule 18: the connection is closed before the record is on disk.
    ParkedBeforeWritten,
    /// Rule 13: peers forget what a hub that is away has on its disk.
    ParkedForgotten,
    /// Rule 2: an app message travels before `welcome`.
    MessageBeforeWelcome,
    /// Rule 3: a connection does not start at `welcome.from`, but one before it.
    PositionOffByOne,
    /// Rule 10: a difference is put on whatever bulk is there.
    DifferenceGuessed,
    /// Rule 10: a freeze has no limit.
    FreezeWithoutLimit,
    /// Rule 12: only this hub itself is asked for the owner.
    AsksNobody,
    /// Rule 16: calls that waited are forgotten when the freeze is over.
    WaitingCallsForgotten,
    /// Rule 8: a hub ends as soon as it owns nothing, while copies in it wait for a word of their predecessor.
    EndsWithCopies,
    /// Rule 4: the hub counts what comes on the old connection after it welcomed the new one.
    OldConnectionCounts,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
