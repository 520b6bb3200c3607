//! Where the drain's driver lets clients and operators through: returns to this hub, and gates.

use super::Driver;
use crate::hub::Hub;
use std::sync::Arc;
use tidegate_protocol::control::DrainStatus;
use tidegate_protocol::drain::{Drain, Event};
use tidegate_protocol::id::SessionId;
use tidegate_protocol::session::RETRY_BOUNCE_MS;

impl Driver {
    /// What the client of a session that was ordered to move is told when it comes here ([`Drain::sends_away`]).
    pub fn sends_away(&self, hub: &Hub, id: SessionId) -> Option<u64> {
        if !self.has_elsewhere(hub) {
            return None;
        }
        self.machine().as_ref().and_then(|machine| machine.sends_away(id))
    }

    /// How long a client is told to wait that should come to another hub, in milliseconds.
    pub fn retry_ms(&self) -> u64 {
        self.machine().as_ref().map_or(RETRY_BOUNCE_MS, Drain::retry_ms)
    }

    /// Somebody has looked at a gate: the drain goes on. With the status as it is, an error, if no gate holds it.
    ///
    /// # Errors
    /// The status of a drain that is held by no gate, or of none.
    pub fn go_on(&self, hub: &Arc<Hub>) -> Result<DrainStatus, Box<DrainStatus>> {
        let held = self.machine().as_ref().is_some_and(Drain::is_held_at_a_gate);
        if !held {
            return Err(Box::new(self.status_now(hub)));
        }
        self.inbox.push(Event::Continue);
        while self.step(hub) {}
        Ok(self.status_now(hub))
    }

    /// The process ends: where a gate failed, everybody is parked ([`Event::Stopping`]).
    pub(super) fn stopping(&self, hub: &Arc<Hub>) {
        self.tell(Event::Stopping);
        while self.step(hub) {}
    }
}
