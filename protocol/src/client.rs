//! The client's side of the wire as a pure machine: the rules that the browser SDK follows too.
//! The load tool runs it against real hubs, the model check against the handover machines.

mod link;
#[cfg(test)]
mod tests;
mod welcome;
mod words;

pub use words::{Action, Backoff, Conn, Event, Report, Settings};

use crate::close::{self, Close};
use crate::frame::{ClientFrame, Hello, NUMBER_MAX, Old, ServerFrame};
use crate::id::{DrainId, HubId, ResumeToken, SessionId};
use crate::position::{Epoch, Millis, Offset};
use crate::replay::{Payload, Replay};
use std::borrow::Cow;

/// How the client is connected. Make before break: `Up` is left only when a `welcome` arrived on
/// the new connection (the same step closes the old one), or when the old one is gone.
///
/// ```text
///           Timer              welcome             move
///  ┌─────┐ ──────► ┌─────────┐ ──────► ┌────┐ ──────────► ┌────────┐
///  │Down │         │ Opening │         │ Up │ ◄────────── │ Moving │ ◄─┐
///  └─────┘ ◄────── └─────────┘         └────┘   welcome   └────────┘   │ Timer,
///   ▲  ▲  retry, close,  ▲               ▲    or refused    │  │ retry,│ move
///   │  │  no answer      │        recall │                  │  │ close,│
///   │  │                 │               │   ┌──────────┐   │  │ no    │
///   │  │                 │               └── │ Sent off │ ◄─┼──┘ answer│
///   │  └── old one gone ─┼────────────────── └──────────┘ ──┼──────────┘
///   │                    └─────── old one gone ─────────────┘
///   └── old one gone (from Up)        any ── bye, final code, End ──► Ended
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Link {
    /// No connection; the next is dialled at `until`, over the known `url` or from `home`.
    Down { until: Millis, home: bool },
    /// No working connection, one under way.
    Opening { new: Attempt },
    /// At work.
    Up { live: Live },
    /// At work, told to move and sent away; the next try is at `until`.
    SentOff { live: Live, until: Millis, home: bool },
    /// At work on `live` until the answer arrives on `new`.
    Moving { live: Live, new: Attempt },
    /// For ever.
    Ended { code: u16 },
}

/// A connection that works.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Live {
    conn: Conn,
    position: Offset,
    since: Millis,
    heard_at: Millis,
    pings: u8,
    /// How many hellos this client had said when it was welcomed: any later one may displace this connection.
    hellos: u32,
}

/// A connection under way, given up at `until`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    conn: Conn,
    way: Way,
    until: Millis,
    stage: Stage,
}

/// Where an attempt went, for the next one goes by turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// To the client's own URL.
    Home,
    /// To the place that the thread names.
    Named,
    /// Wherever it went, a newer `move` has named another place since, which is asked next.
    Overtaken,
}

impl Way {
    /// Whether the client's own URL is asked after a close, or no answer.
    fn home_next(self) -> bool {
        self == Self::Named
    }

    /// Whether it is asked after a `retry`, which comes from a hub that is at work.
    fn home_again(self) -> bool {
        self == Self::Home
    }
}

/// How far an attempt is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Dialling,
    /// Hello is said, and this of the old connection in it.
    Greeted(Old),
    Reset {
        why: Cow<'static, str>,
        replaces: SessionId,
    },
}

/// What outlives connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Thread {
    session: SessionId,
    token: ResumeToken,
    epoch: Epoch,
    hub: HubId,
    url: Option<String>,
    /// How many `retry` in a row the place that is asked now has answered; below three.
    retries: u8,
    heartbeat_ms: u64,
    received: Offset,
    acked: Offset,
    ack_due: Option<Millis>,
    drain: Drain,
}

/// What is known of the hub's drain; a frame whose `seq` is not above `seq` is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Drain {
    None,
    Noticed { id: DrainId, seq: u32 },
    Recalled { id: DrainId, seq: u32 },
}

/// One step's surroundings.
struct Turn<'a, M> {
    settings: &'a Settings,
    now: Millis,
    chance: u64,
    actions: Vec<Action<M>>,
}

impl<M> Turn<'_, M> {
    fn then(&mut self, action: Action<M>) {
        self.actions.push(action);
    }
}

enum Role {
    Live,
    New,
    Dropped,
}

/// One client and its session. A new one dials as soon as its first `Timer` comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client<M> {
    link: Link,
    thread: Option<Thread>,
    outbox: Replay<M>,
    hellos: u32,
    failures: u8,
    conns: u32,
}

impl<M: Payload> Default for Client<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Payload> Client<M> {
    /// A client without a session, due to dial at once.
    pub fn new() -> Self {
        let link = Link::Down { until: Millis(0), home: true };
        Self { link, thread: None, outbox: Replay::starting_at(Offset(0)), hellos: 0, failures: 0, conns: 0 }
    }

