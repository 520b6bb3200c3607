//! What an app is told by HTTP POST (`--app-events`): at least once, in order per session, keyed by
//! (session, epoch, n). `n` is counted in the session's record, so it moves with the session.

use crate::hub::Hub;
use crate::message::Message;
use crate::telemetry::DialResult;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::app::Answer as Said;
use tidegate_protocol::id::{DrainId, HubId, SessionId};
use tidegate_protocol::position::Epoch;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::record::Record;

/// Bytes that an answer may have when nobody asked for a state: they are read and dropped.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Whose events these are: what every body repeats, kept because a session that ended has no record.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) session: SessionId,
    epoch: Epoch,
    user: Option<Arc<str>>,
    path: Option<Arc<str>>,
    query: Option<Arc<str>>,
}

impl Subject {
    pub(super) fn of(session: SessionId, record: &Record<Message>) -> Self {
        let profile = &record.profile;
        Self {
            session,
            epoch: record.epoch,
            user: profile.user.clone(),
            path: profile.path.clone(),
            query: profile.query.clone(),
        }
    }
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new session.
    Opened,
    /// A new session in the place of one whose continuity was lost; carries the state that is left.
    Reset { replaces: SessionId, why: &'static str },
    /// The session is served here (again); carries the state. Why: `bound` after a move, a thaw or a
    /// restart of the hub, `socket_lost` when only the app's socket broke.
    Resumed { why: &'static str },
    /// The session is about to move: the app gives its state in the answer.
    Moving,
    /// It is over.
    Ended { code: u16, reason: String },
    /// This hub is being drained.
    Drain { drain: DrainId, reason: String, deadline_ms: u64 },
    /// It is not any more.
    Recalled { drain: DrainId },
}

/// One event of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) n: u64,
    pub(super) kind: Kind,
}

/// Events that wait, oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    last: u64,
    waiting: VecDeque<Event>,
}

impl Queue {
    /// A queue whose next event has the number after `last`.
    pub(super) fn after(last: u64) -> Self {
        Self { last, waiting: VecDeque::new() }
    }

    /// Numbers an event and adds it.
    pub(super) fn push(&mut self, session: &mut Session<Message>, kind: Kind) {
        self.last += 1;
        if let Some(record) = session.record_mut(true) {
            // Another hub may have counted on while the session was there.
            self.last = self.last.max(record.app_events + 1);
            record.app_events = self.last;
        }
        self.waiting.push_back(Event { n: self.last, kind });
    }

    pub(super) fn front(&self) -> Option<&Event> {
        self.waiting.front()
    }

    /// The event with this number is done with.
    pub(super) fn done(&mut self, n: u64) {
        self.waiting.retain(|event| event.n != n);
        self.shrink();
    }

    /// Tells it once more under its old number, before all others: an app that still knows it drops it by that.
    pub(super) fn repeat(&mut self, event: Event) {
        self.waiting.push_front(event);
    }

    /// Drops what is about the app's socket alone.
    pub(super) fn drop_steps(&mut self) {
        self.waiting.retain(|event| !matches!(event.kind, Kind::Resumed { .. } | Kind::Moving));
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    pub(super) fn owes_resumed(&self) -> bool {
        self.waiting.iter().any(|event| matches!(event.kind, Kind::Resumed { .. }))
    }

    pub(super) fn owes_moving(&self) -> bool {
        self.waiting.iter().any(|event| event.kind == Kind::Moving)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_full(&self, hub: &Hub) -> bool {
        self.waiting.len() as u64 >= hub.config.limits.app_events_per_session
    }

    /// All of them, for the last words.
    pub(super) fn into_waiting(self) -> Vec<Event> {
        self.waiting.into()
    }
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    event: &'static str,
    session: SessionId,
    user: Option<&'a str>,
    epoch: Epoch,
    n: u64,
    hub: HubId,
    path: Option<&'a str>,
    query: Option<&'a str>,
    #[serde(flatten)]
    more: More<'a>,
}

#[derive(Debug, Default, Serialize)]
struct More<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    state_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
}

/// The JSON of an event. `state` goes into those that carry one.
pub(super) fn body(hub: HubId, subject: &Subject, event: &Event, state: &[u8]) -> Bytes {
    let state_base64 = || Some(STANDARD.encode(state));
    let (name, more) = match &event.kind {
        Kind::Opened => ("opened", More::default()),
        Kind::Reset { replaces, why } => (
            "reset",
            More { state_base64: state_base64(), replaces: Some(*replaces), why: Some(why), ..More::default() },
        ),
        Kind::Resumed { why } => ("resumed", More { state_base64: state_base64(), why: Some(why), ..More::default() }),
        Kind::Moving => ("moving", More::default()),
        Kind::Ended { code, reason } => ("ended", More { code: Some(*code), reason: Some(reason), ..More::default() }),
        Kind::Drain { drain, reason, deadline_ms } => (
            "drain",
            More { drain: Some(*drain), reason: Some(reason), deadline_ms: Some(*deadline_ms), ..More::default() },
        ),
        Kind::Recalled { drain } => ("recalled", More { drain: Some(*drain), ..More::default() }),
    };
    let body = Body {
        event: name,
        session: subject.session,
        user: subject.user.as_deref(),
        epoch: subject.epoch,
        n: event.n,
        hub,
        path: Some(subject.path.as_deref().unwrap_or(crate::public::CONNECT_PATH)),
        query: subject.query.as_deref(),
        more,
    };
    serde_json::to_vec(&body).expect("strings and numbers are always JSON").into()
}

/// What became of one post.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken; with the body of a 200, if it is not too long.
    Taken(Vec<u8>),
    /// The app says never: no further try.
    Refused(StatusCode),
    /// Not now: try again.
    Failed(String),
}

