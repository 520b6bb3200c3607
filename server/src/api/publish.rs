//! `POST /v1/publish`: a message to a session, a user, a channel or everybody, answered when its owner
//! has numbered it.

use super::Api;
use super::input::{self, JsonBody, NoParams};
use super::problem::Refusal;
use super::repeats::{self, Kept, Ticket, Turn};
use crate::auth;
use crate::hub::Hub;
use crate::hub::calls::{Call, CallError};
use crate::message::Message;
use crate::peer::{self, Asked, FanOutcome};
use crate::telemetry::Rejected;
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::sync::Arc;
use tidegate_protocol::control::{Payload, PublishAnswer, PublishRequest, Scope, Target};
use tidegate_protocol::id::{HubId, SessionId};

/// How often a repeat waits for a first one that then was not done.
const TURNS_MAX: usize = 4;

/// `POST /v1/publish`.
pub(super) async fn publish(
    State(api): State<Arc<Api>>,
    _: NoParams,
    body: JsonBody,
) -> Result<Json<PublishAnswer>, Refusal> {
    let request: PublishRequest = body.parse().map_err(|refusal| unreadable(&body, refusal))?;
    check_names(&request.to)?;
    let message = message(&request.payload, &api.hub)?;
    let task = Task { to: request.to.clone(), message, scope: request.scope };
    let Some(key) = &request.idempotency_key else {
        return run(&api, task, None, None).await.map(Json);
    };
    let written = serde_json::to_vec(&request)
        .map_err(|error| Refusal::bad_request(format!("the body cannot be written again: {error}")))?;
    let fingerprint = repeats::fingerprint(&written);
    for _ in 0..TURNS_MAX {
        let turn = api.repeats.turn(key, fingerprint);
        if turn.as_ref().is_err_and(Refusal::is_busy) {
            api.hub.metrics.rejected.of(Rejected::QueueFull).increment(1);
        }
        match turn? {
            Turn::First(ticket) => return run(&api, task, None, Some(ticket)).await.map(Json),
            Turn::GoOn(ticket, before) => return run(&api, task, Some(before), Some(ticket)).await.map(Json),
            Turn::Repeat(mut answer) => {
                // An error means that the first one was not done: this one may be the first now.
                if let Ok(kept) = answer.wait_for(Option::is_some).await {
                    return match kept.clone() {
                        Some(Kept::Done(answer) | Kept::Partly { answer, .. }) => Ok(Json(answer)),
                        Some(Kept::Unknown(owner, _)) => Err(CallError::Unreachable(owner).into()),
                        None => Err(Refusal::busy("the first publish with this key is under way", 1_000)),
                    };
                }
            }
        }
    }
    Err(Refusal::busy("publishes with this key fail one after the other", 1_000))
}

/// What is to be sent.
struct Task {
    to: Target,
    message: Message,
    scope: Scope,
}

/// A session id that is no id is a session that nobody knows; everything else is a bad request.
fn unreadable(body: &JsonBody, refusal: Refusal) -> Refusal {
    #[derive(Deserialize)]
    struct Named {
        to: To,
    }
    #[derive(Deserialize)]
    struct To {
        session: String,
    }
    let named = serde_json::from_slice::<Named>(&body.0).ok();
    named.and_then(|named| input::session(&named.to.session).err()).unwrap_or(refusal)
}

fn check_names(to: &Target) -> Result<(), Refusal> {
    let (field, name) = match to {
        Target::All | Target::Session(_) => return Ok(()),
        Target::User(name) => ("to.user", name),
        Target::Channel(name) => ("to.channel", name),
    };
    auth::check_name(name).map_err(|right| {
        Refusal::bad_request(format!(
            "`{field}` has {} bytes, {:?}: give {right}",
            name.len(),
            name.chars().take(40).collect::<String>()
        ))
    })
}

fn message(payload: &Payload, hub: &Hub) -> Result<Message, Refusal> {
    let limit = hub.config.limits.message_bytes;
    let message = match payload {
        Payload::Text(text) => Message::text(text),
        Payload::Json(json) => Message::text(json.get()),
        Payload::Base64(text) => {
            let bytes = STANDARD.decode(text).map_err(|error| {
                Refusal::bad_request(format!(
                    "`base64` cannot be read: {error}; give the standard alphabet with padding"
                ))
            })?;
            Message::binary(&bytes)
        }
    };
    let given = message.bytes().len() as u64;
    if given > limit {
        hub.metrics.rejected.of(Rejected::TooLarge).increment(1);
        Err(Refusal::too_large("the message", given, limit, "--limit-message-bytes"))
    } else {
        Ok(message)
    }
}

