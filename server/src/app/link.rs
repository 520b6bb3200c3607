//! The task of one session's link: one loop that waits for the socket, a dial, a post and the bell side by
//! side, and does what the [`Side`] in the cell asks for (`plan`). Cancelling is dropping.

use super::dial::{DialError, Dialled};
use super::events::{Answer, Event, Kind, Subject};
use super::plan::Turn;
use super::posting::Posting;
use super::side::{Bell, Side, Stage};
use super::socket::{AppSocket, Step};
use super::words::{self, Rest};
use crate::hub::cell::{Cell, Inner};
use crate::hub::{Hub, act, fan};
use crate::message::Message;
use crate::telemetry::Direction;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::replay::{Payload, ReplayLimits};
use tidegate_protocol::session::{self, Session};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Bytes of client messages that are written before they count as taken, beyond the first one.
pub(super) const BATCH_BYTES: usize = 16 * 1024;
/// Messages of one batch.
pub(super) const BATCH_MESSAGES: usize = 32;
/// A socket that lived so long, in milliseconds, is no sign of an app that falls over again and again.
const STABLE_MS: u64 = 5_000;
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

/// Messages that were put and are not known to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: usize,
    pub(super) bytes: u64,
    /// The offset of the last message that was ever put into this socket.
    pub(super) end: u64,
}

/// The task's own.
pub(super) struct Work {
    pub(super) hub: Arc<Hub>,
    pub(super) cell: Arc<Cell>,
    pub(super) bell: Arc<Bell>,
    pub(super) subject: Arc<Subject>,
    pub(super) socket: Option<AppSocket>,
    /// Whether our close was put.
    pub(super) closing: bool,
    opened_at: Instant,
    pub(super) batch: Batch,
    /// A message of the app that its client's buffer has no room for; until it has, nothing is read.
    pub(super) held: Option<Message>,
    pub(super) may_read: bool,
    pub(super) dial: Option<Doing<Result<Dialled, DialError>>>,
    pub(super) posting: Posting,
    pub(super) dials: Rest,
    pub(super) posts: Rest,
    /// The `resumed` that the app took, to be told again if it falls over before it is dialled.
    pub(super) told: Option<Event>,
}

/// Starts the task; the side must have left `Resting` for it.
pub(super) fn start(hub: &Arc<Hub>, cell: &Arc<Cell>, side: &Side, socket: Option<AppSocket>) {
    let work = Work {
        hub: hub.clone(),
        cell: cell.clone(),
        bell: side.bell.clone(),
        subject: side.subject.clone(),
        socket,
        closing: false,
        opened_at: Instant::now(),
        batch: Batch::default(),
        held: None,
        may_read: true,
        dial: None,
        posting: Posting::Idle,
        dials: Rest::default(),
        posts: Rest::default(),
        told: None,
    };
    tokio::spawn(work.run());
}

impl Work {
    async fn run(mut self) {
        loop {
            match self.plan() {
                Turn::Done => return,
                Turn::Leave => return self.leave().await,
                Turn::Again => {}
                Turn::Go { until, write } => {
                    if let Some(socket) = &mut self.socket {
                        write.iter().for_each(|message| socket.put(message));
                    }
                    // Not kept while the task sleeps.
                    drop(write);
                    let happened = self.wait(until).await;
                    self.on(happened);
                }
            }
        }
    }

