//! The answers to `hello`, the orders of a drain, and the end.

use super::{Action, Attempt, Client, Conn, Drain, Link, Live, Report, Role, Stage, Thread, Turn, Way};
use crate::close::Close;
use crate::frame::{ClientFrame, Old, ServerFrame, Welcome};
use crate::id::{DrainId, ResumeToken};
use crate::position::Offset;
use crate::replay::{Payload, Replay};
use std::borrow::Cow;

/// So many `retry` in a row from one place, and the other has its turn.
const RETRIES_IN_ROW_MAX: u8 = 3;

impl<M: Payload> Client<M> {
    /// A frame on the connection under way.
    pub(super) fn answer(&mut self, conn: Conn, frame: ServerFrame, turn: &mut Turn<'_, M>) {
        if self.new_attempt().is_none_or(|new| new.stage == Stage::Dialling) {
            return self.fault(conn, "a frame before hello", turn);
        }
        match frame {
            ServerFrame::Welcome(welcome) => self.welcomed(welcome, turn),
            ServerFrame::Retry { after_ms, .. } => self.sent_away(after_ms, turn),
            ServerFrame::Reset { why, replaces } => {
                let known = self.thread.is_some();
                match self.new_attempt() {
                    Some(new) if known && matches!(new.stage, Stage::Greeted(_)) => {
                        new.stage = Stage::Reset { why, replaces }
                    }
                    _ => self.fault(conn, "a reset of no session", turn),
                }
            }
            // Nothing may be said before welcome, so there is no answer.
            ServerFrame::Ping {} | ServerFrame::Pong {} => {}
            ServerFrame::Bye { code, reason } => self.end(code, reason.into(), turn),
            ServerFrame::Ack { .. }
            | ServerFrame::Gap { .. }
            | ServerFrame::Notice(_)
            | ServerFrame::Move { .. }
            | ServerFrame::Recall { .. } => self.fault(conn, "this frame may not come before welcome", turn),
        }
    }

    /// `retry`: nothing changed; once more after the hub's wait, by the same way. After three in a row
    /// the other way has its turn: a hub that a move named may be parted from the one that holds the session.
    fn sent_away(&mut self, after_ms: u64, turn: &mut Turn<'_, M>) {
        let until = turn.now.plus(after_ms.max(turn.settings.backoff.floor_ms));
        let asked = self.thread.as_mut().filter(|thread| thread.url.is_some()).map(|thread| {
            thread.retries = (thread.retries + 1) % RETRIES_IN_ROW_MAX;
            thread.retries
        });
        let by_turns = |way: Way| if asked == Some(0) { way.home_next() } else { way.home_again() };
        let close = |new: &Attempt| Action::Close(new.conn, Close::Heartbeat.code(), "sent away by retry".into());
        self.link = match self.take() {
            Link::Moving { live, new } => {
                turn.then(close(&new));
                if self.is_recalled() {
                    Link::Up { live }
                } else {
                    Link::SentOff { live, until, home: by_turns(new.way) }
                }
            }
            Link::Opening { new } => {
                turn.then(close(&new));
                // That wait was for a client whose old connection works. This one's is lost since: it says so soon.
                let soon = turn.now.plus(turn.settings.backoff.wait_ms(self.failures, turn.chance));
                let until = if new.stage == Stage::Greeted(Old::Open) { until.min(soon) } else { until };
                Link::Down { until, home: by_turns(new.way) }
            }
            other @ (Link::Down { .. } | Link::Up { .. } | Link::SentOff { .. } | Link::Ended { .. }) => other,
        };
    }