    /// Takes one event at a moment and says what to do. `chance` is any evenly spread number; it
    /// only jitters the waits between tries.
    pub fn step(&mut self, settings: &Settings, now: Millis, chance: u64, event: Event<M>) -> Vec<Action<M>> {
        let mut turn = Turn { settings, now, chance, actions: Vec::new() };
        match event {
            Event::Opened(conn) => self.opened(conn, &mut turn),
            Event::Frame(conn, frame) => self.frame(conn, frame, &mut turn),
            Event::App(conn, message) => self.app(conn, message, &mut turn),
            Event::Heard(conn) => self.heard(conn, now),
            Event::Closed(conn, code) => self.closed(conn, code, &mut turn),
            Event::ClosedUntil { conn, code, after_ms } => self.closed_until(conn, code, after_ms, &mut turn),
            Event::Send(message) => self.send(message, &mut turn),
            Event::Ready => self.answer_notice(&mut turn, |drain| ClientFrame::Ready { drain }),
            Event::Busy { ms, why } => {
                // What the hub would refuse ends the session, whatever an application asks for.
                let (ms, why) = (ms.min(NUMBER_MAX), why.map(|why| close::reason(&why).to_owned()));
                self.answer_notice(&mut turn, |drain| ClientFrame::Busy { drain, ms, why });
            }
            Event::End { code, reason } => {
                let reason = reason.map(|reason| close::reason(&reason).to_owned());
                self.end_by_app(code, reason, &mut turn);
            }
            Event::Timer => self.timer(&mut turn),
        }
        turn.actions
    }

