//! Calls about one session (publish, state, channels, evict), at whatever moment they come (rule 16):
//! applied here, queued while the session is frozen, passed on once it is elsewhere.

use super::Hub;
use super::cell::{Cell, Inner};
use super::fan;
use super::parking::Stored;
use crate::message::Message;
use crate::peer::Asked;
use crate::telemetry::Rejected;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::close::Close;
use tidegate_protocol::control::{SessionInfo, SessionPhase};
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::replay::Payload;
use tidegate_protocol::session::record::Record;
use tidegate_protocol::session::{Event, Left, Link, Place, State};
use tokio::sync::oneshot;

/// How often a call follows a session that moves while it is being made.
const HOPS_MAX: usize = 6;
/// How long a call waits for a frozen session before it is answered 503, in milliseconds.
const WAIT_MS: u64 = 15_000;

/// What may be asked of one session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", content = "with")]
pub enum Call {
    /// Number a message for it.
    Publish(Message),
    /// Join a channel.
    Join(String),
    /// Leave a channel.
    Leave(String),
    /// Replace the app's state.
    SetState(Vec<u8>),
    /// Read the app's state.
    GetState,
    /// Describe it.
    Describe,
    /// End it by an administrator's will.
    Evict,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer", content = "with")]
pub enum Reply {
    /// Done.
    Done,
    /// The state.
    State(Vec<u8>),
    /// The description.
    Described(Box<SessionInfo>),
}

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "error", content = "with")]
pub enum CallError {
    /// Every hub that answered does not know it.
    #[error("no hub knows session {0}")]
    Unknown(SessionId),
    /// Not now; come back after so many milliseconds.
    #[error("not now: {why}")]
    Busy {
        /// What it waits for.
        why: String,
        /// When to come back, in milliseconds.
        after_ms: u64,
    },
    /// A limit would be passed.
    #[error("{what}: at most {limit}, and this would make {given}")]
    TooMuch {
        /// What is limited.
        what: String,
        /// The limit.
        limit: u64,
        /// What it would have become.
        given: u64,
    },
    /// The hub that has it did not answer, so nobody knows whether it was done.
    #[error("hub {0} has the session and did not answer")]
    Unreachable(HubId),
}

/// A call that waits in a cell.
#[derive(Debug)]
pub struct Waiting {
    call: Call,
    answer: oneshot::Sender<Outcome>,
}

/// What became of a waiting call.
#[derive(Debug)]
enum Outcome {
    Answered(Result<Reply, CallError>),
    Again,
}

/// One try at one hub.
enum Try {
    Answered(Result<Reply, CallError>),
    Wait(oneshot::Receiver<Outcome>),
    TakeUp,
    Forward(HubId),
    Nowhere,
}

impl Hub {
    /// Carries out a call, wherever the session is; `follow` also asks other hubs.
    pub async fn call(self: &Arc<Self>, session: SessionId, call: Call, follow: bool) -> Result<Reply, CallError> {
        self.call_noting(session, call, follow, &Asked::default()).await
    }

    /// The same; `asked` then tells which hub it was put to last, for whoever repeats it.
    pub async fn call_noting(
        self: &Arc<Self>,
        session: SessionId,
        call: Call,
        follow: bool,
        asked: &Asked,
    ) -> Result<Reply, CallError> {
        // Where this hub's tombstone points, once that hub has said that it does not have the session any more.
        let mut cold = None;
        for _ in 0..HOPS_MAX {
            match self.try_here(session, &call) {
                Try::Answered(answer) => return answer,
                Try::Wait(answered) => match tokio::time::timeout(Duration::from_millis(WAIT_MS), answered).await {
                    Ok(Ok(Outcome::Answered(answer))) => return answer,
                    Ok(Ok(Outcome::Again) | Err(_)) => {}
                    Err(_) => return Err(busy("the session is being moved", 1_000)),
                },
                Try::TakeUp if self.is_parked_for_good() => return Err(busy("the session is parked", 1_000)),
                Try::TakeUp => self.take_up(session).await?,
                Try::Forward(_) | Try::Nowhere if !follow => return Err(CallError::Unknown(session)),
                Try::Forward(hub) if cold != Some(hub) => match self.peers.call(hub, session, &call, asked).await {
                    Err(CallError::Unknown(_)) => cold = Some(hub),
                    answer => return answer,
                },
                Try::Forward(_) | Try::Nowhere => {
                    let Some(owner) = self.locate_owner(session).await? else {
                        return Err(CallError::Unknown(session));
                    };
                    match self.peers.call(owner, session, &call, asked).await {
                        // It went on between the question and the call, which was not carried out.
                        Err(CallError::Unknown(_)) => {}
                        answer => return answer,
                    }
                }
            }
        }
        Err(busy("the session moves too often", 1_000))
    }