    /// What is wrong with a welcome, given what was asked.
    fn objection(&self, welcome: &Welcome, stage: &Stage) -> Option<&'static str> {
        match (&self.thread, stage) {
            (Some(_), Stage::Reset { .. }) | (None, _) => {
                if welcome.resumed {
                    return Some("resumed, though a new session was due");
                }
                let may_have = if self.thread.is_none() { self.outbox.base() } else { welcome.received };
                (welcome.received != may_have).then_some("a new session that has messages already")
            }
            (Some(thread), Stage::Greeted(_) | Stage::Dialling) => {
                if !welcome.resumed {
                    Some("a new session without a reset")
                } else if welcome.epoch != thread.epoch || welcome.session != thread.session {
                    Some("resumed another session or epoch")
                } else if welcome.from > thread.received {
                    Some("welcome.from is above what was received")
                } else if welcome.received < self.outbox.base() || welcome.received > self.outbox.end() {
                    Some("welcome.received is below what was acked or above what was sent")
                } else {
                    None
                }
            }
        }
    }

    /// The one step in which the old connection becomes deaf and the new one counts.
    fn welcomed(&mut self, welcome: Welcome, turn: &mut Turn<'_, M>) {
        let Some(new) = self.new_attempt().cloned() else {
            return;
        };
        if let Some(objection) = self.objection(&welcome, &new.stage) {
            return self.fault(new.conn, objection, turn);
        }
        let old = self.connection();
        if let Some(old) = old {
            turn.then(Action::Close(old, Close::Normal.code(), "goes on over another connection".into()));
        }
        let (session, hub) = (welcome.session, welcome.hub);
        let report = match (new.stage, &self.thread) {
            (Stage::Reset { why, replaces }, _) => {
                Report::Reset { why, replaces, session, hub, unsent: self.take_unsent(welcome.received) }
            }
            (Stage::Greeted(_) | Stage::Dialling, None) => Report::Opened { session, hub },
            // A balancer may bring it back to the very hub that it was to leave: that is no move.
            (Stage::Greeted(_) | Stage::Dialling, Some(thread)) if old.is_some() && thread.hub != hub => {
                Report::Moved { hub }
            }
            (Stage::Greeted(_) | Stage::Dialling, Some(_)) => Report::Resumed { hub },
        };
        self.thread = Some(self.continued(&welcome, new.way, turn));
        self.link = Link::Up {
            live: Live {
                conn: new.conn,
                position: welcome.from,
                since: turn.now,
                heard_at: turn.now,
                pings: 0,
                hellos: self.hellos,
            },
        };
        turn.then(Action::Report(report));
        // Counted is not taken: what lies below `received` is not sent again, and yet kept until its ack.
        let counted = welcome.received.since(self.outbox.base()) as usize;
        for message in self.outbox.iter().skip(counted) {
            turn.then(Action::Message(new.conn, message.clone()));
        }
    }

    /// The session as it goes on after a welcome.
    fn continued(&mut self, welcome: &Welcome, way: Way, turn: &Turn<'_, M>) -> Thread {
        let before = self.thread.take();
        // Where it was welcomed is where it looks first.
        let url = before.as_ref().filter(|_| way == Way::Named).and_then(|thread| thread.url.clone());
        let before = before.filter(|_| welcome.resumed);
        let received = before.as_ref().map_or(welcome.from, |thread| thread.received);
        let acked = before.as_ref().map_or(welcome.from, |thread| thread.acked);
        let drain = before.filter(|thread| thread.hub == welcome.hub).map_or(Drain::None, |thread| thread.drain);
        Thread {
            session: welcome.session,
            token: welcome.token.clone(),
            epoch: welcome.epoch,
            hub: welcome.hub,
            url,
            retries: 0,
            heartbeat_ms: welcome.heartbeat_ms,
            received,
            acked,
            ack_due: (received > acked).then(|| turn.now.plus(turn.settings.ack_ms)),
            drain,
        }
    }

    fn take_unsent(&mut self, base: Offset) -> Vec<M> {
        let unsent = self.outbox.iter().cloned().collect();
        self.outbox = Replay::starting_at(base);
        unsent
    }

    /// Whether this frame of a drain is a new one; remembers it.
    pub(super) fn is_news(&mut self, drain: DrainId, seq: u32) -> bool {
        let Some(thread) = &mut self.thread else {
            return false;
        };
        let news = match &thread.drain {
            Drain::Noticed { id, seq: last } | Drain::Recalled { id, seq: last } => *id != drain || seq > *last,
            Drain::None => true,
        };
        if news {
            thread.drain = Drain::Noticed { id: drain, seq };
        }
        news
    }

    /// `move`: acted on at once, since timers in hidden tabs are slow. A hello that is under way ends by its own
    /// answer; one still to be said takes the newer token, unless another place is named now.
    pub(super) fn order(&mut self, token: ResumeToken, url: Option<String>, turn: &mut Turn<'_, M>) {
        let Some(thread) = &mut self.thread else { return };
        let url = url.filter(|url| turn.settings.may_follow(url));
        let known = std::mem::replace(&mut thread.url, url);
        (thread.token, thread.retries) = (token, 0);
        let named = thread.url.clone();
        if let Link::Moving { new, .. } = &mut self.link {
            let goes_to = known.filter(|_| new.way != Way::Home);
            if goes_to == named && new.way != Way::Overtaken {
                return;
            }
            if new.stage != Stage::Dialling {
                new.way = Way::Overtaken;
                return;
            }
            turn.then(Action::Close(new.conn, Close::Heartbeat.code(), "told to go elsewhere".into()));
        }
        if matches!(self.link, Link::Up { .. } | Link::SentOff { .. } | Link::Moving { .. }) {
            self.dial(false, turn);
        }
    }

    /// `recall`: no more tries. A hello that is under way ends by its own answer.
    pub(super) fn recall(&mut self, id: DrainId, seq: u32, turn: &mut Turn<'_, M>) {
        if let Some(thread) = &mut self.thread {
            thread.drain = Drain::Recalled { id, seq };
        }
        self.link = match self.take() {
            Link::Moving { live, new } if new.stage == Stage::Dialling => {
                turn.then(Action::Close(new.conn, Close::Heartbeat.code(), "recalled".into()));
                Link::Up { live }
            }
            Link::SentOff { live, .. } => Link::Up { live },
            other @ (Link::Down { .. }
            | Link::Opening { .. }
            | Link::Up { .. }
            | Link::Moving { .. }
            | Link::Ended { .. }) => other,
        };
        turn.then(Action::Report(Report::Recalled));
    }

    /// `ready` or `busy`, while a notice stands.
    pub(super) fn answer_notice(&mut self, turn: &mut Turn<'_, M>, frame: impl FnOnce(DrainId) -> ClientFrame) {
        let Some(Drain::Noticed { id, .. }) = self.thread.as_ref().map(|thread| &thread.drain) else {
            return;
        };
        if let Some(conn) = self.connection() {
            turn.then(Action::Send(conn, frame(*id)));
        }
    }

    /// The application ends the session.
    pub(super) fn end_by_app(&mut self, code: Option<u16>, reason: Option<String>, turn: &mut Turn<'_, M>) {
        if let Some(conn) = self.connection()
            && (code.is_some() || reason.is_some())
        {
            turn.then(Action::Send(conn, ClientFrame::Bye { code, reason }));
        }
        self.end(Close::Normal.code(), "ended by the application".into(), turn);
    }

    /// The hub broke the protocol. It would do so again, so nobody comes back to it; but a connection
    /// that works goes on when this was another one.
    pub(super) fn fault(&mut self, conn: Conn, what: &'static str, turn: &mut Turn<'_, M>) {
        turn.then(Action::Close(conn, Close::ProtocolError.code(), what.into()));
        if matches!(self.role(conn), Role::New) && self.live().is_some() {
            return self.failed(Some(Close::ProtocolError.code()), turn);
        }
        self.end(Close::ProtocolError.code(), what.into(), turn);
    }

    /// For ever: closes what is open and hands back what was not acked.
    pub(super) fn end(&mut self, code: u16, reason: Cow<'static, str>, turn: &mut Turn<'_, M>) {
        if self.ended().is_some() {
            return;
        }
        let open = [self.connection(), self.new_attempt().map(|new| new.conn)];
        for conn in open.into_iter().flatten() {
            let closed_already =
                turn.actions.iter().any(|done| matches!(done, Action::Close(other, ..) if *other == conn));
            if !closed_already {
                turn.then(Action::Close(conn, Close::Normal.code(), "ended".into()));
            }
        }
        self.link = Link::Ended { code };
        let unsent = self.take_unsent(Offset(0));
        turn.then(Action::Report(Report::Ended { code, reason, unsent }));
    }
}
