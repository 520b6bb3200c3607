//! Carrying out the drain machine's orders on sessions.

use super::{Driver, dialogue};
use crate::hub::Hub;
use crate::hub::cell::Inner;
use std::sync::Arc;
use tidegate_protocol::close::{Close, reason_until};
use tidegate_protocol::drain::{Action, Event, Handed, Resume, Welcomed};
use tidegate_protocol::id::{DrainId, SessionId};
use tidegate_protocol::session::{Event as SessionEvent, State};

/// One order. What it causes comes back through the cell, as an event.
pub(super) fn out(hub: &Arc<Hub>, drain: DrainId, action: Action) {
    match action {
        Action::Notify { id, deadline_in_ms, slot_in_ms } => {
            with(hub, id, |inner| dialogue::notice(hub, drain, inner, deadline_in_ms, slot_in_ms));
        }
        Action::Grant { id, slot_in_ms } => {
            let deadline_in_ms = deadline_in_ms(hub);
            with(hub, id, |inner| dialogue::grant(hub, drain, inner, deadline_in_ms, slot_in_ms));
        }
        Action::Move { id, to } => with(hub, id, |inner| dialogue::order_move(hub, drain, inner, to)),
        Action::Recall { id } => with(hub, id, |inner| dialogue::recall(hub, drain, inner)),
        Action::Push { id, to } => {
            // Of a hub that is not heard nobody knows what it reads: the oldest, then.
            let ours = hub.world.snapshot_versions();
            let version = hub.peers.snapshot_version(to, ours).unwrap_or(ours[0]);
            feed(hub, id, SessionEvent::Push { to, version });
        }
        Action::Park { id, .. } => {
            hub.set_parked_for_good(true);
            feed(hub, id, SessionEvent::Park);
        }
        Action::Force { id, slot_in_ms } => force(hub, id, slot_in_ms),
        Action::ServeAgain => {
            let hub = hub.clone();
            tokio::spawn(async move { hub.take_up_all().await });
        }
        Action::Finish(report) => hub.drain.keep_report(hub, *report),
    }
}

fn deadline_in_ms(hub: &Hub) -> u64 {
    let machine = hub.drain.machine();
    machine.as_ref().and_then(|machine| machine.status(hub.now()).deadline_in_ms).unwrap_or(0)
}

fn with(hub: &Hub, id: SessionId, act: impl FnOnce(&mut Inner)) {
    if let Some(cell) = hub.cell(id) {
        act(&mut cell.lock());
    }
}

fn feed(hub: &Arc<Hub>, id: SessionId, event: SessionEvent<crate::message::Message>) {
    match hub.cell(id) {
        Some(cell) => cell.feed(hub, event),
        // It ended while the order was on its way, and said so before it was forgotten.
        None => hub.drain.tell(Event::Left { id }),
    }
}

/// The slot spreads the clients' return: they are all closed at the deadline.
fn force(hub: &Arc<Hub>, id: SessionId, slot_in_ms: u64) {
    with(hub, id, |inner| {
        if let Some(conn) = &inner.conn {
            conn.close(Close::Restart, reason_until("restarting", slot_in_ms));
        }
    });
    hub.drain.tell(Event::Forced { id });
}

/// Once for each handover: what the report says of its app.
pub(super) fn app_finished(driver: &Driver, id: SessionId, inner: &mut Inner) {
    if let Some(how) = inner.moving.as_mut().and_then(|moving| moving.app.take()) {
        driver.tell(Event::AppFinished { id, how });
    }
}

/// Compares what the successor served with what was handed to it. None: the session was not given away here.
pub(super) fn reconcile(hub: &Hub, inner: &mut Inner, welcomed: &Welcomed) -> Option<Resume> {
    if !matches!(inner.session.state(), State::Given { .. } | State::Moved { .. }) {
        return None;
    }
    let moving = inner.moving.as_mut()?;
    let (end, received) = moving.handed?;
    let frozen_ms = moving.committed_at.unwrap_or(hub.now()).since(moving.since);
    let frozen_ms = moving.connected.then_some(frozen_ms);
    let resume = Resume::reconciled(&Handed { end, received, written: moving.written, frozen_ms }, welcomed);
    moving.resume = Some(resume);
    if let Some(gap_ms) = resume.gap_ms {
        hub.metrics.gap_seconds.record(gap_ms as f64 / 1000.0);
    }
    Some(resume)
}
