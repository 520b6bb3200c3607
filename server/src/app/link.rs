//! The task of one session's link: one loop that waits for the socket, a dial, a post and the bell side by
//! side, and does what the [`Side`] in the cell asks for (`plan`). Cancelling is dropping.

use super::dial::{DialError, Dialled};
use super::events::{Answer, Event, Kind, Subject};
use super::plan::Turn;
use super::posting::Posting;
use super::side::{Batch, Bell, Side, Stage};
use super::socket::{AppSocket, Step};
use super::words::{self, Rest};
use super::{REFUSED, relay, troubles};
use crate::hub::cell::{Cell, Inner};
use crate::hub::{Hub, conn, fan};
use crate::message::Message;
use crate::telemetry::{AppTrouble, Direction};
use crate::ws::ReadError;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tidegate_protocol::app::{Answer as Answered, GiveUp, Limits, Next, Redials};
use tidegate_protocol::close::{Close, reason_until};
use tidegate_protocol::replay::{Payload, ReplayLimits};
use tidegate_protocol::session::Session;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// Rounds, each with one read, after which others have their turn, however much the app has to say.
const ROUNDS_PER_TURN: usize = 8;
/// While the app settles, nobody acks: its last messages may take so many times the usual room.
const SETTLING_ROOM: usize = 2;

/// Under way; given up by dropping it.
pub(super) type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Happened {
    /// The bell, or a moment that was waited for.
    Look,
    Admitted(u64, Option<OwnedSemaphorePermit>),
    Answered(u64, Answer),
    Dialled(Box<Result<Dialled, DialError>>),
    Step(Step),
}

/// How far the hub is with closing the socket of an app that finishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Nothing was said yet.
    Not,
    /// `moving` has left, at this millisecond of the hub's clock, which wraps around: a task must stay small.
    Asked { at_ms: u32 },
    /// The close was put, in a quiet moment or not.
    Put { quiet: bool },
}

/// The task's own.
pub(super) struct Work {
    pub(super) hub: Arc<Hub>,
    pub(super) cell: Arc<Cell>,
    pub(super) bell: Arc<Bell>,
    pub(super) subject: Arc<Subject>,
    pub(super) socket: Option<AppSocket>,
    pub(super) closing: Closing,
    /// A message of the app that its client's buffer has no room for; until it has, nothing is read.
    pub(super) held: Option<Message>,
    pub(super) may_read: bool,
    pub(super) dial: Option<Doing<Result<Dialled, DialError>>>,
    pub(super) posting: Posting,
    pub(super) redials: Redials,
    pub(super) posts: Rest,
    /// The `resumed` that the app took, to be told again if it falls over before it is dialled.
    pub(super) told: Option<Box<Event>>,
    /// The one timer, only while something is waited for.
    alarm: Option<Pin<Box<Sleep>>>,
    leaving: Option<Doing<()>>,
}

/// Starts the task; the side must have left `Resting` for it.
pub(super) fn start(hub: &Arc<Hub>, cell: &Arc<Cell>, side: &Side, socket: Option<AppSocket>) {
    let mut redials = Redials::begin(hub.now());
    if socket.is_some() {
        redials.opened(hub.now());
    }
    let work = Work {
        hub: hub.clone(),
        cell: cell.clone(),
        bell: side.bell.clone(),
        subject: side.subject.clone(),
        socket,
        closing: Closing::Not,
        held: None,
        may_read: true,
        dial: None,
        posting: Posting::Idle,
        redials,
        posts: Rest::default(),
        told: None,
        alarm: None,
        leaving: None,
    };
    tokio::spawn(work);
}

