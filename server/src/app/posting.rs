//! The link's way with events: one post at a time, in order, each when its turn among all sessions comes.

use super::events::{self, Answer, Event, Kind};
use super::link::{Closing, Doing, Work};
use super::side::{Side, Stage};
use super::words::{EVENT_TRIES, Rest};
use crate::fault::{self, Step};
use crate::hub::calls;
use crate::hub::cell::Inner;
use std::time::Duration;
use tidegate_protocol::app::Answer as Said;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// The post under way; the number is the event's.
pub(super) enum Posting {
    Idle,
    /// Waits for its turn among all sessions.
    Queued(u64, Doing<Option<OwnedSemaphorePermit>>),
    /// On its way.
    Out(u64, Doing<Answer>),
}

impl Posting {
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Idle => None,
            Self::Queued(n, _) | Self::Out(n, _) => Some(*n),
        }
    }

    /// Waits for the post that is under way, so that it is not made twice; for the last words.
    pub(super) async fn out(self, events: &mut Vec<Event>) {
        let Self::Out(n, answer) = self else { return };
        if events.iter().any(|event| event.n == n) && !matches!(answer.await, Answer::Failed(_)) {
            events.retain(|event| event.n != n);
        }
    }
}

impl Work {
    pub(super) fn on_admitted(&mut self, inner: &mut Inner, n: u64, permit: Option<OwnedSemaphorePermit>) {
        let Some((side, session)) = self.mine(inner) else { return };
        self.posting = Posting::Idle;
        let Some(event) = side.events.front().filter(|event| event.n == n).cloned() else { return };
        let moving = event.kind == Kind::Moving;
        if let (true, 0, Stage::Settling { until, .. }) = (moving, self.posts.tries, &mut side.stage) {
            // The time is the app's: what it took to get here is not counted against it.
            *until = Instant::now() + Duration::from_millis(self.hub.config.limits.app_moving_ms);
        }
        if moving && self.closing == Closing::Not {
            self.closing = Closing::Asked { at_ms: self.hub.now().0 as u32 };
        }
        let state = match event.kind {
            Kind::Resumed { .. } => session.record().map(|record| record.state.clone()).unwrap_or_default(),
            _ => Vec::new(),
        };
        let (hub, subject) = (self.hub.clone(), self.subject.clone());
        let posted = async move {
            let _turn = permit;
            let body = events::body(hub.id, &subject, &event, &state);
            drop(state);
            if moving {
                fault::at(Step::BeforeMovingPosted);
            }
            events::post(&hub, body, moving).await
        };
        self.posting = Posting::Out(n, Box::pin(posted));
    }

    pub(super) fn on_answer(&mut self, inner: &mut Inner, n: u64, answer: Answer) {
        let Some((side, session)) = self.mine(inner) else { return };
        let Some(event) = side.events.front().filter(|event| event.n == n).cloned() else { return };
        let id = self.subject.session;
        match answer {
            Answer::Failed(why) => {
                self.posts.after_failure(&self.hub);
                let waited_for = matches!(event.kind, Kind::Resumed { .. } | Kind::Moving);
                if waited_for || self.posts.tries < EVENT_TRIES {
                    tracing::debug!(session = %id, why, ?event, tries = self.posts.tries, "an event could not be posted");
                    if matches!(event.kind, Kind::Resumed { .. }) && self.hub.config.app.is_some() {
                        self.on_failed(inner, Said::None, &why);
                    }
                    return;
                }
                tracing::error!(session = %id, why, ?event, "the app took this event in none of {EVENT_TRIES} tries: it is given up");
            }
            Answer::Refused(status) if matches!(event.kind, Kind::Resumed { .. }) && self.hub.config.app.is_some() => {
                let why = format!("it answered {status} to `resumed`");
                return self.on_failed(inner, Said::Status(status.as_u16()), &why);
            }
            Answer::Refused(status) => tracing::warn!(session = %id, %status, ?event, "the app refused an event"),
            // An app that answers everything with an empty 200 has no state to give, and keeps what was put.
            Answer::Taken(state) if event.kind == Kind::Moving && !state.is_empty() => {
                fault::at(Step::AfterMovingAnswered);
                if let Some(record) = session.record_mut(true) {
                    calls::set_final_state(&self.hub, record, state);
                }
            }
            Answer::Taken(_) => {}
        }
        self.posts = Rest::default();
        side.events.done(n);
        if matches!(event.kind, Kind::Resumed { .. }) {
            self.told = Some(Box::new(event));
        }
    }

    /// Keeps the post that is under way the one of the oldest event, and starts it when it is time.
    pub(super) fn post_next(&mut self, side: &Side) {
        let oldest = side.events.front().map(|event| event.n);
        if self.posting.number() != oldest {
            self.posting = Posting::Idle;
        }
        if let (Posting::Idle, Some(n), None) = (&self.posting, oldest, self.posts.until()) {
            let posts = self.hub.app.posts.clone();
            // The semaphore is never closed; without a permit a post would only be less bounded.
            self.posting = Posting::Queued(n, Box::pin(async move { posts.acquire_owned().await.ok() }));
        }
    }
}
