//! Time and places: the only arithmetic that is allowed on them stands here.

use serde::{Deserialize, Serialize};

/// A moment or a span in milliseconds. Moments count from a start that the caller chooses and
/// keeps (the hub's monotonic clock); on the wire only spans travel, counted from receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This moment plus a span; saturates, so that "for ever" stays for ever.
    pub const fn plus(self, span_ms: u64) -> Self {
        Self(self.0.saturating_add(span_ms))
    }

    /// How long ago `earlier` was, in milliseconds; 0 if it lies ahead.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A count of app messages in one direction of one epoch: offset `n` is "`n` messages so far".
/// Offsets are counted at both ends and never carried with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset after one more message; saturates, for a stranger may name any.
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The offset after so many more messages; saturates.
    pub const fn plus(self, messages: u64) -> Self {
        Self(self.0.saturating_add(messages))
    }

    /// How many messages lie between `earlier` and here; 0 if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Changes only when offsets lose their meaning (a reset); a handover keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch after this one; saturates.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Rises with each change of owner, and with each thaw; whoever holds the highest is the owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation after this one; saturates, for one that wrapped round would fence nobody.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
