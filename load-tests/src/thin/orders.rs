//! What the coordinator and its generators say to each other: one JSON object per line.

use super::tally::Figures;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What a connection must do before it counts as open, and how it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dialect {
    /// `tidegate.v1`: hello with the upgrade, open at `welcome`, acks.
    Tidegate,
    /// A bare WebSocket: open at 101.
    Plain,
}

/// The first line to a generator: whom it loads and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Where to connect.
    pub(crate) target: SocketAddr,
    /// The `Host` header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// How to open.
    pub(crate) dialect: Dialect,
    /// The number of this generator; its source addresses follow from it.
    pub(crate) number: u8,
    /// Receive buffer of each socket in bytes; the kernel's default if absent.
    pub(crate) receive_buffer: Option<u32>,
}

impl Setup {
    /// Names a connection among those of all generators of a run.
    pub(super) fn who(&self, generation: u32) -> u64 {
        u64::from(self.number) << 32 | u64::from(generation)
    }
}

/// Later lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Open so many more connections. With a rate, connection k is due at `begin_ns + k / per_s`,
    /// whatever became of those before it, and its latency counts from there. Without one, as many
    /// at a time as `in_flight` allows.
    Connect {
        /// How many.
        count: u32,
        /// Per second; absent: unpaced.
        per_s: Option<f64>,
        /// At most so many under way.
        in_flight: u32,
        /// When the first is due, by the machine's monotonic clock.
        begin_ns: u64,
    },
    /// Close so many connections, the oldest first, with 1000. Paced like `Connect`.
    Disconnect {
        /// How many.
        count: u32,
        /// Per second; absent: at once.
        per_s: Option<f64>,
        /// When the first is due.
        begin_ns: u64,
    },
    /// Messages from the first `sessions` connections until `until_ns`. Replaces earlier traffic.
    Traffic(Traffic),
    /// From now on the first `count` connections are not read.
    Stall {
        /// How many.
        count: u32,
    },
    /// Tell all figures and begin new ones.
    Collect,
    /// End without closing anything.
    Quit,
}

/// Messages that come back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// What is sent.
    pub(crate) kind: Kind,
    /// From how many connections, in turn.
    pub(crate) sessions: u32,
    /// Of all of them together, per second; absent: closed loop, the next when the last came back.
    pub(crate) per_s: Option<f64>,
    /// Bytes of each message; at least the stamp's.
    pub(crate) payload: u32,
    /// When the first is due.
    pub(crate) begin_ns: u64,
    /// When none is sent any more.
    pub(crate) until_ns: u64,
}

/// What kind of message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// An app message, which the app behind sends back.
    Echo,
    /// A WebSocket ping, which the server itself answers.
    Ping,
}

/// What a generator tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// Live counts, some times a second.
    Progress(Progress),
    /// The answer to `Collect`.
    Figures(Box<Figures>),
}

/// Live counts since the start of the generator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Connections that are open now.
    pub(crate) open: u64,
    /// Connections under way now.
    pub(crate) opening: u64,
    /// Connections that said goodbye and still have a socket.
    pub(crate) closing: u64,
    /// Attempts that failed for good.
    pub(crate) failed: u64,
    /// Open connections that the other side ended.
    pub(crate) lost: u64,
    /// Connections that we closed.
    pub(crate) closed: u64,
    /// App messages received.
    pub(crate) received: u64,
    /// Messages sent that should come back.
    pub(crate) sent: u64,
    /// Those that came back.
    pub(crate) echoed: u64,
    /// Generators whose traffic has not ended.
    pub(crate) sending: u64,
}

impl Progress {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            open: self.open + other.open,
            opening: self.opening + other.opening,
            closing: self.closing + other.closing,
            failed: self.failed + other.failed,
            lost: self.lost + other.lost,
            closed: self.closed + other.closed,
            received: self.received + other.received,
            sent: self.sent + other.sent,
            echoed: self.echoed + other.echoed,
            sending: self.sending + other.sending,
        }
    }
}