    fn try_here(self: &Arc<Self>, session: SessionId, call: &Call) -> Try {
        let Some(cell) = self.cell(session) else {
            return match self.stored(session) {
                Stored::Parked | Stored::ComingUp => Try::TakeUp,
                Stored::Lost | Stored::Not => Try::Nowhere,
            };
        };
        let mut inner = cell.lock();
        match inner.session.place() {
            Place::Here => Try::Answered(apply(self, &cell, &mut inner, call)),
            Place::Wait => {
                let waiting = inner.waiting.get_or_insert_default();
                if waiting.len() >= self.config.limits.frozen_calls as usize {
                    self.metrics.rejected.of(Rejected::QueueFull).increment(1);
                    return Try::Answered(Err(busy("the session is being moved and its queue of calls is full", 250)));
                }
                let (answer, answered) = oneshot::channel();
                waiting.push_back(Waiting { call: call.clone(), answer });
                Try::Wait(answered)
            }
            Place::TakeUp => Try::TakeUp,
            Place::At(hub) => Try::Forward(hub),
            Place::Nowhere => Try::Nowhere,
        }
    }
}

fn busy(why: &str, after_ms: u64) -> CallError {
    CallError::Busy { why: why.to_owned(), after_ms }
}

/// Calls that waited are applied if the session serves, else their callers look again.
pub fn apply_waiting(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner) {
    for Waiting { call, answer } in take(inner) {
        let outcome = match inner.session.place() {
            Place::Here => Outcome::Answered(apply(hub, cell, inner, &call)),
            Place::Wait | Place::TakeUp | Place::At(_) | Place::Nowhere => Outcome::Again,
        };
        // A caller that gave up meanwhile has its 503.
        drop(answer.send(outcome));
    }
}

/// Calls that waited go to the new owner, one after the other, so that their order holds.
pub fn forward_waiting(hub: &Arc<Hub>, session: SessionId, inner: &mut Inner, to: HubId) {
    let waiting = take(inner);
    if waiting.is_empty() {
        return;
    }
    let hub = hub.clone();
    tokio::spawn(async move {
        for Waiting { call, answer } in waiting {
            drop(answer.send(Outcome::Answered(hub.peers.call(to, session, &call, &Asked::default()).await)));
        }
    });
}

fn take(inner: &mut Inner) -> VecDeque<Waiting> {
    inner.waiting.take().map(|waiting| *waiting).unwrap_or_default()
}

/// Ends a session by an administrator's will. The close says so too, but people's will is heard in `bye`, as the app's is.
fn evict(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner) {
    if let Some(conn) = &inner.conn {
        let reason = "an administrator ended this session".into();
        conn.send(&ServerFrame::Bye { code: Close::Evicted.code(), reason });
    }
    let mut out = Vec::new();
    inner.session.handle(Event::End(Left::Evicted), &mut out);
    super::act::carry_out(hub, cell, inner, out, None);
}

