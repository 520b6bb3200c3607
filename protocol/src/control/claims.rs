//! Who wants a hub drained, as status and report name it.

use crate::id::DrainId;
use serde::{Deserialize, Serialize};

/// Where a claim on the drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimLife {
    /// The drain is under way, and the leases of its runs count.
    Draining,
    /// The drain is over, and the hub stays drained until somebody releases it; never by time.
    Kept,
    /// The drain is over, and the claim ends by itself: when the app is back, or after `--return-after`.
    Returning,
}

impl ClaimLife {
    /// The word that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Kept => "kept",
            Self::Returning => "returning",
        }
    }
}

/// One claim on the drain of this hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClaimStatus {
    /// Whose it is: the header `Tidegate-Claimant`, else `run ` and the Attempt, else `anonymous`.
    pub claimant: String,
    /// The lifecycle event that keeps it: that of a block event if there was one, else the last; null without events.
    pub event: Option<String>,
    /// The deployment of that event; null if it was not named.
    pub deployment: Option<String>,
    /// Where it stands.
    pub life: ClaimLife,
    /// For how long it has been held.
    pub since_ms: u64,
    /// How long until it ends, if nobody renews or restarts it; null when no time ends it.
    pub ends_in_ms: Option<u64>,
}

/// Somebody who asked for a drain while it ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AskedBy {
    /// Whose claim it is.
    pub claimant: String,
    /// The lifecycle event; null without one.
    pub event: Option<String>,
    /// The deployment; null if it was not named.
    pub deployment: Option<String>,
    /// Whether the drain was under way already.
    pub joined: bool,
}

/// The last call that ended a drain, or the service after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CalledOff {
    /// Which drain.
    pub drain: DrainId,
    /// Who did it, or why it ended by itself, in words.
    pub by: String,
}
