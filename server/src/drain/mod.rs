//! The drain's driver: runs the drain machine of the protocol crate against this hub.

use crate::hub::Hub;
use crate::hub::cell::{Cell, Inner};
use std::sync::Arc;
use tidegate_protocol::id::{DrainId, SessionId};
use tidegate_protocol::session::Outcome;

/// The driver.
#[derive(Debug, Default)]
pub struct Driver {}

impl Driver {
    /// What became of a session; called under its cell's lock: queue it, never block.
    pub fn told(&self, _hub: &Arc<Hub>, _session: SessionId, _inner: &mut Inner, _outcome: Outcome) {}
    /// The client of a moved session is back at its successor, so long after the commit.
    pub fn resumed(&self, _hub: &Arc<Hub>, _session: SessionId, _gap_ms: u64) {}
    /// A connection was welcomed for this session (new, resumed or taken over); under the cell's lock.
    pub fn connected(&self, _hub: &Arc<Hub>, _session: SessionId, _inner: &mut Inner) {}
    /// A new session began here; under the cell's lock.
    pub fn arrived(&self, _hub: &Arc<Hub>, _cell: &Arc<Cell>, _inner: &mut Inner) {}
    /// The client may be moved now.
    pub fn ready(&self, _hub: &Arc<Hub>, _session: SessionId, _drain: DrainId) {}
    /// The client asks not to be moved for so long.
    pub fn busy(&self, _hub: &Arc<Hub>, _session: SessionId, _drain: DrainId, _ms: u64, _why: Option<String>) {}
    /// Whether this hub is draining or drained: it takes no pushes.
    pub fn is_leaving(&self) -> bool {
        false
    }
    /// Whether this hub wants its clients elsewhere, and an eligible peer exists.
    pub fn has_elsewhere(&self, _hub: &Hub) -> bool {
        false
    }
}

/// Starts the driver's task.
pub fn spawn(_hub: &Arc<Hub>) {}

/// SIGTERM: push what peers take, park the rest, within `--stop-deadline`.
pub async fn leave(_hub: &Arc<Hub>) {}

/// Parks every session now.
pub async fn park_everything(_hub: &Arc<Hub>) {}
