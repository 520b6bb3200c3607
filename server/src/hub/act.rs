//! Carrying out what the session machine decided. Everything here runs under the cell's lock and only
//! hands things on: to order lanes, queues, timers, or a task of its own.

use super::Hub;
use super::calls;
use super::cell::{Cell, Inner, Moving, Since};
use super::conn::{Conn, Order};
use super::fan::Fan;
use super::timers::Due;
use crate::app;
use crate::fault::{self, Step};
use crate::keys::{TokenBody, UserTag};
use crate::message::Message;
use crate::telemetry::Rejected;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::close::Close;
use tidegate_protocol::frame::{ServerFrame, Welcome, WireLimits};
use tidegate_protocol::id::{ConnectionId, HubId, ResumeToken};
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::position::{Generation, Offset};
use tidegate_protocol::session::{Action, Event, Outcome, Session, State, Timer};

/// Carries out actions in order; the machine may answer with more. `fan` is there for events that may
/// change the owner ([`Cell::feed`] sees to that).
pub fn carry_out(
    hub: &Arc<Hub>,
    cell: &Arc<Cell>,
    inner: &mut Inner,
    actions: Vec<Action<Message>>,
    mut fan: Option<&mut Fan>,
) {
    hub.world.stepped(cell.id);
    let mut queue = VecDeque::from(actions);
    while let Some(action) = queue.pop_front() {
        if let Some(event) = one(hub, cell, inner, action, fan.as_deref_mut()) {
            let mut more = Vec::new();
            inner.session.handle(event, &mut more);
            queue.extend(more);
        }
    }
    follow_up(hub, cell, inner);
}

/// One action; gives the event that it caused at once, if it did.
fn one(
    hub: &Arc<Hub>,
    cell: &Arc<Cell>,
    inner: &mut Inner,
    action: Action<Message>,
    fan: Option<&mut Fan>,
) -> Option<Event<Message>> {
    match action {
        Action::Say(to, message @ PeerMessage::Committed { .. }) if hub.store.state(cell.id).is_some() => {
            hub.spawn_moved_then_say(cell.id, to, message);
        }
        Action::Say(to, message) => {
            if matches!(message, PeerMessage::Snapshot { .. } | PeerMessage::Difference { .. })
                && let Some(moving) = &mut inner.moving
            {
                moving.sent_at = moving.sent_at.or(Some(hub.now()));
            }
            hub.say(to, message);
        }
        Action::Welcome { conn, serial, resumed, from, received } => {
            return welcome(hub, cell, inner, conn, serial, resumed, from, received);
        }
        Action::Retry { conn, after_ms, why } => hub.send_away(conn, after_ms, why),
        Action::Close { conn, close, why } => {
            fault::at(Step::BeforeClose);
            if close == Close::TokenReuse {
                hub.metrics.rejected.of(Rejected::TokenReuse).increment(1);
            }
            if let Some(conn) = hub.connection(conn) {
                conn.close(close, why);
            }
        }
        Action::LastMove { conn, serial, to, generation } => last_move(hub, inner, conn, serial, to, generation),
        Action::Reset { conn, why, record } => hub.spawn_reset(conn, cell.id, why, Some(record)),
        Action::Wake => {
            if let Some(conn) = &inner.conn {
                conn.ring();
            }
            app::wake(inner);
        }
        Action::Settle => return settle(hub, cell, inner, fan),
        Action::Bind => {
            if let Some(record) = inner.session.record_mut(false) {
                hub.index.share(record);
            }
            hub.index.add(cell.id, inner.session.record());
            app::bind(hub, cell, inner, true);
        }
        Action::Unbind => app::unbind(hub, cell, inner),
        Action::Write => hub.spawn_park(cell, inner),
        Action::TakeUp => hub.spawn_take_up(cell.id),
        Action::ApplyCalls => {
            if let Some(fan) = fan {
                fan.catch_up(hub, inner);
            }
            calls::apply_waiting(hub, cell, inner);
        }
        Action::ForwardCalls(to) => calls::forward_waiting(hub, cell.id, inner, to),
        Action::Arm(timer, after_ms) => arm(hub, cell, timer, after_ms),
        Action::Told(outcome) => told(hub, cell, inner, outcome),
    }
    None
}