/// Publishes in a task of its own: a caller that goes away in the middle must not leave a message stamped
/// here and never handed to the peers. `before`: what a first one came to, from where this one goes on.
async fn run(
    api: &Arc<Api>,
    task: Task,
    before: Option<Kept>,
    ticket: Option<Ticket>,
) -> Result<PublishAnswer, Refusal> {
    let stopped = || Refusal::busy("this hub is stopping", 1_000);
    // As many as there may be connections: callers that go away and come back cannot pile up tasks.
    let permit = api.publishes.clone().acquire_owned().await.map_err(|_| stopped())?;
    let hub = api.hub.clone();
    let task = tokio::spawn(async move {
        let to = task.to.clone();
        let outcome = match (&to, before) {
            (_, Some(Kept::Partly { answer, n, missing })) => Ok(go_on(&hub, answer, n, &missing).await),
            (Target::Session(session), before) => to_session(&hub, *session, task.message, before).await,
            (Target::All | Target::User(_) | Target::Channel(_), _) => to_many(&hub, task).await,
        };
        match (ticket, &outcome) {
            (Some(ticket), Ok(kept)) => ticket.answered(kept.clone()),
            // It was not done, so a repeat may do it.
            (Some(ticket), Err(_)) => ticket.not_done(),
            (None, _) => {}
        }
        drop(permit);
        outcome
    });
    match task.await.map_err(|_| stopped())?? {
        Kept::Done(answer) | Kept::Partly { answer, .. } => Ok(answer),
        Kept::Unknown(owner, _) => Err(CallError::Unreachable(owner).into()),
    }
}

/// To one session, on whichever hub it is. After a first try of which nobody knows what became, the very same call is
/// put to the very same hub: it does it once.
async fn to_session(
    hub: &Arc<Hub>,
    session: SessionId,
    message: Message,
    before: Option<Kept>,
) -> Result<Kept, CallError> {
    let call = Call::Publish(message);
    let done = Kept::Done(PublishAnswer { sessions: 1, hubs: 1, unreachable: Vec::new() });
    if let Some(Kept::Unknown(owner, asking)) = before {
        let Some(again) = asking else { return Ok(Kept::Unknown(owner, None)) };
        match hub.peers.call_again(again, session, &call).await {
            Ok(_) => return Ok(done),
            Err(CallError::Unreachable(_)) => return Ok(Kept::Unknown(owner, asking)),
            // It says that it has not done it, and does not have the session: whoever has it may.
            Err(CallError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let asked = Asked::default();
    match hub.call_noting(session, call, true, &asked).await {
        Ok(_) => Ok(done),
        Err(CallError::Unreachable(owner)) => Ok(Kept::Unknown(owner, asked.last().filter(|last| last.to() == owner))),
        Err(error) => Err(error),
    }
}

async fn to_many(hub: &Arc<Hub>, Task { to, message, scope }: Task) -> Result<Kept, CallError> {
    let stopping = || CallError::Busy { why: "this hub is stopping".into(), after_ms: 1_000 };
    match scope {
        Scope::Fleet => {
            let (n, FanOutcome { sessions, hubs, unreachable }) = peer::publish_everywhere(hub, to, message).await;
            if hubs == 0 {
                return Err(stopping());
            }
            Ok(kept(n, sessions, hubs, unreachable))
        }
        Scope::Hub => {
            let mut fan = hub.fan.lock();
            if fan.is_left() {
                return Err(stopping());
            }
            let entry = fan.stamp_staying(to, message);
            let applied = fan.apply(hub, entry);
            drop(fan);
            Ok(kept(0, applied.sessions + applied.moving.len() as u64, 1, Vec::new()))
        }
    }
}

/// Goes on with a message that some hubs had not taken.
async fn go_on(hub: &Arc<Hub>, before: PublishAnswer, n: u64, missing: &[HubId]) -> Kept {
    let FanOutcome { sessions, hubs, unreachable } = peer::publish_again(hub, n, missing).await;
    kept(n, before.sessions + sessions, before.hubs + hubs, unreachable)
}

fn kept(n: u64, sessions: u64, hubs: u64, missing: Vec<HubId>) -> Kept {
    let answer = PublishAnswer { sessions, hubs, unreachable: missing.iter().map(ToString::to_string).collect() };
    if missing.is_empty() { Kept::Done(answer) } else { Kept::Partly { answer, n, missing } }
}
