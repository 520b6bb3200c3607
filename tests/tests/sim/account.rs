//! One client's account: every session that it had, what it sent in it, and what came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::id::SessionId;

/// How a session ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Replaced by a new one, and the client was told why.
    Reset(String),
    /// Ended for good.
    Ended(u16, String),
}

/// One session of one client.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) session: SessionId,
    /// When it was welcomed first.
    pub(crate) began_ms: u64,
    /// Messages of the application, in order.
    pub(crate) sent: Vec<String>,
    /// Messages that came, in order, with when.
    pub(crate) received: Vec<(u64, String)>,
    /// Declared gaps: how many messages had come before, how many are missing, and why.
    pub(crate) gaps: Vec<(usize, u64, String)>,
    /// What came back unsent at its end.
    pub(crate) unsent: Vec<String>,
    pub(crate) over: Option<(u64, Over)>,
}

/// All of one client.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) parts: Vec<Part>,
    pub(crate) connected: bool,
    pub(crate) unacked: usize,
    /// Another client was given its token: what comes of it is between the two.
    pub(crate) doubled: bool,
    /// How its last connection ended.
    pub(crate) last_trouble: String,
    /// Sessions of which it was just told that they are safe on disk.
    pub(crate) told_safe: Vec<SessionId>,
}

/// Shared with whoever judges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account(Arc<Mutex<State>>);

impl Account {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, session: SessionId, began_ms: u64) {
        self.state().parts.push(Part {
            session,
            began_ms,
            sent: Vec::new(),
            received: Vec::new(),
            gaps: Vec::new(),
            unsent: Vec::new(),
            over: None,
        });
    }

    pub(crate) fn with_last(&self, change: impl FnOnce(&mut Part)) {
        if let Some(part) = self.state().parts.last_mut() {
            change(part);
        }
    }
}
