//! SIGTERM: push what peers take, park the rest, close what is left, and go: decided by [`Stopping`].

use crate::hub::Hub;
use crate::hub::cell::Cell;
use crate::hub::parking::StaysParked;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::close::{Close, reason_until};
use tidegate_protocol::control::{DrainRequest, Phase, Rest};
use tidegate_protocol::session::{Event, State};
use tidegate_protocol::stopping::{Seen, Step, Stopping, slot_ms};
use tokio::time::Instant;

/// How often copies ask their predecessors what became of them meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Pushes to peers, else parks, within the time that `stopping` has for it.
pub async fn leave<'a>(hub: &'a Arc<Hub>, stopping: &mut Stopping) -> StaysParked<'a> {
    let request = DrainRequest {
        notice_ms: Some(0),
        window_ms: Some(0),
        settle_ms: Some(stopping.handing_ms() / 10),
        deadline_ms: Some(stopping.handing_ms()),
        reason: Some("stopping".to_owned()),
        rest: Some(Rest::Now),
        ..DrainRequest::default()
    };
    hub.drain.stopping(hub);
    if let Err(error) = hub.drain.start(hub, &request, None) {
        tracing::error!(%error, "could not drain at the stop; parking");
        stopping.park_now(hub.now());
    }
    let mut asking = Asking::from_now();
    while stopping.is_handing() {
        if let Step::Wait(ms) = stopping.next(hub.now(), &look(hub).0) {
            asking.go_on(hub);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
    park_everything(hub, stopping).await
}

/// Parks every session that is still here, now, and waits a moment for the last words of handovers; whoever the disk
/// does not take in time is closed. Nothing is taken up again (for a peer that claims it, say) while what this gives
/// is kept: a process that ends would lose whom it told that he is safe.
pub async fn park_everything<'a>(hub: &'a Arc<Hub>, stopping: &mut Stopping) -> StaysParked<'a> {
    stopping.park_now(hub.now());
    hub.set_parked_for_good(true);
    // Who is being taken up at this moment is parked with the others.
    let patience = Duration::from_millis(stopping.parking_left_ms(hub.now()));
    let stays = hub.stop_taking_up(patience).await;
    let mut asking = Asking::from_now();
    loop {
        let (seen, owned) = look(hub);
        match stopping.next(hub.now(), &seen) {
            Step::Go => return stays,
            Step::Park => owned.iter().for_each(|cell| cell.feed(hub, Event::Park)),
            Step::Close => close_the_rest(hub, &owned),
            Step::Wait(ms) => {
                asking.go_on(hub);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        }
    }
}

/// The last word to everybody who still has a line: come back then. Who was told something before is not told again.
fn close_the_rest(hub: &Arc<Hub>, unparked: &[Arc<Cell>]) {
    for (place, conn) in hub.all_connections().into_iter().enumerate() {
        conn.close(Close::Restart, reason_until("restarting", slot_ms(place as u64)));
    }
    if !unparked.is_empty() {
        tracing::error!(
            sessions = unparked.len(),
            refused = hub.disk.refused(),
            why = hub.disk.last(),
            "these sessions could not be put on disk in time and end with this process; their clients were told to come back"
        );
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

/// What the machine wants to know, and the sessions that this hub owns in memory.
fn look(hub: &Hub) -> (Seen, Vec<Arc<Cell>>) {
    let drained =
        hub.drain.machine().as_ref().is_none_or(|machine| matches!(machine.phase(), Phase::Drained | Phase::Serving));
    let (mut owned, mut awaited) = (Vec::new(), false);
    for cell in hub.all_cells() {
        let (owns, may_end) = {
            let inner = cell.lock();
            let owns = matches!(inner.session.state(), State::Serving { .. } | State::Frozen { .. });
            (owns, inner.session.may_end())
        };
        if owns {
            owned.push(cell);
        } else {
            awaited |= !may_end;
        }
    }
    let seen = Seen {
        drained,
        owned: owned.len() as u64,
        awaited,
        beginning: hub.beginning() > 0,
        refused: hub.disk.refused(),
        lines: hub.connection_count() as u64,
    };
    (seen, owned)
}
