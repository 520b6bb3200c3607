//! What sessions without a connection hold for their clients is bounded in sum (`--limit-away-bytes`): anybody may
//! begin a session, have an app fill it, and go.

use super::Hub;
use super::cell::Cell;
use std::sync::Arc;
use tidegate_protocol::position::Millis;

/// What a session keeps in any case, in bytes: the newest.
const KEPT_BYTES: usize = 64 * 1024;

impl Hub {
    /// Lets go what those who went first hold, as far as the sum is above its limit. Their clients are told of a gap
    /// if they come back.
    ///
    /// `counted_bytes`: the sum as sessions count it, each for itself. What was sent to many is in memory once.
    pub(super) fn bound_away(&self, counted_bytes: u64) {
        let bytes_max = self.config.limits.away_bytes;
        if counted_bytes <= bytes_max {
            return;
        }
        let mut holders = self.absent();
        let mut bytes: u64 = holders.iter().map(|(_, bytes, _)| bytes).sum();
        holders.sort_unstable_by_key(|(since, ..)| *since);
        let (before, mut cut) = (bytes, 0u64);
        for (_, held, cell) in holders {
            if bytes <= bytes_max {
                break;
            }
            let mut inner = cell.lock();
            let Some(outbox) = inner.session.held_for_absent() else { continue };
            outbox.keep_newest(KEPT_BYTES);
            let kept: usize = outbox.iter().map(|message| message.share_bytes()).sum();
            bytes = bytes.saturating_sub(held.saturating_sub(kept as u64));
            cut += 1;
        }
        if cut > 0 {
            tracing::warn!(
                sessions = cut,
                bytes = before,
                limit_away_bytes = bytes_max,
                "sessions without a connection hold too much: the oldest of it is let go, and their clients are told of a gap"
            );
        }
    }

    /// Sessions without a connection that hold more than is kept in any case: since when nothing happened there, and
    /// how much memory is theirs.
    fn absent(&self) -> Vec<(Millis, u64, Arc<Cell>)> {
        let held = |cell: Arc<Cell>| {
            let mut inner = cell.lock();
            let outbox = inner.session.held_for_absent().filter(|outbox| outbox.bytes() > KEPT_BYTES)?;
            let bytes: usize = outbox.iter().map(|message| message.share_bytes()).sum();
            let since = inner.active_at;
            drop(inner);
            Some((since, bytes as u64, cell))
        };
        self.all_cells().into_iter().filter_map(held).collect()
    }
}
