//! What the hub tells about itself: log lines on stderr, and metrics for Prometheus.

mod claims;
mod labels;
mod logs;
mod metrics;
mod repeats;

pub use labels::{
    AppTrouble, DialResult, Direction, Held, Label, Outcome, PeerResult, PeerTrouble, Rejected, SessionPhase,
};
pub(crate) use logs::rounds;
pub use logs::{Logs, init_logs, log_panics};
pub use metrics::{ByLabel, DRAIN_PHASES, Described, METRICS, Metrics, PeerMessages, UPKEEP_EVERY_MS};
