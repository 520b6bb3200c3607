//! Who is here when a drain begins, and whether it may begin.

use crate::hub::Hub;
use crate::hub::cell::Inner;
use std::time::Duration;
use tidegate_protocol::control::Policy;
use tidegate_protocol::drain::{Consent, Facts};
use tidegate_protocol::id::SessionId;
use tidegate_protocol::session::State;

/// Whether a drain of so many sessions must be agreed to first.
pub(super) fn consent(hub: &Hub, policy: &Policy, sessions: u64) -> Option<Consent> {
    Consent::needed(policy, sessions, &hub.peers.successors(), hub.peers.unheard())
}

/// The sessions that this hub owns, with what a drain must know of each.
pub(super) fn population(hub: &Hub) -> Vec<(SessionId, Facts)> {
    let now = hub.now();
    let cells = hub.all_cells();
    let owned = cells.iter().filter_map(|cell| {
        let inner = cell.lock();
        matches!(inner.session.state(), State::Serving { .. } | State::Frozen { .. })
            .then(|| (cell.id, facts(&inner, now.since(inner.active_at))))
    });
    owned.collect()
}

/// What is known of one.
pub(super) fn facts(inner: &Inner, idle_ms: u64) -> Facts {
    let fresh = inner.session.record().is_some_and(|record| record.outbox.end().0 == 0 && record.received.0 == 0);
    Facts { connected: inner.session.counted().is_some(), ready: false, busy: false, fresh, idle_ms }
}

/// The wall clock as a report shows it.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339_millis(at).to_string()
}
