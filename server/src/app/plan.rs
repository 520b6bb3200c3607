//! What the link's task does next: read from the side's stage under the cell's lock, one stage a function.

use super::dial;
use super::events::Kind;
use super::link::{self, Closing, Work};
use super::side::{Batch, Stage, Then};
use super::socket::on_the_wire;
use crate::hub::act;
use crate::hub::cell::Inner;
use crate::hub::conn::{self, Order};
use std::time::Duration;
use tidegate_protocol::app::{Finish, Finished, Quiet, Redials};
use tidegate_protocol::close;
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::position::Millis;
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
        if matches!(stage, Stage::Resting | Stage::Away) {
            return Turn::Done;
        }
        self.post_next(side);
        self.may_read = self.held.is_none() && !side.events.is_full(&self.hub);
        match stage {
            Stage::Resting | Stage::Away => Turn::Done,
            Stage::Binding { resumed, .. } => self.plan_binding(&mut inner, resumed),
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
        let (now, limits) = (self.hub.now(), link::redial_limits(&self.hub));
        let over_at = self.redials.over_at(limits);
        if over_at.is_some_and(|at| at <= now)
            && let Some(give_up) = self.redials.late(now, limits, self.hub.random() as u64)
        {
            self.give_up(inner, give_up, &"it does not answer");
            return Turn::Again;
        }
        let rests_until = self.redials.not_before().filter(|at| *at > now);
        // The state is told before the socket is there to be confused about it.
        if self.dial.is_none() && !side.events.owes_resumed() && rests_until.is_none() {
            let Some(record) = session.record() else { return Turn::wait([None]) };
            match dial::request(&self.hub, app, self.cell.id, record, resumed) {
                Ok(request) => {
                    let hub = self.hub.clone();
                    self.dial = Some(Box::pin(async move { dial::dial(&hub, request).await }));
                }
                Err(error) => {
                    self.on_failed(inner, error.answer(), &error);
                    return Turn::Again;
                }
            }
        }
        Turn::wait([self.posts.until(), self.instant(rests_until), self.instant(over_at)])
    }

    /// A moment of the hub's clock as one to wait for.
    fn instant(&self, at: Option<Millis>) -> Option<Instant> {
        at.map(|at| Instant::now() + Duration::from_millis(at.since(self.hub.now())))
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
            return self.finish_settling(inner, then, done);
        }
        let close_at = self.close_at(inner, until);
        if let (Some(socket), Some(at)) = (&mut self.socket, close_at)
            && at <= self.hub.now()
        {
            socket.put_close(close::Close::Restart.code(), "moving");
            let quiet = self.quiet().was_quiet(self.hub.now(), inner.active_at);
            self.closing = Closing::Put { quiet };
            let until = now + Duration::from_millis(self.hub.config.limits.app_moving_ms);
            let Some((side, _)) = self.mine(inner) else { return Turn::Leave };
            side.stage = Stage::Settling { until, put_off, then };
            return Turn::Again;
        }
        Turn::wait([Some(until), self.instant(close_at), self.posts.until()])
    }

    fn quiet(&self) -> Quiet {
        let limits = &self.hub.config.limits;
        Quiet { quiet_ms: limits.app_quiet_ms, wait_ms: limits.app_quiet_wait_ms, moving_ms: limits.app_moving_ms }
    }

    /// When the hub's Close goes to the app; none: not now, or it went already.
    fn close_at(&self, inner: &Inner, until: Instant) -> Option<Millis> {
        let asked_at = match self.closing {
            Closing::Not => None,
            Closing::Asked { at_ms } => {
                let now = self.hub.now().0;
                Some(Millis(now - u64::from((now as u32).wrapping_sub(at_ms))))
            }
            Closing::Put { .. } => return None,
        };
        let side = inner.app.as_ref()?;
        if self.socket.is_none() || side.batch.messages > 0 {
            return None;
        }
        let finish = if self.hub.config.app_events.is_some() {
            Finish::Asked { at: asked_at, answered: !side.events.owes_moving() }
        } else {
            let (now, left) = (self.hub.now(), until.saturating_duration_since(Instant::now()));
            let gone_ms = self.hub.config.limits.app_moving_ms.saturating_sub(left.as_millis() as u64);
            Finish::Unasked { at: Millis(now.0.saturating_sub(gone_ms)) }
        };
        self.quiet().close_at(finish, inner.active_at)
    }

    /// How the app finished, as far as it is known.
    fn finished(&self, in_time: bool) -> Option<Finished> {
        match (in_time, self.hub.config.app_events.is_some(), self.closing) {
            (false, _, _) | (true, false, Closing::Put { quiet: false }) => Some(Finished::Cut),
            (true, true, _) => Some(Finished::Said),
            (true, false, Closing::Put { quiet: true }) => Some(Finished::Assumed),
            // It had no socket, or closed it by itself.
            (true, false, Closing::Not | Closing::Asked { .. }) => None,
        }
    }

    fn finish_settling(&mut self, inner: &mut Inner, then: Then, in_time: bool) -> Turn {
        self.socket = None;
        let finished = self.finished(in_time);
        self.closing = Closing::Not;
        if let Some(moving) = &mut inner.moving {
            moving.app = finished;
        }
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
                side.stage = Stage::Binding { resumed, alone: false };
                self.redials = Redials::begin(self.hub.now());
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
        self.end(inner, code, &reason);
        Turn::Leave
    }

    /// The session is over by the app's doing.
    pub(super) fn end(&mut self, inner: &mut Inner, code: u16, reason: &str) {
        if let Some(conn) = &inner.conn {
            conn.send(&ServerFrame::Bye { code, reason: reason.to_owned() });
            conn.order(Order::Close(on_the_wire(code), close::reason(reason).to_owned().into()));
        }
        let mut out = Vec::new();
        inner.session.handle(Event::End(Left::Ended), &mut out);
        act::carry_out(&self.hub, &self.cell, inner, out, None);
    }
}
