//! The ghost: what really happened, kept beside the machines and never shown to them.

use std::collections::BTreeSet;
use tidegate_protocol::position::Generation;

/// A promise that was broken. The first one stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Two hubs own the session at once.
    TwoOwners,
    /// An owner took up the session under a generation that is not above its predecessor's.
    GenerationDidNotRise,
    /// An offset towards the client was given twice, or one was skipped.
    NumberedTwice,
    /// The client's application got a message twice, out of order, or not at all.
    DeliveredOutOfOrder,
    /// The client was told of a gap although nothing was ever dropped.
    FalseGap,
    /// The hubs counted a message of the client twice, out of order, or not at all.
    CountedOutOfOrder,
    /// The app was given a message twice, out of order, or not at all.
    TakenOutOfOrder,
    /// The client was acked a message that the app has not taken.
    AckedBeforeTaken,
    /// A session counts as moved that its successor never served.
    MovedWithoutLive,
    /// A hub counts a session as left or moved that it did not have, or twice.
    OutcomeWithoutSession,
    /// A client that kept to the rules was closed for good.
    ClientEnded(u16),
    /// The session ended although nobody ended it.
    SessionEnded,
    /// The client was reset although a hub had its session, and it had not waited.
    NeedlessReset,
    /// The client was reset although its session lay on the disk of a hub that was away and had said so.
    ResetWhileParked,
    /// A client was told 1012 `parked` while nothing was on disk.
    ParkedWithoutRecord,
    /// A call waits at a hub that neither has the session nor will get it.
    CallForgotten,
    /// Another client with the same token was not told everything in order.
    ThiefOutOfOrder,
}

/// The truth about one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// Messages towards the client that were numbered: 1, 2, 3 …
    pub numbered: u8,
    /// Of those, what the client's application got.
    pub delivered: u8,
    /// Messages that the client's application sent: 1, 2, 3 …
    pub sent: u8,
    /// Of those, what a hub counted.
    pub counted: u8,
    /// Of those, what the app took.
    pub taken: u8,
    /// The owner of now or the last one: hub and run.
    pub owner: Option<(usize, u8)>,
    /// The highest generation that an owner had.
    pub generation: Generation,
    /// Where and under which generation it went live.
    pub live: BTreeSet<(usize, Generation)>,
    /// An owner, or data of a session under way, was lost in a crash (or a copy's time ran out).
    pub data_lost: bool,
    /// A client that had waited was reset without an answer of every hub.
    pub orphaned: bool,
    /// The client was offered a new session.
    pub reset: bool,
    /// An administrator ended it.
    pub evicted: bool,
    /// The client's process is no more.
    pub died: bool,
    /// Another client came with this one's token.
    pub robbed: bool,
    /// What was broken first.
    pub fault: Option<Fault>,
}

impl Ledger {
    /// Whether the session may end without its client's fault.
    pub fn may_end(&self) -> bool {
        self.reset || self.evicted || self.died
    }

    /// Notes a broken promise.
    pub fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Blames unless it holds.
    pub fn expect(&mut self, holds: bool, fault: Fault) {
        if !holds {
            self.blame(fault);
        }
    }
}