    async fn wait(&mut self, until: Option<Instant>) -> Happened {
        let Self { socket, dial, posting, bell, may_read, .. } = self;
        let post = async {
            match posting {
                Posting::Idle => pending().await,
                Posting::Queued(n, permit) => Happened::Admitted(*n, permit.await),
                Posting::Out(n, answer) => Happened::Answered(*n, answer.await),
            }
        };
        let dialled = async {
            match dial {
                Some(dial) => dial.await,
                None => pending().await,
            }
        };
        let step = async {
            match socket {
                Some(socket) => socket.step(*may_read).await,
                None => pending().await,
            }
        };
        let late = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // In this order, so that one run of a simulation is like the next; nobody starves, for each turn
            // of the loop looks at everything anew.
            biased;
            posted = post => posted,
            dialled = dialled => Happened::Dialled(Box::new(dialled)),
            () = bell.rung.notified() => Happened::Look,
            step = step => Happened::Step(step),
            () = late => Happened::Look,
        }
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
                self.socket = Some(socket);
                self.closing = false;
                self.batch = Batch::default();
                self.opened_at = Instant::now();
                self.told = None;
            }
            Err(error) => {
                tracing::debug!(session = %id, %error, tries = self.dials.tries, "the app could not be dialled");
                self.dials.after_failure(&self.hub);
                // An app that is down forgets what it was told.
                if let (Some(event), false) = (self.told.take(), matches!(error, DialError::Refused(_))) {
                    side.events.repeat(event);
                }
            }
        }
    }

    fn on_step(&mut self, inner: &mut Inner, step: Step) {
        match step {
            Step::Read(message) => self.on_message(inner, message),
            Step::Written => self.on_written(inner),
            Step::Closed(close) => {
                // Our answer to its close still has to get out.
                if let Some(socket) = self.socket.take() {
                    tokio::spawn(socket.part(Vec::new(), None, self.hub.config.limits.close_ms));
                }
                let (code, reason) = close.unwrap_or((1005, String::new()));
                self.on_gone(inner, (!says_restart(code)).then_some((code, reason)));
            }
            Step::Lost => {
                self.socket = None;
                self.on_gone(inner, None);
            }
        }
    }

    /// The app's socket is gone; with a code: by the app's will.
    fn on_gone(&mut self, inner: &mut Inner, ended: Option<(u16, String)>) {
        self.batch = Batch::default();
        let Some((side, session)) = self.mine(inner) else { return };
        if side.stage != Stage::Open {
            return; // While it settles this is what was asked for.
        }
        if let Some((code, reason)) = ended {
            side.stage = Stage::Ending { code, reason };
            return;
        }
        if self.hub.config.app_events.is_some() {
            side.events.push(session, Kind::Resumed { why: "socket_lost" });
        }
        side.stage = Stage::Binding { resumed: true };
        if self.opened_at.elapsed() >= Duration::from_millis(STABLE_MS) {
            self.dials = Rest::default();
        }
        self.dials.after_failure(&self.hub);
        tracing::debug!(session = %self.subject.session, "the app's socket is gone; it is dialled again");
    }

    fn on_message(&mut self, inner: &mut Inner, message: Message) {
        let bytes = message.bytes().len() as u64;
        let Some((side, session)) = self.mine(inner) else { return };
        self.hub.metrics.messages.of(Direction::FromApp).increment(1);
        self.hub.metrics.bytes.of(Direction::FromApp).increment(bytes);
        let settling = matches!(side.stage, Stage::Settling { .. });
        self.held = number(&self.hub, session, message, settling);
        if let Some(conn) = &inner.conn {
            conn.ring();
        }
    }

    fn on_written(&mut self, inner: &mut Inner) {
        let Batch { messages, bytes, .. } = self.batch;
        if messages == 0 || self.mine(inner).is_none() {
            return;
        }
        (self.batch.messages, self.batch.bytes) = (0, 0);
        self.hub.metrics.messages.of(Direction::ToApp).increment(messages as u64);
        self.hub.metrics.bytes.of(Direction::ToApp).increment(bytes);
        let mut out = Vec::new();
        for _ in 0..messages {
            inner.session.handle(session::Event::Taken, &mut out);
        }
        // Each asks for the same wake.
        out.dedup();
        act::carry_out(&self.hub, &self.cell, inner, out, None);
    }

    /// The side, if it is still the one that this task was started for.
    pub(super) fn mine<'a>(&self, inner: &'a mut Inner) -> Option<(&'a mut Side, &'a mut Session<Message>)> {
        let side = inner.app.as_deref_mut().filter(|side| Arc::ptr_eq(&side.bell, &self.bell))?;
        Some((side, &mut inner.session))
    }

    async fn leave(mut self) {
        let Some(mut farewell) = self.bell.farewell.get().cloned() else { return };
        // What was put already is not said twice.
        let put = (self.batch.end.saturating_sub(farewell.rest_from) as usize).min(farewell.rest.len());
        farewell.rest.drain(..put);
        self.post_out(&mut farewell.events).await;
        words::last_words(self.hub, self.subject, farewell, self.socket).await;
    }
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

/// Codes with which an app says that it, and not the session, goes away.
fn says_restart(code: u16) -> bool {
    matches!(code, 1001 | 1006 | 1011..=1014)
}