/// Notes what stood at the freeze, and lets the app finish; without one nobody has to.
fn settle(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner, fan: Option<&mut Fan>) -> Option<Event<Message>> {
    fault::at(Step::Frozen);
    if let Some(record) = inner.session.record_mut(true) {
        let ahead = std::mem::take(&mut record.applied);
        record.applied = fan.map(|fan| fan.leaving_with(ahead)).unwrap_or_default();
    }
    let mut moving = Moving::begun(hub.now(), inner.session.counted().is_some());
    moving.to = inner.session.successor();
    moving.written = inner.session.position();
    inner.moving = Some(Box::new(moving));
    (!app::settle(hub, cell, inner)).then_some(Event::Settled)
}

/// Arms a timer of the machine. What was given away is kept for as long as its client may come back.
fn arm(hub: &Hub, cell: &Cell, timer: Timer, after_ms: u64) {
    let at_least = if matches!(timer, Timer::Kept(_)) { hub.config.session_ttl_ms } else { 0 };
    hub.timers.arm(hub.now().plus(after_ms.max(at_least)), Due::Session(cell.id, timer));
}

#[allow(clippy::too_many_arguments, reason = "the fields of one action, spelled out")]
fn welcome(
    hub: &Arc<Hub>,
    cell: &Arc<Cell>,
    inner: &mut Inner,
    conn: ConnectionId,
    serial: u32,
    resumed: bool,
    from: Offset,
    received: Offset,
) -> Option<Event<Message>> {
    if let Err(denied) = hub.admits(cell.id, inner, conn) {
        if let Some(handle) = hub.connection(conn) {
            hub.turn_away(&handle, denied);
        }
        return Some(Event::ConnectionLost { conn });
    }
    let generation = inner.session.generation();
    let record = inner.session.record()?;
    let frame = ServerFrame::Welcome(Welcome {
        session: cell.id,
        token: hub.token(&inner.session, serial, hub.id, generation),
        epoch: record.epoch,
        generation,
        resumed,
        from,
        received,
        heartbeat_ms: hub.config.limits.heartbeat_ms,
        hub: hub.id,
        protocol: record.profile.protocol.clone(),
        auth_expires_ms: hub.auth_expires_ms(inner),
        limits: WireLimits { message_bytes: hub.config.limits.message_bytes },
    });
    let now = hub.now();
    let handle = hub.connection(conn).filter(|handle| handle.order(Order::Welcome(cell.clone(), frame.encode())));
    match handle {
        Some(handle) => {
            fault::at(Step::WelcomeSaid);
            if resumed {
                let first = from.max(record.outbox.base());
                hub.metrics.resumes.increment(1);
                hub.metrics.replayed.increment(record.outbox.end().since(first));
            }
            attach(hub, inner, handle);
            super::fan::tell_missed(inner);
            if let Some(moving) = inner.moving.take()
                && let Some(predecessor) = moving.predecessor
            {
                came_back(hub, cell, inner, predecessor, now.since(moving.since));
            }
            hub.drain.connected(hub, cell.id, inner);
            None
        }
        // It went away while the hubs were talking.
        None => Some(Event::ConnectionLost { conn }),
    }
}

/// The client of a session that was taken over is here: its predecessor's report wants to know.
fn came_back(hub: &Arc<Hub>, cell: &Cell, inner: &Inner, predecessor: HubId, gap_ms: u64) {
    let Some(record) = inner.session.record() else { return };
    let resumed = PeerMessage::Resumed {
        session: cell.id,
        gap_ms,
        from: inner.session.position().unwrap_or_default(),
        base: record.outbox.base(),
        end: record.outbox.end(),
        received: record.received,
    };
    hub.say(predecessor, resumed);
}

fn attach(hub: &Hub, inner: &mut Inner, conn: Arc<Conn>) {
    hub.said.forget(conn.id);
    inner.connected_at = hub.now();
    inner.active_at = hub.now();
    inner.detached_at = Since::UNSET;
    inner.conn = Some(conn);
}

fn last_move(hub: &Hub, inner: &mut Inner, conn: ConnectionId, serial: u32, to: HubId, generation: Generation) {
    // Outside a drain the client roamed by its own will and needs no order.
    let Some(dialogue) = &mut inner.drain else { return };
    dialogue.seq += 1;
    let token = hub.token(&inner.session, serial, to, generation);
    let frame = ServerFrame::Move { drain: dialogue.drain, seq: dialogue.seq, token, url: hub.peers.public_url(to) };
    if let Some(conn) = hub.connection(conn) {
        conn.send(&frame);
        fault::at(Step::LastMoveSaid);
    }
}

