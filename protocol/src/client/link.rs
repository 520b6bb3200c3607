//! Connections come and go: dialling, deadlines, heartbeats, and what each loss means.

use super::{Action, Attempt, Client, Conn, Drain, Link, Report, Role, Stage, Thread, Turn, Way};
use crate::close::{Close, SLOT_MAX_MS, may_return};
use crate::frame::ClientFrame;
use crate::replay::Payload;

/// How many heartbeats of silence mean that a connection is lost.
const SILENT_HEARTBEATS: u64 = 3;

impl<M: Payload> Client<M> {
    /// Dials; keeps the working connection, if there is one.
    pub(super) fn dial(&mut self, home: bool, turn: &mut Turn<'_, M>) {
        self.conns += 1;
        let conn = Conn(self.conns);
        let url = self.thread.as_ref().filter(|_| !home).and_then(|thread| thread.url.clone());
        let new = Attempt {
            conn,
            way: if url.is_none() { Way::Home } else { Way::Named },
            until: turn.now.plus(turn.settings.answer_ms),
            stage: Stage::Dialling,
        };
        turn.then(Action::Dial { conn, url });
        self.link = match self.take() {
            Link::Up { live } | Link::SentOff { live, .. } | Link::Moving { live, .. } => Link::Moving { live, new },
            Link::Down { .. } | Link::Opening { .. } => Link::Opening { new },
            ended @ Link::Ended { .. } => ended,
        };
    }

    pub(super) fn timer(&mut self, turn: &mut Turn<'_, M>) {
        match &self.link {
            Link::Down { until, home } | Link::SentOff { until, home, .. } if *until <= turn.now => {
                self.dial(*home, turn)
            }
            Link::Opening { new } | Link::Moving { new, .. } if new.until <= turn.now => {
                let conn = new.conn;
                turn.then(Action::Close(conn, Close::Heartbeat.code(), "no answer in time".into()));
                self.closed(conn, None, turn);
            }
            Link::Down { .. }
            | Link::Opening { .. }
            | Link::Up { .. }
            | Link::SentOff { .. }
            | Link::Moving { .. }
            | Link::Ended { .. } => {}
        }
        let Some(conn) = self.connection() else {
            return;
        };
        if let Some(thread) = &mut self.thread
            && thread.ack_due.is_some_and(|due| due <= turn.now)
        {
            thread.send_ack(conn, turn);
        }
        if self.live().and_then(|live| self.heartbeat_at(live)).is_some_and(|at| at <= turn.now) {
            self.silence(conn, turn);
        }
    }

    fn silence(&mut self, conn: Conn, turn: &mut Turn<'_, M>) {
        let Some(live) = self.live_mut() else { return };
        live.pings += 1;
        if u64::from(live.pings) < SILENT_HEARTBEATS {
            return turn.then(Action::Send(conn, ClientFrame::Ping {}));
        }
        turn.then(Action::Close(conn, Close::Heartbeat.code(), "nothing heard for three heartbeats".into()));
        self.closed(conn, None, turn);
    }

    pub(super) fn closed(&mut self, conn: Conn, code: Option<u16>, turn: &mut Turn<'_, M>) {
        match self.role(conn) {
            Role::Live => self.lost(code, 0, turn),
            Role::New => self.failed(code, turn),
            Role::Dropped => {}
        }
    }

    /// A close that says when to come back; it counts for the connection that worked.
    pub(super) fn closed_until(&mut self, conn: Conn, code: u16, after_ms: u64, turn: &mut Turn<'_, M>) {
        match self.role(conn) {
            Role::Live => self.lost(Some(code), after_ms.min(SLOT_MAX_MS), turn),
            Role::New | Role::Dropped => self.closed(conn, Some(code), turn),
        }
    }

    /// The working connection is gone; nobody comes back before `slot_ms` have passed.
    fn lost(&mut self, code: Option<u16>, slot_ms: u64, turn: &mut Turn<'_, M>) {
        // Our own later hello may have taken the session over before its welcome was read, even if
        // that connection was given up since. Had it been somebody else, the next hello will tell.
        let answer_due = matches!(&self.link, Link::Moving { new, .. } if new.stage != Stage::Dialling);
        let said_more = self.live().is_some_and(|live| self.hellos > live.hellos);
        let by_ourselves = code.is_some_and(|code| {
            (code == Close::Displaced.code() && said_more) || (code == Close::Normal.code() && answer_due)
        });
        if let Some(code) = code.filter(|code| !may_return(*code) && !by_ourselves) {
            return self.end(code, "closed by the hub".into(), turn);
        }
        let stable = self.live().is_some_and(|live| turn.now.since(live.since) >= turn.settings.backoff.stable_ms);
        if stable {
            self.failures = 0;
        }
        // The slot and then the jitter: the hub spread the slots, and clients with one slot spread by themselves.
        let until = turn.now.plus(slot_ms.saturating_add(turn.settings.backoff.wait_ms(self.failures, turn.chance)));
        self.failures = turn.settings.backoff.raised(self.failures);
        self.link = match self.take() {
            Link::Moving { new, .. } => Link::Opening { new },
            Link::SentOff { until: retry, home, .. } if slot_ms == 0 => Link::Down { until: until.min(retry), home },
            Link::SentOff { home, .. } => Link::Down { until, home },
            Link::Up { .. } => Link::Down { until, home: false },
            other @ (Link::Down { .. } | Link::Opening { .. } | Link::Ended { .. }) => other,
        };
        turn.then(Action::Report(Report::Reconnecting { code }));
    }

    /// Whether the move that is under way is wanted no more; its hello still ends by its own answer.
    pub(super) fn is_recalled(&self) -> bool {
        matches!(self.thread, Some(Thread { drain: Drain::Recalled { .. }, .. }))
    }

    /// The connection under way was closed or gave no answer: the old one, if any, stays.
    pub(super) fn failed(&mut self, code: Option<u16>, turn: &mut Turn<'_, M>) {
        let refused = code.filter(|code| !may_return(*code));
        let until = turn.now.plus(turn.settings.backoff.wait_ms(self.failures, turn.chance));
        self.failures = turn.settings.backoff.raised(self.failures);
        if let Some(thread) = &mut self.thread {
            thread.retries = 0;
        }
        self.link = match self.take() {
            // The next `move` brings another token; this one was refused for good, or recalled.
            Link::Moving { live, .. } if refused.is_some() || self.is_recalled() => Link::Up { live },
            Link::Moving { live, new } => Link::SentOff { live, until, home: new.way.home_next() },
            Link::Opening { new } => Link::Down { until, home: new.way.home_next() },
            other @ (Link::Down { .. } | Link::Up { .. } | Link::SentOff { .. } | Link::Ended { .. }) => other,
        };
        if let (Link::Down { .. }, Some(code)) = (&self.link, refused) {
            self.end(code, "refused by the hub".into(), turn);
        }
    }
}
