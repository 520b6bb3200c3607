//! SIGTERM: push what peers take, park the rest, and go.

use crate::hub::Hub;
use crate::hub::parking::StaysParked;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::control::{DrainRequest, Phase, Rest};
use tidegate_protocol::session::{Event, State};
use tokio::time::Instant;

/// How often the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time kept, at the end of `--stop-deadline`, for the disk.
const PARK_RESERVE_MS: u64 = 2_000;
/// How long parking everything may take.
const PARK_LIMIT: Duration = Duration::from_secs(20);

/// Pushes to peers, else parks, within `--stop-deadline`.
pub async fn leave(hub: &Arc<Hub>) -> StaysParked<'_> {
    let deadline_ms = hub.config.stop_deadline_ms;
    let drain_ms = deadline_ms.saturating_sub(PARK_RESERVE_MS).max(deadline_ms / 2).max(1);
    let request = DrainRequest {
        notice_ms: Some(0),
        window_ms: Some(0),
        settle_ms: Some(drain_ms / 10),
        deadline_ms: Some(drain_ms),
        reason: Some("stopping".to_owned()),
        rest: Some(Rest::Now),
        ..DrainRequest::default()
    };
    let until = Instant::now() + Duration::from_millis(drain_ms);
    match hub.drain.start(hub, &request, None) {
        Ok(_) => {
            while Instant::now() < until && !is_over(hub) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Err(error) => tracing::error!(%error, "could not drain at the stop; parking"),
    }
    park_everything(hub).await
}

/// Everybody is gone, and those that were given away are confirmed.
fn is_over(hub: &Hub) -> bool {
    let over =
        hub.drain.machine().as_ref().is_none_or(|machine| matches!(machine.phase(), Phase::Drained | Phase::Serving));
    over && hub.all_cells().iter().all(|cell| {
        let inner = cell.lock();
        !matches!(
            inner.session.state(),
            State::Serving { .. } | State::Frozen { .. } | State::Given { successor_gone: false, .. }
        )
    })
}

/// Parks every session that is still here, now. Nothing is taken up again (for a peer that claims it, say)
/// while what this gives is kept: a process that ends would lose whom it told that he is safe.
pub async fn park_everything(hub: &Arc<Hub>) -> StaysParked<'_> {
    hub.set_parked_for_good(true);
    // Who is being taken up at this moment is parked with the others.
    let stays = hub.stop_taking_up().await;
    let until = Instant::now() + PARK_LIMIT;
    loop {
        let cells = hub.all_cells();
        let left: Vec<_> = cells
            .iter()
            .filter(|cell| matches!(cell.lock().session.state(), State::Serving { .. } | State::Frozen { .. }))
            .collect();
        if left.is_empty() || Instant::now() > until {
            return stays;
        }
        for cell in left {
            cell.feed(hub, Event::Park);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