    /// When [`Event::Timer`] is due; nothing if only the outside can change anything.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let link = match &self.link {
            Link::Down { until, .. } => Some(*until),
            Link::Opening { new } | Link::Moving { new, .. } => Some(new.until),
            Link::SentOff { until, .. } => Some(*until),
            Link::Up { .. } | Link::Ended { .. } => None,
        };
        let live = self.live().and_then(|live| self.heartbeat_at(live));
        let ack = self.live().and(self.thread.as_ref()).and_then(|thread| thread.ack_due);
        [link, live, ack].into_iter().flatten().filter(|at| at.0 < u64::MAX).min()
    }

    /// The connection over which messages travel now.
    pub fn connection(&self) -> Option<Conn> {
        self.live().map(|live| live.conn)
    }

    /// The session, once there is one.
    pub fn session(&self) -> Option<SessionId> {
        self.thread.as_ref().map(|thread| thread.session)
    }

    /// The hub that welcomed this client last.
    pub fn hub(&self) -> Option<HubId> {
        self.thread.as_ref().map(|thread| thread.hub)
    }

    /// How many messages of this epoch were delivered.
    pub fn received(&self) -> Offset {
        self.thread.as_ref().map_or(Offset(0), |thread| thread.received)
    }

    /// What the hub has not acked yet.
    pub fn unacked(&self) -> &Replay<M> {
        &self.outbox
    }

    /// The code with which it ended, if it did.
    pub fn ended(&self) -> Option<u16> {
        match self.link {
            Link::Ended { code } => Some(code),
            Link::Down { .. } | Link::Opening { .. } | Link::Up { .. } | Link::SentOff { .. } | Link::Moving { .. } => {
                None
            }
        }
    }

    fn live(&self) -> Option<&Live> {
        match &self.link {
            Link::Up { live } | Link::SentOff { live, .. } | Link::Moving { live, .. } => Some(live),
            Link::Down { .. } | Link::Opening { .. } | Link::Ended { .. } => None,
        }
    }

    fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.link {
            Link::Up { live } | Link::SentOff { live, .. } | Link::Moving { live, .. } => Some(live),
            Link::Down { .. } | Link::Opening { .. } | Link::Ended { .. } => None,
        }
    }

    fn new_attempt(&mut self) -> Option<&mut Attempt> {
        match &mut self.link {
            Link::Opening { new } | Link::Moving { new, .. } => Some(new),
            Link::Down { .. } | Link::Up { .. } | Link::SentOff { .. } | Link::Ended { .. } => None,
        }
    }

    fn role(&mut self, conn: Conn) -> Role {
        if self.connection() == Some(conn) {
            Role::Live
        } else if self.new_attempt().is_some_and(|new| new.conn == conn) {
            Role::New
        } else {
            Role::Dropped
        }
    }

    /// Takes the link out, to put its successor in within the same function.
    fn take(&mut self) -> Link {
        std::mem::replace(&mut self.link, Link::Ended { code: Close::Normal.code() })
    }

    fn heartbeat_at(&self, live: &Live) -> Option<Millis> {
        let heartbeat_ms = self.thread.as_ref().map_or(0, |thread| thread.heartbeat_ms);
        (heartbeat_ms > 0).then(|| live.heard_at.plus(heartbeat_ms.saturating_mul(u64::from(live.pings) + 1)))
    }

    fn heard(&mut self, conn: Conn, now: Millis) {
        if let Some(live) = self.live_mut()
            && live.conn == conn
        {
            (live.heard_at, live.pings) = (now, 0);
        }
    }

    fn opened(&mut self, conn: Conn, turn: &mut Turn<'_, M>) {
        let old = if self.live().is_some() { Old::Open } else { Old::Lost };
        let Some(new) = self.new_attempt().filter(|new| new.conn == conn && new.stage == Stage::Dialling) else {
            return;
        };
        new.stage = Stage::Greeted(old);
        self.hellos += 1;
        let thread = self.thread.as_ref();
        turn.then(Action::Send(
            conn,
            ClientFrame::Hello(Hello {
                token: thread.map(|thread| thread.token.clone()),
                attempt: self.hellos,
                old,
                received: self.received(),
                epoch: thread.map(|thread| thread.epoch),
                protocols: turn.settings.protocols.clone(),
                auth: turn.settings.auth.clone(),
                language: turn.settings.language.clone(),
            }),
        ));
    }

    fn frame(&mut self, conn: Conn, frame: ServerFrame, turn: &mut Turn<'_, M>) {
        self.heard(conn, turn.now);
        match self.role(conn) {
            Role::Live => self.live_frame(conn, frame, turn),
            Role::New => self.answer(conn, frame, turn),
            Role::Dropped => {}
        }
    }

    fn live_frame(&mut self, conn: Conn, frame: ServerFrame, turn: &mut Turn<'_, M>) {
        match frame {
            ServerFrame::Ack { received } => {
                if !self.outbox.ack(received) {
                    self.fault(conn, "ack beyond what was sent", turn);
                }
            }
            ServerFrame::Ping {} => turn.then(Action::Send(conn, ClientFrame::Pong {})),
            ServerFrame::Pong {} => {}
            ServerFrame::Gap { from, to, why } => self.gap(conn, from, to, why, turn),
            ServerFrame::Notice(notice) => {
                if self.is_news(notice.drain, notice.seq) {
                    turn.then(Action::Report(Report::Notice(notice)));
                }
            }
            ServerFrame::Move { drain, seq, token, url } => {
                if self.is_news(drain, seq) {
                    self.order(token, url, turn);
                }
            }
            ServerFrame::Recall { drain, seq } => {
                if self.is_news(drain, seq) {
                    self.recall(drain, seq, turn);
                }
            }
            ServerFrame::Bye { code, reason } => self.end(code, reason.into(), turn),
            ServerFrame::Welcome(_) => self.fault(conn, "a second welcome", turn),
            ServerFrame::Retry { .. } => self.fault(conn, "retry after welcome", turn),
            ServerFrame::Reset { .. } => self.fault(conn, "reset after welcome", turn),
        }
    }

    fn app(&mut self, conn: Conn, message: M, turn: &mut Turn<'_, M>) {
        self.heard(conn, turn.now);
        match self.role(conn) {
            Role::Live => {}
            Role::New => return self.fault(conn, "an app message before welcome", turn),
            Role::Dropped => return,
        }
        let (Some(live), Some(thread)) = (
            match &mut self.link {
                Link::Up { live } | Link::SentOff { live, .. } | Link::Moving { live, .. } => Some(live),
                Link::Down { .. } | Link::Opening { .. } | Link::Ended { .. } => None,
            },
            self.thread.as_mut(),
        ) else {
            return;
        };
        live.position = live.position.next();
        if live.position <= thread.received {
            return; // it came on the old connection already
        }
        thread.received = live.position;
        turn.then(Action::Deliver(message));
        if thread.received.since(thread.acked) >= turn.settings.ack_messages {
            thread.send_ack(conn, turn);
        } else if thread.ack_due.is_none() {
            thread.ack_due = Some(turn.now.plus(turn.settings.ack_ms));
        }
    }

    fn gap(&mut self, conn: Conn, from: Offset, to: Offset, why: Cow<'static, str>, turn: &mut Turn<'_, M>) {
        let received = self.received();
        let Some(live) = self.live_mut() else { return };
        if live.position != from || to < from {
            return self.fault(conn, "a gap that does not begin at the position", turn);
        }
        live.position = to;
        if to > received
            && let Some(thread) = &mut self.thread
        {
            thread.received = to;
            thread.ack_due.get_or_insert(turn.now.plus(turn.settings.ack_ms));
        }
        // One that begins where it ends counts nothing: the hub does not know what is missing, only that something may be.
        if to > received || from == to {
            turn.then(Action::Report(Report::Gap { from: received.min(to), to, why }));
        }
    }

    fn send(&mut self, message: M, turn: &mut Turn<'_, M>) {
        if self.ended().is_some() || !self.outbox.has_room(message.size_bytes(), &turn.settings.unacked) {
            return turn.then(Action::Report(Report::Refused(message)));
        }
        if let Some(conn) = self.connection() {
            turn.then(Action::Message(conn, message.clone()));
        }
        self.outbox.push(message, &turn.settings.unacked);
    }
}

impl Thread {
    fn send_ack<M>(&mut self, conn: Conn, turn: &mut Turn<'_, M>) {
        (self.acked, self.ack_due) = (self.received, None);
        turn.then(Action::Send(conn, ClientFrame::Ack { received: self.received }));
    }
}
