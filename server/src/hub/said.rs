//! What clients that return with a token said of themselves (who they are, by which path, which subprotocols),
//! kept until they are welcomed: should their session turn out to be lost with nothing left of it, the new
//! one begins with this. There is at most one for each connection that is not welcomed yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_protocol::id::ConnectionId;
use tidegate_protocol::session::record::Profile;

/// The table.
#[derive(Debug, Default)]
pub struct Said(Mutex<BTreeMap<ConnectionId, Box<Profile>>>);

impl Said {
    fn table(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Box<Profile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a connection's hello said.
    pub fn keep(&self, conn: ConnectionId, profile: Profile) {
        self.table().insert(conn, Box::new(profile));
    }

    /// Gives it, once.
    pub fn take(&self, conn: ConnectionId) -> Option<Profile> {
        self.table().remove(&conn).map(|profile| *profile)
    }

    /// The connection was welcomed, or is gone.
    pub fn forget(&self, conn: ConnectionId) {
        self.table().remove(&conn);
    }
}
