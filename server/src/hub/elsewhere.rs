//! What peers have said to lie on their disks: kept while they are away ([`Elsewhere`] decides).

use super::Hub;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::parked::Elsewhere;

/// The table. As many as `--limit-tombstones`.
#[derive(Debug, Default)]
pub struct ParkedElsewhere(Mutex<Elsewhere>);

impl ParkedElsewhere {
    fn table(&self) -> MutexGuard<'_, Elsewhere> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hub is back, in this run or the next, and speaks for itself.
    pub fn back(&self, hub: HubId) {
        self.table().back(hub);
    }

    /// The session is served somewhere, or over.
    pub fn forget(&self, session: SessionId) {
        self.table().forget(session);
    }
}

impl Hub {
    /// A peer says what lies on its disk. That is waited for as long as a session lives, and as long as a hub that
    /// is silent is expected back, whichever is longer.
    pub fn parked_at(&self, hub: HubId, sessions: &[SessionId]) {
        let patience_ms = self.config.session_ttl_ms.max(self.config.peer_forget_after_ms);
        let (now, max) = (self.now(), self.config.limits.tombstones as usize);
        self.elsewhere.table().told(hub, sessions, now, now.plus(patience_ms), max);
    }

    /// On whose disk a session lies, if one that is away has said so.
    pub fn parked_elsewhere(&self, session: SessionId) -> Option<HubId> {
        self.elsewhere.table().at(session, self.now())
    }

    /// How many sessions lie on the disk of each hub that is away, or has parked and not served again.
    pub fn parked_elsewhere_counts(&self) -> BTreeMap<HubId, u64> {
        self.elsewhere.table().counts(self.now())
    }
}
