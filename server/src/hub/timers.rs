//! All timers of the hub in one ordered table and one task, so that no session keeps one of its own
//! on the heap while it idles.

use super::Hub;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::peer::ClaimId;
use tidegate_protocol::position::{Generation, Millis};
use tidegate_protocol::session::{Event, Timer};
use tokio::sync::Notify;

/// What a timer is for. Late ones are harmless: whoever gets one checks that it still applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A timer of the session machine.
    Session(SessionId, Timer),
    /// A detached session's time to live may be over.
    Ttl(SessionId),
    /// A bulk has been held for long enough.
    Bulk(SessionId, Generation),
    /// Who has not answered `locate` is silent.
    Silence(ClaimId),
    /// A claim took too long.
    ClaimLimit(ClaimId),
    /// A claim went to a hub that is known to be silent.
    ClaimSilence(ClaimId, HubId),
}

/// The table. Its size is bounded by what arms timers: a few per session and claim.
#[derive(Debug, Default)]
pub struct Timers {
    table: Mutex<BTreeMap<(Millis, u64), Due>>,
    earlier: Notify,
}

impl Timers {
    /// Arms a timer for a moment.
    pub fn arm(&self, at: Millis, due: Due) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let first = table.keys().next().is_none_or(|(first, _)| at < *first);
        // The number keeps timers of one moment apart and in the order of arming.
        let number = table.range((at, 0)..=(at, u64::MAX)).next_back().map_or(0, |((_, n), _)| n + 1);
        table.insert((at, number), due);
        drop(table);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Takes everything that is due, and says when the next one is.
    pub fn take_due(&self, now: Millis) -> (Vec<Due>, Option<Millis>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let later = table.split_off(&(now.plus(1), 0));
        let due = std::mem::replace(&mut *table, later).into_values().collect();
        (due, table.keys().next().map(|(at, _)| *at))
    }

    /// Resolves when a timer was armed that is earlier than all others.
    pub async fn earlier(&self) {
        self.earlier.notified().await;
    }
}

impl Hub {
    /// A timer is due.
    pub(super) fn fire(self: &Arc<Self>, due: Due) {
        match due {
            Due::Session(id, timer) => {
                if let Some(cell) = self.cell(id) {
                    cell.feed(self, Event::Fired(timer));
                }
            }
            Due::Ttl(id) => self.expire(id),
            Due::Bulk(id, bulk) => self.bulks.drop_up_to(id, bulk),
            Due::Silence(claim) => self.claims.silence(self, claim),
            Due::ClaimLimit(claim) => self.claims.limit(self, claim),
            Due::ClaimSilence(claim, silent) => self.claims.peer_silence(self, claim, silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_out_when_due_and_in_order() {
        let timers = Timers::default();
        let due = |n| Due::Silence(ClaimId(n));
        timers.arm(Millis(20), due(2));
        timers.arm(Millis(10), due(1));
        timers.arm(Millis(20), due(3));
        assert_eq!(timers.take_due(Millis(15)), (vec![due(1)], Some(Millis(20))));
        assert_eq!(timers.take_due(Millis(20)), (vec![due(2), due(3)], None));
    }
}
