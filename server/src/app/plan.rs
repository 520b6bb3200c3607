//! What the link's task does next: read from the side's stage under the cell's lock, one stage a function.

use super::dial;
use super::events::Kind;
use super::link::{self, Work};
use super::side::{Batch, Stage, Then};
use super::socket::on_the_wire;
use crate::hub::act;
use crate::hub::cell::Inner;
use crate::hub::conn::{self, Order};
use std::time::Duration;
use tidegate_protocol::close;
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::session::{Event, Left, Link, State};
use tokio::time::Instant;

/// A hub that wakes up so long after it meant to has stood still (stopped, or starved of processor time).
const STANDSTILL: Duration = Duration::from_millis(100);

/// What the loop does with the plan.
pub(super) enum Turn {
    /// Look again at once.
    Again,
    /// Wait until something happens or this moment comes.
    Go { until: Option<Instant> },
    /// There is nothing to do any more; the next who wants something starts a new task.
    Done,
    /// The side is gone.
    Leave,
}

impl Turn {
    fn wait(until: impl IntoIterator<Item = Option<Instant>>) -> Self {
        Self::Go { until: until.into_iter().flatten().min() }
    }
}

impl Work {
    pub(super) fn plan(&mut self) -> Turn {
        let cell = self.cell.clone();
        let mut inner = cell.lock();
        let Some((side, _)) = self.mine(&mut inner) else { return Turn::Leave };
        let stage = side.stage.clone();
        if matches!(stage, Stage::Resting) {
            return Turn::Done;
        }
        self.post_next(side);
        self.may_read = self.held.is_none() && !side.events.is_full(&self.hub);
        match stage {
            Stage::Resting => Turn::Done,
            Stage::Binding { resumed } => self.plan_binding(&mut inner, resumed),
            Stage::Open => self.plan_open(&mut inner),
            Stage::Settling { until, put_off, then } => self.plan_settling(&mut inner, until, put_off, then),
            Stage::Ending { code, reason } => self.plan_ending(&mut inner, code, reason),
        }
    }

    fn plan_binding(&mut self, inner: &mut Inner, resumed: bool) -> Turn {
        let Some((side, session)) = self.mine(inner) else { return Turn::Leave };
        let Some(app) = &self.hub.config.app else {
            if side.events.is_empty() {
                side.stage = Stage::Resting;
                return Turn::Done;
            }
            return Turn::wait([self.posts.until()]);
        };
        // The state is told before the socket is there to be confused about it.
        if self.dial.is_none() && !side.events.owes_resumed() && self.dials.until().is_none() {
            let Some(record) = session.record() else { return Turn::wait([None]) };
            match dial::request(&self.hub, app, self.cell.id, record, resumed) {
                Ok(request) => {
                    let hub = self.hub.clone();
                    self.dial = Some(Box::pin(async move { dial::dial(&hub, request).await }));
                }
                Err(error) => {
                    tracing::error!(session = %self.cell.id, %error, "the app cannot be asked for this session's path");
                    self.dials.after_failure(&self.hub);
                }
            }
        }
        Turn::wait([self.posts.until(), self.dials.until()])
    }

    fn plan_open(&mut self, inner: &mut Inner) -> Turn {
        self.number_held(inner, false);
        if super::relay(&self.hub, inner)
            && let Some(conn) = &inner.conn
        {
            conn.ring();
        }
        Turn::wait([self.posts.until()])
    }

    /// What was held back for want of room is numbered as soon as there is some.
    fn number_held(&mut self, inner: &mut Inner, settling: bool) {
        let Some(message) = self.held.take() else { return };
        let Some((side, session)) = self.mine(inner) else { return };
        self.held = link::number(&self.hub, session, message, settling);
        self.may_read = self.held.is_none() && !side.events.is_full(&self.hub);
        if self.held.is_none() {
            conn::deliver(&self.hub, inner);
        }
    }

    fn plan_settling(&mut self, inner: &mut Inner, until: Instant, put_off: bool, then: Then) -> Turn {
        self.dial = None;
        self.number_held(inner, true);
        self.may_read = true;
        let Some((side, _)) = self.mine(inner) else { return Turn::Leave };
        let done = self.socket.is_none() && !side.events.owes_moving();
        let now = Instant::now();
        if !done && !put_off && now >= until + STANDSTILL {
            // The time is the app's. What it said meanwhile lies unread in its socket.
            let until = now + Duration::from_millis(self.hub.config.limits.app_moving_ms);
            side.stage = Stage::Settling { until, put_off: true, then };
            return Turn::Again;
        }
        if done || now >= until {
            if !done {
                tracing::warn!(session = %self.cell.id, "the app did not finish in time: its session moves with the state it had");
            }
            return self.finish_settling(inner, then);
        }
        if let (Some(socket), false, 0) = (&mut self.socket, self.closing, side.batch.messages) {
            self.closing = true;
            socket.put_close(close::Close::Restart.code(), "moving");
        }
        Turn::wait([Some(until), self.posts.until()])
    }

    fn finish_settling(&mut self, inner: &mut Inner, then: Then) -> Turn {
        self.socket = None;
        let Some((side, session)) = self.mine(inner) else { return Turn::Leave };
        (side.line, side.batch) = (None, Batch::default());
        side.events.drop_steps();
        match then {
            Then::Settled => {
                side.stage = Stage::Resting;
                let mut out = Vec::new();
                // In the same step, so that no other freeze can get this word.
                session.handle(Event::Settled, &mut out);
                act::carry_out(&self.hub, &self.cell, inner, out, None);
                Turn::Done
            }
            Then::Bind { resumed } => {
                if resumed && self.hub.config.app_events.is_some() {
                    side.events.push(session, Kind::Resumed { why: "bound" });
                }
                side.stage = Stage::Binding { resumed };
                Turn::Again
            }
        }
    }

    fn plan_ending(&mut self, inner: &mut Inner, code: u16, reason: String) -> Turn {
        let told_all = match inner.session.state() {
            State::Serving { record, link: Link::Attached { place, .. }, .. } => *place >= record.outbox.end(),
            State::Serving { record, link: Link::Detached, .. } => record.outbox.base() == record.outbox.end(),
            State::Nothing
            | State::Frozen { .. }
            | State::Given { .. }
            | State::Moved { .. }
            | State::Copy { .. }
            | State::Parked { .. }
            | State::Ended { .. } => false,
        };
        if !told_all {
            // Its client comes back for the rest, or the session's time runs out.
            return Turn::wait([self.posts.until()]);
        }
        if let Some(conn) = &inner.conn {
            conn.send(&ServerFrame::Bye { code, reason: reason.clone() });
            conn.order(Order::Close(on_the_wire(code), close::reason(&reason).to_owned().into()));
        }
        let mut out = Vec::new();
        inner.session.handle(Event::End(Left::Ended), &mut out);
        act::carry_out(&self.hub, &self.cell, inner, out, None);
        Turn::Leave
    }
}
