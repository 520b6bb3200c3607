//! SIGTERM: push what peers take, park the rest, and go.

use crate::hub::Hub;
use crate::hub::cell::Cell;
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
/// How often copies ask their predecessors what became of them meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long the last words of handovers are waited for after that: a freeze's limit, and `committed` repeated.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);
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
    hub.drain.stopping(hub);
    match hub.drain.start(hub, &request, None) {
        Ok(_) => {
            let mut asking = Asking::from_now();
            while Instant::now() < until && !is_over(hub) {
                asking.go_on(hub);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Err(error) => tracing::error!(%error, "could not drain at the stop; parking"),
    }
    park_everything(hub).await
}

/// Everybody is gone, those that were given away are confirmed, and nobody is on the way here.
fn is_over(hub: &Hub) -> bool {
    let over =
        hub.drain.machine().as_ref().is_none_or(|machine| matches!(machine.phase(), Phase::Drained | Phase::Serving));
    over && hub.all_cells().iter().all(|cell| cell.lock().session.may_end())
}

/// Parks every session that is still here, now, and waits a moment for the last words of handovers. Nothing is
/// taken up again (for a peer that claims it, say) while what this gives is kept: a process that ends would lose
/// whom it told that he is safe.
pub async fn park_everything(hub: &Arc<Hub>) -> StaysParked<'_> {
    hub.set_parked_for_good(true);
    // Who is being taken up at this moment is parked with the others.
    let stays = hub.stop_taking_up().await;
    let (began, mut asking) = (Instant::now(), Asking::from_now());
    let mut looks = 0;
    loop {
        let (owned, waiting) = still_here(hub);
        // What is just beginning waits for its app, which has its own limit; then it is parked, too.
        let waits = (waiting && began.elapsed() < LAST_WORDS_LIMIT) || hub.beginning() > 0;
        looks = if owned.is_empty() && !waits { looks + 1 } else { 0 };
        // A snapshot that was taken in just before nothing was taken in any more is seen by the second look.
        if looks == 2 || began.elapsed() > PARK_LIMIT {
            return stays;
        }
        for cell in owned {
            cell.feed(hub, Event::Park);
        }
        asking.go_on(hub);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Copies that hear nothing ask again, now and then: else a lost `aborted` would hold up the end.
struct Asking {
    next_at: Instant,
}

impl Asking {
    fn from_now() -> Self {
        Self { next_at: Instant::now() + ASK_EVERY }
    }

    fn go_on(&mut self, hub: &Arc<Hub>) {
        if Instant::now() < self.next_at {
            return;
        }
        *self = Self::from_now();
        for cell in hub.all_cells() {
            let is_copy = matches!(cell.lock().session.state(), State::Copy { .. });
            if is_copy {
                cell.feed(hub, Event::AskAgain);
            }
        }
    }
}

/// The sessions that this hub owns in memory, and whether others wait for a word of a living hub: what was given
/// away for `live`, what comes here for `committed`.
fn still_here(hub: &Hub) -> (Vec<Arc<Cell>>, bool) {
    let (mut owned, mut waiting) = (Vec::new(), false);
    for cell in hub.all_cells() {
        let (owns, may_end) = {
            let inner = cell.lock();
            let owns = matches!(inner.session.state(), State::Serving { .. } | State::Frozen { .. });
            (owns, inner.session.may_end())
        };
        if owns {
            owned.push(cell);
        } else {
            waiting |= !may_end;
        }
    }
    (owned, waiting)
}