fn told(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner, outcome: Outcome) {
    match outcome {
        Outcome::Committed => {
            fault::at(Step::Committed);
            hub.index.remove(cell.id, inner.session.record());
            let handed = inner.session.record().map(|record| (record.outbox.end(), record.received));
            if let Some(moving) = &mut inner.moving {
                moving.handed = handed;
                moving.committed_at = Some(hub.now());
                hub.metrics.handover_seconds.record(hub.now().since(moving.since) as f64 / 1000.0);
            }
        }
        Outcome::Arrived(from) => {
            fault::at(Step::GoneLive);
            let generation = inner.session.generation();
            tracing::debug!(session = %cell.id, %from, generation = generation.0, "session taken over");
            hub.bulks.drop_up_to(cell.id, generation);
            hub.came_back(cell.id);
            hub.elsewhere.forget(cell.id);
            hub.arrivals.note(cell.id, hub.now());
            if inner.session.counted().is_some() {
                came_back(hub, cell, inner, from, 0);
            } else {
                let mut moving = Moving::begun(hub.now(), false);
                moving.predecessor = Some(from);
                inner.moving = Some(Box::new(moving));
            }
        }
        Outcome::Left(why) => {
            tracing::debug!(session = %cell.id, ?why, "session left");
            hub.forget_later(cell.id);
        }
        Outcome::Live(to) => {
            tracing::debug!(session = %cell.id, %to, "session live at its successor");
            hub.forget_later(cell.id);
        }
        Outcome::SuccessorLost => {
            tracing::warn!(session = %cell.id, "the successor lost this session; its client will be reset and told")
        }
        Outcome::NeverConfirmed(to) => {
            tracing::warn!(session = %cell.id, %to, "the successor never said that this session is live there; its data is kept no longer");
            hub.forget_later(cell.id);
        }
        // The disk's refusal was told where it came in, summed up.
        Outcome::ParkFailed | Outcome::Began | Outcome::Thawed { .. } | Outcome::Parked | Outcome::Bounced => {}
    }
    hub.drain.told(hub, cell.id, inner, outcome);
}

/// Keeps what stands beside the machine true to it: the counted connection's handle, the time since
/// it is detached, and the registry's idea of whether the session is still here.
fn follow_up(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner) {
    let counted = inner.session.counted();
    if inner.conn.as_ref().map(|conn| conn.id) != counted {
        inner.conn = counted.and_then(|conn| hub.connection(conn));
    }
    let owned = matches!(inner.session.state(), State::Serving { .. } | State::Frozen { .. });
    if counted.is_some() {
        inner.detached_at = Since::UNSET;
    } else if owned && inner.detached_at == Since::UNSET {
        let now = hub.now();
        inner.detached_at = Since::at(now);
        hub.drain.disconnected(cell.id);
        hub.timers.arm(now.plus(hub.config.session_ttl_ms), Due::Ttl(cell.id));
    }
}

impl Hub {
    /// A sealed token for a session.
    pub fn token(&self, session: &Session<Message>, serial: u32, hub: HubId, generation: Generation) -> ResumeToken {
        let user = session.record().and_then(|record| record.profile.user.as_deref());
        self.mint.issue(&TokenBody {
            session: session.id(),
            serial,
            hub,
            generation,
            user: user.map(UserTag::of),
            expires_unix_ms: self.unix_ms() + crate::keys::TOKEN_LIFETIME_MS,
        })
    }

    /// Answers a hello with `retry`, and closes.
    pub fn retry(&self, conn: ConnectionId, after_ms: u64, why: &'static str) {
        if let Some(conn) = self.connection(conn) {
            conn.send(&ServerFrame::Retry { after_ms, why: why.into() });
            conn.close(Close::Later, why);
        }
    }
}

impl Hub {
    /// Answers `retry`; to a client that should have come to another hub, a random moment later. A balancer takes turns,
    /// and slots come at equal intervals: one that tried again in step with the slots of others would land here each time.
    fn send_away(self: &Arc<Self>, conn: ConnectionId, after_ms: u64, why: &'static str) {
        if why != "other_hub" {
            return self.retry(conn, after_ms, why);
        }
        let wait_ms = (self.random() % u128::from(after_ms.saturating_add(1))) as u64;
        let hub = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            hub.retry(conn, after_ms, why);
        });
    }

    /// A client is being welcomed, so long after its hello was read.
    pub fn admitted(&self, took_ms: u64) {
        self.metrics.admission_seconds.record(took_ms as f64 / 1_000.0);
        self.peers.welcomed(took_ms);
    }
}