fn apply(hub: &Arc<Hub>, cell: &Arc<Cell>, inner: &mut Inner, call: &Call) -> Result<Reply, CallError> {
    let limits = &hub.config.limits;
    match call {
        Call::Describe => return Ok(Reply::Described(Box::new(describe(hub, cell, inner)))),
        Call::Evict => {
            evict(hub, cell, inner);
            return Ok(Reply::Done);
        }
        Call::Publish(message) => {
            let full = inner
                .session
                .record()
                .is_some_and(|record| !record.outbox.has_room(message.size_bytes(), &fan::limits(hub)));
            if full {
                hub.metrics.rejected.of(Rejected::SlowConsumer).increment(1);
                return Err(busy(
                    "slow_consumer: the client has not acked what it was sent, and the buffer is full",
                    1_000,
                ));
            }
            inner.session.number(message.clone(), false, &fan::limits(hub));
            super::conn::deliver(hub, inner);
            return Ok(Reply::Done);
        }
        Call::Join(_) | Call::Leave(_) | Call::SetState(_) | Call::GetState => {}
    }
    let Some(record) = inner.session.record_mut(false) else { return Err(CallError::Unknown(cell.id)) };
    match call {
        Call::Join(name) => {
            let count = record.channels.len() as u64 + 1;
            if !record.channels.contains(name) && count > limits.channels_per_session {
                hub.metrics.rejected.of(Rejected::Channels).increment(1);
                return Err(CallError::TooMuch {
                    what: "channels of one session".into(),
                    limit: limits.channels_per_session,
                    given: count,
                });
            }
            let name = hub.index.join(cell.id, name.as_str().into());
            record.channels.insert(name);
        }
        Call::Leave(name) => {
            record.channels.remove(name);
            hub.index.leave(cell.id, name);
        }
        Call::SetState(state) => {
            if state.len() as u64 > limits.state_bytes {
                return Err(CallError::TooMuch {
                    what: "state bytes of one session".into(),
                    limit: limits.state_bytes,
                    given: state.len() as u64,
                });
            }
            record.state.clone_from(state);
        }
        Call::GetState => return Ok(Reply::State(record.state.clone())),
        Call::Publish(_) | Call::Describe | Call::Evict => {}
    }
    Ok(Reply::Done)
}

/// The listing's line for a session of this hub.
pub fn describe(hub: &Hub, cell: &Cell, inner: &Inner) -> SessionInfo {
    let now = hub.now();
    let record = inner.session.record();
    SessionInfo {
        session: cell.id,
        user: record.and_then(|record| record.profile.user.as_deref().map(str::to_owned)),
        channels: record
            .map(|record| record.channels.iter().map(|name| name.to_string()).collect())
            .unwrap_or_default(),
        state_bytes: record.map_or(0, |record| record.state.len() as u64),
        phase: phase(inner.session.state()),
        generation: inner.session.generation(),
        epoch: record.map(|record| record.epoch).unwrap_or_default(),
        connected_ms: inner.session.counted().map(|_| now.since(inner.connected_at)),
        idle_ms: Some(now.since(inner.active_at)),
        sent: record.map_or(0, |record| record.outbox.end().0),
        acked: record.map_or(0, |record| record.outbox.base().0),
        received: record.map_or(0, |record| record.received.0),
    }
}

fn phase(state: &State<Message>) -> SessionPhase {
    match state {
        State::Serving { link: Link::Attached { .. }, .. } => SessionPhase::Attached,
        State::Serving { .. } => SessionPhase::Detached,
        State::Frozen { .. } => SessionPhase::Frozen,
        State::Copy { .. } => SessionPhase::Copy,
        State::Parked { .. } => SessionPhase::Parked,
        State::Nothing | State::Given { .. } | State::Moved { .. } | State::Ended { .. } => SessionPhase::Frozen,
    }
}

/// The app's state as it should be after its last word, cut off where it is above the limit.
pub fn set_final_state(hub: &Hub, record: &mut Record<Message>, state: Vec<u8>) {
    if state.len() as u64 <= hub.config.limits.state_bytes {
        record.state = state;
    } else {
        tracing::warn!(
            bytes = state.len(),
            limit = hub.config.limits.state_bytes,
            "the app's answer to `moving` is above --limit-state-bytes; the state before it is kept"
        );
    }
}