impl Future for Work {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let work = self.get_mut();
        work.bell.listen(cx.waker());
        for _ in 0..ROUNDS_PER_TURN {
            if let Some(leaving) = &mut work.leaving {
                return leaving.as_mut().poll(cx);
            }
            match work.plan() {
                Turn::Done => return Poll::Ready(()),
                Turn::Leave => work.leaving = Some(work.leave()),
                Turn::Again => {}
                Turn::Go { until } => {
                    let happened = ready!(work.wait(cx, until));
                    work.on(happened);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Work {
    fn wait(&mut self, cx: &mut Context<'_>, until: Option<Instant>) -> Poll<Happened> {
        let posted = match &mut self.posting {
            Posting::Idle => Poll::Pending,
            Posting::Queued(n, permit) => permit.as_mut().poll(cx).map(|permit| Happened::Admitted(*n, permit)),
            Posting::Out(n, answer) => answer.as_mut().poll(cx).map(|answer| Happened::Answered(*n, answer)),
        };
        if posted.is_ready() {
            return posted;
        }
        if let Some(dial) = &mut self.dial
            && let Poll::Ready(dialled) = dial.as_mut().poll(cx)
        {
            return Poll::Ready(Happened::Dialled(Box::new(dialled)));
        }
        if let Poll::Ready(step) = self.poll_socket(cx) {
            return Poll::Ready(Happened::Step(step));
        }
        let Some(until) = until else {
            self.alarm = None;
            return Poll::Pending;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.deadline() != until {
            alarm.as_mut().reset(until);
        }
        alarm.as_mut().poll(cx).map(|()| Happened::Look)
    }

    /// What the app says is numbered right here, until there is no more room for it.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let Self { hub, cell, bell, socket, held, may_read, .. } = self;
        let Some(socket) = socket else { return Poll::Pending };
        let message_bytes = hub.config.limits.message_bytes as usize;
        socket.poll_step(cx, *may_read, message_bytes, &|| hub.now_s(), &mut |message| {
            let mut inner = cell.lock();
            let Some((side, session)) = mine(bell, &mut inner) else { return true };
            hub.metrics.messages.of(Direction::FromApp).increment(1);
            hub.metrics.bytes.of(Direction::FromApp).increment(message.bytes().len() as u64);
            let settling = matches!(side.stage, Stage::Settling { .. });
            *held = number(hub, session, message, settling);
            held.is_none()
        })
    }

    fn on(&mut self, happened: Happened) {
        let cell = self.cell.clone();
        match happened {
            Happened::Look => {}
            Happened::Admitted(n, permit) => self.on_admitted(&mut cell.lock(), n, permit),
            Happened::Answered(n, answer) => {
                self.posting = Posting::Idle;
                self.on_answer(&mut cell.lock(), n, answer);
            }
            Happened::Dialled(dialled) => {
                self.dial = None;
                self.on_dialled(&mut cell.lock(), *dialled);
            }
            Happened::Step(step) => self.on_step(&mut cell.lock(), step),
        }
    }

    fn on_dialled(&mut self, inner: &mut Inner, dialled: Result<Dialled, DialError>) {
        let id = self.subject.session;
        let Some((side, _)) = self.mine(inner) else { return };
        if !matches!(side.stage, Stage::Binding { .. }) {
            return;
        }
        match dialled {
            Ok(Dialled { socket, .. }) => {
                side.stage = Stage::Open;
                side.line = Some(socket.line());
                side.batch = Batch::default();
                self.socket = Some(socket);
                self.closing = Closing::Not;
                self.redials.opened(self.hub.now());
                self.told = None;
            }
            Err(error) => {
                tracing::debug!(session = %id, %error, failed = self.redials.failed_in_a_row(), "the app could not be dialled");
                // An app that is down forgets what it was told.
                if let (Some(event), false) = (self.told.take(), matches!(error, DialError::Refused(_))) {
                    side.events.repeat(*event);
                }
                self.on_failed(inner, error.answer(), &error);
            }
        }
    }

    /// A dial, or the `resumed` before it, failed.
    pub(super) fn on_failed(&mut self, inner: &mut Inner, answer: Answered, why: &dyn Display) {
        let hub = self.hub.clone();
        let chance = hub.random() as u64;
        let next = self.redials.failed(hub.now(), answer, &hub.config.app_finals, redial_limits(&hub), chance);
        if let Next::GiveUp(give_up) = next {
            self.give_up(inner, give_up, why);
        }
    }

    /// The app is dialled no more: its client is told so by a close, and not left on an open connection behind which
    /// nothing is.
    pub(super) fn give_up(&mut self, inner: &mut Inner, give_up: GiveUp, why: &dyn Display) {
        let hub = self.hub.clone();
        (self.dial, self.told) = (None, None);
        let Some((side, _)) = self.mine(inner) else { return };
        match give_up {
            GiveUp::Refused => {
                troubles::tell(&hub, AppTrouble::Refused, self.subject.session, why);
                side.stage = Stage::Ending { code: REFUSED, reason: format!("the app refused this session: {why}") };
            }
            GiveUp::Away { after_ms } => {
                troubles::tell(&hub, AppTrouble::Away, self.subject.session, why);
                side.events.drop_steps();
                side.stage = Stage::Away;
                if let Some(conn) = &inner.conn {
                    conn.close(Close::Later, reason_until(&format!("app unavailable: {why}"), after_ms));
                }
            }
        }
    }

    fn on_step(&mut self, inner: &mut Inner, step: Step) {
        match step {
            Step::Read => {
                conn::deliver(&self.hub, inner);
                if self.mine(inner).is_some_and(|(side, _)| matches!(side.stage, Stage::Settling { .. })) {
                    inner.active_at = self.hub.now();
                }
            }
            Step::Written => self.on_written(inner),
            Step::Closed(close) => {
                // The read that brought the close may have brought messages before it.
                conn::deliver(&self.hub, inner);
                // Our answer to its close still has to get out.
                if let Some(socket) = self.socket.take() {
                    let limits = &self.hub.config.limits;
                    tokio::spawn(socket.part(Vec::new(), None, limits.close_ms, limits.message_bytes as usize));
                }
                let (code, reason) = close.unwrap_or((1005, String::new()));
                self.on_gone(inner, (!says_restart(code)).then_some((code, reason)));
            }
            Step::Lost => {
                conn::deliver(&self.hub, inner);
                self.socket = None;
                self.on_gone(inner, None);
            }
            Step::Broken(error) => {
                conn::deliver(&self.hub, inner);
                self.on_broken(inner, &error);
            }
        }
    }

    /// What the app said cannot be passed on, and nothing after it can be read: the session ends, and its client is
    /// told. A new socket would be another conversation, in which that message never was.
    fn on_broken(&mut self, inner: &mut Inner, error: &ReadError) {
        let (trouble, code) = match error {
            ReadError::TooLong { .. } => (AppTrouble::TooLarge, 1009),
            ReadError::Utf8 => (AppTrouble::Utf8, 1007),
            ReadError::Protocol(_) => (AppTrouble::Protocol, 1002),
        };
        troubles::tell(&self.hub, trouble, self.subject.session, error);
        if let Some(socket) = self.socket.take() {
            tokio::spawn(socket.refuse(code, error.to_string(), self.hub.config.limits.close_ms));
        }
        let (code, reason) = (Close::Restart.code(), format!("app error: {error}"));
        let Some((side, _)) = self.mine(inner) else { return };
        (side.line, side.batch) = (None, Batch::default());
        let settling = matches!(side.stage, Stage::Settling { .. });
        side.stage = Stage::Ending { code, reason: reason.clone() };
        if settling {
            // Frozen: nothing more can be given to its client here, and at another hub nobody would know.
            self.end(inner, code, &reason);
        }
    }

    /// The app's socket is gone; with a code: by the app's will.
    fn on_gone(&mut self, inner: &mut Inner, ended: Option<(u16, String)>) {
        let Some((side, session)) = self.mine(inner) else { return };
        (side.line, side.batch) = (None, Batch::default());
        if side.stage != Stage::Open {
            return; // While it settles this is what was asked for.
        }
        if let Some((code, reason)) = ended {
            side.stage = Stage::Ending { code, reason };
            return;
        }
        let hub = self.hub.clone();
        let next = self.redials.ended(hub.now(), redial_limits(&hub), hub.random() as u64);
        if let Next::GiveUp(give_up) = next {
            return self.give_up(inner, give_up, &"its sockets end as soon as they are open");
        }
        if hub.config.app_events.is_some() {
            side.events.push(session, Kind::Resumed { why: "socket_lost" });
        }
        side.stage = Stage::Binding { resumed: true, alone: false };
        tracing::debug!(session = %self.subject.session, "the app's socket is gone; it is dialled again");
    }

    fn on_written(&mut self, inner: &mut Inner) {
        inner.active_at = self.hub.now();
        let Some((side, session)) = self.mine(inner) else { return };
        if relay::taken(&self.hub, side, session)
            && let Some(conn) = &inner.conn
        {
            // There is something to ack, and room to read on.
            conn.ring();
        }
    }

    /// The side, if it is still the one that this task was started for.
    pub(super) fn mine<'a>(&self, inner: &'a mut Inner) -> Option<(&'a mut Side, &'a mut Session<Message>)> {
        mine(&self.bell, inner)
    }

    /// Its last words; nothing else is done from now on.
    fn leave(&mut self) -> Doing<()> {
        let farewell = self.bell.farewell.get().cloned();
        let posting = std::mem::replace(&mut self.posting, Posting::Idle);
        let (hub, subject, socket) = (self.hub.clone(), self.subject.clone(), self.socket.take());
        (self.dial, self.alarm) = (None, None);
        Box::pin(async move {
            let Some(mut farewell) = farewell else { return };
            posting.out(&mut farewell.events).await;
            words::last_words(hub, subject, *farewell, socket).await;
        })
    }
}

fn mine<'a>(bell: &Arc<Bell>, inner: &'a mut Inner) -> Option<(&'a mut Side, &'a mut Session<Message>)> {
    let side = inner.app.as_deref_mut().filter(|side| Arc::ptr_eq(&side.bell, bell))?;
    Some((side, &mut inner.session))
}

/// Numbers a message of the app's towards the client, or gives it back if there is no room.
pub(super) fn number(hub: &Hub, session: &mut Session<Message>, message: Message, settling: bool) -> Option<Message> {
    let mut limits = fan::limits(hub);
    if settling {
        limits = ReplayLimits {
            messages_max: limits.messages_max * SETTLING_ROOM,
            bytes_max: limits.bytes_max * SETTLING_ROOM,
        };
    } else if session.record().is_some_and(|record| !record.outbox.has_room(message.size_bytes(), &limits)) {
        return Some(message);
    }
    if session.number(message, true, &limits).is_none() {
        tracing::debug!(session = %session.id(), "a message of the app came when the session was not here any more");
    }
    None
}

/// How long an app is dialled again.
pub(super) fn redial_limits(hub: &Hub) -> Limits {
    Limits { tries_max: hub.config.limits.app_redials, within_ms: hub.config.limits.app_redial_ms }
}

/// Codes with which an app says that it, and not the session, goes away.
fn says_restart(code: u16) -> bool {
    matches!(code, 1001 | 1006 | 1011..=1014)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_only_relays_is_one_small_task() {
        for (what, bytes, bytes_max) in
            [("task", size_of::<Work>(), 256), ("side", size_of::<Side>(), 128), ("subject", size_of::<Subject>(), 80)]
        {
            assert!(bytes <= bytes_max, "a link's {what} has {bytes} bytes; at most {bytes_max}");
        }
    }
}