/// Posts once, within `--limit-app-event-time`. The caller holds a permit.
pub(super) async fn post(hub: &Hub, body: Bytes, answer_is_state: bool) -> Answer {
    let within_ms = hub.config.limits.app_event_ms;
    let max_bytes = if answer_is_state { hub.config.limits.state_bytes as usize } else { ANSWER_BYTES_MAX };
    let posted = tokio::time::timeout(Duration::from_millis(within_ms), once(hub, body, max_bytes)).await;
    let (answer, result) =
        posted.unwrap_or_else(|_| (Answer::Failed(format!("no answer within {within_ms} ms")), DialResult::Timeout));
    hub.metrics.app_events.of(result).increment(1);
    answer
}

async fn once(hub: &Hub, body: Bytes, max_bytes: usize) -> (Answer, DialResult) {
    let (Some(client), Some(url)) = (&hub.app.client, &hub.config.app_events) else {
        return (Answer::Failed("no --app-events is set".into()), DialResult::Unreachable);
    };
    let request = Request::builder().method(Method::POST).uri(url).header(header::CONTENT_TYPE, "application/json");
    let request = match request.body(Full::new(body)) {
        Ok(request) => request,
        Err(error) => return (Answer::Failed(error.to_string()), DialResult::Unreachable),
    };
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return (Answer::Failed(error.to_string()), DialResult::Unreachable),
    };
    let status = response.status();
    let read = Limited::new(response.into_body(), max_bytes).collect().await;
    match (status, read) {
        (StatusCode::OK, Ok(body)) => (Answer::Taken(body.to_bytes().to_vec()), DialResult::Ok),
        (StatusCode::OK, Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            tracing::warn!(
                max_bytes,
                "the app's answer to an event is too long: it is dropped, and the state before it is kept"
            );
            (Answer::Taken(Vec::new()), DialResult::Ok)
        }
        (StatusCode::OK, Err(error)) => (Answer::Failed(error.to_string()), DialResult::Unreachable),
        (status, _) if status.is_success() => (Answer::Taken(Vec::new()), DialResult::Ok),
        (status, _) if hub.config.app_finals.is_final(Said::Status(status.as_u16())) => {
            (Answer::Refused(status), DialResult::Refused)
        }
        (status, _) => (Answer::Failed(format!("the app answered {status}")), DialResult::Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tidegate_protocol::session::record::Profile;

    fn told(kind: Kind) -> Value {
        let profile = Profile { user: Some("ann".into()), path: Some("/room".into()), ..Profile::default() };
        let subject = Subject::of(SessionId(1), &Record::new(Epoch(2), profile));
        serde_json::from_slice(&body(HubId(3), &subject, &Event { n: 4, kind }, b"abc")).expect("JSON")
    }

    #[test]
    fn every_event_says_whose_it_is_and_its_number() {
        let expected = json!({
            "event": "moving", "session": SessionId(1), "user": "ann", "epoch": 2, "n": 4, "hub": HubId(3), "path": "/room", "query": null,
        });
        assert_eq!(told(Kind::Moving), expected);
    }

    #[test]
    fn the_state_travels_with_resumed_and_reset_only() {
        let state = |kind| told(kind)["state_base64"].clone();
        assert_eq!(state(Kind::Resumed { why: "bound" }), "YWJj");
        assert_eq!(state(Kind::Reset { replaces: SessionId(9), why: "owner_lost" }), "YWJj");
        assert_eq!(state(Kind::Opened), Value::Null);
        assert_eq!(told(Kind::Reset { replaces: SessionId(9), why: "owner_lost" })["replaces"], json!(SessionId(9)));
    }
}
